"""Forwarded ports: from other hosts, from the host itself, both families, both firewalls, and conflicts."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from network_host import UUID, Host, python, serve

OTHER = "aaaaaaaa-4b5a-4978-8695-a4b3c2d1e0f1"
DUAL = {
    "cniVersion": "0.4.0",
    "name": "dual",
    "type": "ptp",
    "ipMasq": True,
    "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "10.90.0.0/24"}], [{"subnet": "fd00:90::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    },
}
Start = Callable[..., dict[str, Any]]


@pytest.fixture(params=["iptables", "nft"])
def host(request: pytest.FixtureRequest, tmp_path: os.PathLike[str]) -> Iterator[Host]:
    """A host of each kind; the pod must leave nothing on it."""
    made = Host(os.fspath(tmp_path))
    made.network("10-dual.conf", DUAL)
    if request.param == "nft":
        made.without_iptables()
    before = made.state()
    try:
        yield made
        assert made.state() == before
    finally:
        made.close()


@pytest.fixture
def start(host: Host) -> Iterator[Start]:
    """Starts a pod with a server in it."""
    running: list[tuple[str, subprocess.Popen[str]]] = []

    def begin(net: str, *command: str, uuid: str = UUID, **options: Any) -> dict[str, Any]:
        done, pod = host.start(net, *command, uuid=uuid, **options)
        running.append((uuid, pod))
        if "error" not in done:
            assert pod.stdout is not None
            assert pod.stdout.readline() == "listening\n"
        return done

    yield begin
    for uuid, pod in running:
        pod.kill()
        pod.communicate()
        assert host.teardown(uuid) == []


@pytest.mark.promise("P7")
@pytest.mark.attack(34)
def test_from_the_world_and_from_loopback(host: Host, start: Start) -> None:
    start("default", *serve("pod", 80), ports=[("tcp", "", 8080, 80), ("tcp", "203.0.113.2", 8081, 80)])
    assert host.fetch("203.0.113.2", 8080, world=True) == "pod 80 203.0.113.1"
    assert host.fetch("203.0.113.2", 8081, world=True) == "pod 80 203.0.113.1"
    assert host.fetch("127.0.0.1", 8080) == "pod 80 172.16.28.1"
    assert host.fetch("203.0.113.2", 8080).startswith("pod 80 ")
    assert host.fetch("127.0.0.1", 8081) == ""  # forwarded for one address only
    # A second pod cannot have the port while the first runs.
    done, _ = host.setup("default", ports=[("tcp", "", 8080, 1)], uuid=OTHER)
    assert done["error"] == f"port tcp-0.0.0.0:8080 already mapped to pod port 80 of pod {UUID}"
    assert done["same"]


def test_an_ended_pod_does_not_keep_its_ports(host: Host, start: Start) -> None:
    host.setup("default", ports=[("tcp", "", 8080, 9)], uuid=OTHER)
    start("default", *serve("new", 80), ports=[("tcp", "", 8080, 80)])
    if host.run("iptables", "--version").returncode == 0:  # the newer rules come first
        assert host.fetch("203.0.113.2", 8080, world=True) == "new 80 203.0.113.1"
    assert host.teardown(OTHER) == []
    assert host.fetch("203.0.113.2", 8080, world=True) == "new 80 203.0.113.1"


def test_both_families(host: Host, start: Start) -> None:
    ports = [("tcp", "", 8080, 80), ("tcp", "2001:db8::2", 8081, 80), ("tcp", "0.0.0.0", 8082, 80)]
    done = start("dual", *serve("pod", 80), ports=ports)
    (network,) = done["networks"]
    assert (network["ip"], network["ip6"], network["mask6"]) == (
        "10.90.0.2",
        "fd00:90::2",
        "ffff:ffff:ffff:ffff::",
    )
    assert host.fetch("203.0.113.2", 8080, world=True) == "pod 80 203.0.113.1"
    assert host.fetch("2001:db8::2", 8080, world=True) == "pod 80 2001:db8::1"
    assert host.fetch("2001:db8::2", 8081, world=True) == "pod 80 2001:db8::1"
    assert host.fetch("203.0.113.2", 8081, world=True) == ""
    assert host.fetch("2001:db8::2", 8082, world=True) == ""
    assert host.fetch("127.0.0.1", 8082) == "pod 80 10.90.0.1"
    assert host.fetch("2001:db8::2", 8080).startswith("pod 80 ")  # the host's own address, from the host


def test_masquerading_of_both_families(host: Host) -> None:
    server = subprocess.Popen(host.world(*serve("world", 7)), stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        for number, (address, seen) in enumerate(
            [("203.0.113.1", "203.0.113.2"), ("2001:db8::1", "2001:db8::2")]
        ):
            code = f"import socket; print(socket.create_connection(({address!r}, 7), 60).recv(99).decode())"
            uuid = f"{number:08x}" + UUID[8:]
            _, inside = host.setup("dual", *python(code), uuid=uuid)
            assert inside == f"world 7 {seen}\n"
            assert host.teardown(uuid) == []
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize(("first", "inner"), [(9000, 9000), (9000, 7000)])
def test_a_range(host: Host, start: Start, first: int, inner: int) -> None:
    start("dual", *serve("pod", inner, 5), ports=[("tcp", "", first, inner, 5)])
    for offset in (0, 2, 4):
        assert host.fetch("203.0.113.2", first + offset, world=True) == f"pod {inner + offset} 203.0.113.1"
        assert host.fetch("2001:db8::2", first + offset, world=True) == f"pod {inner + offset} 2001:db8::1"
        assert host.fetch("127.0.0.1", first + offset) == f"pod {inner + offset} 10.90.0.1"
    assert host.fetch("203.0.113.2", first + 5, world=True) == ""


def test_udp(host: Host, start: Start) -> None:
    code = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 53))
print("listening", flush=True)
while True:
    data, peer = server.recvfrom(100)
    server.sendto(data[::-1], peer)
"""
    start("default", *python(code), ports=[("udp", "", 5353, 53)])
    ask = """
import socket
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(60)
client.sendto(b"abc", ("203.0.113.2", 5353))
print(client.recv(9).decode())
"""
    for argv in (host.world(*python(ask)), host.command(*python(ask))):
        assert subprocess.run(argv, capture_output=True, text=True, check=False).stdout == "cba\n"


