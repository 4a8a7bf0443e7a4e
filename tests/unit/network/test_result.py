"""Both forms of a plugin's answer."""

from __future__ import annotations

from typing import Any

import pytest

from rkt.errors import RktError
from rkt.network.result import Address, Dns, Result

LEGACY = {
    "cniVersion": "0.1.0",
    "ip4": {"ip": "172.16.28.2/24", "gateway": "172.16.28.1", "routes": [{"dst": "0.0.0.0/0"}]},
    "ip6": {"ip": "fd00::2/64"},
    "dns": {"nameservers": ["10.0.0.53"], "domain": "d", "search": ["a", "b"], "options": ["ndots:2"]},
}
CURRENT = {
    "cniVersion": "1.0.0",
    "interfaces": [
        {"name": "cni0", "mac": "aa:aa:aa:aa:aa:aa"},
        {"name": "eth0", "mac": "bb:bb:bb:bb:bb:bb", "sandbox": "/run/netns/x"},
    ],
    "ips": [
        {"interface": 0, "address": "10.9.0.1/16"},
        {"interface": 1, "address": "10.9.0.7/16", "gateway": "10.9.0.1"},
        {"address": "fd00::7/64"},
    ],
}


def test_legacy() -> None:
    result = Result(LEGACY)
    address = result.address()
    assert address is not None
    assert (address.ip, address.mask, address.gateway) == ("172.16.28.2", "255.255.255.0", "172.16.28.1")
    six = result.address(6)
    assert six is not None
    assert (six.ip, six.mask) == ("fd00::2", "ffff:ffff:ffff:ffff::")


def test_current_takes_the_addresses_of_the_pod_only() -> None:
    result = Result(CURRENT)
    assert [a.ip for a in result.addresses] == ["10.9.0.7", "fd00::7"]


@pytest.mark.parametrize(
    ("prefix", "mask"),
    [
        (0, "0.0.0.0"),
        (1, "128.0.0.0"),
        (20, "255.255.240.0"),
        (30, "255.255.255.252"),
        (32, "255.255.255.255"),
    ],
)
def test_masks(prefix: int, mask: str) -> None:
    assert Address(f"10.0.0.1/{prefix}", "").mask == mask


def test_no_addresses_is_a_result_too() -> None:
    assert Result({}).addresses == []
    assert Result({"ips": None}).addresses == []


@pytest.mark.parametrize(
    "value",
    [
        [],
        "x",
        {"ip4": "10.0.0.1/8"},
        {"ip4": {}},
        {"ip4": {"ip": "10.0.0.1/33"}},
        {"ip4": {"ip": "10.0.0.1/x"}},
        {"ips": [{}]},
        {"ips": ["10.0.0.1/8"]},
        {"ips": [{"address": "/8"}]},
    ],
)
def test_malformed(value: Any) -> None:
    with pytest.raises(RktError):
        Result(value)


def test_resolv_conf_has_rkts_order() -> None:
    assert Dns(LEGACY["dns"]).resolv_conf("c") == (  # type: ignore[arg-type]
        "# c\n\nsearch a b\nnameserver 10.0.0.53\noptions ndots:2\ndomain d\n"
    )


def test_lines_cannot_be_smuggled_into_resolv_conf() -> None:
    dns = Dns({"nameservers": ["1.1.1.1\nnameserver 6.6.6.6"], "search": [1, None]})
    assert "6.6.6.6" not in dns.resolv_conf()
