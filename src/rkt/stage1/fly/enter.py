"""``enter``: run a command beside the app, confined as the app is.

    enter --pid=PID --appname=APP -- COMMAND [ARGUMENT...]          in the pod's directory

The command runs as root in / with the app's environment, as under rkt, but with the app's capabilities,
system call filter, no_new_privs and control groups.
"""

from __future__ import annotations

import os
import sys

from rkt.errors import RktError, one_line
from rkt.linux import cgroup, namespaces, process
from rkt.stage1.common import environment, flags, status
from rkt.stage1.common import pod as pods
from rkt.stage1.common.outcome import Outcomes
from rkt.stage1.common.relaxed import Relaxed
from rkt.stage1.fly import application

FAILED = 254


def main(argv: list[str]) -> int:
    """The entry point; ``argv`` includes the program's name.  Returns only when it fails."""
    try:
        # From here on nobody else can open what this process has open (CVE-2016-9962).
        process.set_dumpable(False)
        values, command, _ = flags.parse(argv[1:], flags.ENTER)
        pid = str(values["pid"])
        if not pid.isdecimal() or int(pid) < 2:
            raise RktError(f'"{pid}" is not the process of a pod')
        if not command:
            raise RktError("a command is required")
        enter(int(pid), str(values["appname"]), command)
    except (RktError, OSError) as exc:
        sys.stderr.write(f"stage1: {one_line(exc)}\n")
        sys.stderr.flush()
    return FAILED


def enter(pid: int, name: str, command: list[str]) -> None:
    """Become ``command`` in the root of the app whose process is ``pid``; returns only by an error."""
    directory = os.getcwd()
    pidfd = process.pidfd_open(pid)
    # While the pod's lock is held, its supervisor has not given the number back to the kernel.
    if not status.is_running(directory) or status.read_pid(directory, "pid") != pid:
        raise RktError(f"process {pid} is not the app of a running pod")
    pod = pods.load(directory, os.path.basename(directory))
    app = next((app for app in pod.apps if app.name == name or not name), None)
    if app is None:
        raise RktError(f'the pod has no app "{name}"')
    off = _read(pod, "rkt/fly").decode().split()
    relaxed = Relaxed(
        capabilities="disable-capabilities-restriction" in off,
        paths=True,
        seccomp="disable-seccomp" in off,
    )
    entered = application.load(pod, app, relaxed, Outcomes(strict=False))
    variables = dict(environment.decode(_read(pod, f"rkt/env/{app.name}")))
    variables.setdefault("TERM", os.environ.get("TERM") or "vt100")
    entered.environment = variables
    entered.argv = command
    entered.working_directory = "/"
    entered.uid = entered.gid = 0
    entered.groups = []
    _join_cgroups(pid)
    entered.confinement.set_attributes()
    application.seal_imports()
    namespaces.setns(pidfd, namespaces.CLONE_NEWNS)
    os.close(pidfd)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.closerange(3, root)
    os.closerange(root + 1, 1 << 30)
    entered.execute(root)


def _read(pod: pods.Pod, name: str) -> bytes:
    path = os.path.join(pod.stage1_root, name)
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as exc:
        raise RktError(f"cannot read {path}") from exc


def _join_cgroups(pid: int) -> None:
    """Move this process into the control groups of another, where they differ."""
    own, other = cgroup.own(), cgroup.own(pid)
    if own == other:
        return
    for hierarchy in cgroup.hierarchies():
        path = other.get(hierarchy.controllers[0])
        if path is not None and path != own.get(hierarchy.controllers[0]):
            cgroup.write_value(hierarchy.directory(path), "cgroup.procs", "0")
