"""Taking a pod's network down, from what its directory remembers (``rkt.network.record``).

Works after any ending: of the pod, of ``setup`` half-way, of the machine.  See ``teardown``.
"""

from __future__ import annotations

import errno
import os
import time

from rkt.errors import RktError
from rkt.linux import process
from rkt.network import configuration, firewall, leases, namespace, plugins, record
from rkt.network.attachment import Network
from rkt.network.forwarding import ForwardedPort
from rkt.network.record import Attachment, Record

_LAST_SECONDS = 5.0
# What all plugins of a pod may take together, at most half of it the first that hangs, and so on: stage0
# gives a stage1's gc a minute, and those that do not hang must have their turn.
_SECONDS = 30.0
_LEAST_SECONDS = 1.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.network.attachment import Step
    from rkt.network.configuration import NetworkConfig


def teardown(
    pod_dir: str,
    uuid: str,
    local_config: str = "/etc/rkt",
    stage1_root: str = "stage1/rootfs",
    *,
    time_limit: float = plugins.TIME_LIMIT,
) -> list[RktError]:
    """Undo all that ``setup`` did, or was doing when it ended, for a pod that runs no more.

    Rules first, then DEL of each network in reverse order, then the namespace.  A step that fails
    does not stop the others: the errors are returned, and what is left stays recorded, so that calling
    again tries it again.  Without anything to undo, nothing happens.  ``time_limit`` (in seconds) is what
    one plugin may take, less where several hang.
    """
    faults: list[RktError] = []
    pod_dir = os.path.abspath(pod_dir)
    try:
        netns = record.load_netns(pod_dir)
        known = record.load(pod_dir)
        if not netns and known is None:
            return []
        if netns:
            namespace.check_path(netns)
        foreign = known is None
        known = known or _foreign_record(pod_dir, uuid)
    except RktError as exc:
        return [exc]
    if netns and not os.path.exists(os.path.join(pod_dir, record.NET_INFO)):
        # What a killed setup has started may still run, and would go on adding.
        process.kill_marked(f"{plugins.NETNS}={netns}".encode(), _LAST_SECONDS)
    places = plugins.directories([local_config], os.path.join(pod_dir, stage1_root))
    places.extend(place for place in known.places if place not in places)
    present = bool(netns) and namespace.exists(netns)
    _Teardown(known, uuid, netns if present else "", faults).run(places, time_limit, leftovers=foreign)
    if netns:
        try:
            namespace.remove(netns)
        except OSError as exc:
            faults.append(_caused(f"cannot remove the network namespace {netns}", exc))
    if not faults:
        known.remove()
        if netns:
            record.unlink(os.path.join(pod_dir, record.NETNS))
    return faults


