"""Everything ``run`` will do for a pod, decided before any of it is done.

A ``Plan`` is plain data; ``describe`` prints it for ``--debug``.  Making one reads the pod and the roots of
its apps, and changes nothing.
"""

from __future__ import annotations

import os

from rkt.errors import RktError, describe
from rkt.stage1.common import call_filter, confinement, environment, mounts, streams, users
from rkt.stage1.common.ids import IdRange
from rkt.stage1.common.relaxed import Relaxed
from rkt.stage1.systemd import covered, isolation, machine, release, sockets, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rkt.stage1.common.flags import RunFlags
    from rkt.stage1.common.mounts import PlannedMount
    from rkt.stage1.common.pod import App, Pod
    from rkt.stage1.common.users import Identity
    from rkt.stage1.systemd.isolation import Isolation
    from rkt.stage1.systemd.sockets import Listener
    from rkt.stage1.systemd.units import AppUnit

NOTIFY_ANNOTATION = "appc.io/executor/supports-systemd-notify"
_METADATA_PORT = 18112
_PORTS = "CAP_NET_BIND_SERVICE"
_NAME_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")


class AppPlan:
    """What one app gets: its unit, environment and mounts; ``read_only`` is its root file system's."""

    __slots__ = ("app", "environment", "identity", "mounts", "read_only", "unit")

    def __init__(self, app: App, unit: AppUnit, identity: Identity) -> None:
        self.app, self.unit, self.identity = app, unit, identity
        self.environment: list[tuple[str, str]] = []
        self.mounts: list[PlannedMount] = []
        self.read_only = app.runtime.read_only_root_fs


class Plan:
    """A pod's apps and what surrounds them; ``systemd`` is the version of the host's."""

    __slots__ = ("apps", "flags", "hostname", "ids", "isolation", "notes", "pod", "sockets", "systemd")

    def __init__(self, pod: Pod, flags: RunFlags, isolation: Isolation) -> None:
        self.pod, self.flags = pod, flags
        self.hostname = flags.hostname or machine.name(pod.uuid)
        self.ids = IdRange.parse(flags.private_users)
        self.apps: list[AppPlan] = []
        self.isolation = isolation
        self.notes: list[str] = []
        self.systemd = release.version()
        self.sockets: dict[str, list[Listener]] = {}

    def unit_files(self) -> dict[str, str]:
        """Every unit of this pod that is not part of the stage1 image."""
        names = [entry.app.name for entry in self.apps]
        users = any(entry.unit.uid for entry in self.apps)
        files = units.pod_units(names, interactive=self.flags.interactive, users=users)
        for entry in self.apps:
            files.update(entry.unit.files())
        if any(entry.unit.pre_start for entry in self.apps):
            files.update(units.shutdown())
        if sockets := [entry.unit.socket_unit for entry in self.apps if entry.unit.sockets]:
            files.update(units.passed_sockets(sockets))
        return files

    def capabilities(self) -> list[str] | None:
        """The capabilities of all apps together; None when they are not restricted."""
        names: set[str] = set()
        for entry in self.apps:
            if entry.unit.capabilities is None:
                return None
            names.update(entry.unit.capabilities)
        return sorted(names)

    def describe(self) -> list[str]:
        """Lines for ``--debug``."""
        lines = [f"pod {self.pod.uuid}, host name {self.hostname}"]
        for entry in self.apps:
            lines.extend(mount.describe() for mount in entry.mounts)
        for name, text in sorted(self.unit_files().items()):
            lines.append(f"unit {name}:")
            lines.extend("  " + line for line in text.splitlines() if line)
        return lines


def make(pod: Pod, flags: RunFlags, *, networks: str, strict: bool) -> Plan:
    """The plan of a pod; programs and working directories are looked up when the mounts are there.

    ``networks`` is ``selection.kind`` of the pod's networks; ``strict`` refuses isolators that are not
    enforced.  RktError for whatever the manifests ask for and cannot be given.
    """
    if not pod.apps:
        raise RktError("the pod has no apps")
    if flags.interactive and len(pod.apps) > 1:
        raise RktError("interactive option only supports one image")
    planned = mounts.plan(pod)
    covered.refuse_proc(planned)
    plan = Plan(pod, flags, isolation.of_pod(pod, flags, planned, networks=networks, strict=strict))
    for app in pod.apps:
        try:
            entry = _plan_app(plan, app)
        except (OSError, RktError) as error:
            raise of_app(app.name, error) from error.__cause__
        entry.mounts = [mount for mount in planned if mount.app == app.name]
        entry.unit.bound = covered.bound(entry.mounts)
        plan.apps.append(entry)
    plan.isolation.outcomes.check()
    return plan


