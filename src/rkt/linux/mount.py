"""Mounts: mount(2) and the file-descriptor interface of Linux 5.2 and 5.12.

With ``open_tree``, ``mount_setattr`` and ``move_mount`` a mount is made complete before it becomes
visible and its target is an fd, which no rename can redirect (CVE-2021-30465).
"""

from __future__ import annotations

import os

from rkt.linux import libc
from rkt.linux.failure import os_error

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_RELATIME = 0x200000
MS_STRICTATIME = 0x1000000

MNT_FORCE = 0x1
MNT_DETACH = 0x2
MNT_EXPIRE = 0x4
UMOUNT_NOFOLLOW = 0x8

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 0x1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC

_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOVE_MOUNT_T_EMPTY_PATH = 0x40
_FSOPEN_CLOEXEC = 0x1
_FSMOUNT_CLOEXEC = 0x1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_PAGE = 4096


def mount(
    source: str | None,
    target: str,
    fstype: str | None = None,
    flags: int = 0,
    data: str | None = None,
) -> None:
    """mount(2); the OSError names ``target``."""
    arguments = [libc.encode(value) for value in (source, target, fstype)]
    libc.check(libc.mount(*arguments, flags, libc.encode(data)), "mount", target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    libc.check(libc.umount2(libc.encode(target), flags), "umount", target)


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """An fd on a mount: a detached copy with OPEN_TREE_CLONE (and AT_RECURSIVE for all below)."""
    flags |= OPEN_TREE_CLOEXEC
    return libc.check(libc.open_tree(dirfd, libc.encode(path), flags), "open_tree", path or f"fd {dirfd}")


def move_mount(from_fd: int, to_fd: int, *, from_path: str = "", to_path: str = "") -> None:
    """Attach a detached mount, or move one; an empty path means the object of the fd itself."""
    flags = (0 if from_path else _MOVE_MOUNT_F_EMPTY_PATH) | (0 if to_path else _MOVE_MOUNT_T_EMPTY_PATH)
    result = libc.move_mount(from_fd, libc.encode(from_path), to_fd, libc.encode(to_path), flags)
    libc.check(result, "move_mount", to_path or fd_path(to_fd))


def mount_setattr(
    fd: int,
    path: str = "",
    *,
    set: int = 0,
    clear: int = 0,
    propagation: int = 0,
    userns_fd: int = -1,
    recursive: bool = False,
) -> None:
    """Change MOUNT_ATTR_* and propagation (MS_PRIVATE, ...) of a mount; with ``recursive`` of all below.

    ``userns_fd`` makes an id-mapped mount of a detached one (Linux 5.12).
    """
    if userns_fd >= 0:
        set |= MOUNT_ATTR_IDMAP
    attributes = libc.MountAttributes(set, clear, propagation, max(userns_fd, 0))
    flags = (0 if path else AT_EMPTY_PATH) | (AT_RECURSIVE if recursive else 0)
    result = libc.mount_setattr(fd, libc.encode(path), flags, libc.byref(attributes), libc.sizeof(attributes))
    libc.check(result, "mount_setattr", path or fd_path(fd))


def fsopen(fstype: str) -> int:
    """An fd of a file system being configured."""
    return libc.check(libc.fsopen(libc.encode(fstype), _FSOPEN_CLOEXEC), "fsopen", fstype)


def fsconfig(fd: int, key: str, value: str | None = None) -> None:
    """Set an option of the file system of ``fsopen``; ``value`` None sets a flag.

    The kernel refuses values of 256 bytes and more.
    """
    command = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
    libc.check(libc.fsconfig(fd, command, libc.encode(key), libc.encode(value), 0), "fsconfig", key)


def fsmount(fd: int, attributes: int = 0) -> int:
    """Create the configured file system; a detached mount (an fd) with MOUNT_ATTR_* ``attributes``."""
    libc.check(libc.fsconfig(fd, _FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig", "create")
    return libc.check(libc.fsmount(fd, _FSMOUNT_CLOEXEC, attributes), "fsmount")


def new_mount(fstype: str, options: dict[str, str | None] | None = None, *, attributes: int = 0) -> int:
    """A detached mount of a new file system (tmpfs, proc, ...): an fd for ``move_mount``."""
    fd = fsopen(fstype)
    try:
        for key, value in (options or {}).items():
            fsconfig(fd, key, value)
        return fsmount(fd, attributes)
    finally:
        os.close(fd)


def overlay_options(*, lower: list[str], upper: str, work: str, options: str = "") -> str:
    """The data of mount(2) for an overlay; ``lower`` is uppermost first, paths may hold ``:`` and ``,``.

    Without ``upper`` the overlay is read-only.
    """
    words = ["lowerdir=" + ":".join(_escape(path, "\\:,") for path in lower)]
    if upper:
        words += ["upperdir=" + _escape(upper, "\\,"), "workdir=" + _escape(work, "\\,")]
    if options:
        words.append(options)
    return ",".join(words)


def _escape(path: str, special: str) -> str:
    return "".join("\\" + letter if letter in special else letter for letter in path)


def mount_overlay(target: str, *, lower: list[str], upper: str, work: str, options: str = "") -> None:
    """Mount an overlay at ``target``; ``options`` are further words such as ``userxattr,index=off``.

    mount(2) takes one page of options; what is longer goes through fsopen, where each lower
    directory is a call of its own (``lowerdir+``, Linux 6.5).
    """
    data = overlay_options(lower=lower, upper=upper, work=work, options=options)
    if len(os.fsencode(data)) < _PAGE:
        mount("overlay", target, "overlay", 0, data)
        return
    fd = fsopen("overlay")
    try:
        for path in lower:
            fsconfig(fd, "lowerdir+", path)
        if upper:
            fsconfig(fd, "upperdir", _escape(upper, "\\"))
            fsconfig(fd, "workdir", _escape(work, "\\"))
        for word in filter(None, options.split(",")):
            key, equals, value = word.partition("=")
            fsconfig(fd, key, value if equals else None)
        detached = fsmount(fd)
    finally:
        os.close(fd)
    try:
        move_mount(detached, AT_FDCWD, to_path=target)
    finally:
        os.close(detached)


def clone(source: int | str, *, recursive: bool, set: int = 0, clear: int = 0) -> int:
    """A detached bind mount of an fd or a path with MOUNT_ATTR_* changed: an fd for ``move_mount``."""
    flags = OPEN_TREE_CLONE | (AT_RECURSIVE if recursive else 0)
    if isinstance(source, int):
        detached = open_tree(source, "", flags | AT_EMPTY_PATH)
    else:
        detached = open_tree(AT_FDCWD, source, flags)
    if set or clear:
        try:
            mount_setattr(detached, set=set, clear=clear, recursive=recursive)
        except BaseException:
            os.close(detached)
            raise
    return detached


def bind_fd(
    source: int | str,
    target_fd: int,
    *,
    recursive: bool,
    read_only: bool,
    attributes: int = 0,
) -> None:
    """Bind a file or directory over the object of ``target_fd`` (O_PATH is enough).

    Read-only and further MOUNT_ATTR_* ``attributes`` are in force before the mount is visible, with
    ``recursive`` for every mount below too.
    """
    detached = clone(source, recursive=recursive, set=attributes | (MOUNT_ATTR_RDONLY if read_only else 0))
    try:
        move_mount(detached, target_fd)
    finally:
        os.close(detached)


def set_propagation(path: str, propagation: int, *, recursive: bool = False) -> None:
    """Make the mount at ``path`` MS_PRIVATE, MS_SLAVE or MS_SHARED."""
    mount(None, path, None, propagation | (MS_REC if recursive else 0))


def umount_fd(fd: int, flags: int = MNT_DETACH) -> None:
    """Unmount the mount whose root ``fd`` is: what a path means may have changed, an fd stays."""
    if flags & UMOUNT_NOFOLLOW:
        raise os_error(22, "umount", fd_path(fd))
    libc.check(libc.umount2(b"/proc/self/fd/%d" % fd, flags), "umount", fd_path(fd))


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2); with ``.`` twice the old root lies over the new one and can be unmounted there."""
    libc.check(libc.pivot_root(libc.encode(new_root), libc.encode(put_old)), "pivot_root", new_root)


def fd_path(fd: int) -> str:
    """What the kernel calls the file of an fd, for messages only."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return f"fd {fd}"
