"""Temporary files: told dead from alive by their lock."""

from __future__ import annotations

import os

from rkt.linux.lock import Lock
from rkt.store import temporary
from rkt.store.temporary import TemporaryFile


def test_file_goes_unless_published(tmp_path: os.PathLike[str]) -> None:
    directory = os.fspath(tmp_path)
    with TemporaryFile(directory, "import") as file:
        os.write(file.fd, b"x")
        assert len(os.listdir(directory)) == 1
    assert os.listdir(directory) == []
    target = os.path.join(directory, "published")
    with TemporaryFile(directory, "import") as file:
        os.write(file.fd, b"content")
        file.publish(target)
    assert os.listdir(directory) == ["published"]
    with open(target, "rb") as done:
        assert done.read() == b"content"
    assert os.stat(target).st_mode & 0o7777 == 0o660


def test_collector_takes_what_nobody_holds(tmp_path: os.PathLike[str]) -> None:
    directory = os.fspath(tmp_path)
    for name in ("import-left", "foreign"):
        with open(os.path.join(directory, name), "w"):
            pass
    os.symlink("/etc/passwd", os.path.join(directory, "import-link"))
    os.mkfifo(os.path.join(directory, "import-fifo"))
    with TemporaryFile(directory, "import") as file:
        removed = temporary.collect(directory, "import")
        assert os.path.exists(file.path)
    assert {os.path.basename(path) for path in removed} == {"import-left", "import-fifo"}
    assert set(os.listdir(directory)) == {"foreign", "import-link"}
    assert os.path.exists("/etc/passwd")


def test_writer_notices_that_the_collector_was_faster(tmp_path: os.PathLike[str]) -> None:
    directory = os.fspath(tmp_path)
    names = []
    take = Lock.try_exclusive

    def steal(lock: Lock) -> bool:
        names.append(lock.path)
        if len(names) == 1:
            os.unlink(lock.path)
        return take(lock)

    Lock.try_exclusive = steal  # type: ignore[method-assign]
    try:
        with TemporaryFile(directory, "import") as file:
            assert file.path == names[1] != names[0]
            assert os.path.exists(file.path)
    finally:
        Lock.try_exclusive = take  # type: ignore[method-assign]


def test_missing_directory_is_empty(tmp_path: os.PathLike[str]) -> None:
    assert temporary.collect(os.path.join(os.fspath(tmp_path), "nothing"), "import") == []
