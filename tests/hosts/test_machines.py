"""Pods as machines of a host that systemd runs: where they are, what limits them, who knows them."""

from __future__ import annotations

import os

import pytest
from host_pods import (
    SECONDS,
    SLEEP,
    STATE,
    Pod,
    assert_as_before,
    cgroups,
    limit,
    on_terminal,
    rkt,
    snapshot,
    until,
    until_no_machine,
)

from support import hosts

OTHER = "/var/lib/rkt/other"
SERVICE = "/usr/share/dbus-1/system-services/org.freedesktop.machine1.service"
STREAM = "--annotation=coreos.com/rkt/stage2/stdout=stream"
LIMITS = ("--memory=32Mi", "--cpu=500m", "--cpu-shares=512")


def limits(host: hosts.Host, pid: int) -> tuple[str, str, str]:
    """Memory, processor time and share in force for a process, in the words of version 1."""
    memory = limit(host, pid, "memory/memory.limit_in_bytes", "memory.max")
    quota = limit(host, pid, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0]
    weight = limit(host, pid, "cpu/cpu.shares", "cpu.weight")
    return memory, quota, "512" if weight == "50" else weight


def server(host: hosts.Host) -> int:
    """The process that serves the streams of the only pod that has some."""
    return int(host.ok(["pgrep", "-x", "rkt-iottymux"]).out)


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
    pod = Pod(host, "scope").start(image, SLEEP, *users, app=(*LIMITS, STREAM))
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
    streams = server(host)
    result = pod.stop("--force")
    until("the streams are served", lambda: host.run(["test", "-e", f"/proc/{streams}"]).code != 0)
    assert "warning" not in result.err, result
    until_no_machine(pod)
    assert_as_before(host, before)


@pytest.mark.promise("P5")
def test_in_a_unit_limits_of_unit_and_app_hold(host: hosts.Host, image: str) -> None:
    """The unit keeps the pod, and leaves its controllers to it when it says so.

    With version 2 the pod's own cgroup has no process, else it could not hand them on.
    """
    unit = ["Delegate=yes", "MemoryMax=96M", "CPUQuota=80%", "TasksMax=99"]
    pod = Pod(host, "delegated").start_unit(image, SLEEP, *unit, app=(*LIMITS, STREAM))
    group = "/system.slice/delegated.service"
    assert pod.subcgroup == f"{group}/{escaped(pod.uuid)}"
    shown = host.ok(["machinectl", "show", "--property=Unit", "--value", pod.machine]).out
    assert shown == "delegated.service\n"
    pid = pod.app_process()
    assert limits(host, pid) == ("33554432", "50000", "512")
    streams = server(host)
    assert cgroups(host, streams)[""] == f"{pod.subcgroup}/iottymux"
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
    until("the streams are served", lambda: host.run(["test", "-e", f"/proc/{streams}"]).code != 0)
    host.ok(["journalctl", "--sync"])
    assert "is ignored" not in host.ok(["journalctl", "--unit=delegated", "--output=cat"]).out
    pod.remove()


def test_in_a_unit_that_does_not_delegate_the_pod_runs_and_says_what_is_missing(
    virtual_machine: hosts.Host, machine_image: str
) -> None:
    """With version 2 the unit's cgroup cannot hand controllers down and have processes besides."""
    host = virtual_machine
    stop_post = f"ExecStopPost={hosts.RKT} rm --uuid-file=/var/lib/pods/kept.uuid"
    pod = Pod(host, "kept").start_unit(machine_image, SLEEP, stop_post, app=("--memory=32Mi",))
    host.ok(["systemctl", "stop", "kept"], SECONDS)
    host.ok(["journalctl", "--sync"])
    said = host.ok(["journalctl", "--unit=kept", "--output=cat"]).out
    assert 'the cgroup of the caller does not hand on controller "memory"' in said
    assert "Delegate=yes" in said
    # The command of ExecStopPost was started in the unit's own cgroup.
    assert rkt(host, "status", pod.uuid).code == 254
    assert host.run(["systemctl", "is-failed", "kept"]).out == "inactive\n"


