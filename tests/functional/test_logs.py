"""``rkt logs`` on real pods: running, exited, unmounted, hostile."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from systemd_pod import Running, pods, run, shell

from support import aci, driver, processes
from support.driver import Rkt
from support.waiting import PATIENCE, until


@pytest.fixture(autouse=True)
def _clean(rkt: Rkt) -> Iterator[None]:
    yield
    rkt.clean()


def said(result: driver.Result) -> list[str]:
    """The lines without their times, which must be there."""
    lines = []
    for line in result.lines:
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} ", line), result
        lines.append(re.sub(r"\[\d+\]", "", line.partition(" ")[2]))
    return lines


def only(rkt: Rkt) -> str:
    (uuid,) = pods(rkt)
    return uuid


def journal(rkt: Rkt, uuid: str) -> str:
    """The directory of a pod's journal in the pod's own layer."""
    base = os.path.join(rkt.dir, "pods", "run", uuid)
    for directory, names, _ in os.walk(os.path.join(base, "overlay")):
        if uuid.replace("-", "") in names and directory.endswith("/upper/var/log/journal"):
            return os.path.join(directory, uuid.replace("-", ""))
    raise AssertionError("the pod has no journal")


@pytest.mark.parametrize("overlay", [True, False])
def test_exited_pod(rkt: Rkt, box: str, overlay: bool) -> None:
    words = () if overlay else ("--no-overlay",)
    run(
        rkt,
        *words,
        *(
            box,
            "--name=a",
            "--exec=/bin/sh",
            "--",
            "-c",
            "echo one; echo two >&2; sleep 0.3; echo three",
            "---",
        ),
        *(box, "--name=init", "--exec=/bin/echo", "--", "other"),
    )
    uuid = only(rkt)
    assert sorted(said(rkt.ok("logs", uuid))) == ["a: one", "a: three", "a: two", "init: other"]
    assert said(rkt.ok("logs", "--app=a", uuid[:8])) == ["a: one", "a: two", "a: three"]
    assert said(rkt.ok("logs", "--app=init", uuid)) == ["init: other"]
    assert said(rkt.ok("logs", "--app=a", "--lines=1", uuid)) == ["a: three"]
    assert said(rkt.ok("logs", "--lines=0", uuid)) == []
    assert said(rkt.ok("logs", "--follow", "--app=a", "--lines=2", uuid)) == ["a: two", "a: three"]
    assert len(said(rkt.ok("logs", "--since=1h", uuid))) == 4
    assert said(rkt.ok("logs", "--since=2040-01-01T00:00:00Z", uuid)) == []
    assert len(said(rkt.ok("logs", "--since=yesterday", uuid))) == 4
    file = os.path.join(rkt.base, "uuid")
    with open(file, "w") as out:
        out.write(uuid)
    assert len(said(rkt.ok("logs", f"--uuid-file={file}"))) == 4
    rkt.ok("gc", "--grace-period=1h")
    assert "exited garbage" in rkt("list").out
    assert len(said(rkt.ok("logs", uuid))) == 4


def test_nothing_is_mounted_and_nobody_keeps_a_journal(rkt: Rkt, box: str) -> None:
    """As after a reboot: read from the pod's own layer, with neither /run/systemd nor /var/log/journal."""
    shell(rkt, box, "echo still here")
    uuid = only(rkt)
    words = rkt.argv("logs", uuid)
    root = f"{rkt.dir}/pods/run/{uuid}/stage1/rootfs"
    hide = "mount -t tmpfs none /run && mount -t tmpfs none /var/log"
    hidden = f'umount -R -l {root} && {hide} && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hidden, "sh", *words],
        capture_output=True,
        text=True,
        check=False,
        env=rkt.environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(": still here\n")
    # As in a pod whose journald has not started yet, or never did: nothing was written, which is no error.
    shutil.rmtree(journal(rkt, uuid))
    for follow in ((), ("--follow",)):
        assert (rkt.ok("logs", *follow, uuid).out, rkt.ok("logs", *follow, uuid).err) == ("", "")


def test_handlers_and_other_programs_belong_to_the_app(rkt: Rkt, tmp_path: object) -> None:
    says = "echo from syslog; until [ -e /go ]; do sleep 0.1; done"
    app = aci.app(
        *("/bin/sh", "-c", f"echo main; ({says}) | logger -t daemon"),
        eventHandlers=[
            {"name": "pre-start", "exec": ["/bin/echo", "before"]},
            {"name": "post-stop", "exec": ["/bin/echo", "after"]},
        ],
    )
    logger = aci.symlink("bin/logger", "busybox")
    image = aci.busybox(f"{tmp_path}/box.aci", app=app, entries=[logger])
    with Running(rkt, image) as pod:
        # The journal asks the kernel whose message it is: the program has to be there still.
        until(lambda: "box daemon: from syslog" in said(rkt.ok("logs", pod.uuid)))
        open(f"{pod.directory}/stage1/rootfs/opt/stage2/box/rootfs/go", "w").close()
        assert pod.process.wait(PATIENCE) == 0
    assert sorted(said(rkt.ok("logs", "--app=box", only(rkt)))) == [
        "box daemon: from syslog",
        "box: after",
        "box: before",
        "box: main",
    ]


