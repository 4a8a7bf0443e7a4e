"""How pods of the systemd flavor end: codes, statuses, output, and nothing left.

Each test runs twice: with the host's systemd as it is, and with a stage1 that takes it for one before 251,
where an app's end is recorded in another way.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
from collections.abc import Iterator

import pod_manifests as manifests
import pytest
from systemd_pod import Running, changed_stage1, leftovers, lines, pods, run, shell, statuses

from support import aci, driver
from support.waiting import PATIENCE, until


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A stage1 image whose code finds every systemd too old to tell a unit how another has ended."""
    directory = os.fspath(tmp_path_factory.mktemp("older"))
    release = "rkt/stage1/systemd/release.py"
    return changed_stage1(directory, release, "\nMONITOR = 251\n", "\nMONITOR = 100_000\n")


@pytest.fixture(autouse=True, params=["monitored", "older"])
def _stage1(rkt: driver.Rkt, request: pytest.FixtureRequest) -> None:
    """The stage1 of every pod of a test: the configuration's, where there is one."""
    if request.param == "older":
        directory = os.path.join(rkt.config, "stage1.d")
        os.makedirs(directory)
        with open(os.path.join(directory, "older.json"), "w") as file:
            location = request.getfixturevalue("older")
            json.dump({"rktKind": "stage1", "rktVersion": "v1", "location": location}, file)


def _is_older(rkt: driver.Rkt) -> bool:
    return os.path.exists(os.path.join(rkt.config, "stage1.d"))


@pytest.fixture(autouse=True)
def _clean(_stage1: None, rkt: driver.Rkt) -> Iterator[None]:
    """Every pod of a test is collected at its end, and nothing of it is left."""
    yield
    uuids = pods(rkt)
    rkt.clean()
    assert leftovers(rkt, uuids) == []


@pytest.mark.promise("P9")
def test_exit_code_and_output_format(rkt: driver.Rkt, box: str) -> None:
    result = shell(rkt, box, "echo out; echo err >&2; exit 7")
    assert result.code == 7
    assert re.fullmatch(r"\[ *\d+\.\d{6}\] box\[\d+\]: out\n\[ *\d+\.\d{6}\] box\[\d+\]: err\n", result.out)
    assert statuses(rkt) == {"box": "7"}


@pytest.mark.promise("P9")
def test_success_prints_nothing(rkt: driver.Rkt, box: str) -> None:
    result = run(rkt, box)
    assert (result.code, result.out) == (0, "")
    assert result.err.splitlines()[-1:] == ["networking: networking namespace with loopback only"]


@pytest.mark.promise("P9")
def test_first_failure_ends_the_pod(rkt: driver.Rkt, box: str) -> None:
    volume = ("--mount=volume=shared,target=/shared", "--exec=/bin/sh", "--", "-c")
    fails = "until [ -e /shared/trapped ]; do sleep 0.1; done; exit 5"
    stubborn = "trap 'exit 9' TERM; touch /shared/trapped; while :; do sleep 0.1; done"
    result = run(
        rkt,
        *("--volume=shared,kind=empty", box, "--name=a", "--exec=/bin/true", "---"),
        *(box, "--name=b", *volume, fails, "---"),
        *(box, "--name=c", "--exec=/bin/sleep", "--", "1000", "---"),
        *(box, "--name=d", *volume, stubborn),
    )
    assert result.code == 5
    assert statuses(rkt) == {"a": "0", "b": "5", "c": "0", "d": "0"}


@pytest.fixture(params=["notify", "pre-start"])
def slow(request: pytest.FixtureRequest, tmp_path: object) -> str:
    """An image whose app starts for ever: it does not say that it is ready, or its handler does not end."""
    if request.param == "notify":
        notes = [{"name": "appc.io/executor/supports-systemd-notify", "value": "true"}]
        return aci.busybox(f"{tmp_path}/slow.aci", annotations=notes, app=aci.app("/bin/sleep", "1000"))
    app = aci.app("/bin/true")
    app["eventHandlers"] = [{"name": "pre-start", "exec": ["/bin/sleep", "1000"]}]
    return aci.busybox(f"{tmp_path}/slow.aci", app=app)


@pytest.mark.promise("P9")
def test_a_failure_ends_the_pod_while_others_still_start(rkt: driver.Rkt, box: str, slow: str) -> None:
    words = (box, "--name=b", "--exec=/bin/sh", "--", "-c", "sleep 0.3; exit 5")
    result = run(rkt, slow, "--name=a", "---", *words)
    assert result.code == 5, result
    assert statuses(rkt)["b"] == "5"


