from __future__ import annotations

import pytest

from rkt.appc.pod import PodManifest
from rkt.appc.port import ExposedPort, Port
from rkt.stage1.systemd.sockets import Listener, Wanted


def listener(option: str = "ListenStream", name: str = "x", **address: object) -> Listener:
    made = Listener(3, name, option)
    for key, value in address.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ({"ip": "::", "port": 80}, "80"),
        ({"ip": "0.0.0.0", "port": 80}, "0.0.0.0:80"),
        ({"ip": "fd00::1", "port": 80}, "[fd00::1]:80"),
        ({"path": "/run/100%.sock"}, "/run/100%%.sock"),
        ({"path": "@abstract"}, "@abstract"),
    ],
)
def test_addresses_as_socket_units_have_them(address, text):
    assert listener(**address).address() == text


def wanted(protocol: str = "tcp", count: int = 1, *, exposed: ExposedPort | None = None) -> Wanted:
    port = Port("http", protocol, 80, count=count, socket_activated=True)
    return Wanted("app", port, PodManifest(ports=[exposed] if exposed else []))


def exposed(number: int, ip: str | None = None) -> ExposedPort:
    made = ExposedPort("http", number)
    made.host_ip = ip
    return made


@pytest.mark.parametrize(
    ("entry", "given", "taken"),
    [
        (wanted(), {"ip": "::", "port": 80}, True),
        (wanted(), {"ip": "::", "port": 81}, False),
        (wanted(count=2), {"ip": "::", "port": 81}, True),
        (wanted("udp"), {"ip": "::", "port": 80}, False),
        (wanted("UDP"), {"ip": "::", "port": 80, "option": "ListenDatagram"}, True),
        (wanted(), {"path": "/run/x"}, False),
        (wanted(), {"path": "/run/x", "name": "http"}, True),
        (wanted(), {"ip": "::", "port": 1, "name": "http"}, True),
        (wanted("udp"), {"path": "/run/x", "name": "http"}, False),
        (wanted(exposed=exposed(8080)), {"ip": "::", "port": 8080}, True),
        (wanted(exposed=exposed(8080)), {"ip": "::", "port": 80}, False),
        (wanted(exposed=exposed(8080, "192.0.2.1")), {"ip": "192.0.2.1", "port": 8080}, True),
        (wanted(exposed=exposed(8080, "192.0.2.1")), {"ip": "::", "port": 8080}, False),
        (wanted(exposed=exposed(8080, "0.0.0.0")), {"ip": "::", "port": 8080}, True),
    ],
)
def test_which_socket_is_whose(entry, given, taken):
    assert entry.takes(listener(**given)) is taken
