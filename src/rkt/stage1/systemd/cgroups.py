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

from rkt.linux import cgroup
from rkt.stage1.common import status
from rkt.stage1.systemd import machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.systemd.host import Host

RECORD = "cgroups"
PREFIX = "machine-rkt"

_DELEGATED = ("trusted.delegate", "user.delegate")

Places = list[tuple[cgroup.Hierarchy, str]]
"""Hierarchies, and a path in each."""


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


def of_caller(machine_name: str) -> tuple[str, Places]:
    """Where systemd makes no scope for the pod: its path for ``subcgroup``, and that in each hierarchy."""
    name = machine.scope_name(machine_name)
    own = cgroup.own()
    places = [(hierarchy, _below(own[hierarchy.controllers[0]], name)) for hierarchy in cgroup.hierarchies()]
    return _below(leading(own), name), places


def scope(machine_name: str, controllers: set[str]) -> tuple[str, Places]:
    """The path of the scope that systemd will move the pod to, and where it has to exist before.

    ``controllers`` are what the limits of its apps need; systemd makes the others, and finds these made.
    """
    path = _below(_systemd_root(), f"{machine.SLICE}/{machine.scope_name(machine_name)}")
    return path, [
        (hierarchy, path)
        for hierarchy in cgroup.hierarchies()
        if not hierarchy.unified and controllers.intersection(hierarchy.controllers)
    ]


def make(directory: str, places: Places) -> None:
    """Make the cgroups of the pod with this directory, which tells of them before they exist."""
    status.write(directory, RECORD, cgroup.record(places))
    for hierarchy, path in places:
        cgroup.create(path, mounted=[hierarchy])


def enter(places: Places) -> None:
    """Move this process there."""
    for hierarchy, path in places:
        cgroup.attach(path, 0, mounted=[hierarchy])


def _below(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}"


def _systemd_root() -> str:
    """The cgroup below which systemd keeps all units: its own is a unit there."""
    return leading(cgroup.own(1)).removesuffix("/init.scope")


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