def test_machinectl_shows_and_stops_pods(systemd_host: hosts.Host, systemd_image: str) -> None:
    """poweroff ends a pod in order; terminate ends its scope, of which the supervisor is told first."""
    host = systemd_host
    script = "trap 'echo bye; exit 0' TERM; touch /trapped; while :; do sleep 0.1; done"
    for verb in ("poweroff", "terminate"):
        pod = Pod(host, verb).start(systemd_image, script)
        pod.wait_for("/trapped")
        assert f"{pod.machine} container rkt" in machines(host)
        shown = host.ok(["machinectl", "status", "--no-pager", "--full", pod.machine]).out
        assert f"Root: {pod.directory}/stage1/rootfs" in shown
        assert "systemd-journald" in shown
        host.ok(["machinectl", verb, pod.machine])
        assert pod.process is not None
        result = pod.process.wait(SECONDS)
        assert (result.code, result.out.split("]: ")[-1]) == (0, "bye\n"), result
        assert pod.status()["app-box"] == "0"
        until_no_machine(pod)
        pod.remove()


USERS = pytest.mark.parametrize("users", [[], ["--private-users"]], ids=["host-ids", "own-ids"])
DAEMON = "/usr/bin/dbus-daemon"
BUS = "/run/dbus/system_bus_socket"
LEAVE = "\x1d\x1d\x1d"
STUBBORN = "trap '' HUP TERM INT; echo here; while :; do sleep 1; done"
# Of every process what lies below its root, and its terminal; then what the looking one has itself.
LOOK = f"""
for process in /proc/[0-9]*; do
    echo "$process"
    for path in {BUS} /run/systemd/private; do
        [ -e "$process/root$path" ] && echo "reached $process/root$path"
    done
    case $(readlink "$process/fd/0") in /dev/pts/*) echo "reached $process/fd/0" ;; esac
done
ls /dev/pts
grep @ /proc/net/unix
"""


def bus_processes(pod: Pod) -> str:
    """The numbers of the processes of the pod's D-Bus; "" when it has not been started."""
    root = "/sys/fs/cgroup" if list(cgroups(pod.host, 1)) == [""] else "/sys/fs/cgroup/systemd"
    path = f"{root}{pod.subcgroup}/payload/system.slice/dbus.service/cgroup.procs"
    return pod.host.run(["cat", path]).out


def leader(pod: Pod) -> str:
    return pod.host.ok(["machinectl", "show", "--property=Leader", "--value", pod.machine]).out.strip()


@USERS
def test_a_command_is_run_by_machinectl_shell(
    systemd_host: hosts.Host, systemd_image: str, users: list[str]
) -> None:
    """What it needs in the pod is started when it is needed; it is root of the pod, not of an app."""
    host = systemd_host
    before = snapshot(host)
    pod = Pod(host, "shell").start(systemd_image, SLEEP, *users)
    assert bus_processes(pod) == ""
    shell = ["machinectl", "--quiet", "shell", pod.machine]
    done = host.ok(on_terminal([*shell, "/bin/cat", "/proc/1/comm"]))
    assert done.out.split() == ["systemd"]
    assert bus_processes(pod) != ""
    script = "cat /etc/machine-id; id -u; pwd; ls /opt/stage2"
    done = host.ok(on_terminal([*shell, "/bin/sh", "-c", script]))
    assert done.out.split() == [pod.uuid.replace("-", ""), "0", "/root", "box"]
    # Without a command it is the user's own shell.
    host.ok(on_terminal(shell, ("# ", "echo $((6*7)); exit\n"), ("42", "")))
    assert rkt(host, "enter", pod.uuid, "/bin/echo", "inside").out == "inside\n"
    result = pod.stop()
    assert result.code == 0, result
    assert_as_before(host, before)


@USERS
def test_root_logs_in_by_machinectl(systemd_host: hosts.Host, systemd_image: str, users: list[str]) -> None:
    """Who may ask machined for it needs no password; after a logout there is another shell."""
    pod = Pod(systemd_host, "login").start(systemd_image, SLEEP, *users)
    steps = [
        ("# ", "cat /etc/machine-id /etc/hostname\n"),
        (pod.uuid.replace("-", ""), ""),
        (pod.machine, ""),
        ("# ", "tty; echo $HOME\n"),
        ("/dev/pts/", ""),
        ("/root", ""),
        ("# ", "exit\n"),
        ("# ", "echo $((6*7))\n"),
        ("42", LEAVE),
    ]
    done = systemd_host.ok(on_terminal(["machinectl", "login", pod.machine], *steps))
    assert [line.strip() for line in done.lines][: len(steps)] == [step[0].strip() for step in steps]
    # The terminal has gone, and the shell on it.
    result = pod.stop()
    assert result.code == 0, result


