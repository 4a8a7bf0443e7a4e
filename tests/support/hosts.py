"""Two hosts to run rkt on, other than the machine the tests run on, driven as remote machines are.

``SystemdHost``: systemd is process 1, with machined, logind and journald, booted by systemd-nspawn on the
machine's kernel and its cgroup hierarchies (v1 or hybrid where the machine has those), with a network of its
own. ``VirtualMachine``: Debian's kernel under emulation, with cgroup v2 and nothing of the machine's kernel.

Both are given a copy of the checkout at the checkout's own path as it was when they started, keep nothing
from one start to the next, and are gone with the process that started them, however that one ends
(hosts_keeper.py).
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import tempfile
import time
from typing import IO, Any

from support import hosts_build
from support.driver import ROOT, Result
from support.hosts_agent import PORT, Frame, Stream
from support.waiting import PATIENCE

KEEPER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hosts_keeper.py")
RKT = os.path.join(ROOT, "bin", "rkt")
# Of build/ only what the launcher uses; nothing of this is needed to run rkt.
NOT_COPIED = {
    ".git",
    "build",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
    ".import_linter_cache",
}
COPIED_BUILDS = ("deps", "stage1")


class HostError(Exception):
    """The host did not start, has gone, or refused a request; the text ends in its console's last lines."""


class Process:
    """A program that runs in a host while the test does something else."""

    def __init__(self, host: Host, argv: list[str], pid: int) -> None:
        self.host, self.argv, self.pid = host, argv, pid

    def wait(self, timeout: float = PATIENCE) -> Result:
        """Its end and all it printed; TimeoutError when it still runs after ``timeout`` seconds."""
        header, body = self.host.request({"op": "wait", "pid": self.pid, "timeout": timeout})
        return _result(self.argv, header, body, timeout)

    def running(self) -> bool:
        header, _ = self.host.request({"op": "wait", "pid": self.pid, "timeout": 0})
        return header["code"] is None

    def signal(self, name: str) -> None:
        self.host.run(["kill", "-s", name, str(self.pid)])

    def kill(self) -> None:
        """End it, with what is in its process group, if it still runs."""
        if self.running():
            self.host.run(["kill", "-s", "KILL", "--", f"-{self.pid}"])


