"""Takes an image file into the store, in one pass.

::

    file -> worker: decompress, check the layout -> tree/import-RANDOM (where a tree is wanted)
         <- plain archive -> SHA-512
                          -> cas/tmp/import-RANDOM

Then, and only when all of it was right: fsync, exclusive ``imagelocks/KEY``, rename to ``blob/``, manifest
to ``imageManifest/``, row in the index; then the tree (``rkt.store.trees``).  A crash leaves

- before the rename: a file in ``cas/tmp`` and a directory in ``tree/`` that nobody locks; ``image gc``
  removes them;
- after the rename: a blob without a row, unknown to every command; importing the image again completes
  it, ``image gc`` removes it;
- after the row: an image, whose tree is made when it is needed.

The name in the store is the digest, and what is renamed is on disk before, so a blob is never partial.
"""

from __future__ import annotations

import os
import time

from rkt.appc.image import ImageManifest
from rkt.linux import files
from rkt.store import directories, streams
from rkt.store.index import ImageInfo
from rkt.store.temporary import TemporaryFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.store.directories import Directories
    from rkt.store.hashing import Readable
    from rkt.store.index import Index
    from rkt.store.recipe import Recipe
    from rkt.store.trees import NewTree, Trees


def import_image(
    places: Directories,
    index: Index,
    source: Readable,
    *,
    latest: bool,
    limit: int,
    check: Callable[[ImageManifest], None],
    trees: Trees | None = None,
) -> str:
    """Import the image file read from ``source`` and return its key.

    ``limit`` are the most bytes it may have uncompressed.  ``check`` gets the manifest once everything has
    been read, ``source`` to its very end; what it raises keeps the image out.  ``trees``: where the image is
    to be unpacked on the way; that is not done where its tree needs other images too, or seems to be there.
    Raises RktError for anything that is no complete image.
    """
    places.make()
    if trees is None:
        return _import(places, index, source, latest=latest, limit=limit, check=check)[0].key
    with trees.begin() as tree:
        image, manifest = _import(
            places, index, source, latest=latest, limit=limit, check=check, tree=tree, known=trees.known()
        )
        if image.checksum and not manifest.dependencies and not manifest.path_whitelist:
            tree.publish(image.key, checksum=image.checksum, size=image.tree_size)
    return image.key


def _import(
    places: Directories,
    index: Index,
    source: Readable,
    *,
    latest: bool,
    limit: int,
    check: Callable[[ImageManifest], None],
    tree: NewTree | None = None,
    known: list[str] | None = None,
) -> tuple[streams.ReadImage, ImageManifest]:
    with TemporaryFile(places.temporary, directories.IMPORT_PREFIX) as temporary:
        image = streams.read_image(source, temporary.fd, limit=limit, tree=tree, known=known or ())
        manifest = ImageManifest.decode(image.manifest)
        check(manifest)
        _publish(places, index, temporary, image=image, manifest=manifest, latest=latest)
    return image, manifest


def import_layers(places: Directories, index: Index, key: str, recipe: Recipe) -> None:
    """Take an image into the store that is made of unpacked layers, which are on disk.

    The recipe takes the blob's place: a crash leaves one without a row, or an image.
    """
    from rkt.store import recipe as recipes

    manifest = ImageManifest.decode(recipe.manifest)
    with directories.key_lock(places.image_locks, key):
        recipes.write(places, key, recipe)
        _enter(places, index, key=key, manifest=manifest, size=recipe.size, latest=False)


def _publish(
    places: Directories,
    index: Index,
    temporary: TemporaryFile,
    *,
    image: streams.ReadImage,
    manifest: ImageManifest,
    latest: bool,
) -> None:
    key = image.key
    with directories.key_lock(places.image_locks, key):
        blob = places.blob(key)
        directories.make_parent(blob)
        if _size(blob) != image.size:
            temporary.publish(blob)
        _enter(places, index, key=key, manifest=manifest, size=image.size, latest=latest)


def _enter(
    places: Directories, index: Index, *, key: str, manifest: ImageManifest, size: int, latest: bool
) -> None:
    """Make an image known whose content is on disk (its lock held)."""
    document = places.manifest(key)
    directories.make_parent(document)
    if _size(document) <= 0:
        files.write_atomic(document, manifest.encode(), directories.FILE_MODE)
    now = time.time_ns()
    index.put(ImageInfo(key, manifest.name, times=(now, now), latest=latest, size=size))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1