@pytest.mark.promise("P4")
@USERS
def test_an_app_reaches_neither_bus_nor_terminal_of_who_logs_in(
    systemd_host: hosts.Host, systemd_image: str, users: list[str]
) -> None:
    """An app that is root has other files, and may not look through the processes of the pod around it."""
    host = systemd_host
    pod = Pod(host, "apart").start(systemd_image, SLEEP, *users)
    shell = on_terminal(
        ["machinectl", "--quiet", "shell", pod.machine], ("# ", "echo $((6*7))\n"), ("42", "")
    )
    opened = host.spawn(shell)
    until("there is no shell", lambda: bus_processes(pod) != "")
    pid = leader(pod)
    host.ok(["test", "-S", f"/proc/{pid}/root{BUS}"])
    until("there is no terminal", lambda: len(host.run(["ls", f"/proc/{pid}/root/dev/pts"]).lines) > 2)
    seen = rkt(host, "enter", pod.uuid, "/bin/sh", "-c", LOOK).lines
    assert "/proc/1" in seen
    assert len([line for line in seen if line.startswith("/proc/")]) > 4
    assert [line for line in seen if not line.startswith("/proc/")] == ["ptmx"]
    # The same look by who may.
    done = host.ok(on_terminal(["machinectl", "--quiet", "shell", pod.machine, "/bin/sh", "-c", LOOK]))
    found = {line.strip() for line in done.lines if "reached" in line}
    assert {f"reached /proc/1/root{BUS}", "reached /proc/1/root/run/systemd/private"} <= found
    assert [line for line in found if line.endswith("/fd/0")]
    pod.stop()
    opened.wait(SECONDS)


@pytest.mark.parametrize("verb", ["end", "stop", "poweroff", "terminate"])
@pytest.mark.parametrize("kind", ["shell", "login"])
def test_a_pod_ends_with_a_shell_open(
    systemd_host: hosts.Host, systemd_image: str, verb: str, kind: str
) -> None:
    """It is hung up, and killed if it ignores that; the pod's code is the app's, and nothing stays."""
    host = systemd_host
    before = snapshot(host)
    script = "trap 'exit 3' TERM; touch /trapped; until [ -e /go-on ]; do sleep 0.1; done; exit 7"
    pod = Pod(host, "open").start(systemd_image, script)
    pod.wait_for("/trapped")
    words = ["machinectl", kind, pod.machine]
    marker = f"{STATE}/open.marker"
    host.ok(["rm", "-f", marker])
    opened = host.spawn(
        ["sh", "-c", f'"$@" >{marker}', "sh", *on_terminal(words, ("# ", f"{STUBBORN}\n"), ("here\r", ""))]
    )
    until("there is no shell", lambda: "here" in host.run(["cat", marker]).out)
    assert opened.running()
    if verb == "end":
        host.ok(["touch", f"{pod.directory}/stage1/rootfs/opt/stage2/box/rootfs/go-on"])
    elif verb == "stop":
        assert rkt(host, "stop", pod.uuid).code == 0
    else:
        host.ok(["machinectl", verb, pod.machine])
    assert pod.process is not None
    result = pod.process.wait(SECONDS)
    assert result.code == (7 if verb == "end" else 0), result
    opened.wait(SECONDS)
    assert pod.status()["app-box"] == str(result.code)
    pod.remove()
    assert_as_before(host, before)


def test_without_a_bus_daemon_on_the_host_a_shell_is_refused_with_the_reason(
    systemd_host: hosts.Host, systemd_image: str
) -> None:
    """The pod does without; ``rkt enter`` needs none."""
    host = systemd_host
    host.ok(["mv", DAEMON, f"{DAEMON}.away"])
    try:
        pod = Pod(host, "refused").start(systemd_image)
        for verb in ("shell", "login"):
            done = host.run(["machinectl", verb, pod.machine])
            assert (done.code, "There is no system bus in container" in done.err) == (1, True), done
        assert rkt(host, "enter", pod.uuid, "/bin/echo", "inside").out == "inside\n"
        pod.stop()
    finally:
        host.ok(["mv", f"{DAEMON}.away", DAEMON])


@pytest.fixture
def uuid(systemd_host: hosts.Host, systemd_image: str) -> str:
    """A prepared pod of a data directory beside the usual one."""
    words = [f"--dir={OTHER}", "--insecure-options=image", "prepare", "--quiet", systemd_image]
    return rkt(systemd_host, *words, "--exec=/bin/true").out.strip()


