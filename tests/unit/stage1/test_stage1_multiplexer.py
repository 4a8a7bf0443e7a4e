"""Copying between apps and those attached: driven event by event, so that nothing depends on time."""

from __future__ import annotations

import _socket
import os
import pty
import select
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator

import pytest

from rkt.linux import terminal
from rkt.stage1.common.kubernetes import LogStream
from rkt.stage1.systemd import multiplexer
from rkt.stage1.systemd.multiplexer import App, Endpoint, Multiplexer

CHUNK = 1 << 16


class Pod:
    """One app with all that can be attached to; ``app`` are its sides of the FIFOs."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.supervisor = subprocess.Popen(["/bin/sleep", "60"])
        self.app: dict[str, int] = {}
        os.mkfifo(self.path("ended"))
        made = App("web", os.open(self.path("ended"), os.O_RDONLY | os.O_NONBLOCK))
        for name in ("stdin", "stdout", "stderr"):
            os.mkfifo(self.path(name))
            ours = os.open(self.path(name), os.O_RDWR | os.O_NONBLOCK)
            self.app[name] = os.open(self.path(name), os.O_RDONLY if name == "stdin" else os.O_WRONLY)
            made.endpoints.append(
                Endpoint(name, self.listener(name), ours, gives=name != "stdin", takes=name == "stdin")
            )
        self.log = os.open(self.path("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        made.endpoints[1].log = LogStream(self.log, "stdout")
        master, self.terminal = pty.openpty()
        os.set_blocking(master, False)
        made.endpoints.append(Endpoint("tty", self.listener("tty"), master, gives=True, takes=True))
        made.window = self.listener("winsize", _socket.SOCK_DGRAM)
        self.app["tty"] = self.terminal
        self.multiplexer = Multiplexer(os.pidfd_open(self.supervisor.pid), [made])
        self.endpoints = {endpoint.name: endpoint for endpoint in made.endpoints}

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def listener(self, name: str, kind: int = _socket.SOCK_STREAM) -> _socket.socket:
        made = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_NONBLOCK)
        made.bind(self.path("sock-" + name))
        if kind == _socket.SOCK_STREAM:
            made.listen(128)
        return made

    def attach(self, name: str) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.connect(self.path("sock-" + name))
        self.settle()
        return made

    def settle(self) -> None:
        """Let it do all there is to do; a loop that never comes to rest fails."""
        for _ in range(2000):
            # What was written to a terminal is on its way until somebody looks.
            select.select([endpoint.fd for endpoint in self.endpoints.values()], [], [], 0)
            if not select.select([self.multiplexer._poll], [], [], 0)[0]:
                return
            self.multiplexer._step(0)
        raise AssertionError("it does not come to rest")

    def write(self, name: str, data: bytes) -> None:
        """As an app that must never wait: everything is taken, one buffer of the kernel's after another."""
        for position in range(0, len(data), CHUNK):
            assert os.write(self.app[name], data[position : position + CHUNK]) > 0
            self.settle()

    def end(self) -> None:
        """What the recorder of the app's end does."""
        os.close(os.open(self.path("ended"), os.O_WRONLY))
        self.settle()


@pytest.fixture
def pod(tmp_path: os.PathLike[str]) -> Iterator[Pod]:
    made = Pod(os.fspath(tmp_path))
    yield made
    made.supervisor.kill()
    made.supervisor.wait()


def received(client: socket.socket) -> tuple[bytes, bool]:
    """What a client can read now, and whether its connection has ended."""
    client.setblocking(False)
    data = b""
    while True:
        try:
            part = client.recv(1 << 20)
        except BlockingIOError:
            return data, False
        if not part:
            return data, True
        data += part


def test_an_app_never_waits_for_nobody(pod: Pod) -> None:
    pod.write("stdout", b"x" * (4 << 20))
    pod.write("tty", b"y" * 10000)
    late = pod.attach("stdout")
    pod.write("stdout", b"now\n")
    assert received(late) == (b"now\n", False)


def test_who_does_not_read_is_dropped_and_the_others_get_everything(pod: Pod) -> None:
    """Who has said something is told that it is not the end."""
    lazy, silent, eager = (pod.attach("stdout") for _ in range(3))
    lazy.send(b"\0")
    eager.send(b"\0")
    got = b""
    written = b"".join(b"%07d\n" % number for number in range(1 << 19))
    for position in range(0, len(written), CHUNK):
        pod.write("stdout", written[position : position + CHUNK])
        got += received(eager)[0]
    assert got == written
    data, ended = received(silent)
    assert ended
    assert written.startswith(data)
    assert len(data) < len(written)
    with pytest.raises(ConnectionResetError):
        while lazy.recv(CHUNK):
            pass
    pod.end()
    assert received(eager) == (b"", True)
    assert pod.endpoints["stdout"].clients == []


def test_output_goes_to_its_own_endpoint(pod: Pod) -> None:
    clients = {name: pod.attach(name) for name in ("stdout", "stderr", "tty")}
    for name in clients:
        pod.write(name, name.encode())
    assert {name: received(client)[0] for name, client in clients.items()} == {
        name: name.encode() for name in clients
    }


