"""What matters of the machine the pod is started on.

Hosts differ in three ways: whether systemd runs them, whether it and its machined can be asked over D-Bus,
and whether rkt was started in a unit that is to keep the pod.
"""

from __future__ import annotations

import os

from rkt.linux import cgroup
from rkt.stage1.systemd import cgroups, machine


class Host:
    """What matters of the machine: ``systemd`` booted it, ``machined`` is to register the pod, ``unit`` is
    the cgroup of the unit rkt was started in ("" for none that could keep the pod), ``scope``: systemd is to
    make one for the pod, ``asks``: one of them has to be asked.  ``notes`` are for the user."""

    __slots__ = ("asks", "machined", "notes", "scope", "systemd", "unit")

    def __init__(self, *, systemd: bool, machined: bool, unit: str, scope: bool) -> None:
        self.systemd, self.machined, self.unit, self.scope = systemd, machined, unit, scope
        self.asks = machined or scope
        self.notes: list[str] = []

    def ask(self, name: str) -> None:
        """Find out whether machined and systemd answer: without it what they are for is not done.

        ``name`` is that of the machine; RktError when there is one already.
        """
        try:
            self._ask(name)
        except machine.NoBus as error:
            self.notes.append(
                f"warning: {error}: the pod is not registered with machined{self._without_scope()}"
            )
            self.machined = self.scope = False

    def _ask(self, name: str) -> None:
        if self.machined and (obstacle := machine.obstacle(name)):
            self.machined = False
            self.notes.append(f"warning: the pod is not registered with machined: {obstacle}")
        if self.scope and not self.machined and (obstacle := machine.scope_obstacle()):
            self.notes.append(f"warning: systemd does not answer{self._without_scope()}: {obstacle}")
            self.scope = False

    def _without_scope(self) -> str:
        return ", it stays below the cgroup of the caller" if self.scope else ""


def detect() -> Host:
    """Look at this machine."""
    systemd = os.path.isdir("/run/systemd/system")
    bus = systemd and os.path.exists("/run/dbus/system_bus_socket")
    machined = bus and os.path.exists("/usr/share/dbus-1/system-services/org.freedesktop.machine1.service")
    unit = cgroups.unit(cgroups.leading(cgroup.own())) if systemd else ""
    return Host(systemd=systemd, machined=machined, unit=unit, scope=bus and not unit)
