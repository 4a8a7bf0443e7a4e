"""Runs pods on a test host and looks at what systemd and the kernel know of them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

from support import driver, hosts

STATE = "/var/lib/pods"
# Everything costs twenty times as much under emulation.
SECONDS = 240
SNAPSHOT = f"""
import json, os, sys
sys.path.insert(0, {os.path.join(driver.ROOT, "tests")!r})
from support import machine
taken = machine.Snapshot()
print(json.dumps({{kind: sorted(getattr(taken, kind)) for kind in taken.__slots__}}))
"""
TERMINAL = """
import json, os, pty, sys
argv, steps = json.loads(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(argv[0], argv)
seen = ""
def read():
    global seen
    try:
        part = os.read(terminal, 4096)
    except OSError:
        part = b""
    seen += part.decode()
    return part
for expected, typed in steps:
    while expected not in seen:
        if not read():
            sys.exit(f"{expected!r} did not appear in {seen!r}")
    seen = seen.partition(expected)[2]
    print(expected, flush=True)
    os.write(terminal, typed.encode())
while read():
    pass
print(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
SLEEP = "trap 'exit 0' TERM; while :; do sleep 1; done"


def rkt(host: hosts.Host, *words: str) -> driver.Result:
    return host.run([hosts.RKT, *words], SECONDS)


def snapshot(host: hosts.Host) -> dict[str, list[str]]:
    """What a pod could leave on the host, and the mounts that it could cover."""
    taken: dict[str, list[str]] = json.loads(host.ok(["/usr/bin/python3", "-BIS", "-c", SNAPSHOT]).out)
    return taken


def run_words(image: str, script: str, *options: str) -> list[str]:
    return ["--insecure-options=image", "run", *options, image, "--exec=/bin/sh", "--", "-c", script]


def on_terminal(argv: list[str], *steps: tuple[str, str]) -> list[str]:
    """A command line that runs another on a terminal, and for each step waits for a text before it types one.

    It prints the texts that appeared, and what came after the last.
    """
    return ["/usr/bin/python3", "-BIS", "-c", TERMINAL, json.dumps([argv, steps])]


def until(what: str, ready: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Ask until it is so; a test fails when that takes too long."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what} after {seconds:.0f} s"
        time.sleep(0.1)


def assert_as_before(host: hosts.Host, before: dict[str, list[str]]) -> None:
    """Nothing of a pod is left; systemd takes a control group away a moment after its last process."""
    deadline = time.monotonic() + 60
    while (now := snapshot(host)) != before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert now == before


def until_no_machine(pod: Pod) -> None:
    """Until machined has heard of a pod's end."""
    listing = ["machinectl", "list", "--no-legend"]
    until("the machine is still there", lambda: pod.machine not in pod.host.ok(listing).out)


class Pod:
    """A pod on a host, found by the file its UUID is saved in."""

    def __init__(self, host: hosts.Host, name: str) -> None:
        self.host = host
        self.name = name
        self.file = f"{STATE}/{name}.uuid"
        host.ok(["mkdir", "-p", STATE])
        host.ok(["rm", "-f", self.file])
        self.process: hosts.Process | None = None

    def words(self, image: str, script: str, *options: str) -> list[str]:
        """The command line that runs it without network."""
        saved = f"--uuid-file-save={self.file}"
        return [hosts.RKT, *run_words(image, script, "--net=none", saved, *options)]

    def start(self, image: str, script: str = SLEEP, *options: str, app: tuple[str, ...] = ()) -> Pod:
        """Run it from a login session; returns when it is ready.  ``app`` are options of the image."""
        words = self.words(image, script, *options)
        position = words.index("--exec=/bin/sh")
        words[position:position] = app
        self.process = self.host.spawn(words)
        self.await_ready()
        return self

    def start_unit(self, image: str, script: str = SLEEP, *properties: str, app: tuple[str, ...] = ()) -> Pod:
        """Run it as the main process of a service with the pod's name; returns when it is ready."""
        words = self.words(image, script)
        position = words.index("--exec=/bin/sh")
        words[position:position] = app
        given = ["--property=Type=notify", "--property=KillMode=mixed"]
        given += [f"--property={entry}" for entry in properties]
        self.host.ok(["systemd-run", "--quiet", f"--unit={self.name}", *given, *words], SECONDS)
        return self

    @property
    def uuid(self) -> str:
        return self.host.read(self.file).decode()

    @property
    def machine(self) -> str:
        return f"rkt-{self.uuid}"

    @property
    def directory(self) -> str:
        return f"/var/lib/rkt/pods/run/{self.uuid}"

    def await_ready(self) -> None:
        process = self.process
        assert process is not None

        def ready() -> bool:
            if self.host.run(["test", "-s", self.file]).code:
                assert process.running(), process.wait(0)
                return False
            link = f"{self.directory}/stage1/rootfs/rkt/supervisor-status"
            return self.host.run(["test", "-L", link]).code == 0

        until(f"pod {self.name} is not ready", ready)

    def wait_for(self, path: str, app: str = "box") -> None:
        """Until the app has made a file: ready says that it was started, not how far it is."""
        full = f"{self.directory}/stage1/rootfs/opt/stage2/{app}/rootfs{path}"
        until(f"{path} did not appear", lambda: self.host.run(["test", "-e", full]).code == 0)

    def stop(self, *options: str) -> driver.Result:
        """Stop and remove it; the result of ``run``."""
        done = rkt(self.host, "stop", *options, self.uuid)
        assert done.code == 0, done
        assert self.process is not None
        result = self.process.wait(SECONDS)
        self.remove()
        return result

    def remove(self) -> None:
        done = rkt(self.host, "rm", f"--uuid-file={self.file}")
        assert done.code == 0, done

    def status(self) -> dict[str, str]:
        """What ``rkt status`` says."""
        shown = rkt(self.host, "status", self.uuid)
        assert shown.code == 0, shown
        return dict(line.split("=", 1) for line in shown.lines)

    @property
    def subcgroup(self) -> str:
        return self.host.read(f"{self.directory}/subcgroup").decode()

    def app_process(self, name: str = "box") -> int:
        """The first process of an app."""
        own = cgroups(self.host, 1)
        root = "/sys/fs/cgroup" if list(own) == [""] else "/sys/fs/cgroup/systemd"
        group = f"{root}{self.subcgroup}/payload/system.slice/{name}.service"
        return int(self.host.read(f"{group}/cgroup.procs").split()[0])


def cgroups(host: hosts.Host, pid: int) -> dict[str, str]:
    """The paths of a process by controller; "" is the unified hierarchy."""
    found = {}
    for line in host.read(f"/proc/{pid}/cgroup").decode().splitlines():
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def limit(host: hosts.Host, pid: int, legacy: str, unified: str) -> str:
    """A limit of the control group a process is in: ``CONTROLLER/FILE`` of version 1, or the file of 2."""
    own = cgroups(host, pid)
    controller, _, name = legacy.partition("/")
    if list(own) == [""]:
        return host.read(f"/sys/fs/cgroup{own['']}/{unified}").decode().strip()
    return host.read(f"/sys/fs/cgroup/{controller}{own[controller]}/{name}").decode().strip()