def test_following_a_pod_whose_journal_has_no_entry_yet(rkt: Rkt, box: str) -> None:
    """As when its journald has just made the file, or is about to."""
    script = "echo early; while [ ! -e /go ]; do sleep 0.1; done; echo late; sleep 1000"
    with Running(rkt, box, "--exec=/bin/sh", "--", "-c", script) as pod:
        until(lambda: said(rkt.ok("logs", pod.uuid)) == ["box: early"])
        root = f"{pod.directory}/stage1/rootfs"
        file = f"{root}/var/log/journal/{pod.uuid.replace('-', '')}/system.journal"
        os.rename(file, f"{root}/away")
        follower = rkt.start("logs", "--follow", pod.uuid)
        until(lambda: follower.poll() is not None or any(map(sleeps, processes.below(follower.pid))))
        os.rename(f"{root}/away", file)
        open(f"{root}/opt/stage2/box/rootfs/go", "w").close()
        assert follower.stdout is not None
        found = [follower.stdout.readline(), follower.stdout.readline()]
        assert [line.rpartition(" ")[2] for line in found] == ["early\n", "late\n"]
        follower.terminate()
        follower.communicate(timeout=PATIENCE)


def sleeps(pid: int) -> bool:
    """Whether a process is journalctl that waits for more."""
    if not processes.command(pid).startswith("journalctl "):
        return False
    with open(f"/proc/{pid}/wchan") as file:
        return "poll" in file.read()


def test_running_pod_and_following_it(rkt: Rkt, box: str) -> None:
    wait = "while [ ! -e /%s ]; do sleep 0.1; done"
    script = f"echo early; {wait % 'go'}; echo late; {wait % 'end'}; echo last"
    with Running(rkt, box, "--exec=/bin/sh", "--", "-c", script) as pod:
        until(lambda: said(rkt.ok("logs", pod.uuid)) == ["box: early"])
        follower = rkt.start("logs", "--follow", pod.uuid)
        assert follower.stdout is not None
        root = f"{pod.directory}/stage1/rootfs/opt/stage2/box/rootfs"
        assert follower.stdout.readline().endswith(": early\n")
        open(f"{root}/go", "w").close()
        assert follower.stdout.readline().endswith(": late\n")
        open(f"{root}/end", "w").close()
        assert follower.stdout.read().endswith(": last\n")
        assert follower.wait(PATIENCE) == 0
        follower.stdout.close()
        assert follower.stderr is not None
        assert follower.stderr.read() == ""
        follower.stderr.close()
    with Running(rkt, box, "--exec=/bin/sh", "--", "-c", "echo early; sleep 1000") as pod:
        follower = rkt.start("logs", "--follow", "--lines=1", pod.uuid)
        assert follower.stdout is not None
        assert follower.stdout.readline().endswith(": early\n")
        (child,) = processes.children(follower.pid)
        # P1: nothing is left of a command that was killed
        pidfd = os.pidfd_open(child)
        follower.kill()
        follower.communicate()
        assert select.select([pidfd], [], [], PATIENCE)[0] == [pidfd]
        os.close(pidfd)


@pytest.mark.promise("P4")
def test_terminal_is_not_steered_and_lines_are_not_forged(rkt: Rkt, box: str) -> None:
    script = r"printf '\033[2J\033]0;owned\007 \302\233x\na\0b\377\n2026-01-01T00:00:00+0000 other[1]: hi\n'"
    shell(rkt, box, script)
    result = rkt.ok("logs", only(rkt))
    assert said(result) == [
        "box: �[2J�]0;owned� �x",
        "box: a",  # journald ends a line at a zero byte
        "box: b�",
        "box: 2026-01-01T00:00:00+0000 other: hi",
    ]


SECRET = "of the host only"


