"""What the isolators of a pod come to under systemd, beyond capabilities and system calls.

Limits of an app are options of its unit, which the pod's systemd brings into force; limits of the pod are
values of the control group around it.  Kernel parameters are set before the pod starts, in namespaces it will
have.  What becomes of each isolator is in ``outcomes``.
"""

from __future__ import annotations

import os

from rkt.appc import isolators
from rkt.appc.limits import Limits
from rkt.linux import cgroup
from rkt.network import selection
from rkt.stage1.common import assessment, outcome, resources
from rkt.stage1.common import mounts as planned
from rkt.stage1.common.outcome import POD, Outcomes
from rkt.stage1.systemd.controllers import Limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.common.flags import RunFlags
    from rkt.stage1.common.mounts import PlannedMount
    from rkt.stage1.common.pod import App, Pod
    from rkt.stage1.common.relaxed import Relaxed
    from rkt.stage1.common.sysctl import Parameter
    from rkt.stage1.systemd.units import AppUnit

_BLOCK = (isolators.BLOCK_BANDWIDTH, isolators.BLOCK_IOPS)


class Isolation:
    """Of a pod: ``limits`` of its apps, ``around`` all of them, by ``disks``; ``bandwidth`` of its networks
    in bytes a second (None: any); kernel ``parameters``; the SELinux ``context`` of its processes ("": the
    one it is given anyway).  ``unprivileged_ports``: the pod's network lets everybody have every port."""

    __slots__ = (
        "around",
        "bandwidth",
        "context",
        "disks",
        "limits",
        "outcomes",
        "parameters",
        "private_users",
        "unprivileged_ports",
    )

    def __init__(self, outcomes: Outcomes, *, private_users: bool) -> None:
        self.outcomes, self.private_users = outcomes, private_users
        self.limits: list[Limit] = []
        self.around = Limits()
        self.disks: list[tuple[int, int]] = []
        self.bandwidth: int | None = None
        self.parameters: list[Parameter] = []
        self.context = ""
        self.unprivileged_ports = False

    @property
    def makes_ipc_namespace(self) -> bool:
        """Whether the pod's IPC namespace is made before systemd-nspawn, because something is set in it."""
        return any(parameter.kind == "ipc" for parameter in self.parameters)


def of_pod(
    pod: Pod, flags: RunFlags, mounts: list[PlannedMount], *, networks: str, strict: bool
) -> Isolation:
    """What the pod's own isolators come to; ``networks`` is ``selection.kind`` of its networks.

    RktError for what the pod must not be given.
    """
    outcomes = Outcomes(strict=strict)
    isolation = Isolation(outcomes, private_users=bool(flags.private_users))
    found = pod.manifest.isolators
    outcomes.expect(POD, found)
    for app in pod.apps:
        outcomes.expect(outcome.of_app(app.name), app.app.isolators)
    assessment.pod_scope(outcomes, found)
    every = [*found, *(isolator for app in pod.apps for isolator in app.app.isolators)]
    if any(isolator.name in _BLOCK for isolator in every):
        isolation.disks = _disks(pod, mounts)
    isolation.unprivileged_ports = isolation.private_users and networks != selection.HOST
    isolation.around = _possible(isolation, POD, Limits.of(found))
    _bandwidth(isolation, pod, networks)
    parameters = isolators.get(found, isolators.SYSCTL)
    if parameters is not None:
        from rkt.stage1.common import sysctl

        own = {kind for kind, shared in (
            ("net", networks == selection.HOST),
            ("ipc", flags.ipc == "parent"),
        ) if not shared}  # fmt: skip
        isolation.parameters = sysctl.plan(parameters.value, own)
        outcomes.enforced(POD, isolators.SYSCTL)
    return isolation


