"""passwd(5) and group(5) of an image as plain text: never through the C library's name services,
which would read the host's, or load code of the image.
"""

from __future__ import annotations

LAST_ID = 0xFFFFFFFE
"""The highest user or group id; the one after it means "do not change" to chown(2)."""


class User:
    """A line of passwd."""

    __slots__ = ("gid", "home", "name", "shell", "uid")

    def __init__(self, name: str, uid: int, gid: int, home: str, shell: str) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.home = home
        self.shell = shell


class Group:
    """A line of group."""

    __slots__ = ("gid", "members", "name")

    def __init__(self, name: str, gid: int, members: list[str]) -> None:
        self.name = name
        self.gid = gid
        self.members = members


def parse_id(text: str) -> int | None:
    """A decimal id in range, or None; no sign, blank, underscore or foreign digit is taken."""
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        return None
    number = int(text)
    return number if number <= LAST_ID else None


def users(passwd: bytes) -> list[User]:
    """The well-formed lines in their order; others are passed over, as C libraries do."""
    found = []
    for line in passwd.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.split(":")
        if len(fields) != 7 or not fields[0] or "\0" in line:
            continue
        uid, gid = parse_id(fields[2]), parse_id(fields[3])
        if uid is not None and gid is not None:
            found.append(User(fields[0], uid, gid, fields[5], fields[6]))
    return found


def groups(group: bytes) -> list[Group]:
    """The well-formed lines in their order."""
    found = []
    for line in group.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.split(":")
        if len(fields) != 4 or not fields[0] or "\0" in line:
            continue
        gid = parse_id(fields[2])
        if gid is not None:
            found.append(Group(fields[0], gid, [name for name in fields[3].split(",") if name]))
    return found


def find_user(passwd: bytes, name: str) -> User | None:
    """The first user of this name."""
    return next((user for user in users(passwd) if user.name == name), None)


def find_user_by_id(passwd: bytes, uid: int) -> User | None:
    """The first user with this id."""
    return next((user for user in users(passwd) if user.uid == uid), None)


def find_group(group: bytes, name: str) -> Group | None:
    """The first group of this name."""
    return next((entry for entry in groups(group) if entry.name == name), None)


def groups_of(group: bytes, user: str) -> list[int]:
    """The ids of the groups that list ``user`` as a member, each once, in the file's order."""
    return list(dict.fromkeys(entry.gid for entry in groups(group) if user in entry.members))
