"""Keeps a test host tidy: whatever ends first, the host or the test run, nothing of it stays on the machine.

    hosts_keeper.py PLAN    with a pipe from the test run as standard input

PLAN is JSON: ``cgroup`` (name of a control group made for the host in every hierarchy, or null), ``steps``
(commands to run first), ``argv`` (the host), ``environment`` (added to a minimal one).

Steps and host run in a PID and a mount namespace of their own with an empty file system of memory on /run,
where all that is temporary lives. The kernel takes both namespaces away when the first process in them dies,
and that one is killed when the keeper dies. What no kernel takes away is the control group, which is why the
keeper outlives a test run that is killed: it sees the end of its standard input.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
CGROUPS = "/sys/fs/cgroup"
RUN_SIZE = "6g"
PR_SET_CHILD_SUBREAPER = 36


def cgroup_directories(name: str) -> list[str]:
    """Where the host's group is in each hierarchy: below the test run's own, on cgroup v2 at the root.

    The v1 controllers have no rule against processes in inner groups and the test run may be limited by its
    own group; with v2 only the root may have both processes and children with controllers.
    """
    found = []
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if os.path.exists(CGROUPS + "/cgroup.controllers"):
                return [os.path.join(CGROUPS, name)]
            base = os.path.join(CGROUPS, controllers.removeprefix("name=") or "unified")
            if os.path.exists(base + "/cgroup.procs"):
                found.append(os.path.join(base + path.rstrip("/"), name))
    return found


def make_cgroups(directories: list[str]) -> None:
    for directory in directories:
        os.makedirs(directory, exist_ok=True)
        enable_controllers(os.path.dirname(directory))
        # A new cpuset of v1 is empty, and nothing can be moved into it until it is filled.
        for name in ("cpuset.cpus", "cpuset.mems"):
            target, source = os.path.join(directory, name), os.path.join(os.path.dirname(directory), name)
            if os.path.exists(target) and "cpuset/" in directory:
                with open(source) as parent, open(target, "w") as child:
                    child.write(parent.read())


def enable_controllers(parent: str) -> None:
    """On cgroup v2, where systemd enables what its own units need: all controllers, for the host's units."""
    path = os.path.join(parent, "cgroup.subtree_control")
    # The v2 hierarchy beside v1 has no controllers.
    if not os.path.exists(path):
        return
    with open(os.path.join(parent, "cgroup.controllers")) as file:
        available = file.read().split()
    for controller in available:
        try:
            with open(path, "w") as file:
                file.write("+" + controller)
        except OSError as exc:
            print(f"host keeper: no {controller} controller: {exc}", file=sys.stderr)


def remove_cgroups(directories: list[str], seconds: float = 10) -> None:
    """Remove the groups and all below; one whose last process has just been killed is busy for a moment."""
    deadline = time.monotonic() + seconds
    for top in directories:
        for directory, _, _ in os.walk(top, topdown=False):
            while True:
                try:
                    os.rmdir(directory)
                except FileNotFoundError:
                    pass
                except OSError:
                    if time.monotonic() < deadline:
                        time.sleep(0.02)
                        continue
                    print(f"host keeper: {directory} stays", file=sys.stderr)
                break


def remove_stale(name: str) -> None:
    """Groups of keepers that were killed themselves; the name ends in the keeper's process id."""
    prefix = name.rpartition("-")[0] + "-"
    for directory in cgroup_directories(name):
        parent = os.path.dirname(directory)
        for other in os.listdir(parent):
            pid = other.removeprefix(prefix)
            if other.startswith(prefix) and pid.isdigit() and not os.path.exists("/proc/" + pid):
                remove_cgroups([os.path.join(parent, other)], seconds=0)


def keep(plan: dict[str, Any]) -> int:
    """Start the host, wait for its end or the test run's, remove what is left; the host's exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Orphans of the host come to this process.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    name = f"{plan['cgroup']}-{os.getpid()}" if plan["cgroup"] else None
    groups = cgroup_directories(name) if name else []
    if name:
        remove_stale(name)
    try:
        make_cgroups(groups)
        child = subprocess.Popen(
            [
                *"setpriv --pdeathsig KILL unshare --pid --mount --mount-proc --propagation private".split(),
                *"--fork --kill-child -- /usr/bin/python3 -IS".split(),
                os.path.abspath(__file__),
                "--inside",
                json.dumps({**plan, "groups": groups}),
            ],
            stdin=subprocess.DEVNULL,
            # Standard output is for the process id only.
            stdout=sys.stderr,
            close_fds=False,
            env=ENVIRONMENT,
        )
        try:
            watch(child)
        finally:
            child.kill()
            code = child.wait()
            reap()
    finally:
        remove_cgroups(groups)
    return code


def reap() -> None:
    """Wait until the first process of the namespaces, an orphan by now, and so all in them have gone."""
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass


def watch(child: subprocess.Popen[bytes]) -> None:
    """Tell the test run the process id and return when either has ended."""
    print(child.pid, flush=True)
    ended = os.pidfd_open(child.pid)
    select.select([sys.stdin, ended], [], [])


def inside(plan: dict[str, Any]) -> None:
    """First process of the namespaces: forget the machine's mounts, make /run, then become the host."""
    for group in plan["groups"]:
        with open(os.path.join(group, "cgroup.procs"), "w") as file:
            file.write("0")
    # A copy of a mount would keep another test's file system or network namespace alive.
    kept = ("/proc", "/sys", "/dev")
    for point in reversed(mount_points()):
        if point != "/" and not f"{point}/".startswith(tuple(f"{base}/" for base in kept)):
            if any(f"{path}/".startswith(f"{point}/") for path in plan["keep"]):
                continue
            subprocess.run(["umount", "--lazy", point], check=False, env=ENVIRONMENT)
    command(["mount", "-t", "tmpfs", "-o", f"mode=755,size={RUN_SIZE}", "tmpfs", "/run"])
    for step in plan["steps"]:
        command(step)
    os.execvpe(plan["argv"][0], plan["argv"], {**ENVIRONMENT, **plan["environment"]})


def mount_points() -> list[str]:
    points = []
    with open("/proc/self/mountinfo") as file:
        for line in file:
            text = line.split()[4]
            points.append(text.encode("latin-1").decode("unicode_escape").encode("latin-1").decode())
    return points


def command(argv: list[str]) -> None:
    done = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, env=ENVIRONMENT)
    if done.returncode:
        sys.exit(f"host keeper: {' '.join(argv)}: exit status {done.returncode}")


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        inside(json.loads(sys.argv[2]))
    sys.exit(keep(json.loads(sys.argv[1])))
