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

    A mount goes only after all that is mounted on it, and its parent is private by then: an unmount
    propagates through the parent's peer group, and a volume shared with the host must not lose the
    host's own mounts under it.  Paths are opened without following links and unmounted by fd, so a
    link put in their place by a pod leads nowhere.  Raises the OSError of what could not be unmounted.
    """
    removed = 0
    while found := below(path):
        done, failure = _unmount_visible(found)
        removed += done
        if not done:
            raise failure or RktError(f"the mounts below {path} cannot be reached")
    return removed


def _unmount_visible(found: list[Mount]) -> tuple[int, OSError | None]:
    """Unmount what no other mount hides; a hidden one has its turn in the next round."""
    from rkt.linux import mount as mounts

    failure: OSError | None = None
    visible: list[tuple[Mount, int]] = []
    try:
        for entry in found:
            try:
                fd = _open_mount(entry)
                if fd is not None:
                    visible.append((entry, fd))
                    mounts.mount_setattr(fd, propagation=mounts.MS_PRIVATE)
            except OSError as error:
                failure = error
        remaining = {entry.id: entry.parent for entry in found}
        done = 0
        for entry, fd in visible:
            if entry.id in remaining.values():
                continue
            try:
                mounts.umount_fd(fd)
            except OSError as error:
                failure = error
            else:
                del remaining[entry.id]
                done += 1
    finally:
        for _, fd in visible:
            os.close(fd)
    return done, failure


def _open_mount(entry: Mount) -> int | None:
    """An O_PATH fd of the mount's root, None when its path leads to another mount."""
    from rkt.linux import paths

    try:
        fd = paths.open_no_links(entry.target, os.O_PATH)
    except FileNotFoundError:
        return None
    if paths.mount_id(fd) == entry.id:
        return fd
    os.close(fd)
    return None
