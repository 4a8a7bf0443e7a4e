"""Volumes, mount points and name files in pods of the systemd flavor."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator

import pytest
from systemd_pod import Running, leftovers, lines, pod_directory, pods, run, shell

from support import aci, driver, machine


@pytest.fixture(autouse=True)
def _clean(rkt: driver.Rkt) -> Iterator[None]:
    """Every pod of a test is collected at its end, and nothing of it is left."""
    yield
    uuids = pods(rkt)
    rkt.clean()
    assert leftovers(rkt, uuids) == []


def volume(source: str, *options: str, name: str = "v") -> str:
    return ",".join((f"--volume={name},kind=host,source={source}", *options))


def mount(target: str, name: str = "v") -> str:
    return f"--mount=volume={name},target={target}"


def test_host_directory_and_file(rkt: driver.Rkt, box: str, tmp_path: object) -> None:
    os.mkdir(f"{tmp_path}/d")
    with open(f"{tmp_path}/f", "w") as file:
        file.write("content\n")
    result = run(
        *(rkt, volume(f"{tmp_path}/d"), volume(f"{tmp_path}/f", "readOnly=true", name="w"), box),
        *(mount("/deep/er/place"), mount("/some/file", "w"), "--exec=/bin/sh", "--", "-c"),
        "echo hi >/deep/er/place/x; cat /some/file; echo no >/some/file; stat -c '%a %u %g' /deep",
    )
    assert lines(result) == ["content", "/bin/sh: can't create /some/file: Read-only file system", "755 0 0"]
    with open(f"{tmp_path}/d/x") as file:
        assert file.read() == "hi\n"


def test_read_only_is_recursive_and_recursion_can_be_off(rkt: driver.Rkt, box: str, tmp_path: object) -> None:
    inner = f"{tmp_path}/d/inner"
    os.makedirs(inner)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", inner], check=True)
    try:
        with open(f"{inner}/below", "w"):
            pass
        script = "ls /v/inner; touch /v/x; touch /v/inner/x"
        words = (box, mount("/v"), "--exec=/bin/sh", "--", "-c", script)
        assert lines(run(rkt, volume(f"{tmp_path}/d", "readOnly=true"), *words)) == [
            "below",
            "touch: /v/x: Read-only file system",
            "touch: /v/inner/x: Read-only file system",
        ]
        assert lines(run(rkt, volume(f"{tmp_path}/d", "recursive=false"), *words)) == []
        assert sorted(os.listdir(inner)) == ["below"]
    finally:
        subprocess.run(["umount", inner], check=True)


def test_mounts_of_the_host_arrive_and_none_leave(rkt: driver.Rkt, box: str, tmp_path: object) -> None:
    inner = f"{tmp_path}/d/inner"
    os.makedirs(inner)
    # on a host without systemd mounts are private, and nothing would propagate
    subprocess.run(["mount", "--bind", f"{tmp_path}/d", f"{tmp_path}/d"], check=True)
    subprocess.run(["mount", "--make-shared", f"{tmp_path}/d"], check=True)
    try:
        _propagation(rkt, box, f"{tmp_path}/d")
    finally:
        subprocess.run(["umount", f"{tmp_path}/d"], check=True)


def _propagation(rkt: driver.Rkt, box: str, directory: str) -> None:
    inner = f"{directory}/inner"
    with Running(rkt, volume(directory), box, mount("/v"), "--exec=/bin/sleep", "--", "1000") as pod:
        assert not [path for path in machine.Snapshot().mounts if path.startswith(f"{directory}/")]
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", inner], check=True)
        try:
            with open(f"{inner}/later", "w"):
                pass
            assert pod.enter("/bin/ls", "/v/inner").out == "later\n"
        finally:
            subprocess.run(["umount", inner], check=True)
        assert pod.enter("/bin/ls", "/v/inner").out == ""


def test_empty_volume_is_shared_with_its_mode(rkt: driver.Rkt, box: str) -> None:
    result = run(
        *(rkt, "--volume=e,kind=empty,mode=1750,uid=1000,gid=1001"),
        *(box, "--name=a", mount("/data", "e"), "--exec=/bin/sh", "--", "-c"),
        *("stat -c '%a %u %g' /data; echo from a >/data/file", "---"),
        *(box, "--name=b", mount("/elsewhere", "e"), "--exec=/bin/sh", "--", "-c"),
        "until [ -s /elsewhere/file ]; do sleep 0.05; done; cat /elsewhere/file",
    )
    assert sorted(lines(result)) == ["1750 1000 1001", "from a"]
    assert os.listdir(f"{pod_directory(rkt)}/sharedVolumes") == ["e"]


def test_mount_points_of_images(rkt: driver.Rkt, tmp_path: object) -> None:
    app = aci.app(
        *("/bin/sh", "-c", "touch /data/x && echo wrote; touch /config/x"),
        mountPoints=[
            {"name": "data", "path": "/data"},
            {"name": "config", "path": "/config", "readOnly": True},
        ],
    )
    image = aci.busybox(f"{tmp_path}/points.aci", app=app)
    os.mkdir(f"{tmp_path}/c")
    result = run(rkt, volume(f"{tmp_path}/c", name="config"), image)
    assert lines(result) == ["wrote", "touch: /config/x: Read-only file system"]
    assert 'no volume specified for mount point "/data"' in result.err
    assert os.listdir(f"{pod_directory(rkt)}/sharedVolumes/box-data") == ["x"]


@pytest.mark.promise("P5")
def test_device_as_volume(rkt: driver.Rkt, box: str) -> None:
    """A device of the host can be opened as a volume, and as nothing else."""
    device = "/dev/loop0"
    status = os.stat(device)
    kind = "b" if stat.S_ISBLK(status.st_mode) else "c"
    numbers = f"{os.major(status.st_rdev)} {os.minor(status.st_rdev)}"
    opened = "exec 3<{0} && echo opened; exec 4>>{0}".format
    result = run(
        *(rkt, volume(device, "readOnly=true"), box, mount("/volume"), "--exec=/bin/sh", "--", "-c"),
        opened("/volume"),
    )
    assert lines(result)[0] == "opened" and "Operation not permitted" in lines(result)[1], result
    result = shell(rkt, box, f"mknod /made {kind} {numbers} && {opened('/made')}")
    assert len(lines(result)) == 1 and "Operation not permitted" in lines(result)[0], result


@pytest.mark.promise("P4")
def test_sources_that_are_refused(rkt: driver.Rkt, box: str, tmp_path: object) -> None:
    os.mkdir(f"{tmp_path}/real")
    os.symlink("real", f"{tmp_path}/link")
    for source in (f"{tmp_path}/link", f"{tmp_path}/nosuch", f"{tmp_path}/link/.."):
        result = run(rkt, volume(source), box, mount("/v"))
        assert result.code == 254, result
        assert source in result.err
    assert not os.path.exists(f"{tmp_path}/nosuch")


@pytest.mark.promise("P4")
def test_targets_behind_links_stay_in_the_image(rkt: driver.Rkt, tmp_path: object) -> None:
    for name in ("d", "outside"):
        os.mkdir(f"{tmp_path}/{name}")
    image = aci.busybox(
        f"{tmp_path}/links.aci",
        entries=[
            aci.symlink("out", f"{tmp_path}/outside"),
            aci.symlink("magic", "/proc/self/root"),
            aci.symlink("inside", "/srv"),
            aci.directory("srv"),
        ],
    )
    result = run(
        *(rkt, volume(f"{tmp_path}/d"), image, mount("/inside/v"), "--exec=/bin/sh", "--", "-c"),
        "touch /srv/v/x && echo wrote",
    )
    assert lines(result) == ["wrote"]
    assert os.listdir(f"{tmp_path}/d") == ["x"]
    for target in ("/out/v", "/magic/v"):
        before = machine.tree(f"{tmp_path}/outside")
        run(rkt, volume(f"{tmp_path}/d"), image, mount(target))
        assert machine.tree(f"{tmp_path}/outside") == before


def test_name_files(rkt: driver.Rkt, tmp_path: object) -> None:
    image = aci.busybox(
        f"{tmp_path}/names.aci",
        entries=[
            aci.Entry("etc/hosts", b"10.0.0.1 of-image\n"),
            aci.Entry("etc/resolv.conf", b"nameserver 10.0.0.2\n"),
        ],
    )
    words = (image, "--exec=/bin/sh", "--", "-c", "cat /etc/hosts /etc/resolv.conf")
    assert lines(run(rkt, *words)) == ["10.0.0.1 of-image", "nameserver 10.0.0.2"]
    result = run(rkt, "--dns=10.9.9.9", "--hosts-entry=10.1.1.1=one", *words)
    assert "nameserver 10.9.9.9" in lines(result)
    assert "10.1.1.1 one" in lines(result)
    assert "10.0.0.1 of-image" not in lines(result)
    result = run(rkt, "--dns=host", "--hosts-entry=host", *words)
    with open("/etc/hosts") as file:
        own = [line.rstrip() for line in file if line.strip()]
    assert [line for line in lines(result) if line][: len(own)] == own


def test_copy_mode_gives_the_same_pod(rkt: driver.Rkt, box: str, tmp_path: object) -> None:
    os.mkdir(f"{tmp_path}/d")
    script = "ls / /dev; cat /etc/hostname | wc -c; touch /x /v/x; grep CapBnd /proc/self/status; exit 6"
    words = (volume(f"{tmp_path}/d"), box, mount("/v"), "--exec=/bin/sh", "--", "-c", script)
    overlay, copy = run(rkt, *words), run(rkt, "--no-overlay", *words)
    assert (overlay.code, lines(overlay)) == (copy.code, lines(copy))
    assert copy.code == 6
    read_only = (box, "--readonly-rootfs=true", "--exec=/bin/sh", "--", "-c", "touch /x")
    assert lines(run(rkt, "--no-overlay", *read_only)) == ["touch: /x: Read-only file system"]
