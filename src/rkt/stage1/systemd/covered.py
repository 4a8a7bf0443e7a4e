"""Volumes over places of an app's root where something of the pod, or terminals, are mounted.

A volume on the place of the terminals or of shared memory is what the app gets there.  One on a directory
above such a place has to hold it, or to let it be made.  ``/proc`` is the kernel's, and is mounted last.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.stage1.common import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rkt.stage1.common.mounts import PlannedMount

PROC = "/proc"
# What a unit binds into the app's root, unless the app has a volume there.
_REPLACEABLE = ("/dev/shm", "/dev/console")
TERMINALS = "/dev/pts"
"""Where an app has terminals of its own, unless it has a volume there."""

_FILES = ("/dev/console", "/run/systemd/notify")
_NEEDED = (
    TERMINALS,
    *_REPLACEABLE,
    PROC,
    "/run/systemd/journal",
    "/run/systemd/incoming",
    "/run/systemd/notify",
)


def refuse_proc(entries: Iterable[PlannedMount]) -> None:
    """RktError for a volume that the app would never see."""
    for entry in entries:
        if entry.target == PROC or entry.target.startswith(PROC + "/"):
            raise RktError(
                f'volume "{entry.volume}" cannot be mounted on {entry.target}: {PROC} is the kernel\'s'
            )


def bound(entries: Iterable[PlannedMount]) -> list[str]:
    """The replaceable places that an app with these volumes has from its pod."""
    targets = {entry.target for entry in entries}
    return [path for path in _REPLACEABLE if path not in targets]


def complete(root_fd: int, entries: list[PlannedMount], owner: tuple[int, int]) -> None:
    """Make the places in volumes that cover them, as they were made in the root before."""
    for path in _NEEDED:
        above = [entry for entry in entries if path.startswith(entry.target + "/")]
        if not above or any(entry.target == path for entry in entries):
            continue
        try:
            os.close(mounts.open_target(root_fd, path, directory=path not in _FILES, owner=owner))
        except OSError as error:
            entry = above[-1]
            raise RktError(
                f'volume "{entry.volume}" cannot be mounted on {entry.target}: {path} cannot be made in it'
            ) from error


def is_proc(root_fd: int, fd: int) -> bool:
    """Whether a place that was opened in a root lies in the root's /proc, whatever it was called."""
    root, where = (os.readlink(f"/proc/self/fd/{number}") for number in (root_fd, fd))
    return f"{where}/".startswith(f"{root.rstrip('/')}{PROC}/")
