"""Images made of unpacked layers: what a crash leaves, what an index of a layer may hold.  Needs root."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import re
import shutil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkt.errors import RktError
from rkt.image.oci import local
from rkt.image.oci.fetch import ContainerFetcher
from rkt.image.oci.files import Directory
from rkt.image.oci.layout import Layout
from rkt.linux.lock import Lock
from rkt.store import collector, layer_index
from rkt.store.entry import DIRECTORY, FILE, SYMLINK, Entry
from rkt.store.layer_files import LayerFile
from rkt.store.store import Store
from rkt.store.unpacked import UnpackedLayers
from support import oci
from support.crash import Crash

HOST = {"os": "linux", "arch": "amd64"}
SHA = bytes(range(32))


def fetch(data_dir: str, layout: oci.Layout, *, render: bool = True) -> str:
    place = local.Place(f"oci:{layout.path}:v1", f"{layout.path}:v1")
    with Store(data_dir) as store, Directory(layout.path) as files:
        fetcher = ContainerFetcher(store, None, host=HOST, render=render)
        return fetcher.fetch(*local.layout_request(place, Layout(files, layout.path)))


def names_below(directory: str) -> set[str]:
    """All that is there, by names without what is random in them."""
    found = {
        os.path.relpath(os.path.join(parent, name), directory)
        for parent, directories, names in os.walk(directory)
        for name in (*directories, *names)
    }
    return {re.sub(r"(import|import-layer)-[0-9a-f]{16}|\.[0-9a-f]+\.new$", "RANDOM", name) for name in found}


def under_way(data_dir: str) -> list[str]:
    found = []
    for name in ("tmp", "unpacked/tmp", "tree"):
        path = os.path.join(data_dir, "cas", name)
        if os.path.isdir(path):
            found += [os.path.join(path, one) for one in os.listdir(path) if one.startswith("import")]
    return found


def collect(store: Store) -> None:
    """Remove what is left over, once the kernel has ended the workers too."""
    for path in under_way(store.places.data):
        if "/unpacked/" in path:
            with Lock.open(path) as lock:
                lock.exclusive()
    collector.collect_leftovers(store)
    store.trees.collect_new()


@pytest.mark.promise("P6")
def test_crash_while_fetching(tmp_path: os.PathLike[str]) -> None:
    base = os.fspath(tmp_path)
    layout = oci.Layout(os.path.join(base, "layout"))
    # One that is not compressed needs one worker less.
    layer = oci.Layer(oci.tar([oci.file("usr/x", b"x"), oci.file("etc/y", b"y")]), "none")
    layout.image("v1", [layer])
    expected = fetch(os.path.join(base, "whole"), layout, render=False)
    before = None
    for number in range(1, 1000):
        data_dir = os.path.join(base, str(number))
        done = Crash(lambda place=data_dir: fetch(place, layout)).at(number)
        left = names_below(data_dir)
        if left == before and not done:
            shutil.rmtree(data_dir, ignore_errors=True)
            continue
        before = left
        with Store(data_dir) as store:
            collect(store)
            assert under_way(data_dir) == [], number
            for info in store.images():
                with store.open_blob(info.key) as blob:
                    data = blob.readall()
                assert "sha512-" + hashlib.sha512(data).hexdigest()[:64] == info.key
                assert info.size == len(data)
            for tree_id in store.trees.ids():
                if store.trees.is_rendered(tree_id):
                    store.check_tree(tree_id)
        # Whatever is left, fetching works.
        assert fetch(data_dir, layout) == expected
        with Store(data_dir) as store:
            store.check_tree(store.tree_id(expected))
            assert collector.collect_layers(store, 0) == []
            store.remove(expected)
            assert collector.collect_layers(store, 0) == [layer.diff_id]
            assert not UnpackedLayers(store.places).has(layer.diff_id)
        if done:
            assert number > 50
            return
    raise AssertionError("the fetch never ended")


def test_files_that_were_read_take_no_memory(tmp_path: os.PathLike[str]) -> None:
    """The program runs without a collector."""
    layout = oci.Layout(os.path.join(tmp_path, "layout"))
    layout.image("v1", [oci.Layer(oci.tar([oci.file("a", b"a"), oci.file("b", b"b")]))])
    data_dir = os.path.join(tmp_path, "data")
    key = fetch(data_dir, layout)
    gc.collect()
    gc.disable()
    try:
        with Store(data_dir) as store, store.open_blob(key):
            assert [one for one in gc.get_objects() if isinstance(one, LayerFile)] == []
    finally:
        gc.enable()


def index(*entries: tuple[Entry, int]) -> bytes:
    made = io.BytesIO()
    writer = layer_index.Writer(made)
    for entry, crc in entries:
        writer.add(entry, (crc, SHA if entry.type == FILE else b""))
    writer.finish(10240)
    return made.getvalue()


def read(data: bytes) -> list[tuple[Entry, layer_index.Sums]]:
    return list(layer_index.Reader(io.BytesIO(data)))


def values(entry: Entry) -> list[Any]:
    return [getattr(entry, name) for name in Entry.__slots__]


_NAMES = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    | st.sampled_from("\udc80\udcff\n\u2028"),
    min_size=1,
)
_NUMBERS = st.integers(0, (1 << 63) - 1)


@given(_NAMES, _NAMES, st.lists(_NUMBERS, min_size=6, max_size=6), st.dictionaries(_NAMES, st.binary()))
def test_index_gives_back_what_was_written(
    name: str, target: str, numbers: list[int], xattrs: dict[str, bytes]
) -> None:
    attributes = {f"user.{key}": value for key, value in xattrs.items()}
    uid, gid, size, mtime, major, minor = numbers
    one = Entry(name, uid=uid, gid=gid, size=size, mtime_ns=-mtime, xattrs=attributes)
    two = Entry(target, SYMLINK, linkname=name, devmajor=major, devminor=minor, mode=0o7777)
    three = Entry("sparse", size=1000)
    three.segments, three.stored = [(0, 10), (10, 0), (500, 500)], 510
    found = read(index((one, 0xFFFFFFFF), (two, 0), (three, 5)))
    assert [values(entry) for entry, _ in found] == [values(entry) for entry in (one, two, three)]
    assert [sums for _, sums in found] == [(0xFFFFFFFF, SHA), (0, b""), (5, SHA)]


def test_index_knows_its_end() -> None:
    whole = index((Entry("x"), 0), (Entry("d", DIRECTORY), 0))
    reader = layer_index.Reader(io.BytesIO(whole))
    assert len(list(reader)) == 2 and reader.size == 10240
    lines = whole.splitlines(keepends=True)
    for damaged in (
        b"",
        b"".join(lines[1:]),
        b"".join(lines[:-1]),
        b"".join([*lines[:2], *lines[3:]]),
        whole + b"\n",
        whole + lines[1],
        whole[:-4],
    ):
        with pytest.raises(RktError):
            read(damaged)


_ROW = [FILE, "x", 0o644, 0, 0, 0, 1000, "", [0, 0], {}, None, 0, SHA.hex()]


@pytest.mark.attack(7)
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, "socket"),
        (0, []),
        (1, ""),
        (1, "a\0b"),
        (1, 5),
        (2, 0o10000),
        (2, -1),
        (2, True),
        (3, -1),
        (3, 1.0),
        (4, 1 << 64),
        (5, 1 << 64),
        (6, -1),
        (7, None),
        (7, "\0"),
        (8, [0]),
        (8, [0, -1]),
        (9, {"user.x": "zz"}),
        (9, {"user.x": 5}),
        (9, []),
        (10, [[0]]),
        (10, [[0, 1001]]),
        (10, [[5, 5], [9, 1]]),
        (10, {}),
        (11, -1),
        (11, 1 << 32),
        (12, ""),
        (12, "ff"),
        (12, "z" * 64),
        (12, None),
    ],
)
def test_index_of_another_form_is_refused(place: int, value: Any) -> None:
    lines = index((Entry("x", size=1000), 0)).splitlines(keepends=True)
    row = list(_ROW)
    good = layer_index._encode(row).encode() + b"\n"
    assert good == lines[1]
    row[place] = value
    with pytest.raises(RktError, match="line 2 of the layer's index is damaged"):
        read(lines[0] + layer_index._encode(row).encode() + b"\n" + lines[2])


@pytest.mark.attack(7)
@given(st.binary())
def test_index_of_noise_is_refused(noise: bytes) -> None:
    lines = index().splitlines(keepends=True)
    with pytest.raises(RktError):
        read(lines[0] + noise + b"\n" + lines[1])
