"""Images unpacked while they are imported: the same trees, nothing left of others.  Needs root."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import json
import os
import signal
import stat
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from rkt.errors import RktError
from rkt.store import checksum, collector, streams, unpack
from rkt.store.compression import COMPRESSIONS
from rkt.store.directories import Directories
from rkt.store.store import Store
from support import aci
from support.crash import Crash
from support.store import add

FILES = [
    aci.directory("d", mode=0o2750, uid=7, gid=8),
    aci.Entry("d/f", b"x" * 300_000, mode=0o4755, uid=1000, gid=1000),
    aci.Entry("small", b"s", pax={"SCHILY.xattr.user.a": "b"}),
    aci.Entry("empty"),
    aci.Entry("d/link", type=tarfile.LNKTYPE, linkname="rootfs/d/f"),
    aci.symlink("s", "d/f"),
    aci.Entry("fifo", type=tarfile.FIFOTYPE, mode=0o6620, uid=9),
    aci.Entry("null", type=tarfile.CHRTYPE, device=(1, 3), mode=0o666),
]


@pytest.fixture
def store(tmp_path: os.PathLike[str]) -> Iterator[Store]:
    with Store(os.path.join(os.fspath(tmp_path), "data")) as opened:
        yield opened


MANIFEST = json.dumps(aci.manifest("example.com/a")).encode()


def image(*entries: aci.Entry) -> bytes:
    return aci.tar_bytes(MANIFEST, entries or FILES, manifest_first=True)


def trees(store: Store) -> list[str]:
    """All that is in the directory of trees, what is being unpacked included."""
    try:
        return sorted(os.listdir(store.places.trees))
    except FileNotFoundError:
        return []


def leftovers(store: Store) -> list[str]:
    names = [name for name in trees(store) if name.startswith("import")]
    return names + os.listdir(store.places.temporary)


def facts(directory: str) -> dict[str, tuple[object, ...]]:
    """Everything below a directory with what can be known of it."""
    found = {}
    for parent, directories, names in os.walk(directory):
        for name in (*directories, *names):
            path = os.path.join(parent, name)
            status = os.lstat(path)
            attributes = [(key, os.getxattr(path, key)) for key in os.listxattr(path, follow_symlinks=False)]
            found[os.path.relpath(path, directory)] = (
                *(status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_rdev),
                *(status.st_mtime_ns, attributes),
            )
    return found


def wait_for_workers(store: Store) -> None:
    """Until no worker of an rkt that is gone is left: each has the lock of its tree."""
    try:
        names = os.listdir(store.places.tree_locks)
    except FileNotFoundError:
        return
    for name in names:
        lock = os.open(os.path.join(store.places.tree_locks, name), os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.close(lock)


class TestTree:
    def test_nothing_is_unpacked_again(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        key = add(store, image(), render=True)
        with monkeypatch.context() as patched:
            patched.setattr(unpack, "Worker", None)
            tree_id = store.render(key)
        assert trees(store) == [tree_id]
        assert leftovers(store) == []
        store.check_tree(tree_id)
        assert store.info(key).tree_size == checksum.tree_size(store.tree_root(tree_id))

    def test_same_tree_as_from_the_blob(self, store: Store) -> None:
        key = add(store, image(), render=True)
        root = store.tree_root(store.render(key))
        before = facts(os.path.join(root, "rootfs"))
        assert before["fifo"][:2] == (stat.S_IFIFO | 0o6620, 9)
        with open(os.path.join(root, "hash")) as file:
            hash_before = file.read()
        size = store.info(key).tree_size
        store.render(key, rebuild=True)
        assert facts(os.path.join(root, "rootfs")) == before
        with open(os.path.join(root, "hash")) as file:
            assert file.read() == hash_before
        assert store.info(key).tree_size == size
        with open(os.path.join(root, "manifest"), "rb") as manifest:
            assert manifest.read() == MANIFEST

    @pytest.mark.parametrize(
        "members",
        [{"dependencies": [{"imageName": "example.com/b"}]}, {"pathWhitelist": ["/small"]}],
        ids=["dependencies", "whitelist"],
    )
    @pytest.mark.parametrize("first", [False, True], ids=["manifest last", "manifest first"])
    def test_not_of_one_image_alone(self, store: Store, members: dict[str, Any], first: bool) -> None:
        data = aci.tar_bytes(aci.manifest("example.com/a", **members), FILES, manifest_first=first)
        add(store, data, render=True)
        assert trees(store) == []

    def test_what_cannot_be_unpacked_is_an_image(self, store: Store) -> None:
        """It may be exported, or be a dependency; who renders it is told why."""
        key = add(store, image(aci.Entry("w", type=tarfile.CHRTYPE)), render=True)
        assert trees(store) == []
        with pytest.raises(RktError, match="cannot unpack|sign of overlayfs"):
            store.render(key)
        assert trees(store) == []

    def test_known_manifest(self, store: Store, tmp_path: os.PathLike[str]) -> None:
        """What is imported again is not unpacked again."""
        with store.trees.begin() as tree:
            known = [hashlib.sha256(MANIFEST).hexdigest()]
            source = io.BytesIO(image())
            found = streams.read_image(source, -1, limit=1 << 30, tree=tree, known=known)
            assert found.checksum == ""
            assert os.listdir(tree.fd) == ["manifest"]
        key = add(store, image(), render=True)
        assert store.trees.known() == known
        inode = os.stat(store.tree_root(store.render(key))).st_ino
        assert add(store, image(), render=True) == key
        assert os.stat(store.tree_root(store.render(key))).st_ino == inode
        assert leftovers(store) == []

    def test_another_image_with_the_manifest_of_one_that_is_there(self, store: Store) -> None:
        first = add(store, image(), render=True)
        second = add(store, image(aci.Entry("other", b"o")), render=True)
        assert first != second
        root = os.path.join(store.tree_root(store.render(second)), "rootfs")
        assert os.listdir(root) == ["other"]


class TestRefused:
    def test_by_the_caller(self, store: Store) -> None:
        def refuse(_: object) -> None:
            raise RktError("not this one")

        with pytest.raises(RktError, match="not this one"):
            add(store, image(), render=True, check=refuse)
        assert trees(store) == []
        assert leftovers(store) == []
        assert store.images() == []

    @pytest.mark.parametrize("cut", [100, 512, 2000, 200_000])
    def test_cut_off(self, store: Store, cut: int) -> None:
        with pytest.raises(RktError):
            add(store, image()[:cut], render=True)
        assert trees(store) == []
        assert leftovers(store) == []

    def test_source_that_fails(self, store: Store) -> None:
        class Source(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                data = super().read(min(size or 0, 1 << 16))
                if not data:
                    raise RktError("the line is dead")
                return data

        with pytest.raises(RktError, match="the line is dead"):
            store.import_image(Source(image()[:200_000]), render=True)
        assert trees(store) == []
        assert leftovers(store) == []

    @pytest.mark.parametrize("render", [True, False])
    def test_damaged_inside_of_a_file(self, store: Store, render: bool) -> None:
        """It is not the file that cannot be unpacked: nothing after the gap is looked at."""
        content = os.urandom(8 << 20)
        data = bytearray(gzip.compress(image(aci.Entry("f", content), aci.Entry("g", b"g")), 1))
        data[len(data) // 2 : len(data) // 2 + 1000] = bytes(1000)
        with pytest.raises(RktError, match="the gzip data is damaged"):
            add(store, bytes(data), render=render)
        assert leftovers(store) == []
        assert store.images() == []

    @pytest.mark.parametrize("render", [True, False])
    def test_cut_off_inside_of_a_file(self, store: Store, render: bool) -> None:
        data = gzip.compress(image(aci.Entry("f", os.urandom(8 << 20))), 1)
        with pytest.raises(RktError, match="the gzip data is cut off"):
            add(store, data[: len(data) // 2], render=render)
        assert leftovers(store) == []

    def test_larger_than_allowed(self, store: Store) -> None:
        store.max_image_size = 100_000
        with pytest.raises(RktError, match="the content is larger than 100000 bytes"):
            add(store, image(), render=True)
        assert leftovers(store) == []

    def test_disk_that_is_full(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """What fails here is said, not that the worker's pipe broke."""

        def full(fd: int, data: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(streams, "_keep", full)
        with pytest.raises(OSError, match="No space left on device"):
            add(store, image(), render=True)
        assert leftovers(store) == []


class TestCollecting:
    def test_one_that_is_being_unpacked_stays(self, store: Store) -> None:
        with store.trees.begin() as tree:
            os.close(os.open("f", os.O_CREAT, dir_fd=tree.fd))
            self.collect(store)
            assert os.listdir(tree.fd) == ["f"]
            assert store.trees.ids() == []
        assert trees(store) == []

    @pytest.mark.promise("P6")
    def test_import_that_was_killed(self, store: Store) -> None:
        """The worker ends with rkt, and what both left is collected."""
        store.places.make_trees()
        reader, writer = os.pipe()
        data = image()
        child = os.fork()
        if child == 0:
            os.close(writer)
            with Store(store.places.data) as other, os.fdopen(reader, "rb", buffering=0) as source:

                class Source:
                    def read(self, size: int, /) -> bytes:
                        return source.read(size)

                other.import_image(Source(), render=True)
            os._exit(1)
        os.close(reader)
        os.write(writer, data[: 1 << 15])
        # It waits for more when the pipe is empty; by the lock it is known when its worker is gone.
        name = self.wait_for_tree(store)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(writer)
        wait_for_workers(store)
        assert trees(store) == [name]
        self.collect(store)
        assert trees(store) == []
        assert os.listdir(store.places.tree_locks) == []
        assert leftovers(store) == []
        assert store.images() == []

    @pytest.mark.promise("P6")
    def test_crash_before_each_call(self, tmp_path: os.PathLike[str]) -> None:
        """There is an image or there is none, a tree or none, and nothing else after collecting."""
        for number in range(1, 400):
            directory = os.path.join(os.fspath(tmp_path), str(number))

            def work(directory: str = directory) -> None:
                with Store(directory) as store:
                    add(store, image(), render=True)

            done = Crash(work).at(number)
            with Store(directory) as store:
                wait_for_workers(store)
                for tree_id in store.trees.ids():
                    if store.trees.is_rendered(tree_id):
                        store.check_tree(tree_id)
                        assert store.images(), number
                if os.path.isdir(store.places.tree_locks):
                    self.collect(store)
                    assert trees(store) == []
                    assert os.listdir(store.places.tree_locks) == []
                    assert leftovers(store) == []
                if number % 5 == 0:
                    # Whatever is left, importing works.
                    key = add(store, image(), render=True)
                    store.check_tree(store.render(key))
                    assert [info.key for info in store.images()] == [key]
            if done:
                assert number > 40
                return
        raise AssertionError("the import never ended")

    def wait_for_tree(self, store: Store) -> str:
        while True:
            for name in trees(store):
                if os.listdir(os.path.join(store.places.trees, name)):
                    return name

    def collect(self, store: Store) -> None:
        collector.collect_trees(store, removed=lambda _: None, failed=lambda *_: None)
        collector.collect_leftovers(store)


class TestChecksum:
    def test_tree_of_an_earlier_version(self, store: Store) -> None:
        tree_id = store.render(add(store, image()))
        root = store.tree_root(tree_id)
        former = checksum.tree_checksum(root, former=True)
        with open(os.path.join(root, "hash"), "w") as file:
            file.write(former)
        store.check_tree(tree_id)
        os.chmod(os.path.join(root, "rootfs/small"), 0o600)
        with pytest.raises(RktError, match=r"wrong tree hash: sha512-\w+, expected: " + former):
            store.check_tree(tree_id)

    def test_of_a_later_version(self, store: Store) -> None:
        tree_id = store.render(add(store, image()))
        with open(os.path.join(store.tree_root(tree_id), "hash"), "a") as file:
            file.write("3")
        with pytest.raises(RktError, match="a hash of kind '23', which this version does not know"):
            store.check_tree(tree_id)

    def test_contents_with_holes(self, tmp_path: os.PathLike[str]) -> None:
        """The digest made while a file is written is that of what is read of it."""
        base = os.fspath(tmp_path)
        contents = checksum.Contents()
        with open(os.path.join(base, "sparse"), "wb") as file:
            file.truncate(1_000_000)
            for offset in (70_000, 300_000):
                file.seek(offset)
                file.write(b"data")
                file.flush()
                contents.feed(b"data", offset)
            contents.end(file.fileno(), 1_000_000, has_attributes=False)
        root = os.open(base, os.O_RDONLY)
        assert checksum.summary(root, contents) == checksum.summary(root)
        os.close(root)

    def test_names_cannot_be_shifted_into_others(self, tmp_path: os.PathLike[str]) -> None:
        base = os.fspath(tmp_path)
        found = set()
        for number, entries in enumerate(([("a", "bc")], [("ab", "c")], [("a", ""), ("bc", "")])):
            directory = os.path.join(base, str(number))
            os.mkdir(directory)
            for name, target in entries:
                os.symlink(target or "x", os.path.join(directory, name))
            found.add(checksum.tree_checksum(directory))
        assert len(found) == 3


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_every_compression_in_a_worker(store: Store, tmp_path: os.PathLike[str], kind: str) -> None:
    """From a file, which the worker gets itself, and from a stream."""
    import bz2
    import lzma

    import zstandard

    compress = {
        "gzip": gzip.compress,
        "bzip2": bz2.compress,
        "xz": lzma.compress,
        "zstd": zstandard.ZstdCompressor().compress,
    }[kind]
    data = compress(image())
    key = add(store, data)
    path = os.path.join(os.fspath(tmp_path), "image.aci")
    with open(path, "wb") as file:
        file.write(data)
    store.remove(key)
    with open(path, "rb", buffering=0) as source:
        assert store.import_image(source, render=True) == key
    assert trees(store) == [store.tree_id(key)]


def test_directories_are_known(tmp_path: os.PathLike[str]) -> None:
    """What is unpacked lies where only root passes."""
    places = Directories(os.path.join(os.fspath(tmp_path), "data"))
    with Store(places.data) as store, store.trees.begin():
        assert os.stat(places.trees).st_mode & 0o077 == 0
