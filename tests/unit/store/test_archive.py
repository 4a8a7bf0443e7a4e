from __future__ import annotations

import io
import subprocess
import tarfile

import pytest

from rkt.errors import RktError
from rkt.store import archive, headers, pax
from rkt.store.archive_writer import _header


def block(name: bytes = b"f", flag: bytes = b"0", **fields) -> bytes:
    """One header; ``patch`` puts bytes somewhere and mends the checksum."""
    patch = fields.pop("patch", {})
    data = bytearray(_header(name, flag, **{"size": 0, "mode": 0o644, "mtime": 0, **fields}))
    for position, value in patch.items():
        data[position : position + len(value)] = value
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


END = bytes(1024)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def extended(*records: tuple[str, bytes], flag: bytes = b"x") -> bytes:
    body = pax.build(list(records))
    return block(b"x", flag, size=len(body)) + padded(body)


def entries(data: bytes, **options) -> list[archive.Entry]:
    return list(archive.Reader(io.BytesIO(data), **options))


def only(data: bytes, **options) -> archive.Entry:
    (entry,) = entries(data + END, **options)
    return entry


def test_fields_of_a_header():
    entry = only(
        block(
            b"n", b"3", mode=0o4755, mtime=99, owner=(5, 6), device=(1, 3), prefix=b"some/dir", linkname=b"l"
        )
    )
    assert (entry.name, entry.type, entry.mode, entry.uid, entry.gid) == (
        "some/dir/n",
        "character",
        0o4755,
        5,
        6,
    )
    assert (entry.mtime_ns, entry.devmajor, entry.devminor) == (99_000_000_000, 1, 3)
    assert entry.linkname == ""


def test_types():
    types = {b"0": "file", b"\0": "file", b"7": "file", b"1": "link", b"2": "symlink", b"3": "character"}
    types |= {b"4": "block", b"5": "directory", b"6": "fifo"}
    for flag, type in types.items():
        assert only(block(flag=flag)).type == type
    assert only(block(b"old/", b"\0")).type == "directory"
    for flag in (b"s", b"M", b"N", b"A", b"Z", b"\xff"):
        with pytest.raises(RktError, match="unknown type"):
            only(block(flag=flag))


def test_only_files_have_bodies():
    for flag in b"123456":
        assert len(entries(block(flag=bytes([flag]), size=512) + block(b"next") + END)) == 2


def test_numbers():
    assert headers.number(b"0000644\0") == 0o644
    assert headers.number(b"   644 \0") == 0o644
    assert headers.number(b"77777777") == 0o77777777
    assert headers.number(b"644\0junk") == 0o644
    assert headers.number(b"\0" * 8) == archive.number(b" " * 8) == 0
    assert headers.number(b"\x80" + (1 << 40).to_bytes(11, "big")) == 1 << 40
    assert headers.number(b"\xff" * 12) == -1
    for text in (
        b"0000_644",
        b"-0000644",
        b"+0000644",
        b"0o000644",
        b"00000648",
        b"x\0\0\0\0\0\0\0",
        b"6 4 4\0\0\0",
    ):
        with pytest.raises(RktError, match="no octal number"):
            headers.number(text)


def test_negative_time_and_large_owner_in_binary():
    negative = (1 << 96) - 5
    entry = only(
        block(patch={136: negative.to_bytes(12, "big"), 108: b"\x80" + (3 << 30).to_bytes(7, "big")})
    )
    assert entry.mtime_ns == -5_000_000_000
    assert entry.uid == 3 << 30
    with pytest.raises(RktError, match="negative size or owner"):
        only(block(patch={124: b"\xff" * 12}))


def test_checksum():
    data = bytearray(block())
    data[0] = ord("g")
    with pytest.raises(RktError, match="no header of a tar archive at offset 0"):
        entries(bytes(data) + END)
    odd = bytearray(block(b"\xff" * 20))
    signed = sum(byte - 256 if byte > 127 else byte for byte in odd[:148] + b" " * 8 + odd[156:])
    odd[148:156] = b"%06o\0 " % signed
    assert only(bytes(odd)).name == "\udcff" * 20
    for junk in (b"\x1f\x8b" + bytes(range(256)) * 40, b"#!/bin/sh\n" * 100):
        with pytest.raises(RktError, match="octal|checksum"):
            entries(junk)


@pytest.mark.promise("P4")
def test_cut_off_at_every_place():
    whole = block(b"a", size=700) + padded(b"x" * 700) + extended(("path", b"p" * 300)) + block(b"b") + END
    assert len(entries(whole)) == 2
    for length in range(len(whole)):
        with pytest.raises(RktError, match="cut off|ends after"):
            entries(whole[:length])
        with pytest.raises(RktError, match="cut off|ends after"):
            entries(whole[:length], seek=True)


def test_end_of_the_archive():
    file = block(b"a", size=5) + padded(b"12345")
    assert len(entries(file, end_marker=False)) == 1
    assert len(entries(file + END + b"rest that is no tar")) == 1
    with pytest.raises(RktError, match="empty block in the middle"):
        entries(file + bytes(512) + file + END)
    assert entries(END) == []
    with pytest.raises(RktError, match="cut off at offset 0"):
        entries(b"")