class _Teardown:
    """One run of ``teardown``; ``netns`` is empty when the namespace is gone (after a reboot)."""

    __slots__ = ("deadline", "faults", "netns", "record", "uuid")

    def __init__(self, known: Record, uuid: str, netns: str, faults: list[RktError]) -> None:
        self.deadline = 0.0
        self.record = known
        self.uuid = uuid
        self.netns = netns
        self.faults = faults

    def run(self, places: list[str], time_limit: float, *, leftovers: bool) -> None:
        """``leftovers``: plugins may have left masquerading rules that they cannot find any more."""
        self._rules()
        self.deadline = time.monotonic() + _SECONDS
        for attachment in reversed(list(self.record.attachments)):
            path = os.path.join(self.record.pod_dir, attachment.conf_path)
            try:
                config = configuration.read(path)
            except RktError as exc:
                if isinstance(exc.__cause__, FileNotFoundError):
                    # As in rkt 1.30: the way to give up a network whose plugin will never be back.
                    self._forget(attachment)
                    continue
                self._fail(attachment, exc)
                continue
            network = Network(config, attachment, places)
            missing = any(not step.path for step in network.steps)
            leftovers |= _masquerades_itself(config, attachment) and (missing or not self.netns)
            try:
                self._delete(network, places, time_limit)
            except RktError as exc:
                self._fail(attachment, exc)
            else:
                self._forget(attachment)
        if leftovers:
            try:
                firewall.remove_masquerading(self.uuid)
            except RktError as exc:
                self.faults.append(_caused("error removing masquerading rules", exc))

    def _fail(self, attachment: Attachment, cause: RktError) -> None:
        self.faults.append(_caused(f'error removing network "{attachment.net_name}"', cause))

    def _rules(self) -> None:
        ports = self.record.ports
        try:
            if ports:
                from rkt.network import claims

                # With the claim go settings that are safe only as long as the rules are there.
                claims.give_back(self.uuid)
            if self.record.firewall and not self._are_rules_gone():
                firewall.remove(self.record.firewall, self.uuid, self.record.tables)
        except (OSError, RktError) as exc:
            self.faults.append(_caused("error removing forwarded ports and masquerading", exc))
            return
        forget_flows(ports)  # a kernel that cannot has said so at the beginning
        self.record.ports, self.record.firewall = [], ""
        self._save()

    def _are_rules_gone(self) -> bool:
        """Whether the machine was started anew and has lost the program that made the rules: kept over a
        restart they can be only by that program."""
        return self.record.boot not in ("", record.this_boot()) and not firewall.is_installed(
            self.record.firewall
        )

    def _delete(self, network: Network, places: list[str], time_limit: float) -> None:
        """DEL of each plugin, last to first; one that fails does not keep the others from theirs."""
        invocation = plugins.Invocation(
            self.uuid,
            self.netns,
            network.attachment.if_name,
            args=network.attachment.args,
            directories=places,
            time_limit=time_limit,
        )
        try:
            self._delete_steps(network, invocation)
        except RktError:
            if not invocation.args:
                raise
            # Arguments that ADD did not take, DEL will never take: they must not keep the pod for ever.
            invocation.args = ""
            self._delete_steps(network, invocation)

    def _delete_steps(self, network: Network, invocation: plugins.Invocation) -> None:
        """A plugin that has refused ADD by itself has nothing to give back, nor have those after it: that
        they refuse DEL for the same reason (a configuration nobody can carry out) is no fault."""
        fault: RktError | None = None
        entry = network.attachment
        done = len(entry.results) if entry.refused else len(network.steps)
        most = invocation.time_limit
        for number, step in reversed(list(enumerate(network.steps))):
            left = self.deadline - time.monotonic()
            invocation.time_limit = min(most, max(left / 2, _LEAST_SECONDS))
            try:
                self._delete_step(network, step, invocation)
            except RktError as exc:
                if number < done:
                    fault = fault or exc
        if fault is not None:
            raise fault

    def _delete_step(self, network: Network, step: Step, invocation: plugins.Invocation) -> None:
        """DEL of one plugin, or what takes its place: it is not there any more, or the namespace is not,
        without which some (``sbr``) fail over what has gone with it."""
        if step.path:
            text = network.text(step, network.previous)
            try:
                plugins.run("DEL", step.path, text, invocation=invocation, version=network.version)
                return
            except RktError:
                if self.netns or step.type not in leases.CONTAINED:
                    raise
        leases.release(network, step, invocation)

    def _forget(self, attachment: Attachment) -> None:
        self.record.attachments.remove(attachment)
        self._save()

    def _save(self) -> None:
        """A foreign pod's directory stays as it is.

        Not made durable: at worst, a step is done again after a reboot, or the next time when the disk is
        full: what takes pods away must not need room.
        """
        if os.path.exists(os.path.join(self.record.pod_dir, record.RECORD)):
            try:
                self.record.save(durable=False)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise


def forget_flows(ports: list[ForwardedPort]) -> RktError | None:
    """Forget what the kernel remembers of flows to ports that change hands; the error if it cannot."""
    if any(port.protocol == "udp" for port in ports):
        from rkt.network import conntrack

        try:
            conntrack.forget(ports)
        except OSError as exc:
            return _caused("cannot forget flows of UDP to the forwarded ports", exc)
    return None


def _masquerades_itself(config: NetworkConfig, attachment: Attachment) -> bool:
    return config.masquerades and not attachment.masquerade


def _foreign_record(pod_dir: str, uuid: str) -> Record:
    """What there is to undo for a pod that rkt 1.30 has set up: its networks and its ports.

    Its plugins have masqueraded.  Those of today fail to take rules away that are not there (with the
    messages of today's iptables), so that is not left to them.
    """
    known = Record(pod_dir)
    if firewall.exists(uuid):
        known.firewall = firewall.IPTABLES
        known.ports.append(ForwardedPort("tcp", "", 0, 0))  # which ones, only the rules know
    for network in record.load_net_info(pod_dir):
        known.attachments.append(
            Attachment(network.net_name, network.conf_path, network.if_name, network.args, masquerade=True)
        )
    return known


def _caused(message: str, cause: Exception) -> RktError:
    error = RktError(message)
    error.__cause__ = cause
    return error
