"""Namespaces and id maps: unshare(2), setns(2), /proc/PID/{uid,gid}_map."""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import libc
from rkt.linux.failure import named

CLONE_FS = 0x200
CLONE_NEWTIME = 0x80
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

KINDS = {
    "cgroup": CLONE_NEWCGROUP,
    "ipc": CLONE_NEWIPC,
    "mnt": CLONE_NEWNS,
    "net": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "time": CLONE_NEWTIME,
    "user": CLONE_NEWUSER,
    "uts": CLONE_NEWUTS,
}


def unshare(flags: int) -> None:
    """Put this process (for CLONE_NEWPID its children) into new namespaces of CLONE_NEW* ``flags``."""
    libc.check(libc.unshare(flags), "unshare")


def setns(fd: int, type: int = 0) -> None:
    """Join the namespace of ``fd``; ``type`` (CLONE_NEW*) makes the kernel check its kind.

    ``fd`` may be a pidfd, then ``type`` says which namespaces of the process to join (Linux 5.8).
    """
    libc.check(libc.setns(fd, type), "setns", f"fd {fd}")


def open_namespace(kind: str, pid: int | str = "self") -> int:
    """An fd of a process's namespace; ``kind`` as in /proc/PID/ns (``net``, ``mnt``, ...)."""
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def same_namespace(kind: str, first: int | str, second: int | str = "self") -> bool:
    """Whether two processes share the namespace of this kind."""
    one, other = os.stat(f"/proc/{first}/ns/{kind}"), os.stat(f"/proc/{second}/ns/{kind}")
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def write_id_maps(
    pid: int,
    uid_map: list[tuple[int, int, int]],
    gid_map: list[tuple[int, int, int]],
    *,
    deny_setgroups: bool = False,
) -> None:
    """Map the ids of a process's new user namespace: triples (first inside, first outside, count).

    An unprivileged writer may map only its own gid and has to give up setgroups(2) first
    (``deny_setgroups``, user_namespaces(7)).
    """
    if deny_setgroups:
        _write(f"/proc/{pid}/setgroups", b"deny")
    for name, rows in (("uid_map", uid_map), ("gid_map", gid_map)):
        lines = [f"{inside} {outside} {count}\n" for inside, outside, count in rows]
        _write(f"/proc/{pid}/{name}", "".join(lines).encode())


def open_id_map(first: int, count: int) -> int:
    """An fd of a new user namespace whose IDs from 0 on are ``count`` of ours from ``first`` on.

    It is for id-mapped mounts: a child makes it and ends, the fd keeps it.
    """
    ready, made = os.pipe2(os.O_CLOEXEC)
    wait, done = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.close(done)
            unshare(CLONE_NEWUSER)
            os.write(made, b"1")
            os.read(wait, 1)
        finally:
            os._exit(0)
    try:
        os.close(made)
        if not os.read(ready, 1):
            raise RktError("cannot create a user namespace")
        write_id_maps(child, [(0, first, count)], [(0, first, count)])
        return open_namespace("user", child)
    finally:
        for fd in (ready, wait, done):
            os.close(fd)
        os.waitpid(child, 0)


def _write(path: str, data: bytes) -> None:
    # One write(2): the kernel takes a map once and whole.
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
    except OSError as error:
        raise named(error, "write", path) from None


def is_current(fd: int, kind: str) -> bool:
    """Whether this thread is in the namespace of ``fd``."""
    wanted, own = os.fstat(fd), os.stat(f"/proc/thread-self/ns/{kind}")
    return (wanted.st_dev, wanted.st_ino) == (own.st_dev, own.st_ino)


def set_hostname(name: str) -> None:
    """The host name of this UTS namespace."""
    import socket

    try:
        socket.sethostname(name)
    except OSError as error:
        raise named(error, "sethostname", name) from None