class Host:
    """What both hosts have in common; use as a context manager or call ``start`` and ``stop``."""

    description = "host"
    boot_seconds = PATIENCE

    def __init__(self) -> None:
        self.started: list[Process] = []
        self._parts: hosts_build.Parts | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._console: IO[bytes] | None = None
        self._socket: socket.socket | None = None
        self._stream: Stream | None = None

    def __enter__(self) -> Host:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Build the host if need be, boot it and wait until its services have started."""
        self._parts = hosts_build.Parts()
        self._console = tempfile.TemporaryFile()
        deadline = time.monotonic() + self.boot_seconds
        try:
            self._boot(self._parts, deadline)
            assert self._socket is not None
            self._stream = Stream(self._socket.fileno())
            self._await(deadline)
            self._stream.receive()
            self.run(["systemctl", "is-system-running", "--wait"], timeout=self.boot_seconds)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Take the host's power away and wait until nothing of it is left on the machine."""
        if self._socket is not None:
            self._socket.close()
        if self._keeper is not None:
            assert self._keeper.stdin is not None and self._keeper.stdout is not None
            self._keeper.stdin.close()
            self._keeper.wait(PATIENCE)
            self._keeper.stdout.close()
        if self._parts is not None:
            self._parts.close()
        self._parts = self._keeper = self._socket = self._stream = None

    @property
    def is_running(self) -> bool:
        return self._stream is not None

    def run(self, argv: list[str], timeout: float = PATIENCE, **options: Any) -> Result:
        """Run a program as root and return its status and output; ``env``, ``cwd`` and ``input`` as options.

        The status is negative for a signal. TimeoutError after ``timeout`` seconds; its process group is
        killed.
        """
        text: str | None = options.pop("input", None)
        request = {"op": "run", "argv": argv, "timeout": timeout, "input": text is not None, **options}
        header, body = self.request(request, (text or "").encode())
        return _result(argv, header, body, timeout)

    def ok(self, argv: list[str], timeout: float = PATIENCE, **options: Any) -> Result:
        """The same, where anything but success is a failed test."""
        result = self.run(argv, timeout, **options)
        assert result.code == 0, result
        return result

    def spawn(self, argv: list[str], **options: Any) -> Process:
        """Start a program without waiting for it."""
        header, _ = self.request({"op": "spawn", "argv": argv, **options})
        self.started.append(Process(self, argv, header["pid"]))
        return self.started[-1]

    def put(self, source: str, target: str) -> str:
        """Copy a file of the machine into the host and return its path there."""
        with open(source, "rb") as file:
            return self.write(target, file.read(), os.stat(source).st_mode & 0o7777)

    def get(self, source: str, target: str) -> str:
        """Copy a file of the host to the machine and return its path here."""
        with open(target, "wb") as file:
            file.write(self.read(source))
        return target

    def write(self, path: str, data: bytes, mode: int = 0o644) -> str:
        self.request({"op": "write", "path": path, "mode": mode}, data)
        return path

    def read(self, path: str) -> bytes:
        return self.request({"op": "read", "path": path})[1]

    def request(self, header: dict[str, Any], body: bytes = b"") -> Frame:
        if self._stream is None:
            raise HostError(f"the {self.description} is not running")
        try:
            self._stream.send(header, body)
            answer = self._stream.receive()
        except (EOFError, OSError) as exc:
            raise self._failure("has gone") from exc
        if "error" in answer[0]:
            raise HostError(f"{header['op']}: {answer[0]['error']}")
        return answer

    def console(self) -> str:
        """What the host has written to its console so far."""
        if self._console is None:
            return ""
        return os.pread(self._console.fileno(), 1 << 20, 0).decode(errors="replace")

    def _boot(self, parts: hosts_build.Parts, deadline: float) -> None:
        """Start the keeper and set ``_socket`` to a connection on which the agent says hello."""
        raise NotImplementedError

    def _start_keeper(self, plan: dict[str, Any], *, pass_fds: tuple[int, ...] = ()) -> int:
        """Start the keeper; returns the id of a process in the host's mount namespace."""
        assert self._console is not None and self._parts is not None
        plan["keep"] = [ROOT, self._parts.directory]
        plan["steps"] = [*_checkout_steps(), *plan["steps"]]
        self._keeper = subprocess.Popen(
            ["/usr/bin/python3", "-IS", KEEPER, json.dumps(plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._console,
            pass_fds=pass_fds,
            # The terminal's signals are for the test run, which then tells the keeper.
            start_new_session=True,
        )
        assert self._keeper.stdout is not None
        line = self._keeper.stdout.readline()
        if not line:
            raise self._failure("did not start")
        return int(line)

    def _await(self, deadline: float) -> None:
        """Return when the agent has said something; the host's end or the deadline is an error."""
        assert self._socket is not None
        while time.monotonic() < deadline:
            if select.select([self._socket], [], [], 0.2)[0]:
                return
            self._check_keeper()
        raise self._failure(f"did not answer within {self.boot_seconds:.0f} s")

    def _check_keeper(self) -> None:
        if self._keeper is None or self._keeper.poll() is not None:
            raise self._failure("ended while it was starting")

    def _failure(self, what: str) -> HostError:
        tail = "\n".join(self.console().splitlines()[-40:])
        return HostError(f"the {self.description} {what}; its console:\n{tail}")


def _result(argv: list[str], header: dict[str, Any], body: bytes, timeout: float) -> Result:
    out, err = (
        part.decode(errors="surrogateescape") for part in (body[: header["out"]], body[header["out"] :])
    )
    if header["code"] is None:
        raise TimeoutError(f"{' '.join(argv)}: still running after {timeout} s\n-- out\n{out}\n-- err\n{err}")
    return Result(argv, header["code"], out, err)


def _checkout_steps() -> list[list[str]]:
    """Copy the checkout to /run/checkout: who edits it meanwhile does not change what a host runs.

    Byte code is compiled there, since the host may not write to the copy and would compile at every start.
    """
    names = [name for name in sorted(os.listdir(ROOT)) if name not in NOT_COPIED]
    builds = [path for name in COPIED_BUILDS if os.path.exists(path := os.path.join(ROOT, "build", name))]
    copy = "/run/checkout"
    return [
        ["mkdir", "-p", copy + "/build"],
        ["cp", "-a", *[os.path.join(ROOT, name) for name in names], copy],
        *[["cp", "-a", path, copy + "/build/"] for path in builds],
        ["/usr/bin/python3", "-IS", "-m", "compileall", "-q", copy + "/src"],
    ]


def _ext4(parts: hosts_build.Parts, image: str, size: str, *options: str) -> list[list[str]]:
    """Make a file system in a file below /run with the tools' own mkfs, which is given a view of /run."""
    tools = parts.path("tools")
    return [
        ["mount", "--rbind", "/run", f"{tools}/run"],
        ["truncate", f"--size={size}", image],
        ["chroot", tools, "mkfs.ext4", "-q", "-F", "-O", "^has_journal", *options, image],
    ]


class SystemdHost(Host):
    """systemd as process 1 below systemd-nspawn.

    The tree is the lower directory of an overlay whose upper one is on an ext4 file system in memory. An
    overlay cannot be the upper layer of another, so /var/lib/rkt, where pods are, is a directory of that file
    system itself (not of a tmpfs, which cannot be mounted with mapped owners before Linux 6.3).
    """

    description = "systemd host"

    def _boot(self, parts: hosts_build.Parts, deadline: float) -> None:
        lower, root = parts.path("tree"), "/run/root"
        overlay = f"lowerdir={lower},upperdir=/run/disk/upper,workdir=/run/disk/work"
        options = [
            # The machine may have no systemd: neither its machined nor its D-Bus is asked for anything.
            *"--quiet --settings=no --register=no --keep-unit --link-journal=no --resolv-conf=off".split(),
            *"--timezone=off --console=pipe --machine=testhost --private-network --capability=all".split(),
            f"--directory={root}",
            "--bind=/run/disk/share:/srv/share",
            "--bind=/run/disk/data:/var/lib/rkt",
            f"--bind-ro=/run/checkout:{ROOT}",
        ]
        plan = {
            "cgroup": "testhost",
            "steps": [
                *_ext4(parts, "/run/disk.img", "4G"),
                ["mkdir", root, "/run/disk"],
                ["mount", "-o", "loop,noinit_itable", "/run/disk.img", "/run/disk"],
                ["mkdir", *[f"/run/disk/{name}" for name in ("upper", "work", "share", "data")]],
                ["mount", "-t", "overlay", "-o", overlay, "testhost", root],
            ],
            "argv": ["systemd-nspawn", *options, "/usr/local/lib/host-init", "--show-status=yes"],
            "environment": {
                # No system call filter: processes of a real host have none, and what a pod's have must be
                # rkt's.
                "SYSTEMD_SECCOMP": "0",
                # /proc and /sys as a host has them: with parts of them covered the kernel refuses to mount
                # them in a user namespace (mount_too_revealing), which is what pods with --private-users
                # need.
                "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "yes",
            },
        }
        pid = self._start_keeper(plan)
        # The socket is in the host's own mount namespace; connecting needs only the way to it.
        path = f"/proc/{pid}/root/run/disk/share/agent.sock"
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(path)
            except OSError:
                connection.close()
            else:
                self._socket = connection
                return
            self._check_keeper()
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer within {self.boot_seconds:.0f} s")
            time.sleep(0.02)


class VirtualMachine(Host):
    """Debian's cloud kernel in qemu.

    Emulated, not with KVM: inside of other virtual machines KVM is there but may not work (measured: it
    stalls before the first line of the kernel), and a test host must behave in one way everywhere.
    """

    description = "virtual machine"
    boot_seconds = 5 * PATIENCE
    memory = "2G"

    def _boot(self, parts: hosts_build.Parts, deadline: float) -> None:
        tools = parts.path("tools")
        ours, theirs = socket.socketpair()
        self._socket = ours
        qemu = [
            *"/usr/bin/qemu-system-x86_64 -accel tcg,thread=multi -smp 2 -M q35 -cpu max -m".split(),
            self.memory,
            *"-nodefaults -no-user-config -no-reboot -display none -serial stdio".split(),
            *"-kernel /run/parts/vmlinuz -initrd /run/parts/initrd -append".split(),
            "console=ttyS0 quiet panic=-1 systemd.show_status=yes",
            # Writes go to a file in $TMPDIR that has no name.
            *"-drive file=/run/parts/disk.img,format=raw,if=none,id=disk,snapshot=on".split(),
            *"-device virtio-blk-pci,drive=disk".split(),
            *"-drive file=/run/checkout.img,format=raw,if=none,id=checkout,snapshot=on".split(),
            *"-device virtio-blk-pci,drive=checkout".split(),
            *f"-chardev socket,id=agent,fd={theirs.fileno()} -device virtio-serial-pci".split(),
            *f"-device virtserialport,chardev=agent,name={PORT}".split(),
        ]
        plan = {
            "cgroup": None,
            "steps": [
                ["mkdir", "/run/parts"],
                ["mount", "--bind", parts.directory, "/run/parts"],
                *_ext4(parts, "/run/checkout.img", "1G", "-d", "/run/checkout"),
                *[["mount", "--rbind", f"/{name}", f"{tools}/{name}"] for name in ("dev", "proc")],
            ],
            "argv": ["chroot", tools, *qemu],
            "environment": {"TMPDIR": "/run"},
        }
        with theirs:
            self._start_keeper(plan, pass_fds=(theirs.fileno(),))

    def start(self) -> None:
        super().start()
        try:
            self.ok(["mkdir", "-p", ROOT])
            self.ok(["mount", "--bind", "/srv/checkout", ROOT])
        except BaseException:
            self.stop()
            raise
