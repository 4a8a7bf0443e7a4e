"""Sockets that systemd opened and handed to this process: the protocol of sd_listen_fds(3).

``LISTEN_FDS`` fds from 3 on, meant for the process ``LISTEN_PID``, called what ``LISTEN_FDNAMES`` says.
"""

from __future__ import annotations

import os

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
FIRST = 3

_MOST = 4096


def descriptors(environment: Mapping[str, str]) -> dict[int, str]:
    """The fds that are for this process, in order, with their names ("" for none); RktError for nonsense."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = environment.get("LISTEN_FDS", "")
    if not count.isascii() or not count.isdigit() or int(count) > _MOST:
        raise RktError(f'invalid LISTEN_FDS "{count}"')
    fds = range(FIRST, FIRST + int(count))
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found = {}
    for position, fd in enumerate(fds):
        found[fd] = names[position] if len(names) == len(fds) else ""
    return found


def set_inheritable(fds: Iterable[int], inheritable: bool) -> None:
    """Whether the programs this process starts get the fds; RktError for one that is not open."""
    for fd in fds:
        try:
            os.set_inheritable(fd, inheritable)
        except OSError as error:
            raise RktError(f"file descriptor {fd} from systemd is not open") from error
