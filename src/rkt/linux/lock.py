"""Locks: flock(2) on directories and files, fcntl(2) on ranges of a file.

A lock belongs to the open file, so it passes through fork and exec with its fd, and the kernel
drops it when the last copy is closed: a killed process leaves no lock behind.
"""

from __future__ import annotations

import fcntl
import os

from rkt.errors import RktError
from rkt.linux.failure import named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ATTEMPTS = 3


class Lock:
    """An fd of a directory or file that can be locked; closes it at the end of ``with``."""

    __slots__ = ("fd", "path")

    def __init__(self, fd: int, path: str = "") -> None:
        self.fd = fd
        self.path = path

    @classmethod
    def open(cls, path: str, *, dirfd: int | None = None) -> Lock:
        """Open an existing directory or file, not locked yet."""
        return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=dirfd), path)

    def try_shared(self) -> bool:
        """Take a shared lock if that is possible at once."""
        return self._try(fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        """Take the exclusive lock if that is possible at once."""
        return self._try(fcntl.LOCK_EX)

    def shared(self, waiting: Callable[[], object] | None = None) -> Lock:
        """Take a shared lock; ``waiting`` is called once if somebody else has to let go first."""
        return self._take(fcntl.LOCK_SH, waiting)

    def exclusive(self, waiting: Callable[[], object] | None = None) -> Lock:
        """Take the exclusive lock; ``waiting`` is called once if somebody else has to let go first."""
        return self._take(fcntl.LOCK_EX, waiting)

    def unlock(self) -> None:
        """Let go, keep the fd."""
        self._flock(fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the fd, and with its last copy the lock; harmless when closed already."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def detach(self) -> int:
        """Hand the fd over to the caller, locked as it is."""
        fd, self.fd = self.fd, -1
        return fd

    def is_current(self) -> bool:
        """Whether ``path`` still names the file that is open here (device and inode)."""
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return False
        opened = os.fstat(self.fd)
        return (now.st_dev, now.st_ino) == (opened.st_dev, opened.st_ino)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _try(self, kind: int) -> bool:
        try:
            self._flock(kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _take(self, kind: int, waiting: Callable[[], object] | None) -> Lock:
        if waiting is None:
            self._flock(kind)
        elif not self._try(kind):
            waiting()
            self._flock(kind)
        return self

    def _flock(self, operation: int) -> None:
        try:
            fcntl.flock(self.fd, operation)
        except OSError as error:
            raise named(error, "flock", self.path) from None


def lock_file(
    path: str,
    *,
    shared: bool = False,
    mode: int = 0o600,
    waiting: Callable[[], object] | None = None,
) -> Lock:
    """Lock a file that is made for being locked, creating it when missing.

    Such files are unlinked by whoever cleans up, so after locking the path must still name the
    file that was locked; otherwise the new file is locked instead.
    """
    for _ in range(_ATTEMPTS):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        lock = Lock(fd, path)
        try:
            if shared:
                lock.shared(waiting)
            else:
                lock.exclusive(waiting)
            if lock.is_current():
                return lock
        except BaseException:
            lock.close()
            raise
        lock.close()
    raise RktError(f"lock file {path} is replaced again and again")


def lock_ranges(
    fd: int, ranges: Iterable[tuple[int, int]], waiting: Callable[[], object] | None = None
) -> None:
    """Lock ranges of bytes, (first, count), of a file that is open for writing, waiting for each.

    ``waiting`` is called once if somebody else has to let go first.

    The bytes need not be there.  Two processes that want some of the same never wait for each other: both
    take them in ascending order.  Unlike flock(2), such a lock belongs to the process, and goes when that
    closes any fd of the file.
    """
    for first, count in sorted(ranges):
        if waiting is not None:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, count, first)
                continue
            except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, says fcntl(2)
                waiting()
                waiting = None
        fcntl.lockf(fd, fcntl.LOCK_EX, count, first)
