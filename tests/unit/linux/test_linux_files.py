from __future__ import annotations

import os

import pytest

from rkt.errors import describe
from rkt.linux import files, mount


def test_write_atomic_replaces_with_exact_mode(tmp_path):
    path = f"{tmp_path}/f"
    old = os.umask(0o077)
    try:
        files.write_atomic(path, "one")
        files.write_atomic(path, b"two", 0o640)
    finally:
        os.umask(old)
    with open(path) as file:
        assert file.read() == "two"
    assert os.stat(path).st_mode & 0o7777 == 0o640
    assert os.listdir(tmp_path) == ["f"]


def test_write_atomic_below_a_directory_fd(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        files.write_atomic("f", b"x", dirfd=fd)
    finally:
        os.close(fd)
    assert os.listdir(tmp_path) == ["f"]


def test_write_atomic_leaves_nothing_behind_when_it_fails(tmp_path):
    os.mkdir(f"{tmp_path}/target")
    with pytest.raises(IsADirectoryError) as caught:
        files.write_atomic(f"{tmp_path}/target", b"x")
    assert describe(caught.value) == f"write {tmp_path}/target: is a directory"
    assert os.listdir(tmp_path) == ["target"]


def test_make_directory_has_exact_mode_whatever_the_umask(tmp_path):
    old = os.umask(0o077)
    try:
        assert files.make_directory(f"{tmp_path}/a/b", 0o2755, parents=True, owner=(5, 6))
    finally:
        os.umask(old)
    for name in ("a", "a/b"):
        status = os.stat(f"{tmp_path}/{name}")
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o2755, 5, 6)
    assert not files.make_directory(f"{tmp_path}/a/b")
    files.write_atomic(f"{tmp_path}/file", b"")
    with pytest.raises(FileExistsError):
        files.make_directory(f"{tmp_path}/file")


def test_remove_tree_takes_files_links_and_directories(tmp_path):
    os.makedirs(f"{tmp_path}/t/a/b")
    os.symlink("/", f"{tmp_path}/t/a/root")
    os.symlink(f"{tmp_path}/keep", f"{tmp_path}/t/keep")
    os.mkfifo(f"{tmp_path}/t/fifo")
    files.write_atomic(f"{tmp_path}/keep", b"x")
    files.remove_tree(f"{tmp_path}/t")
    assert os.listdir(tmp_path) == ["keep"]
    os.symlink("keep", f"{tmp_path}/link")
    files.remove_tree(f"{tmp_path}/link")
    assert os.listdir(tmp_path) == ["keep"]
    with pytest.raises(FileNotFoundError):
        files.remove_tree(f"{tmp_path}/none")
    files.remove_tree(f"{tmp_path}/none", missing_ok=True)


def test_remove_tree_of_a_depth_beyond_open_files(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        os.close(os.open("f", os.O_CREAT, dir_fd=fd))
        child = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = child
    os.close(fd)
    files.remove_tree(f"{tmp_path}/d")
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.promise("P4")
def test_remove_tree_never_enters_a_mount(tmp_path):
    """A bind mount of the same file system has no device number of its own to notice it by."""
    host, tree = f"{tmp_path}/host", f"{tmp_path}/tree"
    os.mkdir(host)
    os.makedirs(f"{tree}/volume")
    files.write_atomic(f"{host}/precious", b"x")
    mount.mount(host, f"{tree}/volume", None, mount.MS_BIND)
    try:
        with pytest.raises(OSError, match="busy") as caught:
            files.remove_tree(tree)
        assert caught.value.filename == f"{tree}/volume"
    finally:
        mount.umount(f"{tree}/volume")
    assert os.listdir(host) == ["precious"]
    files.remove_tree(tree)
