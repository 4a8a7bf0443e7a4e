"""What confines pods of the systemd flavor, the commands entered beside their apps, and hostile images."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator

import pytest
from systemd_pod import Running, leftovers, lines, pods, run

from support import aci, driver, machine, processes
from support.waiting import PATIENCE, until

DEFAULT_CAPABILITIES = 0xA80425FB  # the 14 of the appc specification


@pytest.fixture(autouse=True)
def _clean(rkt: driver.Rkt) -> Iterator[None]:
    """Every pod of a test is collected at its end, and nothing of it is left."""
    yield
    uuids = pods(rkt)
    rkt.clean()
    assert leftovers(rkt, uuids) == []


# -- confinement -----------------------------------------------------------------------------------------


@pytest.mark.promise("P5")
def test_every_process_of_an_app_is_confined(rkt: driver.Rkt, box: str) -> None:
    """Read from outside: the app, its child, and a command entered beside it."""
    with Running(rkt, box, "--exec=/bin/sh", "--", "-c", "sleep 1000; true") as pod:
        entered = rkt.start("enter", pod.uuid, "/bin/sleep", "999")
        try:
            wanted = {"/bin/sh -c sleep 1000; true", "sleep 1000", "/bin/sleep 999"}
            found = _find(wanted, pod, entered)
            reference = found["/bin/sh -c sleep 1000; true"]
            for command, process in found.items():
                status = process["status"]
                assert int(status["CapBnd"], 16) == DEFAULT_CAPABILITIES, command
                assert int(status["CapPrm"], 16) == DEFAULT_CAPABILITIES, command
                assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0, command
                assert status["Seccomp"] == "2", command
                assert process["cgroup"] == reference["cgroup"], command
                assert process["namespaces"] == reference["namespaces"], command
                assert process["limits"] == reference["limits"], command
        finally:
            driver.end(entered)


def _find(commands: set[str], pod: Running, entered: subprocess.Popen[str]) -> dict[str, dict]:
    """What is known of processes of the pod and of a command beside its app, by command line."""
    found = processes.find_all(commands, pod.supervisor, entered.pid)
    return {command: _facts(pid) for command, pid in found.items()}


def _facts(pid: int) -> dict:
    with open(f"/proc/{pid}/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    with open(f"/proc/{pid}/cgroup") as file:
        cgroup = file.read()
    with open(f"/proc/{pid}/limits") as file:
        limits = file.read()
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    return {
        "pid": pid,
        "status": status,
        "cgroup": cgroup,
        "limits": limits,
        "namespaces": {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in kinds},
    }


@pytest.mark.promise("P5")
def test_capability_isolators(rkt: driver.Rkt, box: str) -> None:
    script = "grep CapBnd /proc/self/status"
    result = run(rkt, box, "--caps-retain=CAP_NET_ADMIN,CAP_CHOWN", "--exec=/bin/sh", "--", "-c", script)
    assert int(lines(result)[0].split()[1], 16) == 1 << 12 | 1
    result = run(rkt, box, "--caps-remove=CAP_CHOWN,CAP_SYS_ADMIN", "--exec=/bin/sh", "--", "-c", script)
    assert int(lines(result)[0].split()[1], 16) == DEFAULT_CAPABILITIES & ~1
    result = rkt(
        *("--insecure-options=image,capabilities", "run", "--net=none", box, "--exec=/bin/sh"),
        *("--", "-c", script),
    )
    with open("/proc/self/status") as file:
        own = re.search(r"CapBnd:\t([0-9a-f]+)", file.read())
    assert own is not None
    assert lines(result)[0].split()[1] == own.group(1)


@pytest.mark.promise("P5")
def test_paths_are_protected(rkt: driver.Rkt, box: str) -> None:
    with Running(rkt, box, "--exec=/bin/sleep", "--", "1000") as pod:
        entered = rkt.start("enter", pod.uuid, "/bin/sleep", "998")
        try:
            found = _find({"/bin/sleep 1000", "/bin/sleep 998"}, pod, entered)
            for process in found.values():
                assert _unprotected(f"/proc/{process['pid']}/root") == []
        finally:
            driver.end(entered)
    result = rkt(
        *("--insecure-options=image,paths", "run", "--net=none", box, "--exec=/bin/sh"),
        *("--", "-c", "ls /sys/firmware"),
    )
    assert result.out != "", result


def _unprotected(root: str) -> list[str]:
    """Paths of rkt's two lists that the processes of this root could write to, or see."""
    read_only = (
        "proc/bus proc/sys/kernel/core_pattern proc/sys/kernel/modprobe proc/sys/vm/panic_on_oom "
        "proc/sysrq-trigger sys/block sys/bus sys/class sys/dev sys/devices sys/kernel sys proc/sys"
    )
    hidden = (
        "sys/firmware sys/fs sys/hypervisor sys/module sys/power proc/config.gz proc/kallsyms "
        "proc/sched_debug proc/kcore proc/kmem proc/mem"
    )
    found = []
    for path in read_only.split():
        # f_flag has ST_RDONLY for a read-only mount too
        if os.path.exists(f"{root}/{path}") and not os.statvfs(f"{root}/{path}").f_flag & os.ST_RDONLY:
            found.append(path)
    for path in hidden.split():
        full = f"{root}/{path}"
        if os.path.isdir(full):
            found += [f"{path}/{name}" for name in os.listdir(full)]
        elif os.path.exists(full) and os.stat(full).st_mode & 0o777:
            found.append(path)
    return found