def test_there_is_one_machine_of_a_name(systemd_host: hosts.Host, systemd_image: str, uuid: str) -> None:
    """As when a data directory was copied with its pods: the first one is not touched."""
    host = systemd_host
    box = "/var/lib/rkt/busybox"
    host.ok(["mkdir", "-p", *(f"{box}/{name}" for name in ("bin", "etc", "usr", "proc", "sys", "dev"))])
    host.ok(["cp", "/bin/busybox", f"{box}/bin/busybox"])
    other = ["systemd-nspawn", "--quiet", "--settings=no", f"--machine=rkt-{uuid}", f"--directory={box}"]
    first = host.spawn([*other, "/bin/busybox", "sleep", "1000"])
    until("the machine is not there", lambda: f"rkt-{uuid}" in machines(host))
    before = snapshot(host)
    done = rkt(host, f"--dir={OTHER}", "run-prepared", "--net=none", uuid)
    assert done.code == 254
    assert done.err.splitlines()[-2:] == [
        f'stage1: machined has a machine "rkt-{uuid}" already',
        f"stage1: what it is: machinectl status rkt-{uuid}",
    ]
    assert first.running()
    host.ok(["machinectl", "terminate", f"rkt-{uuid}"])
    first.wait(SECONDS)
    assert rkt(host, f"--dir={OTHER}", "gc", "--grace-period=0s").code == 0
    left = snapshot(host)
    assert [path for path in left["mounts"] if OTHER in path] == []
    assert len(left["cgroups"]) <= len(before["cgroups"])


BROKEN = {
    "machined-hangs": (
        "systemctl start systemd-machined && kill -STOP $(pidof systemd-machined)",
        "kill -CONT $(pidof systemd-machined)",
        "warning: the pod is not registered with machined: ",
        "/machine.slice/",
    ),
    "machined-is-masked": (
        "systemctl mask --quiet --runtime --now systemd-machined",
        "systemctl unmask --quiet --runtime systemd-machined",
        "warning: the pod is not registered with machined: busctl exited 1: Call failed: Unit ",
        "/machine.slice/",
    ),
    "machined-is-absent": (
        f"mv {SERVICE} /run/machined.service && systemctl stop systemd-machined && systemctl reload dbus",
        f"mv /run/machined.service {SERVICE} && systemctl reload dbus",
        "",
        "/machine.slice/",
    ),
    "dbus-hangs": (
        "kill -STOP $(pidof dbus-daemon)",
        "kill -CONT $(pidof dbus-daemon)",
        "warning: D-Bus does not answer: the pod is not registered with machined, it stays below",
        "/user.slice/user-0.slice/session-1.scope/",
    ),
    "dbus-is-absent": (
        "mv /run/dbus/system_bus_socket /run/dbus/away",
        "mv /run/dbus/away /run/dbus/system_bus_socket",
        "",
        "/user.slice/user-0.slice/session-1.scope/",
    ),
}


@pytest.mark.promise("P5", "P7")
@pytest.mark.parametrize("name", BROKEN)
def test_a_pod_runs_where_parts_of_systemd_do_not(
    systemd_host: hosts.Host, systemd_image: str, name: str
) -> None:
    """It does not wait for them for long, says what is missing, and has its limits; nothing of it stays."""
    host = systemd_host
    do, undo, warning, place = BROKEN[name]
    before = snapshot(host)
    pod = Pod(host, "alone")
    script = "cat /proc/self/cgroup; exit 7"
    words = pod.words(systemd_image, script)
    words[words.index("--exec=/bin/sh") : words.index("--exec=/bin/sh")] = ["--memory=32Mi"]
    host.ok(["sh", "-ec", do])
    try:
        done = host.run(words, 20)
    finally:
        host.ok(["sh", "-ec", undo])
    assert done.code == 7, done
    assert warning in done.err
    assert ("warning" in done.err) is bool(warning), done
    assert "memory" in [
        line.split(":")[1] for line in done.out.replace("]: ", "\n").splitlines() if "box.service" in line
    ]
    assert pod.subcgroup.startswith(place)
    pod.remove()
    assert_as_before(host, before)


def test_a_pod_that_cannot_start_leaves_the_unit_as_it_was(host: hosts.Host, image: str) -> None:
    """The process goes back to where it came from; what it had made is gone before systemd looks."""
    before = snapshot(host)
    words = Pod(host, "refused").words(image, "true")
    words[words.index("--exec=/bin/sh")] = "--exec=no-such-program"
    given = ["--property=Delegate=yes", "--property=KillMode=mixed"]
    done = host.run(["systemd-run", "--wait", "--pipe", "--quiet", *given, *words], SECONDS)
    assert done.code == 254, done
    assert 'unable to find "no-such-program"' in done.err
    assert "error" not in done.err.replace("error looking up", "")
    assert_as_before(host, before)
    assert rkt(host, "list", "--no-legend").out.strip() == ""
