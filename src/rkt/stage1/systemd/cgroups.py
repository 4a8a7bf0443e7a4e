"""The cgroup of a pod: where it is, how it is entered, and how it goes.

    in a system service, or a scope somebody made    below the unit's cgroup, so that its limits hold
    elsewhere on a host that systemd runs            the scope of a machine, in machine.slice
    on other hosts, or when systemd does not answer  below the caller's own cgroup

It has the same name everywhere, ``machine-rkt\\x2d....scope``, and exists in each hierarchy; version 1 lets
the paths before it differ.  The pod's file ``cgroups`` lists it before it exists (``CONTROLLER:PATH``), for
whoever has to remove it.
"""

from __future__ import annotations

import errno
import os
import stat

from rkt.errors import RktError
from rkt.linux import cgroup, devices
from rkt.linux.devices import Rule
from rkt.stage1.common import status
from rkt.stage1.systemd import controllers, machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.systemd.plan import Plan
    from rkt.stage1.systemd.supervisor import Host

RECORD = "cgroups"
PREFIX = "machine-rkt"

_DELEGATED = ("trusted.delegate", "user.delegate")

# What systemd-nspawn puts into a pod's /dev; nodes may be made of everything (archives hold some).
DEVICES = (
    Rule("c", None, None, "m"),
    Rule("b", None, None, "m"),
    *(Rule("c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)),  # null zero full random urandom
    Rule("c", 5, 0, "rwm"),  # tty
    Rule("c", 5, 2, "rwm"),  # ptmx
    Rule("c", 136, None, "rwm"),  # pts
    Rule("c", 10, 200, "rwm"),  # net/tun
)

Places = list[tuple[cgroup.Hierarchy, str]]
"""Hierarchies, and a path in each."""


def device_rules(plan: Plan) -> list[Rule]:
    """The devices of the pod: the usual ones, and volumes that are devices."""
    rules = list(DEVICES)
    for entry in plan.apps:
        for planned in entry.mounts:
            found = None if planned.empty else os.stat(planned.source, follow_symlinks=False)
            if found is not None and (stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)):
                kind = "c" if stat.S_ISCHR(found.st_mode) else "b"
                major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
                rules.append(Rule(kind, major, minor, "r" if planned.read_only else "rw"))
    return rules


def leading(own: dict[str, str]) -> str:
    """Of a process's paths the one in the hierarchy by which systemd knows its units."""
    return own.get("name=systemd", own.get(cgroup.UNIFIED, "/"))


def unit(path: str) -> str:
    """The cgroup of the unit that a process with this path belongs to, "" for none that could keep a pod.

    A pod must outlive login sessions, and user managers are not asked about the pods of their users.
    """
    parts = path.split("/")
    if "user.slice" in parts[:2]:
        return ""
    for position, part in enumerate(parts[1:], 1):
        if not part.endswith(".slice"):
            found = part.endswith((".service", ".scope")) and part != "init.scope"
            return "/".join(parts[: position + 1]) if found else ""
    return ""


def enter(plan: Plan, host: Host) -> str:
    """Move this process into the pod's cgroup, made now; the path to be written to ``subcgroup``.

    In it only the pod's devices can be opened.  Where the pod gets a scope systemd moves it there later: then
    only what its apps' limits need exists already.
    """
    name = machine.scope_name(plan.pod.machine_name)
    if host.scope:
        path = _below(_systemd_root(), f"{machine.SLICE}/{name}")
        needed = controllers.made_for(plan.isolation.limits)
        # systemd makes the others, and finds these made.
        places = [
            (hierarchy, path)
            for hierarchy in cgroup.hierarchies()
            if not hierarchy.unified and needed.intersection(hierarchy.controllers)
        ]
    else:
        own = cgroup.own()
        path = _below(leading(own), name)
        places = [
            (hierarchy, _below(own[hierarchy.controllers[0]], name)) for hierarchy in cgroup.hierarchies()
        ]
    status.write(plan.pod.directory, RECORD, cgroup.record(places))
    for hierarchy, directory in places:
        cgroup.create(directory, mounted=[hierarchy])
    if not host.scope:
        _move(places, device_rules(plan))
    return path


def _move(places: Places, rules: list[Rule]) -> None:
    """Move this process into cgroups in which only these devices can be opened."""
    if not _restrict_devices(places, rules):
        raise RktError(
            "unable to restrict the devices of the pod",
            hint="neither the devices controller of cgroup version 1 nor BPF on version 2 is available",
        )
    for hierarchy, path in places:
        cgroup.attach(path, 0, mounted=[hierarchy])


def _below(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}"


def _systemd_root() -> str:
    """The cgroup below which systemd keeps all units: its own is a unit there."""
    return leading(cgroup.own(1)).removesuffix("/init.scope")


def _restrict_devices(places: Places, rules: list[Rule]) -> bool:
    # version 1 first: where both exist, its controller is the one in force already
    order = sorted(places, key=lambda place: place[0].unified)
    return any(devices.restrict(path, rules, mounted=[hierarchy]) for hierarchy, path in order)


def hand_down(before: dict[str, str], host: Host) -> None:
    """Give the pod the controllers of the cgroup around it, where that is ours to decide (version 2).

    ``before`` are the paths this process came from; nothing that it has started may be left there.
    systemd puts the further processes of a unit (ExecStopPost=) into the unit's own cgroup, which takes none
    once controllers were handed down, unless the unit says Delegate=yes.
    """
    if host.systemd and not (host.unit and is_delegated(host.unit)):
        return
    own = cgroup.own()
    for hierarchy in cgroup.hierarchies():
        if hierarchy.unified and own[cgroup.UNIFIED] != before[cgroup.UNIFIED]:
            cgroup.enable_controllers(hierarchy.directory(before[cgroup.UNIFIED]))


def is_delegated(path: str) -> bool:
    """Whether systemd leaves what is below the cgroup of a unit to the unit's processes (Delegate=)."""
    directories = [entry.directory(path) for entry in cgroup.hierarchies() if _leads(entry)]
    for directory in directories:
        for name in _DELEGATED:
            try:
                if os.getxattr(directory, name) == b"1":
                    return True
            except OSError as error:
                if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT):
                    raise
    return False


def _leads(hierarchy: cgroup.Hierarchy) -> bool:
    return hierarchy.unified or "name=systemd" in hierarchy.controllers


def leave_own(directory: str, before: dict[str, str]) -> list[OSError]:
    """Go back to the cgroups this process came from and remove the pod's: after a failed start."""
    own = cgroup.own()
    for hierarchy in cgroup.hierarchies():
        controller = hierarchy.controllers[0]
        if own[controller] != before[controller]:
            if hierarchy.unified:
                cgroup.disable_controllers(hierarchy.directory(before[controller]))
            # this process must be out before the rest is killed
            cgroup.attach(before[controller], 0, mounted=[hierarchy])
    return leave(directory)


def is_recorded(directory: str) -> bool:
    """Whether the pod's directory tells of cgroups that may still exist."""
    return os.path.exists(os.path.join(directory, RECORD))


def leave(directory: str) -> list[OSError]:
    """Remove the cgroups recorded in the pod's directory: its lock is free, so its supervisor is gone.

    The errors are those of cgroups that are still busy.
    """
    return cgroup.remove_recorded(os.path.join(directory, RECORD), PREFIX)
