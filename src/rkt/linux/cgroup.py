"""Control groups, version 1, hybrid and version 2, through their file systems.

A *path* is absolute as /proc/PID/cgroup prints it; a *controller* is its name there: ``memory``,
``name=systemd``, and the empty string for the unified hierarchy.  ``create``, ``attach``, ``processes`` and
``remove`` act on one path in every hierarchy that is mounted.
"""

from __future__ import annotations

import errno
import os
import time

from rkt.errors import RktError
from rkt.linux import mountinfo
from rkt.linux.failure import named

UNIFIED = ""
ROOT = "/sys/fs/cgroup"

_REMOVE_SECONDS = 5.0
_SIGKILL = 9


def own(pid: int | str = "self") -> dict[str, str]:
    """The path of a process by controller; controllers mounted together have one entry each."""
    with open(f"/proc/{pid}/cgroup", "rb") as file:
        return parse(os.fsdecode(file.read()))


def parse(text: str) -> dict[str, str]:
    """The content of /proc/PID/cgroup (cgroups(7)) as ``own`` gives it."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


class Hierarchy:
    """A mounted hierarchy: its ``controllers``, mount point and the cgroup that is mounted there."""

    __slots__ = ("controllers", "mount_point", "root", "unified")

    def __init__(self, mount: mountinfo.Mount, controllers: list[str]) -> None:
        self.mount_point = mount.target
        self.root = mount.root
        self.controllers = controllers
        self.unified = mount.fstype == "cgroup2"

    def directory(self, path: str) -> str:
        """The directory of a cgroup path; RktError when it is outside what is mounted, or has ``..``."""
        if not path.startswith("/") or ".." in path.split("/"):
            raise RktError(f"{path!r} is not the path of a cgroup")
        root = self.root.rstrip("/")
        if path != root and not path.startswith(root + "/"):
            raise RktError(f"cgroup {path} is not visible below {self.mount_point}")
        return (self.mount_point + path[len(root) :]).rstrip("/")


def hierarchies(
    mounts: list[mountinfo.Mount] | None = None, known: list[str] | None = None
) -> list[Hierarchy]:
    """The hierarchies mounted below /sys/fs/cgroup, each once."""
    names = list(own()) if known is None else known
    found: dict[str, Hierarchy] = {}
    for mount in _mounts() if mounts is None else mounts:
        if mount.target != ROOT and not mount.target.startswith(ROOT + "/"):
            continue
        if mount.fstype == "cgroup2":
            found.setdefault(UNIFIED, Hierarchy(mount, [UNIFIED]))
        elif mount.fstype == "cgroup":
            controllers = [option for option in mount.super_options if option in names]
            if controllers:
                found.setdefault(controllers[0], Hierarchy(mount, controllers))
    return list(found.values())


def _mounts() -> list[mountinfo.Mount]:
    """Mounts of cgroup file systems; the others are not looked at, a thousand pods have many."""
    with open("/proc/self/mountinfo", "rb") as file:
        lines = [line for line in file if b" - cgroup" in line]
    return mountinfo.parse(os.fsdecode(b"".join(lines)))


def hierarchy_of(controller: str, mounted: list[Hierarchy] | None = None) -> Hierarchy | None:
    """The hierarchy that has a controller: its own of version 1, else the unified one that offers it."""
    every = hierarchies() if mounted is None else mounted
    for entry in every:
        if controller in entry.controllers:
            return entry
    for entry in every:
        if entry.unified and controller in available(entry.mount_point):
            return entry
    return None


def mode(mounted: list[Hierarchy] | None = None) -> str:
    """``v2`` (only the unified hierarchy), ``hybrid`` (version 1 and the unified one) or ``v1``.

    Without any cgroup file system this is ``v1`` with no hierarchy.
    """
    every = hierarchies() if mounted is None else mounted
    unified = any(entry.unified for entry in every)
    legacy = any(not entry.unified for entry in every)
    if unified:
        return "hybrid" if legacy else "v2"
    return "v1"


def available(directory: str) -> list[str]:
    """The controllers of version 2 that a cgroup's directory offers."""
    try:
        with open(f"{directory}/cgroup.controllers") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def create(path: str, *, mounted: list[Hierarchy] | None = None) -> None:
    """Make a cgroup and its missing parents in every hierarchy.

    In version 1 a new cpuset is given its parent's processors and memory, without which no process may
    enter it; in version 2 those parents that have no processes hand all their controllers down.
    """
    for entry in hierarchies() if mounted is None else mounted:
        directory = entry.directory(path)
        missing = []
        while not os.path.isdir(directory) and len(directory) > len(entry.mount_point):
            missing.append(directory)
            directory = os.path.dirname(directory)
        for directory in reversed(missing):
            if entry.unified:
                enable_controllers(os.path.dirname(directory))
            try:
                os.mkdir(directory, 0o755)
            except FileExistsError:
                pass
            except OSError as error:
                raise named(error, "mkdir", directory) from None
            if "cpuset" in entry.controllers:
                _inherit_cpuset(directory)


def _inherit_cpuset(directory: str) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not read_value(directory, name):
            write_value(directory, name, read_value(os.path.dirname(directory), name))