def test_lines_of_several_senders_stay_whole(pod: Pod) -> None:
    first, second = pod.attach("stdin"), pod.attach("stdin")
    for sender, data in ((first, b"aa"), (second, b"bb\nb"), (first, b"a\nlast"), (second, b"b\n")):
        sender.sendall(data)
        pod.settle()
    first.close()
    pod.settle()
    assert os.read(pod.app["stdin"], CHUNK) == b"bb\naaa\nbb\nlast"


def test_a_line_without_end_is_not_kept(pod: Pod) -> None:
    sender = pod.attach("stdin")
    sender.sendall(b"x" * 10000)
    pod.settle()
    assert os.read(pod.app["stdin"], CHUNK) == b"x" * 10000


def test_input_waits_for_an_app_that_does_not_read(pod: Pod) -> None:
    """Its sender has to wait, and may go; nothing is lost, and nothing spins meanwhile."""
    sender, other = pod.attach("stdin"), pod.attach("stdin")
    sender.setblocking(False)
    data = b"".join(b"%07d\n" % number for number in range(1 << 18))
    sent = 0
    while sent < len(data):
        try:
            sent += sender.send(data[sent : sent + CHUNK])
        except BlockingIOError:
            break
        pod.settle()
    assert multiplexer.BACKLOG < sent < len(data)
    sender.close()
    other.sendall(b"\nother\n")
    pod.settle()
    got = b""
    while select.select([pod.app["stdin"]], [], [], 0)[0]:
        got += os.read(pod.app["stdin"], CHUNK)
        pod.settle()
    assert b"\nother\n" in got
    assert got.replace(b"\nother\n", b"", 1) == data[:sent]
    assert pod.multiplexer._parked == []


def test_the_end_of_the_input_is_not_the_end_of_the_output(pod: Pod) -> None:
    client = pod.attach("tty")
    client.sendall(b"typed\n")
    client.shutdown(socket.SHUT_WR)
    pod.settle()
    assert os.read(pod.terminal, 100) == b"typed\n"
    pod.write("tty", b"answer")
    assert received(client) == (b"typed\r\nanswer", False)
    client.close()
    pod.settle()
    assert pod.endpoints["tty"].clients == []


def test_the_end_of_an_app_gives_its_clients_what_is_left(pod: Pod) -> None:
    clients = [pod.attach(name) for name in ("stdin", "stdout", "tty")]
    os.write(pod.app["stdout"], b"last words")
    os.write(pod.app["tty"], b"and more")
    pod.end()
    assert [received(client) for client in clients] == [
        (b"", True),
        (b"last words", True),
        (b"and more", True),
    ]
    with pytest.raises(ConnectionRefusedError):
        pod.attach("stdout")
    with open(pod.path("log"), "rb") as file:
        assert file.read().endswith(b"Z stdout last words\n")
    # All apps have ended: nothing is left to serve.
    pod.multiplexer.run()


def test_a_slow_client_gets_the_rest_after_the_end(pod: Pod) -> None:
    client = pod.attach("stdout")
    data = os.urandom(multiplexer.BACKLOG)
    pod.write("stdout", data)
    pod.end()
    got = b""
    while True:
        part, ended = received(client)
        got += part
        pod.settle()
        if ended:
            break
    assert got == data


def test_the_end_of_the_supervisor_ends_it(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever does not read what is left has no more time than ``LINGER``."""
    monkeypatch.setattr(multiplexer, "LINGER", 0.0)
    client = pod.attach("stdout")
    pod.write("stdout", b"x" * multiplexer.BACKLOG)
    os.write(pod.app["stderr"], b"unseen")
    pod.supervisor.kill()
    pod.multiplexer.run()
    assert set(received(client)[0]) == {ord("x")}


def test_attached_clients_have_a_limit(pod: Pod) -> None:
    clients = [pod.attach("stderr") for _ in range(multiplexer.CLIENTS + 1)]
    assert [received(client) for client in clients] == [(b"", False)] * multiplexer.CLIENTS + [(b"", True)]
    clients[0].close()
    pod.settle()
    pod.write("stderr", b"more")
    assert received(pod.attach("stderr")) == (b"", False)


@pytest.mark.parametrize(
    ("datagram", "size"),
    [
        (struct.pack("HHHH", 33, 99, 0, 0), (33, 99)),
        (b"", (0, 0)),
        (b"short", (0, 0)),
        (b"x" * 5000, (0, 0)),
    ],
)
def test_the_size_of_the_terminal(pod: Pod, datagram: bytes, size: tuple[int, int]) -> None:
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.sendto(datagram, pod.path("sock-winsize"))
    pod.settle()
    assert struct.unpack("HHHH", terminal.get_size(pod.terminal))[:2] == size


def test_hung_up_terminals_do_not_spin(pod: Pod) -> None:
    client = pod.attach("tty")
    os.close(pod.terminal)
    client.sendall(b"to nobody\n")
    pod.settle()
    pod.end()
    assert received(client)[1]


Noise = Callable[[socket.socket], None]


@pytest.mark.parametrize(
    "noise",
    [lambda client: client.sendall(b"z" * 100000), lambda client: client.shutdown(socket.SHUT_RDWR)],
    ids=["talks", "hangs up"],
)
def test_what_output_clients_say_is_nothing(pod: Pod, noise: Noise) -> None:
    client, other = pod.attach("stdout"), pod.attach("stdout")
    client.setblocking(False)
    noise(client)
    pod.settle()
    pod.write("stdout", b"all the same")
    assert received(other) == (b"all the same", False)
