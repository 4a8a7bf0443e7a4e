"""Takes an image file into the store, in one pass.

::

    file -> decompress -> hash (second thread)
                       -> cas/tmp/import-RANDOM
                       -> layout check, manifest

Then, and only when all of it was right: fsync, exclusive ``imagelocks/KEY``, rename to ``blob/``, manifest
to ``imageManifest/``, row in the index.  A crash leaves

- before the rename: a file in ``cas/tmp`` that nobody locks; ``image gc`` removes it;
- after the rename: a blob without a row, unknown to every command; importing the image again completes
  it, ``image gc`` removes it;
- after the row: an image.

The name in the store is the digest, and what is renamed is on disk before, so a blob is never partial.
"""

from __future__ import annotations

import os
import time

from rkt.appc.image import ImageManifest
from rkt.errors import RktError
from rkt.linux import files
from rkt.store import archive, compression, directories, layout
from rkt.store.hashing import HashingReader
from rkt.store.index import ImageInfo
from rkt.store.temporary import TemporaryFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.store.directories import Directories
    from rkt.store.hashing import Readable
    from rkt.store.index import Index


def import_image(
    places: Directories,
    index: Index,
    source: Readable,
    *,
    latest: bool,
    limit: int,
    check: Callable[[ImageManifest], None],
) -> str:
    """Import the image file read from ``source`` and return its key.

    ``limit`` are the most bytes it may have uncompressed.  ``check`` gets the manifest once everything has
    been read, ``source`` to its very end; what it raises keeps the image out.  Raises RktError for anything
    that is no complete image.
    """
    places.make()
    with TemporaryFile(places.temporary, directories.IMPORT_PREFIX) as temporary:
        content = compression.open_reader(source, limit=limit)
        if content.kind in ("text", "unknown"):
            raise RktError("the file is no archive")
        reader = HashingReader(content, temporary.fd)
        try:
            manifest = read_layout(reader)
            key = reader.key()
        finally:
            reader.close()
        check(manifest)
        _publish(places, index, temporary, key=key, manifest=manifest, size=reader.size, latest=latest)
    return key


def read_layout(reader: HashingReader) -> ImageManifest:
    """Check the layout of an uncompressed image and return its manifest."""
    image = layout.ImageLayout()
    tar = archive.Reader(reader)
    for entry in tar:
        image.check_entry(entry, tar)
    return ImageManifest.decode(image.finish())


def _publish(
    places: Directories,
    index: Index,
    temporary: TemporaryFile,
    *,
    key: str,
    manifest: ImageManifest,
    size: int,
    latest: bool,
) -> None:
    with directories.key_lock(places.image_locks, key):
        blob, document = places.blob(key), places.manifest(key)
        for path in (blob, document):
            make_parent(path)
        if _size(blob) != size:
            temporary.publish(blob)
        if _size(document) <= 0:
            files.write_atomic(document, manifest.encode(), directories.FILE_MODE)
        now = time.time_ns()
        index.put(ImageInfo(key, manifest.name, times=(now, now), latest=latest, size=size))


def make_parent(path: str) -> None:
    """Create the directory of a blob or manifest, durably."""
    parent = os.path.dirname(path)
    if not directories.is_there(parent):
        directories.make_shared(parent)
        files.fsync_directory(os.path.dirname(parent))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1
