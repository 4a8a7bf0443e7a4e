"""Streams and terminals of apps, and those that attach to them."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from typing import Any

import pod_manifests
import pytest
from fly_pod import is_gone
from systemd_pod import Running, leftovers, lines, pods, run

from support import aci, driver
from support.processes import children
from support.waiting import until

STREAMS = ("--stdin=stream", "--stdout=stream", "--stderr=stream")
TERMINAL = ("--stdin=tty", "--stdout=tty", "--stderr=tty")
ECHO = "while read line; do echo out $line; echo err $line >&2; [ $line = quit ] && exit 7; done"


def shell(*flags: str, script: str = ECHO) -> list[str]:
    return [*flags, "--exec=/bin/sh", "--", "-c", script]


@pytest.fixture
def rkt(rkt: driver.Rkt) -> Iterator[driver.Rkt]:
    """With the experiment; at the end nothing is left of its pods, nor of what served them."""
    rkt.environment["RKT_EXPERIMENT_ATTACH"] = "true"
    yield rkt
    uuids = pods(rkt)
    rkt.clean()
    assert leftovers(rkt, uuids) == []
    until(lambda: not [uuid for uuid in uuids if multiplexers(uuid)])


def multiplexers(uuid: str) -> list[int]:
    """The processes that serve the streams of a pod: those outside of it with its FIFOs open."""
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/comm") as file:
                if file.read() != "rkt-iottymux\n":
                    continue
        except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
            continue
        if any(f"/{uuid}/" in link for link in links(int(name))):
            found.append(int(name))
    return found


def links(pid: int) -> list[str]:
    """What a process has open; nothing when it has gone."""
    try:
        return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except (FileNotFoundError, ProcessLookupError):
        return []


class Attached:
    """``rkt attach`` with pipes; ``expect`` waits for output."""

    def __init__(self, rkt: driver.Rkt, *words: str, **options: Any) -> None:
        self.process = rkt.start("attach", *words, **{"stdin": subprocess.PIPE, **options})
        self.seen = {"out": "", "err": ""}

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def expect(self, text: str, stream: str = "out") -> None:
        pipe = self.process.stdout if stream == "out" else self.process.stderr
        assert pipe is not None
        deadline = time.monotonic() + 20
        while text not in self.seen[stream]:
            assert select.select([pipe], [], [], deadline - time.monotonic())[0], self.seen
            data = os.read(pipe.fileno(), 65536)
            assert data, f"{text!r} did not come: {self.seen}, {self.process.wait()}"
            self.seen[stream] += data.decode()

    def end(self) -> driver.Result:
        """Wait until it ends by itself; what it printed since the last ``expect``."""
        out, err = self.process.communicate(timeout=20)
        return driver.Result([str(word) for word in self.process.args], self.process.returncode, out, err)  # type: ignore[union-attr]


@pytest.mark.promise("P1", "P5", "P8")
def test_several_apps_in_a_user_namespace(rkt: driver.Rkt, box: str) -> None:
    """Each has modes of its own; who serves them can do nothing else, and is gone with the supervisor."""
    one = shell("--name=one", "--user=1000", *STREAMS, script=f"echo by name >/dev/stdout; {ECHO}")
    two = shell("--name=two", "--user=1000", "--stdin=tty", "--stdout=tty", "--stderr=stream")
    flood = shell(
        "--name=flood", "--stdout=stream", script="dd if=/dev/zero bs=1M count=32; touch /done; exec sleep 60"
    )
    quiet = shell("--name=quiet", script="exec sleep 60")
    apps = [word for words in (one, two, flood, quiet) for word in (box, *words, "---")][:-1]
    with Running(rkt, "--private-users", *apps) as pod:
        # Nobody looks, and nobody has to.
        pod.wait_for("/done", "flood")
        (server,) = multiplexers(pod.uuid)
        assert len(children(pod.supervisor)) == 1
        assert pod.directory not in links(server)
        with open(f"/proc/{server}/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
            assert int(status[name], 16) == 0
        assert (status["NoNewPrivs"], status["Seccomp"], status["Groups"].strip()) == ("1", "2", "")
        assert os.listdir(f"/proc/{server}/root") == []

        uuid = pod.uuid
        listed = json.loads(rkt.ok("attach", "--mode=list", "--app=two", uuid).out)
        assert listed == {
            "version": 1,
            "targets": [
                {"name": name, "domain": "unix", "address": f"/rkt/iottymux/two/sock-{name}"}
                for name in ("stderr", "tty")
            ],
        }
        for words, message in (
            ((), 'specify app using "rkt attach --app= ..."'),
            (("--app=three",), 'has no app "three"'),
            (("--app=quiet",), 'app "quiet" has nothing to attach to'),
            (("--app=two", "--mode=stdin"), 'app "two" has no stdin to attach to, it offers stderr, tty'),
            (("--app=one", "--mode=tty"), 'app "one" has no tty to attach to, it offers stdin, stdout'),
            (("--app=one", "--mode=bogus"), 'unknown endpoint "bogus"'),
            (("--app=one", "--mode=stdin,tty-out"), "cannot simultaneously attach TTY and streams"),
        ):
            result = rkt("attach", *words, uuid)
            assert (result.code, result.out) == (254, "")
            assert message in result.err.splitlines()[-1]

        first, second, errors = (
            Attached(rkt, "--app=one", uuid),
            Attached(rkt, "--app=one", "--mode=stdout", uuid),
            Attached(rkt, "--app=one", "--mode=stderr", uuid, preexec_fn=lambda: os.close(0)),
        )
        # A sender that is not attached to any output is done when all is sent.
        for number in range(1000):
            if first.seen["out"] and second.seen["out"] and errors.seen["err"]:
                break
            assert rkt.ok("attach", "--app=one", "--mode=stdin", uuid, input=f"{number}\n").out == ""
            for client, stream in ((first, "out"), (second, "out"), (errors, "err")):
                pipe = client.process.stdout if stream == "out" else client.process.stderr
                if select.select([pipe], [], [], 0.1)[0]:
                    client.expect("\n", stream)
        first.say("from the first\n")
        first.expect("out from the first\n")
        first.expect("err from the first\n", "err")
        second.expect("out from the first\n")
        errors.expect("err from the first\n", "err")
        assert "err" not in second.seen["out"]
        # One is killed, one is interrupted: the app and the others go on.
        second.process.kill()
        second.process.wait()
        errors.process.send_signal(signal.SIGINT)
        assert errors.end().code == 130
        first.say("go on\n")
        first.expect("out go on\n")
        terminal = Attached(rkt, "--app=two", uuid)
        terminal.say("typed\n")
        terminal.expect("out typed\r\n")
        terminal.expect("err typed\n", "err")

        os.kill(pod.supervisor, signal.SIGKILL)
        assert first.end().code == 0
        assert terminal.end().code == 0
        until(lambda: is_gone(server))
        assert "exited=true" in rkt.ok("status", uuid).out
        assert "isn't currently running" in rkt("attach", "--app=one", uuid).err


@pytest.mark.promise("P9")
def test_a_prepared_pod_with_an_event_handler(rkt: driver.Rkt, tmp_path: os.PathLike[str]) -> None:
    """Its handler's output is logged, the app's goes to whoever is attached; exit codes are the app's."""
    before = {"name": "pre-start", "exec": ["/bin/echo", "before"]}
    app = aci.app("/bin/sh", "-c", ECHO, eventHandlers=[before])
    image = aci.busybox(os.path.join(tmp_path, "app.aci"), "example.com/app", app=app)
    uuid = rkt.ok("--insecure-options=image", "prepare", image, *STREAMS).out.strip()
    assert "isn't currently running" in rkt("attach", uuid).err
    process = rkt.start("run-prepared", "--net=none", uuid)
    rkt.wait_for(uuid, "running")
    client = Attached(rkt, uuid)
    client.say("first\nquit\n")
    result = client.end()
    assert (result.code, result.out, result.err) == (0, "out first\nout quit\n", "err first\nerr quit\n")
    ended = driver.end(process)
    assert ended.code == 7
    assert [line for line in lines(ended) if "before" in line] == ["before"]
    assert "app-app=7" in rkt.ok("status", uuid).out