@pytest.mark.promise("P4")
@pytest.mark.parametrize("what", ["journal", "directory", "parent", "fifo", "device"])
def test_replaced_journal_leads_nowhere(rkt: Rkt, box: str, what: str) -> None:
    """What a pod that may do anything could make of its journal: no link is followed, nothing blocks."""
    shell(rkt, box, f"echo {SECRET}")
    other = only(rkt)
    source = journal(rkt, other)
    rkt.ok("gc", "--grace-period=1h")  # out of run/
    source = source.replace("/pods/run/", "/pods/exited-garbage/")
    shell(rkt, box, "echo own")
    uuid = only(rkt)
    directory = journal(rkt, uuid)
    file = f"{directory}/system.journal"
    if what == "journal":
        os.unlink(file)
        os.symlink(f"{source}/system.journal", file)
    elif what == "fifo":
        os.unlink(file)
        os.mkfifo(file)
    elif what == "device":
        os.unlink(file)
        os.mknod(file, 0o20666, os.makedev(1, 5))
    elif what == "directory":
        os.rename(directory, directory + ".away")
        os.symlink(source, directory)
    else:
        parent = os.path.dirname(directory)
        os.rename(parent, parent + ".away")
        os.makedirs(f"{rkt.base}/fake")
        os.symlink(source, f"{rkt.base}/fake/{uuid.replace('-', '')}")
        os.symlink(f"{rkt.base}/fake", parent)
    result = rkt("logs", uuid)
    assert (result.code, result.out) == (254, "")
    assert SECRET not in result.err
    assert f'the journal of pod "{uuid}"' in result.err


@pytest.mark.promise("P4")
def test_link_made_after_the_look_leads_nowhere(rkt: Rkt, box: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from rkt.pod import lookup
    from rkt.stage0 import journal as reader

    shell(rkt, box, f"echo {SECRET}")
    uuid = only(rkt)
    directory = journal(rkt, uuid)
    os.rename(f"{directory}/system.journal", f"{rkt.base}/outside.journal")
    os.symlink(f"{rkt.base}/outside.journal", f"{directory}/system.journal")
    monkeypatch.setattr(reader, "_check", lambda pod, directory: None)
    with lookup.find(rkt.dir, uuid) as pod:
        assert list(reader.read(pod, reader.Request(["box"]))) == []
    # the very same file is read where it is one
    os.unlink(f"{directory}/system.journal")
    os.rename(f"{rkt.base}/outside.journal", f"{directory}/system.journal")
    with lookup.find(rkt.dir, uuid) as pod:
        assert [entry.message for entry in reader.read(pod, reader.Request(["box"]))] == [SECRET.encode()]


def test_damaged_journal_is_no_crash(rkt: Rkt, box: str) -> None:
    shell(rkt, box, "echo x")
    uuid = only(rkt)
    file = f"{journal(rkt, uuid)}/system.journal"
    size = os.stat(file).st_size
    for offset in (0, 100, 4096, size // 2):
        with open(file, "r+b") as out:
            out.seek(offset)
            out.write(os.urandom(200))
        result = rkt("logs", uuid)
        assert "Traceback" not in result.err
    with open(file, "wb"):
        pass
    assert rkt("logs", uuid).out == ""


def test_bad_input(rkt: Rkt, box: str) -> None:
    shell(rkt, box, "echo x")
    uuid = only(rkt)
    for words, message in (
        ((uuid, "--app=nosuch"), f'logs: pod "{uuid}" has no app "nosuch"\n'),
        ((uuid, "--since=nosuch"), 'logs: invalid time "nosuch"\n'),
        ((uuid, "--since="), ""),
        ((uuid, "--since=--flush"), 'logs: invalid time "--flush"\n'),
        ((uuid, "--lines=-1"), "logs: --lines is a number of entries, not -1\n"),
        (("00000000",), 'logs: problem retrieving pod: no matches found for "00000000"\n'),
    ):
        result = rkt("logs", *words)
        assert (result.code, result.err) == (254 if message else 0, message), result
    assert rkt("logs").code == 254
    assert rkt("logs", uuid, uuid).code == 254
    prepared = rkt.ok("prepare", "--insecure-options=image", box).out.strip()
    assert f'pod "{prepared}" has not been started' in rkt("logs", prepared).err


def test_missing_journalctl(rkt: Rkt, box: str) -> None:
    shell(rkt, box, "echo x")
    words = rkt.argv("logs", only(rkt))
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            'mount --bind /dev/null /usr/bin/journalctl && exec "$@"',
            "sh",
            *words,
        ],
        capture_output=True,
        text=True,
        check=False,
        env=rkt.environment,
    )
    assert (done.returncode, done.stdout) == (254, "")
    assert done.stderr.startswith("logs: journalctl is needed to read the journal of a pod: ")


def test_flavor_without_a_journal(rkt: Rkt, box: str) -> None:
    result = rkt(
        *("--insecure-options=image", "run", "--stage1-from-dir=stage1-fly.aci"),
        *(box, "--exec=/bin/echo", "--", "x"),
    )
    assert result.code == 0, result
    uuid = only(rkt)
    result = rkt("logs", uuid)
    assert (result.code, result.out) == (254, "")
    assert f'pod "{uuid}" has no journal, its stage1 keeps none' in result.err