@pytest.mark.promise("P5")
def test_nothing_of_the_host_is_inherited(rkt: driver.Rkt, box: str) -> None:
    secret = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        result = run(
            *(rkt, box, "--exec=/bin/sh", "--", "-c", "ls -l /proc/self/fd; env; pwd"),
            env={"SECRET_OF_HOST": "x"},
            pass_fds=(secret,),
        )
    finally:
        os.close(secret)
    assert "SECRET_OF_HOST" not in result.out
    links = [line.split(" -> ")[1] for line in lines(result) if " -> " in line]
    assert links[0] == "/dev/null"
    assert all(link.startswith(("socket:", "/dev/null", "/proc/")) for link in links), links
    assert lines(result)[-1] == "/"


@pytest.mark.promise("P4")
def test_host_programs_cannot_be_written_through_proc(rkt: driver.Rkt, box: str) -> None:
    """An app that tries to overwrite the program of every process it sees, while others enter."""
    programs = ("/usr/lib/systemd/systemd", "/usr/lib/systemd/systemd-journald", "/usr/bin/python3.11")
    before = [(os.stat(path).st_mtime_ns, os.stat(path).st_size) for path in programs]
    script = (
        "touch /ready; while :; do for exe in /proc/[0-9]*/exe; do "
        "(echo pwned >>$exe) 2>/dev/null && echo wrote $exe; done; done"
    )
    with Running(rkt, box, "--exec=/bin/sh", "--", "-c", script) as pod:
        pod.wait_for("/ready")
        for _ in range(5):
            assert pod.enter("/bin/true").code == 0
    wrote = {line.split("/")[2] for line in lines(pod.result) if line.startswith("wrote")}
    assert "1" not in wrote
    assert [(os.stat(path).st_mtime_ns, os.stat(path).st_size) for path in programs] == before


@pytest.mark.promise("P5")
def test_interactive_app_has_a_terminal_of_its_own(rkt: driver.Rkt, box: str) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        flags = ("--insecure-options=image", "run", "--net=none", "--interactive")
        words = rkt.argv(*flags, box, "--exec=/bin/sh")
        os.execve(words[0], words, {**rkt.environment, "TERM": "dumb"})
    try:
        _expect(terminal, b"# ")
        os.write(terminal, b"tty; echo sleep''ing; sleep 100\n")
        _expect(terminal, b"/dev/console")
        _expect(terminal, b"sleeping")
        # ctrl-C is the app's
        processes.find("sleep 100", pid)
        os.write(terminal, b"\x03")
        _expect(terminal, b"# ")
        os.write(terminal, b"exit 6\n")
        while select.select([terminal], [], [], PATIENCE)[0]:
            try:
                os.read(terminal, 4096)
            except OSError:
                break
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6
    finally:
        os.close(terminal)


def _expect(terminal: int, text: bytes) -> None:
    deadline = time.monotonic() + PATIENCE
    found = b""
    while not found.endswith(text) and text + b"\r\n" not in found and text + b"\x1b" not in found:
        assert time.monotonic() < deadline, found
        if select.select([terminal], [], [], 0.2)[0]:
            # one byte at a time: what follows the text is for the next call
            found += os.read(terminal, 1)


# -- enter -----------------------------------------------------------------------------------------------


@pytest.mark.promise("P5")
def test_enter(rkt: driver.Rkt, box: str) -> None:
    words = (box, "--user=web", "--group=www", "--environment=COLOR=red", "--exec=/bin/sleep", "--", "1000")
    with Running(rkt, *words) as pod:
        assert pod.enter("/bin/id", "-u").out == "0\n"
        assert pod.enter("sh", "-c", "echo $COLOR $AC_APP_NAME").out == "red box\n"
        assert pod.enter("/bin/sh", "-c", "exit 3").code == 3
        assert pod.enter("/bin/sh", "-c", "kill -9 $$").code == 137
        assert pod.enter("/bin/cat", input="through").out == "through"
        missing = pod.enter("/bin/nosuch")
        assert (missing.code, missing.err) == (
            254,
            'Error: Unable to execute "/bin/nosuch": No such file or directory\n',
        )
        # the app is not root: what it had to promise, the command promises too
        assert "NoNewPrivs:\t1" in pod.enter("/bin/grep", "NoNewPrivs", "/proc/self/status").out
        assert pod.enter("/bin/ls", "/proc/self/fd").out.split() == ["0", "1", "2", "3"]


