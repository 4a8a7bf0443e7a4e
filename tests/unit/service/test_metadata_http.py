"""The HTTP server against clients that are slow, large, many or do not speak HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from rkt.service.metadata import http, server
from rkt.service.metadata.http import HttpError, Request, Response
from support.waiting import until

SECONDS = 2.0
LIMIT = 1000
LARGE = 32 << 20


class Running:
    """The server on a port of loopback, in a thread of its own."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.started = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.thread.start()
        assert self.started.wait(10)

    async def _run(self) -> None:
        def log(request: Request | None, status: int) -> None:
            self.seen.append((server.line(request, status), status))

        self.server = http.Server(_answer, log, body_limit=LIMIT, seconds=SECONDS)
        await self.server.listen(self.listener)
        self.loop = asyncio.get_running_loop()
        self.end = asyncio.Event()
        self.started.set()
        await self.end.wait()
        self.server.close()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.end.set)
        self.thread.join()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def send(self, data: bytes) -> bytes:
        """What the server says to these bytes, until it closes."""
        with self.connect() as connection:
            connection.sendall(data)
            return receive(connection)


def _answer(request: Request) -> Response:
    if request.segments == ["large"]:
        return Response(200, b"x" * LARGE)
    if request.segments == ["refused"]:
        raise HttpError(403)
    return Response(
        200, b"|".join([request.method.encode(), *map(str.encode, request.segments), request.body])
    )


def receive(connection: socket.socket) -> bytes:
    found = b""
    try:
        while data := connection.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return found


def is_dropped(connection: socket.socket) -> bool:
    """Whether the server has closed it, without an answer."""
    if not select.select([connection], [], [], 0)[0]:
        return False
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.close()


def test_one_request(running: Running) -> None:
    assert running.send(b"GET /a/b%20c HTTP/1.1\r\nHost: x\r\n\r\n") == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=us-ascii\r\nContent-Length: 10\r\n"
        b"Connection: close\r\n\r\nGET|a|b c|"
    )
    assert running.send(b"HEAD /a HTTP/1.0\r\n\r\n").endswith(
        b"Content-Length: 7\r\nConnection: close\r\n\r\n"
    )
    assert running.send(b"GET http://host:1/a HTTP/1.1\r\n\r\n").endswith(b"GET|a|")
    assert running.send(b"GET /refused HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 403 Forbidden\r\n")


def test_bodies(running: Running) -> None:
    assert running.send(b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyz").endswith(b"PUT|a|xyz")
    chunked = b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"2;x=y\r\nab\r\n1\r\nc\r\n0\r\nTrailer: x\r\n\r\n"
    assert running.send(chunked + chunks).endswith(b"PUT|a|abc")
    with running.connect() as connection:
        connection.sendall(b"PUT /a HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"x")
        assert receive(connection).endswith(b"PUT|a|x")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/1.1 x\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET relative HTTP/1.1\r\n\r\n", 400),
        (b"GET /\x1b[31m HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET /%ff HTTP/1.1\r\n\r\n", 400),
        (b"GET /%1 HTTP/1.1\r\n\r\n", 400),
        (b"G(T / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbad name: x\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\n\r\n", 411),
        (b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: 0x1\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", 413),
        (b"PUT / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413),
        (b"PUT / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n" + b"x" * 100_000, 413),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000, 431),
    ],
)
def test_what_is_no_request(running: Running, data: bytes, status: int) -> None:
    assert running.send(data).startswith(b"HTTP/1.1 %d " % status)
    assert running.seen[-1][1] == status
    assert running.seen[-1][0].isprintable()


def test_silent_and_dripping_clients_are_dropped_and_hold_nobody_up(running: Running) -> None:
    slow = [running.connect() for _ in range(20)]
    for connection in slow[10:]:
        connection.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx")
    assert running.send(b"GET /a HTTP/1.1\r\n\r\n").endswith(b"GET|a|")
    assert not any(map(is_dropped, slow))

    def all_dropped() -> bool:
        """With some that send on: the limit is for the whole exchange."""
        for connection in slow[:10]:
            with contextlib.suppress(ConnectionError):
                connection.send(b"G")  # never a whole line
        return all(map(is_dropped, slow))

    until(all_dropped, "not all were dropped", pause=0.05)
    for connection in slow:
        connection.close()


def test_client_that_does_not_read_is_dropped(running: Running) -> None:
    with running.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        assert running.send(b"GET /b HTTP/1.1\r\n\r\n").endswith(b"GET|b|")
        time.sleep(SECONDS * 1.2)
        assert len(receive(connection)) < LARGE


def test_who_holds_too_many_connections_loses_the_oldest(running: Running) -> None:
    held = [running.connect() for _ in range(http.CONNECTIONS_OF_ONE)]
    try:
        assert running.send(b"GET /a HTTP/1.1\r\n\r\n").endswith(b"GET|a|")
        assert receive(held[0]) == b""
        held[-1].sendall(b"GET /b HTTP/1.1\r\n\r\n")
        assert receive(held[-1]).endswith(b"GET|b|")
    finally:
        for connection in held:
            connection.close()


def test_log_shows_no_token() -> None:
    token = "0123456789abcdef0123456789abcdef"
    uuid = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f1"
    for target, shown in (
        (f"/{token}/acMetadata/v1/pod/uuid", "/01234567.../acMetadata/v1/pod/uuid"),
        (f"/{token}", "/01234567..."),
        (f"/pods/{uuid}?token={token}", f"/pods/{uuid}?token=01234567..."),
        (f"/pods/{uuid}?x=y&token={token}", f"/pods/{uuid}?x=y&token=01234567..."),
        (f"/pods/{uuid}/web", f"/pods/{uuid}/web"),
        ("/", "/"),
    ):
        assert server.line(Request("GET", target, {}), 200) == f"GET {shown} - 200"
    assert server.line(None, 400) == "- - - 400"
