"""Rendered images: an image with its dependencies unpacked once, shared read-only by all pods.

A tree's ID is ``deps-sha512-`` and half of the SHA-512 over the keys of its images, so it changes when a
dependency resolves to another image.  ::

    tree/ID/manifest  rootfs/     the image
            hash                  checksum of what was unpacked
            image                 key of the top image
            rendered              empty; the tree is complete and on disk

Rendering writes everything, waits until the file system is on disk, and only then makes ``rendered``;
removing begins with ``rendered``.  So a crash leaves a directory without it, which nobody uses, the next
rendering replaces and ``image gc`` removes.  A tree is locked exclusively while it changes, shared while
it is checked; pods need no lock, for gc sees their references.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import files
from rkt.linux.lock import Lock
from rkt.store import dependencies, directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.rendering import Layer
    from rkt.store.index import Index
    from rkt.store.store import Store

ID_PREFIX = "deps-sha512-"
HASH, IMAGE, RENDERED = "hash", "image", "rendered"
_LOCK_MODE = 0o600


class Trees:
    """The trees of one store.  Only root may look at them or change them."""

    __slots__ = ("_index", "_store")

    def __init__(self, store: Store, index: Index) -> None:
        self._store = store
        self._index = index

    def path(self, tree_id: str) -> str:
        return os.path.join(self._store.places.trees, tree_id)

    def ids(self) -> list[str]:
        """All trees, complete or not."""
        try:
            names = os.listdir(self._store.places.trees)
        except FileNotFoundError:
            return []
        return sorted(names)

    def tree_id(self, key: str) -> str:
        """The ID of the tree an image has, given what its dependencies resolve to now.

        Raises RktError for a dependency that is missing, or a loop.
        """
        return _id(self._layers(key))

    def is_rendered(self, tree_id: str) -> bool:
        return os.path.exists(os.path.join(self.path(tree_id), RENDERED))

    def image_of(self, tree_id: str) -> str:
        """The key of the image a tree was rendered from; "" when that is not known."""
        try:
            with open(os.path.join(self.path(tree_id), IMAGE)) as file:
                return file.read().strip()
        except FileNotFoundError:
            return ""

    def render(self, key: str, *, rebuild: bool) -> str:
        """Render an image unless its tree is there; with ``rebuild`` also then.  Returns the tree's ID."""
        layers = self._layers(key)
        tree_id = _id(layers)
        if not rebuild and self.is_rendered(tree_id) and self._index.tree_size(tree_id) is not None:
            return tree_id
        self._store.places.make_trees()
        with self._lock(tree_id):
            if rebuild or not self.is_rendered(tree_id):
                self._remove(tree_id)
                try:
                    self._fill(tree_id, layers)
                except BaseException:
                    self._remove(tree_id)
                    raise
            from rkt.store import checksum

            self._index.put_tree(tree_id, key, checksum.tree_size(self.path(tree_id)))
        return tree_id

    def check(self, tree_id: str) -> None:
        """Compare a tree with its checksum; raises RktError when it differs or was never rendered."""
        from rkt.store import checksum

        if not self.is_rendered(tree_id):
            raise RktError(f'tree "{tree_id}" is not rendered')
        with self._lock(tree_id, shared=True):
            with open(os.path.join(self.path(tree_id), HASH)) as file:
                expected = file.read().strip()
            found = checksum.tree_checksum(self.path(tree_id))
        if found != expected:
            raise RktError(f"wrong tree hash: {found}, expected: {expected}")

    def remove(self, tree_id: str) -> None:
        """Remove a tree; one that is gone already is fine."""
        with self._lock(tree_id):
            self._remove(tree_id)
            self._index.remove_tree(tree_id)

    def collect_locks(self) -> None:
        """Unlink lock files of trees that are gone; whoever waits for one notices and makes it anew."""
        directory = self._store.places.tree_locks
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            return
        for name in names:
            if os.path.exists(self.path(name)):
                continue
            path = os.path.join(directory, name)
            with Lock.open(path) as lock:
                if lock.try_exclusive() and lock.is_current() and not os.path.exists(self.path(name)):
                    os.unlink(path)

    def _layers(self, key: str) -> list[Layer]:
        return dependencies.layers(self._store, key)

    def _lock(self, tree_id: str, *, shared: bool = False) -> Lock:
        return directories.key_lock(self._store.places.tree_locks, tree_id, shared=shared, mode=_LOCK_MODE)

    def _fill(self, tree_id: str, layers: list[Layer]) -> None:
        from rkt.linux import paths
        from rkt.store import checksum, unpack

        directory = self.path(tree_id)
        files.make_directory(directory, 0o755)
        unpack.extract_layers(self._store, layers, directory)
        _write(directory, HASH, checksum.tree_checksum(directory))
        _write(directory, IMAGE, layers[0].key)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            paths.sync_filesystem(fd)
            _write(directory, RENDERED, "")
            os.fsync(fd)
        finally:
            os.close(fd)
        files.fsync_directory(self._store.places.trees)

    def _remove(self, tree_id: str) -> None:
        directory = self.path(tree_id)
        try:
            os.unlink(os.path.join(directory, RENDERED))
            files.fsync_directory(directory)
        except FileNotFoundError:
            pass
        files.remove_tree(directory, missing_ok=True)


def _id(layers: list[Layer]) -> str:
    # For a hundred bytes the interpreter's own SHA-512: loading OpenSSL takes 4 ms.
    try:
        from _sha512 import sha512  # type: ignore[import-not-found]
    except ImportError:
        from hashlib import sha512
    keys = ",".join(layer.key for layer in layers)
    return ID_PREFIX + str(sha512(keys.encode()).hexdigest())[:64]


def _write(directory: str, name: str, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(os.path.join(directory, name), flags, 0o644)
    try:
        os.fchmod(fd, 0o644)
        files.write_all(fd, text.encode())
    finally:
        os.close(fd)
