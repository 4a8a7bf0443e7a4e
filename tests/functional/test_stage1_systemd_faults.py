"""Pods of the systemd flavor in trouble: asked to end too early, on a full disk, without their journald."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from systemd_pod import Running, leftovers, lines, pods, shell, statuses

from support import driver
from support.processes import children
from support.waiting import PATIENCE, until


@pytest.fixture(autouse=True)
def _clean(rkt: driver.Rkt) -> Iterator[None]:
    """Every pod of a test is collected at its end, and nothing of it is left."""
    yield
    uuids = pods(rkt)
    rkt.clean()
    assert leftovers(rkt, uuids) == []


def _cmdline(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.promise("P1", "P9")
@pytest.mark.parametrize("flavor", ["host", "fly"])
def test_stop_waits_for_a_pod_that_is_being_made(rkt: driver.Rkt, box: str, flavor: str) -> None:
    """Its stage1 is held where it has said nothing of itself yet."""
    stage1 = f"--stage1-path={driver.STAGE1}/stage1-{flavor}.aci"
    words = ("run", "--net=none", stage1, box, "--exec=/bin/sleep", "--", "1000")
    process = rkt.start("--insecure-options=image", *words)
    while "/stage1/rootfs/" not in _cmdline(process.pid):
        assert process.poll() is None
    os.kill(process.pid, signal.SIGSTOP)
    (uuid,) = pods(rkt)
    stop = rkt.start("stop", uuid)
    while stop.poll() is None and not any("/stop" in _cmdline(pid) for pid in children(stop.pid)):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGCONT)
    assert stop.wait(timeout=30) == 0
    process.communicate(timeout=30)
    assert process.returncode in ((0, 254) if flavor == "host" else (143, 254, -signal.SIGTERM))


def _process_1(pod: Running, command: str = "") -> int:
    """The pod's process 1 as soon as there is one, or as soon as it executes ``command``."""

    def found() -> int:
        for pid in children(pod.supervisor):
            try:
                with open(f"/proc/{pid}/status") as file:
                    facts = dict(line.split(":\t") for line in file.read().splitlines())
            except (FileNotFoundError, ProcessLookupError):
                continue
            if facts["NSpid"].split()[1:] == ["1"] and command in ("", facts["Name"]):
                return pid
        return 0

    return until(found, "the pod has no process 1", pause=0.001)


