"""Unpacked layers of container images, shared by all images that have them (root only).

::

    cas/unpacked/ALGORITHM/XX/HEX/   a layer by the digest of its archive (rkt.store.layer_unpack); mtime:
                                     last use; flock shared: it is used, exclusive: it is removed
    cas/unpacked/tmp/import-RANDOM/  a layer under way or being removed, flocked by whoever does that
    cas/imagelocks/layer-HEX         flock exclusive: the layer is being unpacked

The digest says all of what is in it, so whoever has the digest of a layer from the configuration of an image
needs no download.  A layer gets its name when it is on disk as a whole: a crash leaves something in ``tmp``
that nobody locks, which ``image gc`` removes.  Files of rendered trees are hard links to those here; a layer
may go while a tree lives on.  Only root passes ``cas/unpacked``: files keep their owners and set-user-ID
bits, and nobody else can put one in another's place.
"""

from __future__ import annotations

import os
import time

from rkt.linux import files, paths
from rkt.linux.lock import Lock
from rkt.store import digest as digests
from rkt.store import directories
from rkt.store.layer_files import UnpackedLayer
from rkt.store.temporary import TemporaryDirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rkt.store.directories import Directories

_LOCK_PREFIX = "layer-"
_TEMPORARY = "tmp"
_BATCH = 128
"""So many layers are locked at a time, each by an fd."""


class UnpackedLayers:
    """The unpacked layers of one store; ``diff_id`` is the digest ``ALGORITHM:HEX`` of a layer's archive."""

    __slots__ = ("_places",)

    def __init__(self, places: Directories) -> None:
        self._places = places

    @property
    def temporary(self) -> str:
        """Where layers under way are."""
        return os.path.join(self._places.unpacked, _TEMPORARY)

    def has(self, diff_id: str) -> bool:
        return os.path.isdir(self._path(diff_id))

    def open(self, diff_id: str) -> UnpackedLayer | None:
        """A layer that is there, kept from being removed until it is closed; None for one that is not."""
        while True:
            try:
                lock = Lock.open(self._path(diff_id))
            except FileNotFoundError:
                return None
            try:
                lock.shared()
                if lock.is_current():
                    os.utime(lock.fd)
                    return UnpackedLayer(lock.detach(), diff_id)
            finally:
                lock.close()

    def lock(self, diff_id: str, waiting: Callable[[], object] | None = None) -> Lock:
        """Held while a layer is unpacked, so that two who need it unpack it once."""
        name = _LOCK_PREFIX + diff_id.partition(":")[2]
        return directories.key_lock(self._places.image_locks, name, waiting=waiting)

    def create(self) -> TemporaryDirectory:
        """A directory for a layer to be; give it to ``keep`` once it is complete, and close it."""
        self._places.make_trees()
        directories.make_shared(self.temporary, directories.ROOT_MODE)
        return TemporaryDirectory(self.temporary, directories.IMPORT_PREFIX)

    def keep(self, diff_id: str, directory: TemporaryDirectory) -> None:
        """Keep the directory as the layer of that digest, once all of it is on disk."""
        path = self._path(diff_id)
        paths.sync_filesystem(directory.fd)
        for inner in (os.path.dirname(path), path):
            directories.make_parent(inner, directories.ROOT_MODE)
        directory.publish(path)

    def forget(self, diff_id: str) -> None:
        """Remove a layer that turned out to be damaged; who is using it notices nothing."""
        try:
            lock = Lock.open(self._path(diff_id))
        except FileNotFoundError:
            return
        with lock:
            self._remove(lock)

    def collect(self, grace: int, needed: Callable[[], set[str]]) -> list[str]:
        """Remove layers not used for ``grace`` nanoseconds and not among ``needed``; the digests removed.

        What is needed is asked once the layers are locked: an image made of one meanwhile is found then.
        """
        found = self._all()
        removed = []
        for start in range(0, len(found), _BATCH):
            removed += self._collect(found[start : start + _BATCH], time.time_ns() - grace, needed)
        return removed

    def _collect(self, diff_ids: Sequence[str], before: int, needed: Callable[[], set[str]]) -> list[str]:
        locks: dict[str, Lock] = {}
        removed = []
        try:
            for diff_id in diff_ids:
                try:
                    lock = locks[diff_id] = Lock.open(self._path(diff_id))
                except FileNotFoundError:
                    continue
                old = os.fstat(lock.fd).st_mtime_ns < before
                if not (old and lock.try_exclusive() and lock.is_current()):
                    locks.pop(diff_id).close()
            used = needed() if locks else set()
            for diff_id, lock in locks.items():
                if diff_id not in used:
                    self._remove(lock)
                    removed.append(diff_id)
        finally:
            for lock in locks.values():
                lock.close()
        return removed

    def _remove(self, lock: Lock) -> None:
        """A crash leaves the layer, or a part of it under a name that nobody takes for one."""
        directories.make_shared(self.temporary, directories.ROOT_MODE)
        path = os.path.join(self.temporary, f"{directories.IMPORT_PREFIX}-{os.urandom(8).hex()}")
        os.rename(lock.path, path)
        files.fsync_directory(os.path.dirname(lock.path))
        files.remove_tree(path)

    def _all(self) -> list[str]:
        return [
            f"{algorithm}:{name}"
            for algorithm in digests.ALGORITHMS
            for part in _names(os.path.join(self._places.unpacked, algorithm))
            for name in _names(os.path.join(self._places.unpacked, algorithm, part))
            if digests.is_valid(f"{algorithm}:{name}")
        ]

    def _path(self, diff_id: str) -> str:
        algorithm, _, digits = diff_id.partition(":")
        return os.path.join(self._places.unpacked, algorithm, digits[:2], digits)


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
