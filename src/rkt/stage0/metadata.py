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
_HINT = "is it running? pass --mds-register=false to run the pod without it"


def register(pod: Pod, apps: list[str]) -> str:
    """Make the pod known to the service; returns the token of the pod, which guards what it may ask."""
    token = os.urandom(16).hex()
    _check_socket()
    try:
        _put(f"/pods/{pod.uuid}?token={token}", pod.read(layout.MANIFEST))
        for app in apps:
            _put(f"/pods/{pod.uuid}/{app}", pod.read(layout.app_manifest(app)))
    except (OSError, RktError) as error:
        raise RktError("failed to register the pod") from error
    pod.write(layout.METADATA_REGISTERED, b"", 0o644)
    return token


def unregister(pod: Pod) -> None:
    """Make the service forget the pod; one that is not there has forgotten it."""
    try:
        _request("DELETE", f"/pods/{pod.uuid}", b"")
    except (FileNotFoundError, ConnectionError):
        return


def _check_socket() -> None:
    try:
        if stat.S_ISSOCK(os.stat(SOCKET).st_mode):
            return
    except OSError as error:
        raise RktError("could not reach the metadata service.", _HINT) from error
    raise RktError(f"could not reach the metadata service. {SOCKET} is not a socket", _HINT)


def _put(path: str, body: bytes) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            _request("PUT", path, body)
            return
        except OSError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE_SECONDS)


def _request(method: str, path: str, body: bytes) -> None:
    """One HTTP request; an answer that is not 2xx is an RktError."""
    import socket

    head = (
        f"{method} {path} HTTP/1.1\r\nHost: rkt\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(SOCKET)
        connection.sendall(head.encode() + body)
        answer = connection.recv(4096).decode("latin-1")
    words = answer.split(maxsplit=2)
    if len(words) < 2 or not words[1].startswith("2"):
        code = words[1] if len(words) > 1 else "nothing"
        raise RktError(f"the metadata service answered {code} to {method} {path}")