def _disks(pod: Pod, mounts: list[PlannedMount]) -> list[tuple[int, int]]:
    """The disks behind the pod's directory and its host volumes; a missing source is told of later."""
    from rkt.linux import block

    sources = {entry.source for entry in mounts if not entry.empty and os.path.lexists(entry.source)}
    return block.disks([pod.directory, *(path for path in sources if not os.path.islink(path))])


def _possible(isolation: Isolation, scope: str, limits: Limits) -> Limits:
    """The limits that this machine can enforce, as far as is known before looking at control groups."""
    made = limits.within(limits)
    outcomes = isolation.outcomes
    for name in resources.wanted(limits):
        outcomes.enforced(scope, name)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if made.memory is not None and made.memory > memory:
        outcomes.ignored(scope, isolators.MEMORY, f"this machine has {memory} bytes, less than its limit")
        made.memory = None
    processors = os.sysconf("SC_NPROCESSORS_ONLN")
    if made.cpu is not None and made.cpu > processors * 1000:
        reason = f"this machine has {processors} processors, less than its limit"
        outcomes.ignored(scope, isolators.CPU, reason)
        made.cpu = None
    if not isolation.disks:
        for name, value in zip(_BLOCK, (made.block_bandwidth, made.block_iops), strict=True):
            if value is not None:
                outcomes.ignored(scope, name, "the files of the pod are on no disk")
        made.block_bandwidth = made.block_iops = None
    return made


def _bandwidth(isolation: Isolation, pod: Pod, networks: str) -> None:
    """The limit of all networks: apps share the pod's interfaces, so theirs add up to one of the pod."""
    name = isolators.NETWORK_BANDWIDTH
    of_apps = [(outcome.of_app(app.name), Limits.of(app.app.isolators)) for app in pod.apps]
    given = [(scope, limits) for scope, limits in of_apps if limits.network_bandwidth is not None]
    own = Limits.of(pod.manifest.isolators).network_bandwidth
    scopes = [scope for scope, _ in given] + ([POD] if own is not None else [])
    if networks == selection.HOST:
        for scope in scopes:
            isolation.outcomes.ignored(scope, name, "the pod has the network of the host")
        return
    total = sum(limits.network_bandwidth or 0 for _, limits in given)
    candidates = [*([total] if given else []), *([own] if own is not None else [])]
    isolation.bandwidth = min(candidates, default=None)
    for scope in scopes:
        if scope == POD or len(pod.apps) == 1:
            isolation.outcomes.enforced(scope, name)
        else:
            reason = (
                f"the apps share the networks of the pod, limited to {isolation.bandwidth} bytes a second"
            )
            isolation.outcomes.changed(scope, name, reason)


def add_app(isolation: Isolation, pod: Pod, app: App, unit: AppUnit, relaxed: Relaxed) -> None:
    """Fill in an app's unit what its isolators, or those of the pod, say of limits and mandatory access."""
    outcomes, scope = isolation.outcomes, outcome.of_app(app.name)
    wanted = Limits.of(app.app.isolators)
    limits = _possible(isolation, scope, wanted)
    unit.resources = options(limits, isolation.disks)
    for name, controller in resources.wanted(limits).items():
        limit = Limit(app.name, name, controller, unit.limited)
        if controller == "io":
            # In version 1 systemd knows bandwidths only, and the group of a unit goes when it has no process.
            limit.legacy = resources.settings(limits, controller, isolation.disks, unified=False)
            if name == isolators.BLOCK_IOPS and unit.post_stop and _is_legacy("blkio"):
                reason = "not for the event handler post-stop, with cgroup version 1"
                outcomes.changed(scope, name, reason)
        isolation.limits.append(limit)
    assessment.app_scope(outcomes, app, relaxed, no_new_privileges=unit.no_new_privileges)
    _network_capabilities(isolation, app)
    assessment.oom_score(outcomes, app, limits.oom_score_adj, private_users=isolation.private_users)
    if outcomes.is_enforced(scope, isolators.OOM_SCORE_ADJ):
        unit.resources.append(("OOMScoreAdjust", str(limits.oom_score_adj)))
    access = assessment.mandatory_access(outcomes, pod, app)
    unit.profile = access.profile
    _use_context(isolation, pod, app, access.context)


