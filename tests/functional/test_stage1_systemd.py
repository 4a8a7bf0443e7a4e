"""Pods of the systemd flavor on the real kernel: how they end, what they print, what an app gets."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from systemd_pod import Running, leftovers, lines, pod_directory, pods, run, shell, statuses

from support import aci, driver


@pytest.fixture(autouse=True)
def _clean(rkt: driver.Rkt) -> Iterator[None]:
    """Every pod of a test is collected at its end, and nothing of it is left."""
    yield
    uuids = pods(rkt)
    rkt.clean()
    assert leftovers(rkt, uuids) == []


# -- how a pod ends --------------------------------------------------------------------------------------


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
    stubborn = "trap 'exit 9' TERM; while :; do sleep 0.1; done"
    result = run(
        rkt,
        *(box, "--name=a", "--exec=/bin/true", "---"),
        *(box, "--name=b", "--exec=/bin/sh", "--", "-c", "sleep 0.3; exit 5", "---"),
        *(box, "--name=c", "--exec=/bin/sleep", "--", "1000", "---"),
        *(box, "--name=d", "--exec=/bin/sh", "--", "-c", stubborn),
    )
    assert result.code == 5
    assert statuses(rkt) == {"a": "0", "b": "5", "c": "0", "d": "0"}


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
    assert (result.code, result.out) == (203, 'Error: Unable to execute "/bin/plain": Permission denied\n')
    result = run(rkt, image, "--exec=/bin/script")
    assert result.code == 203
    assert 'its interpreter is missing: Unable to open "/bin/nosuch"' in result.out


@pytest.mark.promise("P9")
def test_output_of_short_apps_is_complete(rkt: driver.Rkt, box: str) -> None:
    script = "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done"
    expected = [f"line {number}" for number in range(200)]
    for _ in range(25):
        assert lines(shell(rkt, box, script)) == expected
    for _ in range(25):
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
        assert pod.process.wait(20) == 0
    stubborn = "trap '' TERM; touch /trapped; while :; do sleep 0.1; done"
    with Running(rkt, box, "--exec=/bin/sh", "--", "-c", stubborn) as pod:
        pod.wait_for("/trapped")
        pod.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert pod.process.poll() is None
        pod.process.send_signal(signal.SIGINT)
        pod.process.wait(20)


@pytest.mark.promise("P1")
def test_killed_supervisor_leaves_an_exited_pod(rkt: driver.Rkt, box: str) -> None:
    with Running(rkt, box, "--exec=/bin/sleep", "--", "1000") as pod:
        with open(f"/proc/{pod.supervisor}/task/{pod.supervisor}/children") as file:
            (first,) = file.read().split()
        pidfd = os.pidfd_open(int(first))
        os.kill(pod.supervisor, signal.SIGKILL)
        pod.process.wait(20)
        # the pod's first process, and with it every other, ends at once
        assert select.select([pidfd], [], [], 5)[0] == [pidfd]
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
        assert pod.process.wait(20) == 0
    stubborn = "trap '' TERM; touch /trapped; while :; do sleep 0.1; done"
    with Running(rkt, box, "--exec=/bin/sh", "--", "-c", stubborn) as pod:
        pod.wait_for("/trapped")
        rkt.ok("stop", "--force", pod.uuid)
        pod.process.wait(10)
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


# -- what an app gets ------------------------------------------------------------------------------------


def test_identity(rkt: driver.Rkt, box: str) -> None:
    assert lines(shell(rkt, box, "id -u; id -g; id -G")) == ["0", "0", "0"]
    words = (box, "--user=web", "--group=www", "--supplementary-gids=1002,4000", "--exec=/bin/sh")
    result = run(rkt, *words, "--", "-c", "id -u; id -g; id -G; grep NoNewPrivs /proc/self/status")
    assert lines(result) == ["1000", "1001", "1001 1002 4000", "NoNewPrivs:\t1"]
    result = run(rkt, box, "--user=4711", "--group=/etc/passwd", "--exec=/bin/sh", "--", "-c", "id -u; id -g")
    assert lines(result) == ["4711", "0"]


def test_environment_reaches_the_app_unchanged(rkt: driver.Rkt, tmp_path: object) -> None:
    values = {
        "PLAIN": "a/b:c",
        "BLANKS": "  two  words",  # journald takes blanks off the end of a line
        "QUOTES": "\"double\" 'single' `back`",
        "SPECIAL": "%n %% $HOME ${HOME} $$ \\n \\ ; # =",
        "LINES": "one\ntwo\n",
        "EMPTY": "",
        "UNICODE": "grüße",
        "TRAILING": "end\\",
    }
    app = aci.app(
        "/bin/sh",
        "-c",
        # the zero bytes of environ as line ends that no value has
        "cat /proc/self/environ | tr '\\000\\n' '\\n\\001'",
        environment=[{"name": name, "value": value} for name, value in values.items()],
    )
    image = aci.busybox(f"{tmp_path}/environment.aci", app=app)
    found = dict(line.split("=", 1) for line in lines(run(rkt, image)) if "=" in line)
    assert {name: found[name].replace("\1", "\n") for name in values} == values
    assert found["AC_APP_NAME"] == "box"
    assert found["container"] == "rkt"
    assert found["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def test_arguments_reach_the_app_unchanged(rkt: driver.Rkt, box: str) -> None:
    words = ["%n", "$HOME", "${HOME}", "a b", "", '"', "'", "\\", "\\n", ";", "tab\t", "%%", "@x", "-", "ü"]
    script = 'for word in "$@"; do printf "<%s>\\n" "$word"; done'
    result = run(rkt, box, "--exec=/bin/sh", "--", "-c", script, "sh", *words)
    assert lines(result) == [f"<{word}>" for word in words]
    result = run(rkt, box, "--exec=/bin/sh", "--", "-c", script, "sh", "two\nlines")
    assert lines(result) == ["<two", "lines>"]


def test_working_directory_and_program_search(rkt: driver.Rkt, box: str) -> None:
    assert lines(run(rkt, box, "--working-dir=/tmp", "--exec=pwd")) == ["/tmp"]


def test_host_names(rkt: driver.Rkt, box: str) -> None:
    script = "hostname; cat /etc/hostname; grep -c localhost /etc/hosts"
    first, second, hosts = lines(shell(rkt, box, script))
    assert re.fullmatch(r"rkt-[0-9a-f-]{36}", first)
    assert (second, hosts) == (first, "2")
    assert lines(shell(rkt, box, "hostname; cat /etc/hostname", "--hostname=other"))[:2] == ["other", "other"]


def test_read_only_root(rkt: driver.Rkt, box: str, tmp_path: object) -> None:
    os.mkdir(f"{tmp_path}/volume")
    script = "touch /x /tmp/x; touch /data/x /dev/shm/x && echo volume"
    result = run(
        rkt,
        f"--volume=data,kind=host,source={tmp_path}/volume",
        *(box, "--readonly-rootfs=true", "--mount=volume=data,target=/data", "--exec=/bin/sh"),
        *("--", "-c", script),
    )
    assert lines(result) == [
        "touch: /x: Read-only file system",
        "touch: /tmp/x: Read-only file system",
        "volume",
    ]
    assert os.listdir(f"{tmp_path}/volume") == ["x"]


def test_event_handlers_run_around_the_app(rkt: driver.Rkt, tmp_path: object) -> None:
    app = aci.app(
        *("/bin/sh", "-c", "echo main $(id -u)"),
        user="web",
        group="www",
        eventHandlers=[
            {"name": "pre-start", "exec": ["/bin/sh", "-c", "echo before $(id -u)"]},
            {"name": "post-stop", "exec": ["/bin/sh", "-c", "echo after $(id -u)"]},
        ],
    )
    image = aci.busybox(f"{tmp_path}/handlers.aci", app=app)
    assert lines(run(rkt, image)) == ["before 0", "main 1000", "after 0"]


def test_pod_files(rkt: driver.Rkt, box: str) -> None:
    """What the transcript of rkt 1.30 shows of an exited pod's directory."""
    shell(rkt, box, "exit 0")
    directory = pod_directory(rkt)
    uuid = os.path.basename(directory)
    assert os.readlink(f"{directory}/flavor") == "host"
    with open(f"{directory}/ppid") as file:
        assert re.fullmatch(r"\d+\n", file.read())
    with open(f"{directory}/subcgroup") as file:
        assert file.read() == "/machine-rkt" + "".join(f"\\x2d{part}" for part in uuid.split("-")) + ".scope"
    root = f"{directory}/stage1/rootfs"
    with open(f"{root}/etc/machine-id") as file:
        assert file.read().strip() == uuid.replace("-", "")
    assert os.readlink(f"{root}/rkt/supervisor-status") == "ready"
    with open(f"{root}/rkt/env/box") as file:
        assert "AC_APP_NAME=box\n" in file.read()
    journals = os.path.join(root, "var/log/journal", uuid.replace("-", ""))
    found = subprocess.run(
        ["journalctl", f"--directory={journals}", "-o", "cat"], capture_output=True, check=False
    )
    assert found.returncode == 0
