"""Layers of container images as they were downloaded: the next image made of them needs no download.

::

    cas/layers/ALGORITHM/XX/HEX    a layer, compressed as it came, named by its digest; mtime: last use
    cas/tmp/import-layer-RANDOM    a download under way, flocked by its writer
    cas/imagelocks/layer-HEX       flock exclusive: the layer is being downloaded

Only a cache: images in the store are complete without it.  A layer gets its name when all of it is on
disk and has that digest; what reads it checks the digest again.  ``image gc`` removes layers that were not
used for its grace period.
"""

from __future__ import annotations

import os
import time

from rkt.store import directories
from rkt.store.temporary import TemporaryFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.linux.lock import Lock
    from rkt.store.directories import Directories

_PREFIX = f"{directories.IMPORT_PREFIX}-layer"
_LOCK_PREFIX = "layer-"


class Layers:
    """The layers kept in one store; digests are ``ALGORITHM:HEX`` and known to be valid."""

    __slots__ = ("_places",)

    def __init__(self, places: Directories) -> None:
        self._places = places

    def open(self, digest: str) -> int | None:
        """An fd of a layer that is there, which counts as a use; None for one that is not."""
        try:
            fd = os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            os.utime(fd)
        except PermissionError:
            # Somebody else's file in the same group: its age is that of its last use by its owner.
            pass
        return fd

    def lock(self, digest: str) -> Lock:
        """Held while a layer is downloaded, so that two who need it download it once."""
        name = _LOCK_PREFIX + digest.partition(":")[2]
        return directories.key_lock(self._places.image_locks, name)

    def create(self) -> TemporaryFile:
        """A file for a layer to be; give it to ``keep`` once its digest was checked, and close it."""
        self._places.make()
        return TemporaryFile(self._places.temporary, _PREFIX)

    def keep(self, digest: str, file: TemporaryFile) -> None:
        """Keep the file as the layer with that digest."""
        path = self._path(digest)
        for directory in (os.path.dirname(os.path.dirname(path)), os.path.dirname(path)):
            directories.make_shared(directory)
        file.publish(path)

    def forget(self, digest: str) -> None:
        """Remove a layer that turned out to be damaged."""
        try:
            os.unlink(self._path(digest))
        except FileNotFoundError:
            pass

    def collect(self, grace: int) -> list[str]:
        """Remove layers not used for ``grace`` nanoseconds, and locks nobody holds; the digests removed."""
        removed = []
        now = time.time_ns()
        for parent, _, names in os.walk(self._places.layers):
            algorithm = os.path.basename(os.path.dirname(parent))
            for name in sorted(names):
                path = os.path.join(parent, name)
                try:
                    if now - os.lstat(path).st_mtime_ns > grace:
                        os.unlink(path)
                        removed.append(f"{algorithm}:{name}")
                except FileNotFoundError:
                    continue
        self._collect_locks()
        return removed

    def _collect_locks(self) -> None:
        from rkt.linux.lock import Lock

        try:
            names = os.listdir(self._places.image_locks)
        except FileNotFoundError:
            return
        for name in names:
            if name.startswith(_LOCK_PREFIX):
                path = os.path.join(self._places.image_locks, name)
                with Lock.open(path) as lock:
                    if lock.try_exclusive() and lock.is_current():
                        os.unlink(path)

    def _path(self, digest: str) -> str:
        algorithm, _, digits = digest.partition(":")
        return os.path.join(self._places.layers, algorithm, digits[:2], digits)
