"""Entry point ``run``: turns the process that stage0 executed into the pod's supervisor.

Plans, attaches the network, enters a mount namespace of its own and prepares the apps there, enters
the pod's cgroup, writes ``ppid`` and executes systemd-nspawn.  The fd of the pod's lock stays open
throughout: the pod lives as long as it is held.  Whatever fails before the end is undone; the directory of
a pod that was prepared earlier stays, exited, for gc.
"""

from __future__ import annotations

import os

from rkt.errors import RktError, one_line, tree
from rkt.linux import cgroup, keyring, listening, namespaces, seccomp
from rkt.network import forwarding, lifecycle, selection
from rkt.stage1.common import discard, interrupt, outcome, status
from rkt.stage1.common import flags as command_line
from rkt.stage1.common import pod as pods
from rkt.stage1.common.background import Background
from rkt.stage1.common.messages import say
from rkt.stage1.systemd import (
    cgroups,
    container_filter,
    controllers,
    prepare,
    runtime,
    sockets,
    supervisor,
)
from rkt.stage1.systemd import isolation as isolations
from rkt.stage1.systemd import plan as plans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.network.lifecycle import NetworkSetup
    from rkt.stage1.common.flags import RunFlags
    from rkt.stage1.common.pod import Pod
    from rkt.stage1.systemd.plan import Plan
    from rkt.stage1.systemd.supervisor import Host

FAILURE = 254


def main(argv: list[str]) -> int:
    """Returns only when something failed; the pod's result is the supervisor's exit code."""
    debug = "--debug" in argv
    directory, fresh, strict = os.getcwd(), discard.wanted(), outcome.is_strict()
    code = FAILURE
    # Directories on the way to the journal are for every user of the pod, whatever the caller's umask.
    os.umask(0o022)
    try:
        interrupt.catch_signals()
        flags = command_line.run_flags(argv[1:])
        debug = flags.debug
        lock_fd = _lock_fd()
        pod = pods.load(directory, flags.uuid)
        run(pod, flags, lock_fd, strict=strict)
    except (RktError, OSError, ValueError) as error:
        for line in tree(error) if debug else [one_line(error)]:
            say(f"stage1: {line}")
        hint = getattr(error, "hint", "")
        if hint:
            say(f"stage1: {hint}")
    except KeyboardInterrupt:
        code = interrupt.EXIT_CODE
    if fresh and not lifecycle.is_recorded(directory) and not cgroups.is_recorded(directory):
        _discard(directory)
    return code


def _discard(directory: str) -> None:
    try:
        discard.discard(directory)
    except (RktError, OSError) as error:
        _note(f"error removing the pod that could not be started: {one_line(error)}")


def _note(line: str) -> None:
    say(f"stage1: {line}")


def _network_note(line: str) -> None:
    say(f"networking: {line}")


def _lock_fd() -> int:
    """The fd of the pod's lock, which stage0 passed on; children of ours do not get it."""
    text = os.environ.get("RKT_LOCK_FD", "")
    if not text.isdigit():
        raise RktError("RKT_LOCK_FD does not name the lock of the pod")
    fd = int(text)
    try:
        os.set_inheritable(fd, False)
    except OSError as error:
        raise RktError(f"RKT_LOCK_FD: {fd} is not open") from error
    return fd


def run(pod: Pod, flags: RunFlags, lock_fd: int, *, strict: bool = False) -> None:
    """Carry out everything up to the exec of the supervisor; ``strict``: or nothing (--strict-isolators)."""
    if flags.mutable:
        raise RktError("this stage1 does not support mutable pods")
    networks = selection.parse_networks(flags.net) if flags.net else [(selection.DEFAULT, "")]
    plan = plans.make(pod, flags, networks=selection.kind(networks), strict=strict)
    if "LISTEN_FDS" in os.environ:
        # What is started before the supervisor is not to hold sockets that systemd passed.
        listening.set_inheritable(listening.descriptors(os.environ), False)
    plans.assign_sockets(plan, os.environ)
    if flags.interactive and not os.isatty(0):
        plan.notes.append("warning: standard input is no terminal, the app gets one without input")
    runtime.save(pod.directory, flags, networks)
    _link_flavor(pod)
    undo = _Undo(pod, flags)
    host = supervisor.detect()
    try:
        # The kernel takes some 10 ms to move a process; programs that set up a network stay outside.
        with Background(lambda: _enter_cgroup(plan, host)) as moved:
            if selection.kind(networks) == selection.NONE:
                moved.start()
            undo.network = True
            network = _set_up_network(plan, networks, undo)
            moved.start()
            _set_parameters(plan)
            plans.set_environment(plan, plans.metadata_url(flags, network.host_ip))
            for note in plan.notes:
                _note(note)
            _prepare(plan, network)
            subcgroup = moved.result()
            cgroups.hand_down(undo.cgroups, host)
            for note in host.notes:
                _note(note)
        _execute(plan, host, subcgroup=subcgroup, lock_fd=lock_fd)
    except BaseException:
        try:
            undo.run()
        except (RktError, OSError) as error:
            # What made it necessary is what the user has to know; gc undoes the rest.
            _note(f"error undoing the start of the pod: {one_line(error)}")
        raise


