"""The devices that the processes of a pod can open: those of its cgroup."""

from __future__ import annotations

import os
import stat

from rkt.errors import RktError
from rkt.linux import devices
from rkt.linux.devices import Rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.systemd.cgroups import Places
    from rkt.stage1.systemd.plan import Plan

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


def restrict(places: Places, rules: list[Rule]) -> None:
    """Let the processes in these cgroups, this one among them, open only what a rule allows."""
    # version 1 first: where both exist, its controller is the one in force already
    order = sorted(places, key=lambda place: place[0].unified)
    if not any(devices.restrict(path, rules, mounted=[hierarchy]) for hierarchy, path in order):
        raise RktError(
            "unable to restrict the devices of the pod",
            hint="neither the devices controller of cgroup version 1 nor BPF on version 2 is available",
        )
