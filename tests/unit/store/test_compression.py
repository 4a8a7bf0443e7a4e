from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import resource

import pytest
import zstandard

from rkt.errors import RktError
from rkt.store import compression

COMPRESSORS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
CONTENT = b"ustar" * 100 + os.urandom(5000) + bytes(200_000)


def plain(data: bytes, *, size: int = 10_000, limit: int | None = None) -> bytes:
    reader = compression.open_reader(io.BytesIO(data), limit=limit)
    parts = []
    while piece := reader.read(size):
        assert len(piece) <= size
        parts.append(piece)
    assert reader.read(size) == b""
    return b"".join(parts)


@pytest.fixture(params=["isal", "zlib"])
def library(request, monkeypatch):
    """gzip with isal, and without it."""
    if request.param == "zlib":
        import sys

        monkeypatch.setitem(sys.modules, "isal", None)


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_detect_and_read(kind, library):
    data = COMPRESSORS[kind](CONTENT)
    assert compression.detect(data[:512]) == kind
    assert compression.open_reader(io.BytesIO(data)).kind == kind
    for size in (1000, 1 << 22):
        assert plain(data, size=size) == CONTENT


def test_detect_of_plain_files():
    assert compression.detect(bytes(257) + b"ustar\x0000") == "tar"
    assert compression.detect(bytes(257) + b"ustar  \x00") == "tar"
    assert compression.detect(bytes(512)) == "unknown"
    assert compression.detect(b'{"acKind": "ImageManifest"}\n') == "text"
    assert compression.detect("Grüße".encode()) == "text"
    assert compression.detect(b"") == "text"
    assert compression.detect(b"\x7fELF\x02\x01\x01\0") == "unknown"


def test_only_one_layer_is_undone():
    inner = gzip.compress(CONTENT)
    assert plain(gzip.compress(inner)) == inner


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_members_follow_one_another(kind, library):
    compress = COMPRESSORS[kind]
    assert plain(compress(CONTENT) + compress(b"") + compress(b"more")) == CONTENT + b"more"


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.attack(33)
def test_cut_off_anywhere(kind, library):
    data = COMPRESSORS[kind](CONTENT)
    first = max(len(magic) for magic, _ in compression._MAGIC)
    for length in {*range(first, 60), *range(60, len(data), 97), *range(len(data) - 40, len(data))}:
        with pytest.raises(RktError, match=f"the {kind} data is cut off"):
            plain(data[:length])


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("rest", [b"x", b"\0", b"garbage of some length", b"\x1f\x8b", b"\0" * 7])
def test_nothing_else_may_follow(kind, rest, library):
    with pytest.raises(RktError, match=f"the {kind} data is (followed by something else|cut off)"):
        plain(COMPRESSORS[kind](CONTENT) + rest)


def test_padding_of_xz_is_allowed():
    data = lzma.compress(CONTENT)
    assert plain(data + bytes(8) + data + bytes(4)) == CONTENT * 2


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_damage_is_noticed(kind, library):
    data = bytearray(COMPRESSORS[kind](CONTENT))
    for position in range(20, len(data), 211):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(RktError, match=f"the {kind} data is"):
            plain(bytes(damaged))


@pytest.mark.promise("P4")
@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.attack(6)
def test_a_bomb_takes_neither_disk_nor_memory(kind, library):
    size = (256 if kind in ("gzip", "zstd") else 64) << 20
    bomb = gzip.compress(bytes(size), 1) if kind == "gzip" else COMPRESSORS[kind](bytes(size))
    assert len(bomb) < size // 200
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RktError, match="the content is larger than 1000000 bytes"):
        plain(bomb, limit=1_000_000)
    reader = compression.open_reader(io.BytesIO(bomb))
    assert sum(iter(lambda: len(reader.read(1 << 20)), 0)) == size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_errors_of_the_source_pass_through():
    class Broken:
        def read(self, _: int) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        compression.open_reader(Broken())
