from __future__ import annotations

import os

import pytest

from rkt.errors import describe
from rkt.linux import mount, mountinfo, namespaces, process


@pytest.fixture
def place(tmp_path):
    yield os.fspath(tmp_path)
    mountinfo.unmount_below(os.fspath(tmp_path))
    assert mountinfo.below(os.fspath(tmp_path)) == []


def test_errors_name_operation_and_path(tmp_path):
    with pytest.raises(OSError, match=r".") as caught:
        mount.mount("none", f"{tmp_path}/missing", "tmpfs")
    assert describe(caught.value) == f"mount {tmp_path}/missing: no such file or directory"
    with pytest.raises(ValueError, match="null byte"):
        mount.mount("none", "/tmp\0/x", "tmpfs")


@pytest.mark.parametrize("name", ["plain", "a,b", "a:b", "back\\slash", "c,\\:d e"])
def test_overlay_of_awkward_names(place, name):
    top = f"{place}/{name}"
    for directory in ("one", "two", "upper", "work", "merged"):
        os.makedirs(f"{top}/{directory}")
    for directory in ("one", "two"):
        with open(f"{top}/{directory}/{directory}", "w") as file:
            file.write(directory)
    layers = [f"{top}/one", f"{top}/two"]
    mount.mount_overlay(f"{top}/merged", lower=layers, upper=f"{top}/upper", work=f"{top}/work")
    assert sorted(os.listdir(f"{top}/merged")) == ["one", "two"]
    open(f"{top}/merged/new", "w").close()
    assert os.listdir(f"{top}/upper") == ["new"]


def test_overlay_of_more_layers_than_a_page_holds(place):
    layers = [f"{place}/{'x' * 100}{number}" for number in range(60)]
    for number, layer in enumerate(layers):
        os.mkdir(layer)
        open(f"{layer}/{number}", "w").close()
    for directory in ("upper", "work", "merged"):
        os.mkdir(f"{place}/{directory}")
    mount.mount_overlay(f"{place}/merged", lower=layers, upper=f"{place}/upper", work=f"{place}/work")
    assert len(os.listdir(f"{place}/merged")) == 60


def test_bind_is_read_only_with_everything_below(place):
    for directory in ("source/inner", "target"):
        os.makedirs(f"{place}/{directory}")
    mount.mount("inner", f"{place}/source/inner", "tmpfs")
    fd = os.open(f"{place}/target", os.O_PATH)
    try:
        mount.bind_fd(
            f"{place}/source", fd, recursive=True, read_only=True, attributes=mount.MOUNT_ATTR_NODEV
        )
    finally:
        os.close(fd)
    options = {entry.target: entry.options for entry in mountinfo.below(f"{place}/target")}
    assert set(options) == {f"{place}/target", f"{place}/target/inner"}
    assert all({"ro", "nodev"} <= set(words) for words in options.values())
    with pytest.raises(OSError, match="Read-only"):
        open(f"{place}/target/inner/x", "w")
    open(f"{place}/source/inner/x", "w").close()


def test_a_target_fd_cannot_be_redirected(place):
    for directory in ("source", "target", "host"):
        os.mkdir(f"{place}/{directory}")
    fd = os.open(f"{place}/target", os.O_PATH)
    os.rename(f"{place}/target", f"{place}/moved")
    os.symlink(f"{place}/host", f"{place}/target")
    try:
        mount.bind_fd(f"{place}/source", fd, recursive=False, read_only=False)
    finally:
        os.close(fd)
    assert [entry.target for entry in mountinfo.below(place)] == [f"{place}/moved"]


def test_files_can_be_bound(place):
    for name in ("a", "b"):
        with open(f"{place}/{name}", "w") as file:
            file.write(name)
    fd = os.open(f"{place}/b", os.O_PATH)
    try:
        mount.bind_fd(f"{place}/a", fd, recursive=False, read_only=True)
    finally:
        os.close(fd)
    with open(f"{place}/b") as file:
        assert file.read() == "a"


def test_new_mount(place):
    detached = mount.new_mount("tmpfs", {"size": "1m", "mode": "0700"}, attributes=mount.MOUNT_ATTR_NOSUID)
    try:
        mount.move_mount(detached, mount.AT_FDCWD, to_path=place)
    finally:
        os.close(detached)
    found = mountinfo.find(place)
    assert found is not None
    assert found.fstype == "tmpfs"
    assert "nosuid" in found.options
    assert os.stat(place).st_mode & 0o777 == 0o700


def test_a_private_namespace_and_a_user_namespace_with_ids():
    reader, writer = os.pipe()
    go_reader, go_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            namespaces.unshare(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS | namespaces.CLONE_NEWUTS)
            os.write(writer, b"ready")
            os.read(go_reader, 1)
            namespaces.set_hostname("inside")
            mount.mount("t", "/tmp", "tmpfs")
            os._exit(7 if (os.getuid(), os.uname().nodename) == (5, "inside") else 1)
        finally:
            os._exit(2)
    try:
        os.read(reader, 5)
        assert not namespaces.same_namespace("user", pid)
        assert namespaces.same_namespace("net", pid)
        namespaces.write_id_maps(pid, [(5, 0, 1), (10, 100000, 100)], [(0, 0, 1)])
        os.write(go_writer, b"x")
        assert process.exit_code(os.waitpid(pid, 0)[1]) == 7
    finally:
        for fd in (reader, writer, go_reader, go_writer):
            os.close(fd)


def test_setns_joins():
    fd = namespaces.open_namespace("uts")
    try:
        namespaces.setns(fd, namespaces.CLONE_NEWUTS)
        with pytest.raises(OSError, match="setns|Invalid"):
            namespaces.setns(fd, namespaces.CLONE_NEWNET)
    finally:
        os.close(fd)