class Screen:
    """A terminal in which ``rkt attach`` runs."""

    def __init__(self, rkt: driver.Rkt, uuid: str) -> None:
        self.rkt, self.uuid = rkt, uuid
        self.master, self.slave = pty.openpty()
        self.resize(33, 99)
        self.seen = b""

    def attach(self) -> subprocess.Popen[str]:
        def own_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            self.rkt.argv("attach", self.uuid),
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=self.rkt.environment,
            start_new_session=True,
            preexec_fn=own_terminal,
            text=True,
        )
        return self.process

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str) -> None:
        deadline = time.monotonic() + 20
        while text.encode() not in self.seen:
            assert select.select([self.master], [], [], deadline - time.monotonic())[0], self.seen
            self.seen += os.read(self.master, 65536)
        self.seen = self.seen.partition(text.encode())[2]

    def wake(self) -> None:
        """Until the shell asks for a command: it may have done so already, or not be there yet."""
        while b"$ " not in self.seen:
            self.type("\r")
            while select.select([self.master], [], [], 0.2)[0]:
                self.seen += os.read(self.master, 65536)
        self.seen = b""

    def ask(self, command: str, answer: str) -> None:
        """Type a command and wait for its answer, then for the shell: what comes earlier is lost on it."""
        self.type(command + "\r")
        self.expect(answer)
        self.expect("$ ")

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)


