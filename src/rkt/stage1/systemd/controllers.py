"""The controllers by which the pod's systemd limits its apps: how it gets them on this host.

Version 2: systemd-nspawn gives the pod a cgroup of its own in the unified hierarchy, with all controllers
that the cgroup around it hands on.

Version 1: systemd-nspawn mounts each hierarchy read-only, and systemd passes over a controller whose root it
cannot write.  The pod's own cgroup of each controller that an app's limits need is therefore
bound where systemd-nspawn would mount the hierarchy; it finds a mount there and leaves it.  With user IDs of
its own the pod's root gets the directory and the right to move processes, not the limits of the pod.
Apps see none of this: their /sys has no cgroups.
"""

from __future__ import annotations

import os

from rkt.linux import cgroup
from rkt.stage1.common import resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.common.ids import IdRange

# systemd handles these as one, wherever the kernel has them.
_JOINED = {"cpu": ("cpuacct",)}
_DELEGATED = ("cgroup.procs", "tasks")


class Limit:
    """A limit of an app: the isolator that asks for it, and the controller that enforces it.

    ``units`` have it; ``legacy`` has control files of version 1 and their values, where systemd has no option
    for them.
    """

    __slots__ = ("app", "controller", "isolator", "legacy", "units")

    def __init__(self, app: str, isolator: str, controller: str, units: list[str]) -> None:
        self.app, self.isolator, self.controller, self.units = app, isolator, controller, units
        self.legacy: list[tuple[str, str]] = []


def hand_over(
    limits: list[Limit], mounted: list[cgroup.Hierarchy], ids: IdRange, *, scope: str
) -> tuple[list[str], list[tuple[Limit, str]]]:
    """Give the pod the controllers of its apps' limits; called in the pod's cgroup.

    ``scope`` is the path of the scope that systemd will move the pod to, "" for none: of it exists what
    ``made_for`` names.  Returns options of systemd-nspawn, and the limits that will not be enforced with the
    reason.
    """
    binds: dict[str, str] = {}
    missing: dict[str, str] = {}
    own = cgroup.own() if limits else {}
    for controller in sorted({limit.controller for limit in limits}):
        hierarchy = resources.hierarchy_of(controller, mounted)
        if hierarchy is None:
            missing[controller] = f'this host has no cgroup controller "{controller}"'
        elif hierarchy.unified:
            directory = hierarchy.directory(own[cgroup.UNIFIED])
            # To a scope, systemd hands on all there are.
            if not scope and controller not in cgroup.available(directory):
                missing[controller] = f'the cgroup of the caller does not hand on controller "{controller}"'
        else:
            directory = hierarchy.directory(scope or own[hierarchy.controllers[0]])
            for limit in limits:
                for unit in limit.units if limit.controller == controller and limit.legacy else ():
                    _set_ahead(directory, unit, limit.legacy, ids)
            for name in (hierarchy.controllers[0], *_JOINED.get(controller, ())):
                hierarchy = cgroup.hierarchy_of(name, mounted)
                if hierarchy is not None and not hierarchy.unified:
                    directory = hierarchy.directory(scope or own[name])
                    _delegate(directory, ids)
                    binds["/sys/fs/cgroup/" + ",".join(hierarchy.controllers)] = directory
    options = ["--tmpfs=/sys/fs/cgroup:mode=755"] if binds else []
    options += [f"--bind={_escape(source)}:{_escape(target)}:norbind" for target, source in binds.items()]
    return options, [(limit, missing[limit.controller]) for limit in limits if limit.controller in missing]


def _set_ahead(directory: str, unit: str, values: list[tuple[str, str]], ids: IdRange) -> None:
    """Make the control group that the pod's systemd will put a unit into, with what it would not set."""
    for name in ("system.slice", unit):
        directory = os.path.join(directory, name)
        os.makedirs(directory, exist_ok=True)
        _delegate(directory, ids)
    for name, value in values:
        cgroup.write_value(directory, name, value)


def made_for(limits: list[Limit]) -> set[str]:
    """The controllers that limits need the pod to have a cgroup of."""
    needed = {limit.controller for limit in limits}
    return needed.union(*(_JOINED.get(controller, ()) for controller in needed))


def _delegate(directory: str, ids: IdRange) -> None:
    """Let the pod's root make cgroups below and move the pod's processes into them."""
    if not ids.private:
        return
    for name in ("", *_DELEGATED):
        try:
            os.chown(os.path.join(directory, name), *ids.root)
        except FileNotFoundError:
            continue


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:")