def enable_controllers(directory: str, controllers: list[str] | None = None) -> list[str]:
    """Hand controllers (None: all there are) of a version 2 cgroup down to its children.

    Returns those that could not be: a cgroup with processes of its own hands none down (a few it could, but
    then no process may enter its children: cgroups(7), thread mode), some controllers refuse while real-time
    processes exist (EINVAL).
    """
    refused = []
    enabled = read_value(directory, "cgroup.subtree_control").split()
    wanted = available(directory) if controllers is None else controllers
    missing = [controller for controller in wanted if controller not in enabled]
    if missing and not _is_root(directory) and read_value(directory, "cgroup.procs"):
        return missing
    for controller in missing:
        try:
            write_value(directory, "cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EINVAL, errno.ENOENT, errno.EOPNOTSUPP, errno.EROFS):
                raise
            refused.append(controller)
    return refused


def disable_controllers(directory: str) -> None:
    """Take back what a version 2 cgroup hands down, so that it can have processes; never from the root."""
    if not _is_root(directory):
        for controller in read_value(directory, "cgroup.subtree_control").split():
            write_value(directory, "cgroup.subtree_control", f"-{controller}")


def _is_root(directory: str) -> bool:
    """Whether this is the one cgroup that may have processes beside children with controllers."""
    return not os.path.exists(f"{directory}/cgroup.type")


def read_value(directory: str, name: str) -> str:
    """A control file's content without the blanks at its ends."""
    with open(f"{directory}/{name}") as file:
        return file.read().strip()


def write_value(directory: str, name: str, value: str) -> None:
    """Write a control file in one write(2); the OSError names it."""
    path = f"{directory}/{name}"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise named(error, "write", path) from None


def attach(path: str, pid: int, *, mounted: list[Hierarchy] | None = None) -> None:
    """Move a process into the cgroup in every hierarchy that has it; 0 is the calling process.

    RktError where a real-time process is not taken, OSError for any other reason.
    """
    for entry in hierarchies() if mounted is None else mounted:
        directory = entry.directory(path)
        if os.path.isdir(directory):
            try:
                write_value(directory, "cgroup.procs", str(pid))
            except OSError as error:
                if refusal := real_time_refusal(error, pid):
                    raise refusal from error
                raise


def real_time_refusal(error: OSError, pid: int = 0) -> RktError | None:
    """What is to be said when a cgroup did not take a process because of its schedule; None when it is not.

    A kernel with CONFIG_RT_GROUP_SCHED shares real time out to the groups of the cpu controller of version 1,
    and a new group has no share (Documentation/scheduler/sched-rt-group.rst).
    """
    if error.errno != errno.EINVAL:
        return None
    policy = {os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR"}.get(os.sched_getscheduler(pid))
    if policy is None:
        return None
    return RktError(
        f"this kernel takes no real-time process ({policy}) into a cgroup without a share of real time",
        hint="start rkt with the usual schedule: chrt --other 0 rkt ..., CPUSchedulingPolicy=other of a unit",
    )


def processes(path: str, *, mounted: list[Hierarchy] | None = None) -> set[int]:
    """The processes in the cgroup and all below it, over all hierarchies."""
    found: set[int] = set()
    for entry in hierarchies() if mounted is None else mounted:
        for directory in _tree(entry.directory(path)):
            try:
                found.update(int(word) for word in read_value(directory, "cgroup.procs").split())
            except OSError as error:
                # Removed meanwhile (ENOENT, ENODEV), or a threaded cgroup (EOPNOTSUPP).
                if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                    raise
    return found


def _tree(directory: str) -> list[str]:
    """The cgroup directories from the deepest up to ``directory`` itself; empty when it is missing."""
    return [parent for parent, _, _ in os.walk(directory, topdown=False)]


def remove(path: str, *, mounted: list[Hierarchy] | None = None, timeout: float = _REMOVE_SECONDS) -> None:
    """Remove the cgroup and all below it in every hierarchy; missing ones are no error.

    The kernel takes a moment to forget processes that have ended: EBUSY is tried again for ``timeout``
    seconds, then raised.  Processes still running are not touched.
    """
    deadline = time.monotonic() + timeout
    for entry in hierarchies() if mounted is None else mounted:
        directory = entry.directory(path)
        if directory == entry.mount_point:
            raise RktError("the root cgroup cannot be removed")
        while True:
            try:
                for child in _tree(directory):
                    _rmdir(child)
                break
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def _rmdir(directory: str) -> None:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise named(error, "rmdir", directory) from None


def kill(path: str, *, mounted: list[Hierarchy] | None = None) -> None:
    """End the processes in the cgroup and all below it with SIGKILL."""
    for pid in processes(path, mounted=mounted):
        try:
            os.kill(pid, _SIGKILL)
        except ProcessLookupError:
            pass


def record(places: list[tuple[Hierarchy, str]]) -> str:
    """Cgroups as the text of a file for ``remove_recorded``: lines ``CONTROLLER:PATH``."""
    return "".join(f"{hierarchy.controllers[0]}:{path}\n" for hierarchy, path in places)


def remove_recorded(file_name: str, prefix: str) -> list[OSError]:
    """Remove the cgroups that a file lists, with the processes in them, and then the file.

    Those whose own name does not begin with ``prefix`` are left alone, a missing file lists none.  Returns
    the errors of those that stay; the file does too then, for the next attempt.
    """
    try:
        with open(file_name) as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    faults: list[OSError] = []
    by_controller = {hierarchy.controllers[0]: hierarchy for hierarchy in hierarchies()}
    for line in lines:
        controller, _, path = line.partition(":")
        if controller not in by_controller or not path.rpartition("/")[2].startswith(prefix):
            continue
        mounted = [by_controller[controller]]
        try:
            kill(path, mounted=mounted)
            remove(path, mounted=mounted)
        except OSError as error:
            faults.append(error)
    if not faults:
        os.unlink(file_name)
    return faults
