"""Rendered trees: what is in them, when they count, how they are checked and collected.  Needs root."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from rkt.errors import RktError
from rkt.store import checksum, collector
from rkt.store.store import Store
from support import aci
from support.crash import Crash
from support.store import add, labels


@pytest.fixture
def store(tmp_path: os.PathLike[str]) -> Iterator[Store]:
    with Store(os.path.join(os.fspath(tmp_path), "data")) as opened:
        yield opened


def image(store: Store, name: str, *entries: aci.Entry, **members: Any) -> str:
    return add(store, aci.tar_bytes(aci.manifest(name, **members), entries))


def needs(*names: str, **members: Any) -> dict[str, Any]:
    return {"dependencies": [{"imageName": name, **members} for name in names]}


def link(name: str, target: str) -> aci.Entry:
    return aci.Entry(name, type=tarfile.LNKTYPE, linkname="rootfs/" + target)


def rendered(store: Store, key: str) -> str:
    return os.path.join(store.tree_root(store.render(key)), "rootfs")


def content(directory: str) -> dict[str, str]:
    """Files of a tree with their content, directories with a slash."""
    found = {}
    for parent, directories, names in os.walk(directory):
        for name in directories:
            found[os.path.relpath(os.path.join(parent, name), directory) + "/"] = ""
        for name in names:
            path = os.path.join(parent, name)
            with open(path) as file:
                found[os.path.relpath(path, directory)] = file.read()
    return found


def text(name: str, words: str, **options: Any) -> aci.Entry:
    return aci.Entry(name, words.encode(), **options)


class TestRendering:
    def test_tree_of_one_image(self, store: Store) -> None:
        key = image(
            store, "example.com/a", aci.directory("d", mode=0o1770, uid=7), text("d/f", "x", mode=0o4755)
        )
        tree_id = store.render(key)
        assert tree_id == "deps-sha512-" + hashlib.sha512(key.encode()).hexdigest()[:64]
        root = store.tree_root(tree_id)
        assert sorted(os.listdir(root)) == ["hash", "image", "manifest", "rendered", "rootfs"]
        status = os.stat(os.path.join(root, "rootfs/d"))
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o1770, 7)
        assert stat.S_IMODE(os.stat(os.path.join(root, "rootfs/d/f")).st_mode) == 0o4755
        assert status.st_mtime == 1_700_000_000
        with open(os.path.join(root, "image")) as file:
            assert file.read() == key

    def test_only_root_passes(self, store: Store) -> None:
        image_key = image(store, "example.com/a")
        store.render(image_key)
        for path in (store.places.trees, store.places.tree_locks):
            assert os.stat(path).st_mode & 0o7777 == 0o2700

    def test_higher_images_win(self, store: Store) -> None:
        image(store, "example.com/c", text("f", "c"), text("only-c", "c"), text("from-b-and-c", "c"))
        image(store, "example.com/b", text("f", "b"), text("from-b-and-c", "b"))
        key = image(store, "example.com/a", text("f", "a"), **needs("example.com/b", "example.com/c"))
        assert content(rendered(store, key)) == {"f": "a", "only-c": "c", "from-b-and-c": "c"}

    def test_whitelist_leaves_the_rest_out(self, store: Store) -> None:
        image(store, "example.com/b", aci.directory("d"), text("d/x", "b"), text("d/y", "b"))
        key = image(
            store,
            "example.com/a",
            text("own", "a"),
            text("other", "a"),
            pathWhitelist=["/own", "/d", "/d/x"],
            **needs("example.com/b"),
        )
        assert content(rendered(store, key)) == {"own": "a", "d/": "", "d/x": "b"}

    def test_link_in_a_lower_image_cannot_lead_a_higher_one_astray(
        self, store: Store, tmp_path: os.PathLike[str]
    ) -> None:
        outside = os.path.join(os.fspath(tmp_path), "outside")
        os.mkdir(outside)
        image(store, "example.com/b", aci.symlink("d", outside), aci.symlink("e", ".."))
        key = image(store, "example.com/a", text("d/f", "a"), text("e/f", "a"), **needs("example.com/b"))
        assert content(rendered(store, key)) == {"d/": "", "d/f": "a", "e/": "", "e/f": "a"}
        assert os.listdir(outside) == []

    def test_directory_keeps_the_times_of_the_image_that_has_it(self, store: Store) -> None:
        image(
            store,
            "example.com/b",
            aci.directory("d", mtime=1000),
            text("d/x", "b"),
            aci.directory("e", mtime=2000),
        )
        key = image(
            store,
            "example.com/a",
            aci.directory("d", mtime=3000),
            text("e/y", "a"),
            **needs("example.com/b"),
        )
        root = rendered(store, key)
        assert os.stat(os.path.join(root, "d")).st_mtime == 3000
        assert os.stat(os.path.join(root, "e")).st_mtime == 2000

    def test_link_to_a_hidden_file_keeps_its_content(self, store: Store) -> None:
        image(
            store,
            "example.com/b",
            text("f", "b", mode=0o600),
            link("g", "f"),
            link("h", "g"),
        )
        key = image(store, "example.com/a", text("f", "a"), **needs("example.com/b"))
        root = rendered(store, key)
        assert content(root) == {"f": "a", "g": "b", "h": "b"}
        assert os.path.samefile(os.path.join(root, "g"), os.path.join(root, "h"))
        assert not os.path.samefile(os.path.join(root, "f"), os.path.join(root, "g"))
        assert stat.S_IMODE(os.stat(os.path.join(root, "g")).st_mode) == 0o600

    def test_link_in_a_whitelist_without_its_target(self, store: Store) -> None:
        key = image(store, "example.com/a", text("f", "a"), link("g", "f"), pathWhitelist=["/g"])
        assert content(rendered(store, key)) == {"g": "a"}

    def test_image_by_itself_ignores_whitelist_and_dependencies(
        self, store: Store, tmp_path: os.PathLike[str]
    ) -> None:
        image(store, "example.com/b", text("b", "b"))
        key = image(store, "example.com/a", text("a", "a"), pathWhitelist=["/x"], **needs("example.com/b"))
        directory = os.path.join(os.fspath(tmp_path), "out")
        os.mkdir(directory)
        store.extract_image(key, directory)
        assert content(os.path.join(directory, "rootfs")) == {"a": "a"}
        assert os.path.exists(os.path.join(directory, "manifest"))

    def test_copy_into_a_directory_with_shifted_owners(
        self, store: Store, tmp_path: os.PathLike[str]
    ) -> None:
        image(store, "example.com/b", text("b", "b", uid=1))
        key = image(store, "example.com/a", text("a", "a", uid=2), **needs("example.com/b"))
        directory = os.path.join(os.fspath(tmp_path), "out")
        os.mkdir(directory)
        store.extract_rendered(key, directory, shift=(100_000, 65536))
        root = os.path.join(directory, "rootfs")
        assert content(root) == {"a": "a", "b": "b"}
        assert [os.stat(os.path.join(root, name)).st_uid for name in ("a", "b", ".")] == [
            100_002,
            100_001,
            100_000,
        ]
        assert not os.path.exists(store.places.trees)


class TestDependencies:
    def test_missing_one_is_named(self, store: Store) -> None:
        key = image(store, "example.com/a", **needs("example.com/b"))
        with pytest.raises(RktError, match='dependency "example.com/b" is not in the local store'):
            store.render(key)
        assert store.trees.ids() == []

    def test_id_has_to_be_that_of_the_name(self, store: Store) -> None:
        other = image(store, "example.com/other")
        key = image(store, "example.com/a", **needs("example.com/b", imageID=other))
        with pytest.raises(RktError, match='is given the ID of image "example.com/other"'):
            store.render(key)

    def test_id_has_to_be_whole(self, store: Store) -> None:
        base = image(store, "example.com/b")
        key = image(store, "example.com/a", **needs("example.com/b", imageID=base[:20]))
        with pytest.raises(RktError, match=f'has the abbreviated image ID "{base[:20]}"'):
            store.render(key)

    def test_id_wins_over_newer_images_of_the_name(self, store: Store) -> None:
        old = image(store, "example.com/b", text("f", "old"))
        image(store, "example.com/b", text("f", "new"))
        key = image(store, "example.com/a", **needs("example.com/b", imageID=old))
        assert content(rendered(store, key)) == {"f": "old"}

    def test_labels_choose(self, store: Store) -> None:
        image(store, "example.com/b", text("f", "1"), labels=labels("1"))
        image(store, "example.com/b", text("f", "2"), labels=labels("2"))
        wanted = [{"name": "version", "value": "1"}]
        key = image(store, "example.com/a", **needs("example.com/b", labels=wanted))
        assert content(rendered(store, key)) == {"f": "1"}

    def test_wrong_size_is_refused(self, store: Store) -> None:
        image(store, "example.com/b")
        key = image(store, "example.com/a", **needs("example.com/b", size=1))
        with pytest.raises(RktError, match='dependency "example.com/b" has .* bytes instead of 1'):
            store.render(key)

    def test_loop_is_found(self, store: Store) -> None:
        image(store, "example.com/b", **needs("example.com/a"))
        key = image(store, "example.com/a", **needs("example.com/b"))
        with pytest.raises(RktError, match="dependency loop"):
            store.render(key)

    def test_changed_dependency_is_another_tree(self, store: Store) -> None:
        image(store, "example.com/b", text("f", "old"))
        key = image(store, "example.com/a", **needs("example.com/b"))
        first = store.render(key)
        image(store, "example.com/b", text("f", "new"))
        second = store.render(key)
        assert first != second
        assert content(os.path.join(store.tree_root(first), "rootfs")) == {"f": "old"}
        # Both belong to the image, and its size says so.
        sizes = sum(checksum.tree_size(store.tree_root(tree)) for tree in (first, second))
        assert store.info(key).tree_size == sizes


class TestCheck:
    def test_sound_tree(self, store: Store) -> None:
        tree_id = store.render(
            image(
                store,
                "example.com/a",
                text("f", "x"),
                link("g", "f"),
                aci.symlink("s", "f"),
                aci.Entry("fifo", type=tarfile.FIFOTYPE),
                aci.Entry("null", type=tarfile.CHRTYPE, device=(1, 3)),
                aci.Entry("x", pax={"SCHILY.xattr.user.a": "b"}),
            )
        )
        store.check_tree(tree_id)

    @pytest.mark.parametrize(
        "change",
        [
            lambda root: os.chmod(root + "/f", 0o600),
            lambda root: os.chown(root + "/f", 1, 1),
            lambda root: os.truncate(root + "/f", 0),
            lambda root: os.unlink(root + "/f"),
            lambda root: os.rename(root + "/f", root + "/h"),
            lambda root: os.mkdir(root + "/new"),
            lambda root: os.setxattr(root + "/f", "user.a", b"b"),
            lambda root: (os.unlink(root + "/s"), os.symlink("x", root + "/s")),
        ],
    )
    def test_every_change_shows(self, store: Store, change: Any) -> None:
        key = image(store, "example.com/a", text("f", "x"), text("g", "x"), aci.symlink("s", "f"))
        tree_id = store.render(key)
        change(os.path.join(store.tree_root(tree_id), "rootfs"))
        with pytest.raises(RktError, match=r"wrong tree hash: sha512-\w+, expected: sha512-"):
            store.check_tree(tree_id)
        assert store.render(key, rebuild=True) == tree_id
        store.check_tree(tree_id)

    def test_link_split_into_two_files_shows(self, store: Store) -> None:
        tree_id = store.render(image(store, "example.com/a", text("f", "x"), link("g", "f")))
        root = os.path.join(store.tree_root(tree_id), "rootfs")
        before = checksum.tree_checksum(store.tree_root(tree_id))
        os.unlink(root + "/g")
        with open(root + "/g", "w") as file:
            file.write("x")
        assert checksum.tree_checksum(store.tree_root(tree_id)) != before

    def test_size_is_that_of_everything_once(self, store: Store) -> None:
        tree_id = store.render(image(store, "example.com/a", text("f", "x" * 5000), link("g", "f")))
        root = store.tree_root(tree_id)
        expected = os.lstat(root).st_size
        seen = set()
        for parent, directories, names in os.walk(root):
            for name in (*directories, *names):
                status = os.lstat(os.path.join(parent, name))
                if status.st_ino not in seen:
                    expected += status.st_size
                seen.add(status.st_ino)
        assert checksum.tree_size(root) == expected == store.images()[0].tree_size

    def test_damaged_blob_is_not_rendered(self, store: Store) -> None:
        key = image(store, "example.com/a", text("f", "x" * 2000))
        path = store.places.blob(key)
        with open(path, "rb") as file:
            data = file.read()
        with open(path, "wb") as file:
            file.write(data.replace(b"x" * 100, b"y" * 100, 1))
        with pytest.raises(RktError, match="is damaged: its content has another digest"):
            store.render(key)
        assert store.trees.ids() == []


@pytest.mark.promise("P6")
def test_crash_while_rendering_leaves_no_tree_that_counts(tmp_path: os.PathLike[str]) -> None:
    data = aci.tar_bytes(
        aci.manifest("example.com/a"), [text("f", "x"), aci.directory("d"), text("d/g", "y")]
    )
    with Store(os.path.join(os.fspath(tmp_path), "data")) as store:
        key = add(store, data)
    directory = store.places.data
    for number in range(1, 400):

        def work() -> None:
            with Store(directory) as opened:
                opened.render(key)

        done = Crash(work).at(number)
        with Store(directory) as store:
            tree_id = store.tree_id(key)
            if store.trees.is_rendered(tree_id):
                store.check_tree(tree_id)
            if number % 3 == 0:
                # What is left is either completed, or removed by the collector.
                assert store.render(key) == tree_id
                store.check_tree(tree_id)
            removed: list[str] = []
            collector.collect_trees(store, removed=removed.append, failed=lambda *_: None)
            assert store.trees.ids() == []
            assert not os.path.exists(store.places.tree_locks) or not os.listdir(store.places.tree_locks)
            assert store.info(key).tree_size == 0
        if done:
            assert number > 30
            return
    raise AssertionError("the rendering never ended")


class TestCollection:
    def pod(self, store: Store, state: str, stage1: str = "", **apps: str) -> str:
        directory = os.path.join(store.places.data, "pods", state, "11111111-2222-4333-8444-555555555555")
        for app, tree in apps.items():
            os.makedirs(os.path.join(directory, "appsinfo", app))
            with open(os.path.join(directory, "appsinfo", app, "treeStoreID"), "w") as file:
                file.write(tree)
        os.makedirs(directory, exist_ok=True)
        if stage1:
            with open(os.path.join(directory, "stage1TreeStoreID"), "w") as file:
                file.write(stage1)
        return directory

    def collect(self, store: Store) -> list[str]:
        removed: list[str] = []
        collector.collect_trees(store, removed=removed.append, failed=lambda *_: None)
        return removed

    @pytest.mark.parametrize("state", ["prepare", "prepared", "run", "exited-garbage"])
    def test_trees_of_pods_stay(self, store: Store, state: str) -> None:
        app = store.render(image(store, "example.com/app"))
        stage1 = store.render(image(store, "example.com/stage1"))
        unused = store.render(image(store, "example.com/unused"))
        self.pod(store, state, stage1, app=app)
        assert self.collect(store) == [unused]
        assert store.trees.ids() == sorted([app, stage1])

    def test_trees_of_garbage_go(self, store: Store) -> None:
        tree = store.render(image(store, "example.com/app"))
        self.pod(store, "garbage", tree)
        assert self.collect(store) == [tree]

    def test_images_in_use_by_running_pods_stay(self, store: Store) -> None:
        app = image(store, "example.com/app")
        stage1 = image(store, "example.com/stage1")
        unused = image(store, "example.com/unused")
        directory = self.pod(store, "run", store.render(stage1), app=store.render(app))
        with open(os.path.join(directory, "pod"), "w") as file:
            file.write(f'{{"apps":[{{"image":{{"id":"{app}"}}}}]}}')
        for key in (app, stage1, unused):
            store._index.touch(key, 1)
        fd = os.open(directory, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert collector.unused_images(store, 0) == [unused]
        os.close(fd)
        assert set(collector.unused_images(store, 0)) == {app, stage1, unused}

    def test_grace_counts_from_the_last_use(self, store: Store) -> None:
        old, new = image(store, "example.com/old"), image(store, "example.com/new")
        store._index.touch(old, 1)
        assert collector.unused_images(store, 10**9 * 3600) == [old]
        assert collector.unused_images(store, 0) == [old, new]

    def test_leftovers_go_and_imports_under_way_stay(self, store: Store) -> None:
        key = image(store, "example.com/a")
        orphan = image(store, "example.com/b")
        store._index.remove(orphan)
        seen = []

        class Slow(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                collector.collect_leftovers(store)
                seen.append(len(os.listdir(store.places.temporary)))
                return super().read(size)

        second = store.import_image(Slow(aci.tar_bytes(aci.manifest("example.com/c"), [])))
        assert set(seen) == {1}
        assert {info.key for info in store.images()} == {key, second}
        assert not os.path.exists(store.places.blob(orphan))
        assert not os.path.exists(store.places.manifest(orphan))
        assert sorted(os.listdir(store.places.image_locks)) == sorted([key, second])
