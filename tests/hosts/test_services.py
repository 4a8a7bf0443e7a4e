"""Pods whose owner is a unit of systemd: readiness, stopping, limits, restarts, units that are confined."""

from __future__ import annotations

import os

import pytest
from host_images import WAIT, Images
from host_pods import (
    SECONDS,
    SLEEP,
    STATE,
    Pod,
    assert_as_before,
    cgroups,
    rkt,
    snapshot,
    until,
    until_no_machine,
)

from support import hosts


@pytest.fixture(scope="module")
def host(systemd_host: hosts.Host) -> hosts.Host:
    return systemd_host


@pytest.fixture(scope="module")
def image(systemd_image: str) -> str:
    return systemd_image


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return Images(os.fspath(tmp_path_factory.mktemp("images")))


def show(host: hosts.Host, unit: str, *properties: str) -> list[str]:
    """The values of properties, in the order they are asked for."""
    found = []
    for name in properties:
        words = ["systemctl", "show", f"--property={name}", "--value", unit]
        found.append(host.ok(words).out.rstrip("\n"))
    return found


def unit(host: hosts.Host, name: str, *lines: str) -> None:
    """Write a service that runs a pod, KillMode and Delegate as docs/systemd.md has them."""
    text = ["[Service]", "Type=notify", "KillMode=mixed", "Delegate=yes", *lines]
    host.write(f"/run/systemd/system/{name}.service", "\n".join([*text, ""]).encode())
    host.ok(["systemctl", "daemon-reload"])


def quoted(words: list[str]) -> str:
    """A command line for ExecStart=."""
    escapes = str.maketrans({"\\": "\\\\", '"': '\\"', "%": "%%", "$": "$$"})
    return " ".join(f'"{word.translate(escapes)}"' for word in words)


def children(host: hosts.Host, pid: int) -> list[int]:
    return [int(word) for word in host.read(f"/proc/{pid}/task/{pid}/children").split()]


