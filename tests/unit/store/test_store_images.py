"""Images: import in one pass, look-up, removal, and what a crash at any point leaves."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rkt.appc.labels import Label
from rkt.errors import RktError
from rkt.store import collector
from rkt.store.store import ImageNotFoundError, Store, is_id
from support import aci
from support.crash import Crash
from support.store import add, labels

NAME = "example.com/app"


@pytest.fixture
def store(tmp_path: os.PathLike[str]) -> Iterator[Store]:
    with Store(os.path.join(os.fspath(tmp_path), "data")) as opened:
        yield opened


def image(name: str = NAME, *entries: aci.Entry, **members: Any) -> bytes:
    return aci.tar_bytes(aci.manifest(name, **members), entries or [aci.Entry("file", b"content")])


def files_below(directory: str) -> set[str]:
    found = set()
    for parent, _, names in os.walk(directory):
        found.update(os.path.relpath(os.path.join(parent, name), directory) for name in names)
    return found


class TestImport:
    @pytest.mark.parametrize("compression", ["none", "gzip", "bzip2", "xz", "zstd"])
    def test_key_is_half_the_digest_of_the_plain_image(
        self, store: Store, tmp_path: os.PathLike[str], compression: str
    ) -> None:
        path = os.path.join(os.fspath(tmp_path), "image.aci")
        entries = [aci.Entry("file", b"content" * 100_000)]
        aci.build(path, aci.manifest(NAME), entries, compression=compression)
        plain = aci.tar_bytes(aci.manifest(NAME), entries)
        with open(path, "rb") as file:
            key = store.import_image(file)
        assert key == "sha512-" + hashlib.sha512(plain).hexdigest()[:64]
        with store.open_blob(key) as blob:
            assert blob.readall() == plain
        assert store.info(key).size == len(plain)
        assert store.manifest(key).name == NAME

    def test_manifest_is_kept_as_the_reference_writes_it(self, store: Store) -> None:
        key = add(store, image(app=None))
        assert store.manifest_bytes(key) == (
            b'{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/app","labels":'
            b'[{"name":"version","value":"1"},{"name":"os","value":"linux"},{"name":"arch","value":"amd64"}]}'
        )

    def test_modes_are_for_the_group(self, store: Store) -> None:
        before = os.umask(0o077)
        try:
            key = add(store, image())
        finally:
            os.umask(before)
        places = store.places
        for path in (places.blob(key), places.manifest(key), os.path.join(places.image_locks, key)):
            assert os.stat(path).st_mode & 0o7777 == 0o660, path
        for path in (
            places.cas,
            places.db,
            places.temporary,
            places.image_locks,
            os.path.dirname(places.blob(key)),
        ):
            assert os.stat(path).st_mode & 0o7777 == 0o2770, path
        assert os.stat(places.data).st_mode & 0o7777 == 0o2750

    @pytest.mark.promise("P3")
    def test_refusal_of_the_check_keeps_the_image_out(self, store: Store) -> None:
        add(store, image("example.com/other"))
        before = files_below(store.places.data)
        read = io.BytesIO(gzip.compress(image()) + b"")

        def refuse(manifest: Any) -> None:
            assert manifest.name == NAME
            assert read.read() == b"", "the file was read to its end first"
            raise RktError("no")

        with pytest.raises(RktError, match="no"):
            store.import_image(read, check=refuse)
        assert files_below(store.places.data) == before
        assert store.find(NAME) is None

    @pytest.mark.parametrize("compress", [lambda data: data, gzip.compress])
    def test_every_truncation_leaves_the_store_as_it_was(
        self, store: Store, compress: Callable[[bytes], bytes]
    ) -> None:
        add(store, image("example.com/other"))
        before = files_below(store.places.data)
        data = compress(image(NAME, aci.Entry("noise", os.urandom(100_000))))
        # The last block of the end marker is all that may be missing of a plain archive.
        for length in [*range(0, len(data) - 10240, 4096), len(data) - 10240]:
            with pytest.raises(RktError):
                add(store, data[:length])
        assert files_below(store.places.data) == before
        assert [info.name for info in store.images()] == ["example.com/other"]

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "no archive"),
            (b"hello\n" * 1000, "no archive"),
            (os.urandom(4096), "no archive"),
            # with no time in it, by which the name of the test would change
            (gzip.compress(b"hello\n" * 1000, mtime=0), ""),
            (gzip.compress(gzip.compress(aci.tar_bytes(aci.manifest(NAME), []), mtime=0), mtime=0), ""),
            (aci.tar_bytes(b"{}", []), ""),
            (aci.tar_bytes(b'{"acKind":"ImageManifest","acVersion":"0.8.11"}', []), "name"),
            (aci.tar_bytes(b"[" * 100_000, []), ""),
            (aci.tar_bytes(aci.manifest("Not A Name"), []), ""),
        ],
        # what was made in this second names no test: every worker has to find the same ones
        ids="empty text noise gzipped twice unnamed nameless deep misnamed".split(),
    )
    def test_what_is_no_image_is_refused(self, store: Store, data: bytes, reason: str) -> None:
        with pytest.raises(RktError, match=reason or None):
            add(store, data)
        assert store.images() == []
        assert os.listdir(store.places.temporary) == []

    def test_import_again_is_a_new_import_of_the_same_image(self, store: Store) -> None:
        key = add(store, image())
        inode = os.stat(store.places.blob(key)).st_ino
        first = store.info(key).import_time
        assert add(store, image()) == key
        assert store.info(key).import_time > first
        assert os.stat(store.places.blob(key)).st_ino == inode
        assert len(store.images()) == 1

    def test_image_without_its_blob_comes_back(self, store: Store) -> None:
        key = add(store, image())
        os.unlink(store.places.blob(key))
        with pytest.raises(ImageNotFoundError):
            store.open_blob(key)
        assert add(store, image()) == key
        store.open_blob(key).close()


class TestLookup:
    def test_ids_are_recognised(self) -> None:
        assert is_id("sha512-ab")
        assert not is_id("sha512-")
        assert not is_id("sha512-a-b")
        assert not is_id("ab")

    def test_id_may_be_cut_and_may_be_too_long(self, store: Store) -> None:
        key = add(store, image())
        full = "sha512-" + hashlib.sha512(image()).hexdigest()
        for text in (key, key[:9], key[7:], key[7:12], full, key.upper().replace("SHA", "sha")):
            assert store.resolve(text) == key, text

    def test_bad_ids_are_refused(self, store: Store) -> None:
        add(store, image())
        for text in ("sha512-a", "a", "", "sha512-"):
            with pytest.raises(RktError, match="too short"):
                store.resolve(text)
        with pytest.raises(RktError, match="not a valid image ID"):
            store.resolve("sha512-xyz")
        with pytest.raises(ImageNotFoundError, match="no image IDs found"):
            store.resolve("sha512-" + "00" * 20)

    def test_ambiguous_id_is_refused(self, store: Store) -> None:
        first = {}
        for number in range(600):
            data = image(labels=labels(str(number)))
            digits = hashlib.sha512(data).hexdigest()[:2]
            if digits in first:
                add(store, first[digits])
                add(store, data)
                with pytest.raises(RktError, match=f'ambiguous image ID: "sha512-{digits}"'):
                    store.resolve("sha512-" + digits)
                return
            first[digits] = data

    def test_name_and_labels(self, store: Store) -> None:
        one = add(store, image(labels=labels("1")))
        two = add(store, image(labels=labels("2")))
        assert store.find(NAME) == two
        assert store.find(NAME, [Label("version", "1")]) == one
        assert store.find(NAME, [Label("version", "3")]) is None
        assert store.find(NAME, [Label("layer", "x")]) is None
        assert store.find("example.com") is None
        assert store.lookup(NAME + ":1") == one
        assert store.lookup(NAME + ",version=2,os=linux") == two
        assert store.lookup(two[:20]) == two

    def test_latest_comes_before_the_newest_unless_a_version_is_named(self, store: Store) -> None:
        latest = add(store, image(labels=labels("1")), latest=True)
        newest = add(store, image(labels=labels("1", layer="x")))
        assert store.find(NAME) == latest
        assert store.find(NAME, [Label("version", "1")]) == newest

    def test_error_names_what_was_asked_for(self, store: Store) -> None:
        with pytest.raises(ImageNotFoundError) as caught:
            store.lookup("nosuch:1,os=linux")
        assert str(caught.value) == (
            'cannot find aci satisfying name: "nosuch" and labels: [{os linux} {version 1}]'
            " in the local store"
        )

    def test_store_that_does_not_exist_is_empty(self, store: Store) -> None:
        assert store.images() == []
        assert store.find(NAME) is None
        assert not os.path.exists(store.places.data)


class TestRemoval:
    def test_nothing_is_left(self, store: Store) -> None:
        key = add(store, image())
        store.remove(key)
        assert store.images() == []
        assert files_below(store.places.data) == {"cas/db/index.sqlite3", f"cas/imagelocks/{key}"}
        collector.collect_leftovers(store)
        assert files_below(store.places.data) == {"cas/db/index.sqlite3"}
        with pytest.raises(ImageNotFoundError):
            store.remove(key)

    def test_reader_keeps_what_it_opened(self, store: Store) -> None:
        data = image(NAME, aci.Entry("big", os.urandom(1 << 20)))
        key = add(store, data)
        with store.open_blob(key) as blob:
            first = blob.read(1000)
            store.remove(key)
            assert first + blob.readall() == data

    def test_reading_counts_as_use(self, store: Store) -> None:
        key = add(store, image())
        store._index.touch(key, 5)
        store.open_blob(key).close()
        assert store.info(key).last_used > 5


@pytest.mark.promise("P6")
class TestLostIndex:
    def test_images_are_found_again(self, store: Store) -> None:
        keys = {add(store, image(labels=labels(str(number)))) for number in range(3)}
        os.unlink(os.path.join(store.places.db, "index.sqlite3"))
        assert {info.key for info in store.images()} == keys
        assert store.find(NAME, [Label("version", "2")]) in keys
        assert {info.size for info in store.images()} == {len(image())}

    def test_manifest_is_taken_from_the_image_if_need_be(self, store: Store) -> None:
        key = add(store, image())
        os.unlink(store.places.manifest(key))
        os.unlink(os.path.join(store.places.db, "index.sqlite3"))
        assert [info.key for info in store.images()] == [key]
        assert store.manifest(key).name == NAME

    def test_damaged_blob_without_manifest_stays_unknown(self, store: Store) -> None:
        key = add(store, image())
        os.unlink(store.places.manifest(key))
        with open(store.places.blob(key), "r+b") as file:
            file.seek(2000)
            file.write(b"X")
        os.unlink(os.path.join(store.places.db, "index.sqlite3"))
        assert store.images() == []


def settle(data_dir: str) -> set[str]:
    """Collect what a crash left; returns the names of files that remain."""
    with Store(data_dir) as store:
        collector.collect_leftovers(store)
        for info in store.images():
            with open(store.places.blob(info.key), "rb") as file:
                assert "sha512-" + hashlib.sha512(file.read()).hexdigest()[:64] == info.key
            store.manifest(info.key)
    return files_below(data_dir)


@pytest.mark.promise("P6")
class TestCrash:
    def test_during_an_import(self, tmp_path: os.PathLike[str]) -> None:
        data = gzip.compress(image())
        for number in range(1, 400):
            directory = os.path.join(os.fspath(tmp_path), str(number))

            def work(directory: str = directory) -> None:
                with Store(directory) as store:
                    add(store, data)

            done = Crash(work).at(number)
            left = settle(directory)
            with Store(directory) as store:
                complete = [info.key for info in store.images()]
                expected = {"cas/db/index.sqlite3"} if complete or left else set()
                assert {name for name in left if "/blob/" not in name and "imageManifest" not in name} <= {
                    *expected,
                    *(f"cas/imagelocks/{key}" for key in complete),
                }, number
                assert not [name for name in left if "/tmp/" in name], number
                # Whatever is left, importing works.
                key = add(store, data)
                assert [info.key for info in store.images()] == [key]
            if done:
                assert number > 20
                return
        raise AssertionError("the import never ended")

    def test_during_a_removal(self, tmp_path: os.PathLike[str]) -> None:
        for number in range(1, 100):
            directory = os.path.join(os.fspath(tmp_path), str(number))
            with Store(directory) as store:
                key = add(store, image())
                kept = add(store, image("example.com/kept"))

            def work(directory: str = directory, key: str = key) -> None:
                with Store(directory) as store:
                    store.remove(key)

            done = Crash(work).at(number)
            left = settle(directory)
            with Store(directory) as store:
                listed = [info.key for info in store.images()]
                assert kept in listed
                assert any(key in name for name in left) == (key in listed), number
            if done:
                return
        raise AssertionError("the removal never ended")
