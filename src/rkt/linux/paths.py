"""Paths inside a root file system that somebody else controls.

Every look-up is one openat2(2) (Linux 5.6): the kernel resolves links inside the root and refuses
magic links of /proc, also while names are being changed under it.  Never resolve first and open then.
"""

from __future__ import annotations

import errno
import os
import stat

from rkt.errors import RktError
from rkt.linux import libc
from rkt.linux.failure import named, os_error

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572
CGROUP2_SUPER_MAGIC = 0x63677270
CGROUP_SUPER_MAGIC = 0x27E0EB
OVERLAYFS_SUPER_MAGIC = 0x794C7630
TMPFS_MAGIC = 0x01021994

_SYNC_FILE_RANGE_WRITE = 2

# A rename anywhere in the system while ".." is resolved gives EAGAIN; only a hostile loop lasts longer.
_ATTEMPTS = 128
_LINKS = 40


def openat2(dirfd: int, path: str | bytes, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), close-on-exec; EAGAIN of a rename race is tried again."""
    how = libc.OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    name = libc.encode(path)
    for attempt in range(_ATTEMPTS):
        fd = libc.openat2(libc.SYS_OPENAT2, dirfd, name, libc.byref(how), libc.sizeof(how))
        if fd >= 0:
            return fd
        try:
            libc.check(fd, "open", path)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                raise RktError(
                    "system call openat2 is not available",
                    hint="Linux has it since 5.6; RestrictSUIDSGID= of a systemd unit forbids it",
                ) from error
            if error.errno not in (errno.EAGAIN, errno.EINTR) or attempt == _ATTEMPTS - 1:
                raise
    raise os_error(errno.EAGAIN, "open", path)


def open_in_root(root_fd: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Open ``path`` as a process whose root is ``root_fd`` would, absolute links and ``..`` included."""
    return openat2(root_fd, path, flags, mode=mode, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_beneath(dirfd: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Open a relative ``path`` that never leaves ``dirfd``: EXDEV for a link or ``..`` that would."""
    return openat2(dirfd, path, flags, mode=mode, resolve=RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)


def open_no_links(path: str | bytes, flags: int, *, dirfd: int = -100) -> int:
    """Open a path of the host that must not contain a link: ELOOP when it does."""
    return openat2(dirfd, path, flags, resolve=RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)


def open_child(dirfd: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Open below ``dirfd`` without following any link and without entering another mount."""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
    return openat2(dirfd, path, flags, mode=mode, resolve=resolve)


def reopen(fd: int, flags: int) -> int:
    """Open the file of an O_PATH fd again with other flags; the file cannot be another one."""
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)


def without_links(root_fd: int, path: str, *, stop: str = "") -> str:
    """The absolute path in the root that ``path`` leads to, as far as it exists; the rest as it is written.

    The walk ends at ``stop``.  For messages, and for a path that is to be made where a link leads to nowhere:
    what is opened by it afterwards has to be opened safely all the same.  RktError for too many links.
    """
    waiting = path.split("/")[::-1]
    where: list[str] = []
    links = 0
    while waiting:
        name = waiting.pop()
        if name in ("", "."):
            continue
        if name == "..":
            del where[-1:]
            continue
        candidate = "/" + "/".join([*where, name])
        if candidate == stop:
            return candidate
        target = _read_link(root_fd, candidate)
        if target is None:
            where.append(name)
            continue
        links += 1
        if links > _LINKS:
            raise RktError(f'too many links in "{path}"')
        if target.startswith("/"):
            where.clear()
        waiting.extend(target.split("/")[::-1])
    return "/" + "/".join(where)


def _read_link(root_fd: int, path: str) -> str | None:
    """What a link in the root says; None for anything else."""
    try:
        fd = open_in_root(root_fd, path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return os.readlink("", dir_fd=fd)
    except OSError:
        return None
    finally:
        os.close(fd)


def make_directories(
    root_fd: int,
    path: str,
    mode: int = 0o755,
    *,
    owner: tuple[int, int] | None = None,
) -> int:
    """Create ``path`` and its parents inside the root as far as they are missing; an fd of the last.

    Existing directories and links are used as they are, resolved inside the root; new directories
    have exactly ``mode`` (whatever the umask) and ``owner`` (uid, gid).
    """
    flags = os.O_RDONLY | os.O_DIRECTORY
    current = open_in_root(root_fd, ".", flags)
    try:
        prefix = ""
        for name in path.split("/"):
            if name in ("", "."):
                continue
            prefix += "/" + name
            try:
                following = open_in_root(root_fd, prefix, flags)
            except FileNotFoundError:
                following = _make_child(current, name, prefix, mode=mode, owner=owner)
            os.close(current)
            current = following
    except BaseException:
        os.close(current)
        raise
    return current


def _make_child(parent: int, name: str, path: str, *, mode: int, owner: tuple[int, int] | None) -> int:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError as error:
        # A link to nowhere, or somebody else was faster; neither may be used unseen.
        raise named(error, "mkdir", path) from None
    except OSError as error:
        raise named(error, "mkdir", path) from error
    fd = open_child(parent, name, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if owner is not None:
            os.fchown(fd, *owner)
        os.fchmod(fd, mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_file(root_fd: int, path: str, limit: int = 1 << 20) -> bytes:
    """The content of a regular file inside the root, at most ``limit`` bytes.

    Anything else is an RktError, before it is opened: a FIFO would block, a device could act.
    """
    probe = open_in_root(root_fd, path, os.O_PATH)
    try:
        status = os.fstat(probe)
        if not stat.S_ISREG(status.st_mode):
            raise RktError(f"{path} is not a regular file")
        fd = reopen(probe, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    finally:
        os.close(probe)
    with open(fd, "rb", buffering=0) as file:
        chunks = []
        left = limit + 1
        while left and (chunk := file.read(left)):
            chunks.append(chunk)
            left -= len(chunk)
    if not left:
        raise RktError(f"{path} is larger than {limit} bytes")
    return b"".join(chunks)


def filesystem_type(fd: int) -> int:
    """The magic number of the file system an fd is on (``PROC_SUPER_MAGIC``, ...).

    What is mounted over /proc by a pod is told from the real one by this, through the fd to be written.
    """
    status = libc.StatFs()
    libc.check(libc.fstatfs(fd, libc.byref(status)), "fstatfs")
    return int(status.type) & 0xFFFFFFFF


def mount_id(fd: int) -> int:
    """The number that the mount of an fd has in mountinfo."""
    with open(f"/proc/self/fdinfo/{fd}") as file:
        for line in file:
            if line.startswith("mnt_id:"):
                return int(line[7:])
    raise RktError("the kernel does not say on which mount a file is")


def sync_filesystem(fd: int) -> None:
    """Write back all of the file system ``fd`` is on."""
    libc.check(libc.syncfs(fd), "syncfs")


def start_writing(fd: int) -> None:
    """Begin to write a file's content back, and wait for nothing (sync_file_range(2)): no promise at all."""
    libc.sync_file_range(fd, 0, 0, _SYNC_FILE_RANGE_WRITE)


def rename_no_replace(source: str, target: str, *, source_fd: int = -100, target_fd: int = -100) -> None:
    """renameat2(2) with RENAME_NOREPLACE: EEXIST instead of replacing ``target``."""
    result = libc.renameat2(source_fd, libc.encode(source), target_fd, libc.encode(target), 1)
    libc.check(result, "rename", target)


def exchange(first: str, second: str, *, first_fd: int = -100, second_fd: int = -100) -> None:
    """Swap two names in one step (renameat2(2) with RENAME_EXCHANGE)."""
    result = libc.renameat2(first_fd, libc.encode(first), second_fd, libc.encode(second), 2)
    libc.check(result, "rename", second)
