"""Ranges of user IDs for pods with ``--private-users``, and what they mean for files.

A pod has 65536 IDs of the host for itself.  Ranges are told apart without a lock for all pods: each writes
its choice into its own directory first and looks at all others afterwards, so of two that chose the
same at least one sees the other and chooses again.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.pod import layout
from rkt.pod.lookup import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.pod.pod import Pod

COUNT = 65536
_HIGHEST = 0x7FFF
_ATTEMPTS = 1000
_SUBORDINATE_FILES = ("/etc/subuid", "/etc/subgid")


def reserve(pod: Pod) -> tuple[int, int]:
    """Record a range of IDs that no other pod has: (first ID of the host, number of IDs)."""
    if not os.path.exists("/proc/self/uid_map"):
        raise RktError("--private-users is not supported, kernel compiled without user namespace support")
    avoided = _subordinate()
    for _ in range(_ATTEMPTS):
        first = (int.from_bytes(os.urandom(4), "little") % _HIGHEST + 1) << 16
        if first >> 16 in avoided:
            continue
        pod.write(layout.PRIVATE_USERS, f"{first}:{COUNT}", 0o644)
        if first >> 16 not in _taken(pod):
            return first, COUNT
        os.unlink(layout.PRIVATE_USERS, dir_fd=pod.fd)
    raise RktError("no range of user IDs is free")


def of(pod: Pod) -> tuple[int, int] | None:
    """The range of a pod, None when it shares the host's IDs."""
    return parse(pod.read_text(layout.PRIVATE_USERS))


def owner(shift: tuple[int, int] | None) -> tuple[int, int] | None:
    """Who owns what rkt creates inside a pod's root file systems: the pod's root; None for the host's."""
    return None if shift is None else (shift[0], shift[0])


def open_namespace(shift: tuple[int, int]) -> int:
    """An fd of a new user namespace with the range as its IDs from 0 on, for id-mapped mounts."""
    from rkt.linux import namespaces

    return namespaces.open_id_map(*shift)


def parse(text: str) -> tuple[int, int] | None:
    """``SHIFT:COUNT`` as numbers, None when there is no range."""
    first, colon, count = text.partition(":")
    if not (colon and first.isascii() and first.isdigit() and count.isascii() and count.isdigit()):
        return None
    return int(first), int(count)


def _taken(own: Pod) -> set[int]:
    """Which ranges the other pods have, whatever state they are in."""
    taken: set[int] = set()
    for uuid, directory in names(own.data_dir, layout.DIRECTORIES).items():
        if uuid == own.uuid:
            continue
        start = layout.DIRECTORIES.index(directory)
        for place in layout.DIRECTORIES[start:]:
            path = os.path.join(own.data_dir, layout.PODS, place, uuid, layout.PRIVATE_USERS)
            try:
                with open(path, "rb") as file:
                    found = parse(file.read(64).decode("ascii", "replace").strip())
            except (FileNotFoundError, NotADirectoryError):
                continue
            if found is not None:
                taken.add(found[0] >> 16)
            break
    return taken


def _subordinate() -> set[int]:
    """The ranges that users of the host have for containers of their own (subuid(5))."""
    taken: set[int] = set()
    for path in _SUBORDINATE_FILES:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for line in lines:
            words = line.split(":")
            if len(words) == 3 and words[1].isdigit() and words[2].isdigit():
                first, count = int(words[1]), int(words[2])
                taken.update(range(first >> 16, min(first + count - 1 >> 16, _HIGHEST) + 1))
    return taken
