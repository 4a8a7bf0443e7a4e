"""A download under way: a file in ``cas/tmp`` that outlives the process which began it.

::

    cas/tmp/sha512-HEX        what has come so far of the URL whose SHA-512 begins with HEX; flock exclusive:
                              somebody is fetching it
    cas/tmp/sha512-HEX.etag   the validator of what came, and the boot during which it came

Whoever fetches the same URL waits for the lock and then finds the result.  A killed process leaves both
files; the next fetch goes on behind the last byte if the server still has what the validator names.
Bytes are not flushed to the disk while they come, so after a reboot the file is not trusted and begun
anew.  Only its owner writes the file: one that belongs to another user is replaced, not continued.
"""

from __future__ import annotations

import os
import stat
import time

from rkt.linux.lock import Lock
from rkt.store.directories import own_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SIDECAR = ".etag"
PREFIX = "sha512"
_MODE = 0o640
"""Others in the group lock it to wait, and cannot slip anything in."""
_LIMIT = 16 << 10


class Partial:
    """The file of one URL, locked; a context manager that keeps it unless ``discard`` was called."""

    __slots__ = ("_lock", "path", "size", "validator")

    def __init__(self, lock: Lock) -> None:
        """``lock`` is on the file itself, opened for reading and writing; see ``acquire``."""
        self._lock = lock
        self.path = lock.path
        self.validator = _read_validator(self.path + SIDECAR, os.fstat(lock.fd).st_uid)
        self.size = os.fstat(lock.fd).st_size if self.validator else 0

    def restart(self, validator: str) -> None:
        """Forget what came; ``validator`` names what will, "" when it cannot be continued."""
        os.ftruncate(self._lock.fd, 0)
        self.size = 0
        self.validator = validator
        _unlink(self.path + SIDECAR)
        if validator:
            # Not renamed into place: a torn one is not believed, and nothing else is left by a crash.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            with open(os.open(self.path + SIDECAR, flags, _MODE), "wb", buffering=0) as file:
                file.write(f"{validator}\n{_boot()}\n".encode("latin-1", "replace"))

    def append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._lock.fd, view, self.size)
            self.size += written
            view = view[written:]

    def read(self, size: int, at: int) -> bytes:
        """Up to ``size`` bytes of what came, from the offset ``at``."""
        return os.pread(self._lock.fd, min(size, max(self.size - at, 0)), at)

    def discard(self) -> None:
        """Remove the files: the download is in the store, or worth nothing."""
        _unlink(self.path + SIDECAR)
        _unlink(self.path)

    def close(self) -> None:
        if self._lock.fd >= 0 and not (self.size and self.validator):
            self.discard()
        self._lock.close()

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def path_of(directory: str, url: str) -> str:
    from hashlib import sha512

    return os.path.join(directory, f"{PREFIX}-{sha512(url.encode()).hexdigest()[:64]}")


def acquire(path: str, waiting: Callable[[], object]) -> Partial | None:
    """The partial file, made when missing.

    ``waiting`` is called when somebody else is fetching the URL; None means that they have finished
    meanwhile, and that the caller should look for the result.
    """
    waited = False

    def wait() -> None:
        nonlocal waited
        waited = True
        waiting()

    while True:
        lock = Lock(_open(path), path)
        try:
            lock.exclusive(wait)
            status = os.fstat(lock.fd)
            if not lock.is_current():
                lock.close()
                if waited:
                    return None
                continue
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                _unlink(path + SIDECAR)
                os.unlink(path)
                lock.close()
                continue
            own_file(lock.fd, _MODE)
            return Partial(lock)
        except BaseException:
            lock.close()
            raise


def _open(path: str) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags | os.O_RDWR | os.O_CREAT, _MODE)
    except PermissionError:
        return os.open(path, flags | os.O_RDONLY)


def _read_validator(path: str, owner: int) -> str:
    """The validator in a sidecar; "" when there is none, or it tells of another boot."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != owner:
            return ""
        lines = file.read(_LIMIT).decode("latin-1").split("\n")
    return lines[0] if len(lines) == 3 and lines[1] == _boot() else ""


def _boot() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def collect(directory: str, grace: int) -> list[str]:
    """Remove downloads that nobody has gone on with for ``grace`` nanoseconds; returns their paths."""
    removed: list[str] = []
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return removed
    oldest = time.time_ns() - grace
    for name in names:
        if not name.startswith(PREFIX + "-") or name.endswith(SIDECAR):
            continue
        path = os.path.join(directory, name)
        try:
            lock = Lock(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), path)
        except OSError:
            continue
        with lock:
            stale = os.fstat(lock.fd).st_mtime_ns <= oldest
            if stale and lock.try_exclusive() and lock.is_current():
                _unlink(path + SIDECAR)
                _unlink(path)
                removed.append(path)
    return removed
