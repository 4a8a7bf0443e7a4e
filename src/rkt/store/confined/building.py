"""Tasks of tools that make images: what an archive is, and unpacking it for a build."""

from __future__ import annotations

import os

from rkt.store import archive, compression, layout
from rkt.store.confined.reading import FdReader
from rkt.store.extract import Extractor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def prepare(arguments: dict[str, Any]) -> None:
    """Import the decoder of the file's kind (``kind`` as ``compression.detect`` has it)."""
    compression.load(arguments["kind"])


def missing(_: dict[str, Any], fds: list[int]) -> dict[str, object]:
    """What the archive ``fds[0]`` lacks to be an image, as ``missing``: nothing, a manifest or a rootfs."""
    found = set()
    for entry in archive.Reader(compression.open_reader(FdReader(fds[0]))):
        name = layout.clean(entry.name)
        if name == layout.MANIFEST and entry.type == archive.FILE:
            found.add(layout.MANIFEST)
        elif name == layout.ROOTFS and entry.type == archive.DIRECTORY:
            found.add(layout.ROOTFS)
        if len(found) == 2:
            return {"missing": ""}
    return {"missing": "rootfs directory" if layout.MANIFEST in found else "manifest file"}


def unpack(arguments: dict[str, Any], fds: list[int]) -> dict[str, object]:
    """Unpack the archive ``fds[0]`` into the directory ``fds[1]``.

    ``whole``: it is an image, whose ``manifest`` is returned (each character a byte) and not unpacked; else
    the archive of a root file system.
    """
    whole = arguments["whole"]
    image = layout.ImageLayout()
    with Extractor(fds[1], strip="", owner=os.geteuid() == 0) as extractor:
        reader = archive.Reader(compression.open_reader(FdReader(fds[0])))
        for entry in reader:
            if whole:
                image.check_entry(entry, reader)
                if layout.clean(entry.name) in ("", layout.MANIFEST):
                    continue
            extractor.add(entry, reader)
        extractor.finish()
    return {"manifest": image.finish().decode("latin-1")} if whole else {}
