"""What the start of a pod begins with, before the pod itself is looked at, and how it is taken back."""

from __future__ import annotations

import os

from rkt.appc import uuid as appc_uuid
from rkt.errors import one_line
from rkt.linux import cgroup
from rkt.network import selection
from rkt.stage1.common.messages import note, say
from rkt.stage1.systemd import cgroups, machine
from rkt.stage1.systemd import host as hosts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.common.flags import RunFlags


class Entry:
    """The pod's ``directory`` and ``uuid``, the ``flags`` and ``networks`` asked for, the ``host``.

    ``strict``: all isolators or nothing (--strict-isolators).  ``path`` is what is to be written to
    ``subcgroup``, ``places`` all paths of the pod's cgroup, unless systemd is to make a scope.

    ``undo`` goes back to the cgroups and ``namespaces`` (fds by kind) this process came from, and takes down
    what is there by then.  ``networked``: the pod may have a network; a setup that fails takes down by itself
    what it has begun.
    """

    __slots__ = (
        "before",
        "directory",
        "flags",
        "host",
        "lock_fd",
        "namespaces",
        "networked",
        "networks",
        "path",
        "places",
        "strict",
        "uuid",
    )

    def __init__(self, directory: str, flags: RunFlags, lock_fd: int, *, strict: bool) -> None:
        self.directory, self.flags, self.lock_fd, self.strict = directory, flags, lock_fd, strict
        self.uuid = appc_uuid.parse(flags.uuid)
        self.networks = selection.parse_networks(flags.net) if flags.net else [(selection.DEFAULT, "")]
        self.networked = False
        self.namespaces: dict[str, int] = {}
        self.host = hosts.detect()
        self.before = cgroup.own()
        self.path, self.places = cgroups.of_caller(machine.name(self.uuid))

    def make_cgroup(self) -> None:
        """Make the pod's cgroup where nobody is to be asked first."""
        if not self.host.asks:
            cgroups.make(self.directory, self.places)

    def enter_cgroup(self) -> None:
        """Move this process into the pod's cgroup, if no scope is to be made for the pod."""
        if self.host.asks:
            self.host.ask(machine.name(self.uuid))
            if self.host.scope:
                return
            cgroups.make(self.directory, self.places)
        cgroups.enter(self.places)

    def undo(self) -> None:
        from rkt.linux import namespaces

        # A thread that has done its work may not be gone yet: with its root and directory shared, the kernel
        # lets nobody join a mount namespace.
        namespaces.unshare(namespaces.CLONE_FS)
        for kind, fd in self.namespaces.items():
            if not namespaces.is_current(fd, kind):
                namespaces.setns(fd, namespaces.KINDS[kind])
        os.chdir(self.directory)
        if self.networked:
            from rkt.network import lifecycle

            for fault in lifecycle.teardown(self.directory, self.uuid, self.flags.local_config):
                say(f"networking: error undoing the network setup: {one_line(fault)}")
        for error in cgroups.leave_own(self.directory, self.before):
            note(f"error removing the cgroup of the pod: {error}")
