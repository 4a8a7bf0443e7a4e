"""Entry point ``stop``: asks the supervisor of a running pod to end it.

SIGTERM makes systemd-nspawn tell the pod's systemd to halt, which stops the apps in order; with
``--force`` everything in the pod is killed at once.  systemd-nspawn tells it once, and the kernel drops what
process 1 is not prepared for: a pod that is just starting gets the signal when it keeps it.
"""

from __future__ import annotations

import os
import sys
import time

from rkt.errors import RktError, one_line
from rkt.linux import process
from rkt.stage1.common import flags as command_line
from rkt.stage1.common import status

_SIGTERM = 15
_SIGKILL = 9
_SIGHALT = 37  # supervisor.HALT; to import that would take longer than all the rest


def main(argv: list[str]) -> int:
    """0 when the signal was sent, or the pod had ended already."""
    try:
        values, arguments, _ = command_line.parse(argv[1:], command_line.STOP)
        if len(arguments) != 1:
            raise RktError("exactly one pod UUID is expected")
        stop(os.getcwd(), force=values["force"] is True)
    except (RktError, OSError) as error:
        sys.stderr.write(f"stop: {one_line(error)}\n")
        return 254
    return 0


def stop(directory: str, *, force: bool) -> None:
    """Signal the pod whose directory this is."""
    fd = open_supervisor(directory)
    if fd is None:
        return
    try:
        supervisor = status.read_pid(directory, "ppid")
        if not force:
            if supervisor is not None:
                _await_system(supervisor, fd)
            process.pidfd_send_signal(fd, _SIGTERM)
            return
        # The pod's pid 1 first: with it the kernel kills everything in its pid namespace.
        for child in process.children(supervisor) if supervisor is not None else []:
            _kill(child)
        process.pidfd_send_signal(fd, _SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def _await_system(supervisor: int, fd: int) -> None:
    """Wait until the pod's process 1 keeps the signal it is going to get; not for ever.

    ``fd`` is the pidfd of the supervisor: with it the pod is gone.
    """
    deadline = time.monotonic() + status.START_SECONDS
    while not any(process.blocks(pid, _SIGHALT) for pid in process.children(supervisor)):
        if process.wait(fd, status.POLL_SECONDS) or time.monotonic() > deadline:
            return


def _kill(pid: int) -> None:
    try:
        os.kill(pid, _SIGKILL)
    except ProcessLookupError:
        pass


def open_supervisor(directory: str) -> int | None:
    """A pidfd of the process in ``ppid``, which is waited for; None when the pod does not run.

    The number may have been used again: the process is the supervisor only if it has the pod's
    directory open, whose lock it holds.
    """
    pid = status.await_pid(directory, "ppid")
    if pid is None:
        return None
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if holds(pid, directory):
        return fd
    os.close(fd)
    return None


def holds(pid: int, directory: str) -> bool:
    """Whether a process has the directory open."""
    wanted = os.stat(directory)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                found = os.stat(f"/proc/{pid}/fd/{name}")
            except FileNotFoundError:
                continue
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    except (FileNotFoundError, ProcessLookupError):
        pass
    return False
