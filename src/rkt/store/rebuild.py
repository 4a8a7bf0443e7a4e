"""What a lost index is made from: the blobs, recipes and manifests in the store, and its rendered trees."""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import files
from rkt.store import directories, recipe
from rkt.store.index import ImageInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rkt.appc.image import ImageManifest
    from rkt.store.directories import Directories


def scan(places: Directories, keys: Iterable[str]) -> tuple[list[ImageInfo], list[tuple[str, str, int]]]:
    """The images among ``keys`` that are complete, and (ID, key, size) of the trees.

    Times of import and last use are those of the manifest's file, which is written once.  What cannot be
    read is left out: without a row it is unknown, as before.
    """
    images = [info for key in keys if (info := _image(places, key)) is not None]
    return images, list(_trees(places))


def _image(places: Directories, key: str) -> ImageInfo | None:
    try:
        size = _size(places, key)
        manifest = _manifest(places, key)
        time = os.stat(places.manifest(key)).st_mtime_ns
    except (RktError, OSError):
        return None
    return ImageInfo(key, manifest.name, times=(time, time), latest=False, size=size)


def _size(places: Directories, key: str) -> int:
    """The size of an image: of its file, or what its recipe says."""
    try:
        return os.stat(places.blob(key)).st_size
    except FileNotFoundError:
        found = recipe.read(places, key)
        if found is None:
            raise
        return found.size


def _manifest(places: Directories, key: str) -> ImageManifest:
    """From its file, else from the image: a crash may come between the two."""
    from rkt.appc.image import ImageManifest

    path = places.manifest(key)
    try:
        with open(path, "rb") as file:
            return ImageManifest.decode(file.read())
    except FileNotFoundError:
        pass
    from rkt.store import streams

    found = None if os.path.exists(places.blob(key)) else recipe.read(places, key)
    if found is not None:
        # Written by a process that knew the key; whatever is made by the recipe is compared with it.
        manifest = ImageManifest.decode(found.manifest)
        directories.make_parent(path)
        files.write_atomic(path, manifest.encode(), directories.FILE_MODE)
        return manifest
    with open(places.blob(key), "rb", buffering=0) as blob:
        size = os.fstat(blob.fileno()).st_size
        image = streams.read_image(blob, -1, limit=size)
    if image.key != key:
        raise RktError(f'image "{key}" in the store is damaged')
    manifest = ImageManifest.decode(image.manifest)
    directories.make_parent(path)
    files.write_atomic(path, manifest.encode(), directories.FILE_MODE)
    return manifest


def _trees(places: Directories) -> Iterable[tuple[str, str, int]]:
    """Only root may look into trees; without it their sizes come back when they are rendered again."""
    from rkt.store import checksum

    try:
        names = sorted(os.listdir(places.trees))
    except (FileNotFoundError, PermissionError):
        return
    for name in names:
        if name.startswith(directories.IMPORT_PREFIX):
            continue
        path = os.path.join(places.trees, name)
        try:
            if not os.path.exists(os.path.join(path, "rendered")):
                continue
            with open(os.path.join(path, "image")) as file:
                key = file.read().strip()
            yield name, key, checksum.tree_size(path)
        except OSError:
            continue