def assign_sockets(plan: Plan, environment: Mapping[str, str]) -> None:
    """Give the apps the sockets that ``environment`` tells of, which systemd has passed to this process.

    RktError for a port that is to have one and gets none.
    """
    plan.sockets, unused = sockets.assign(plan.pod, environment)
    for entry in plan.apps:
        listeners = plan.sockets.get(entry.app.name, [])
        entry.unit.sockets = [(listener.option, listener.address()) for listener in listeners]
    plan.notes += [
        f"warning: {listener.option}={listener.address()} was passed by systemd, "
        "but no app has a socket-activated port for it"
        for listener in unused
    ]


def of_app(name: str, error: OSError | RktError) -> RktError:
    """The error with the app's name before it; its cause is to be taken over by the caller."""
    if isinstance(error, RktError):
        return RktError(f'app "{name}": {error.message}', error.hint)
    return RktError(f'app "{name}": {describe(error)}')


def metadata_url(flags: RunFlags, host_ip: str) -> str:
    """AC_METADATA_URL for apps, "" without ``--mds-token``; 127.0.0.1 with host networking."""
    if not flags.mds_token:
        return ""
    host = f"[{host_ip}]" if ":" in host_ip else host_ip or "127.0.0.1"
    return f"http://{host}:{_METADATA_PORT}/{flags.mds_token}"


def set_environment(plan: Plan, url: str) -> None:
    """Complete the apps' environments, once the network has told the metadata service's address."""
    for entry in plan.apps:
        entry.environment = environment.complete(entry.app.variables, entry.app.name, metadata_url=url)
        for name, _ in entry.environment:
            # systemd passes over such a name without a word.
            if not _NAME_LETTERS.issuperset(name):
                plan.notes.append(
                    f'warning: app "{entry.app.name}": environment variable "{name}" is left out, '
                    "systemd takes letters, digits and _ only"
                )


def _plan_app(plan: Plan, app: App) -> AppPlan:
    pod, flags = plan.pod, plan.flags
    root_fd = os.open(pod.app_root(app.name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        identity = users.resolve(root_fd, app.app.user, app.app.group, app.app.supplementary_gids, plan.ids)
    finally:
        os.close(root_fd)
    unit = units.AppUnit(app.name, app.image.name, app.app.exec)
    unit.uid, unit.gid, unit.groups = identity.uid, identity.gid, identity.groups
    unit.streams = streams.modes(app, interactive=flags.interactive)
    unit.notify = app.image.annotation(NOTIFY_ANNOTATION) == "true"
    unit.monitored = plan.systemd >= release.MONITOR
    unit.working_directory = _directory(app.app.working_directory)
    for handler in app.app.event_handlers:
        if handler.exec and handler.name == "pre-start":
            unit.pre_start = list(handler.exec)
        elif handler.exec:
            unit.post_stop = list(handler.exec)
    relaxed = Relaxed.of(flags)
    confine(unit, app, relaxed, private_users=plan.ids.private)
    if flags.private_users and not flags.disable_paths:
        unit.hidden_paths = [path for path in confinement.HIDDEN_PATHS if path.startswith("/proc/")]
    isolation.add_app(plan.isolation, pod, app, unit, relaxed)
    return AppPlan(app, unit, identity)


def _directory(path: str) -> str:
    if path and not path.startswith("/"):
        raise RktError(f'working directory "{path}" is not absolute')
    return path or "/"


def confine(unit: AppUnit, app: App, relaxed: Relaxed, *, private_users: bool) -> None:
    """Fill in what the app's isolators say, but for what was switched off."""
    if not relaxed.capabilities:
        names = confinement.capability_set(app.app)
        # systemd-nspawn takes it from a pod with user IDs of its own: the network belongs to the host's root.
        unit.capabilities = [name for name in names if name != _PORTS or not private_users]
    unit.no_new_privileges = confinement.no_new_privileges(app.app)
    calls = None if relaxed.seccomp else call_filter.system_calls(app.app)
    if calls is not None:
        unit.system_calls, unit.system_call_errno = calls.systemd()
        unit.namespaces = not calls.default
        # A filter that a setuid program could leave behind would not be one.
        unit.no_new_privileges = unit.no_new_privileges or unit.uid != 0
