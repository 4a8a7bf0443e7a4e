"""Limits and kernel parameters of pods of the systemd flavor that have no flag: read back from the kernel.

Limits with flags are in test_stage1_systemd_limits.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pod_manifests as manifests
import pytest
from systemd_pod import Running, leftovers, lines, pods, run

from rkt.linux import block, cgroup
from support import driver, processes

SLEEP = ("/bin/sleep", "1000")


@pytest.fixture(autouse=True)
def _clean(rkt: driver.Rkt) -> Iterator[None]:
    """Every pod of a test is collected at its end, and nothing of it is left."""
    yield
    uuids = pods(rkt)
    rkt.clean()
    assert leftovers(rkt, uuids) == []


@pytest.fixture
def image(rkt: driver.Rkt, box: str) -> str:
    return manifests.fetch(rkt, box)


def directory(pid: int, *controllers: str) -> tuple[str, bool]:
    """The control group of a process by the first of these controllers, and whether it is version 2."""
    own = cgroup.own(pid)
    for name in controllers:
        hierarchy = cgroup.hierarchy_of(name)
        if hierarchy is not None:
            path = own[cgroup.UNIFIED if hierarchy.unified else name]
            return hierarchy.directory(path), hierarchy.unified
    raise AssertionError(f"this machine has none of {controllers}")


def throttle(pid: int) -> dict[str, dict[str, str]]:
    """The limits of block devices of a process, by device: rbps, wbps, riops, wiops."""
    path, unified = directory(pid, "blkio", "io")
    found: dict[str, dict[str, str]] = {}
    if unified:
        for line in cgroup.read_value(path, "io.max").splitlines():
            device, *words = line.split()
            found[device] = dict(word.split("=") for word in words)
        return found
    for way in ("read", "write"):
        for unit in ("bps", "iops"):
            text = cgroup.read_value(path, f"blkio.throttle.{way}_{unit}_device")
            for line in text.splitlines():
                device, value = line.split()
                found.setdefault(device, {})[way[0] + unit] = value
    return found


@pytest.mark.promise("P5")
@pytest.mark.parametrize("users", [[], ["--private-users"]], ids=["host-ids", "own-ids"])
def test_block_devices(rkt: driver.Rkt, image: str, users: list[str]) -> None:
    """By the disk behind the pod's directory; an app without limits has none; what is entered has them."""
    both = [manifests.resource("block-bandwidth", "3M"), manifests.resource("block-iops", "300")]
    pod = manifests.write(
        rkt,
        manifests.app("one", image, "/bin/sleep", "1001", isolators=both),
        manifests.app("two", image, "/bin/sleep", "1002", isolators=both[1:]),
        manifests.app("free", image, "/bin/sleep", "1003"),
    )
    ((major, minor),) = block.disks([rkt.dir])
    disk = f"{major}:{minor}"
    with Running(rkt, *users, pod) as running:
        one, two, free = (throttle(running.find(f"/bin/sleep {number}")) for number in (1001, 1002, 1003))
        assert one == {disk: {"rbps": "3000000", "wbps": "3000000", "riops": "300", "wiops": "300"}}
        assert {key: value for key, value in two[disk].items() if value != "max"} == {
            "riops": "300",
            "wiops": "300",
        }
        assert free.get(disk, {}) == {}
        entered = rkt.start("enter", "--app=one", running.uuid, "/bin/sleep", "1004")
        try:
            assert throttle(processes.find("/bin/sleep 1004", entered.pid)) == one
        finally:
            driver.end(entered)
    assert "isolator" not in running.result.err


def test_disks_of_volumes_count(rkt: driver.Rkt, image: str, tmp_path: os.PathLike[str]) -> None:
    """A volume on another disk is limited too."""
    file = os.path.join(tmp_path, "disk")
    point = os.path.join(tmp_path, "mounted")
    os.mkdir(point)
    with open(file, "wb") as made:
        made.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", file], check=True)
    subprocess.run(["mount", "-o", "loop", file, point], check=True)
    try:
        volume = {"name": "v", "kind": "host", "source": point}
        limited = [manifests.resource("block-iops", "50")]
        entry = manifests.app("box", image, *SLEEP, isolators=limited, mounts=[{"volume": "v", "path": "/v"}])
        devices = {f"{major}:{minor}" for major, minor in block.disks([rkt.dir, point])}
        assert len(devices) == 2
        with Running(rkt, manifests.write(rkt, entry, volumes=[volume])) as running:
            assert set(throttle(running.find("/bin/sleep 1000"))) == devices
    finally:
        subprocess.run(["umount", "-d", point], check=True)


