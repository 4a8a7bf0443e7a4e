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
MANY = {"name": "many", "protocol": "tcp", "port": 8000, "count": 11}
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
        {"protocol": "tcp", "hostIP": "", "hostPort": 8080, "podPort": 80, "count": 1},
        {"protocol": "udp", "hostIP": "192.0.2.2", "hostPort": 8080, "podPort": 53, "count": 1},
        {"protocol": "tcp", "hostIP": "", "hostPort": 9, "podPort": 10, "count": 1},
    ]
    assert [str(port) for port in found] == ["tcp-0.0.0.0:8080", "udp-192.0.2.2:8080", "tcp-0.0.0.0:9"]


def test_a_socket_of_the_host_is_not_forwarded() -> None:
    ports = [{"name": "http", "hostPort": 8080}, {"name": "dns", "hostPort": 5353}]
    made = manifest(ports, a=[{**WEB, "socketActivated": True}, DNS])
    assert [port.host_port for port in forwarding.forwarded_ports(made)] == [5353]


def test_a_range_of_an_app_is_a_range_of_the_host() -> None:
    made = manifest([{"name": "many", "hostPort": 9000, "hostIP": "fd00::1"}], a=[MANY])
    (found,) = forwarding.forwarded_ports(made)
    assert (found.host_port, found.pod_port, found.count, found.families) == (9000, 8000, 11, (6,))
    assert str(found) == "tcp-[fd00::1]:9000-9010"


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
        ([{"name": "many", "hostPort": 65530}], {"a": [MANY]}, 'port "many": 65540 is no port of the host'),
        (
            [{"name": "many", "hostPort": 9000}, {"name": "http", "hostPort": 9010}],
            {"a": [WEB, MANY]},
            "port tcp-0.0.0.0:9010 already mapped to pod port 8000",
        ),
        (
            [{"name": "x", "hostPort": 1}],
            {"a": [{"name": "x", "protocol": "tcp --dport 1 -j ACCEPT\n-F", "port": 1}]},
            "port \"x\": cannot forward protocol 'tcp --dport 1 -j ACCEPT\\n-F', only tcp, udp, sctp",
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
        (("tcp", "::1", 80), ("tcp", "", 80), True),
        (("tcp", "::", 80), ("tcp", "0.0.0.0", 80), False),
        (("tcp", "::", 80), ("tcp", "fd00::1", 80), True),
        (("tcp", "0.0.0.0", 80), ("tcp", "192.0.2.1", 80), True),
    ],
)
def test_conflicts(one: tuple[str, str, int], other: tuple[str, str, int], conflict: bool) -> None:
    first, second = ForwardedPort(*one, 1), ForwardedPort(*other, 2)
    assert first.conflicts_with(second) is conflict
    assert second.conflicts_with(first) is conflict
