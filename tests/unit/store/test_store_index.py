"""The index: rows, transactions, and what happens to one that is lost, damaged or too new."""

from __future__ import annotations

import os
import sqlite3
import threading

import pytest

from rkt.errors import RktError
from rkt.store.index import FILE, SCHEMA_VERSION, ImageInfo, Index, Remote
from rkt.store.signature import SIGSTORE, Signature

KEY = "sha512-" + "ab" * 32
OTHER = "sha512-" + "ac" * 32


def info(key: str = KEY, name: str = "example.com/a", time: int = 1, size: int = 10) -> ImageInfo:
    return ImageInfo(key, name, times=(time, time), latest=False, size=size)


class Fixture:
    def __init__(self, directory: str) -> None:
        self.directory = os.path.join(directory, "db")
        self.path = os.path.join(self.directory, FILE)
        self.images: list[ImageInfo] = []
        self.trees: list[tuple[str, str, int]] = []
        self.said: list[str] = []
        self.index = Index(self.directory, lambda: (self.images, self.trees), self.said.append)

    def make(self) -> Fixture:
        os.mkdir(self.directory)
        return self

    def keys(self) -> list[str]:
        return [image.key for image in self.index.images()]


@pytest.fixture
def lost(tmp_path: os.PathLike[str]) -> Fixture:
    """A store whose directory does not exist."""
    return Fixture(os.fspath(tmp_path))


@pytest.fixture
def db(lost: Fixture) -> Fixture:
    return lost.make()


def test_reading_where_there_is_nothing_makes_nothing(lost: Fixture) -> None:
    assert lost.index.images() == []
    assert lost.index.get(KEY) is None
    assert lost.index.keys_with_prefix("sha512-ab") == []
    assert not os.path.exists(lost.directory)


def test_images_are_kept_and_found(db: Fixture) -> None:
    db.index.put(info(time=2))
    db.index.put(info(OTHER, "example.com/b", time=1))
    assert db.keys() == [OTHER, KEY]
    found = db.index.get(KEY)
    assert found is not None
    assert (found.name, found.import_time, found.size, found.latest) == ("example.com/a", 2, 10, False)
    assert [one.key for one in db.index.with_name("example.com/b")] == [OTHER]
    assert db.index.keys_with_prefix("sha512-a") == [KEY, OTHER]
    assert db.index.keys_with_prefix("sha512-ab") == [KEY]
    assert db.index.keys_with_prefix(KEY) == [KEY]
    assert db.index.keys_with_prefix("sha512-") == [KEY, OTHER]


def test_removal_takes_origins_along(db: Fixture) -> None:
    db.index.put(info())
    db.index.put_remote(
        Remote("https://example.com/a.aci", KEY, etag='"x"', cache_max_age=60, download_time=7)
    )
    remote = db.index.remote("https://example.com/a.aci")
    assert remote is not None
    assert (remote.blob_key, remote.etag, remote.cache_max_age, remote.download_time) == (KEY, '"x"', 60, 7)
    assert db.index.remove(KEY)
    assert not db.index.remove(KEY)
    assert db.index.remote("https://example.com/a.aci") is None


def test_size_of_an_image_is_the_sum_of_its_trees(db: Fixture) -> None:
    db.index.put(info(size=10))
    db.index.put_tree("deps-1", KEY, 100)
    db.index.put_tree("deps-2", KEY, 1000)
    db.index.put_tree("deps-3", OTHER, 5)
    assert db.index.images()[0].total_size == 1110
    db.index.put(info(size=20))
    assert db.index.images()[0].total_size == 1120
    db.index.put_tree("deps-2", KEY, 2000)
    db.index.remove_tree("deps-1")
    assert db.index.images()[0].total_size == 2020
    assert db.index.tree_size("deps-1") is None


def test_file_is_for_the_group_whatever_the_umask(db: Fixture) -> None:
    before = os.umask(0o077)
    try:
        db.index.put(info())
    finally:
        os.umask(before)
    assert os.stat(db.path).st_mode & 0o7777 == 0o660