@pytest.mark.promise("P5")
def test_enter_an_app_that_has_ended(rkt: driver.Rkt, box: str) -> None:
    words = (box, "--name=gone", "--exec=/bin/true", "---", box, "--name=here", "--exec=/bin/sleep")
    with Running(rkt, *words, "--", "1000") as pod:
        until(lambda: os.path.exists(f"{pod.directory}/stage1/rootfs/rkt/status/gone"))
        script = "cat /proc/1/comm; ls / /dev; ls -A /sys/fs; grep CapBnd /proc/self/status; mount"
        result = rkt("enter", "--app=gone", pod.uuid, "/bin/sh", "-c", script)
        assert result.code == 0, result
        assert result.lines[0] == "systemd"
        assert "opt" not in result.lines
        assert "a80425fb" in result.out
        assert "/opt/stage2" not in result.out


# -- hostile images --------------------------------------------------------------------------------------


@pytest.mark.promise("P4")
def test_links_in_the_place_of_system_directories(rkt: driver.Rkt, tmp_path: object) -> None:
    outside = f"{tmp_path}/outside"
    os.mkdir(outside)
    replaced = ("dev", "sys", "tmp", "run", "etc")
    entries = [entry for entry in aci.busybox_entries() if entry.name.split("/")[0] not in replaced]
    entries += [
        aci.symlink("dev", outside),
        aci.symlink("tmp", "/proc/self/root/" + outside),
        aci.directory("real"),
        aci.symlink("sys", "../../../../real"),
        aci.symlink("run", "/var"),
        aci.symlink("etc", "real"),
    ]
    app = aci.app("/bin/sh", "-c", "echo fine; ls -d /dev/null /sys/class")
    image = aci.build(f"{tmp_path}/links.aci", aci.manifest("example.com/links", app=app), entries)
    before = machine.tree(outside)
    result = run(rkt, image)
    assert "fine" in lines(result) or result.code == 254, result
    assert machine.tree(outside) == before


@pytest.mark.promise("P4")
@pytest.mark.attack(9)
def test_hostile_user_files(rkt: driver.Rkt, tmp_path: object) -> None:
    import tarfile

    for number, entry in enumerate(
        (
            aci.symlink("etc/passwd", "/proc/self/root/etc/passwd"),
            aci.symlink("etc/passwd", "../../../../../../etc/passwd"),
            aci.Entry("etc/passwd", type=tarfile.FIFOTYPE),
            aci.Entry("etc/passwd", type=tarfile.CHRTYPE, device=(1, 5)),
            aci.Entry("etc/passwd", b"daemon:x:1:1::/:/bin/sh\n" * 100_000),
        )
    ):
        entries = [kept for kept in aci.busybox_entries() if kept.name != "etc/passwd"]
        path = f"{tmp_path}/passwd{number}.aci"
        image = aci.build(path, aci.manifest(f"example.com/p{number}"), [*entries, entry])
        # A FIFO that somebody waits for would be waited for by the test too.
        result = run(rkt, image, "--user=daemon")
        assert result.code == 254, result
        assert 'user "daemon"' in result.err


@pytest.mark.promise("P4")
@pytest.mark.parametrize("program", ["/proc/self/exe", "/proc/1/root/bin/sh", "/bin/link", "/bin/script"])
@pytest.mark.attack(12)
def test_programs_behind_procfs_are_refused(rkt: driver.Rkt, tmp_path: object, program: str) -> None:
    image = aci.busybox(
        f"{tmp_path}/proc.aci",
        entries=[
            aci.symlink("bin/link", "../proc/self/exe"),
            aci.Entry("bin/script", b"#!/proc/self/exe\n", mode=0o755),
        ],
    )
    result = run(rkt, image, f"--exec={program}")
    assert result.code in (203, 254), result
    assert "leads into /proc" in result.out + result.err


@pytest.mark.promise("P4")
@pytest.mark.attack(13)
def test_manifest_values_do_not_become_unit_lines(rkt: driver.Rkt, tmp_path: object) -> None:
    marker = f"{tmp_path}/marker"
    app = aci.app("/bin/true", workingDirectory=f"/\nExecStartPre=+/bin/touch {marker}")
    image = aci.busybox(f"{tmp_path}/newline.aci", app=app)
    result = run(rkt, image)
    assert result.code == 254, result
    assert not os.path.exists(marker)


@pytest.mark.promise("P4")
@pytest.mark.attack(11)
def test_working_directory_behind_a_link(rkt: driver.Rkt, tmp_path: object) -> None:
    image = aci.busybox(
        f"{tmp_path}/cwd.aci",
        entries=[aci.symlink("out", "/proc/self/fd/3"), aci.symlink("up", "../../../../../../..")],
    )
    assert run(rkt, image, "--working-dir=/out").code == 254
    result = run(rkt, image, "--working-dir=/up", "--exec=/bin/sh", "--", "-c", "pwd; ls -d bin/busybox")
    assert lines(result) == ["/", "bin/busybox"]
