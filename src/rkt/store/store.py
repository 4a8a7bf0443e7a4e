"""The store of one data directory: images by key, found by ID or name, and their rendered trees.

A key is ``sha512-`` and 64 hex digits, half of the digest of the uncompressed image.  Paths, modes and
locks are described in ``rkt.store.directories``, the index in ``rkt.store.index``, importing in
``rkt.store.importer`` and rendering in ``rkt.store.trees``.  A store is safe between processes: images change
under their locks, and a blob once opened stays readable when the image is removed.
"""

from __future__ import annotations

import os
import time

from rkt.errors import RktError
from rkt.linux import files
from rkt.linux.lock import Lock
from rkt.store import directories
from rkt.store.directories import Directories
from rkt.store.index import ImageInfo, Index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO

    from rkt.appc.image import ImageManifest
    from rkt.appc.labels import Label
    from rkt.store.hashing import Readable
    from rkt.store.index import Notify, Remote
    from rkt.store.recipe import Recipe
    from rkt.store.signature import Signature
    from rkt.store.trees import Trees

MAX_IMAGE_SIZE = 64 << 30
"""More uncompressed bytes are taken for an attack on the disk, unless the user says otherwise."""

ID_PREFIX = "sha512-"
KEY_LENGTH = len(ID_PREFIX) + 64
_MINIMUM_DIGITS = 2
_HEX = frozenset("0123456789abcdef")
_TOUCH_INTERVAL = 10**9
"""The time of last use is kept to the second: writing it costs two fsyncs."""


class ImageNotFoundError(RktError):
    """No image in the store satisfies a name and labels, or an ID."""


class StaleFilesError(RktError):
    """An image was removed, but some of its files could not be."""


def _quiet(_: str) -> None:
    """What becomes of messages nobody asked for."""


def is_id(text: str) -> bool:
    """Whether a word is an image ID, full or abbreviated, rather than a name."""
    return text.startswith(ID_PREFIX) and len(text) > len(ID_PREFIX) and "-" not in text[len(ID_PREFIX) :]


