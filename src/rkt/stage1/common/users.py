"""Who an app runs as: names and numbers of the image's own files, never of the host's.

The forms of the appc specification ("user", "group"): ``root``, a decimal number, an absolute path
in the image (its owner or group), or a name in the image's /etc/passwd or /etc/group.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import paths, users
from rkt.stage1.common.ids import IdRange

_FILE_LIMIT = 1 << 20
# (uid_t) -1 means "no change" to the kernel; 65535 is the same for 16-bit callers, and systemd refuses both.
_INVALID = (0xFFFF, 0xFFFFFFFF)


class Identity:
    """Numeric ids of an app: ``uid``, ``gid`` and the supplementary ``groups``."""

    __slots__ = ("gid", "groups", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int]) -> None:
        self.uid, self.gid, self.groups = uid, gid, groups


def resolve(root_fd: int, user: str, group: str, groups: list[int], ids: IdRange | None = None) -> Identity:
    """The ids of ``user`` and ``group`` in the image whose root directory is ``root_fd``.

    ``ids`` are those of the pod, by default the host's.

    RktError names what could not be found: ``unable to find user "web" in /etc/passwd of the image``.
    """
    known = IdRange() if ids is None else ids
    for gid in groups:
        _check(gid, f"supplementary group {gid}")
    identity = Identity(find_user(root_fd, user, known), find_group(root_fd, group, known), list(groups))
    known.outside(identity.uid, f'user "{user}"')
    for gid in (identity.gid, *groups):
        known.outside(gid, f"group {gid}")
    return identity


def find_user(root_fd: int, user: str, ids: IdRange | None = None) -> int:
    """The uid of a user in any of the four forms."""
    return _find(root_fd, user, kind="user", path="/etc/passwd", ids=ids)


def find_group(root_fd: int, group: str, ids: IdRange | None = None) -> int:
    """The gid of a group in any of the four forms."""
    return _find(root_fd, group, kind="group", path="/etc/group", ids=ids)


def _find(root_fd: int, name: str, *, kind: str, path: str, ids: IdRange | None) -> int:
    if name == "root":
        return 0
    if name.isascii() and name.isdigit():
        return _check(int(name), f"{kind} {name}")
    if name.startswith("/"):
        number = _owner(root_fd, name, kind)
        return number if ids is None else ids.inside(number, f'the {kind} of "{name}"')
    try:
        data = paths.read_file(root_fd, path, limit=_FILE_LIMIT)
    except (OSError, RktError) as error:
        raise RktError(f'unable to look up {kind} "{name}" in the image') from error
    found = _number(data, name, kind)
    if found is None:
        raise RktError(f'unable to find {kind} "{name}" in {path} of the image')
    return _check(found, f'{kind} "{name}"')


def _number(data: bytes, name: str, kind: str) -> int | None:
    if kind == "user":
        user = users.find_user(data, name)
        return None if user is None else user.uid
    group = users.find_group(data, name)
    return None if group is None else group.gid


def _owner(root_fd: int, path: str, kind: str) -> int:
    try:
        fd = paths.open_in_root(root_fd, path, os.O_PATH)
    except OSError as error:
        raise RktError(f'unable to get the {kind} from the file "{path}" of the image') from error
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    return status.st_uid if kind == "user" else status.st_gid


def _check(number: int, what: str) -> int:
    if not 0 <= number <= 0xFFFFFFFF or number in _INVALID:
        raise RktError(f"{what} is outside the range of ids")
    return number
