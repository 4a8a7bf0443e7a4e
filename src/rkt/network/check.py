"""Whether the network of a running pod still is what it was made to be.

What rkt itself knows is looked at: the namespace, the addresses in it, the rules.  Then the plugins of each
network are asked (CNI's CHECK), if its version of the specification has that: 0.4.0 and later.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.network import configuration, firewall, interfaces, namespace, plugins, record
from rkt.network.attachment import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.network.record import Attachment, NetInfo, Record


def check(
    pod_dir: str,
    uuid: str,
    local_config: str = "/etc/rkt",
    stage1_root: str = "stage1/rootfs",
    *,
    time_limit: float = plugins.TIME_LIMIT,
) -> list[tuple[str, RktError | None]]:
    """The networks of a pod in their order, each with what is wrong with it.

    Rules of the pod that are not all there are a fault of every network.  The caller is in the host's
    namespace.  RktError when the pod's record cannot be read or its namespace is gone.
    """
    pod_dir = os.path.abspath(pod_dir)
    netns, known = record.load_netns(pod_dir), record.load(pod_dir)
    if not netns or known is None:
        return []
    if not namespace.exists(netns):
        raise RktError(f"the network namespace {netns} of the pod is gone")
    checker = _Checker(uuid, netns, known)
    checker.places = plugins.directories([local_config], os.path.join(pod_dir, stage1_root))
    checker.places.extend(place for place in known.places if place not in checker.places)
    checker.time_limit = time_limit
    infos = {info.if_name: info for info in record.load_net_info(pod_dir)}
    return [(entry.net_name, checker.fault(entry, infos.get(entry.if_name))) for entry in known.attachments]


class _Checker:
    """What the checks of one pod share."""

    __slots__ = ("netns", "places", "record", "ruled", "time_limit", "uuid")

    def __init__(self, uuid: str, netns: str, known: Record) -> None:
        self.uuid = uuid
        self.netns = netns
        self.record = known
        self.places: list[str] = []
        self.time_limit = plugins.TIME_LIMIT
        self.ruled = not known.firewall or firewall.is_in_place(known.firewall, uuid)

    def fault(self, entry: Attachment, info: NetInfo | None) -> RktError | None:
        try:
            self._check(entry, info)
        except (OSError, RktError) as exc:
            fault = RktError(f'error checking network "{entry.net_name}"')
            fault.__cause__ = exc
            return fault
        return None

    def _check(self, entry: Attachment, info: NetInfo | None) -> None:
        for ip in (info.ip, info.ip6) if info is not None else ():
            if ip and not self._has(entry.if_name, ip):
                raise RktError(f"interface {entry.if_name} of the pod has not the address {ip}")
        if not self.ruled:
            raise RktError("rules for forwarded ports or masquerading are missing")
        config = configuration.read(os.path.join(self.record.pod_dir, entry.conf_path))
        network = Network(config, entry, self.places)
        network.require(self.places)
        network.check(
            plugins.Invocation(
                self.uuid,
                self.netns,
                entry.if_name,
                args=entry.args,
                directories=self.places,
                time_limit=self.time_limit,
            )
        )

    def _has(self, if_name: str, ip: str) -> bool:
        """Whether an interface of the pod has an address: looked up inside."""
        from _socket import if_nametoindex

        host = namespace.current()
        try:
            fd = os.open(self.netns, os.O_RDONLY | os.O_CLOEXEC)
            try:
                namespace.join(fd)
            finally:
                os.close(fd)
            try:
                return if_nametoindex(if_name) in interfaces.with_address(ip)
            except OSError:  # no such interface
                return False
            finally:
                namespace.join(host)
        finally:
            os.close(host)
