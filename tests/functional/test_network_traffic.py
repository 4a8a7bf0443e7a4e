"""Who reaches whom through forwarded ports, and as whom; what a pod must not reach; flows of UDP."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from network_host import UUID, Host, python, serve

OTHER = "aaaaaaaa-4b5a-4978-8695-a4b3c2d1e0f1"
DUAL_IPAM = {
    "type": "host-local",
    "ranges": [[{"subnet": "10.90.0.0/24"}], [{"subnet": "fd00:90::/64"}]],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
}
PTP = {"cniVersion": "1.0.0", "name": "n", "type": "ptp", "ipMasq": True, "ipam": DUAL_IPAM}
BRIDGE = {**PTP, "type": "bridge", "bridge": "testbr0", "isGateway": True}
# Frames across a bridge may pass the rules of IP too (br_netfilter); then only a port in hairpin mode sends
# back what came in by it.
FILTERED = "/proc/sys/net/bridge/bridge-nf-call-ip{}tables"
Start = Callable[..., tuple[dict[str, Any], subprocess.Popen[str]]]


@pytest.fixture(params=["iptables", "nft"])
def host(request: pytest.FixtureRequest, tmp_path: os.PathLike[str]) -> Iterator[Host]:
    """A host of each kind; pods must leave nothing on it but the bridge, which is the host's."""
    made = Host(os.fspath(tmp_path))
    if request.param == "nft":
        made.without_iptables()
    before = made.state()
    try:
        yield made
        made.run("ip", "link", "delete", "testbr0")
        assert made.state() == before
    finally:
        made.close()


@pytest.fixture(params=["ptp", "bridge", "filtered bridge"])
def kind(request: pytest.FixtureRequest, host: Host) -> str:
    filtered = request.param == "filtered bridge"
    host.network("10-n.conf", PTP if request.param == "ptp" else {**BRIDGE, "hairpinMode": filtered})
    for family in ("", "6"):
        if os.path.exists(FILTERED.format(family)):
            host.ok("sh", "-c", f"echo {int(filtered)} >{FILTERED.format(family)}")
    return str(request.param)


@pytest.fixture
def start(host: Host) -> Iterator[Start]:
    """Starts pods; ended and taken down at the end."""
    running: list[tuple[str, subprocess.Popen[str]]] = []

    def begin(*words: str, uuid: str = UUID, **options: Any) -> tuple[dict[str, Any], subprocess.Popen[str]]:
        done, pod = host.start("n", *words, uuid=uuid, **options)
        running.append((uuid, pod))
        assert "error" not in done
        assert pod.stdout is not None
        assert pod.stdout.readline() == "listening\n"
        return done, pod

    yield begin
    for uuid, pod in running:
        pod.kill()
        pod.communicate()
        assert host.teardown(uuid) == []


# Serves its word on port 80 (by ``serve`` of network_host) and fetches what it is told on standard input.
FETCHER = """
import socket, sys, threading
threading.Thread(target=lambda: exec(sys.argv[1]), daemon=True).start()
for line in sys.stdin:
    address, port = line.split()
    try:
        print(socket.create_connection((address, int(port)), timeout=60).recv(100).decode(), flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""


def fetcher(word: str) -> list[str]:
    return [*python(FETCHER), serve(word, 80)[-1]]


def fetch(pod: subprocess.Popen[str], address: str, port: int) -> str:
    assert pod.stdin is not None
    assert pod.stdout is not None
    pod.stdin.write(f"{address} {port}\n")
    pod.stdin.flush()
    return pod.stdout.readline().strip()


def test_a_pod_reaches_itself_and_another_by_their_ports_of_the_host(
    host: Host, start: Start, kind: str
) -> None:
    """Both families.  Across a link of its own the other pod sees who it was, on a bridge it sees the host:
    its answer would go to the neighbour directly."""
    mine, first = start(*fetcher("first"), ports=[("tcp", "", 8080, 80)])
    theirs, _ = start(*fetcher("second"), ports=[("tcp", "", 8081, 80)], uuid=OTHER)
    assert (mine["networks"][0]["ip"], theirs["networks"][0]["ip"]) == ("10.90.0.2", "10.90.0.3")
    for host_address, gateway, own in (
        ("203.0.113.2", "10.90.0.1", "10.90.0.2"),
        ("2001:db8::2", "fd00:90::1", "fd00:90::2"),
    ):
        assert fetch(first, host_address, 8080) == f"first 80 {gateway}"
        assert fetch(first, gateway, 8080) == f"first 80 {gateway}"
        assert fetch(first, host_address, 8081) == f"second 80 {own if kind == 'ptp' else gateway}"
    assert fetch(first, "10.90.0.3", 80) == "second 80 10.90.0.2"  # without the host's port: as it is


def test_clients_are_seen_as_who_they_are(host: Host, start: Start, kind: str) -> None:
    start(*serve("pod", 80), ports=[("tcp", "", 8080, 80)])
    assert host.fetch("203.0.113.2", 8080, world=True) == "pod 80 203.0.113.1"
    assert host.fetch("2001:db8::2", 8080, world=True) == "pod 80 2001:db8::1"
    assert host.fetch("203.0.113.2", 8080) == "pod 80 203.0.113.2"
    assert host.fetch("2001:db8::2", 8080) == "pod 80 2001:db8::2"
    assert host.fetch("127.0.0.1", 8080) == "pod 80 10.90.0.1"


def test_the_loopback_address_of_ipv6_refuses_at_once(host: Host, start: Start, kind: str) -> None:
    """A client that tries ::1 first (``localhost``) goes on to 127.0.0.1 instead of waiting."""
    start(*serve("pod", 80), ports=[("tcp", "", 8080, 80)])
    code = """
