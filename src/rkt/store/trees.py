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

What is unpacked while its image is imported is ``tree/import-RANDOM`` until the image is in the store.  rkt
and its worker hold the lock of that name; ``image gc`` removes the directory when nobody does.
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
    from rkt.store.layered import Built
    from rkt.store.store import Store

ID_PREFIX = "deps-sha512-"
HASH, IMAGE, RENDERED = "hash", "image", "rendered"
_LOCK_MODE = 0o600
_NEW_PREFIX = directories.IMPORT_PREFIX + "-"


class Trees:
    """The trees of one store.  Only root may look at them or change them."""

    __slots__ = ("_index", "_store")

    def __init__(self, store: Store, index: Index) -> None:
        self._store = store
        self._index = index

    def path(self, tree_id: str) -> str:
        return os.path.join(self._store.places.trees, tree_id)

    def ids(self) -> list[str]:
        """All trees, complete or not; none that is being unpacked."""
        return [name for name in self._names() if not name.startswith(_NEW_PREFIX)]

    def _names(self) -> list[str]:
        try:
            names = os.listdir(self._store.places.trees)
        except FileNotFoundError:
            return []
        return sorted(names)

    def known(self) -> list[str]:
        """Hex SHA-256 digests of the manifests of the trees that are there."""
        from hashlib import sha256

        found = []
        for tree_id in self.ids():
            if self.is_rendered(tree_id):
                try:
                    with open(os.path.join(self.path(tree_id), "manifest"), "rb") as file:
                        found.append(sha256(file.read()).hexdigest())
                except FileNotFoundError:
                    continue
        return found

    def begin(self) -> NewTree:
        """A directory for a tree whose image is not known yet; a context manager."""
        self._store.places.make_trees()
        return NewTree(self)

    def collect_new(self) -> None:
        """Remove what imports that were killed had unpacked."""
        for name in self._names():
            if name.startswith(_NEW_PREFIX):
                path = os.path.join(self._store.places.tree_locks, name)
                with Lock(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _LOCK_MODE), path) as lock:
                    if lock.try_exclusive() and lock.is_current():
                        files.remove_tree(self.path(name), missing_ok=True)

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
        with self.lock(tree_id) as lock:
            if rebuild or not self.is_rendered(tree_id):
                self._remove(tree_id)
                try:
                    size = self._fill(tree_id, layers, lock)
                except BaseException:
                    self._remove(tree_id)
                    raise
            else:
                from rkt.store import checksum

                size = checksum.tree_size(self.path(tree_id))
            self._index.put_tree(tree_id, key, size)
        return tree_id

    def check(self, tree_id: str) -> None:
        """Compare a tree with its checksum; raises RktError when it differs or was never rendered."""
        from rkt.store import checksum

        if not self.is_rendered(tree_id):
            raise RktError(f'tree "{tree_id}" is not rendered')
        with self.lock(tree_id, shared=True), open(os.path.join(self.path(tree_id), HASH)) as file:
            checksum.check(self.path(tree_id), file.read())

    def remove(self, tree_id: str) -> None:
        """Remove a tree; one that is gone already is fine."""
        with self.lock(tree_id):
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

    def lock(self, tree_id: str, *, shared: bool = False) -> Lock:
        """The lock of a tree."""
        return directories.key_lock(self._store.places.tree_locks, tree_id, shared=shared, mode=_LOCK_MODE)

    def _fill(self, tree_id: str, layers: list[Layer], lock: Lock) -> int:
        from rkt.store import unpack

        directory = self.path(tree_id)
        files.make_directory(directory, 0o755)
        built = self._build(layers, directory)
        if built is None:
            checksum, size = unpack.extract_layers(self._store, layers, directory, lock=lock.fd)
        else:
            checksum, size = built.checksum, built.tree_size
        return size + self._seal(directory, tree_id, layers[0].key, checksum)

    def adopt(self, directory: str, key: str, *, checksum: str, size: int) -> None:
        """Make a directory with an unpacked image the tree of that image, unless there is one already."""
        from rkt.appc.rendering import Layer

        tree_id = _id([Layer(key, 0)])
        with self.lock(tree_id):
            if not self.is_rendered(tree_id):
                self._remove(tree_id)
                try:
                    size += self._seal(directory, tree_id, key, checksum)
                except BaseException:
                    self._remove(tree_id)
                    raise
                self._index.put_tree(tree_id, key, size)

    def _seal(self, directory: str, tree_id: str, key: str, digest: str) -> int:
        """Complete what was unpacked, give it the tree's name, say that it is complete; the bytes added."""
        from rkt.linux import paths
        from rkt.store import checksum

        path = self.path(tree_id)
        document = checksum.document(digest)
        _write(directory, HASH, document)
        _write(directory, IMAGE, key)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            paths.sync_filesystem(fd)
            if directory != path:
                os.rename(directory, path)
                files.fsync_directory(self._store.places.trees)
            _write(path, RENDERED, "")
            os.fsync(fd)
        finally:
            os.close(fd)
        files.fsync_directory(self._store.places.trees)
        return len(document) + len(key)

    def _build(self, layers: list[Layer], directory: str) -> Built | None:
        """Make the tree of an image that is kept as layers; None for any other image."""
        from rkt.store import layered, recipe

        key, places = layers[0].key, self._store.places
        if len(layers) > 1 or layers[0].whitelist or os.path.exists(places.blob(key)):
            return None
        found = recipe.read(places, key)
        if found is None:
            return None
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with layered.open_image(places, found) as image:
                built = layered.build(image, fd)
        finally:
            os.close(fd)
        if built.key != key:
            raise RktError(f'image "{key}" in the store is damaged: its content has another digest')
        return built

    def _remove(self, tree_id: str) -> None:
        directory = self.path(tree_id)
        try:
            os.unlink(os.path.join(directory, RENDERED))
            files.fsync_directory(directory)
        except FileNotFoundError:
            pass
        files.remove_tree(directory, missing_ok=True)


