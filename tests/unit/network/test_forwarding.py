"""Host ports: from the manifest, against each other, as rules."""

from __future__ import annotations

from typing import Any

import pytest

from rkt.appc.pod import PodManifest
from rkt.errors import RktError
from rkt.network import forwarding
from rkt.network.forwarding import ForwardedPort

ID = "sha512-" + "a" * 64


def manifest(ports: list[Any], **apps: list[Any]) -> PodManifest:
    value = {
        "acVersion": "0.8.11",
        "acKind": "PodManifest",
        "apps": [
            {
                "name": name,
                "image": {"id": ID},
                "app": {"exec": ["/x"], "user": "0", "group": "0", "ports": app_ports},
            }
            for name, app_ports in apps.items()
        ],
        "volumes": [],
        "isolators": [],
        "annotations": [],
        "ports": ports,
    }
    return PodManifest.from_value(value)


WEB = {"name": "http", "protocol": "tcp", "port": 80}
DNS = {"name": "dns", "protocol": "udp", "port": 53}


def test_from_manifest() -> None:
    made = manifest(
        [
            {"name": "http", "hostPort": 8080},
            {"name": "dns", "hostPort": 8080, "hostIP": "192.0.2.2"},
            {"name": "any", "hostPort": 9, "podPort": {"name": "any", "protocol": "tcp", "port": 10}},
        ],
        a=[WEB],
        b=[DNS],
    )
    found = forwarding.forwarded_ports(made)
    assert [port.to_value() for port in found] == [
        {"protocol": "tcp", "hostIP": "0.0.0.0", "hostPort": 8080, "podPort": 80},
        {"protocol": "udp", "hostIP": "192.0.2.2", "hostPort": 8080, "podPort": 53},
        {"protocol": "tcp", "hostIP": "0.0.0.0", "hostPort": 9, "podPort": 10},
    ]
    assert [str(port) for port in found][1] == "udp-192.0.2.2:8080"


@pytest.mark.parametrize(
    ("ports", "apps", "message"),
    [
        ([{"name": "x", "hostPort": 1}], {"a": [WEB]}, 'port name "x" could not be found in any apps'),
        (
            [{"name": "http", "hostPort": 1}],
            {"a": [WEB], "b": [WEB]},
            'port name "http" defined multiple apps',
        ),
        (
            [{"name": "http", "hostPort": 1}, {"name": "other", "hostPort": 1}],
            {"a": [WEB, {"name": "other", "protocol": "tcp", "port": 81}]},
            "port tcp-0.0.0.0:1 already mapped to pod port 80",
        ),
        ([{"name": "http", "hostPort": 0}], {"a": [WEB]}, 'port "http": 0 is no port of the host'),
        ([{"name": "http", "hostPort": 65536}], {"a": [WEB]}, 'port "http": 65536 is no port of the host'),
    ],
)
def test_refused(ports: list[Any], apps: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(RktError) as caught:
        forwarding.forwarded_ports(manifest(ports, **apps))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        (("tcp", "", 80), ("tcp", "", 80), True),
        (("tcp", "", 80), ("udp", "", 80), False),
        (("tcp", "", 80), ("tcp", "", 81), False),
        (("tcp", "192.0.2.1", 80), ("tcp", "192.0.2.2", 80), False),
        (("tcp", "192.0.2.1", 80), ("tcp", "192.0.2.1", 80), True),
        (("tcp", "192.0.2.1", 80), ("tcp", "", 80), True),
    ],
)
def test_conflicts(one: tuple[str, str, int], other: tuple[str, str, int], conflict: bool) -> None:
    first, second = ForwardedPort(*one, 1), ForwardedPort(*other, 2)
    assert first.conflicts_with(second) is conflict
    assert second.conflicts_with(first) is conflict


def test_rules_are_those_of_rkt() -> None:
    ports = [ForwardedPort("tcp", "", 8080, 80), ForwardedPort("udp", "192.0.2.2", 53, 53)]
    assert forwarding.rules("0123456789", "172.16.28.2", ports) == [
        ":RKT-PFWD-DNAT-01234567 - [0:0]",
        ":RKT-PFWD-SNAT-01234567 - [0:0]",
        "-I POSTROUTING 1 -s 127.0.0.1 ! -d 127.0.0.1 -j RKT-PFWD-SNAT-01234567",
        "-I PREROUTING 1 -m addrtype --dst-type LOCAL -j RKT-PFWD-DNAT-01234567",
        "-I OUTPUT 1 -m addrtype --dst-type LOCAL -j RKT-PFWD-DNAT-01234567",
        "-A RKT-PFWD-DNAT-01234567 -d 0.0.0.0/0 -p tcp --dport 8080 -j DNAT --to-destination 172.16.28.2:80",
        "-A RKT-PFWD-SNAT-01234567 -p tcp -s 127.0.0.1 -d 172.16.28.2 --dport 80 -j MASQUERADE",
        "-A RKT-PFWD-DNAT-01234567 -d 192.0.2.2 -p udp --dport 53 -j DNAT --to-destination 172.16.28.2:53",
        "-A RKT-PFWD-SNAT-01234567 -p udp -s 127.0.0.1 -d 172.16.28.2 --dport 53 -j MASQUERADE",
    ]
