from __future__ import annotations

import io
import subprocess

import pytest

from rkt.errors import RktError
from rkt.store.archive import Entry, Reader, Writer


def written(*members: tuple[Entry, bytes]) -> bytes:
    out = io.BytesIO()
    with Writer(out) as writer:
        for entry, content in members:
            writer.add(entry, content)
    assert writer.size == len(out.getvalue())
    return out.getvalue()


def test_the_same_entries_give_the_same_bytes():
    member = (Entry("a", size=3, mtime_ns=1, xattrs={"user.b": b"2", "user.a": b"1"}), b"xyz")
    swapped = (Entry("a", size=3, mtime_ns=1, xattrs={"user.a": b"1", "user.b": b"2"}), b"xyz")
    assert written(member) == written(swapped)


def test_plain_entries_need_no_extended_header():
    data = written((Entry("d/" * 60 + "f", mode=0o4755, uid=65534, gid=5, size=5, mtime_ns=10**18), b"12345"))
    assert len(data) == 512 + 512 + 1024


def test_what_gnu_tar_reads(tmp_path):
    data = written(
        (Entry("top", "directory", mode=0o1777, mtime_ns=1_500_000_000 * 10**9), b""),
        (
            Entry("top/" + "n" * 200, size=4, mode=0o4711, uid=3_000_000, gid=8, mtime_ns=-1_500_000_000),
            b"data",
        ),
        (Entry("top/hard", "link", linkname="top/" + "n" * 200), b""),
        (Entry("top/soft", "symlink", linkname="t" * 300), b""),
        (Entry("top/fifo", "fifo", mode=0o600), b""),
        (Entry("top/null", "character", devmajor=1, devminor=3, mode=0o666), b""),
        (Entry("top/\udcfe" + "x" * 120, size=0), b""),
    )
    (tmp_path / "a.tar").write_bytes(data)
    subprocess.run(
        ["tar", "-xpf", "a.tar", "--warning=no-timestamp"], cwd=tmp_path, check=True, capture_output=True
    )
    top = tmp_path / "top"
    long = (top / ("n" * 200)).stat()
    assert (long.st_mode & 0o7777, long.st_uid, long.st_gid, long.st_nlink) == (0o4711, 3_000_000, 8, 2)
    assert long.st_mtime_ns == -1_500_000_000
    assert top.stat().st_mode & 0o7777 == 0o1777
    assert (top / "soft").readlink().name == "t" * 300
    assert (top / "null").stat().st_rdev == 0x103
    assert (top / "fifo").is_fifo()
    assert (top / ("\udcfe" + "x" * 120)).exists()


def test_large_files_and_streams():
    size = 10 << 30
    out = io.BytesIO()
    writer = Writer(out)

    class Endless:
        def read(self, _: int) -> bytes:
            raise EOFError

    with pytest.raises(EOFError):
        writer.add(Entry("big", size=size), Endless())
    (record,) = [line for line in out.getvalue()[512:1024].rstrip(b"\0").split(b"\n") if b"size=" in line]
    assert record == b"%d size=%d" % (len(record) + 1, size)


def test_content_must_fit():
    with pytest.raises(RktError, match="became shorter"):
        Writer(io.BytesIO()).add(Entry("a", size=10), io.BytesIO(b"short"))
    with pytest.raises(RktError, match="5 bytes of content for a file of 10"):
        Writer(io.BytesIO()).add(Entry("a", size=10), b"short")
    for name in ("", "a\0b"):
        with pytest.raises(RktError, match="no name for an archive"):
            Writer(io.BytesIO()).add(Entry(name))
    with pytest.raises(RktError, match="cannot be archived"):
        Writer(io.BytesIO()).add(Entry("a", xattrs={"user.a=b": b""}))


def test_names_that_are_no_text_are_marked():
    data = written((Entry("\udcff" + "x" * 300), b""))
    assert b"hdrcharset=BINARY\n" in data
    assert next(Reader(io.BytesIO(data))).name == "\udcff" + "x" * 300
