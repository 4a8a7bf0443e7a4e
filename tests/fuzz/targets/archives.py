"""Archives: reading beside tarfile, unpacking beside canaries, decompression beside other libraries."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zlib

import zstandard

from fuzz.target import Target, Words, check_message
from rkt.errors import RktError
from rkt.store import archive, compression
from rkt.store.archive import Entry, Limits, Reader, Writer
from rkt.store.extract import Extractor
from rkt.store.layout import ImageLayout
from support import aci, oci

# --- the reader -------------------------------------------------------------------------------------------

_TYPES = {
    archive.FILE: (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE),
    archive.SYMLINK: (tarfile.SYMTYPE,),
    archive.LINK: (tarfile.LNKTYPE,),
    archive.DIRECTORY: (tarfile.DIRTYPE, b"D"),
    archive.FIFO: (tarfile.FIFOTYPE,),
    archive.CHARACTER: (tarfile.CHRTYPE,),
    archive.BLOCK_DEVICE: (tarfile.BLKTYPE,),
}
_LIMITS = Limits(entries=500, total=1 << 40, segments=1000)


def _read(data: bytes, *, seek: bool) -> list[tuple[Entry, bytes | None]] | None:
    """Entries with the content of plain files; None when the archive is refused."""
    found: list[tuple[Entry, bytes | None]] = []
    image = ImageLayout()
    reader = Reader(io.BytesIO(data), limits=_LIMITS, seek=seek)
    try:
        for entry in reader:
            if seek:
                found.append((entry, None))
                continue
            content = bytearray()
            last = 0
            for offset, piece in reader.pieces():
                assert offset >= last, "pieces out of order"
                last = offset + len(piece)
                # The body of a directory, which GNU's incremental archives have, is no content.
                assert last <= entry.size or entry.type != archive.FILE, "a piece beyond the end"
                content += piece
            assert len(content) == entry.stored <= len(data)
            found.append((entry, bytes(content)))
            _layout(image, entry)
    except RktError as error:
        check_message(error)
        return None
    return found


def _layout(image: ImageLayout, entry: Entry) -> None:
    if entry.name != "manifest":
        try:
            image.check_entry(entry, Reader(io.BytesIO()))
        except RktError as error:
            check_message(error)


def read(data: bytes) -> None:
    """Streaming and seeking agree; what we accept, tarfile reads the same way."""
    streamed = _read(data, seek=False)
    sought = _read(data, seek=True)
    if streamed is not None:
        assert sought is not None, "seeking refuses what streaming reads"
        assert [_shape(entry) for entry, _ in streamed] == [_shape(entry) for entry, _ in sought]
        _compare(data, streamed)


def _shape(entry: Entry) -> tuple[object, ...]:
    owner = (entry.mode, entry.uid, entry.gid)
    return entry.name, entry.type, entry.size, entry.linkname, owner, entry.mtime_ns, sorted(entry.xattrs)


def _compare(data: bytes, ours: list[tuple[Entry, bytes | None]]) -> None:
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", errors="surrogateescape") as tar:
            theirs = tar.getmembers()
            bodies = [_body(tar, info) for info in theirs]
    except (tarfile.TarError, ValueError, OverflowError, EOFError, KeyError, IndexError):
        # It reads less than we do, or breaks.
        return
    assert len(theirs) <= len(ours), "tarfile finds more entries"
    for (entry, content), info, body in zip(ours, theirs, bodies, strict=False):
        if entry.segments is not None or info.sparse is not None:
            # Damaged maps of sparse files are read otherwise there; tests/property asks GNU tar.
            return
        assert _same(entry.name, info.name), (entry.name, info.name)
        assert info.type in _TYPES[entry.type], (entry.type, info.type)
        if entry.type == archive.FILE:
            assert content == body, (len(content or b""), len(body))
        elif entry.type in (archive.LINK, archive.SYMLINK):
            assert _same(entry.linkname, info.linkname), (entry.linkname, info.linkname)


def _same(ours: str, theirs: str) -> bool:
    """tarfile reads a long name of GNU tar up to a NUL, even beyond its size.

    It also takes the field of the prefix for one where the header is not of the kind that has it.
    """
    mine, other = ours.strip("/"), theirs.strip("/")
    return other.startswith(mine) or other.endswith("/" + mine)


def _body(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    if not info.isreg() or info.sparse is not None:
        return b""
    file = tar.extractfile(info)
    return file.read() if file is not None else b""


def _archives() -> list[bytes]:
    layer = oci.tar(
        [
            oci.directory("a"),
            oci.file("a/f", b"content", xattrs={"user.x": b"1"}),
            oci.link("a/g", "a/f"),
            oci.symlink("a/l", "/etc/passwd"),
            oci.device("a/d", 1, 3),
            oci.fifo("a/p"),
            oci.file("n" * 120 + "/" + "m" * 130, b"x"),
        ]
    )
    image = aci.tar_bytes(aci.manifest("example.com/a"), [aci.directory("d"), aci.Entry("d/f", b"1")])
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo("l" * 150)
        info.uid, info.mtime, info.linkname, info.type = 2**30, -1, "k" * 150, tarfile.SYMTYPE
        tar.addfile(info)
    return [layer, image, out.getvalue(), _sparse(), layer[:1024] + bytes(1024)]


def _sparse() -> bytes:
    """PAX sparse formats 0.1 and 1.0."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("s1")
        body = b"1\n5\n3\n".ljust(512, b"\0") + b"abc"
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "s1",
            "GNU.sparse.realsize": "20",
        }
        info.size = len(body)
        tar.addfile(info, io.BytesIO(body))
        info = tarfile.TarInfo("s0")
        info.pax_headers = {"GNU.sparse.map": "5,3", "GNU.sparse.size": "20", "GNU.sparse.name": "s0"}
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    return out.getvalue()