def _has_found_a_process(pid: int) -> bool:
    """Whether a program is about to signal another one."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
        return any("pidfd" in os.readlink(f"/proc/{pid}/fd/{name}") for name in names)
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.promise("P1", "P9")
def test_a_signal_while_the_pod_s_systemd_starts_is_not_lost(rkt: driver.Rkt, box: str) -> None:
    with Running(rkt, box, "--exec=/bin/sleep", "--", "1000", ready=False) as pod:
        _process_1(pod, "systemd")
        os.kill(pod.supervisor, signal.SIGTERM)
        out, err = pod.process.communicate(timeout=PATIENCE)
        assert pod.process.returncode == 0, (out, err)


@pytest.mark.promise("P1", "P9")
def test_stop_waits_for_a_systemd_that_starts(rkt: driver.Rkt, box: str) -> None:
    """Stopped where it is, process 1 has not yet said which signals it wants to keep."""
    with Running(rkt, box, "--exec=/bin/sleep", "--", "1000", ready=False) as pod:
        first = _process_1(pod)
        os.kill(first, signal.SIGSTOP)
        stop = rkt.start("stop", pod.uuid)
        until(lambda: stop.poll() is not None or any(map(_has_found_a_process, children(stop.pid))))
        os.kill(first, signal.SIGCONT)
        assert stop.wait(timeout=PATIENCE) == 0
        out, err = pod.process.communicate(timeout=PATIENCE)
        assert pod.process.returncode == 0, (out, err)


@pytest.fixture
def small_disk(_clean: None, rkt: driver.Rkt) -> Iterator[None]:
    """The data directory is on a file system of 48 MiB."""
    os.mkdir(rkt.dir)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", rkt.dir], check=True)
    yield
    subprocess.run(["umount", "-R", rkt.dir], check=True)


@pytest.mark.promise("P6", "P7", "P9")
def test_a_pod_that_has_filled_the_disk(rkt: driver.Rkt, box: str, small_disk: None) -> None:
    """Its code is kept, and gc, which is to make room, needs none."""
    result = shell(rkt, box, "dd if=/dev/zero of=/big bs=1M; echo full; exit 3")
    assert (result.code, lines(result)[-1]) == (3, "full"), result
    assert statuses(rkt) == {"box": "3"}
    assert os.statvfs(rkt.dir).f_bavail == 0
    collected = rkt.ok("gc", "--grace-period=0s")
    assert [line.partition('"')[0] for line in collected.err.splitlines()] == ["gc: moving pod "], collected
    assert pods(rkt) == []
    assert os.statvfs(rkt.dir).f_bavail > 0


@pytest.mark.promise("P1")
def test_a_journald_that_was_killed_comes_back(rkt: driver.Rkt, box: str) -> None:
    """The apps keep the stream they write to, and lose nothing."""
    script = "echo before; while [ ! -e /go ]; do sleep 0.1; done; echo after; echo more >&2; exit 3"
    with Running(rkt, box, "--exec=/bin/sh", "--", "-c", script) as pod:
        (journald,) = [pid for pid in children(pod.first) if _command(pid) == "systemd-journal"]
        # Both have the three sockets journald listens on; of a stream systemd has a copy once it is told.
        while len(_sockets(journald) & _sockets(pod.first)) < 4:
            assert pod.process.poll() is None
            time.sleep(0.01)
        _kill_journald(pod)
        rkt.ok("enter", pod.uuid, "/bin/touch", "/go")
        out, err = pod.process.communicate(timeout=PATIENCE)
    printed = [line.partition(": ")[2] for line in out.splitlines()]
    assert (pod.process.returncode, printed) == (3, ["before", "after", "more"]), (out, err)
    assert [line.partition(": ")[2] for line in rkt.ok("logs", pod.uuid).lines] == printed


@pytest.mark.promise("P9")
def test_a_pod_whose_journald_does_not_stay_has_failed(rkt: driver.Rkt, box: str) -> None:
    with Running(rkt, box, "--exec=/bin/sleep", "--", "1000") as pod:
        deadline = time.monotonic() + 30
        while pod.process.poll() is None:
            assert time.monotonic() < deadline
            _kill_journald(pod)
        assert pod.process.wait() == 254


def _sockets(pid: int) -> set[str]:
    """The sockets a process has open."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return {name for name in found if name.startswith("socket:")}


def _kill_journald(pod: Running) -> None:
    """What there is of it now, if the pod is still there."""
    try:
        for pid in [found for init in children(pod.supervisor) for found in children(init)]:
            if _command(pid) in ("env", "systemd-journal"):
                os.kill(pid, signal.SIGKILL)
                while _command(pid):
                    time.sleep(0.01)
    except (FileNotFoundError, ProcessLookupError):
        return


def _command(pid: int) -> str:
    """The name of a process, "" when it is gone or only waits to be collected."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            name, _, rest = file.read().partition("(")[2].rpartition(") ")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if rest[0] in "ZX" else name


@pytest.mark.parametrize("ignored", ["TERM", "TERM HUP"])
def test_a_shell_left_open_does_not_hold_the_pod_up(rkt: driver.Rkt, box: str, ignored: str) -> None:
    """Interactive shells ignore SIGTERM; systemd would wait a minute and a half for them."""
    script = "while [ ! -e /go ]; do sleep 0.1; done; exit 3"
    with Running(rkt, box, "--exec=/bin/sh", "--", "-c", script) as pod:
        shell = f"trap '' {ignored}; touch /go; while :; do sleep 0.1; done"
        entered = pod.rkt.start("enter", pod.uuid, "/bin/sh", "-c", shell)
        out, err = pod.process.communicate(timeout=45)
        assert pod.process.returncode == 3, (out, err)
        assert entered.wait(timeout=PATIENCE) == (129 if ignored == "TERM" else 137)
