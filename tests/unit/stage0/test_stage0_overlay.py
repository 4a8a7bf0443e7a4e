"""When overlays can be used, and which directories they are made of."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator

import pytest

from rkt.errors import RktError
from rkt.linux import paths
from rkt.linux.failure import os_error
from rkt.pod.pod import Pod, create
from rkt.stage0 import overlay


@pytest.fixture
def data(tmp_path: os.PathLike[str]) -> str:
    return os.path.join(tmp_path, "da,ta:1")


def test_a_common_file_system_is_good_and_not_written_to(data: str) -> None:
    assert overlay.unusable(data) == ""
    assert os.listdir(data) == ["pods"]


def test_the_kernel_is_asked_and_nothing_stays(data: str) -> None:
    os.mkdir(data)
    assert overlay.probe(data) == ""
    assert os.listdir(os.path.join(data, "tmp")) == []


@pytest.mark.parametrize(("magic", "name"), [(0x61756673, "aufs"), (0x2FC12FC1, "zfs")])
def test_file_systems_that_cannot(data: str, monkeypatch: pytest.MonkeyPatch, magic: int, name: str) -> None:
    monkeypatch.setattr(paths, "filesystem_type", lambda _: magic)
    assert overlay.unusable(data) == f"unsupported filesystem {name}"


def test_a_refusal_of_the_kernel_is_the_reason(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise os_error(22, "fsconfig", "create")

    monkeypatch.setattr(paths, "filesystem_type", lambda _: 1)
    monkeypatch.setattr(overlay.mount, "new_mount", refuse)
    assert overlay.unusable(data) == "fsconfig create: invalid argument"
    assert os.listdir(os.path.join(data, "tmp")) == []


def test_directories_that_do_not_tell_types(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir(data)
    monkeypatch.setattr(overlay, "_has_types", lambda _: False)
    assert overlay.probe(data) == "unsupported filesystem: missing d_type support"
    assert os.listdir(os.path.join(data, "tmp")) == []


def test_a_kernel_without_overlay(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from rkt.linux import process

    asked = []
    monkeypatch.setattr(overlay, "_in_filesystems", lambda: False)
    monkeypatch.setattr(process, "run", lambda argv, **_: asked.append(argv))
    assert overlay.unusable(data) == "overlay is not supported by the kernel"
    assert asked == [["modprobe", "overlay"]]


@pytest.fixture
def pod(data: str) -> Iterator[Pod]:
    """A pod whose stage1 and app have trees, in a directory whose name needs to be escaped."""
    made = create(data)
    for tree, mode, owner in (("stage1tree", 0o755, 0), ("apptree", 0o1751, 1234)):
        root = os.path.join(data, "cas", "tree", tree, "rootfs")
        os.makedirs(root)
        os.chmod(root, mode)
        os.chown(root, owner, owner + 1)
        with open(os.path.join(root, "file"), "w") as file:
            file.write(tree)
    made.make_directory("stage1")
    made.make_directory("appsinfo")
    made.make_directory("appsinfo/app")
    made.write("stage1TreeStoreID", "stage1tree")
    made.write("appsinfo/app/treeStoreID", "apptree")
    made.write("overlay-prepared", "")
    yield made
    from rkt.linux.mountinfo import unmount_below

    unmount_below(made.path)
    made.close()


def mounted(pod: Pod) -> str:
    overlay.mount_stage1(pod)
    root = os.path.join(pod.path, "stage1", "rootfs")
    fd = os.open(root, os.O_RDONLY)
    overlay.mount_app(pod, "app", fd)
    os.close(fd)
    return root


def test_mounts(pod: Pod) -> None:
    root = mounted(pod)
    app = os.path.join(root, "opt/stage2/app/rootfs")
    with open(os.path.join(root, "file")) as file:
        assert file.read() == "stage1tree"
    with open(os.path.join(app, "file")) as file:
        assert file.read() == "apptree"
    status = os.stat(app)
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o1751, 1234, 1235)
    with open(os.path.join(app, "new"), "w"):
        pass
    assert os.listdir(os.path.join(pod.path, "overlay", "apptree", "upper", "app")) == ["new"]
    options = subprocess.run(["findmnt", "-no", "OPTIONS", app], capture_output=True, text=True, check=True)
    assert "volatile" not in options.stdout


def test_the_stage1_is_mounted_once(pod: Pod) -> None:
    root = mounted(pod)
    overlay.mount_stage1(pod)
    with open("/proc/self/mountinfo") as file:
        assert sum(line.split()[4] == root for line in file) == 1


@pytest.mark.promise("P4")
def test_a_stage1_whose_links_lead_out_is_not_followed(
    pod: Pod, data: str, tmp_path: os.PathLike[str]
) -> None:
    outside = os.path.join(tmp_path, "outside")
    os.mkdir(outside)
    os.symlink(outside, os.path.join(data, "cas/tree/stage1tree/rootfs/opt"))
    with pytest.raises(OSError):
        mounted(pod)
    assert os.listdir(outside) == []


def test_a_tree_that_is_gone_is_named(pod: Pod, data: str) -> None:
    os.unlink(os.path.join(data, "cas/tree/stage1tree/rootfs/file"))
    os.rmdir(os.path.join(data, "cas/tree/stage1tree/rootfs"))
    with pytest.raises(RktError, match='tree "stage1tree" of pod .* is not in the store'):
        overlay.mount_stage1(pod)


def test_a_view_of_what_an_app_left(pod: Pod, data: str) -> None:
    root = mounted(pod)
    app = os.path.join(root, "opt/stage2/app/rootfs")
    os.unlink(os.path.join(app, "file"))
    with open(os.path.join(app, "new"), "w"):
        pass
    view = overlay.read_only_view(
        os.path.join(data, "cas/tree/apptree/rootfs"), os.path.join(pod.path, "overlay/apptree/upper/app")
    )
    fd = os.open(".", os.O_RDONLY, dir_fd=view)
    assert os.listdir(fd) == ["new"]
    with pytest.raises(OSError, match="Read-only"):
        os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.close(fd)
    os.close(view)