def family(host: hosts.Host, pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        found += children(host, parent)
    return found


def alive(host: hosts.Host, pids: list[int]) -> list[int]:
    return [pid for pid in pids if host.run(["test", "-e", f"/proc/{pid}"]).code == 0]


def test_a_unit_is_active_when_the_pod_says_it_is_ready(host: hosts.Host, images: Images) -> None:
    """The app knows how to say so; until then the unit is starting, and its process stays the same."""
    path = host.put(images.make("slow", "/bin/sh", notify=True), "/var/lib/images/slow.aci")
    pod = Pod(host, "slow")
    host.ok(["mkdir", "-p", "/var/lib/slow"])
    volume = ["--volume=go,kind=host,source=/var/lib/slow", "--mount=volume=go,target=/go"]
    script = f"touch /go/started; until [ -e /go/on ]; do sleep 0.1; done; service ready; {WAIT}"
    unit(host, "slow", f"ExecStart={quoted(pod.words(path, script, *volume))}")
    starting = host.spawn(["systemctl", "start", "slow"])
    until("the app has not been started", lambda: host.run(["test", "-e", "/var/lib/slow/started"]).code == 0)
    assert starting.running()
    state, main = show(host, "slow", "ActiveState", "MainPID")
    assert state == "activating"
    assert rkt(host, "status", "--wait-ready=100ms", pod.uuid).code == 254
    host.ok(["touch", "/var/lib/slow/on"])
    assert starting.wait(SECONDS).code == 0
    assert show(host, "slow", "ActiveState", "MainPID") == ["active", main]
    assert host.read(f"{pod.directory}/ppid").decode().strip() == main
    assert rkt(host, "status", "--wait-ready=120s", pod.uuid).code == 0
    host.ok(["systemctl", "stop", "slow"], SECONDS)
    pod.remove()


@pytest.mark.promise("P9")
def test_a_pod_that_fails_before_it_is_ready_fails_the_unit(host: hosts.Host, images: Images) -> None:
    """With the pod's code; rkt's own failure is 254."""
    path = host.put(images.make("fails", "/bin/sh", notify=True), "/var/lib/images/fails.aci")
    pod = Pod(host, "fails")
    unit(host, "fails", f"ExecStart={quoted(pod.words(path, 'exit 7'))}")
    assert host.run(["systemctl", "start", "fails"], SECONDS).code == 1
    assert show(host, "fails", "Result", "ExecMainStatus") == ["exit-code", "7"]
    assert pod.status()["app-fails"] == "7"
    pod.remove()
    unit(host, "fails", f"ExecStart={quoted(pod.words('/no/such.aci', 'exit 7'))}")
    assert host.run(["systemctl", "start", "fails"], SECONDS).code == 1
    assert show(host, "fails", "Result", "ExecMainStatus") == ["exit-code", "254"]
    host.ok(["systemctl", "reset-failed", "fails"])


@pytest.mark.promise("P9")
def test_stopping_a_unit_stops_the_pod_in_order(host: hosts.Host, images: Images) -> None:
    """Apps get SIGTERM and the time they need, handlers run after them, what they return is recorded."""
    handler = {"name": "post-stop", "exec": ["/bin/sh", "-c", "echo after >>/said/log"]}
    made = images.make("polite", "/bin/sh", eventHandlers=[handler])
    path = host.put(made, "/var/lib/images/polite.aci")
    pod = Pod(host, "polite")
    host.ok(["mkdir", "-p", "/var/lib/polite"])
    volume = ["--volume=said,kind=host,source=/var/lib/polite", "--mount=volume=said,target=/said"]
    trap = "trap 'sleep 1; echo term >>/said/log; exit 0' TERM"
    script = f"{trap}; touch /trapped; while :; do sleep 0.1; done"
    unit(host, "polite", f"ExecStart={quoted(pod.words(path, script, *volume))}")
    host.ok(["systemctl", "start", "polite"], SECONDS)
    pod.wait_for("/trapped", "polite")
    processes = family(host, int(show(host, "polite", "MainPID")[0]))
    host.ok(["systemctl", "stop", "polite"], SECONDS)
    until("processes are left", lambda: not alive(host, processes))
    assert show(host, "polite", "Result", "ActiveState") == ["success", "inactive"]
    assert host.read("/var/lib/polite/log") == b"term\nafter\n"
    assert pod.status()["app-polite"] == "0"
    pod.remove()


def test_a_unit_does_not_wait_longer_than_it_says(host: hosts.Host, image: str) -> None:
    """An app that ignores SIGTERM is killed with all of the pod after TimeoutStopSec=."""
    pod = Pod(host, "stubborn")
    script = "trap : TERM; touch /trapped; while :; do sleep 0.1; done"
    unit(host, "stubborn", "TimeoutStopSec=1", f"ExecStart={quoted(pod.words(image, script))}")
    host.ok(["systemctl", "start", "stubborn"], SECONDS)
    pod.wait_for("/trapped")
    processes = family(host, int(show(host, "stubborn", "MainPID")[0]))
    host.ok(["systemctl", "stop", "stubborn"], SECONDS)
    until("processes are left", lambda: not alive(host, processes))
    assert show(host, "stubborn", "Result") == ["timeout"]
    assert pod.status()["state"] == "exited"
    pod.remove()
    host.ok(["systemctl", "reset-failed", "stubborn"])


@pytest.mark.promise("P1", "P7")
@pytest.mark.parametrize("whom", ["main", "all"])
def test_a_killed_unit_leaves_no_process(host: hosts.Host, image: str, whom: str) -> None:
    before = snapshot(host)
    pod = Pod(host, "killed").start_unit(image, SLEEP, "Delegate=yes")
    processes = family(host, int(show(host, "killed", "MainPID")[0]))
    host.ok(["systemctl", "kill", "--signal=KILL", f"--kill-whom={whom}", "killed"])
    until("processes are left", lambda: not alive(host, processes))
    assert pod.status()["state"] == "exited"
    until("the unit is there", lambda: show(host, "killed", "ActiveState") == ["failed"])
    host.ok(["systemctl", "reset-failed", "killed"])
    until_no_machine(pod)
    pod.remove()
    assert_as_before(host, before)


@pytest.mark.promise("P7")
def test_restarts_leave_nothing_behind(host: hosts.Host, image: str) -> None:
    """Five lives of a pod that always fails, each removed by ExecStopPost=."""
    before = snapshot(host)
    pod = Pod(host, "again")
    host.ok(["mkdir", "-p", "/var/lib/again"])
    volume = ["--volume=lives,kind=host,source=/var/lib/again", "--mount=volume=lives,target=/lives"]
    words = pod.words(image, "echo life >>/lives/log; sleep 0.1; exit 3", *volume)
    unit(
        host,
        "again",
        f"ExecStart={quoted(words)}",
        f"ExecStopPost={hosts.RKT} rm --uuid-file={pod.file}",
        "Restart=always",
        "RestartSec=0",
        "StartLimitIntervalSec=0",
    )
    # Whether a start is still under way when the app ends is not the same each time.
    host.run(["systemctl", "start", "again"], SECONDS)

    def lives() -> int:
        return len(host.read("/var/lib/again/log").splitlines())

    until("the pod was not started again", lambda: lives() >= 5)
    host.ok(["systemctl", "stop", "again"], SECONDS)
    host.run(["systemctl", "reset-failed", "again"])
    assert rkt(host, "list", "--no-legend").out.strip() == ""
    assert_as_before(host, before)
    assert host.ok(["find", "/var/lib/rkt/pods", "-mindepth", "2"]).out == ""


@pytest.mark.promise("P9")
def test_a_pod_without_room_for_its_own_programs_has_not_succeeded(host: hosts.Host, image: str) -> None:
    """With so few tasks nothing can record how the app ended: the pod's code is rkt's own failure."""
    words = Pod(host, "tight").words(image, "exec sleep 0.3; exit 5")
    limits = ["--property=KillMode=mixed", "--property=TasksMax=4"]
    done = host.run(["systemd-run", "--wait", "--pipe", "--quiet", *limits, *words], SECONDS)
    assert done.code not in (0, 5), done
    Pod(host, "other").start_unit(image, SLEEP, "Delegate=yes", "TasksMax=100")
    host.ok(["systemctl", "stop", "other"], SECONDS)
    assert rkt(host, "gc", "--grace-period=0s").code == 0


@pytest.mark.parametrize(
    "properties",
    [
        ["NoNewPrivileges=yes", "PrivateTmp=yes", "ProtectHome=yes", "LockPersonality=yes", "UMask=0077"],
        ["ProtectSystem=strict", "ReadWritePaths=/var/lib/rkt /var/lib/pods /run /var/log/journal"],
        ["ProtectKernelModules=yes", "ProtectKernelLogs=yes", "ProtectClock=yes", "ProtectProc=invisible"],
        ["MemoryDenyWriteExecute=yes", "PrivateNetwork=yes", "Slice=pods.slice", "WorkingDirectory=/tmp"],
    ],
    ids=lambda properties: properties[0].partition("=")[0],
)
def test_units_that_are_confined_can_run_pods(host: hosts.Host, image: str, properties: list[str]) -> None:
    """As docs/systemd.md lists them."""
    words = Pod(host, "confined").words(image, "id -u; exit 5")
    given = [f"--property={entry}" for entry in ["KillMode=mixed", "Delegate=yes", *properties]]
    done = host.run(["systemd-run", "--wait", "--pipe", "--quiet", *given, *words], SECONDS)
    assert (done.code, done.out.split("]: ")[-1]) == (5, "0\n"), done
    assert rkt(host, "gc", "--grace-period=0s").code == 0


@pytest.mark.promise("P7")
@pytest.mark.parametrize(
    ("setting", "refused"),
    [
        ("DynamicUser=yes", "run: cannot run as unprivileged user"),
        ("ProtectSystem=strict", "/var/lib/rkt/"),
        ("ProtectControlGroups=yes", "stage1: mkdir /sys/fs/cgroup/"),
        ("ProtectKernelTunables=yes", "/proc/sys/net/"),
        ("PrivateDevices=yes", "mknod /dev/null: operation not permitted"),
        ("RestrictNamespaces=yes", "operation not permitted"),
        ("RestrictSUIDSGID=yes", "RestrictSUIDSGID= of a systemd unit forbids it"),
        ("PrivateUsers=yes", "run: cannot mount overlay"),
        ("CapabilityBoundingSet=CAP_SYS_ADMIN", "permission denied"),
    ],
    ids=lambda text: text.partition("=")[0],
)
def test_what_a_unit_forbids_is_named_and_leaves_nothing(
    host: hosts.Host, image: str, setting: str, refused: str
) -> None:
    before = snapshot(host)
    words = ["--insecure-options=image", "run", "--net=none", image, "--exec=/bin/true"]
    given = ["--property=KillMode=mixed", f"--property={setting}"]
    command = ["systemd-run", "--wait", "--pipe", "--quiet", *given, hosts.RKT, *words]
    done = host.run(command, SECONDS)
    assert done.code == 254, done
    assert refused in done.err
    for _ in range(2):
        assert rkt(host, "gc", "--grace-period=0s").code == 0
    assert_as_before(host, before)
    assert host.ok(["find", "/var/lib/rkt/pods", "-mindepth", "2"]).out == ""


def test_a_scope_somebody_made_keeps_the_pod(host: hosts.Host, image: str) -> None:
    """systemd-run --scope is how a shell gives a command its limits."""
    pod = Pod(host, "scoped")
    command = ["systemd-run", "--scope", "--quiet", "--unit=scoped", "--property=MemoryMax=80M"]
    pod.process = host.spawn([*command, *pod.words(image, SLEEP)])
    pod.await_ready()
    assert pod.subcgroup.startswith("/system.slice/scoped.scope/machine-rkt")
    memory = cgroups(host, pod.app_process())["memory"]
    assert memory.startswith("/system.slice/scoped.scope/")
    limit = host.read("/sys/fs/cgroup/memory/system.slice/scoped.scope/memory.limit_in_bytes")
    assert limit == b"83886080\n"
    pod.stop()


def test_the_host_ends_pods_in_order_when_it_goes_down(host: hosts.Host, image: str) -> None:
    """What a shell has started too: stopping the slice is what a shutdown does."""
    script = "trap 'echo bye; exit 0' TERM; touch /trapped; while :; do sleep 0.1; done"
    pod = Pod(host, "last").start(image, script)
    pod.wait_for("/trapped")
    host.ok(["systemctl", "stop", "machine.slice"], SECONDS)
    assert pod.process is not None
    result = pod.process.wait(SECONDS)
    assert (result.code, result.out.split("]: ")[-1]) == (0, "bye\n"), result
    assert pod.status()["app-box"] == "0"
    pod.remove()


def test_processes_of_a_pod_can_be_told_from_the_unit(host: hosts.Host, image: str) -> None:
    """systemctl status and systemd-cgls show the apps below the unit, by their own names."""
    pod = Pod(host, "shown").start_unit(image, f"exec sleep {4000}", "Delegate=yes")
    shown = host.ok(["systemctl", "status", "--no-pager", "--full", "shown"]).out
    tree = host.ok(["systemd-cgls", "--no-pager", "--full", "/system.slice/shown.service"]).out
    for text in (shown, tree):
        for name in ("systemd-nspawn", "systemd-journald", "sleep 4000"):
            assert name in text, text
    assert "Container running: Ready." in shown
    host.ok(["systemctl", "stop", "shown"], SECONDS)
    pod.remove()


def test_standard_output_of_a_unit_may_be_anything(host: hosts.Host, image: str) -> None:
    """A file, as with StandardOutput=append:; lines end as the app wrote them."""
    output = f"{STATE}/printed"
    pod = Pod(host, "prints")
    streams = [f"--property=StandardOutput=append:{output}", "--property=StandardError=journal"]
    command = ["systemd-run", "--wait", "--quiet", *streams]
    done = host.run([*command, *pod.words(image, "echo one; echo two")], SECONDS)
    assert done.code == 0, done
    assert [line.split("]: ")[-1] for line in host.read(output).decode().split("\n")] == ["one", "two", ""]
    pod.remove()
