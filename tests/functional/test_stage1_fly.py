"""Flavor fly through the real program: one app, its root, its exit code, signals, enter and stop."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import pytest
from fly_pod import Run, argv, is_gone, only_pod, shell, volume

from support import aci, driver
from support.driver import Rkt
from support.waiting import PATIENCE, until

pytest_plugins = ("fly_fixtures",)


@pytest.mark.promise("P9")
@pytest.mark.parametrize("code", [0, 1, 7, 125, 254])
def test_exit_code_is_the_apps_and_is_recorded(rkt: Rkt, fly: Run, box: str, code: int) -> None:
    result = fly(box, *shell(f"echo out; echo err >&2; exit {code}"))
    assert (result.code, result.out) == (code, "out\n")
    assert "err\n" in result.err
    status = rkt.ok("status", only_pod(rkt))
    assert "state=exited\n" in status.out
    assert f"app-box={code}\n" in status.out


@pytest.mark.promise("P9")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGHUP])
def test_death_by_a_signal_is_passed_on(rkt: Rkt, fly: Run, box: str, number: signal.Signals) -> None:
    result = fly(box, *shell(f"kill -{int(number)} $$"))
    assert result.code == -number
    assert f"app-box={128 + number}\n" in rkt.ok("status", only_pod(rkt)).out


def test_without_overlay(rkt: Rkt, fly: Run, box: str) -> None:
    result = fly("--no-overlay", box, *shell("echo x >/made && exit 3"))
    assert result.code == 3
    assert "app-box=3\n" in rkt.ok("status", only_pod(rkt)).out


def test_prepared_pod(rkt: Rkt, fly: Run, box: str) -> None:
    prepared = fly(box, *shell("exit 9"), verb="prepare")
    assert prepared.code == 0, prepared
    uuid = prepared.out.strip()
    assert rkt("run-prepared", uuid).code == 9
    assert "app-box=9\n" in rkt.ok("status", uuid).out


def test_environment_directory_and_umask(fly: Run, tmp_path: os.PathLike[str]) -> None:
    image = aci.busybox(
        os.path.join(tmp_path, "env.aci"),
        app=aci.app(
            "/bin/sh",
            "-c",
            "env; umask; pwd",
            workingDirectory="/usr",
            environment=[{"name": "A", "value": "with space\nand line"}, {"name": "PATH", "value": "/bin"}],
        ),
    )
    result = fly(image, env={"SECRET_OF_THE_CALLER": "x"})
    assert result.code == 0, result
    assert "SECRET" not in result.out
    assert "A=with space\nand line\n" in result.out
    assert "PATH=/bin\n" in result.out
    assert "AC_APP_NAME=box\n" in result.out
    assert result.out.endswith("0022\n/usr\n")


@pytest.mark.parametrize(
    ("flags", "ids"),
    [
        ([], "uid=0(root) gid=0(root)"),
        (["--user=web", "--group=www"], "uid=1000(web) gid=1001(www)"),
        (["--user=1234", "--group=4321"], "uid=1234 gid=4321"),
        (["--user=/owned", "--group=/owned"], "uid=77 gid=78"),
        (
            ["--user=web", "--group=www", "--supplementary-gids=1002,5000"],
            "uid=1000(web) gid=1001(www) groups=1002(extra),5000",
        ),
    ],
)
def test_users(fly: Run, tmp_path: os.PathLike[str], flags: list[str], ids: str) -> None:
    owned = aci.Entry("owned", b"", uid=77, gid=78)
    image = aci.busybox(os.path.join(tmp_path, "users.aci"), entries=[owned])
    result = fly(image, *shell("id", *flags))
    assert result.out.strip() == ids, result


def test_stdin_is_the_callers(fly: Run, box: str) -> None:
    assert fly(box, *shell("cat"), input="through\n").out == "through\n"


@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--exec=/bin/nosuch"], 'Unable to open "/bin/nosuch": No such file or directory'),
        (["--exec=nosuch"], 'unable to find "nosuch" in'),
        (["--exec=/etc/passwd"], 'Unable to execute "/etc/passwd": Permission denied'),
        (["--exec=/etc"], 'Unable to execute "/etc": Is a directory'),
        (["--user=nobodyhere"], 'unable to find user "nobodyhere" in /etc/passwd of the image'),
        (["--group=nogroup"], 'unable to find group "nogroup" in /etc/group of the image'),
        (["--working-dir=/nosuch"], 'unable to use the working directory "/nosuch"'),
        (["--caps-retain=CAP_NOSUCH"], 'unknown capability "CAP_NOSUCH"'),
        (["--exec=/proc/1/root/bin/sh"], "refusing to execute"),
        (["--exec=/proc/self/exe"], "refusing to execute"),
        (["--exec=/bin/outside"], "refusing to execute"),
        (["--exec=/bin/script"], "refusing to execute"),
    ],
)
def test_what_cannot_be_started_is_one_line_and_254(
    rkt: Rkt, fly: Run, tmp_path: os.PathLike[str], words: list[str], message: str
) -> None:
    entries = [
        aci.symlink("bin/outside", "/proc/1/root/bin/sh"),
        aci.Entry("bin/script", b"#!/proc/1/root/bin/sh\nexit 0\n", mode=0o755),
    ]
    image = aci.busybox(os.path.join(tmp_path, "bad.aci"), entries=entries)
    result = fly(image, *words)
    assert result.code == 254, result
    assert message in result.err
    assert result.out == ""
    (line,) = [line for line in result.err.splitlines() if not line.startswith(("image:", "networking:"))]
    assert line.startswith("stage1: ")
    assert rkt.ok("list", "--no-legend").out.strip() == ""


def test_exactly_one_app(fly: Run, box: str) -> None:
    result = fly(box, "--name=a", box, "--name=b")
    assert result.code == 254
    assert "flavor fly runs exactly one app in a pod, not 2" in result.err


def test_flags_that_fly_does_not_have(fly: Run, box: str) -> None:
    result = fly("--hostname=h", "--net=none", box, *shell("hostname"))
    assert result.code == 0
    assert result.out == f"Warning: -hostname not supported; ignoring\n{os.uname().nodename}\n"


def test_debug_prints_the_plan(fly: Run, box: str) -> None:
    result = fly("--debug", box)
    assert "stage1: mount tmpfs on /tmp" in result.err
    assert "stage1: capabilities: CAP_AUDIT_WRITE" in result.err


# --- volumes ---------------------------------------------------------------------------------------------


def test_volume_read_write_and_read_only(fly: Run, box: str, source: str) -> None:
    result = fly(
        volume("rw", source),
        volume("ro", source, "readOnly=true"),
        box,
        "--mount=volume=rw,target=/data/made/here",
        "--mount=volume=ro,target=/ro",
        *shell("echo new >/data/made/here/new; cat /ro/file; echo x >/ro/file || exit 5"),
    )
    assert (result.code, result.out) == (5, "host\n"), result
    with open(os.path.join(source, "new")) as file:
        assert file.read() == "new\n"


def test_volume_that_is_a_file(fly: Run, box: str, source: str) -> None:
    path = os.path.join(source, "file")
    result = fly(
        volume("f", path), box, "--mount=volume=f,target=/etc/deep/er", *shell("echo x >>/etc/deep/er")
    )
    assert result.code == 0, result
    with open(path) as file:
        assert file.read() == "host\nx\n"


@pytest.mark.parametrize(
    ("recursive", "seen"), [("", False), ("recursive=false", False), ("recursive=true", True)]
)
def test_mounts_below_a_volume(fly: Run, box: str, source: str, recursive: str, seen: bool) -> None:
    below = os.path.join(source, "below")
    os.mkdir(below)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    try:
        with open(os.path.join(below, "inner"), "w"):
            pass
        flags = [recursive] if recursive else []
        result = fly(
            volume("v", source, "readOnly=true", *flags),
            box,
            "--mount=volume=v,target=/v",
            *shell("ls /v/below; echo x >/v/below/x"),
        )
        assert (result.out == "inner\n") is seen
        assert result.code != 0  # read-only all the way down
        assert os.listdir(below) == ["inner"]
    finally:
        subprocess.run(["umount", below], check=True)


def test_empty_volume(fly: Run, box: str) -> None:
    result = fly(
        "--volume=e,kind=empty,mode=0750,uid=5,gid=6",
        box,
        "--mount=volume=e,target=/e",
        *shell("stat -c '%a %u %g' /e; touch /e/x"),
    )
    assert (result.code, result.out) == (0, "750 5 6\n"), result


def test_volume_below_tmp_and_below_dev(fly: Run, box: str, source: str) -> None:
    result = fly(
        volume("t", source),
        volume("s", source),
        box,
        "--mount=volume=t,target=/tmp/inner",
        "--mount=volume=s,target=/dev/shm",
        *shell("cat /tmp/inner/file /dev/shm/file; stat -c %a /tmp"),
    )
    assert (result.code, result.out) == (0, "host\nhost\n1777\n"), result


@pytest.mark.promise("P9")
def test_mount_faults(fly: Run, tmp_path: os.PathLike[str], source: str) -> None:
    image = aci.busybox(
        os.path.join(tmp_path, "points.aci"),
        app=aci.app("/bin/true", mountPoints=[{"name": "data", "path": "/data"}]),
    )
    result = fly(image)
    assert result.code == 254
    assert 'missing volume for mountpoint "data"' in result.err
    result = fly(volume("data", os.path.join(source, "nosuch")), image)
    assert result.code == 254
    assert 'source of volume "data" does not exist' in result.err or "nosuch" in result.err
    result = fly(volume("data", source), image, "--mount=volume=data,target=/other")
    assert result.code == 254
    assert 'volume "data" is mounted twice' in result.err


@pytest.mark.promise("P4")
@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("/dev/rkt-test-evil/deep", None),
        ("/link/deep", "/dev/rkt-test-evil"),
        ("/proc/self/fd/0/x", None),
        ("/sys/fs/cgroup/rkt-test-evil", None),
        ("/link/x", "/proc/self/root/rkt-test-evil"),
        ("/link", "../../../../../../../../rkt-test-evil"),
    ],
)
@pytest.mark.attack(11)
def test_mount_points_cannot_make_anything_on_the_host(
    fly: Run, tmp_path: os.PathLike[str], source: str, path: str, link: str | None
) -> None:
    entries = [aci.symlink("link", link)] if link else []
    image = aci.busybox(
        os.path.join(tmp_path, "evil.aci"),
        entries=entries,
        app=aci.app("/bin/true", mountPoints=[{"name": "v", "path": path}]),
    )
    fly(volume("v", source), image)
    for place in ("/dev/rkt-test-evil", "/rkt-test-evil", "/sys/fs/cgroup/rkt-test-evil"):
        assert not os.path.lexists(place)


def test_read_only_root(fly: Run, box: str, source: str) -> None:
    result = fly(
        volume("v", source),
        box,
        "--readonly-rootfs=true",
        "--mount=volume=v,target=/v",
        *shell("touch /x || touch /tmp/x /v/x && echo both"),
    )
    assert (result.code, result.out) == (0, "both\n"), result


def test_volumes_keep_sharing_with_the_host(rkt: Rkt, fly: Run, box: str, tmp_path: os.PathLike[str]) -> None:
    """An agent that may mount does so for the host, where the host shares."""
    shared = os.path.join(tmp_path, "shared")
    os.makedirs(os.path.join(shared, "point"))
    subprocess.run(["mount", "--bind", shared, shared], check=True)
    subprocess.run(["mount", "--make-shared", shared], check=True)
    try:
        result = fly(
            volume("v", shared),
            box,
            "--mount=volume=v,target=/v",
            *shell("mount -t tmpfs tmpfs /v/point"),
            insecure="image,all-run",
        )
        assert result.code == 0, result
        with open("/proc/self/mountinfo") as file:
            assert f" {shared}/point " in file.read()
    finally:
        subprocess.run(["umount", "-R", shared], check=True)


# --- resolv.conf and hosts --------------------------------------------------------------------------------


def test_resolv_conf_and_hosts(fly: Run, tmp_path: os.PathLike[str]) -> None:
    own = [aci.Entry("etc/resolv.conf", b"own\n"), aci.symlink("etc/hosts", "nowhere")]
    image = aci.busybox(os.path.join(tmp_path, "dns.aci"), entries=own)
    script = shell("cat /etc/resolv.conf; echo --; cat /etc/hosts")
    assert fly(image, *script).out == "own\n--\n"
    result = fly("--dns=10.1.2.3", "--hosts-entry=10.9.8.7=friend", image, *script)
    assert "nameserver 10.1.2.3\n" in result.out
    assert "10.9.8.7 friend\n" in result.out
    result = fly("--dns=host", "--hosts-entry=host", image, *script)
    with open("/etc/resolv.conf") as resolv, open("/etc/hosts") as hosts:
        assert result.out == resolv.read() + "--\n" + hosts.read()
    bare = aci.busybox(os.path.join(tmp_path, "bare.aci"))
    assert "127.0.0.1" in fly(bare, *shell("cat /etc/hosts")).out


@pytest.mark.promise("P4")
def test_generated_files_do_not_go_through_a_volume_to_the_host(
    fly: Run, box: str, tmp_path: os.PathLike[str]
) -> None:
    etc = os.path.join(tmp_path, "etc")
    os.mkdir(etc)
    for name in ("resolv.conf", "passwd", "group"):
        with open(os.path.join(etc, name), "w") as file:
            file.write("host\n")
    result = fly(
        "--dns=10.1.2.3",
        volume("etc", etc),
        box,
        "--mount=volume=etc,target=/etc",
        *shell("cat /etc/resolv.conf"),
    )
    assert "nameserver 10.1.2.3" in result.out, result
    with open(os.path.join(etc, "resolv.conf")) as file:
        assert file.read() == "host\n"


# --- life -------------------------------------------------------------------------------------------------


@pytest.mark.promise("P1")
def test_signals_reach_the_app(rkt: Rkt, fly: Run, started: Any, box: str) -> None:
    script = "trap 'echo term; exit 4' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done"
    process = started(box, script)
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "usr1\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (4, "term\n")
    assert "app-box=4\n" in rkt.ok("status", only_pod(rkt)).out


@pytest.mark.promise("P1")
@pytest.mark.parametrize(("flags", "code"), [([], 0), (["--force"], -9)])
def test_stop(rkt: Rkt, fly: Run, started: Any, box: str, flags: list[str], code: int) -> None:
    process = started(box, "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    uuid = only_pod(rkt)
    rkt.ok("status", "--wait-ready=120s", uuid)
    rkt.ok("stop", *flags, uuid)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert "state=exited\n" in rkt.ok("status", uuid).out


@pytest.mark.promise("P1")
def test_stop_does_not_signal_the_callers_process_group(rkt: Rkt, fly: Run, started: Any, box: str) -> None:
    process = started(box, "echo ready; sleep 1000")
    with open(os.path.join(rkt.dir, "pods", "run", only_pod(rkt), "pgid")) as file:
        group = int(file.read())
    assert group != os.getpgid(process.pid)
    rkt.ok("stop", only_pod(rkt))
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.promise("P1")
def test_killing_rkt_kills_the_app(rkt: Rkt, fly: Run, started: Any, box: str) -> None:
    process = started(box, "echo ready; while :; do sleep 0.05; done")
    uuid = only_pod(rkt)
    with open(os.path.join(rkt.dir, "pods", "run", uuid, "pid")) as file:
        app = int(file.read())
    process.kill()
    process.wait()
    until(lambda: is_gone(app))
    rkt.wait_for(uuid, "exited")
    assert "app-box" not in rkt.ok("status", uuid).out


@pytest.mark.promise("P1")
def test_what_the_app_leaves_behind_ends_with_it(
    rkt: Rkt, fly: Run, box: str, tmp_path: os.PathLike[str]
) -> None:
    out = os.path.join(tmp_path, "out")
    os.mkdir(out)
    result = fly(
        volume("out", out),
        box,
        "--mount=volume=out,target=/out",
        *shell("(trap '' TERM; sh -c 'echo $PPID' >/out/pid; exec sleep 1000) & sleep 0.3; exit 6"),
    )
    assert result.code == 6
    with open(os.path.join(out, "pid")) as file:
        assert is_gone(int(file.read()))


def test_interactive_app_has_the_terminal(rkt: Rkt, fly: Run, stage1_fly: str, box: str) -> None:
    """^C goes to the app, not to rkt; the terminal is the caller's again at the end."""
    import pty

    script = "trap 'echo caught' INT; tty; ps -o pid,stat >/dev/null; echo ready; read a; read b; exit 8"
    # What the original writes into the pod for it.
    note = "--annotation=coreos.com/rkt/stage2/stdin=interactive"
    pid, terminal = pty.fork()
    if pid == 0:
        code = 99
        try:
            words = argv(rkt, stage1_fly, "--interactive", box, *shell(script, note))
            found = subprocess.run(words, env=rkt.environment, check=False).returncode
            if os.tcgetpgrp(0) == os.getpgrp():
                code = found
        finally:
            # Whatever happened: this is a copy of the test runner.
            os._exit(code)
    seen = b""
    try:
        while b"ready" not in seen:
            seen += os.read(terminal, 1000)
        os.write(terminal, b"\x03")
        while b"caught" not in seen:
            seen += os.read(terminal, 1000)
        os.write(terminal, b"a\nb\n")
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 8, seen
    assert b"/dev/pts/" in seen


