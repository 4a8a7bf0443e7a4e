"""A layer that was unpacked: a directory with an index and the content of its files (``layer_unpack``)."""

from __future__ import annotations

import errno
import os
import stat

from rkt.errors import RktError
from rkt.linux import paths
from rkt.store import layer_index
from rkt.store.entry import FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

    from rkt.store.entry import Entry
    from rkt.store.layer_index import Sums

try:
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

__all__ = ["DamagedLayerError", "LayerFile", "UnpackedLayer", "crc32"]

_PIECE = 1 << 18


class DamagedLayerError(RktError):
    """An unpacked layer is not what was unpacked; ``diff_id`` says which."""

    def __init__(self, diff_id: str, message: str) -> None:
        super().__init__(f"layer {diff_id} in the store is damaged: {message}", hint="fetch the image again")
        self.diff_id = diff_id


class UnpackedLayer:
    """The layer ``diff_id`` in the directory ``fd``, which becomes ours; a context manager.

    ``size`` is that of its archive in bytes, known once its entries were read.
    """

    __slots__ = ("diff_id", "fd", "size")

    def __init__(self, fd: int, diff_id: str) -> None:
        self.fd = fd
        self.diff_id = diff_id
        self.size = 0

    def entries(self) -> Iterator[tuple[Entry, LayerFile]]:
        """All entries in the order of the archive, each with its content.  Raises DamagedLayerError."""
        with self._open_index() as file:
            reader = layer_index.Reader(file)
            rows = enumerate(reader)
            while True:
                try:
                    number, (entry, sums) = next(rows)
                except StopIteration:
                    break
                except RktError as error:
                    raise DamagedLayerError(self.diff_id, str(error)) from None
                with LayerFile(self, number, entry, sums) as content:
                    yield entry, content
            self.size = reader.size

    def _open_index(self) -> FileIO:
        try:
            fd = paths.open_child(self.fd, layer_index.NAME, os.O_RDONLY)
        except OSError as error:
            raise DamagedLayerError(self.diff_id, "it has no index") from error
        return open(fd, "rb", buffering=1 << 18)  # type: ignore[return-value]

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> UnpackedLayer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LayerFile:
    """The content of entry ``number``: what its pieces hold, compared with a sum at their end.

    ``digest`` is the SHA-256 of the whole file.  The file is opened when it is first read; this is what
    ``rkt.store.extract`` unpacks and an archive is written from.
    """

    __slots__ = ("_crc", "_entry", "_fd", "_pieces", "_rest", "digest", "layer", "name")

    def __init__(self, layer: UnpackedLayer, number: int, entry: Entry, sums: Sums) -> None:
        self.layer = layer
        self.name = str(number)
        self._entry = entry
        self._crc, self.digest = sums
        self._fd = -1
        self._pieces: Iterator[tuple[int, bytes]] | None = None
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes of what is stored (all without ``size``), nothing only at the end."""
        if self._pieces is None:
            self._pieces = self._read()
        if size < 0:
            return b"".join(data for _, data in self._pieces)
        if not self._rest:
            self._rest = next(self._pieces, (0, b""))[1]
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def pieces(self) -> Iterator[tuple[int, memoryview]]:
        """The content as (offset in the file, bytes); what is left out are holes."""
        for offset, data in self._read():
            yield offset, memoryview(data)

    def check(self) -> os.stat_result:
        """The status of the file; DamagedLayerError where that is another than its entry's, or it is gone."""
        entry = self._entry
        try:
            found = os.stat(self.name, dir_fd=self.layer.fd, follow_symlinks=False)
            same = (
                found.st_mode == stat.S_IFREG | entry.mode
                and found.st_size == entry.size
                and found.st_uid == entry.uid
                and found.st_gid == entry.gid
            )
            if same and entry.xattrs:
                same = self._attributes() == entry.xattrs
        except OSError as error:
            raise self._damaged() from error
        if not same:
            raise self._damaged()
        return found

    def _attributes(self) -> dict[str, bytes]:
        """The extended attributes of the entry that the file has; nothing on a file system without them."""
        path = f"/proc/self/fd/{self.layer.fd}/{self.name}"
        try:
            names = os.listxattr(path)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            return self._entry.xattrs
        return {name: os.getxattr(path, name) for name in names if name in self._entry.xattrs}

    def close(self) -> None:
        # The generator holds this object and its last piece, and nothing collects rings.
        self._pieces, self._rest = None, b""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> LayerFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> Iterator[tuple[int, bytes]]:
        entry = self._entry
        if entry.type != FILE:
            return
        try:
            fd = self._fd = os.open(
                self.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.layer.fd
            )
        except OSError as error:
            raise self._damaged() from error
        crc, left = 0, entry.stored
        for start, length in [(0, entry.size)] if entry.segments is None else entry.segments:
            offset, end = start, start + length
            while offset < end:
                data = os.pread(fd, min(end - offset, _PIECE), offset)
                crc = crc32(data, crc)
                left -= len(data)
                # Before the last piece is given away: nobody asks for more than there is.
                if not data or (not left and crc != self._crc):
                    raise self._damaged()
                yield offset, data
                offset += len(data)

    def _damaged(self) -> DamagedLayerError:
        return DamagedLayerError(self.layer.diff_id, f"file {self.name} of it ({self._entry.name[:200]!r})")
