"""The tree of an image made of unpacked layers: its files are hard links to those of the layers.

Names, links and attributes are made by ``rkt.store.extract`` from the same entries that the image's archive
has, so the tree is the one that unpacking the archive gives.  Files are copied instead

- below ``etc`` and ``var``, as OSTree does: cron, logrotate and others refuse configuration, tables and logs
  that have several names;
- where a layer is part of the image twice: its files are two then;
- where the file system cannot link: too many names, another file system.

Nothing is ever written in a tree (pods have it as a lower layer of an overlay), so that layers keep what they
have; that they did is checked file by file.
"""

from __future__ import annotations

import errno
import os

from rkt.errors import RktError
from rkt.linux import paths
from rkt.linux.failure import named
from rkt.store import merge
from rkt.store.checksum import Contents
from rkt.store.entry import FILE
from rkt.store.extract import Bytes, Extractor
from rkt.store.layer_files import LayerFile
from rkt.store.layout import ROOTFS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.store.entry import Entry
    from rkt.store.layered import LayeredImage

_COPIED = (f"{ROOTFS}/etc/", f"{ROOTFS}/var/")
_CANNOT_LINK = (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.ENOTSUP)
_OPEN_DIRECTORIES = 128


def assemble(image: LayeredImage, directory: int) -> Contents:
    """Make ``manifest`` and ``rootfs/`` of an image in an empty directory (an fd).

    Returns the digests of the files, for the tree's checksum.  Raises RktError that names the entry,
    DamagedLayerError for a layer that was changed.
    """
    contents = Contents()
    seen: set[str] = set()
    twice: set[str] = set()
    for layer in image.layers:
        (twice if layer.diff_id in seen else seen).add(layer.diff_id)
    with Extractor(directory, strip="", contents=contents) as extractor, _Linker(directory) as linker:
        for entry, content in merge.members(image.manifest, image.plan, image.layers):
            if isinstance(content, LayerFile) and entry.type == FILE:
                status = content.check()
                own = content.layer.diff_id in twice or entry.name.startswith(_COPIED)
                if not own and linker.link(entry, content):
                    if not entry.xattrs:
                        contents.know(status, content.digest)
                    continue
            body = Bytes(content) if isinstance(content, bytes) else content
            extractor.add(entry, body)  # type: ignore[arg-type]
        extractor.finish()
    return contents


class _Linker:
    """Gives files of layers names below ``target``, whose directories are there, with no link on the way."""

    __slots__ = ("_open", "_target")

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: dict[str, int] = {}

    def link(self, entry: Entry, file: LayerFile) -> bool:
        """Whether the entry is a link to the file now; False where it has to be a copy."""
        parent, _, name = entry.name.rpartition("/")
        try:
            directory = self._directory(parent)
            os.link(
                file.name,
                name,
                src_dir_fd=file.layer.fd,
                dst_dir_fd=directory,
                follow_symlinks=False,
            )
        except OSError as error:
            if error.errno in _CANNOT_LINK:
                return False
            raise RktError(f"cannot unpack {entry.name!r}") from named(error, "link", entry.name)
        return True

    def _directory(self, path: str) -> int:
        fd = self._open.get(path)
        if fd is None:
            fd = paths.open_child(self._target, path, os.O_PATH | os.O_DIRECTORY)
            if len(self._open) >= _OPEN_DIRECTORIES:
                os.close(self._open.pop(next(iter(self._open))))
            self._open[path] = fd
        return fd

    def __enter__(self) -> _Linker:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
