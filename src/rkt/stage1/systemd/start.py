"""Everything between the entry of a pod and the exec of its supervisor.

Plans, attaches the network, enters a mount namespace of its own and prepares the apps there, writes ``ppid``
and executes systemd-nspawn.  This process enters the pod's cgroup meanwhile (``entry``).
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import cgroup, keyring, namespaces, seccomp
from rkt.network import forwarding, lifecycle, selection
from rkt.stage1.common import outcome, status
from rkt.stage1.common import pod as pods
from rkt.stage1.common.messages import note, say
from rkt.stage1.systemd import (
    access,
    attachments,
    cgroups,
    container_filter,
    controllers,
    machine,
    runtime,
    sockets,
    supervisor,
)
from rkt.stage1.systemd import isolation as isolations
from rkt.stage1.systemd import plan as plans
from rkt.stage1.systemd import prepare as preparation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.network.lifecycle import NetworkSetup
    from rkt.stage1.common.background import Background
    from rkt.stage1.common.pod import Pod
    from rkt.stage1.systemd.entry import Entry
    from rkt.stage1.systemd.plan import Plan


def prepare(entry: Entry, entered: Background) -> Plan:
    """The pod's plan, carried out up to what needs the cgroup of the pod; ``entered`` when this returns."""
    flags = entry.flags
    pod = pods.load(entry.directory, entry.uuid)
    plan = plans.make(pod, flags, networks=selection.kind(entry.networks), strict=entry.strict)
    plans.assign_sockets(plan, os.environ)
    if flags.interactive and not os.isatty(0):
        plan.notes.append("warning: standard input is no terminal, the app gets one without input")
    runtime.save(pod.directory, flags, entry.networks)
    _link_flavor(pod)
    entry.namespaces = {kind: namespaces.open_namespace(kind) for kind in ("net", "mnt", "cgroup")}
    entry.networked = True
    network = _set_up_network(plan, entry)
    entered.start()
    _set_parameters(plan)
    plans.set_environment(plan, plans.metadata_url(flags, network.host_ip))
    for line in plan.notes:
        note(line)
    _carry_out(plan, network)
    entered.wait()
    cgroups.hand_down(entry.before, entry.host)
    for line in entry.host.notes:
        note(line)
    return plan


def _network_note(line: str) -> None:
    say(f"networking: {line}")


def _link_flavor(pod: Pod) -> None:
    path = os.path.join(pod.directory, "flavor")
    try:
        os.symlink("host", path)
    except FileExistsError:
        pass


def _set_up_network(plan: Plan, entry: Entry) -> NetworkSetup:
    pod, flags = plan.pod, plan.flags
    ports = forwarding.forwarded_ports(pod.manifest)
    request = lifecycle.NetworkRequest(
        pod.uuid,
        pod.directory,
        entry.networks,
        local_config=flags.local_config,
        system_config=os.environ.pop("RKT_SYSTEM_CONFIG", "") or "/usr/lib/rkt",
        user_config=os.environ.pop("RKT_USER_CONFIG", ""),
        ports=ports,
        bandwidth=plan.isolation.bandwidth,
        notify=_network_note,
        debug=flags.debug,
    )
    try:
        return lifecycle.setup(request)
    except (RktError, OSError) as error:
        entry.networked = False  # it has undone what it had begun, or said what it could not
        raise RktError("failed to setup network", hint=getattr(error, "hint", "")) from error


def _set_parameters(plan: Plan) -> None:
    """Kernel parameters of the pod's own namespaces; that for IPC systemd-nspawn would make too late."""
    parameters = plan.isolation.parameters
    if plan.isolation.unprivileged_ports:
        # No capability of the pod counts in its network: without this nobody could have a port below 1024.
        _write_parameter("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
    if not parameters:
        return
    from rkt.stage1.common import sysctl

    sysctl.apply(parameters, "net")
    if plan.isolation.makes_ipc_namespace:
        namespaces.unshare(namespaces.CLONE_NEWIPC)
        sysctl.apply(parameters, "ipc")


def _write_parameter(path: str, value: str) -> None:
    """Set a kernel parameter, where the kernel has it."""
    try:
        with open(path, "w") as file:
            file.write(value)
    except FileNotFoundError:
        return


def _carry_out(plan: Plan, network: NetworkSetup) -> None:
    preparation.enter_mount_namespace()
    preparation.stage1_root(plan)
    resolv_conf = network.dns.resolv_conf() if network.dns is not None else None
    preparation.app_roots(plan, resolv_conf, note)
    preparation.unit_files(plan)
    if plan.flags.debug:
        for line in plan.describe():
            note(line)


def _serve_streams(entry: Entry, plan: Plan) -> None:
    """Start what apps are attached to by, if any of them can be."""
    if any(attachments.attached(app.unit.streams) for app in plan.apps):
        from rkt.stage1.systemd import iottymux

        iottymux.start(iottymux.make(plan), entry.uuid, grouped=not entry.host.scope)


def execute(entry: Entry, plan: Plan) -> None:
    """Become systemd-nspawn."""
    pod, host = plan.pod, entry.host
    environment = {**supervisor.variables(plan), **sockets.hand_over(plan.sockets)}
    options: list[str] = []
    isolation = plan.isolation
    path, places = entry.path, entry.places
    if host.scope:
        path, places = cgroups.scope(machine.name(pod.uuid), controllers.made_for(isolation.limits))
        cgroups.make(pod.directory, places)
    else:
        access.restrict(places, access.device_rules(plan))
    status.write(pod.directory, "subcgroup", path)
    if isolation.limits:
        options, missing = controllers.hand_over(
            isolation.limits, cgroup.hierarchies(), plan.ids, scope=path if host.scope else ""
        )
        for limit, reason in missing:
            isolation.outcomes.ignored(outcome.of_app(limit.app), limit.isolator, reason)
        if missing and host.unit and not cgroups.is_delegated(host.unit):
            note("systemd leaves its controllers to the pod when the unit says Delegate=yes")
    isolations.finish(isolation, pod)
    for line in isolation.outcomes.warnings():
        note(f"warning: {line}")
    argv = supervisor.arguments(plan, host, options)
    if plan.flags.debug:
        from rkt.linux.process import quote

        for line in isolation.outcomes.lines():
            note(line)
        note(f"executing {quote(argv)}")
    filters: list[bytes] = []
    if container_filter.is_available():
        environment["SYSTEMD_SECCOMP"] = "0"
        filters = container_filter.programs()
    _serve_streams(entry, plan)
    preparation.bind_programs(pod.stage1_root)
    # The filter keeps systemd-nspawn from giving the pod one.
    keyring.join_session_keyring(owner=plan.ids.root)
    for program in filters:
        seccomp.load(program)
    status.write_pid(pod.directory, "ppid", os.getpid())
    os.set_inheritable(entry.lock_fd, True)
    os.execve(argv[0], argv, environment)