def test_the_source_is_read_to_its_end():
    source = io.BytesIO(block() + END + bytes(1_000_000))
    list(archive.Reader(source))
    assert source.read() == b""


def test_bodies_by_pieces_and_by_read():
    content = bytes(range(256)) * 4000
    data = block(b"a", size=len(content)) + padded(content) + block(b"b", size=3) + padded(b"xyz") + END
    reader = archive.Reader(io.BytesIO(data))
    first = next(reader)
    assert first.offset == 512
    assert reader.read(1000) + reader.read(3) + reader.read() == content
    assert reader.read() == reader.read(5) == b""
    next(reader)
    assert reader.read(100) == b"xyz"
    assert list(reader) == []
    reader = archive.Reader(io.BytesIO(data))
    next(reader)
    assert b"".join(bytes(piece) for _, piece in reader.pieces()) == content
    reader = archive.Reader(io.BytesIO(data))
    next(reader)
    reader.read(700_001)
    assert [entry.name for entry in reader] == ["b"]


def test_seeking_reads_headers_only():
    class Counting(io.BytesIO):
        total = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.total += len(data)
            return data

    big = block(b"a", size=50 << 20) + bytes(50 << 20) + block(b"b") + END
    source = Counting(big)
    assert [entry.name for entry in archive.Reader(source, seek=True)] == ["a", "b"]
    assert source.total < 1 << 20


def test_extended_headers():
    data = extended(
        ("path", "dir/ü\n".encode()),
        ("size", b"3"),
        ("uid", b"4000000000"),
        ("gid", b"7"),
        ("mtime", b"-1.5"),
        ("SCHILY.xattr.user.a=b", b""),
        ("SCHILY.xattr.user.x", b"\0\n=\xff"),
        ("comment", b"ignored"),
        ("VENDOR.key", b"ignored"),
    )
    entry = only(data + block(size=0) + padded(b"abc"))
    assert (entry.name, entry.size, entry.uid, entry.gid) == ("dir/ü\n", 3, 4_000_000_000, 7)
    assert entry.mtime_ns == -1_500_000_000
    assert entry.xattrs == {"user.a": b"b=", "user.x": b"\0\n=\xff"}


def test_times_are_exact():
    for text, expected in {
        b"1.000000001": 1_000_000_001,
        b"1.0000000019": 1_000_000_001,
        b"12.": 12_000_000_000,
        b"-0.000000001": -1,
        b"99999999999": 99_999_999_999 * 10**9,
    }.items():
        assert pax.nanoseconds(text, "mtime") == expected
    for text in (b"", b"-", b".5", b"1e3", b"1.5.5", b"+1", b"1 ", b"nan", b"1" * 19):
        with pytest.raises(RktError, match="no time"):
            pax.nanoseconds(text, "mtime")


def test_global_headers_hold_until_taken_back():
    data = extended(("uid", b"9"), ("comment", b"c"), flag=b"g") + block(b"a", owner=(1, 1))
    data += extended(("uid", b"")) + block(b"b", owner=(2, 2)) + block(b"c", owner=(3, 3)) + END
    assert [entry.uid for entry in entries(data)] == [9, 2, 9]


def test_long_names_of_gnu():
    data = block(b"x", b"L", size=301) + padded(b"n" * 300 + b"\0")
    data += block(b"x", b"K", size=201) + padded(b"l" * 200 + b"\0") + block(b"short", b"2")
    entry = only(data)
    assert (entry.name, entry.linkname) == ("n" * 300, "l" * 200)
    assert only(extended(("path", b"p")) + data).name == "p"
    for kind in (b"L", b"K"):
        for body in (b"\0", b"\0name\0"):
            with pytest.raises(RktError, match="for a long name holds none"):
                only(block(b"x", kind, size=len(body)) + padded(body) + block(b"short", b"2"))


@pytest.mark.promise("P4")
@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([("path", b"a\0b")], "NUL in an extended header"),
        ([("linkpath", b"\0")], "NUL in an extended header"),
        ([("size", b"-1")], "no number"),
        ([("size", b"9223372036854775808")], "no number"),
        ([("size", b"1_0")], "no number"),
        ([("uid", b"1.5")], "no number"),
        ([("mtime", b"yesterday")], "no time"),
        ([("hdrcharset", b"EBCDIC")], "unknown charset"),
        ([("SCHILY.xattr.user.\0x", b"v")], "NUL in the name"),
        ([("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")], "unknown format 2.0"),
    ],
)
@pytest.mark.attack(6)
def test_extended_headers_that_lie(records, message):
    with pytest.raises(RktError, match=message):
        only(extended(*records) + block())


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        b"6 a=\n",
        b"99 a=b\n",
        b"0 a=b\n",
        b"6 a=bb",
        b"5 ab\n",
        b" 6 a=b\n",
        b"-6 a=b\n",
        b"6  a=b",
        b"4 =\n\n",
    ],
)
def test_damaged_extended_headers(body):
    with pytest.raises(RktError, match="extended header of the archive is damaged"):
        only(block(b"x", b"x", size=len(body)) + padded(body) + block())


