"""Volumes of container images begin with what the image has there, as Docker's do."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator

import pytest
from systemd_pod import leftovers, lines, pod_directory, pods, shell

from support import aci, driver

CONVERTED = [{"name": "appc.io/docker/repository", "value": "library/db"}]
POINTS = [{"name": "volume-data", "path": "/data"}, {"name": "volume-new", "path": "/new"}]
MODES = pytest.mark.parametrize(
    "mode", [[], ["--private-users"], ["--no-overlay"]], ids=["", "users", "copy"]
)
SCRIPT = (
    "cd /data && stat -c '%n %u:%g %a' . file sub link twin && cat file sub/inner && readlink link; ls /new"
)


@pytest.fixture(autouse=True)
def _clean(rkt: driver.Rkt) -> Iterator[None]:
    yield
    uuids = pods(rkt)
    rkt.clean()
    assert leftovers(rkt, uuids) == []


def _image(tmp_path: os.PathLike[str], **members: object) -> str:
    return aci.busybox(
        os.path.join(os.fspath(tmp_path), "db.aci"),
        "example.com/db",
        entries=[
            aci.directory("data", mode=0o1770, uid=1000, gid=1001),
            aci.Entry("data/file", b"content\n", uid=1000, gid=1001, mode=0o4750),
            aci.directory("data/sub", mode=0o700, uid=7, gid=8),
            aci.Entry("data/sub/inner", b"deep\n"),
            aci.symlink("data/link", "/etc/passwd"),
            aci.Entry("data/twin", type=tarfile.LNKTYPE, linkname="rootfs/data/file"),
        ],
        app=aci.app("/bin/sh", mountPoints=POINTS),
        **members,
    )


@pytest.mark.promise("P4")
@MODES
def test_the_content_of_the_image_is_copied(rkt: driver.Rkt, tmp_path, mode: list[str]) -> None:
    """With owners, modes and links; a mount point that the image does not have gives an empty volume."""
    result = shell(rkt, _image(tmp_path, annotations=CONVERTED), SCRIPT, *mode)
    assert result.code == 0, result
    assert lines(result) == [
        ". 1000:1001 1770",
        "file 1000:1001 4750",
        "sub 7:8 700",
        "link 0:0 777",
        "twin 1000:1001 4750",
        "content",
        "deep",
        "/etc/passwd",
    ]
    data = os.path.join(pod_directory(rkt), "sharedVolumes/db-volume-data")
    assert os.stat(f"{data}/file").st_ino == os.stat(f"{data}/twin").st_ino
    assert os.path.islink(f"{data}/link")


def test_a_given_volume_is_not_filled(rkt: driver.Rkt, tmp_path) -> None:
    image = _image(tmp_path, annotations=CONVERTED)
    result = shell(rkt, image, "ls /data; echo end", "--volume=volume-data,kind=empty")
    assert lines(result) == ["end"], result


def test_an_app_container_image_gets_an_empty_volume(rkt: driver.Rkt, tmp_path) -> None:
    result = shell(rkt, _image(tmp_path), "ls /data; stat -c %u:%g:%a /data")
    assert lines(result) == ["0:0:755"], result


@pytest.mark.promise("P4")
def test_devices_and_other_volumes_are_not_copied(rkt: driver.Rkt, tmp_path) -> None:
    """A volume on /dev or on the root's own mounts begins with the image's directory alone."""
    points = [{"name": "dev", "path": "/dev"}, {"name": "sys", "path": "/sys"}]
    image = aci.busybox(
        os.path.join(os.fspath(tmp_path), "odd.aci"),
        "example.com/odd",
        app=aci.app("/bin/sh", mountPoints=points),
        annotations=CONVERTED,
    )
    result = shell(rkt, image, "ls /sys | wc -l")
    assert result.code == 0, result
    volumes = os.path.join(pod_directory(rkt), "sharedVolumes")
    assert os.listdir(f"{volumes}/odd-sys") == []
    assert not os.path.lexists(f"{volumes}/odd-dev/null")
