"""Unpacks one layer of a container image flat: the content of its files, and an index of its entries.

::

    index      what the layer has (rkt.store.layer_index)
    0 1 5 ...  the content of its files, each named by the number of its entry, with owner, mode, time,
               holes and extended attributes

No name of the archive is ever used on disk.  What a layer means is decided later, when all layers of an image
are there.  ``unpack`` is a task of a worker: it needs nothing but the two fds it is given.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import paths
from rkt.store import archive, layer_index
from rkt.store.checksum import Contents
from rkt.store.extract import Extractor
from rkt.store.layer_content import too_many
from rkt.store.layer_files import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from rkt.store.compression import Readable
    from rkt.store.entry import Entry

_INDEX_MODE = 0o600
_BUFFER = 1 << 18
_LARGE = 1 << 20


def prepare(_: dict[str, Any]) -> None:
    """All that ``unpack`` needs is imported with this module."""


def unpack(arguments: dict[str, Any], fds: Sequence[int]) -> dict[str, object]:
    """Unpack the archive that is read from the first fd into the empty directory of the second.

    ``arguments``: ``entries``, the most it may have; ``limits``, (bytes of the files, entries) of the whole
    image, for messages.  Raises RktError or OSError; what has been unpacked then is the caller's to remove.
    """
    total, most = arguments["limits"]
    source, directory = fds
    with open(source, "rb", buffering=0, closefd=False) as stream:
        content, contents = _Counted(stream), _Digests()
        limits = archive.Limits(entries=most, total=total)
        reader = archive.Reader(content, limits=limits, end_marker=False)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(layer_index.NAME, flags, _INDEX_MODE, dir_fd=directory)
        with (
            open(fd, "wb", buffering=_BUFFER) as file,
            Extractor(directory, strip="", contents=contents) as extractor,
        ):
            index = layer_index.Writer(file)
            for number, entry in enumerate(reader):
                if number >= arguments["entries"]:
                    raise too_many(most)
                if entry.type != archive.FILE:
                    index.add(entry)
                    continue
                body = _Body(reader)
                _unpack_file(extractor, entry, number, body)
                index.add(entry, (body.crc, contents.last))
                if entry.stored >= _LARGE:
                    _start_writing(directory, number)
            index.finish(content.size)
    return {}


def _unpack_file(extractor: Extractor, entry: Entry, number: int, body: _Body) -> None:
    name, entry.name = entry.name, str(number)
    try:
        extractor.add(entry, body)  # type: ignore[arg-type]
    except RktError as error:
        raise RktError(f"cannot unpack {name[:200]!r}") from error.__cause__ or error
    finally:
        entry.name = name


def _start_writing(directory: int, number: int) -> None:
    """The disk has something to do from now on, not only when all is unpacked."""
    fd = os.open(str(number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        paths.start_writing(fd)
    finally:
        os.close(fd)


class _Digests(Contents):
    """``last`` is the digest of the file that was written last; older ones are forgotten."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        super().__init__()
        self.last = b""

    def end(self, fd: int, size: int, *, has_attributes: bool) -> None:
        self.last = self.take(size)


class _Counted:
    """A readable that knows how much was read."""

    __slots__ = ("_source", "size")

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.size = 0

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self.size += len(data)
        return data


class _Body:
    """The body of an entry, summed up while it is read."""

    __slots__ = ("_reader", "crc")

    def __init__(self, reader: archive.Reader) -> None:
        self._reader = reader
        self.crc = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._reader.read(size)
        self.crc = crc32(data, self.crc)
        return data

    def pieces(self) -> Iterator[tuple[int, memoryview]]:
        for offset, piece in self._reader.pieces():
            self.crc = crc32(piece, self.crc)
            yield offset, piece