def _enter_cgroup(plan: Plan, host: Host) -> str:
    host.ask(plan.pod.machine_name)
    return cgroups.enter(plan, host)


class _Undo:
    """The way back: the namespaces and cgroups this process came from, and what is to be taken down there.

    ``network``: the pod may have one.  A setup that fails takes down by itself what it has begun.
    """

    __slots__ = ("cgroups", "flags", "namespaces", "network", "pod")

    def __init__(self, pod: Pod, flags: RunFlags) -> None:
        self.pod, self.flags = pod, flags
        self.cgroups = cgroup.own()
        self.network = False
        self.namespaces = {kind: namespaces.open_namespace(kind) for kind in ("net", "mnt", "cgroup")}

    def run(self) -> None:
        # A thread that has done its work may not be gone yet: with its root and directory shared, the kernel
        # lets nobody join a mount namespace.
        namespaces.unshare(namespaces.CLONE_FS)
        for kind, fd in self.namespaces.items():
            if not namespaces.is_current(fd, kind):
                namespaces.setns(fd, namespaces.KINDS[kind])
        os.chdir(self.pod.directory)
        if self.network:
            for fault in lifecycle.teardown(self.pod.directory, self.pod.uuid, self.flags.local_config):
                _network_note(f"error undoing the network setup: {one_line(fault)}")
        for error in cgroups.leave_own(self.pod.directory, self.cgroups):
            _note(f"error removing the cgroup of the pod: {error}")


def _link_flavor(pod: Pod) -> None:
    path = os.path.join(pod.directory, "flavor")
    try:
        os.symlink("host", path)
    except FileExistsError:
        pass


def _set_up_network(plan: Plan, networks: list[tuple[str, str]], undo: _Undo) -> NetworkSetup:
    pod, flags = plan.pod, plan.flags
    ports = forwarding.forwarded_ports(pod.manifest)
    request = lifecycle.NetworkRequest(
        pod.uuid,
        pod.directory,
        networks,
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
        undo.network = False  # it has undone what it had begun, or said what it could not
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


def _prepare(plan: Plan, network: NetworkSetup) -> None:
    prepare.enter_mount_namespace()
    prepare.stage1_root(plan)
    resolv_conf = network.dns.resolv_conf() if network.dns is not None else None
    prepare.app_roots(plan, resolv_conf, _note)
    prepare.unit_files(plan)
    if plan.flags.debug:
        for line in plan.describe():
            _note(line)


def _execute(plan: Plan, host: Host, *, subcgroup: str, lock_fd: int) -> None:
    pod = plan.pod
    environment = {**supervisor.variables(plan), **sockets.hand_over(plan.sockets)}
    status.write(pod.directory, "subcgroup", subcgroup)
    options: list[str] = []
    isolation = plan.isolation
    if isolation.limits:
        options, missing = controllers.hand_over(
            isolation.limits, cgroup.hierarchies(), plan.ids, scope=subcgroup if host.scope else ""
        )
        for limit, reason in missing:
            isolation.outcomes.ignored(outcome.of_app(limit.app), limit.isolator, reason)
        if missing and host.unit and not cgroups.is_delegated(host.unit):
            _note("systemd leaves its controllers to the pod when the unit says Delegate=yes")
    isolations.finish(isolation, pod)
    for line in isolation.outcomes.warnings():
        _note(f"warning: {line}")
    argv = supervisor.arguments(plan, host, options)
    if plan.flags.debug:
        from rkt.linux.process import quote

        for line in isolation.outcomes.lines():
            _note(line)
        _note(f"executing {quote(argv)}")
    filters: list[bytes] = []
    if container_filter.is_available():
        environment["SYSTEMD_SECCOMP"] = "0"
        filters = container_filter.programs()
    prepare.bind_programs(pod.stage1_root)
    # The filter keeps systemd-nspawn from giving the pod one.
    keyring.join_session_keyring(owner=plan.ids.root)
    for program in filters:
        seccomp.load(program)
    status.write_pid(pod.directory, "ppid", os.getpid())
    os.set_inheritable(lock_fd, True)
    os.execve(argv[0], argv, environment)