def test_interactive_app_can_be_stopped_and_continued(rkt: Rkt, fly: Run, stage1_fly: str, box: str) -> None:
    """^Z stops rkt with the app, so that the shell notices; continuing rkt continues the app."""
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        script = shell("echo ready; read line; echo got $line; exit 6")
        os.execve(driver.RKT, argv(rkt, stage1_fly, "--interactive", box, *script), rkt.environment)
    seen = b""
    try:
        while b"ready" not in seen:
            seen += os.read(terminal, 1000)
        os.write(terminal, b"\x1a")
        _, status = os.waitpid(pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        os.kill(pid, signal.SIGCONT)
        os.write(terminal, b"word\n")
        while b"got word" not in seen:
            seen += os.read(terminal, 1000)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 6, seen


# --- enter ------------------------------------------------------------------------------------------------


@pytest.mark.promise("P5")
def test_enter_is_confined_as_the_app_is(rkt: Rkt, fly: Run, started: Any, box: str) -> None:
    fields = "grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/self/status"
    process = started(box, f"{fields} >/promise; echo ready; exec sleep 1000", "--caps-retain=CAP_CHOWN")
    uuid = only_pod(rkt)
    entered = rkt.ok(
        "enter", uuid, "/bin/sh", "-c", f"{fields} | diff - /promise && id -u && pwd && ls /proc/self/fd"
    )
    assert entered.lines[:2] == ["0", "/"], entered
    assert entered.lines[2:] == ["0", "1", "2", "3"]  # the last is the directory that ls reads
    assert rkt("enter", uuid, "/bin/sh", "-c", "exit 5").code == 5
    env = rkt.ok("enter", uuid, "env").lines
    assert "AC_APP_NAME=box" in env
    assert "TERM=vt100" in env
    missing = rkt("enter", uuid, "/bin/nosuch")
    assert missing.code == 254
    assert 'Unable to open "/bin/nosuch"' in missing.err
    process.kill()
    process.wait()
    assert rkt("enter", uuid, "/bin/true").code == 254


@pytest.mark.promise("P5")
def test_enter_joins_the_control_groups_of_the_app(rkt: Rkt, fly: Run, started: Any, box: str) -> None:
    group = f"/sys/fs/cgroup/pids/rkt-test-fly-{os.getpid()}"
    if not os.path.isdir("/sys/fs/cgroup/pids"):
        group = f"/sys/fs/cgroup/rkt-test-fly-{os.getpid()}"
    os.mkdir(group)
    try:
        process = started(box, "echo ready; exec sleep 1000")
        uuid = only_pod(rkt)
        with open(os.path.join(rkt.dir, "pods", "run", uuid, "pid")) as file:
            app = file.read().strip()
        with open(os.path.join(group, "cgroup.procs"), "w") as file:
            file.write(app)
        entered = rkt.ok("enter", uuid, "cat", "/proc/self/cgroup")
        assert f":/{os.path.basename(group)}\n" in entered.out
        rkt.ok("stop", "--force", uuid)
        process.communicate()
    finally:
        until(lambda: not open(os.path.join(group, "cgroup.procs")).read())
        os.rmdir(group)
