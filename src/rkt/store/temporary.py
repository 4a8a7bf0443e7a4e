"""Files and directories under way: each is flocked by its writer, so what a killed one left can be told.

The lock is taken after the file is made; in between a collector may take and remove it.  The writer
notices that its file has no name any more and makes another one.
"""

from __future__ import annotations

import os

from rkt.linux import files
from rkt.linux.lock import Lock
from rkt.store.directories import own_file

_ATTEMPTS = 16
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TemporaryFile:
    """A locked file of this process in ``directory``: written, then renamed to its place or removed."""

    __slots__ = ("_lock", "path")

    def __init__(self, directory: str, prefix: str) -> None:
        for _ in range(_ATTEMPTS):
            self.path = os.path.join(directory, f"{prefix}-{os.urandom(8).hex()}")
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self._lock = Lock(os.open(self.path, flags, 0o600), self.path)
            try:
                own_file(self._lock.fd)
                if self._lock.try_exclusive() and self._lock.is_current():
                    return
            except BaseException:
                self.close()
                raise
            self._lock.close()
        raise FileExistsError(f"cannot keep a temporary file in {directory}")

    @property
    def fd(self) -> int:
        return self._lock.fd

    def publish(self, path: str, *, durable: bool = True) -> None:
        """Make the content durable and give it its name; not ``durable``: give it its name only."""
        if durable:
            os.fsync(self.fd)
        os.rename(self.path, path)
        self.path = ""
        if durable:
            files.fsync_directory(os.path.dirname(path))

    def close(self) -> None:
        """Remove the file unless it was published."""
        if self.path:
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass
            self.path = ""
        self._lock.close()

    def __enter__(self) -> TemporaryFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TemporaryDirectory:
    """A locked directory of this process in ``directory``: filled, then renamed to its place or removed."""

    __slots__ = ("_lock", "path")

    def __init__(self, directory: str, prefix: str, mode: int = 0o700) -> None:
        for _ in range(_ATTEMPTS):
            self.path = os.path.join(directory, f"{prefix}-{os.urandom(8).hex()}")
            try:
                files.make_directory(self.path, mode)
                self._lock = Lock(os.open(self.path, _DIRECTORY), self.path)
            except FileNotFoundError:
                continue
            if self._lock.try_exclusive() and self._lock.is_current():
                return
            self._lock.close()
        raise FileExistsError(f"cannot keep a temporary directory in {directory}")

    @property
    def fd(self) -> int:
        return self._lock.fd

    def publish(self, path: str) -> None:
        """Give the directory, whose content is on disk, its name; durable afterwards."""
        os.rename(self.path, path)
        self.path = ""
        self._lock.path = path
        files.fsync_directory(os.path.dirname(path))

    def downgrade(self) -> None:
        """Make the lock of a published directory a shared one, for whoever has a copy of its fd."""
        self._lock.shared()
        if not self._lock.is_current():
            raise FileNotFoundError(f"{self._lock.path} was removed")

    def close(self) -> None:
        """Remove the directory unless it was published."""
        if self.path:
            files.remove_tree(self.path, missing_ok=True)
            self.path = ""
        self._lock.close()

    def __enter__(self) -> TemporaryDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def collect(directory: str, prefix: str) -> list[str]:
    """Remove what was made here in ``directory`` and whose writers are gone; returns the paths.

    Names with another prefix belong to somebody else.
    """
    removed: list[str] = []
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, PermissionError):
        # Not there, or none of the caller's.
        return removed
    for name in names:
        if not name.startswith(prefix + "-"):
            continue
        path = os.path.join(directory, name)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            lock = Lock(os.open(path, flags), path)
        except OSError:
            continue
        with lock:
            if lock.try_exclusive() and lock.is_current():
                files.remove_tree(path, missing_ok=True)
                removed.append(path)
    return removed
