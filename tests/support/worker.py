"""Tasks for the tests of ``rkt.store.confined``, which the product has not, and running them as another user.

A worker knows the tasks of its table; the tests give it a start of its own that adds this module to it.  As a
program (``worker.py SOURCE TASK ARGUMENTS TREES DIRECTORY...``, ARGUMENTS in JSON, TREES 0 or 1) it runs
one task and prints what came of it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

MODULE = "tasks_of_the_tests"
TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCE = os.path.join(os.path.dirname(TESTS), "src")


def install(trees: bool = True) -> str:
    """Have workers know the functions of this module; what is to be put for ``confined._START``."""
    from rkt.store import confined
    from rkt.store.confined import tasks

    profile = tasks.TREES if trees else tasks.STREAMS
    names = [name for name, value in globals().items() if name.startswith("task_") and callable(value)]
    added = {f"{MODULE}:{name}": profile for name in names}
    tasks.TASKS.update(added)
    start = confined._START.replace(
        "program.main()",
        f"""import importlib.util
from rkt.store.confined import tasks
spec = importlib.util.spec_from_file_location("rkt.store.{MODULE}", {os.path.abspath(__file__)!r})
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
tasks.TASKS.update({added!r})
program.main()""",
    )
    confined._START = start
    return start


def run_as(
    user: int | None, task: str, arguments: dict[str, Any], *directories: str, trees: bool = True
) -> dict[str, Any]:
    """A task's result, run by a fresh rkt of that user (None: this one)."""
    done = subprocess.run(
        [sys.executable, __file__, SOURCE, task, json.dumps(arguments), str(int(trees)), *directories],
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    from rkt.store import confined

    task, arguments = sys.argv[2], json.loads(sys.argv[3])
    install(trees=sys.argv[4] == "1")
    missing: list[str] = []
    confined.on_missing(missing.append)
    fds = [os.open(path, os.O_RDONLY) for path in sys.argv[5:]]
    result = confined.call(f"{MODULE}:{task}", {**arguments, "parent": os.getpid()}, fds)
    print(json.dumps({**result, "missing": missing}))


# Tasks


def task_echo(arguments: dict[str, Any], fds: list[int]) -> dict[str, object]:
    return {"arguments": arguments, "contents": [os.read(fd, 100).decode("latin-1") for fd in fds]}


def task_fail(arguments: dict[str, Any], _: list[int]) -> dict[str, object]:
    from rkt.errors import Context, RktError

    kind = arguments["kind"]
    if kind == "chain":
        try:
            try:
                os.stat("/no/such/file", dir_fd=None)
            except OSError as error:
                error.filename = "/no/such/file"
                raise RktError("cannot unpack 'x'", hint="try again") from error
        except RktError as error:
            raise Context("image cannot be imported") from error
    if kind == "os":
        raise OSError(errno.ENOSPC, "no space", "/there")
    if kind == "memory":
        return {"size": len(bytearray(8 << 30))}
    if kind == "signal":
        os.abort()
    if kind == "exit":
        os._exit(3)
    if kind == "defect":
        return {"value": {}["missing"]}
    raise AssertionError(kind)


def task_answer(arguments: dict[str, Any], _: list[int]) -> dict[str, object]:
    """An answer of the worker's own making."""
    data = arguments["text"].encode()
    os.write(1, data * arguments.get("times", 1))
    os._exit(0)


def task_sleep(_: dict[str, Any], fds: list[int]) -> dict[str, object]:
    """Say the pid, then wait for ever."""
    os.write(fds[0], b"%d\n" % os.getpid())
    while True:
        time.sleep(3600)


def task_thread(_: dict[str, Any], __: list[int]) -> dict[str, object]:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(7))
    thread.start()
    thread.join()
    return {"found": found}


