"""The copy of a signed file: what is kept, and that trouble with it is no trouble for the image."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os

import pytest

from rkt.linux import files
from rkt.store import signature
from rkt.store.directories import Directories
from rkt.store.signature import SignedCopy

KEY = "sha512-" + "ab" * 32
FILE = gzip.compress(b"content " * 1000, mtime=0)


@pytest.fixture
def places(tmp_path: os.PathLike[str]) -> Directories:
    made = Directories(os.path.join(os.fspath(tmp_path), "data"))
    made.make()
    return made


def feed(copy: SignedCopy, data: bytes, piece: int) -> None:
    for at in range(0, len(data), piece):
        copy.feed(data[at : at + piece])
    copy.feed(b"")


@pytest.mark.parametrize("piece", [1, 5, 7, 4096, 1 << 20])
def test_compressed_file_is_kept(places: Directories, piece: int) -> None:
    with SignedCopy(places) as copy:
        feed(copy, FILE, piece)
        copy.keep(KEY)
    assert copy.covers() == f"sha256:{hashlib.sha256(FILE).hexdigest()}"
    with open(places.signed(KEY), "rb") as file:
        assert file.read() == FILE
    assert os.listdir(places.temporary) == []


@pytest.mark.parametrize("data", [b"", b"x", b"\x1f", b"plain text, or a tar archive", bytes(1000)])
def test_other_files_are_not(places: Directories, data: bytes) -> None:
    with SignedCopy(places) as copy:
        feed(copy, data, 4)
        copy.keep(KEY)
    assert copy.covers() == ""
    assert not os.path.exists(places.signed(KEY))


def test_nothing_is_left_of_an_image_that_was_refused(places: Directories) -> None:
    with SignedCopy(places) as copy:
        feed(copy, FILE, 100)
    assert os.listdir(places.temporary) == []


@pytest.mark.promise("P6")
@pytest.mark.parametrize("step", ["open", "room", "write", "rename"])
def test_full_disk_costs_the_copy_only(
    places: Directories, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The digest is known all the same: nobody takes another file for the one that was signed."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    if step == "open":
        monkeypatch.setattr(signature, "TemporaryFile", full)
    elif step == "room":
        # Nobody has reported an error yet, but the image needs what is left.
        few = os.statvfs_result((4096, 4096, 1000, 1000, 1000, 0, 0, 0, 0, 255))
        monkeypatch.setattr(os, "fstatvfs", lambda _: few)
    elif step == "write":
        monkeypatch.setattr(files, "write_all", full)
    else:
        monkeypatch.setattr(os, "rename", full)
    with SignedCopy(places) as copy:
        feed(copy, FILE, 1000)
        copy.keep(KEY)
    assert copy.covers() == f"sha256:{hashlib.sha256(FILE).hexdigest()}"
    assert not os.path.exists(places.signed(KEY))
    assert os.listdir(places.temporary) == []
