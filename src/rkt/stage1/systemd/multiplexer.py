"""Copies what apps write to whoever is attached, and what these type to the apps, until the pod ends.

One loop over descriptors that were all opened before and never block:

* what an app writes is read at once, whoever is attached: an app waits for nobody;
* an attached client gets what is written from then on; one that leaves more than ``BACKLOG`` bytes unread
  is dropped, the others get all of it.  What a client of output alone has sent is not read before the end: so
  the kernel resets the connection of one that is dropped (ECONNRESET), and ends that of the others;
* input for an app that does not read waits, at most ``BACKLOG`` bytes, and then its sender has to.  Of
  several senders to a stream, lines stay whole;
* when an app has ended its clients get what is left, and then their connections end; nobody is let in;
* when the supervisor has ended, clients have ``LINGER`` seconds for the rest.
"""

from __future__ import annotations

import errno
import os
import time
from select import EPOLLHUP, EPOLLIN, EPOLLOUT, epoll

from rkt.linux import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

    from rkt.stage1.common.kubernetes import LogStream

BACKLOG = 1 << 20
CLIENTS = 64
"""How many may be attached to a pod's apps."""
LINGER = 1.0

_CHUNK = 1 << 16
_LINE = 4096
_DRAIN_ROUNDS = 256
# The peer is gone, or a terminal is (EIO).
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EIO)


class Endpoint:
    """What clients attach to: ``listener`` takes them, ``fd`` is our side of the app's stream or terminal.

    ``gives``: the app's output comes from ``fd``; ``takes``: its input goes there.  ``log`` gets the
    output too.  ``raw``: input is passed on as it comes, not by lines.  ``holds``: senders have to wait.
    ``needed`` are further descriptors that have to stay open.
    """

    __slots__ = (
        "clients",
        "fd",
        "gives",
        "holds",
        "listener",
        "log",
        "name",
        "needed",
        "pending",
        "raw",
        "takes",
    )

    def __init__(self, name: str, listener: socket, fd: int, *, gives: bool, takes: bool) -> None:
        self.name, self.listener, self.fd = name, listener, fd
        self.gives, self.takes = gives, takes
        self.raw = gives and takes
        self.log: LogStream | None = None
        self.needed: list[int] = []
        self.clients: list[Client] = []
        self.pending = bytearray()
        self.holds = False


class App:
    """An app's endpoints; ``ended`` is the FIFO that tells of its end.

    ``window`` takes sizes for the terminal of the endpoint that has one.
    """

    __slots__ = ("ended", "endpoints", "name", "window")

    def __init__(self, name: str, ended: int) -> None:
        self.name, self.ended = name, ended
        self.endpoints: list[Endpoint] = []
        self.window: socket | None = None


class Client:
    """Somebody attached: ``unread`` waits to be sent, ``line`` is input without the end of its line.

    ``hears``: it has not ended its input.  ``leaving``: it goes when it has got what is unread.
    """

    __slots__ = ("endpoint", "fd", "hears", "leaving", "line", "unread")

    def __init__(self, endpoint: Endpoint, fd: int) -> None:
        self.endpoint, self.fd = endpoint, fd
        self.unread, self.line = bytearray(), bytearray()
        self.hears = True
        self.leaving = False

    @property
    def interest(self) -> int:
        """The events to wait for."""
        endpoint = self.endpoint
        heard = self.hears and endpoint.takes and not endpoint.holds
        return (EPOLLIN if heard else 0) | (EPOLLOUT if self.unread else 0)