@pytest.mark.promise("P7")
@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (("tcp", "", 8080, 1), ("0.0.0.0", 8080)),
        (("tcp", "", 8080, 1), ("127.0.0.1", 8080)),
        (("tcp", "203.0.113.2", 8080, 1), ("203.0.113.2", 8080)),
        (("tcp", "", 8075, 1, 10), ("::1", 8080)),
        (("tcp", "::", 8080, 1), ("2001:db8::2", 8080)),
    ],
)
@pytest.mark.attack(34)
def test_a_port_that_a_program_of_the_host_has(host: Host, mine: Any, theirs: tuple[str, int]) -> None:
    code = f"""
import socket, time
family = socket.AF_INET6 if ":" in {theirs[0]!r} else socket.AF_INET
server = socket.create_server({theirs!r}, family=family)
print("listening", flush=True)
time.sleep(1000)
"""
    program = subprocess.Popen(host.command(*python(code)), stdout=subprocess.PIPE, text=True)
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "listening\n"
        done, _ = host.setup("dual", ports=[mine])
        assert done["error"].endswith("is in use: a program of the host listens on 8080")
        assert done["same"]
        other, _ = host.setup("dual", ports=[("udp", *mine[1:])])  # the other protocol is free
        assert "error" not in other
        assert host.teardown() == []
    finally:
        program.kill()
        program.communicate()


@pytest.mark.parametrize(
    ("net", "port", "message"),
    [
        (
            "default",
            ("tcp", "2001:db8::2", 80, 80),
            "port tcp-[2001:db8::2]:80: the pod's network has no IPv6",
        ),
        ("six", ("tcp", "203.0.113.2", 80, 80), "port tcp-203.0.113.2:80: the pod's network has no IPv4"),
    ],
)
def test_a_family_that_the_pod_has_not(host: Host, net: str, port: Any, message: str) -> None:
    ipam = {"type": "host-local", "ranges": [[{"subnet": "fd00:91::/64"}]]}
    host.network("10-six.conf", {"cniVersion": "1.0.0", "name": "six", "type": "ptp", "ipam": ipam})
    done, _ = host.setup(net, ports=[port])
    assert message in done["error"]


def test_a_network_of_ipv6_only(host: Host, start: Start) -> None:
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": "fd00:91::/64"}]],
        "routes": [{"dst": "::/0"}],
    }
    value = {"cniVersion": "1.0.0", "name": "six", "type": "ptp", "ipMasq": True, "ipam": ipam}
    host.network("10-six.conf", value)
    done = start("six", *serve("pod", 80), ports=[("tcp", "", 8080, 80)])
    assert (done["networks"][0]["ip"], done["networks"][0]["ip6"]) == ("", "fd00:91::2")
    assert done["host_ip"] == "fd00:91::1"
    assert host.fetch("2001:db8::2", 8080, world=True) == "pod 80 2001:db8::1"
    assert host.fetch("203.0.113.2", 8080, world=True) == ""


def test_rules_of_others_stay_as_they_are(host: Host, start: Start) -> None:
    """Those of a container engine: a chain, jumps to it before and after ours, a set of its own."""
    theirs = """
table ip engine {
	set blocked {
		type ipv4_addr
		elements = { 198.51.100.7 }
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip saddr @blocked tcp dport 8080 redirect to :1
	}
}
"""
    host.ok("nft", "-f", "-", input=theirs)
    rules = [
        "-N ENGINE",
        "-A ENGINE -p tcp --dport 99 -j DNAT --to-destination 10.0.0.9:99",
        "-A PREROUTING -m addrtype --dst-type LOCAL -j ENGINE",
        "-I POSTROUTING 1 -s 10.0.0.0/24 -j MASQUERADE",
    ]
    has_iptables = host.run("iptables", "--version").returncode == 0
    for rule in rules if has_iptables else []:
        host.ok("iptables", "-t", "nat", *rule.split())

    def others() -> tuple[str, list[str]]:
        return host.ok("nft", "-s", "list", "table", "ip", "engine"), host.state()["rules"]

    before = others()
    done, pod = host.start("dual", *serve("pod", 80), ports=[("tcp", "", 8080, 80)])
    assert "error" not in done
    engine, during = others()
    assert engine == before[0]
    assert set(during) > set(before[1])
    pod.kill()
    pod.communicate()
    assert host.teardown() == []
    assert others() == before
    host.ok("nft", "delete", "table", "ip", "engine")
    if has_iptables:
        host.ok("iptables", "-t", "nat", "-F")
        host.ok("iptables", "-t", "nat", "-X", "ENGINE")


def test_the_machine_itself_is_not_bound(host: Host, start: Start) -> None:
    """The port is looked up in the host of the test: the machine's own may have it."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        start("default", *serve("pod", 80), ports=[("tcp", "", port, 80)])
        assert host.fetch("203.0.113.2", port, world=True) == "pod 80 203.0.113.1"
