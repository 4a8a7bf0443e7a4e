"""Where a command beside an app runs: with the app's main process, or once that has ended in its root anew.

Processes of the pod's systemd are in an app's control group before and after the app: the one that is about
to become it, and ``app-exit``.  Both are as mighty as systemd itself.  A process is the app's only when
its root directory is the app's; that is looked at while a pidfd holds the process, so that the number cannot
mean another.
"""

from __future__ import annotations

import errno
import os

from rkt.errors import RktError
from rkt.linux import cgroup, process, selinux
from rkt.stage1.common import resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.limits import Limits

_INIT = "/init.scope"
_JOURNAL = "systemd-journald.service"
_ATTEMPTS = 100


class Target:
    """What ``enter`` joins: ``pidfd`` of ``pid``, the app's main process or, when it has ``ended``, systemd.

    ``procs`` are open ``cgroup.procs`` files, through which the command moves itself; ``context`` is the
    process's SELinux context, "" without SELinux.
    """

    __slots__ = ("context", "ended", "limits", "oom_score_adj", "pid", "pidfd", "procs")

    def __init__(self, pid: int, pidfd: int, *, ended: bool) -> None:
        self.pid, self.pidfd, self.ended = pid, pidfd, ended
        self.limits = list(process.limits(pid).items())
        with open(f"/proc/{pid}/oom_score_adj") as file:
            self.oom_score_adj = file.read().strip()
        self.context = selinux.context_of(pid) if selinux.is_enabled() else ""
        self.procs: list[int] = []

    def open_groups(self, directories: list[str]) -> None:
        """Open the control groups the command will move into."""
        for directory in directories:
            self.procs.append(os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))


def trace(point: str, pid: int) -> None:
    """Called between two looks at a process of the pod; does nothing.

    A test puts a function in its place to make a race happen there.
    """


class Wanted:
    """The app to enter: its name, its unit's, and the limits of its control group, kept by ``disks``."""

    __slots__ = ("disks", "limits", "name", "unit")

    def __init__(self, name: str, unit: str, limits: Limits, disks: list[tuple[int, int]]) -> None:
        self.name, self.unit, self.limits, self.disks = name, unit, limits, disks


def find(pidfd: int, pid: int, wanted: Wanted) -> Target:
    """The target of an app in the pod whose systemd is ``pid``, which ``pidfd`` holds.

    RktError when the pod has ended.
    """
    app = wanted.name
    try:
        for _ in range(_ATTEMPTS):
            main = main_process(pid, app, wanted.unit)
            found = _beside(main, pid, app) if main else _anew(pidfd, pid, wanted)
            # What was looked at by its number was the pod's systemd if that is still there.
            if found is not None and not process.wait(pidfd, 0):
                return found
            if process.wait(pidfd, 0):
                break
        else:
            raise RktError(f'the processes of app "{app}" end too quickly to enter one')
    except OSError:
        if not process.wait(pidfd, 0):
            raise
    raise RktError("the pod has ended")


def main_process(pid: int, app: str, unit: str) -> int:
    """The oldest process of the app that the pod's systemd started itself; 0 when there is none."""
    found = [
        (process.start_time(member) or 0, member)
        for member in _members(pid, unit)
        if _is_in_root(member, pid, app)
    ]
    return min(found)[1] if found else 0


def _members(pid: int, unit: str) -> list[int]:
    """The processes of a unit that the pod's systemd has started itself."""
    own = cgroup.own(pid)
    for hierarchy in cgroup.hierarchies():
        # The two that systemd may track its units by; of the others a unit is in those that limit it.
        top = own[hierarchy.controllers[0]]
        if hierarchy.controllers[0] not in ("name=systemd", cgroup.UNIFIED) or not top.endswith(_INIT):
            continue
        directory = hierarchy.directory(f"{top.removesuffix(_INIT)}/system.slice/{unit}")
        try:
            members = [int(word) for word in cgroup.read_value(directory, "cgroup.procs").split()]
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            return []
        started = set(process.children(pid))
        return [member for member in members if member in started]
    return []


def _is_in_root(member: int, pid: int, app: str) -> bool:
    """Whether a process is alive and has the app's root directory as its own."""
    try:
        own = os.stat(f"/proc/{member}/root")
    except (FileNotFoundError, ProcessLookupError):
        return False
    root = os.stat(f"/proc/{pid}/root/opt/stage2/{app}/rootfs")
    return (own.st_dev, own.st_ino) == (root.st_dev, root.st_ino) and process.is_alive(member)


def _beside(main: int, pid: int, app: str) -> Target | None:
    """The app's main process as a target; None when it has just ended."""
    trace("found", main)
    try:
        pidfd = os.pidfd_open(main)
    except ProcessLookupError:
        return None
    trace("opened", main)
    target = None
    try:
        # Not earlier: until the pidfd was open the number could have been given to another process.
        if not _is_in_root(main, pid, app) or main not in process.children(pid):
            return None
        target = Target(main, pidfd, ended=False)
        own = cgroup.own(main)
        mounted = cgroup.hierarchies()
        target.open_groups([entry.directory(own[entry.controllers[0]]) for entry in mounted])
        trace("read", main)
        # What was read of a process that is alive now was read of it.
        if not process.wait(pidfd, 0):
            return target
    except (FileNotFoundError, ProcessLookupError):
        pass
    except BaseException:
        os.close(pidfd)
        raise
    for fd in (pidfd, *(target.procs if target is not None else ())):
        os.close(fd)
    return None


def _anew(pidfd: int, pid: int, wanted: Wanted) -> Target:
    """The pod's systemd as the target, with control groups of the command's own and the app's limits."""
    target = Target(pid, pidfd, ended=True)
    # What systemd starts has other limits than itself: those of its journal are those of any app.
    journal = next((child for child in _members(pid, _JOURNAL)), pid)
    target.limits = list(process.limits(journal).items())
    if wanted.limits.oom_score_adj is not None:
        target.oom_score_adj = str(wanted.limits.oom_score_adj)
    own = cgroup.own(pid)
    mounted = cgroup.hierarchies()
    limiting = {name: resources.hierarchy_of(name, mounted) for name in _controllers(wanted)}
    directories = []
    for hierarchy in mounted:
        path = own[hierarchy.controllers[0]]
        controllers = [name for name, found in limiting.items() if found is hierarchy]
        if path.endswith(_INIT) or controllers:
            path = f"{path.removesuffix(_INIT).rstrip('/')}/rkt_enter_{wanted.name}.service"
            cgroup.create(path, mounted=[hierarchy])
        directories.append(hierarchy.directory(path))
        for name in controllers:
            _limit(directories[-1], name, wanted, unified=hierarchy.unified)
    target.open_groups(directories)
    return target


def _controllers(wanted: Wanted) -> set[str]:
    return set(resources.wanted(wanted.limits).values())


def _limit(directory: str, controller: str, wanted: Wanted, *, unified: bool) -> None:
    """Set the limits of one controller, which where it was not handed down the app has not had either."""
    if unified:
        cgroup.enable_controllers(os.path.dirname(directory), [controller])
    for name, value in resources.settings(wanted.limits, controller, wanted.disks, unified=unified):
        try:
            cgroup.write_value(directory, name, value)
        except FileNotFoundError:
            return