class Multiplexer:
    """Serves the apps of a pod; ``supervisor`` is a pidfd of the process the pod lives as long as."""

    __slots__ = ("_apps", "_clients", "_deadline", "_handlers", "_parked", "_poll", "_supervisor")

    def __init__(self, supervisor: int, apps: list[App]) -> None:
        self._apps, self._supervisor = list(apps), supervisor
        self._poll = epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._clients: set[Client] = set()
        self._parked: list[Client] = []
        self._deadline: float | None = None
        self._add(supervisor, lambda _: self._end())
        for app in apps:
            self._watch(app)

    def _watch(self, app: App) -> None:
        self._add(app.ended, lambda _: self._end_app(app))
        if app.window is not None:
            self._add(app.window.fileno(), lambda _: _resize(app))
        for endpoint in app.endpoints:
            self._watch_endpoint(endpoint)

    def _watch_endpoint(self, endpoint: Endpoint) -> None:
        self._add(endpoint.listener.fileno(), lambda _: self._accept(endpoint))
        interest = EPOLLIN if endpoint.gives else 0
        self._add(endpoint.fd, lambda events: self._stream(endpoint, events), interest)

    def _watch_client(self, client: Client) -> None:
        self._add(client.fd, lambda events: self._client(client, events), client.interest)

    @property
    def fds(self) -> list[int]:
        """Every descriptor that is needed."""
        needed = {fd for app in self._apps for endpoint in app.endpoints for fd in endpoint.needed}
        return [self._poll.fileno(), *self._handlers, *needed]

    def run(self) -> None:
        """Serve until there is nothing left to serve: all apps have ended, or the supervisor has."""
        while self._apps or any(client.unread for client in self._clients):
            left = None
            if self._deadline is not None:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    return
            self._step(left)

    def _step(self, timeout: float | None) -> None:
        for fd, events in self._poll.poll(timeout):
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(events)

    def _add(self, fd: int, handler: Callable[[int], None], interest: int = EPOLLIN) -> None:
        self._handlers[fd] = handler
        self._poll.register(fd, interest)

    def _remove(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    # -- clients -------------------------------------------------------------------------------------------

    def _accept(self, endpoint: Endpoint) -> None:
        try:
            fd, _ = endpoint.listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return  # it has gone away already, or there are no descriptors: the next one may fare better
        if len(self._clients) >= CLIENTS:
            os.close(fd)
            return
        os.set_blocking(fd, False)
        client = Client(endpoint, fd)
        self._clients.add(client)
        endpoint.clients.append(client)
        self._watch_client(client)

    def _client(self, client: Client, events: int) -> None:
        if events & EPOLLOUT and not self._send(client):
            return
        if not events & ~EPOLLOUT:
            return
        if not client.endpoint.takes:
            self._drop(client)
            return
        if client.endpoint.holds:
            if events & EPOLLHUP:
                # The kernel would tell of it again and again; what it has sent can wait.
                self._remove(client.fd)
                self._parked.append(client)
            return
        data = _read(client.fd)
        if data is None:
            return
        if data:
            self._take(client, data)
            return
        client.hears = False
        self._take_rest(client)
        if events & EPOLLHUP or not client.endpoint.gives:
            self._drop(client)
        else:
            self._poll.modify(client.fd, client.interest)

    def _send(self, client: Client) -> bool:
        """Send what is unread, as far as it goes; False when the client is gone."""
        sent = _write(client.fd, client.unread)
        if sent is None:
            self._drop(client)
            return False
        if client.leaving and sent == len(client.unread):
            self._dismiss(client)
            return False
        del client.unread[:sent]
        if not client.unread:
            self._poll.modify(client.fd, client.interest)
        return True

    def _give(self, client: Client, data: bytes) -> None:
        if not client.unread:
            sent = _write(client.fd, data)
            if sent is None:
                # Its last words may still be there to be read.
                client.unread.clear()
                return
            if sent == len(data):
                return
            client.unread += data[sent:]
            self._update(client)
        else:
            client.unread += data
        if len(client.unread) > BACKLOG:
            self._drop(client)

    def _update(self, client: Client) -> None:
        if client.fd in self._handlers:
            self._poll.modify(client.fd, client.interest)

    def _dismiss(self, client: Client) -> None:
        """End the connection of a client that has got everything."""
        for _ in range(_DRAIN_ROUNDS):
            if not _read(client.fd):
                break
        self._drop(client)

    def _drop(self, client: Client) -> None:
        self._remove(client.fd)
        self._clients.discard(client)
        client.endpoint.clients.remove(client)
        client.unread.clear()
        os.close(client.fd)

    # -- input ---------------------------------------------------------------------------------------------

    def _take(self, client: Client, data: bytes) -> None:
        """Input of a client for its app: whole lines, unless one is too long to be kept together."""
        endpoint = client.endpoint
        client.line += data
        end = len(client.line) if endpoint.raw else client.line.rfind(b"\n") + 1
        if len(client.line) - end > _LINE:
            end = len(client.line)
        if end:
            endpoint.pending += client.line[:end]
            del client.line[:end]
            self._feed(endpoint)

    def _take_rest(self, client: Client) -> None:
        if client.endpoint.takes and client.line:
            client.endpoint.pending += client.line
            client.line.clear()
            self._feed(client.endpoint)

    def _feed(self, endpoint: Endpoint) -> None:
        """Write pending input to the app, as far as it goes."""
        written = _write(endpoint.fd, endpoint.pending) if endpoint.pending else 0
        if written is None:
            endpoint.pending.clear()
        else:
            del endpoint.pending[:written]
        if endpoint.fd in self._handlers:
            interest = (EPOLLIN if endpoint.gives else 0) | (EPOLLOUT if endpoint.pending else 0)
            self._poll.modify(endpoint.fd, interest)
        holds = len(endpoint.pending) >= BACKLOG
        if holds != endpoint.holds:
            endpoint.holds = holds
            for client in endpoint.clients:
                self._update(client)
            if not holds:
                self._unpark(endpoint)

    def _unpark(self, endpoint: Endpoint) -> None:
        again = [client for client in self._parked if client.endpoint is endpoint]
        self._parked = [client for client in self._parked if client.endpoint is not endpoint]
        for client in again:
            self._watch_client(client)

    # -- output --------------------------------------------------------------------------------------------

    def _stream(self, endpoint: Endpoint, events: int) -> None:
        if events & EPOLLOUT:
            self._feed(endpoint)
        if events & EPOLLIN:
            self._spread(endpoint)
        elif events & ~EPOLLOUT:
            # A terminal that was hung up: by the end of the app, of which we are told.
            self._remove(endpoint.fd)

    def _spread(self, endpoint: Endpoint) -> bool:
        """Read once what the app has written and pass it on; False when there was nothing."""
        data = _read(endpoint.fd)
        if not data:
            return False
        if endpoint.log is not None:
            endpoint.log.write(data)
        for client in list(endpoint.clients):
            self._give(client, data)
        return True

    # -- ends ----------------------------------------------------------------------------------------------

    def _end_app(self, app: App) -> None:
        """Pass on what the app has left behind, then let its clients go."""
        if app not in self._apps:
            return
        self._apps.remove(app)
        self._remove(app.ended)
        if app.window is not None:
            self._remove(app.window.fileno())
        for endpoint in app.endpoints:
            self._remove(endpoint.listener.fileno())
            endpoint.listener.close()
            for _ in range(_DRAIN_ROUNDS):
                if not endpoint.gives or not self._spread(endpoint):
                    break
            if endpoint.log is not None:
                endpoint.log.finish()
            self._remove(endpoint.fd)
            # Whatever was typed, nobody reads it any more.
            endpoint.pending.clear()
            endpoint.takes = endpoint.holds = False
            self._unpark(endpoint)
            for client in list(endpoint.clients):
                client.leaving = True
                if not client.unread:
                    self._dismiss(client)

    def _end(self) -> None:
        self._remove(self._supervisor)
        self._deadline = time.monotonic() + LINGER
        for app in list(self._apps):
            self._end_app(app)


def _resize(app: App) -> None:
    data = _read(app.window.fileno()) if app.window is not None else None
    for endpoint in app.endpoints:
        if endpoint.raw and data is not None and len(data) == terminal.WINSIZE:
            terminal.set_size(endpoint.fd, data)


def _read(fd: int) -> bytes | None:
    """What there is to read, b"" at the end, None for nothing yet."""
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno in _GONE:
            return b""
        raise


def _write(fd: int, data: bytes | bytearray) -> int | None:
    """How many bytes could be written without waiting, None when nobody is there."""
    try:
        return os.write(fd, data[:_CHUNK])
    except BlockingIOError:
        return 0
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