import socket
try:
    socket.create_connection(("::1", 8080), timeout=60)
except OSError as error:
    print(type(error).__name__)
"""
    assert host.ok(*python(code)) == "ConnectionRefusedError\n"
    assert host.fetch("localhost", 8080) == "pod 80 10.90.0.1"


RECEIVE = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 7777))
print("listening", flush=True)
while True:
    print(server.recv(100).decode(), flush=True)
"""
# A frame to the host's end of the link, in it a datagram to 127.0.0.1: what the network code of a pod would
# never send, but a program with CAP_NET_RAW can.
FORGE = """
import socket, struct, sys
mac = bytes.fromhex(sys.argv[1].replace(":", ""))
payload = sys.argv[2].encode()
packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
packet.bind(("eth0", 0))
udp = struct.pack("!HHHH", 9, 7777, 8 + len(payload), 0) + payload
def ip(checksum):
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, checksum,
        socket.inet_aton("10.90.0.2"), socket.inet_aton("127.0.0.1"))
total = sum(struct.unpack("!10H", ip(0)))
while total >> 16:
    total = (total & 0xFFFF) + (total >> 16)
packet.send(mac + packet.getsockname()[4] + b"\\x08\\x00" + ip(~total & 0xFFFF) + udp)
"""


@pytest.mark.promise("P4")
def test_a_pod_does_not_reach_what_listens_on_the_loopback_address(
    host: Host, start: Start, kind: str
) -> None:
    """That 127.0.0.1 leads to the pod opens no way back; without the guard it would."""
    receiver = subprocess.Popen(host.command(*python(RECEIVE)), stdout=subprocess.PIPE, text=True)
    try:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "listening\n"
        done, _ = start(*serve("pod", 80), ports=[("tcp", "", 8080, 80)])
        assert host.fetch("127.0.0.1", 8080) == "pod 80 10.90.0.1"
        mac = host_end(host, done["netns"], kind)
        send = ["nsenter", f"--net={done['netns']}", *python(FORGE), mac]
        host.ok(*send, "forged")
        host.ok(*python("import socket; s = socket.socket(type=2); s.sendto(b'own', ('127.0.0.1', 7777))"))
        assert receiver.stdout.readline() == "own\n"
        if host.run("iptables", "--version").returncode == 0:
            host.ok("iptables", "-t", "raw", "-F")
        else:
            host.ok("nft", "flush", "chain", "inet", f"rkt-{UUID}", "guard")
        host.ok(*send, "forged")
        assert receiver.stdout.readline() == "forged\n"
    finally:
        receiver.kill()
        receiver.communicate()


def host_end(host: Host, netns: str, kind: str) -> str:
    """The link-layer address that the pod reaches the host by."""
    if kind != "ptp":
        return str(json.loads(host.ok("ip", "-j", "link", "show", "testbr0"))[0]["address"])
    (link,) = json.loads(host.ok("nsenter", f"--net={netns}", "ip", "-j", "link", "show", "eth0"))
    links = json.loads(host.ok("ip", "-j", "link"))
    return str(next(peer["address"] for peer in links if peer["ifindex"] == link["link_index"]))