def test_a_terminal(rkt: driver.Rkt, box: str) -> None:
    with Running(rkt, box, *TERMINAL, "--user=1000", "--exec=/bin/sh") as pod:
        screen = Screen(rkt, pod.uuid)
        screen.attach()
        until(lambda: not screen.echoes)
        screen.wake()
        screen.ask("tty", "/dev/pts/0")
        screen.ask("stty size", "33 99")
        screen.ask("echo by name >/dev/stdout; echo $((6*7))", "42")
        # SIGWINCH reaches the app's terminal.
        screen.resize(20, 50)
        os.kill(screen.process.pid, signal.SIGWINCH)
        screen.ask(
            "while [ \"$(stty size)\" != '20 50' ]; do sleep 0.1; done; echo size $((20*50))",
            "size 1000",
        )
        # ^C is for the app; ^] three times in a row is for us, and leaves the terminal as it was.
        loop = "while :; do sleep 0.1; done"
        screen.type(f"sh -c 'trap \"echo st$((1+1))op; exit\" INT; echo be$((1+1))gin; {loop}'\r")
        screen.expect("be2gin")
        screen.type("\x03")
        screen.expect("st2op")
        screen.expect("$ ")
        screen.ask("echo after $((3+4))", "after 7")
        screen.ask("echo \x1d\x1dno; echo $((5+5))", "10")
        screen.type("\x1d\x1d\x1d")
        assert screen.process.wait(20) == 0
        assert screen.echoes
        # Killed, the shell's terminal would stay as it is; asked to end, it does not.
        second = screen.attach()
        until(lambda: not screen.echoes)
        second.terminate()
        assert second.wait(20) == 128 + signal.SIGTERM
        assert screen.echoes
        # Without a terminal input is copied, and its end is not the end.
        client = Attached(rkt, pod.uuid)
        client.say("echo once $((1+1)); exit 5\n")
        client.expect("once 2")
        assert client.end().code == 0
        assert pod.process.wait(20) == 5


def test_annotations_and_log_files_for_kubernetes(rkt: driver.Rkt, box: str) -> None:
    """As a caller of the container runtime interface asks for them: all in a pod manifest."""
    experiment = "coreos.com/rkt/experiment/"
    logs = os.path.join(rkt.base, "logs")
    os.mkdir(logs)
    image = pod_manifests.fetch(rkt, box)

    def manifest(log: str, **modes: str) -> str:
        notes = {f"coreos.com/rkt/stage2/{name}": mode for name, mode in modes.items()}
        notes[f"{experiment}kubernetes-log-path"] = log
        script = "echo one; echo two >&2; printf rest"
        return pod_manifests.write(
            rkt,
            pod_manifests.app(
                *("web", image, "/bin/sh", "-c", script),
                annotations=[{"name": name, "value": value} for name, value in notes.items()],
            ),
            annotations=[
                {"name": f"{experiment}logmode", "value": "k8s-plain"},
                {"name": f"{experiment}kubernetes-log-dir", "value": logs},
            ],
        )

    modes = {"stdin": "stream", "stdout": "stream", "stderr": "stream"}
    result = run(rkt, manifest("web_0.log", **modes))
    assert result.code == 0, result
    with open(os.path.join(logs, "web_0.log")) as file:
        written = [line.split(" ", 1) for line in file.read().splitlines()]
    assert sorted(text for _, text in written) == ["stderr two", "stdout one", "stdout rest"]
    assert all(when.endswith("Z") for when, _ in written)

    os.symlink("/dev/null", os.path.join(logs, "link"))
    for log, given, message in (
        ("../out.log", modes, 'log file "../out.log" is not a path below the log directory'),
        ("link", modes, f"unable to open log file {logs}/link"),
        ("web.log", {"stdout": "bogus"}, 'stdout cannot be "bogus"'),
        ("web.log", {"stdin": "interactive"}, "the pod was not started with --interactive"),
    ):
        refused = run(rkt, manifest(log, **given))
        assert (refused.code, refused.out) == (254, "")
        assert message in refused.err.splitlines()[-1]
        assert 'app "web": ' in refused.err.splitlines()[-1]
    assert len(pods(rkt)) == 1