class Store:
    """The images below ``data_dir``; a context manager.

    ``notify`` gets lines for the user (an index that is rebuilt).  Reading a store that does not exist yet
    finds no images; its directories are made when the first one is imported.  ``max_image_size`` are the
    most bytes an image may have uncompressed to be taken in; it may be set.
    """

    __slots__ = ("_index", "_lock", "_notify", "_trees", "max_image_size", "places")

    def __init__(self, data_dir: str, notify: Notify = _quiet) -> None:
        self.places = Directories(data_dir)
        self.max_image_size = MAX_IMAGE_SIZE
        self._notify = notify
        self._index = Index(self.places.db, self._scan, notify)
        self._trees: Trees | None = None
        self._lock: Lock | None = None
        self._hold()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the store."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # Finding images

    def images(self) -> list[ImageInfo]:
        """What the index knows of all images, oldest import first."""
        return self._index.images()

    def info(self, key: str) -> ImageInfo:
        """What the index knows of one image.  Raises ImageNotFoundError."""
        info = self._index.get(key)
        if info is None:
            raise ImageNotFoundError(f'image "{key}" is not in the store')
        return info

    def resolve(self, text: str) -> str:
        """The key of an image ID, full or abbreviated to two hex digits or more, with or without ``sha512-``.

        Longer IDs are cut to the length of a key.  Raises ImageNotFoundError, or RktError for an ID that is
        none or fits several images.
        """
        digits = text.removeprefix(ID_PREFIX).lower()
        if set(digits) - _HEX:
            raise RktError(f'"{text}" is not a valid image ID')
        if len(digits) < _MINIMUM_DIGITS:
            raise RktError(f'image ID "{text}" is too short')
        keys = self._index.keys_with_prefix((ID_PREFIX + digits)[:KEY_LENGTH])
        if not keys:
            raise ImageNotFoundError(f'no image IDs found for "{text}"')
        if len(keys) > 1:
            raise RktError(f'ambiguous image ID: "{text}"')
        return keys[0]

    def find(self, name: str, labels: list[Label] | None = None) -> str | None:
        """The key of the image called ``name`` that has all the ``labels``; None when there is none.

        Of several, without a version among the labels: one fetched as the latest first; then the one
        imported last.
        """
        wanted = labels or []
        versioned = any(label.name == "version" for label in wanted)
        best: ImageInfo | None = None
        for info in self._index.with_name(name):
            try:
                has = self.manifest(info.key).labels
            except (RktError, OSError):
                # Being removed at this moment, or damaged: not a candidate.
                continue
            if not all(label in has for label in wanted):
                continue
            if best is None or _rank(info, versioned) >= _rank(best, versioned):
                best = info
        return best.key if best else None

    def lookup(self, text: str) -> str:
        """The key of an image given by ID or by ``name[:version][,label=value...]``, as users type it.

        Raises ImageNotFoundError, or RktError for a word that is neither.
        """
        if is_id(text):
            return self.resolve(text)
        from rkt.appc import discovery, labels

        image = discovery.ImageName.parse(text)
        return self.require(image.name, labels.from_map(image.labels))

    def require(self, name: str, wanted: list[Label]) -> str:
        """As ``find``, but raises ImageNotFoundError when there is none."""
        key = self.find(name, wanted)
        if key is None:
            shown = " ".join(f"{{{label.name} {label.value}}}" for label in wanted)
            raise ImageNotFoundError(
                f'cannot find aci satisfying name: "{name}" and labels: [{shown}] in the local store'
            )
        return key

    # One image

    def manifest_bytes(self, key: str) -> bytes:
        """The manifest of an image, compact JSON as it is written into pods."""
        try:
            with open(self.places.manifest(key), "rb") as file:
                return file.read()
        except FileNotFoundError as error:
            raise ImageNotFoundError(f'image "{key}" is not in the store') from error

    def manifest(self, key: str) -> ImageManifest:
        from rkt.appc.image import ImageManifest

        try:
            return ImageManifest.decode(self.manifest_bytes(key))
        except ImageNotFoundError:
            raise
        except RktError as error:
            raise RktError(f'manifest of image "{key}" cannot be read') from error

    def open_blob(self, key: str) -> FileIO:
        """The uncompressed image, opened for reading; counts as a use of the image.

        It is made anew for an image that is kept as layers.
        """
        try:
            file = open(self.places.blob(key), "rb", buffering=0)
        except FileNotFoundError as error:
            from rkt.store import layered

            made = layered.open_blob(self.places, key)
            if made is None:
                raise ImageNotFoundError(f'image "{key}" is not in the store') from error
            file = made
        self.touch(key)
        return file

    def is_complete(self, key: str) -> bool:
        """Whether all that an image of the store is made of is there."""
        from rkt.store import layered

        return layered.is_complete(self.places, key)

    def touch(self, key: str) -> None:
        """Note that the image is being used, for ``image gc``."""
        info = self._index.get(key)
        now = time.time_ns()
        if info is not None and not 0 <= now - info.last_used < _TOUCH_INTERVAL:
            self._index.touch(key, now)

    def import_image(
        self,
        source: Readable,
        *,
        latest: bool = False,
        check: Callable[[ImageManifest], None] = lambda _: None,
        render: bool = False,
    ) -> str:
        """Take the image file read from ``source`` into the store and return its key.

        ``check`` is called with the manifest after all of the file has been read and before the image
        enters the store: what it raises keeps the image out.  ``render``: its tree is wanted next, so it is
        made on the way where that is possible (root).
        """
        from rkt.store import importer

        self.places.make()
        self._hold()
        return importer.import_image(
            self.places,
            self._index,
            source,
            latest=latest,
            limit=self.max_image_size,
            check=check,
            trees=self.trees if render else None,
        )

    def import_layers(self, key: str, recipe: Recipe) -> None:
        """Take an image into the store whose unpacked layers are there (root)."""
        from rkt.store import importer

        self.places.make()
        self._hold()
        importer.import_layers(self.places, self._index, key, recipe)

    def remove(self, key: str) -> None:
        """Remove an image.  Pods are not affected: they use its tree, or a copy.

        First the row goes, then the files: a crash leaves a blob nobody knows, which ``image gc`` removes.
        Raises ImageNotFoundError, StaleFilesError when files were left behind.
        """
        with directories.key_lock(self.places.image_locks, key):
            if not self._index.remove(key):
                raise ImageNotFoundError(f'image "{key}" is not in the store')
            self._erase(key)

    def collect_orphans(self) -> list[str]:
        """Remove blobs and manifests without a row, which a crash may leave, and locks of images gone.

        Returns the keys.  Images being imported at this moment are locked and left alone.
        """
        known = {info.key for info in self._index.images()}
        removed = []
        for key in sorted(set(self._keys_on_disk()) - known):
            with directories.key_lock(self.places.image_locks, key):
                if self._index.get(key) is None:
                    self._erase(key)
                    removed.append(key)
        self._collect_locks()
        return removed

    # Origins

    def remote(self, url: str) -> Remote | None:
        """What was noted when the image of a URL was fetched; None when it is not in the store any more."""
        remote = self._index.remote(url)
        if remote is None or self._index.get(remote.blob_key) is None:
            return None
        return remote

    def put_remote(self, remote: Remote) -> None:
        """Note where an image came from."""
        self._index.put_remote(remote)

    def verification(self, key: str) -> tuple[str, str] | None:
        """How an image was verified: (method, detail), None when not known.

        Methods: ``openpgp`` and ``sigstore`` with the key's fingerprint, ``digest`` with the digest that
        was asked for, ``installed`` for what came with rkt, ``none`` where the caller never wanted any.
        """
        return self._index.verification(key)

    def verifications(self) -> dict[str, tuple[str, str]]:
        """The same of all images, by their keys."""
        return self._index.verifications()

    def put_verification(
        self, key: str, method: str, detail: str, signature: Signature | None = None
    ) -> None:
        """Note how an image in the store was verified, and by which signature.

        The same image fetched once more without verification stays what it was found to be.
        """
        self._index.put_verification(key, method, detail, signature, replace=method != "none")

    def signature(self, key: str) -> Signature | None:
        """The signature for which an image was believed; None when there was none, or it is not known."""
        return self._index.signature(key)

    def open_signed(self, key: str) -> FileIO:
        """The compressed file an image was signed as, as it was fetched.  Raises OSError: it was not kept."""
        return open(self.places.signed(key), "rb", buffering=0)

    # Trees

    @property
    def trees(self) -> Trees:
        """The rendered trees."""
        if self._trees is None:
            from rkt.store.trees import Trees

            self._trees = Trees(self, self._index)
        return self._trees

    def render(self, key: str, *, rebuild: bool = False) -> str:
        """Render an image with its dependencies unless that was done before; the tree's ID.  Root only."""
        tree_id = self.trees.render(key, rebuild=rebuild)
        self.touch(key)
        return tree_id

    def tree_id(self, key: str) -> str:
        """The ID the tree of an image has or would have, from what its dependencies resolve to now."""
        return self.trees.tree_id(key)

    def tree_root(self, tree_id: str) -> str:
        """The directory of a rendered tree, with ``rootfs/`` and ``manifest`` in it."""
        return self.trees.path(tree_id)

    def check_tree(self, tree_id: str) -> None:
        """Compare a tree with the checksum made when it was rendered; raises RktError when it differs."""
        self.trees.check(tree_id)

    def remove_tree(self, tree_id: str) -> None:
        """Remove a rendered tree; one that is gone already is fine."""
        self.trees.remove(tree_id)

    def extract_image(
        self, key: str, directory: str, *, rootfs_only: bool = False, shift: tuple[int, int] | None = None
    ) -> None:
        """Unpack one image, without its dependencies, into a directory that exists.

        With ``rootfs_only`` what is in the image's ``rootfs`` goes straight into ``directory``.
        """
        from rkt.store import unpack

        unpack.extract_image(self, key, directory, rootfs_only=rootfs_only, shift=shift)

    def extract_rendered(
        self, key: str, directory: str, *, rootfs_only: bool = False, shift: tuple[int, int] | None = None
    ) -> None:
        """Unpack an image with its dependencies as ``manifest`` and ``rootfs/`` into a directory that exists.

        For pods without overlay: nothing is kept in the tree store.  ``shift`` is (first ID, count) for a
        user namespace.
        """
        from rkt.store import unpack

        unpack.extract_rendered(self, key, directory, rootfs_only=rootfs_only, shift=shift)
        self.touch(key)

    # Inside

    def _hold(self) -> None:
        """The store is in use: whoever changes its layout takes this lock exclusively."""
        if self._lock is None and directories.is_there(self.places.cas):
            self._lock = Lock.open(self.places.cas)
            self._lock.shared()

    def _erase(self, key: str) -> None:
        failures = []
        places = self.places
        for path in (places.blob(key), places.recipe(key), places.manifest(key), places.signed(key)):
            try:
                os.unlink(path)
                files.fsync_directory(os.path.dirname(path))
            except FileNotFoundError:
                pass
            except OSError as error:
                failures.append(error)
        if failures:
            raise StaleFilesError(f'some files of image "{key}" cannot be removed') from failures[0]

    def _keys_on_disk(self) -> Iterator[str]:
        places = self.places
        for base in (places.blobs, places.recipes, places.manifests, places.signed_files):
            for directory, _, names in os.walk(os.path.join(base, "sha512")):
                for name in sorted(names):
                    if self.places.blob(name).endswith(f"{os.path.basename(directory)}/{name}") and _is_key(
                        name
                    ):
                        yield name

    def _collect_locks(self) -> None:
        """Unlink lock files of images that are gone; whoever waits for one notices and makes it anew."""
        try:
            names = os.listdir(self.places.image_locks)
        except FileNotFoundError:
            return
        for name in names:
            if not _is_key(name) or self._is_kept(name):
                continue
            path = os.path.join(self.places.image_locks, name)
            with Lock.open(path) as lock:
                if lock.try_exclusive() and lock.is_current() and not self._is_kept(name):
                    os.unlink(path)

    def _is_kept(self, key: str) -> bool:
        return os.path.exists(self.places.blob(key)) or os.path.exists(self.places.recipe(key))

    def _scan(self) -> tuple[list[ImageInfo], list[tuple[str, str, int]]]:
        """What a lost index is rebuilt from; times are those of the manifest file."""
        from rkt.store import rebuild

        return rebuild.scan(self.places, sorted(set(self._keys_on_disk())))


def _rank(info: ImageInfo, versioned: bool) -> tuple[bool, int]:
    return (info.latest and not versioned, info.import_time)


def _is_key(name: str) -> bool:
    digits = name.removeprefix(ID_PREFIX)
    return len(name) == KEY_LENGTH and name.startswith(ID_PREFIX) and not set(digits) - _HEX