@pytest.mark.promise("P9")
def test_stopping_while_others_still_start_is_no_failure(rkt: driver.Rkt, box: str, slow: str) -> None:
    words = (slow, "--name=a", "---", box, "--name=b", "--exec=/bin/sh")
    script = "touch /started; exec sleep 1000"
    with Running(rkt, *words, "--", "-c", script, ready=False) as pod:
        pod.wait_for("/started", app="b")
        rkt.ok("stop", pod.uuid)
        out, err = pod.process.communicate(timeout=PATIENCE)
        assert pod.process.returncode == 0, (out, err)
        assert statuses(rkt)["b"] == "0"


@pytest.mark.promise("P9")
def test_clean_end_of_one_app_leaves_the_others(rkt: driver.Rkt, box: str) -> None:
    result = run(
        rkt,
        *(box, "--name=a", "--exec=/bin/true", "---"),
        *(box, "--name=b", "--exec=/bin/sh", "--", "-c", "sleep 0.5; echo still here"),
    )
    assert (result.code, lines(result)) == (0, ["still here"])


@pytest.mark.promise("P9")
@pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("TERM", 15), ("SEGV", 11)])
def test_killed_app_ends_with_the_signal(rkt: driver.Rkt, box: str, name: str, number: int) -> None:
    assert shell(rkt, box, f"kill -{name} $$; sleep 5").code == number
    assert statuses(rkt) == {"box": str(number)}


@pytest.mark.promise("P9")
def test_missing_program(rkt: driver.Rkt, box: str) -> None:
    result = run(rkt, box, "--exec=/bin/nosuch")
    assert result.code == 203
    assert result.out == 'Error: Unable to open "/bin/nosuch": No such file or directory\n'


@pytest.mark.promise("P9")
def test_unusable_programs_are_explained(rkt: driver.Rkt, tmp_path: object) -> None:
    image = aci.busybox(
        f"{tmp_path}/odd.aci",
        entries=[
            aci.Entry("bin/plain", b"echo", mode=0o644),
            aci.Entry("bin/script", b"#!/bin/nosuch -x\n", mode=0o755),
        ],
    )
    result = run(rkt, image, "--exec=/bin/plain")
    reason = "Permission denied, it has no execute permission"
    assert (result.code, result.out) == (203, f'Error: Unable to execute "/bin/plain": {reason}\n')
    result = run(rkt, image, "--exec=/bin/script")
    assert result.code == 203
    assert 'its interpreter is missing: Unable to open "/bin/nosuch"' in result.out


@pytest.mark.promise("P9")
def test_arguments_and_variables_that_are_too_long_are_explained(rkt: driver.Rkt, box: str) -> None:
    key = manifests.fetch(rkt, box)
    reason = 'Error: Unable to execute "/bin/true": Argument list too long\n'
    for length, count, code, out in (
        (131_071, 1, 0, ""),
        (131_072, 1, 203, reason),
        (1000, 1000, 0, ""),
        (1000, 2200, 203, reason),
    ):
        variables = [{"name": f"V{number:04}", "value": "x" * (length - 6)} for number in range(count)]
        entry = manifests.app("box", key, "/bin/true", app={"environment": variables})
        result = run(rkt, manifests.write(rkt, entry))
        if code and _is_older(rkt):
            code, out = 254, ""
            assert reason.removeprefix("Error: ") in result.err
        assert (result.code, result.out) == (code, out), (length, count)


@pytest.mark.promise("P9")
def test_an_app_that_never_ran_has_no_status(rkt: driver.Rkt, tmp_path: object) -> None:
    app = aci.app("/bin/sh", "-c", "echo started")
    app["eventHandlers"] = [{"name": "pre-start", "exec": ["/bin/sh", "-c", "exit 3"]}]
    result = run(rkt, aci.busybox(f"{tmp_path}/box.aci", app=app))
    assert (result.code, result.out) == (3, "")
    assert statuses(rkt) == {}


@pytest.mark.promise("P9")
def test_output_of_short_apps_is_complete(rkt: driver.Rkt, box: str) -> None:
    script = "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done"
    expected = [f"line {number}" for number in range(200)]
    for _ in range(12):
        assert lines(shell(rkt, box, script)) == expected
    for _ in range(12):
        assert lines(shell(rkt, box, "printf last")) == ["last"]


