from __future__ import annotations

import os
import threading

import pytest

from rkt.errors import RktError
from rkt.linux import paths


@pytest.fixture
def root(tmp_path):
    os.mkdir(f"{tmp_path}/root")
    with open(f"{tmp_path}/secret", "w") as file:
        file.write("secret")
    fd = os.open(f"{tmp_path}/root", os.O_RDONLY)
    yield fd
    os.close(fd)


def path_of(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


@pytest.mark.promise("P4")
def test_absolute_links_and_dots_stay_inside(root, tmp_path):
    os.mkdir("etc", dir_fd=root)
    os.symlink("/etc", "absolute", dir_fd=root)
    os.symlink("../../../../../..", "up", dir_fd=root)
    top = f"{tmp_path}/root"
    assert path_of(paths.open_in_root(root, "/absolute", os.O_PATH)) == f"{top}/etc"
    assert path_of(paths.open_in_root(root, "up/etc", os.O_PATH)) == f"{top}/etc"
    assert path_of(paths.open_in_root(root, "../../etc", os.O_PATH)) == f"{top}/etc"
    with pytest.raises(FileNotFoundError):
        paths.open_in_root(root, "up/secret", os.O_PATH)
    for name in ("absolute", "up", "..", "/etc"):
        with pytest.raises(OSError, match="cross-device"):
            paths.open_beneath(root, name, os.O_PATH)


@pytest.mark.promise("P4")
def test_magic_links_are_refused():
    proc = os.open("/proc", os.O_RDONLY)
    try:
        for path in ("self/cwd", "self/root/etc", "self/exe", "self/fd/0"):
            with pytest.raises(OSError, match="symbolic links"):
                paths.open_in_root(proc, path, os.O_PATH)
    finally:
        os.close(proc)


def test_make_directories_uses_links_inside_and_exact_modes(root, tmp_path):
    os.makedirs(f"{tmp_path}/root/usr/lib", 0o700)
    os.symlink("/usr/lib", "lib", dir_fd=root)
    old = os.umask(0o077)
    try:
        fd = paths.make_directories(root, "/lib/./a/b", 0o751, owner=(3, 4))
    finally:
        os.umask(old)
    assert path_of(fd) == f"{tmp_path}/root/usr/lib/a/b"
    status = os.stat(f"{tmp_path}/root/usr/lib/a")
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o751, 3, 4)
    assert os.stat(f"{tmp_path}/root/usr/lib").st_mode & 0o7777 == 0o700


def test_make_directories_does_not_use_a_link_to_nowhere(root, tmp_path):
    os.symlink("/missing", "link", dir_fd=root)
    with pytest.raises(FileExistsError) as caught:
        paths.make_directories(root, "link/x")
    assert caught.value.filename == "/link"
    assert os.listdir(f"{tmp_path}/root") == ["link"]


@pytest.mark.promise("P4")
def test_read_file_takes_regular_files_only(root, tmp_path):
    with open(f"{tmp_path}/root/passwd", "w") as file:
        file.write("root:x:0:0::/:/bin/sh\n")
    os.mkfifo(f"{tmp_path}/root/fifo")
    os.mknod(f"{tmp_path}/root/zero", 0o20666, os.makedev(1, 5))
    os.symlink("/secret", "link", dir_fd=root)
    os.symlink("../secret", "relative", dir_fd=root)
    assert paths.read_file(root, "/passwd") == b"root:x:0:0::/:/bin/sh\n"
    assert paths.read_file(root, "/passwd", 22) == b"root:x:0:0::/:/bin/sh\n"
    with pytest.raises(RktError, match="/passwd is larger than 21 bytes"):
        paths.read_file(root, "/passwd", 21)
    for name in ("fifo", "zero", "."):
        with pytest.raises(RktError, match="is not a regular file"):
            paths.read_file(root, name)
    for name in ("link", "relative"):
        with pytest.raises(FileNotFoundError):
            paths.read_file(root, name)


@pytest.mark.promise("P4")
def test_a_name_swapped_in_a_loop_never_leads_out(root, tmp_path):
    top = f"{tmp_path}/root"
    for name in ("dir", "dir/passwd"):
        os.mkdir(f"{top}/{name}") if name == "dir" else open(f"{top}/{name}", "w").close()
    os.symlink(os.fspath(tmp_path), f"{top}/evil")
    os.rename(f"{tmp_path}/secret", f"{tmp_path}/passwd")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            paths.exchange(f"{top}/dir", f"{top}/evil")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        outcomes = set()
        for _ in range(2000):
            try:
                outcomes.add(paths.read_file(root, "dir/passwd"))
            except FileNotFoundError:
                outcomes.add(None)
    finally:
        stop.set()
        thread.join()
    assert outcomes <= {b"", None}


def test_file_system_types():
    fd = os.open("/proc/self/attr", os.O_RDONLY)
    try:
        assert paths.filesystem_type(fd) == paths.PROC_SUPER_MAGIC
    finally:
        os.close(fd)


def test_rename_no_replace(tmp_path):
    for name in ("a", "b"):
        os.mkdir(f"{tmp_path}/{name}")
    with pytest.raises(FileExistsError):
        paths.rename_no_replace(f"{tmp_path}/a", f"{tmp_path}/b")
    paths.rename_no_replace(f"{tmp_path}/a", f"{tmp_path}/c")
    assert sorted(os.listdir(tmp_path)) == ["b", "c"]