class Mended:
    """Makes header checksums right before the reader sees them, so that mutations get beyond them."""

    @staticmethod
    def run(data: bytes) -> None:
        made = bytearray(data[: len(data) // 512 * 512])
        for at in range(0, len(made), 512):
            block = made[at : at + 512]
            if block[257:262] == b"ustar":
                block[148:156] = b" " * 8
                made[at + 148 : at + 156] = b"%06o\0 " % sum(block)
        read(bytes(made) + data[len(made) :])


# --- the extractor ----------------------------------------------------------------------------------------

_PARTS = (
    "a", "b", "c", "d", "..", ".", "", "rootfs", "manifest", "x" * 255, "x" * 256, "new\nline", "\udcff",
    ".wh.a", "/", "proc", "self", "fd", "0", "\\", "%s", " ",
)  # fmt: skip
_KINDS = tuple(_TYPES)
# A directory, a file in it, links of both kinds: kind, [size], name, mode, owner, time, attributes, [target].
_FILES = bytes(
    [0, 3, 0, 1, 1, 0, 0, 0, 0, 3, 1, 1, 0, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1]
)
_ATTRIBUTES = (
    {},
    {"user.a": b"1"},
    {"security.capability": oci.CAPABILITY},
    {"trusted.overlay.opaque": b"y", "user.overlay.whiteout": b"y"},
    {"security.selinux": b"x", "system.posix_acl_access": b"\2\0\0\0"},
    {"user." + "n" * 300: b"1"},
    {"user.big": b"v" * 70_000},
)


class Playground:
    """A directory to unpack into, beside things that must stay as they are."""

    def __init__(self) -> None:
        self.top = tempfile.mkdtemp(prefix="rkt-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.outside = os.path.join(self.top, "outside")
        os.makedirs(os.path.join(self.outside, "directory"))
        for name in ("file", "directory/inner"):
            with open(os.path.join(self.outside, name), "w") as file:
                file.write("canary")
        self.target = os.path.join(self.top, "target")
        os.mkdir(self.target)
        self.before = self.state()

    def state(self) -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = [(sorted(os.listdir(self.top)),)]
        for parent, directories, names in os.walk(self.outside):
            for name in (*directories, *names):
                path = os.path.join(parent, name)
                status = os.lstat(path)
                facts = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_size)
                found.append((path, *facts, status.st_mtime_ns, status.st_ino, os.listxattr(path)))
        return sorted(found, key=str)

    def close(self) -> None:
        shutil.rmtree(self.top)


def _name(words: Words, outside: str) -> str:
    kind = words.byte()
    if kind == 255:
        return outside + "/file"
    parts = [words.choice(_PARTS) for _ in range(kind % 4 + 1)]
    return ("/" if kind & 32 else "") + "/".join(parts)


def _entries(words: Words, outside: str) -> list[tuple[Entry, bytes]]:
    made = []
    while words and len(made) < 40:
        kind = words.choice(_KINDS)
        body = bytes(words.byte() % 8) if kind == archive.FILE else b""
        entry = Entry(_name(words, outside) or "a", kind, size=len(body))
        entry.mode = words.choice((0o644, 0o755, 0o7777, 0, 0o4755))
        entry.uid = entry.gid = words.choice((0, 1, 1000, 2**32 - 2, 2**31))
        entry.mtime_ns = words.choice((0, -1, 10**18, -(2**62), 2**66))
        entry.xattrs = dict(words.choice(_ATTRIBUTES))
        if kind in (archive.LINK, archive.SYMLINK):
            entry.linkname = _name(words, outside) or "a"
        if kind in (archive.CHARACTER, archive.BLOCK_DEVICE):
            entry.devmajor, entry.devminor = words.choice(((0, 0), (1, 3), (4095, 2**20 - 1)))
        made.append((entry, body))
    return made


def extract(data: bytes) -> None:
    """Whatever an archive holds, what is beside the target stays, and the target can be removed."""
    words = Words(data)
    options = words.byte()
    place = Playground()
    try:
        target = os.open(place.target, os.O_RDONLY | os.O_DIRECTORY)
        try:
            shift = (100_000, 65536) if options & 1 else None
            for _ in range(1 + (options >> 1 & 1)):
                out = io.BytesIO()
                with Writer(out) as writer:
                    for entry, body in _entries(words, place.outside):
                        writer.add(entry, body)
                out.seek(0)
                strip = "rootfs" if options & 4 else ""
                Extractor(target, strip=strip, owner=not options & 8, shift=shift).extract(Reader(out))
        finally:
            os.close(target)
            assert place.state() == place.before, "something beside the target changed"
        _check_tree(place.target, shift)
    finally:
        place.close()


def _check_tree(top: str, shift: tuple[int, int] | None) -> None:
    """No sign of overlayfs, no owner outside of the user namespace."""
    for parent, directories, names in os.walk(top):
        for name in (*directories, *names):
            path = os.path.join(parent, name)
            status = os.lstat(path)
            assert not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0), f"{path} is a whiteout"
            for attribute in os.listxattr(path, follow_symlinks=False):
                kept = attribute.startswith("user.") or attribute == "security.capability"
                assert kept and not attribute.startswith("user.overlay."), attribute
            if shift and os.geteuid() == 0 and not stat.S_ISLNK(status.st_mode):
                assert status.st_uid in (0, *range(shift[0], sum(shift))), path


# --- decompression ----------------------------------------------------------------------------------------

_BOUND = 1 << 20


def decompress(data: bytes) -> None:
    """Bounded, and equal to what the library makes of a whole stream."""
    reader = compression.open_reader(io.BytesIO(data), limit=_BOUND)
    made = bytearray()
    while piece := reader.read():
        made += piece
        assert len(made) <= _BOUND
    expected = _expected(data, reader.kind)
    if expected is not None:
        assert bytes(made) == expected


def _expected(data: bytes, kind: str) -> bytes | None:
    """What another implementation makes of it; None where it refuses or has another view of what follows."""
    try:
        if kind == "gzip":
            return gzip.decompress(data)
        if kind == "bzip2":
            return bz2.decompress(data)
        if kind == "xz":
            return lzma.decompress(data, format=lzma.FORMAT_XZ)
        if kind == "zstd":
            return None
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return None
    return data


def _streams() -> list[bytes]:
    text = b"some text, some text " * 20
    both = gzip.compress(text, mtime=0) + gzip.compress(b"more", mtime=0)
    zstd = zstandard.compress(text)
    skippable = b"\x50\x2a\x4d\x18\4\0\0\0skip" + zstd
    return [both, bz2.compress(text), lzma.compress(text), zstd, skippable, aci.tar_bytes(b"{}", [])[:1024]]


TARGETS = [
    Target("archive", read, _archives, longest=16384, words=[b"ustar\0", b"ustar  \0", b"path=", b"size="]),
    Target(
        "archive-headers", Mended.run, _archives, longest=16384, words=[b"GNU.sparse.map=", b"hdrcharset="]
    ),
    Target(
        "extract",
        extract,
        lambda: [_FILES, bytes([4]) + _FILES[1:], bytes([0, *range(40)])],
        longest=400,
        runs=1500,
    ),
    Target("compression", decompress, _streams, runs=5000),
]
