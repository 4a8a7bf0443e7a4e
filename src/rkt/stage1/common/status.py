"""Small files of a pod's directory by which others see what became of it.

``pid`` or ``ppid`` say that the pod has started (their time is its start time); both are replaced
atomically, because ``status`` and ``enter`` read them while they appear.
"""

from __future__ import annotations

import os
import time

from rkt.errors import RktError
from rkt.linux import files

_PID_LIMIT = 1 << 22
START_SECONDS = 10.0
"""How long whoever needs a pod to have started waits for that."""

POLL_SECONDS = 0.005


def write(directory: str, name: str, text: str, *, mode: int = 0o644) -> None:
    """Replace ``name`` in the pod's directory: who reads it sees the old content or the new.

    Not written through to the disk: these files speak of a process, which a power cut ends too, and
    waiting for the disk is what the start of a pod would spend most of its time on.
    """
    path = os.path.join(directory, name)
    temporary = f"{path}.{os.getpid()}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, mode)
    try:
        os.fchmod(fd, mode)
        files.write_all(fd, text.encode())
    finally:
        os.close(fd)
    os.rename(temporary, path)


def write_pid(directory: str, name: str, pid: int) -> None:
    """``pid`` (the pod's first process), ``ppid`` (its parent) or ``pgid``: decimal and a newline."""
    write(directory, name, f"{pid}\n")


def read_pid(directory: str, name: str) -> int | None:
    """The number in ``pid``, ``ppid`` or ``pgid``; None when the file is missing."""
    path = os.path.join(directory, name)
    try:
        with open(path, "rb") as file:
            text = file.read(32)
    except FileNotFoundError:
        return None
    word = text.strip()
    if not word.isdigit() or not 0 < int(word) <= _PID_LIMIT:
        raise RktError(f"{path} holds no process number: {text!r}")
    return int(word)


def await_pid(directory: str, name: str) -> int | None:
    """The same of a pod that may be starting: the number is waited for, for ``START_SECONDS``.

    None when the pod has ended, RktError when it takes longer.
    """
    deadline = time.monotonic() + START_SECONDS
    while (pid := read_pid(directory, name)) is None and is_running(directory):
        if time.monotonic() > deadline:
            raise RktError(f"the pod has not started yet: there is no file {name}")
        time.sleep(POLL_SECONDS)
    return pid


def is_running(directory: str) -> bool:
    """Whether somebody holds the pod's lock: the pod lives exactly as long as its lock is held."""
    from rkt.linux.lock import Lock

    with Lock.open(directory) as lock:
        return not lock.try_shared()
