"""A small HTTP server for strangers: one request a connection, everything about it limited.

A client gets so many seconds from the first to the last byte; head, body and the number of connections are
bounded.  When there are too many, the oldest one goes, of the same address if that one has more than its
share: whoever holds connections open loses them to those who ask and leave.  One thread serves all, so a
slow client costs a file descriptor and nobody's time.
"""

from __future__ import annotations

import asyncio
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HEAD_LIMIT = 16 << 10
CONNECTIONS = 512
CONNECTIONS_OF_ONE = 64
_LINGER_BYTES = 256 << 10
_LINGER_SECONDS = 1.0
_LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)
_BACKLOG = 128
_TEXT = "text/plain; charset=us-ascii"
REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    411: "Length Required",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    505: "HTTP Version Not Supported",
}
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_HEX = frozenset(b"0123456789abcdefABCDEF")
_DIGITS = frozenset("0123456789")


class HttpError(Exception):
    """An answer that is a refusal: status and a short reason."""

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason or REASONS[status].lower()


class Request:
    """``target`` as it was sent; ``segments`` of its path, decoded after they were split; header names in
    lower case."""

    __slots__ = ("body", "headers", "method", "query", "segments", "target")

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        path, _, query = target.partition("?")
        self.segments = [text(unescape(part.encode())) for part in path.split("/")[1:]]
        self.query = fields(query.encode())

    def form(self) -> dict[str, bytes]:
        """The fields of an ``application/x-www-form-urlencoded`` body, none when it is something else."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return fields(self.body) if kind == "application/x-www-form-urlencoded" else {}


class Response:
    """What is sent back; ``allow`` lists the methods of a path for a 405."""

    __slots__ = ("allow", "body", "content_type", "status")

    def __init__(self, status: int, body: bytes = b"", content_type: str = _TEXT, *, allow: str = "") -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.allow = allow

    def encode(self, *, with_body: bool = True) -> bytes:
        lines = [
            f"HTTP/1.1 {self.status} {REASONS[self.status]}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "Connection: close",
        ]
        if self.allow:
            lines.append(f"Allow: {self.allow}")
        return "\r\n".join([*lines, "", ""]).encode() + (self.body if with_body else b"")


def unescape(data: bytes) -> bytes:
    """Percent-encoding undone; HttpError 400 for a ``%`` that is none."""
    first, *rest = data.split(b"%")
    made = bytearray(first)
    for part in rest:
        if len(part) < 2 or not _HEX.issuperset(part[:2]):
            raise HttpError(400, "malformed percent-encoding")
        made.append(int(part[:2], 16))
        made += part[2:]
    return bytes(made)


def text(data: bytes) -> str:
    """UTF-8, or HttpError 400."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise HttpError(400, "not UTF-8") from None


def fields(data: bytes) -> dict[str, bytes]:
    """The fields of a form or a query; the first of one name counts, as in the reference."""
    found: dict[str, bytes] = {}
    for pair in data.split(b"&"):
        name, _, value = pair.partition(b"=")
        if pair:
            key = text(unescape(name.replace(b"+", b" ")))
            found.setdefault(key, unescape(value.replace(b"+", b" ")))
    return found