@pytest.mark.promise("P1")
def test_sigterm_stops_the_pod_in_order(rkt: driver.Rkt, box: str) -> None:
    script = "trap 'echo bye; exit 3' TERM; echo hello; touch /trapped; while :; do sleep 0.1; done"
    with Running(rkt, box, "--exec=/bin/sh", "--", "-c", script) as pod:
        pod.wait_for("/trapped")
        supervisor = pod.supervisor
        with open(f"/proc/{supervisor}/task/{supervisor}/children") as file:
            children = file.read().split()
    assert pod.result.code == 0
    assert [line for line in lines(pod.result) if line != "Terminated"] == ["hello", "bye"]
    assert statuses(rkt) == {"box": "0"}
    for pid in (supervisor, *children):
        assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.promise("P1")
def test_ctrl_c_stops_the_pod_and_twice_kills_it(rkt: driver.Rkt, box: str) -> None:
    with Running(rkt, box, "--exec=/bin/sleep", "--", "1000") as pod:
        pod.process.send_signal(signal.SIGINT)
        assert pod.process.wait(PATIENCE) == 0
    stubborn = "trap '' TERM; touch /trapped; while :; do sleep 0.1; done"
    with Running(rkt, box, "--exec=/bin/sh", "--", "-c", stubborn) as pod:
        pod.wait_for("/trapped")
        pod.process.send_signal(signal.SIGINT)
        until(lambda: not _is_pending(pod.process.pid, signal.SIGINT), "the signal was not taken")
        assert pod.process.poll() is None
        pod.process.send_signal(signal.SIGINT)
        pod.process.wait(PATIENCE)


def _is_pending(pid: int, number: signal.Signals) -> bool:
    """Whether a signal waits for a process that takes its signals when it is ready to."""
    with open(f"/proc/{pid}/status") as file:
        masks = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


@pytest.mark.promise("P1")
def test_killed_supervisor_leaves_an_exited_pod(rkt: driver.Rkt, box: str) -> None:
    with Running(rkt, box, "--exec=/bin/sleep", "--", "1000") as pod:
        with open(f"/proc/{pod.supervisor}/task/{pod.supervisor}/children") as file:
            (first,) = file.read().split()
        pidfd = os.pidfd_open(int(first))
        os.kill(pod.supervisor, signal.SIGKILL)
        pod.process.wait(PATIENCE)
        # the pod's first process, and with it every other, ends at once
        assert select.select([pidfd], [], [], PATIENCE)[0] == [pidfd]
        os.close(pidfd)
        uuid = pod.uuid
    assert f"{uuid[:8]}\tbox" in rkt("list").out
    status = rkt("status", uuid)
    assert "state=exited\n" in status.out
    assert "app-box" not in status.out
    rkt.ok("gc", "--grace-period=0s")
    rkt.ok("gc", "--grace-period=0s")
    assert os.listdir(os.path.join(rkt.dir, "pods", "run")) == []


@pytest.mark.promise("P11")
def test_stop_entry_point(rkt: driver.Rkt, box: str) -> None:
    with Running(rkt, box, "--exec=/bin/sleep", "--", "1000") as pod:
        rkt.ok("stop", pod.uuid)
        assert pod.process.wait(PATIENCE) == 0
    stubborn = "trap '' TERM; touch /trapped; while :; do sleep 0.1; done"
    with Running(rkt, box, "--exec=/bin/sh", "--", "-c", stubborn) as pod:
        pod.wait_for("/trapped")
        rkt.ok("stop", "--force", pod.uuid)
        pod.process.wait(PATIENCE)
        rkt.wait_for(pod.uuid, "exited")


@pytest.mark.promise("P1")
def test_failed_start_leaves_nothing(rkt: driver.Rkt, box: str, tmp_path: object) -> None:
    for words, message in (
        ([box, "--working-dir=/nosuch"], 'unable to use working directory "/nosuch"'),
        ([box, "--user=nobody-here"], 'unable to find user "nobody-here" in /etc/passwd of the image'),
        ([box, "--exec=nosuch"], 'error looking up "nosuch": unable to find "nosuch" in '),
        ([f"--volume=v,kind=host,source={tmp_path}/nosuch", box, "--mount=volume=v,target=/v"], "nosuch"),
    ):
        result = run(rkt, *words)
        assert result.code == 254, result
        assert message in result.err
        for uuid in pods(rkt):
            left = os.listdir(os.path.join(rkt.dir, "pods", "run", uuid))
            assert not {"netns", "cgroups", "ppid"} & set(left), result
        rkt.clean()