@pytest.mark.promise("P6")
@pytest.mark.parametrize("damage", ["gone", "empty", "garbage", "zeros", "torn"])
def test_lost_index_is_rebuilt(db: Fixture, damage: str) -> None:
    for number in range(200):
        db.index.put(info(f"sha512-{number:064x}"))
    db.images = [info(), info(OTHER)]
    db.trees = [("deps-1", KEY, 33)]
    size = os.stat(db.path).st_size
    if damage == "gone":
        os.unlink(db.path)
    else:
        with open(db.path, "r+b") as file:
            if damage == "empty":
                file.truncate(0)
            elif damage == "garbage":
                file.write(b"not a database, but quite some text " * (size // 36))
            elif damage == "zeros":
                file.write(bytes(size))
            else:
                file.truncate(4096)
    assert db.keys() == [KEY, OTHER]
    assert db.index.images()[0].tree_size == 33
    assert (db.said == []) == (damage == "gone")
    # The damaged file is kept for whoever wants to look at it.
    assert os.path.exists(db.path + ".damaged") == (damage != "gone")
    db.index.put(info("sha512-" + "ad" * 32))
    assert len(db.keys()) == 3


def test_journal_of_a_damaged_file_is_not_applied_to_the_new_one(db: Fixture) -> None:
    db.index.put(info())
    with open(db.path, "r+b") as file:
        file.write(b"garbage" * 10)
    with open(db.path + "-journal", "wb") as file:
        file.write(b"whatever was in there")
    db.images = [info(OTHER)]
    assert db.keys() == [OTHER]
    assert not os.path.exists(db.path + "-journal")


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_older_index_is_brought_up_to_date(db: Fixture, version: int) -> None:
    """With all that is in it, once, by whichever of several users is first."""
    db.index.put(info())
    db.index.put_remote(Remote("https://example.com/a.aci", KEY, etag='"1"'))
    raw = sqlite3.connect(db.path)
    for added, name in ((2, "verification"), (3, "signature")):
        if added > version:
            raw.execute(f"DROP TABLE {name}")
    raw.execute(f"PRAGMA user_version = {version}")
    raw.commit()
    raw.close()
    users = [threading.Thread(target=db.index.images) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert db.keys() == [KEY]
    found = db.index.remote("https://example.com/a.aci")
    assert found is not None and found.etag == '"1"'
    kept = Signature(SIGSTORE, b"data", payload=b"payload", covers="sha256:0")
    db.index.put_verification(KEY, "sigstore", "key", kept, replace=True)
    again = db.index.signature(KEY)
    assert again is not None
    assert (again.kind, again.data, again.payload, again.covers) == (
        SIGSTORE,
        b"data",
        b"payload",
        "sha256:0",
    )
    assert db.index.verification(KEY) == ("sigstore", "key")
    db.index.put_verification(KEY, "none", "", None, replace=False)
    assert db.index.verifications() == {KEY: ("sigstore", "key")}
    assert db.index.remove(KEY)
    assert db.index.signature(KEY) is None and db.index.verification(KEY) is None
    assert db.said == []


def test_newer_index_is_refused_and_left_as_it_is(db: Fixture) -> None:
    db.index.put(info())
    raw = sqlite3.connect(db.path)
    raw.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    raw.close()
    with open(db.path, "rb") as file:
        before = file.read()
    for use in (db.index.images, lambda: db.index.put(info(OTHER))):
        with pytest.raises(RktError, match=f"schema version {SCHEMA_VERSION + 1}, newer than"):
            use()
    with open(db.path, "rb") as file:
        assert file.read() == before
    assert os.listdir(db.directory) == [FILE]


def test_foreign_files_are_left_alone(db: Fixture) -> None:
    foreign = ("ql.db", ".34a8b4c1ad933745146fdbfef3073706ee571625")
    for name in foreign:
        with open(os.path.join(db.directory, name), "w"):
            pass
    db.index.put(info())
    assert db.keys() == [KEY]
    assert set(os.listdir(db.directory)) == {FILE, *foreign}


def test_link_in_place_of_the_index_is_not_followed(db: Fixture, tmp_path: os.PathLike[str]) -> None:
    victim = os.path.join(os.fspath(tmp_path), "victim")
    with open(victim, "w") as file:
        file.write("precious")
    os.symlink(victim, db.path)
    with pytest.raises(RktError, match="is not a regular file"):
        db.index.put(info())
    with open(victim) as file:
        assert file.read() == "precious"


def test_transactions_of_several_threads_are_all_kept(db: Fixture) -> None:
    failures: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for number in range(first, first + 20):
                db.index.put(info(f"sha512-{number:064x}"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(db.keys()) == 80
