"""Our reader and writer against other implementations: tarfile and GNU tar."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rkt.errors import RktError
from rkt.store import archive, pax
from rkt.store.archive import Entry, Reader, Writer
from rkt.store.extract import Extractor
from support import machine

letters = st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"])
component = st.one_of(
    st.text(letters, min_size=1, max_size=40), st.sampled_from(["a", "n" * 99, "n" * 200, "ü" * 60])
).filter(lambda text: text not in (".", "..") and len(os.fsencode(text)) <= 255)
path = st.lists(component, min_size=1, max_size=5).map("/".join)
ids = st.one_of(st.integers(0, 70_000), st.integers(0, 2**32 - 2))
seconds = st.one_of(st.integers(0, 2**33), st.integers(-(2**31), 2**40))
content = st.one_of(st.binary(max_size=600), st.integers(0, 300_000).map(bytes))
TYPES = {
    archive.FILE: tarfile.REGTYPE,
    archive.SYMLINK: tarfile.SYMTYPE,
    archive.LINK: tarfile.LNKTYPE,
    archive.DIRECTORY: tarfile.DIRTYPE,
    archive.FIFO: tarfile.FIFOTYPE,
    archive.CHARACTER: tarfile.CHRTYPE,
    archive.BLOCK_DEVICE: tarfile.BLKTYPE,
}


@st.composite
def members(draw, *, fraction: bool = True):
    type = draw(st.sampled_from([archive.FILE, archive.FILE, *TYPES]))
    body = draw(content) if type == archive.FILE else b""
    entry = Entry(
        draw(path),
        type,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(ids),
        gid=draw(ids),
        size=len(body),
        mtime_ns=draw(seconds) * 10**9 + (draw(st.integers(0, 10**9 - 1)) if fraction else 0),
        linkname=draw(path) if type in (archive.LINK, archive.SYMLINK) else "",
        devmajor=draw(st.integers(0, 4095)) if type in (archive.CHARACTER, archive.BLOCK_DEVICE) else 0,
        devminor=draw(st.integers(0, 2**18)) if type in (archive.CHARACTER, archive.BLOCK_DEVICE) else 0,
        xattrs=draw(
            st.dictionaries(
                st.sampled_from(["user.a", "user.ü", "security.capability"]), st.binary(max_size=40)
            )
        ),
    )
    return entry, body


def described(entry: Entry) -> tuple[object, ...]:
    device = (entry.devmajor, entry.devminor)
    name = entry.name.rstrip("/")
    owner = (entry.mode, entry.uid, entry.gid, entry.size)
    return name, entry.type, *owner, entry.mtime_ns, entry.linkname, device, entry.xattrs


def write(chosen) -> bytes:
    out = io.BytesIO()
    with Writer(out) as writer:
        for entry, body in chosen:
            writer.add(entry, body)
    return out.getvalue()


@given(st.lists(members(), max_size=6))
def test_we_read_what_we_write(chosen):
    reader = Reader(io.BytesIO(write(chosen)))
    for entry, body in chosen:
        found = next(reader)
        assert described(found) == described(entry)
        assert reader.read() == body
    assert list(reader) == []


@given(st.lists(members(fraction=False), max_size=6))
def test_tarfile_reads_what_we_write(chosen):
    with tarfile.open(fileobj=io.BytesIO(write(chosen))) as tar:
        found = tar.getmembers()
        assert len(found) == len(chosen)
        for (entry, body), info in zip(chosen, found, strict=True):
            assert (info.name, info.type) == (entry.name, TYPES[entry.type])
            assert (info.mode, info.uid, info.gid, info.size) == (
                entry.mode,
                entry.uid,
                entry.gid,
                entry.size,
            )
            assert int(info.mtime) * 10**9 == entry.mtime_ns
            assert (info.linkname, info.devmajor, info.devminor) == (
                entry.linkname,
                entry.devmajor,
                entry.devminor,
            )
            if entry.type == archive.FILE:
                extracted = tar.extractfile(info)
                assert extracted is not None
                assert extracted.read() == body


@given(
    st.lists(members(fraction=False), max_size=6), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
)
def test_we_read_what_tarfile_writes(chosen, format):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for entry, body in chosen:
            info = tarfile.TarInfo(entry.name)
            info.type, info.mode, info.uid, info.gid = TYPES[entry.type], entry.mode, entry.uid, entry.gid
            info.size, info.mtime, info.linkname = entry.size, entry.mtime_ns // 10**9, entry.linkname
            info.devmajor, info.devminor = entry.devmajor, entry.devminor
            tar.addfile(info, io.BytesIO(body))
    reader = Reader(io.BytesIO(out.getvalue()))
    for entry, body in chosen:
        found = next(reader)
        entry.xattrs = {}
        assert described(found) == described(entry)
        assert reader.read() == body
    assert list(reader) == []


@given(st.lists(st.tuples(st.text(letters.filter(lambda c: c != "="), min_size=1), st.binary()), max_size=8))
def test_extended_headers_round_trip(records):
    assert pax.parse(pax.build(records)) == records


@pytest.mark.promise("P4")
@settings(max_examples=400)
@given(st.lists(members(), min_size=1, max_size=3), st.data())
def test_damage_gives_entries_or_an_error_of_ours(chosen, data):
    """No other exception, no endless loop and no body beyond the archive."""
    raw = bytearray(write(chosen))
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        # Mend the checksum, so that the damage gets beyond it.
        raw[148:156] = b" " * 8
        raw[148:156] = b"%06o\0 " % sum(raw[:512])
    seen = []
    for seek in (False, True):
        names = []
        try:
            reader = Reader(io.BytesIO(bytes(raw)), seek=seek)
            for entry in reader:
                names.append(entry.name)
                if not seek:
                    assert sum(len(piece) for _, piece in reader.pieces()) <= len(raw)
        except RktError as error:
            names.append(str(error)[:20])
        seen.append(names)
    assert seen[0][:-1] == seen[1][: len(seen[0]) - 1]


@st.composite
def trees(draw):
    """Entries that make a consistent tree: parents are directories, links lead to files before them."""
    chosen = []
    used = {""}
    directories = [""]
    plain = []
    for _ in range(draw(st.integers(1, 10))):
        parent = draw(st.sampled_from(directories))
        name = (parent + "/" if parent else "") + draw(component)
        if name in used or len(os.fsencode(name)) > 900:
            continue
        used.add(name)
        entry, body = draw(members())
        entry.name, entry.uid, entry.gid = name, entry.uid % 70_000, entry.gid % 70_000
        entry.mtime_ns = draw(st.integers(-(2**31), 2**33)) * 10**9 + 1000 * draw(st.integers(0, 999))
        entry.xattrs = {key: value for key, value in entry.xattrs.items() if key == "user.a"}
        if entry.type not in (archive.FILE, archive.DIRECTORY):
            entry.xattrs = {}
        if entry.type == archive.LINK:
            if not plain:
                continue
            entry.linkname = draw(st.sampled_from(plain))
        elif entry.type == archive.FILE:
            plain.append(name)
        elif entry.type == archive.DIRECTORY:
            directories.append(name)
        elif entry.type in (archive.CHARACTER, archive.BLOCK_DEVICE):
            entry.devmajor = entry.devmajor % 255 + 1
        chosen.append((entry, body))
    return chosen


def state(directory: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, facts in machine.tree(directory).items():
        status = os.lstat(name)
        content: object = None
        if os.path.isfile(name) and not os.path.islink(name):
            with open(name, "rb") as file:
                content = file.read()
        attributes = {key: os.getxattr(name, key) for key in os.listxattr(name, follow_symlinks=False)}
        extra = (status.st_mtime_ns, status.st_rdev, status.st_nlink, content, attributes)
        found[os.path.relpath(name, directory)] = (facts, extra)
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees())
def test_gnu_tar_unpacks_the_same_tree(chosen):
    """Names, types, owners, modes, times in nanoseconds, links, devices, content and attributes."""
    raw = write(chosen)
    top = tempfile.mkdtemp(prefix="rkt-archive-")
    try:
        for name in ("ours", "theirs"):
            os.mkdir(f"{top}/{name}")
        with open(f"{top}/a.tar", "wb") as file:
            file.write(raw)
        command = ["tar", "-xpf", f"{top}/a.tar", "-C", f"{top}/theirs", "--xattrs", "--xattrs-include=*"]
        command += ["--numeric-owner", "--warning=no-timestamp", "--delay-directory-restore"]
        subprocess.run(
            command, check=True, capture_output=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        )
        target = os.open(f"{top}/ours", os.O_RDONLY)
        try:
            Extractor(target, strip="").extract(Reader(io.BytesIO(raw)))
        finally:
            os.close(target)
        assert state(f"{top}/ours") == state(f"{top}/theirs")
    finally:
        shutil.rmtree(top)
