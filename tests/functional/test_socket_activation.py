"""Sockets that systemd passes to rkt end up in the apps whose ports ask for them; here the test is systemd.

tests/hosts has the whole way, from a socket unit of a host.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from systemd_pod import Running, leftovers, lines, pods, statuses

from support import aci, driver
from support.waiting import PATIENCE

pytestmark = pytest.mark.usefixtures("_clean")

# Tells who it is and what it was given to everybody who asks, on every socket.
SERVER = """
import os, selectors, socket, sys
names = os.environ.get("LISTEN_FDNAMES", "").split(":")
mine = os.environ.get("LISTEN_PID") == str(os.getpid())
chosen = selectors.DefaultSelector()
for fd in range(3, 3 + int(os.environ.get("LISTEN_FDS", "0"))):
    chosen.register(socket.socket(fileno=fd), selectors.EVENT_READ)
while True:
    for key, _ in chosen.select():
        said = f"{sys.argv[1]} {key.fd - 3}/{len(names)} {names[key.fd - 3]} {mine}".encode()
        if key.fileobj.type == socket.SOCK_DGRAM:
            word, sender = key.fileobj.recvfrom(100)
            key.fileobj.sendto(said, sender)
        else:
            connection, _ = key.fileobj.accept()
            word = connection.recv(100)
            connection.sendall(said)
            connection.close()
        if word == b"end":
            sys.exit(0)
"""
HOST_USR = ["--volume=usr,kind=host,source=/usr,readOnly=true", "--mount=volume=usr,target=/usr"]


@pytest.fixture
def _clean(rkt: driver.Rkt) -> Iterator[None]:
    """Every pod of a test is collected at its end, and nothing of it is left."""
    yield
    uuids = pods(rkt)
    rkt.clean()
    assert leftovers(rkt, uuids) == []


def port(name: str, number: int, protocol: str = "tcp", **members: Any) -> dict[str, Any]:
    return {"name": name, "protocol": protocol, "port": number, "socketActivated": True, **members}


def server(directory: str, name: str, *ports: dict[str, Any], **members: Any) -> str:
    """An image that runs SERVER by the host's python; with HOST_USR."""
    app = aci.app("/usr/bin/python3", "-IS", "-c", SERVER, name, ports=list(ports), **members)
    links = [aci.symlink(entry, f"usr/{entry}") for entry in ("lib", "lib64")]
    return aci.busybox(f"{directory}/{name}.aci", f"example.com/{name}", entries=links, app=app)


class Systemd:
    """What a socket unit does: opens sockets, and starts a program that has them."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.sockets: list[socket.socket] = []
        self.names: list[str] = []

    def listen(self, name: str = "unknown", address: str = "::", kind: int = socket.SOCK_STREAM) -> int:
        """A socket on a free port, or on a path; returns the number of the port, 0 for a path."""
        family = socket.AF_UNIX if address.startswith("/") else socket.AF_INET6
        if "." in address and family != socket.AF_UNIX:
            family = socket.AF_INET
        opened = socket.socket(family, kind)
        self.sockets.append(opened)
        self.names.append(name)
        if family == socket.AF_UNIX:
            opened.bind(address)
        else:
            opened.bind((address, 0))
        if kind == socket.SOCK_STREAM:
            opened.listen()
        return 0 if family == socket.AF_UNIX else opened.getsockname()[1]

    def wrap(self, argv: list[str]) -> list[str]:
        """The command line that starts a program with the sockets from fd 3 on."""
        moves = " ".join(f"{3 + number}<&{fd}" for number, fd in enumerate(self.fds))
        variables = f"LISTEN_FDS={len(self.fds)} LISTEN_PID=$$ LISTEN_FDNAMES={':'.join(self.names)}"
        return ["bash", "-c", f'exec {moves}; export {variables}; exec "$@"', "bash", *argv]

    @property
    def fds(self) -> list[int]:
        return [opened.fileno() for opened in self.sockets]

    def close(self) -> None:
        for opened in self.sockets:
            opened.close()


@pytest.fixture
def systemd(tmp_path: os.PathLike[str]) -> Iterator[Systemd]:
    made = Systemd(os.fspath(tmp_path))
    yield made
    made.close()


class Activated(driver.Rkt):
    """rkt as it is started by systemd, with sockets."""

    def __init__(self, rkt: driver.Rkt, systemd: Systemd) -> None:
        super().__init__(rkt.base)
        self.systemd = systemd

    def argv(self, *words: str) -> list[str]:
        argv = super().argv(*words)
        return self.systemd.wrap(argv) if "run" in words else argv

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        return super().start(*words, pass_fds=self.systemd.fds, **options)

    def __call__(self, *words: str, **options: Any) -> driver.Result:
        return super().__call__(*words, pass_fds=self.systemd.fds, **options)


def ask(address: Any, word: bytes = b"x", kind: int = socket.SOCK_STREAM) -> str:
    family = socket.AF_INET6 if isinstance(address, int) else socket.AF_UNIX
    with socket.socket(family, kind) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(("::1", address) if isinstance(address, int) else address)
        connection.sendall(word)
        return connection.recv(200).decode()


@contextlib.contextmanager
def running(rkt: driver.Rkt, systemd: Systemd, *words: str) -> Iterator[Running]:
    with Running(Activated(rkt, systemd), *words) as pod:
        yield pod


@pytest.mark.parametrize("users", [[], ["--private-users"]], ids=["host-ids", "own-ids"])
def test_each_app_gets_the_sockets_of_its_ports_in_their_order(
    rkt: driver.Rkt, systemd: Systemd, users: list[str]
) -> None:
    """TCP, UDP and unix sockets of the host's network namespace, in a pod without any network of it."""
    http, dns = systemd.listen(), systemd.listen(kind=socket.SOCK_DGRAM)
    path = f"{rkt.base}/control"
    systemd.listen("control", path)
    one = server(rkt.base, "one", port("dns", dns, "udp"), port("http", http))
    two = server(rkt.base, "two", port("control", 9), user="1000", group="1000")
    early = socket.create_connection(("::1", http))
    early.sendall(b"x")
    with running(rkt, systemd, *users, *HOST_USR, one, two), early:
        # The connection that made systemd start the service was there before the pod.
        early.settimeout(PATIENCE)
        assert early.recv(200) == b"one 1/2 one.socket True"
        assert ask(http) == "one 1/2 one.socket True"
        assert ask(dns, kind=socket.SOCK_DGRAM) == "one 0/2 one.socket True"
        assert ask(path) == "two 0/1 two.socket True"