@pytest.mark.promise("P7")
def test_the_setting_of_a_shared_interface_is_set_back_by_the_last_pod(host: Host, start: Start) -> None:
    """``route_localnet`` of a bridge: as it was, whichever pod goes first."""
    host.network("10-n.conf", BRIDGE)

    def setting() -> str:
        return host.ok("cat", "/proc/sys/net/ipv4/conf/testbr0/route_localnet").strip()

    host.setup("n")
    assert setting() == "0"
    assert host.teardown() == []
    for ends in ((UUID, OTHER), (OTHER, UUID)):
        pods = {}
        for uuid, port in ((UUID, 8080), (OTHER, 8081)):
            _, pods[uuid] = host.start("n", "cat", uuid=uuid, ports=[("tcp", "", port, 80)])
        for number, uuid in enumerate(ends):
            assert setting() == "1"
            pods[uuid].kill()
            pods[uuid].communicate()
            assert host.teardown(uuid) == []
            assert setting() == ("1" if number == 0 else "0")
    host.ok("sysctl", "-qw", "net.ipv4.conf.testbr0.route_localnet=1")  # the administrator's
    host.setup("n", ports=[("tcp", "", 8080, 80)])
    assert host.teardown() == []
    assert setting() == "1"


ECHO = """
import socket
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(("::", {port}))
print("listening", flush=True)
while True:
    question, peer = server.recvfrom(100)
    server.sendto(b"{word} " + question, peer)
"""
# One flow: each line of standard input is a question, asked again until there is an answer (the host does not
# use a new IPv6 address for a second or two).
ASK = """
import socket, sys
client = socket.socket({family}, socket.SOCK_DGRAM)
client.settimeout(1)
for number, line in enumerate(sys.stdin):
    word, answered = "", -1
    for attempt in range(60):
        client.sendto(str(number).encode(), ({address!r}, 5353))
        try:
            while answered != number:
                word, answered = client.recv(99).decode().split()
                answered = int(answered)
            break
        except TimeoutError:
            word = ""
    print(word, flush=True)
"""
# Without any rule that asks for them, connections would not be tracked before the pod comes.
TRACK = """
table inet tracking {
	chain input { type filter hook input priority 0; ct state established accept; }
}"""


@pytest.mark.promise("P7")
@pytest.mark.parametrize("family", [4, 6])
def test_a_flow_of_udp_goes_to_who_has_the_port_now(host: Host, start: Start, family: int) -> None:
    """A client that keeps its own port: first the host itself answers, then a pod, then another one, then
    the host again.  The kernel would go on with the flow as it began."""
    host.network("10-n.conf", PTP)
    host.ok("nft", "-f", "-", input=TRACK)
    address = "203.0.113.2" if family == 4 else "2001:db8::2"
    code = ASK.format(family=f"socket.AF_INET{'6' if family == 6 else ''}", address=address)
    client = subprocess.Popen(
        host.world(*python(code)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def ask() -> str:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write("\n")
        client.stdin.flush()
        return client.stdout.readline().strip()

    def serve_on_the_host() -> subprocess.Popen[str]:
        argv = host.command(*python(ECHO.format(word="host", port=5353)))
        server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        return server

    server = serve_on_the_host()
    try:
        assert ask() == "host"
        server.kill()
        server.communicate()
        echo = ECHO.format(word="first", port=53)
        _, first = host.start("n", *python(echo), ports=[("udp", "", 5353, 53)])
        assert first.stdout is not None
        assert first.stdout.readline() == "listening\n"
        assert ask() == "first"
        first.kill()
        first.communicate()
        echo = echo.replace("first", "second")
        _, second = host.start("n", *python(echo), ports=[("udp", "", 5353, 53)], uuid=OTHER)
        assert second.stdout is not None
        assert second.stdout.readline() == "listening\n"
        assert ask() == "second"
        assert host.teardown() == []
        assert ask() == "second"
        second.kill()
        second.communicate()
        assert host.teardown(OTHER) == []
        server = serve_on_the_host()
        assert ask() == "host"
    finally:
        for process in (client, server):
            process.kill()
            process.wait()
        host.ok("nft", "delete", "table", "inet", "tracking")
