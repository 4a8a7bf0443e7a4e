"""What a file is by its first bytes, and its plain content as a stream.

Streams are read to their very end: a file cut at any byte is an error, and so is anything after the
last member of a compressed file that is not another member (the reference does the same; gzip(1)
would only warn).  One layer is undone, never two (specification, image archives).
"""

from __future__ import annotations

import zlib

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Readable(Protocol):
        """Anything with ``read(n)`` that gives up to n bytes and nothing only at the end."""

        def read(self, size: int, /) -> bytes: ...

    class Decoder(Protocol):
        """The interface of ``bz2.BZ2Decompressor``: one member of a compressed stream."""

        @property
        def eof(self) -> bool: ...
        @property
        def needs_input(self) -> bool: ...
        @property
        def unused_data(self) -> bytes: ...
        def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


SNIFFED = 512
"""How many of its first bytes decide what a file is."""

COMPRESSIONS = ("gzip", "bzip2", "xz", "zstd")

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
_TAR_MAGIC = 257
# What no text holds, by the sniffing rules of HTTP that the reference uses.
_BINARY = bytes((*range(9), 11, *range(14, 27), *range(28, 32)))

_INPUT = 256 * 1024
_OUTPUT = 1024 * 1024
# A zstd block of 4 bytes can stand for 128 KiB, and its decoder knows no limit of output: small
# pieces of input keep the most that one call can produce at 64 MiB.
_ZSTD_INPUT = 2048
_ZSTD_WINDOW = 128 << 20
_XZ_MEMORY = 256 << 20


def detect(first: bytes) -> str:
    """``gzip``, ``bzip2``, ``xz``, ``zstd``, ``tar``, ``text`` or ``unknown``; ``first``: up to 512 bytes.

    A tar archive is known by ``ustar`` at offset 257 alone: version 7 archives are unknown.
    """
    for magic, kind in _MAGIC:
        if first.startswith(magic):
            return kind
    if first[_TAR_MAGIC : _TAR_MAGIC + 5] == b"ustar":
        return "tar"
    return "unknown" if first[:SNIFFED].translate(None, _BINARY) != first[:SNIFFED] else "text"


class PlainReader:
    """A stream whose first bytes have been read already; counts against the limit."""

    __slots__ = ("_first", "_left", "_source", "kind", "limit")

    def __init__(self, source: Readable, first: bytes, *, kind: str, limit: int | None) -> None:
        self.kind = kind
        self.limit = limit
        self._source = source
        self._first = first
        self._left = limit

    def read(self, size: int = _OUTPUT) -> bytes:
        """Up to ``size`` bytes, nothing only at the end."""
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
        else:
            data = self._source.read(size)
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise too_large(self.limit)
        return data


class Decompressor:
    """The plain content of a compressed stream, members one after another.

    Never holds more than a piece of input and of output, whatever the ratio.
    """

    __slots__ = (
        "_decoder",
        "_first",
        "_input",
        "_left",
        "_make",
        "_output",
        "_position",
        "_source",
        "kind",
        "limit",
    )

    def __init__(self, source: Readable, first: bytes, *, kind: str, limit: int | None) -> None:
        self.kind = kind
        self.limit = limit
        self._make, self._input = _decoders(kind)
        self._source = source
        self._first = first
        self._output = b""
        self._position = 0
        self._left = limit
        self._decoder: Decoder | None = self._make()

    def read(self, size: int = _OUTPUT) -> bytes:
        """Up to ``size`` bytes, nothing only at the end; RktError for damaged or cut data."""
        if self._position >= len(self._output):
            self._output, self._position = self._produce(), 0
        start, self._position = self._position, self._position + size
        if start == 0 and size >= len(self._output):
            return self._output
        return self._output[start : start + size]

    def _produce(self) -> bytes:
        while (decoder := self._decoder) is not None:
            if decoder.eof:
                self._next_member(decoder.unused_data)
                continue
            data = self._more() if decoder.needs_input else b""
            if decoder.needs_input and not data:
                raise RktError(f"the {self.kind} data is cut off")
            try:
                output = decoder.decompress(data, _OUTPUT)
            except Exception as error:
                raise RktError(f"the {self.kind} data is damaged: {error}") from None
            if output:
                if self._left is not None:
                    self._left -= len(output)
                    if self._left < 0:
                        raise too_large(self.limit)
                return output
        return b""

    def _more(self) -> bytes:
        if self._first:
            data, self._first = self._first[: self._input], self._first[self._input :]
            return data
        return self._source.read(self._input)

    def _next_member(self, rest: bytes) -> None:
        """Go on with the following member; the end of the file is the only other thing allowed."""
        self._first = rest + self._first
        if self.kind == "xz":
            self._skip_xz_padding()
        if not self._first:
            self._first = self._source.read(self._input)
        if not self._first:
            self._decoder = None
            return
        while len(self._first) < 6 and (data := self._source.read(self._input)):
            self._first += data
        if detect(self._first) != self.kind and not (self.kind == "zstd" and _is_skippable(self._first)):
            raise RktError(f"the {self.kind} data is followed by something else")
        self._decoder = self._make()

    def _skip_xz_padding(self) -> None:
        """Zeros in multiples of four may follow a stream of xz (its file format, section 2.2)."""
        padding = 0
        while True:
            stripped = self._first.lstrip(b"\0")
            padding += len(self._first) - len(stripped)
            self._first = stripped
            if stripped:
                break
            self._first = self._source.read(self._input)
            if not self._first:
                break
        if padding % 4:
            raise RktError("the xz data is followed by something else")


