"""Runs inside a test host and does what the tests ask: programs, files. Started by host-agent.service.

One request at a time over one byte stream: a virtio serial port in a virtual machine, a socket in a directory
shared with the machine below systemd-nspawn. A frame is two big-endian 32-bit lengths, a JSON header of the
first length and a body of the second. This file is copied into the host's tree and imports the standard
library only.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from typing import IO, Any

PORT = "rkt.test.agent"
SOCKET = "/srv/share/agent.sock"
# A program may leave a child behind that holds its output open; what it wrote until then is enough.
DRAIN_SECONDS = 1.0
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}

Frame = tuple[dict[str, Any], bytes]


def pack(header: dict[str, Any], body: bytes = b"") -> bytes:
    data = json.dumps(header).encode()
    return struct.pack(">II", len(data), len(body)) + data + body


def unpack(read_exactly: Callable[[int], bytes]) -> Frame:
    """One frame from a function that returns exactly as many bytes as it is asked for."""
    header, body = struct.unpack(">II", read_exactly(8))
    return json.loads(read_exactly(header)), read_exactly(body)


class Stream:
    """Whole frames over a file descriptor; EOFError when the other end has gone."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def receive(self) -> Frame:
        return unpack(self._read_exactly)

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        view = memoryview(pack(header, body))
        while view:
            view = view[os.write(self.fd, view[: 1 << 18]) :]

    def _read_exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = os.read(self.fd, min(size - len(parts), 1 << 20))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)


class Child:
    """A program in a process group of its own whose output is read while it runs."""

    def __init__(self, request: dict[str, Any], body: bytes) -> None:
        self.process = subprocess.Popen(
            request["argv"],
            cwd=request.get("cwd") or "/",
            env={**ENVIRONMENT, **request.get("env", {})},
            stdin=subprocess.PIPE if request.get("input") else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        self.out, self.err = bytearray(), bytearray()
        self.readers = [
            self._thread(_pump, self.process.stdout, self.out),
            self._thread(_pump, self.process.stderr, self.err),
        ]
        if self.process.stdin is not None:
            self._thread(_feed, self.process.stdin, body)

    @staticmethod
    def _thread(function: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        thread.start()
        return thread

    def wait(self, seconds: float) -> int | None:
        """The exit status (negative: the signal that ended it), None when it still runs after ``seconds``."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        for reader, output in zip(self.readers, (self.process.stdout, self.process.stderr), strict=True):
            reader.join(DRAIN_SECONDS)
            while reader.is_alive() and _unread(output):
                reader.join(DRAIN_SECONDS)
        return code

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.wait(5)


def _unread(source: IO[bytes]) -> int:
    """How many bytes are in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(source, termios.FIONREAD, count)
    return count[0]


def _pump(source: IO[bytes], into: bytearray) -> None:
    while part := os.read(source.fileno(), 1 << 16):
        into += part


def _feed(sink: IO[bytes], data: bytes) -> None:
    try:
        sink.write(data)
        sink.close()
    except BrokenPipeError:
        pass


class Agent:
    """The operations; a method's name is the request's ``op``."""

    def __init__(self) -> None:
        self.children: dict[int, Child] = {}

    def run(self, request: dict[str, Any], body: bytes) -> Frame:
        child = Child(request, body)
        code = child.wait(request["timeout"])
        if code is None:
            child.kill()
        return _ended(child, code)

    def spawn(self, request: dict[str, Any], body: bytes) -> Frame:
        child = Child(request, body)
        self.children[child.process.pid] = child
        return {"pid": child.process.pid}, b""

    def wait(self, request: dict[str, Any], _: bytes) -> Frame:
        child = self.children[request["pid"]]
        return _ended(child, child.wait(request["timeout"]))

    def write(self, request: dict[str, Any], body: bytes) -> Frame:
        os.makedirs(os.path.dirname(request["path"]), exist_ok=True)
        fd = os.open(request["path"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, request["mode"])
        with open(fd, "wb") as file:
            os.fchmod(fd, request["mode"])
            file.write(body)
        return {}, b""

    def read(self, request: dict[str, Any], _: bytes) -> Frame:
        with open(request["path"], "rb") as file:
            return {}, file.read()

    def serve(self, stream: Stream) -> None:
        stream.send({"hello": os.getpid()})
        while True:
            request, body = stream.receive()
            try:
                header, answer = getattr(self, request["op"])(request, body)
            except (OSError, KeyError) as exc:
                header, answer = {"error": f"{type(exc).__name__}: {exc}"}, b""
            stream.send(header, answer)


def _ended(child: Child, code: int | None) -> Frame:
    out, err = bytes(child.out), bytes(child.err)
    return {"code": code, "out": len(out)}, out + err


def _virtio_port() -> str | None:
    base = "/sys/class/virtio-ports"
    for name in os.listdir(base) if os.path.isdir(base) else []:
        with open(os.path.join(base, name, "name")) as file:
            # In a container sysfs shows the ports of the machine, whose devices are not there.
            if file.read().strip() == PORT and os.path.exists("/dev/" + name):
                return "/dev/" + name
    return None


def main() -> None:
    agent = Agent()
    port = _virtio_port()
    if port is not None:
        agent.serve(Stream(os.open(port, os.O_RDWR | os.O_CLOEXEC)))
        return
    listener = socket.socket(socket.AF_UNIX)
    # Bound under another name first: who sees the name can connect.
    listener.bind(SOCKET + ".new")
    listener.listen(1)
    os.rename(SOCKET + ".new", SOCKET)
    connection, _ = listener.accept()
    agent.serve(Stream(connection.fileno()))


if __name__ == "__main__":
    try:
        main()
    except EOFError:
        sys.exit(0)