class Server:
    """Answers the requests that come in on some listening sockets.

    ``answer`` may raise HttpError; ``log`` gets the request (None when there was none to understand) and the
    status.  ``body_limit`` in bytes, ``seconds`` for a whole exchange.
    """

    def __init__(
        self,
        answer: Callable[[Request], Response],
        log: Callable[[Request | None, int], None],
        *,
        body_limit: int,
        seconds: float,
    ) -> None:
        self._answer = answer
        self._log = log
        self._body_limit = body_limit
        self._seconds = seconds
        self._listening: list[asyncio.AbstractServer] = []
        # transport -> address, oldest first; and the same for each address
        self._open: dict[asyncio.WriteTransport, str] = {}
        self._of: dict[str, dict[asyncio.WriteTransport, None]] = {}

    async def listen(self, listener: socket.socket) -> None:
        """Serve one more socket, which is bound; it is closed with the server."""
        start = asyncio.start_unix_server if listener.family == socket.AF_UNIX else asyncio.start_server
        server = await start(self._serve, sock=listener, limit=HEAD_LIMIT, backlog=_BACKLOG)
        self._listening.append(server)

    def close(self) -> None:
        """Stop listening and drop who is connected."""
        for server in self._listening:
            server.close()
        for transport in list(self._open):
            _reset(transport)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport = writer.transport
        transport.set_write_buffer_limits(0)  # drain() then means that the kernel has all of it
        self._enter(transport)
        try:
            async with asyncio.timeout(self._seconds):
                await self._exchange(reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # too slow, or gone
        finally:
            self._leave(transport)
            if transport.get_write_buffer_size():
                _reset(transport)
            else:
                writer.close()

    def _enter(self, transport: asyncio.WriteTransport) -> None:
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        same = self._of.setdefault(address, {})
        victims = same if len(same) >= CONNECTIONS_OF_ONE else self._open
        if victims is same or len(self._open) >= CONNECTIONS:
            oldest = next(iter(victims))
            self._leave(oldest)
            _reset(oldest)
        self._open[transport] = address
        self._of.setdefault(address, {})[transport] = None

    def _leave(self, transport: asyncio.WriteTransport) -> None:
        address = self._open.pop(transport, None)
        if address is None:
            return
        same = self._of[address]
        del same[transport]
        if not same:
            del self._of[address]

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = None
        whole = False
        try:
            request = await _read_head(reader)
            await self._read_body(request, reader, writer)
            whole = True
            response = self._answer(request)
        except HttpError as error:
            response = Response(error.status, (error.reason + "\n").encode("ascii", "replace"))
        self._log(request, response.status)
        writer.write(response.encode(with_body=request is None or request.method != "HEAD"))
        await writer.drain()
        if not whole:
            await _linger(reader, writer)

    async def _read_body(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        coding = request.headers.get("transfer-encoding", "").lower()
        length = request.headers.get("content-length", "")
        if coding and length:
            raise HttpError(400, "both a length and a transfer encoding")
        if coding not in ("", "chunked"):
            raise HttpError(501, "unknown transfer encoding")
        if not coding and not length:
            if request.method in ("POST", "PUT"):
                raise HttpError(411)
            return
        size = _number(length) if length else 0
        if size > self._body_limit:
            raise HttpError(413)
        if request.headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if coding:
            request.body = await self._read_chunks(reader)
        else:
            request.body = await reader.readexactly(size)

    async def _read_chunks(self, reader: asyncio.StreamReader) -> bytes:
        body = bytearray()
        while True:
            line = (await _line(reader)).partition(b";")[0].strip()
            if not line or len(line) > 8 or not _HEX.issuperset(line):
                raise HttpError(400, "malformed chunk")
            size = int(line, 16)
            if len(body) + size > self._body_limit:
                raise HttpError(413)
            if not size:
                break
            body += await reader.readexactly(size)
            if await reader.readexactly(2) != b"\r\n":
                raise HttpError(400, "malformed chunk")
        for _ in range(64):
            if await _line(reader) == b"":
                return bytes(body)
        raise HttpError(431)


def _reset(transport: asyncio.WriteTransport) -> None:
    """Drop a connection with what is still to be sent: the kernel would offer that for minutes."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL)
    transport.abort()


def _number(digits: str) -> int:
    if not digits or len(digits) > 18 or not _DIGITS.issuperset(digits):
        raise HttpError(400, "malformed length")
    return int(digits)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return (await reader.readuntil(b"\r\n"))[:-2]
    except asyncio.LimitOverrunError:
        raise HttpError(431) from None


async def _read_head(reader: asyncio.StreamReader) -> Request:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise HttpError(431) from None
    first, *lines = head[:-4].split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or not words[0] or not _TOKEN.issuperset(words[0]):
        raise HttpError(400, "malformed request line")
    method, target, version = words
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise HttpError(505)
    if target.startswith(b"http://"):
        # what a client sends that takes us for a proxy; every server is to understand it (RFC 9112, 3.2.2)
        target = b"/" + target[7:].partition(b"/")[2]
    # Printable ASCII only: it is written into logs.
    if not target.startswith(b"/") or any(byte < 33 or byte > 126 for byte in target):
        raise HttpError(400, "malformed request target")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or not _TOKEN.issuperset(name):
            raise HttpError(400, "malformed header")
        key, made = name.decode().lower(), value.strip(b" \t").decode("latin-1")
        if headers.get(key, made) != made and key in ("content-length", "transfer-encoding"):
            raise HttpError(400, "contradictory headers")
        headers[key] = made
    return Request(method.decode(), target.decode(), headers)


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let a client that is still sending read its refusal: closing now would reset the connection."""
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            if writer.can_write_eof():
                writer.write_eof()
            left = _LINGER_BYTES
            while left > 0 and (data := await reader.read(1 << 16)):
                left -= len(data)
    except TimeoutError:
        pass