def _is_skippable(first: bytes) -> bool:
    """A zstd frame without content, as the table of contents behind a layer (RFC 8878, section 3.1.2)."""
    return first[1:4] == b"\x2a\x4d\x18" and first[0] & 0xF0 == 0x50


def too_large(limit: int | None) -> RktError:
    """The error of content that is larger than it may be."""
    return RktError(f"the content is larger than {limit} bytes")


class _Zlib:
    """One gzip member by the standard library, where isal is not installed."""

    __slots__ = ("_object", "_pending", "needs_input")

    def __init__(self) -> None:
        self._object = zlib.decompressobj(wbits=31)
        self._pending = b""
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: bytes, max_length: int = _OUTPUT, /) -> bytes:
        output = self._object.decompress(self._pending + data, max_length)
        self._pending = self._object.unconsumed_tail
        # A full buffer may leave more inside, even when all input has been taken.
        self.needs_input = not self._pending and len(output) < max_length
        return output


class _Zstd:
    """One zstd frame."""

    __slots__ = ("_object",)

    needs_input = True

    def __init__(self) -> None:
        import zstandard

        self._object = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()

    @property
    def eof(self) -> bool:
        return bool(self._object.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._object.unused_data)

    def decompress(self, data: bytes, _: int = 0, /) -> bytes:
        return bytes(self._object.decompress(data))


def _decoders(kind: str) -> tuple[Callable[[], Decoder], int]:
    """How to start on a member, and how much input to give at a time."""
    if kind == "gzip":
        try:
            from isal import igzip_lib
        except ImportError:
            return _Zlib, _INPUT
        return lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), _INPUT
    if kind == "bzip2":
        import bz2

        return bz2.BZ2Decompressor, _INPUT
    if kind == "xz":
        import lzma

        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY), _INPUT
    if kind == "zstd":
        try:
            import zstandard  # noqa: F401
        except ImportError:
            raise RktError("zstd data cannot be read: the zstandard library is not installed") from None
        return _Zstd, _ZSTD_INPUT
    raise RktError(f"compression {kind} is not known")


def load(kind: str) -> None:
    """Import what ``open_reader`` needs for a file of this kind: later it may not be possible."""
    if kind in COMPRESSIONS:
        _decoders(kind)[0]()


def open_reader(source: Readable, *, limit: int | None = None) -> PlainReader | Decompressor:
    """The plain content of ``source``, decompressed if it is compressed.

    ``kind`` of the result is what ``detect`` says of the source.  ``limit`` bounds the plain content in
    bytes.  Reading raises RktError when the data is damaged, cut off, followed by something else
    or larger than the limit; OSError comes from the source.
    """
    first = b""
    while len(first) < SNIFFED and (data := source.read(SNIFFED - len(first))):
        first += data
    kind = detect(first)
    if kind in COMPRESSIONS:
        return Decompressor(source, first, kind=kind, limit=limit)
    return PlainReader(source, first, kind=kind, limit=limit)