class NewTree:
    """The directory of a tree to be: filled through ``fd``, then published or removed."""

    __slots__ = ("_lock", "_path", "_trees", "fd")

    def __init__(self, trees: Trees) -> None:
        name = f"{_NEW_PREFIX}{os.urandom(8).hex()}"
        self._trees = trees
        self._path = trees.path(name)
        self.fd = -1
        self._lock = trees.lock(name)
        try:
            files.make_directory(self._path, 0o755)
            self.fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except BaseException:
            self.close()
            raise

    @property
    def lock(self) -> int:
        """The fd that holds the lock: while somebody has it, the directory is not removed by others."""
        return self._lock.fd

    def publish(self, key: str, *, checksum: str, size: int) -> None:
        """Make it the tree of the image ``key``, which is in the store."""
        self._trees.adopt(self._path, key, checksum=checksum, size=size)

    def close(self) -> None:
        """Remove it, unless it was published."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        files.remove_tree(self._path, missing_ok=True)
        if self._lock.fd >= 0:
            os.unlink(self._lock.path)
        self._lock.close()

    def __enter__(self) -> NewTree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _id(layers: list[Layer]) -> str:
    # For a hundred bytes the interpreter's own SHA-512: loading OpenSSL takes 4 ms.
    try:
        from _sha512 import sha512  # type: ignore[import-not-found]
    except ImportError:
        from hashlib import sha512
    keys = ",".join(layer.key for layer in layers)
    return ID_PREFIX + str(sha512(keys.encode()).hexdigest())[:64]


def _seal(directory: str, key: str, checksum: str) -> None:
    """Say what a tree is, wait until all of it is on disk, and only then that it is complete."""
    from rkt.linux import paths

    _write(directory, HASH, checksum)
    _write(directory, IMAGE, key)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        paths.sync_filesystem(fd)
        _write(directory, RENDERED, "")
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(directory: str, name: str, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(os.path.join(directory, name), flags, 0o644)
    try:
        os.fchmod(fd, 0o644)
        files.write_all(fd, text.encode())
    finally:
        os.close(fd)
