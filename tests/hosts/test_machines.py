"""Pods as machines of a host that systemd runs: where they are, what limits them, who knows them."""

from __future__ import annotations

import os

import pytest
from host_pods import SECONDS, SLEEP, Pod, cgroups, limit, rkt, snapshot

from support import hosts

LIMITS = ("--memory=32Mi", "--cpu=500m", "--cpu-shares=512")


def limits(host: hosts.Host, pid: int) -> tuple[str, str, str]:
    """Memory, processor time and share in force for a process, in the words of version 1."""
    memory = limit(host, pid, "memory/memory.limit_in_bytes", "memory.max")
    quota = limit(host, pid, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0]
    weight = limit(host, pid, "cpu/cpu.shares", "cpu.weight")
    return memory, quota, "512" if weight == "50" else weight


def escaped(uuid: str) -> str:
    return f"machine-rkt\\x2d{uuid}".replace("-", "\\x2d").replace("machine\\x2d", "machine-") + ".scope"


def machines(host: hosts.Host) -> str:
    return host.ok(["machinectl", "list", "--no-legend"]).out


@pytest.mark.promise("P5", "P7")
@pytest.mark.parametrize("users", [[], ["--private-users"]], ids=["host-ids", "own-ids"])
def test_a_pod_is_a_machine_in_a_scope_and_its_limits_hold(
    host: hosts.Host, image: str, users: list[str]
) -> None:
    """systemd makes the scope and leaves it to the pod, with all controllers of either version."""
    before = snapshot(host)
    pod = Pod(host, "scope").start(image, SLEEP, *users, app=LIMITS)
    scope = f"/machine.slice/{escaped(pod.uuid)}"
    assert pod.subcgroup == scope
    paths = cgroups(host, pod.app_process())
    assert {path.startswith(f"{scope}/") for path in paths.values() if "box.service" in path} == {True}
    shown = host.ok(["machinectl", "show", "--property=Unit", "--property=Service", pod.machine]).out
    assert sorted(shown.splitlines()) == ["Service=rkt", f"Unit={os.path.basename(scope)}"]
    assert limits(host, pod.app_process()) == ("33554432", "50000", "512")
    # systemd looks after its own groups: the pod keeps its controllers.
    host.ok(["systemctl", "daemon-reload"])
    assert limits(host, pod.app_process()) == ("33554432", "50000", "512")
    result = pod.stop("--force")
    assert "warning" not in result.err, result
    assert pod.machine not in machines(host)
    assert snapshot(host) == before


@pytest.mark.promise("P5")
def test_in_a_unit_limits_of_unit_and_app_hold(host: hosts.Host, image: str) -> None:
    """The unit keeps the pod, and leaves its controllers to it when it says so."""
    unit = ["Delegate=yes", "MemoryMax=96M", "CPUQuota=80%", "TasksMax=99"]
    pod = Pod(host, "delegated").start_unit(image, SLEEP, *unit, app=LIMITS)
    group = "/system.slice/delegated.service"
    assert pod.subcgroup == f"{group}/{escaped(pod.uuid)}"
    shown = host.ok(["machinectl", "show", "--property=Unit", "--value", pod.machine]).out
    assert shown == "delegated.service\n"
    pid = pod.app_process()
    assert limits(host, pid) == ("33554432", "50000", "512")
    own = cgroups(host, pid)
    assert all(path.startswith(f"{group}/") for path in own.values() if "system.slice" in path), own
    if list(own) == [""]:
        names = {"memory.max": "100663296", "cpu.max": "80000 100000", "pids.max": "99"}
        found = {name: f"/sys/fs/cgroup{group}/{name}" for name in names}
    else:
        names = {"memory.limit_in_bytes": "100663296", "cpu.cfs_quota_us": "80000", "pids.max": "99"}
        found = {name: f"/sys/fs/cgroup/{name.partition('.')[0]}{group}/{name}" for name in names}
    assert {name: host.read(path).decode().strip() for name, path in found.items()} == names
    host.ok(["systemctl", "stop", "delegated"], SECONDS)
    assert "skipping" not in host.ok(["journalctl", "--unit=delegated", "--output=cat"]).out
    pod.remove()


def test_in_a_unit_that_does_not_delegate_the_pod_runs_and_says_what_is_missing(
    virtual_machine: hosts.Host, machine_image: str
) -> None:
    """With version 2 the unit's cgroup cannot hand controllers down and have processes besides."""
    host = virtual_machine
    stop_post = f"ExecStopPost={hosts.RKT} rm --uuid-file=/var/lib/pods/kept.uuid"
    pod = Pod(host, "kept").start_unit(machine_image, SLEEP, stop_post, app=("--memory=32Mi",))
    host.ok(["systemctl", "stop", "kept"], SECONDS)
    said = host.ok(["journalctl", "--unit=kept", "--output=cat"]).out
    assert 'the cgroup of the caller does not hand on controller "memory", skipping' in said
    assert "Delegate=yes" in said
    # The command of ExecStopPost was started in the unit's own cgroup.
    assert rkt(host, "status", pod.uuid).code == 254
    assert host.run(["systemctl", "is-failed", "kept"]).out == "inactive\n"
