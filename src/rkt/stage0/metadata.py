"""Registration of a pod with the metadata service, over its unix socket (``--mds-register``)."""

from __future__ import annotations

import os
import stat
import time

from rkt.errors import RktError
from rkt.pod import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.pod.pod import Pod

SOCKET = "/run/rkt/metadata-svc.sock"
_ATTEMPTS = 3
_PAUSE_SECONDS = 1.0
# By it the service finds out which pods are gone; those of rkt 1.30 know no such header.
_DATA_DIRECTORY = "Rkt-Data-Directory"
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-")
_HINT = "is it running? pass --mds-register=false to run the pod without it"


def register(pod: Pod, apps: list[str]) -> str:
    """Make the pod known to the service; returns the token of the pod, which guards what it may ask."""
    token = os.urandom(16).hex()
    _check_socket()
    try:
        _put(f"/pods/{pod.uuid}?token={token}", pod.read(layout.MANIFEST), pod.data_dir)
        for app in apps:
            _put(f"/pods/{pod.uuid}/{app}", pod.read(layout.app_manifest(app)), pod.data_dir)
    except (OSError, RktError) as error:
        raise RktError("failed to register the pod") from error
    pod.write(layout.METADATA_REGISTERED, b"", 0o644)
    return token


def unregister(pod: Pod) -> None:
    """Make the service forget the pod.

    One that is not there, does not know the pod or does not answer is no reason to keep it: the service drops
    registrations of pods that are gone by itself.
    """
    try:
        _request("DELETE", f"/pods/{pod.uuid}", b"")
    except (OSError, RktError):
        return


def _check_socket() -> None:
    try:
        if stat.S_ISSOCK(os.stat(SOCKET).st_mode):
            return
    except OSError as error:
        raise RktError("could not reach the metadata service.", _HINT) from error
    raise RktError(f"could not reach the metadata service. {SOCKET} is not a socket", _HINT)


def _put(path: str, body: bytes, data_dir: str) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            _request("PUT", path, body, f"{_DATA_DIRECTORY}: {_escape(data_dir)}\r\n")
            return
        except OSError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE_SECONDS)


def _escape(path: str) -> str:
    """A path as the value of a header: percent-encoded but for plain characters."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in os.fsencode(path))


def _request(method: str, path: str, body: bytes, header: str = "") -> None:
    """One HTTP request; an answer that is not 2xx is an RktError."""
    import socket

    head = (
        f"{method} {path} HTTP/1.1\r\nHost: rkt\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{header}\r\n"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(SOCKET)
        connection.sendall(head.encode() + body)
        answer = connection.recv(4096).decode("latin-1")
    words = answer.split(maxsplit=2)
    if len(words) < 2 or not words[1].startswith("2"):
        code = words[1] if len(words) > 1 else "nothing"
        raise RktError(f"the metadata service answered {code} to {method} {path.partition('?')[0]}")