@pytest.mark.promise("P4")
@pytest.mark.attack(6)
def test_limits():
    def refused(data: bytes, message: str, **limits: int) -> None:
        with pytest.raises(RktError, match=message):
            entries(data + END, limits=archive.Limits(**limits))

    refused(block() * 11, "more than 10 entries", entries=10)
    refused((block(size=600) + bytes(1024)) * 2, "larger than 1000 bytes", total=1000)
    refused(extended(("size", b"%d" % (1 << 50))) + block(), "larger than 274877906944 bytes")
    refused(extended(("path", b"dd" * 2048)) + block(), "longer than 4095 bytes")
    refused(extended(("path", "ü".encode() * 2048)) + block(), "longer than 4095 bytes")
    assert len(only(extended(("path", "ü".encode() * 2047)) + block()).name) == 2047
    refused(extended(("linkpath", b"l" * 4096)) + block(flag=b"2"), "longer than 4095 bytes")
    refused(block(flag=b"x", size=(1 << 20) + 1) + block(), "extended header of 1048577 bytes")
    refused(block(flag=b"L", patch={124: b"\x80" + (1 << 62).to_bytes(11, "big")}), "extended header of")
    refused(extended(("comment", b"x")) * 200 + block(), "too many extended headers")
    globals_ = b"".join(extended((f"key{number}", b"x"), flag=b"g") + block() for number in range(100))
    refused(globals_, "too many global headers")
    refused(block(b""), "has no name")


def test_a_manifest_cannot_hide_in_an_extended_header():
    with pytest.raises(RktError, match="ends after an extended header"):
        entries(extended(("path", b"x")) + END)


@pytest.mark.parametrize(
    "options",
    [["-H", "gnu"], *(["-H", "pax", f"--sparse-version={version}"] for version in ("0.0", "0.1", "1.0"))],
)
def test_sparse_files_of_gnu_tar(tmp_path, options):
    size = 20_000_000
    with open(tmp_path / "s", "wb") as file:
        for number in range(60):
            file.seek(number * 200_000)
            file.write(b"data%d" % number * 1000)
        file.truncate(size)
    data = subprocess.run(
        ["tar", "-C", tmp_path, "-S", *options, "-c", "s"], capture_output=True, check=True
    ).stdout
    assert len(data) < 2_000_000
    reader = archive.Reader(io.BytesIO(data))
    entry = next(reader)
    assert (entry.name, entry.type, entry.size) == ("s", "file", size)
    content = bytearray(size)
    for offset, piece in reader.pieces():
        content[offset : offset + len(piece)] = piece
    assert content == (tmp_path / "s").read_bytes()
    assert list(reader) == []


@pytest.mark.promise("P4")
@pytest.mark.parametrize(
    ("size", "stored", "pieces", "message"),
    [
        (100, 10, b"0,10,5,0", "overlap"),
        (100, 20, b"10,10,0,10", "overlap"),
        (100, 10, b"95,10", "does not fit"),
        (100, 10, b"0,5", "does not fit"),
        (100, 10, b"0", "is damaged"),
        (100, 10, b"0,x", "no number"),
        (1 << 50, 10, b"0,10", "larger than"),
        (100, 10, b",".join([b"0,0"] * 100_001), "too many pieces"),
    ],
)
@pytest.mark.attack(6)
def test_sparse_maps_that_lie(size, stored, pieces, message):
    header = extended(
        ("GNU.sparse.map", pieces), ("GNU.sparse.size", b"%d" % size), ("GNU.sparse.name", b"s")
    )
    with pytest.raises(RktError, match=message):
        only(header + block(size=stored) + padded(bytes(stored)))


@pytest.mark.promise("P4")
@pytest.mark.parametrize("body", [b"x\n", b"1\n0\n", b"99999999\n", b"2\n0\n5\n", b"1" * 600, b"1\n0\n512\n"])
def test_sparse_maps_before_the_content_that_lie(body):
    header = extended(
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"100"),
        ("GNU.sparse.name", b"s"),
    )
    with pytest.raises(RktError, match="sparse|no number"):
        only(header + block(size=len(padded(body))) + padded(body))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_writers_of_python(format):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for name in ("plain", "d/" + "x" * 90 + "/" + "y" * 60, "byte\udcff"):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid, info.gid = 3, 5, 1000, 1001
            tar.addfile(info, io.BytesIO(b"abc"))
    reader = archive.Reader(io.BytesIO(out.getvalue()))
    names = []
    for entry in reader:
        names.append(entry.name)
        assert (entry.size, entry.mtime_ns, entry.uid, entry.gid) == (3, 5_000_000_000, 1000, 1001)
        assert reader.read() == b"abc"
    assert names == ["plain", "d/" + "x" * 90 + "/" + "y" * 60, "byte\udcff"]
