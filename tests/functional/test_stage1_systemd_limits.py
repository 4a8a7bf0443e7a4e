"""Resource isolators of pods of the systemd flavor, read back from the control groups of their processes.

The hierarchies are those of this machine, of version 1 or 2; tests/hosts has the other kind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from systemd_pod import Running, leftovers, lines, pods, run, shell, statuses

from rkt.linux import cgroup
from support import driver

USERS = pytest.mark.parametrize("users", [[], ["--private-users"]], ids=["host-ids", "own-ids"])


@pytest.fixture(autouse=True)
def _clean(rkt: driver.Rkt) -> Iterator[None]:
    """Every pod of a test is collected at its end, and nothing of it is left."""
    yield
    uuids = pods(rkt)
    rkt.clean()
    assert leftovers(rkt, uuids) == []


def _value(pid: int, controller: str, legacy: str, unified: str) -> str:
    """A limit of the control group a process is in."""
    hierarchy = cgroup.hierarchy_of(controller)
    assert hierarchy is not None, f"this machine has no controller {controller}"
    own = cgroup.own(pid)
    path = own[cgroup.UNIFIED] if hierarchy.unified else own[controller]
    return cgroup.read_value(hierarchy.directory(path), unified if hierarchy.unified else legacy)


def _limits(pid: int) -> dict[str, str]:
    """The limits in force for a process, in the words of version 1."""
    quota = _value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0]
    return {
        "memory": _value(pid, "memory", "memory.limit_in_bytes", "memory.max"),
        "quota": "-1" if quota == "max" else quota,
        "shares": _value(pid, "cpu", "cpu.shares", "cpu.weight"),
    }


@pytest.mark.promise("P5")
@USERS
def test_limits_hold_for_each_app_and_for_what_is_entered(
    rkt: driver.Rkt, box: str, users: list[str]
) -> None:
    """One app with all limits, one with others, one without; a command beside the first has its limits."""
    sleep = ["--exec=/bin/sleep", "--"]
    words = [box, "--name=one", "--memory=32Mi", "--cpu=505m", "--cpu-shares=777", *sleep, "1100", "---"]
    words += [box, "--name=two", "--memory=48Mi", *sleep, "1101", "---", box, "--name=free", *sleep, "1102"]
    with Running(rkt, *users, *words) as pod:
        one, two, free = (_limits(pod.find(f"/bin/sleep {seconds}")) for seconds in (1100, 1101, 1102))
        hierarchy = cgroup.hierarchy_of("cpu")
        assert hierarchy is not None
        shares = "75" if hierarchy.unified else "777"
        assert one == {"memory": str(32 << 20), "quota": "50500", "shares": shares}
        assert (two["memory"], two["quota"]) == (str(48 << 20), "-1")
        assert free["memory"] not in (one["memory"], two["memory"]), free
        assert free["quota"] == "-1"
        # /proc of the host is not in the pod; its own names the cgroup as the pod's systemd does
        mine = rkt("enter", "--app=one", pod.uuid, "/bin/cat", "/proc/self/cgroup")
        outside = cgroup.own(pod.find("/bin/sleep 1100"))
        for controller, path in cgroup.parse(mine.out).items():
            assert outside[controller].endswith(path.rstrip("/")), (controller, path)
        assert "warning" not in pod.rkt("status", pod.uuid).err


@pytest.mark.promise("P5")
@USERS
def test_an_app_that_exceeds_its_memory_is_killed(rkt: driver.Rkt, box: str, users: list[str]) -> None:
    """The other app of the pod, with a limit of its own, is not touched by it."""
    hog = "exec dd if=/dev/zero of=/dev/null bs=64M count=1"
    result = run(
        rkt, *users, box, "--name=hog", "--memory=16Mi", "--exec=/bin/sh", "--", "-c", hog,
        "---", box, "--name=calm", "--memory=16Mi", "--exec=/bin/true",
    )  # fmt: skip
    assert result.code == 9, result  # the number of the signal, as rkt 1.30 has it
    assert statuses(rkt) == {"hog": "9", "calm": "0"}
    assert "skipping" not in result.err
    assert shell(rkt, box, hog, *users).code == 0


@pytest.mark.promise("P5")
def test_a_small_share_of_a_processor_is_exact(rkt: driver.Rkt, box: str) -> None:
    """5m is half a per cent: the kernel takes it over a longer period."""
    with Running(rkt, box, "--cpu=5m", "--exec=/bin/sleep", "--", "1103") as pod:
        pid = pod.find("/bin/sleep 1103")
        quota = int(_value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0])
        period = int(_value(pid, "cpu", "cpu.cfs_period_us", "cpu.max").split()[-1])
        assert quota * 200 == period


@pytest.mark.promise("P5")
def test_the_limits_of_the_pod_are_out_of_its_reach(rkt: driver.Rkt, box: str) -> None:
    """An app sees no control groups; the root of a pod with its own IDs may not raise the pod's limits."""
    result = shell(rkt, box, "ls /sys/fs/cgroup; id -u", "--private-users", "--volume=x,kind=empty")
    assert lines(result)[-1] == "0"
    assert "memory" not in result.out
    with Running(rkt, "--private-users", box, "--memory=32Mi", "--exec=/bin/sleep", "--", "1104") as pod:
        hierarchy = cgroup.hierarchy_of("memory")
        assert hierarchy is not None
        if not hierarchy.unified:
            directory = hierarchy.directory(cgroup.own(pod.supervisor)["memory"])
            assert os.stat(directory).st_uid != 0
            assert os.stat(f"{directory}/memory.limit_in_bytes").st_uid == 0


def test_a_pod_can_be_run_with_the_messages_of_its_supervisor(rkt: driver.Rkt, box: str) -> None:
    """``--debug`` says what systemd-nspawn and the pod's systemd do, and changes nothing else."""
    words = ["--insecure-options=image", "run", "--net=none", box, "--memory=32Mi", "--exec=/bin/true"]
    result = rkt("--debug", *words)
    assert result.code == 0, result
    assert "--tmpfs=/sys/fs/cgroup" in result.err or cgroup.mode() == "v2"
    assert statuses(rkt) == {"box": "0"}


def test_a_real_time_process_becomes_a_pod_or_says_why_not(rkt: driver.Rkt, box: str) -> None:
    """A kernel may share real time out by control groups: then those of pods have none."""

    def real_time() -> None:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))

    hierarchy = cgroup.hierarchy_of("cpu")
    assert hierarchy is not None
    shared_out = os.path.exists(f"{hierarchy.mount_point}/cpu.rt_runtime_us")
    reason = "takes no real-time process (SCHED_RR) into a cgroup"
    result = run(rkt, box, preexec_fn=real_time)
    if not shared_out:
        assert result.code == 0, result
        return
    assert result.code == 254, result
    assert reason in result.err
    assert "chrt --other 0" in result.err
    assert pods(rkt) == []
    with Running(rkt, box, "--exec=/bin/sleep", "--", "1000") as pod:
        result = pod.enter("/bin/true", preexec_fn=real_time)
        assert (result.code, result.out) == (254, ""), result
        assert reason in result.err
        assert len(result.err.splitlines()) == 1, result