def test_sockets_of_one_address_and_ranges(rkt: driver.Rkt, systemd: Systemd) -> None:
    """A port may have several sockets; each is found by its own address."""
    first = systemd.listen("many", "127.0.0.1")
    second = systemd.listen("other", "::1")
    image = server(rkt.base, "one", port("many", 1), port("single", second))
    with running(rkt, systemd, *HOST_USR, image) as pod:
        with open(f"{pod.directory}/stage1/rootfs/rkt/units/one.socket") as file:
            text = file.read()
        assert f"ListenStream=127.0.0.1:{first}\nListenStream=[::1]:{second}\n" in text
        assert ask(second) == "one 1/2 one.socket True"


def test_no_connection_starts_an_app_again(rkt: driver.Rkt, systemd: Systemd) -> None:
    """rkt restarts nothing: the socket goes with the app, and the pod with its last one."""
    http = systemd.listen()
    image = server(rkt.base, "one", port("http", http))
    activated = Activated(rkt, systemd)
    process = activated.start("--insecure-options=image", "run", "--net=none", *HOST_USR, image)
    assert ask(http, b"end") == "one 0/1 one.socket True"
    with socket.create_connection(("::1", http)):
        process.wait(PATIENCE)
        result = driver.end(process)
    assert result.code == 0, result
    assert statuses(rkt) == {"one": "0"}


def test_a_port_without_a_socket_is_refused(rkt: driver.Rkt, systemd: Systemd) -> None:
    """One line and what to do; no socket at all, one of another protocol, of another port, a connection."""
    image = server(rkt.base, "one", port("http", 8080))
    words = ["--insecure-options=image", "run", "--net=none", *HOST_USR, image]
    expected = (
        'stage1: app "one": port "http" is socket-activated, '
        "but systemd has passed no socket for tcp port 8080\n"
        "stage1: rkt is to be started by a socket unit with ListenStream=8080, or one with "
        "FileDescriptorName=http\n"
    )
    alone = rkt(*words)
    assert (alone.code, alone.err) == (254, expected), alone
    systemd.listen()
    systemd.listen("http", kind=socket.SOCK_DGRAM)
    accepted, other = socket.socketpair()
    systemd.sockets.append(accepted)
    systemd.names.append("http")
    with other:
        refused = Activated(rkt, systemd)(*words)
    assert (refused.code, refused.err) == (254, expected), refused
    assert pods(rkt) == []


def test_what_is_meant_for_another_process_is_left_alone(rkt: driver.Rkt, systemd: Systemd) -> None:
    """LISTEN_PID names the process the sockets are for."""
    http = systemd.listen()
    image = server(rkt.base, "one", port("http", http))
    words = ["--insecure-options=image", "run", "--net=none", *HOST_USR, image]
    refused = rkt(*words, env={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert (refused.code, "has passed no socket" in refused.err) == (254, True), refused
    wrong = rkt(*words, env={"LISTEN_FDS": "x", "LISTEN_PID": "1"})
    assert wrong.code == 254


def test_sockets_nobody_asked_for_stay_outside(rkt: driver.Rkt, systemd: Systemd, box: str) -> None:
    """They are told of, and are in no process of the pod."""
    number = systemd.listen()
    script = "ls -l /proc/self/fd /proc/1/fd; echo fds:$LISTEN_FDS:$LISTEN_PID"
    words = ["--insecure-options=image", "run", "--net=none", box, "--exec=/bin/sh", "--", "-c", script]
    result = Activated(rkt, systemd)(*words)
    assert result.code == 0, result
    inode = os.fstat(systemd.fds[0]).st_ino
    assert f"socket:[{inode}]" not in result.out
    assert lines(result)[-1] == "fds::"
    assert f"warning: ListenStream={number} was passed by systemd, but no app has" in result.err