@pytest.mark.promise("P5")
def test_files_in_memory_have_no_disk(rkt: driver.Rkt, image: str, tmp_path: os.PathLike[str]) -> None:
    limited = [manifests.resource("block-iops", "50")]
    pod = manifests.write(rkt, manifests.app("box", image, "/bin/true", isolators=limited))
    run_directory = os.path.join(rkt.dir, "pods")
    os.makedirs(run_directory, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", run_directory], check=True)
    try:
        result = run(rkt, pod)
        assert "isolator resource/block-iops is ignored: the files of the pod are on no disk" in result.err
        assert run(rkt, "--strict-isolators", pod).code == 254
        rkt.clean()
    finally:
        subprocess.run(["umount", "-l", run_directory], check=True)


# -- kernel parameters -----------------------------------------------------------------------------------

PARAMETERS = {
    "net.ipv4.ip_forward": "1",
    "net/ipv4/conf/lo/forwarding": "1",
    "kernel.shmmax": "12345678",
    "kernel.msgmnb": "17000",
    "kernel.sem": "251\t32001\t33\t129",
    "fs.mqueue.msg_max": "77",
}
SYSCTL = "os/unix/sysctl"
FILES = " ".join("/proc/sys/" + key.replace(".", "/") for key in PARAMETERS)


@pytest.mark.promise("P5")
@pytest.mark.parametrize("users", [[], ["--private-users"]], ids=["host-ids", "own-ids"])
def test_kernel_parameters_are_the_pods_own(rkt: driver.Rkt, image: str, users: list[str]) -> None:
    before = [_read(key) for key in PARAMETERS]
    pod = manifests.write(
        rkt,
        manifests.app("box", image, "/bin/sh", "-c", f"cat {FILES}; readlink /proc/self/ns/ipc"),
        isolators=[{"name": SYSCTL, "value": PARAMETERS}],
    )
    result = run(rkt, "--strict-isolators", *users, pod)
    assert result.code == 0, result
    *found, namespace = lines(result)
    assert found == list(PARAMETERS.values())
    assert namespace != os.readlink("/proc/self/ns/ipc")
    assert [_read(key) for key in PARAMETERS] == before


def _read(key: str) -> str:
    with open("/proc/sys/" + key.replace(".", "/")) as file:
        return file.read()


@pytest.mark.promise("P5")
@pytest.mark.parametrize(
    ("key", "value", "words", "message"),
    [
        ("kernel.hostname", "x", (), "--hostname"),
        ("vm.swappiness", "1", (), "belongs to the host"),
        ("kernel.core_pattern", "|/x", (), "belongs to the host"),
        ("net.ipv4.ip_forward", "1", ("--net=host",), "has the network of the host"),
        ("kernel.shmmax", "1", ("--ipc=parent",), "has the IPC namespace of the host"),
        ("net.ipv4.nosuch", "1", (), 'unable to set sysctl "net.ipv4.nosuch"'),
        ("kernel.shmmax", "many", (), 'unable to set sysctl "kernel.shmmax" to "many"'),
        ("net/../kernel/core_pattern", "1", (), "is no name of a sysctl"),
    ],
)
def test_parameters_that_are_refused(
    rkt: driver.Rkt, image: str, key: str, value: str, words: tuple[str, ...], message: str
) -> None:
    pod = manifests.write(
        rkt,
        manifests.app("box", image, "/bin/true"),
        isolators=[{"name": SYSCTL, "value": {key: value}}],
    )
    result = rkt("--insecure-options=image", "run", *(words or ("--net=none",)), pod)
    assert result.code == 254, result
    assert message in result.err
    assert len([line for line in result.err.splitlines() if not line.startswith("networking: ")]) == 1, result
    assert pods(rkt) == []


def test_a_parameter_that_fly_cannot_give(rkt: driver.Rkt, image: str) -> None:
    pod = manifests.write(
        rkt,
        manifests.app("box", image, "/bin/true"),
        isolators=[{"name": SYSCTL, "value": {"net.ipv4.ip_forward": "1"}}],
    )
    stage1 = f"--stage1-path={driver.STAGE1}/stage1-fly.aci"
    result = rkt("--insecure-options=image", "run", stage1, pod)
    assert result.code == 254, result
    assert 'sysctl "net.ipv4.ip_forward" is refused: the pod has the network of the host' in result.err


# -- an app that has ended -------------------------------------------------------------------------------


@pytest.mark.promise("P5")
def test_a_command_beside_an_app_that_has_ended_has_its_limits(rkt: driver.Rkt, image: str) -> None:
    limited = [
        manifests.resource("memory", "48Mi"),
        manifests.resource("cpu", "250m"),
        manifests.resource("block-iops", "70"),
    ]
    pod = manifests.write(
        rkt,
        manifests.app("gone", image, "/bin/true", isolators=limited),
        manifests.app("stays", image, *SLEEP),
    )
    with Running(rkt, pod) as running:
        running.wait_for("/../../../../rkt/status/gone", app="gone")
        entered = rkt.start("enter", "--app=gone", running.uuid, "/bin/sleep", "1005")
        try:
            pid = processes.find("/bin/sleep 1005", entered.pid)
            path, unified = directory(pid, "memory")
            name = "memory.max" if unified else "memory.limit_in_bytes"
            assert cgroup.read_value(path, name) == str(48 << 20)
            path, unified = directory(pid, "cpu")
            name = "cpu.max" if unified else "cpu.cfs_quota_us"
            assert cgroup.read_value(path, name).split()[0] == "25000"
            ((_, found),) = throttle(pid).items()
            assert (found["riops"], found["wiops"]) == ("70", "70")
        finally:
            driver.end(entered)
