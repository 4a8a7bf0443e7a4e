"""The mount table: /proc/PID/mountinfo as records, and unmounting everything below a directory.

Format: proc_pid_mountinfo(5).  Spaces, tabs, newlines and backslashes of names are octal escapes.
"""

from __future__ import annotations

import os

from rkt.errors import RktError


class Mount:
    """One line of mountinfo.  ``shared`` and ``master`` are peer groups, 0 for none."""

    __slots__ = (
        "device",
        "fstype",
        "id",
        "master",
        "options",
        "parent",
        "root",
        "shared",
        "source",
        "super_options",
        "target",
    )

    def __init__(self, fields: list[str], optional: list[str], filesystem: list[str]) -> None:
        self.id = int(fields[0])
        self.parent = int(fields[1])
        self.device = fields[2]
        self.root = unescape(fields[3])
        self.target = unescape(fields[4])
        self.options = fields[5].split(",")
        self.shared = _group(optional, "shared:")
        self.master = _group(optional, "master:")
        self.fstype = filesystem[0]
        self.source = unescape(filesystem[1])
        self.super_options = filesystem[2].split(",") if len(filesystem) > 2 else []

    @property
    def read_only(self) -> bool:
        """Of this mount; its file system may be read-only besides."""
        return "ro" in self.options

    def __repr__(self) -> str:
        return f"Mount({self.id}, {self.target!r}, {self.fstype!r})"


def _group(optional: list[str], prefix: str) -> int:
    for field in optional:
        if field.startswith(prefix):
            return int(field[len(prefix) :])
    return 0


def unescape(text: str) -> str:
    """Undo the kernel's ``\\040`` escapes."""
    if "\\" not in text:
        return text
    first, *rest = text.split("\\")
    words = [first]
    for word in rest:
        octal = word[:3]
        if len(octal) == 3 and octal.isdigit() and "8" not in octal and "9" not in octal:
            words.append(chr(int(octal, 8)) + word[3:])
        else:
            words.append("\\" + word)
    return "".join(words)


def parse(text: str) -> list[Mount]:
    """The mounts of a mountinfo text in its order; RktError names a malformed line."""
    mounts = []
    for line in text.split("\n"):
        if not line:
            continue
        fields = line.split(" ")
        try:
            # The separator comes after six fixed fields: a mount point may itself be called "-".
            separator = fields.index("-", 6)
            filesystem = fields[separator + 1 :]
            if len(filesystem) < 2:
                raise ValueError
            mounts.append(Mount(fields[:6], fields[6:separator], filesystem))
        except (ValueError, IndexError):
            raise RktError(f"malformed line in mountinfo: {line!r}") from None
    return mounts


def read(pid: int | str = "self") -> list[Mount]:
    """The mounts of a process's mount namespace as seen from its root directory."""
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        return parse(os.fsdecode(file.read()))


def below(path: str, mounts: list[Mount] | None = None) -> list[Mount]:
    """Mounts at ``path`` or below it, deepest first and the uppermost of a stack first.

    ``path`` is absolute without links, as the kernel prints it.
    """
    top = path.rstrip("/")
    found = [
        mount
        for mount in (read() if mounts is None else mounts)
        if mount.target == (top or "/") or mount.target.startswith(top + "/")
    ]
    numbered = sorted(enumerate(found), key=lambda pair: (pair[1].target.count("/"), pair[0]), reverse=True)
    return [mount for _, mount in numbered]


def find(path: str, mounts: list[Mount] | None = None) -> Mount | None:
    """The uppermost mount exactly at ``path``, or None when it is no mount point."""
    found = None
    for mount in read() if mounts is None else mounts:
        if mount.target == path:
            found = mount
    return found


def unmount_below(path: str) -> int:
    """Unmount everything at or below ``path``, busy or not; the number of mounts taken away.

    Mounts below are made private first: a volume shared with the host must not lose the host's own
    mounts under it.  A path is opened without following links and unmounted by fd, so a link
    put in its place by a pod leads nowhere.  Raises the OSError of what could not be unmounted.
    """
    from rkt.linux import mount as mounts
    from rkt.linux import paths

    removed = 0
    while found := below(path):
        failure: OSError | None = None
        # All become private before the first is taken away: it is the parent's peer group that an
        # unmount propagates through.  A mount hidden under another is reached in the next round.
        for private in (True, False):
            for entry in found:
                try:
                    fd = paths.open_no_links(entry.target, os.O_PATH)
                except OSError as error:
                    failure = error
                    continue
                try:
                    if private:
                        mounts.mount_setattr(fd, propagation=mounts.MS_PRIVATE)
                    else:
                        mounts.umount_fd(fd)
                except OSError as error:
                    failure = error
                finally:
                    os.close(fd)
        remaining = len(below(path))
        if remaining >= len(found) and failure is not None:
            raise failure
        removed += len(found) - remaining
        if remaining >= len(found):
            raise RktError(f"mounts below {path} keep coming back")
    return removed
