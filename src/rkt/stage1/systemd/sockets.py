"""Socket activation: the sockets of the unit rkt was started by become those of apps in the pod.

A port with ``socketActivated`` gets the listening sockets that systemd passed under its name
(``FileDescriptorName=``, the only way for unix sockets), and those of its protocol whose port is the one of
the host (``--port``), else that of the app.  The pod's systemd knows them again by their addresses: the
app's ``.socket`` unit says these, and gets the open sockets of the host's network namespace.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import listening
from rkt.stage1.systemd import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rkt.appc.pod import PodManifest
    from rkt.appc.port import Port
    from rkt.stage1.common.pod import Pod

_OPTIONS = {"tcp": "ListenStream", "udp": "ListenDatagram"}
_ANY = ("::", "0.0.0.0")


class Listener:
    """A socket that listens: its ``fd`` and its name, ``option`` of a socket unit, and the address as ``ip``
    and ``port``, or as ``path`` (``@`` before an abstract one), None for what it has not."""

    __slots__ = ("fd", "ip", "name", "option", "path", "port")

    def __init__(self, fd: int, name: str, option: str) -> None:
        self.fd, self.name, self.option = fd, name, option
        self.ip: str | None = None
        self.port: int | None = None
        self.path: str | None = None

    def address(self) -> str:
        """The address as a socket unit has it."""
        if self.path is not None:
            return units.specifier_safe(self.path)
        if self.ip == _ANY[0]:
            return str(self.port)
        ip = f"[{self.ip}]" if self.ip is not None and ":" in self.ip else self.ip
        return f"{ip}:{self.port}"


class Wanted:
    """A port that is to be activated: the ``port`` of the ``app``, what it is called outside, and where."""

    __slots__ = ("app", "host_ip", "numbers", "port")

    def __init__(self, app: str, port: Port, manifest: PodManifest) -> None:
        self.app, self.port = app, port
        exposed = next((entry for entry in manifest.ports if entry.name == port.name), None)
        first = port.port if exposed is None else exposed.host_port
        self.host_ip = None if exposed is None else exposed.host_ip
        self.numbers = range(first, first + max(port.count, 1))

    def takes(self, listener: Listener) -> bool:
        """Whether a socket is one of this port's."""
        if listener.option != _OPTIONS[self.port.protocol.lower()]:
            return False
        if listener.name == self.port.name:
            return True
        return listener.port in self.numbers and (not self.host_ip or self.host_ip in (*_ANY, listener.ip))


def assign(pod: Pod, environment: Mapping[str, str]) -> tuple[dict[str, list[Listener]], list[Listener]]:
    """The sockets of each app, in the order of its ports, and those no app has asked for.

    RktError when a port that is to be activated gets none.
    """
    wanted = [
        Wanted(app.name, port, pod.manifest)
        for app in pod.apps
        for port in app.app.ports
        if port.socket_activated
    ]
    left = _listeners(environment) if "LISTEN_FDS" in environment else []
    found: dict[str, list[Listener]] = {}
    for entry in wanted:
        if entry.port.protocol.lower() not in _OPTIONS:
            raise RktError(
                f'app "{entry.app}": port "{entry.port.name}" cannot be socket-activated, '
                f'its protocol is "{entry.port.protocol}"'
            )
        taken = [listener for listener in left if entry.takes(listener)]
        if not taken:
            raise _missing(entry)
        found.setdefault(entry.app, []).extend(taken)
        left = [listener for listener in left if listener not in taken]
    return found, left


def _missing(entry: Wanted) -> RktError:
    protocol, number = entry.port.protocol.lower(), entry.numbers[0]
    option = _OPTIONS[protocol]
    return RktError(
        f'app "{entry.app}": port "{entry.port.name}" is socket-activated, '
        f"but systemd has passed no socket for {protocol} port {number}",
        hint=f"rkt is to be started by a socket unit with {option}={number}, "
        f"or one with FileDescriptorName={entry.port.name}",
    )


def _listeners(environment: Mapping[str, str]) -> list[Listener]:
    import socket

    found = []
    for fd, name in listening.descriptors(environment).items():
        try:
            opened = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue  # a FIFO or a file
        with opened:
            if opened.type == socket.SOCK_STREAM:
                if not opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    continue  # a connection: Accept=yes
                listener = Listener(fd, name, "ListenStream")
            elif opened.type == socket.SOCK_DGRAM:
                listener = Listener(fd, name, "ListenDatagram")
            else:
                continue
            address = opened.getsockname()
            if opened.family in (socket.AF_INET, socket.AF_INET6):
                listener.ip, listener.port = address[0], address[1]
            elif opened.family == socket.AF_UNIX:
                path = os.fsdecode(address)
                listener.path = "@" + path[1:] if path.startswith("\0") else path
            else:
                continue
        found.append(listener)
    return found


def hand_over(assigned: dict[str, list[Listener]]) -> dict[str, str]:
    """Make the fds those that systemd-nspawn passes on, for the exec to come; its variables."""
    fds = sorted(listener.fd for listeners in assigned.values() for listener in listeners)
    for number, fd in enumerate(fds, listening.FIRST):
        if fd != number:
            os.dup2(fd, number)
    listening.set_inheritable(range(listening.FIRST, listening.FIRST + len(fds)), True)
    if not fds:
        return {}
    return {"LISTEN_FDS": str(len(fds)), "LISTEN_PID": str(os.getpid())}