@pytest.mark.promise("P9")
def test_what_cannot_be_attached_to(rkt: driver.Rkt, box: str) -> None:
    interactive = run(rkt, "--interactive", box, "--stdin=stream")
    assert (interactive.code, interactive.out) == (254, "")
    assert interactive.err.splitlines()[-1].endswith(
        'stdin cannot be "stream": with --interactive the app has the terminal of rkt'
    )
    volume = run(
        *(rkt, "--volume=pts,kind=empty", box, "--mount=volume=pts,target=/dev/pts", *TERMINAL),
    )
    assert (volume.code, volume.out) == (254, "")
    assert "a volume on /dev/pts leaves no place for" in volume.err.splitlines()[-1]
    assert pods(rkt) == []
    fly = f"--stage1-path={driver.STAGE1}/stage1-fly.aci"
    process = rkt.start(
        "--insecure-options=image", "run", "--net=none", fly, box, "--exec=/bin/sleep", "--", "60"
    )
    until(lambda: "running" in rkt("list", "--no-legend").out)
    (uuid,) = pods(rkt)
    result = rkt("attach", uuid)
    assert (result.code, result.err) == (254, 'attach: stage1 has no entry point "attach"\n')
    driver.end(process)
    result = rkt("attach", uuid, user=65534, group=65534, extra_groups=[])
    assert (result.code, result.err) == (254, "attach: cannot run as unprivileged user\n")
    assert "NAME:" in rkt("attach").out
    result = rkt("attach", "00000000-0000-4000-8000-000000000000")
    assert result.code == 254
    assert "problem retrieving pod" in result.err
    result = rkt("attach", uuid, env={"RKT_EXPERIMENT_ATTACH": "false"})
    assert (result.code, result.err.splitlines()[0]) == (254, 'Error: unknown command "attach" for "rkt"')


@pytest.mark.promise("P1", "P9")
def test_a_pod_whose_streams_nobody_serves_any_more(rkt: driver.Rkt, box: str) -> None:
    """Input ends, output breaks, and the app's end is recorded; no secret was in sight meanwhile."""
    script = "while read line; do :; done; until [ -e /tmp/go ]; do sleep 0.1; done; exit 3"
    with Running(rkt, box, *shell(*STREAMS, script=script)) as pod:
        (server,) = multiplexers(pod.uuid)
        with open(f"/proc/{server}/cmdline", "rb") as file:
            assert file.read().rstrip(b"\0").decode() == f"rkt-iottymux {pod.uuid}"
        client = Attached(rkt, pod.uuid, stdin=subprocess.DEVNULL)
        until(lambda: sum(link.startswith("socket:") for link in links(server)) > 3)
        os.kill(server, signal.SIGKILL)
        result = client.end()
        assert result.code == 254
        assert result.err == "Error: nothing serves the streams of the app: its process was killed\n"
        with open(f"{pod.directory}/stage1/rootfs/opt/stage2/box/rootfs/tmp/go", "w"):
            pass
        assert pod.process.wait(20) == 3
        assert "app-box=3" in rkt.ok("status", pod.uuid).out


@pytest.mark.promise("P9")
def test_who_does_not_read_is_told(rkt: driver.Rkt, box: str) -> None:
    """The app waits for nobody; that output was lost is known even when the app has ended meanwhile."""
    script = "read line; dd if=/dev/zero bs=1M count=8; exit 3"
    with Running(rkt, box, *shell("--stdin=stream", "--stdout=stream", script=script)) as pod:
        (server,) = multiplexers(pod.uuid)
        slow, other = (Attached(rkt, "--mode=stdout", pod.uuid) for _ in range(2))
        until(lambda: sum(link.startswith("socket:") for link in links(server)) == 4)
        rkt.ok("attach", "--mode=stdin", pod.uuid, input="go\n")
        assert pod.process.wait(20) == 3
        for client in (slow, other):
            result = client.end()
            assert result.code == 254
            assert 0 < len(result.out) < 8 << 20
            assert "its output was not read in time" in result.err
