"""The service as a process: its sockets, made or handed over by systemd, its log, its end."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket

from rkt.errors import RktError
from rkt.linux import listening
from rkt.service.metadata import registry
from rkt.service.metadata.answers import Answers
from rkt.service.metadata.http import Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from rkt.service.metadata.http import Request

SOCKET = "/run/rkt/metadata-svc.sock"
PORT = 18112
_FORM_LIMIT = 1 << 20
_MANIFEST_LIMIT = 16 << 20
_SECONDS = 10.0
_STALE_SECONDS = 600.0
_SHOWN_LETTERS = 8


class Sockets:
    """What the service listens on; ``created`` is the path of a socket to be removed at the end."""

    __slots__ = ("created", "metadata", "registration")

    def __init__(self) -> None:
        self.registration: list[socket.socket] = []
        self.metadata: list[socket.socket] = []
        self.created = ""

    def close(self) -> None:
        for listener in (*self.registration, *self.metadata):
            listener.close()
        if self.created:
            try:
                os.unlink(self.created)
            except FileNotFoundError:
                pass


def serve(
    *,
    port: int | None,
    data_dir: str,
    environment: MutableMapping[str, str],
    log: Callable[[str], None],
    directory: str = registry.DIRECTORY,
    path: str = SOCKET,
) -> None:
    """Serve until SIGTERM or SIGINT.

    ``port`` is the TCP port, None for the usual one; ``data_dir`` where pods are that do not say it;
    ``log`` gets a line for each request.  Everything is loaded before the first socket listens.
    RktError or OSError when the service cannot be started.
    """
    log("metadata service starting...")
    sockets = Sockets()
    known = registry.Registry(directory, log)
    try:
        inherited(sockets, environment)
        if sockets.metadata and port is not None:
            raise RktError("--listen-port cannot be used with a TCP socket from systemd")
        if not sockets.registration:
            sockets.registration.append(listen_locally(path))
            sockets.created = path
        if not sockets.metadata:
            sockets.metadata = listen_publicly(PORT if port is None else port)
        asyncio.run(_serve(sockets, known, Answers(known, data_dir), environment, log))
    finally:
        sockets.close()
        known.close()


async def _serve(
    sockets: Sockets,
    known: registry.Registry,
    answers: Answers,
    environment: MutableMapping[str, str],
    log: Callable[[str], None],
) -> None:
    def write(request: Request | None, status: int) -> None:
        log(line(request, status))

    local = Server(answers.registration, write, body_limit=_MANIFEST_LIMIT, seconds=_SECONDS)
    public = Server(answers.metadata, write, body_limit=_FORM_LIMIT, seconds=_SECONDS)
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    for listener in sockets.registration:
        await local.listen(listener)
    for listener in sockets.metadata:
        await public.listen(listener)
    log("metadata service running...")
    notify_ready(environment)
    while True:
        try:
            async with asyncio.timeout(_STALE_SECONDS):
                await end.wait()
            break
        except TimeoutError:
            known.drop_stale()
    log("metadata service exiting...")
    for server in (local, public):
        server.close()


def line(request: Request | None, status: int) -> str:
    """``METHOD URI - STATUS``; of a token no more than its beginning, a log has more readers."""
    if request is None:
        return f"- - - {status}"
    path, mark, query = request.target.partition("?")
    if not path.startswith("/pods/"):
        _, token, *rest = path.split("/")
        path = "/".join(["", _shorten(token), *rest])
    pairs = (pair.partition("=") for pair in query.split("&"))
    shown = [name + sign + (_shorten(value) if name == "token" else value) for name, sign, value in pairs]
    return f"{request.method} {path}{mark}{'&'.join(shown)} - {status}"


def _shorten(token: str) -> str:
    return token if len(token) <= _SHOWN_LETTERS else token[:_SHOWN_LETTERS] + "..."


def inherited(sockets: Sockets, environment: MutableMapping[str, str]) -> None:
    """Take the listening sockets systemd has passed: unix ones for registration, the others for apps.

    The variables are removed: they are about this process.
    """
    numbers = listening.descriptors(environment)
    for name in listening.VARIABLES:
        environment.pop(name, None)
    for number in numbers:
        try:
            listener = socket.socket(fileno=number)
            is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise RktError(f"file descriptor {number} from systemd is no socket") from error
        if not is_listening or listener.type != socket.SOCK_STREAM:
            raise RktError(f"file descriptor {number} from systemd is no listening stream socket")
        listener.set_inheritable(False)
        if listener.family == socket.AF_UNIX:
            sockets.registration.append(listener)
        else:
            sockets.metadata.append(listener)


def listen_locally(path: str) -> socket.socket:
    """The socket rkt registers pods at, for root and its group only.

    A file that is in the way was left by a service that was killed: only one at a time has the directory
    of registrations.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)
    try:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise RktError(f"cannot listen on {path}") from error
    finally:
        os.umask(mask)
    return listener


def listen_publicly(port: int) -> list[socket.socket]:
    """The port apps ask at, on every address, also of IPv6 where the host has that."""
    if not 0 < port < 65536:
        raise RktError(f"invalid port {port}")
    made = []
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            listener = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            if family == socket.AF_INET6 and error.errno == errno.EAFNOSUPPORT:
                continue
            raise
        made.append(listener)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address, port))
        except OSError as error:
            if family == socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL:
                made.pop().close()
                continue
            for opened in made:
                opened.close()
            raise RktError(f"cannot listen on port {port}") from error
    return made


def notify_ready(environment: MutableMapping[str, str]) -> None:
    """Tell systemd that the service is up (sd_notify(3)); without systemd there is nobody to tell."""
    address = environment.pop("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(b"READY=1", "\0" + address[1:] if address[0] == "@" else address)
        except OSError:
            return
