"""Image files: what a file is, whether it is valid, and its manifest."""

from __future__ import annotations

import os
from io import FileIO

from rkt.appc import kind as kinds
from rkt.appc.decode import document, pairs
from rkt.appc.image import ImageManifest
from rkt.appc.pod import PodManifest
from rkt.errors import RktError
from rkt.image import source
from rkt.store import archive, compression, layout, streams
from rkt.store.pack import ImageFile
from rkt.store.store import MAX_IMAGE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

IMAGE = "appimage"
LAYOUT = "layout"
MANIFEST = "manifest"
_ARCHIVES = ("gzip", "bzip2", "xz", "zstd", "tar")


def detect(path: str) -> str:
    """IMAGE, LAYOUT or MANIFEST by the look of it, "" when it looks like none of them."""
    if os.path.isdir(path):
        return LAYOUT
    with _open(path) as file:
        found = compression.detect(file.read(compression.SNIFFED))
    if found in _ARCHIVES:
        return IMAGE
    return MANIFEST if found == "text" else ""


def _open(path: str) -> BinaryIO:
    return open(source.open_file(path), "rb")


def check_image(path: str) -> ImageManifest:
    """The manifest of an image file, all of which is valid: a worker reads it.  Raises RktError."""
    with FileIO(source.open_file(path)) as file:
        return ImageManifest.decode(streams.read_image(file, -1, limit=MAX_IMAGE_SIZE).manifest)


def check_manifest(data: bytes) -> str:
    """The kind of a manifest that is valid.  Raises RktError."""
    kind = ""
    for name, value in pairs(document(data)):
        # As everywhere in manifests: the case of a member's name does not count, the last of several does.
        if name.lower() == "ackind":
            kind = kinds.decode(value)
    if kind == kinds.POD:
        PodManifest.decode(data)
    else:
        ImageManifest.decode(data)
    return kind


def read_manifest(path: str) -> bytes:
    """The manifest of an image file as it is there; what follows it is not looked at."""
    with _open(path) as file:
        reader = archive.Reader(compression.open_reader(file))
        for entry in reader:
            if layout.clean(entry.name) == layout.MANIFEST:
                if entry.type != archive.FILE or entry.size > layout.MAX_MANIFEST:
                    raise RktError("the manifest of the image is not a small file")
                return reader.read()
    raise RktError("the image has no manifest")


def rewrite(path: str, target: ImageFile, change: Callable[[bytes], str]) -> str:
    """Copy an image with another manifest: ``change`` makes it of the old one.  The new image's ID."""
    with _open(path) as file:
        checked = layout.ImageLayout()
        reader = archive.Reader(compression.open_reader(file))
        time = 0
        for entry in reader:
            checked.check_entry(entry, reader)
            entry.name = layout.clean(entry.name)
            if entry.name == layout.MANIFEST:
                time = entry.mtime_ns
            elif entry.name:
                if entry.type == archive.LINK:
                    entry.linkname = layout.clean(entry.linkname)
                target.writer.add(entry, reader if entry.type == archive.FILE else b"")
        return target.finish(change(checked.finish()).encode(), time)