def limits_of(pod: Pod, app: App) -> tuple[Limits, list[tuple[int, int]]]:
    """The limits of an app of a running pod, and the disks by which they are kept."""
    limits = Limits.of(app.app.isolators)
    isolation = Isolation(Outcomes(strict=False), private_users=False)
    if limits.block_bandwidth is not None or limits.block_iops is not None:
        isolation.disks = _disks(pod, planned.plan(pod))
    found = _possible(isolation, outcome.of_app(app.name), limits)
    score = limits.oom_score_adj
    if score is not None and score < 0 and not assessment.can_lower_oom_score(score):
        found.oom_score_adj = None
    return found, isolation.disks


def _network_capabilities(isolation: Isolation, app: App) -> None:
    """What a pod with user IDs of its own cannot have: its network belongs to the host's root."""
    retained = isolators.get(app.app.isolators, isolators.CAPABILITIES_RETAIN)
    if retained is None or not isolation.private_users:
        return
    without = [name for name in retained.value.set if name.startswith("CAP_NET_")]
    scope = outcome.of_app(app.name)
    if without and isolation.outcomes.is_enforced(scope, isolators.CAPABILITIES_RETAIN):
        reason = f"a pod with user IDs of its own has {' '.join(without)} over no network"
        isolation.outcomes.changed(scope, isolators.CAPABILITIES_RETAIN, reason)


def _use_context(isolation: Isolation, pod: Pod, app: App, context: str) -> None:
    """The pod's systemd is kept from SELinux and cannot give apps contexts: one is for the whole pod."""
    own = isolators.get(app.app.isolators, isolators.SELINUX_CONTEXT)
    if context and own is not None and len(pod.apps) > 1:
        reason = "flavor host gives all apps of a pod one context"
        isolation.outcomes.ignored(outcome.of_app(app.name), isolators.SELINUX_CONTEXT, reason)
    elif context:
        isolation.context = context


def finish(isolation: Isolation, pod: Pod) -> None:
    """The last word, when control groups have been looked at; RktError with ``--strict-isolators``."""
    assessment.incomplete(isolation.outcomes, POD, Limits.of(pod.manifest.isolators))
    for app in pod.apps:
        assessment.incomplete(isolation.outcomes, outcome.of_app(app.name), Limits.of(app.app.isolators))
    isolation.outcomes.check()


def options(limits: Limits, disks: list[tuple[int, int]]) -> list[tuple[str, str]]:
    """Resource options of a unit (systemd.resource-control(5))."""
    found: list[tuple[str, str]] = []
    if limits.memory is not None:
        found.append(("MemoryMax", str(limits.memory)))
    if limits.cpu is not None:
        # per cents of one processor, with one decimal place
        found.append(("CPUQuota", f"{limits.cpu // 10}.{limits.cpu % 10}%"))
    if limits.cpu_shares is not None:
        # Shares are the kernel's measure in version 1, weights in version 2.
        if _is_legacy("cpu"):
            found.append(("CPUShares", str(limits.cpu_shares)))
        else:
            found.append(("CPUWeight", str(resources.weight(limits.cpu_shares))))
    for major, minor in disks:
        device = f"/dev/block/{major}:{minor}"
        for value, unit in ((limits.block_bandwidth, "Bandwidth"), (limits.block_iops, "IOPS")):
            if value is not None:
                found += [(f"IO{way}{unit}Max", f"{device} {value}") for way in ("Read", "Write")]
    return found


def _is_legacy(controller: str) -> bool:
    """Whether this host has a controller in a hierarchy of version 1."""
    hierarchy = cgroup.hierarchy_of(controller)
    return hierarchy is not None and not hierarchy.unified
