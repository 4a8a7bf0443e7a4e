"""``enter`` while the app, or the whole pod, is just ending: confined as ever, or told that it has ended."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest
from systemd_pod import Running, leftovers, pods

from rkt.linux import process
from rkt.stage1.systemd import enter, target
from support import driver
from support.waiting import PATIENCE, until

# Ends with 0 when asked to, so that the pod goes on with its other app.
ENDS = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
LOOK = "ls -d /opt /rkt 2>/dev/null; cat /proc/self/status"
CAPABILITIES = "00000000a80425fb"


@pytest.fixture(autouse=True)
def _clean(rkt: driver.Rkt) -> Iterator[None]:
    yield
    uuids = pods(rkt)
    rkt.clean()
    assert leftovers(rkt, uuids) == []


@pytest.fixture
def pod(rkt: driver.Rkt, box: str) -> Iterator[Running]:
    words = (box, "--name=ends", "--user=web", "--group=www", "--exec=/bin/sh", "--", "-c", ENDS, "---")
    with Running(rkt, *words, box, "--name=stays", "--exec=/bin/sleep", "--", "1000") as running:
        yield running


def _systemd(pod: Running) -> int:
    with open(f"/proc/{pod.supervisor}/task/{pod.supervisor}/children") as file:
        (pid,) = file.read().split()
    return int(pid)


def _enter(pod: Running, app: str, point: str, action: Callable[[], None]) -> driver.Result:
    """Call the entry point in a child that waits at one of its trace points until something is done."""
    path = os.path.join(pod.rkt.base, "entered")
    argv = ["enter", f"--pid={_systemd(pod)}", f"--appname={app}", "--", "/bin/sh", "-c", LOOK]
    reached, resume = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for number, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(f"{path}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            sys.stderr = open(2, "w", closefd=False)
            os.chdir(pod.directory)
            os.close(reached[0])
            os.close(resume[1])

            def hook(name: str, _: int) -> None:
                if name == point:
                    os.write(reached[1], b"x")
                    os.read(resume[0], 1)

            target.trace = hook
            code = enter.main(argv)
            sys.stderr.flush()
            os._exit(code)
        finally:
            os._exit(99)
    os.close(reached[1])
    os.close(resume[0])
    assert os.read(reached[0], 1) == b"x", "the point was not reached"
    action()
    for fd in (reached[0], resume[1]):
        os.close(fd)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(f"{path}.out") as out, open(f"{path}.err") as err:
        return driver.Result(argv, code, out.read(), err.read())


def _assert_confined(result: driver.Result) -> None:
    assert result.code == 0, result
    status = dict(line.split(":\t", 1) for line in result.lines if ":\t" in line)
    assert not [line for line in result.lines if line.startswith("/")], result
    assert (status["CapBnd"], status["CapEff"]) == (CAPABILITIES, CAPABILITIES), result
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1"), result


def _end_app(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    assert process.wait(pidfd, PATIENCE)
    os.close(pidfd)


def _main(pod: Running) -> int:
    """The app's process, once it has set its trap: a signal before that would be a failure."""
    pid = _systemd(pod)

    def ready() -> int:
        main = target.main_process(pid, "ends", "ends.service")
        if not main:
            return 0
        with open(f"/proc/{main}/status") as file:
            (caught,) = [line.split()[1] for line in file if line.startswith("SigCgt")]
        return main if int(caught, 16) >> (signal.SIGTERM - 1) & 1 else 0

    return until(ready, "the app did not start")


@pytest.mark.promise("P5")
@pytest.mark.parametrize("point", ["found", "opened", "read"])
def test_the_app_ends_while_it_is_looked_at(pod: Running, point: str) -> None:
    """The command gets the root of the app that has ended, confined as it was."""
    main = _main(pod)
    _assert_confined(_enter(pod, "ends", point, lambda: _end_app(main)))


@pytest.mark.promise("P5")
def test_the_app_ends_while_it_is_joined(pod: Running) -> None:
    main = _main(pod)
    result = _enter(pod, "ends", "joining", lambda: _end_app(main))
    assert (result.code, result.out, result.err) == (254, "", 'Error: app "ends" has ended\n')


@pytest.mark.promise("P5")
@pytest.mark.parametrize("point", ["found", "opened", "read", "joining"])
def test_the_pod_ends_while_it_is_looked_at(pod: Running, point: str) -> None:
    _main(pod)

    def action() -> None:
        pidfd = os.pidfd_open(_systemd(pod))
        os.kill(pod.supervisor, signal.SIGKILL)
        assert process.wait(pidfd, PATIENCE)
        os.close(pidfd)

    result = _enter(pod, "ends", point, action)
    if point == "joining":
        # It is a process of the pod by then, and ends with it.
        assert (result.code, result.out) == (137, ""), result
        return
    assert (result.code, result.out) == (254, ""), result
    assert result.err in ("Error: the pod has ended\n", 'Error: app "ends" has ended\n'), result


@pytest.mark.promise("P5")
def test_the_process_that_records_the_end_is_not_the_app(pod: Running) -> None:
    """``app-exit`` is in the app's control group too, with the powers and the root of the pod's systemd."""
    main = _main(pod)
    own = f"{pod.directory}/stage1/rootfs/rkt"
    with open(f"{own}/app-exit") as file:
        text = file.read()
    wait = "touch /rkt/ending; until [ -e /rkt/go-on ]; do sleep 0.1; done"
    with open(f"{own}/app-exit", "w") as file:
        file.write(text.replace("#!/bin/sh\n", f"#!/bin/sh\n{wait}\n", 1))
    os.kill(main, signal.SIGTERM)
    until(lambda: os.path.exists(f"{own}/ending"))
    _assert_confined(pod.rkt("enter", "--app=ends", pod.uuid, "/bin/sh", "-c", LOOK))
    assert not os.path.exists(f"{own}/status/ends")
    with open(f"{own}/go-on", "w"):
        pass
    until(lambda: os.path.exists(f"{own}/status/ends"))


@pytest.mark.promise("P5")
def test_commands_that_meet_the_end_of_an_app_by_chance(rkt: driver.Rkt, box: str) -> None:
    """Many of them, from the start of short apps to their end; the pod goes on, then ends too."""
    words = []
    for number in range(6):
        words += [box, f"--name=a{number}", "--user=web", "--group=www", "--exec=/bin/sleep"]
        words += ["--", f"0.{number + 1}", "---"]
    with Running(rkt, *words, box, "--name=last", "--exec=/bin/sleep", "--", "4") as pod:
        ended = False
        while not ended:
            for number in range(6):
                result = rkt("enter", f"--app=a{number}", pod.uuid, "/bin/sh", "-c", LOOK)
                if result.code == 0:
                    _assert_confined(result)
                    continue
                if result.code in (129, 143, 137):
                    # It was a process of the app already, and ended with that, by rkt or by systemd.
                    assert result.err == "", result
                    continue
                assert result.out == "", result
                ended = "isn't currently running" in result.err or "the pod has ended" in result.err
                ended = ended or "is not the first process of a running pod" in result.err
                assert ended or result.err == f'Error: app "a{number}" has ended\n', result
                if ended:
                    break