def task_trees(_: dict[str, Any], fds: list[int]) -> dict[str, object]:
    """What unpacking needs, done in the directory ``fds[0]``; what root may do too, in ``owned``."""
    top = fds[0]
    os.mkdir("d", 0o700, dir_fd=top)
    file = os.open("d/f", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=top)
    os.write(file, b"content")
    os.ftruncate(file, 100)
    os.fchmod(file, 0o640)
    os.utime(file, ns=(5, 5))
    os.link("d/f", "g", src_dir_fd=top, dst_dir_fd=top, follow_symlinks=False)
    os.symlink("f", "d/s", dir_fd=top)
    os.rename("g", "d/h", src_dir_fd=top, dst_dir_fd=top)
    os.mkfifo("d/p", 0o600, dir_fd=top)
    os.setxattr(file, "user.a", b"b")
    if os.geteuid() == 0:
        os.fchown(file, 7, 8)
        os.fchmod(file, 0o4755)
        os.chown("d/s", 9, 9, dir_fd=top, follow_symlinks=False)
        os.mknod("d/null", 0o020666, os.makedev(1, 3), dir_fd=top)
    os.fsync(file)
    os.close(file)
    return {"names": sorted(os.listdir(os.open("d", os.O_RDONLY, dir_fd=top)))}


def task_attack(arguments: dict[str, Any], fds: list[int]) -> dict[str, object]:
    """Try to get out; by each attempt the name of the errno that met it, "" for one that went through.

    ``fds[0]`` is a directory with a link ``out`` to ``arguments["outside"]`` and, where ``arguments`` say
    so, a device ``device``.
    """
    library = ctypes.CDLL(None, use_errno=True)
    top, outside = fds[0], arguments["outside"]
    parent = arguments["parent"]

    def system(number: int, *values: int) -> None:
        if library.syscall(number, *values) == -1:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def descend() -> None:
        os.open("../" * 12 + outside.lstrip("/") + "/secret", os.O_RDONLY, dir_fd=top)

    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)

    attempts: dict[str, Callable[[], object]] = {
        "read shadow": lambda: os.open("/etc/shadow", os.O_RDONLY),
        "read passwd": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "read outside": lambda: os.open(f"{outside}/secret", os.O_RDONLY),
        "list outside": lambda: os.listdir(os.open(outside, os.O_RDONLY)),
        "create outside": lambda: os.open(f"{outside}/new", os.O_WRONLY | os.O_CREAT),
        "remove outside": lambda: os.unlink(f"{outside}/secret", dir_fd=top),
        "through a link": lambda: os.open("out/secret", os.O_RDONLY, dir_fd=top),
        "create through a link": lambda: os.open("out/new", os.O_WRONLY | os.O_CREAT, dir_fd=top),
        "make a directory through a link": lambda: os.mkdir("out/d", dir_fd=top),
        "upwards": descend,
        "link from outside": lambda: os.link(f"{outside}/secret", "in", dst_dir_fd=top),
        "change a mode outside": lambda: os.chmod(f"{outside}/secret", 0o777),
        "root of another process": lambda: os.open("/proc/1/root/etc/passwd", os.O_RDONLY),
        "socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "local socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "socketpair": socket.socketpair,
        "exec": lambda: os.execve("/bin/true", ["true"], {}),
        "fork": fork,
        "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "kill": lambda: os.kill(parent, signal.SIGTERM),
        "signal by fcntl": lambda: __import__("fcntl").fcntl(top, 8, parent),
        "pidfd": lambda: os.pidfd_open(parent),
        "ptrace": lambda: system(101, 16, parent, 0, 0),
        "memory of another process": lambda: system(310, parent, 0, 0, 0, 0, 0),
        "mount": lambda: system(165, 0, 0, 0, 0, 0),
        "unshare": lambda: system(272, 0x10000000),
        "setns": lambda: system(308, top, 0),
        "keyctl": lambda: system(250, 0, 0, 0),
        "bpf": lambda: system(321, 0, 0, 0),
        "io_uring": lambda: system(425, 1, 0),
        "handles": lambda: system(304, top, 0, 0),
        "chroot": lambda: os.chroot("/"),
        "setuid": lambda: os.setuid(0),
        "module": lambda: system(175, 0, 0, 0),
        "limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096)),
    }
    if arguments.get("device"):
        attempts["device"] = lambda: os.open("device", os.O_RDONLY, dir_fd=top)
        attempts["new device"] = lambda: (
            os.mknod("mem", 0o020666, os.makedev(1, 5), dir_fd=top),
            os.open("mem", os.O_RDONLY, dir_fd=top),
        )
    met = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            met[name] = ""
        except OSError as error:
            met[name] = errno.errorcode[error.errno or 0]
        except ValueError:
            # resource.setrlimit has no other words for EPERM.
            met[name] = "EPERM"
    return {"met": met}


if __name__ == "__main__":
    main()
