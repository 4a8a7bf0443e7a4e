"""Imports, rendering, removal and collection of one image by many processes at once.  Needs root."""

from __future__ import annotations

import hashlib
import os
import traceback
from collections.abc import Callable

import pytest

from rkt.store import collector
from rkt.store.store import ImageNotFoundError, StaleFilesError, Store
from support import aci
from support.store import add

ROUNDS = 25


def image(name: str) -> bytes:
    needs = [] if name == "example.com/base" else [{"imageName": "example.com/base"}]
    entries = [aci.Entry(f"{name}/{number}", bytes([number]) * 5000) for number in range(20)]
    return aci.tar_bytes(aci.manifest(name, dependencies=needs), entries)


def fetch(store: Store) -> None:
    add(store, image("example.com/base"))
    add(store, image("example.com/top"))


def render(store: Store) -> None:
    store.check_tree(store.render(store.lookup("example.com/top")))


def read(store: Store) -> None:
    key = store.lookup("example.com/top")
    with store.open_blob(key) as blob:
        assert "sha512-" + hashlib.sha512(blob.readall()).hexdigest()[:64] == key


def remove(store: Store) -> None:
    for name in ("example.com/top", "example.com/base"):
        store.remove(store.lookup(name))


def collect(store: Store) -> None:
    collector.collect_trees(store, removed=lambda _: None, failed=lambda _, error: fail(error))
    for key in collector.unused_images(store, 0):
        store.remove(key)
    collector.collect_leftovers(store)


def fail(error: Exception) -> None:
    raise error


def is_gone(error: BaseException | None) -> bool:
    """Somebody else was faster: the only excuse."""
    while error is not None:
        if isinstance(error, ImageNotFoundError) or "is not rendered" in str(error):
            return True
        if isinstance(error, FileNotFoundError) and "/cas/tree/" in str(error.filename):
            return True
        error = error.__cause__
    return False


def repeat(data_dir: str, work: Callable[[Store], None]) -> int:
    """A child that does it again and again; its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        for _ in range(ROUNDS):
            with Store(data_dir) as store:
                try:
                    work(store)
                except StaleFilesError:
                    raise
                except Exception as error:
                    if not is_gone(error):
                        raise
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


@pytest.mark.promise("P6")
def test_everybody_at_once(tmp_path: os.PathLike[str]) -> None:
    data_dir = os.path.join(os.fspath(tmp_path), "data")
    with Store(data_dir) as store:
        fetch(store)
    children = [repeat(data_dir, work) for work in (fetch, fetch, render, read, remove, collect)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * len(children)
    with Store(data_dir) as store:
        fetch(store)
        render(store)
        read(store)
        collect(store)
        assert store.images() == []
    left = {
        os.path.relpath(os.path.join(parent, name), data_dir)
        for parent, _, names in os.walk(data_dir)
        for name in names
    }
    assert left == {"cas/db/index.sqlite3", "locks/prepareLock"}
