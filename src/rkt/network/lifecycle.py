"""The network of one pod: ``setup`` before its supervisor starts, ``teardown`` when it is collected.

``setup`` leaves the calling process inside the pod's network namespace, so that what it executes next
lives there; plugins and firewall programs run in the namespace the caller came from.  Every step is
recorded in the pod's directory before it is taken (``rkt.network.record``): whatever is killed in between,
``teardown`` finds and undoes it.
"""

from __future__ import annotations

import os

from rkt.errors import RktError, one_line
from rkt.network import (
    attachment,
    configuration,
    firewall,
    interfaces,
    namespace,
    plugins,
    record,
    selection,
)
from rkt.network.attachment import Network
from rkt.network.record import Attachment, NetInfo, Record
from rkt.network.teardown import forget_flows, teardown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.network.configuration import NetworkConfig
    from rkt.network.forwarding import ForwardedPort
    from rkt.network.result import Dns, Result

__all__ = ["NetworkRequest", "NetworkSetup", "is_recorded", "setup", "teardown"]


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:@_-")


def _silent(_: str) -> None:
    """The default of ``notify``: nobody listens."""


class NetworkRequest:
    """What a pod wants.

    ``uuid`` and ``pod_dir`` name the pod; ``networks`` is a selection (``rkt.network.selection``);
    ``user_config``, ``local_config``, ``system_config`` (directories) and ``stage1_root`` hold configurations
    and plugins; ``ports`` are forwarded; ``bandwidth`` limits each direction of each network, in bytes per
    second (None: no limit); ``notify`` gets lines for the user (without prefix), ``debug`` asks for more
    of them; ``time_limit`` is what one plugin may take, in seconds.
    """

    __slots__ = (
        "bandwidth",
        "debug",
        "local_config",
        "networks",
        "notify",
        "pod_dir",
        "ports",
        "stage1_root",
        "system_config",
        "time_limit",
        "user_config",
        "uuid",
    )

    def __init__(
        self,
        uuid: str,
        pod_dir: str,
        networks: list[tuple[str, str]],
        *,
        local_config: str = "/etc/rkt",
        system_config: str = "/usr/lib/rkt",
        user_config: str = "",
        stage1_root: str = "stage1/rootfs",
        ports: list[ForwardedPort] | None = None,
        bandwidth: int | None = None,
        notify: Callable[[str], None] = _silent,
        debug: bool = False,
        time_limit: float = plugins.TIME_LIMIT,
    ) -> None:
        self.uuid = uuid
        self.pod_dir = pod_dir
        self.networks = networks
        self.local_config = local_config
        self.system_config = system_config
        self.user_config = user_config
        self.stage1_root = os.path.join(pod_dir, stage1_root)
        self.ports = ports or []
        self.bandwidth = bandwidth
        self.notify = notify
        self.debug = debug
        self.time_limit = time_limit

    @property
    def directories(self) -> list[str]:
        """The configuration directories, the one that hides all others first."""
        return [place for place in (self.user_config, self.local_config, self.system_config) if place]


class NetworkSetup:
    """What a pod got.

    ``netns`` is the path of its namespace (empty with host networking), ``networks`` what was written to
    ``net-info.json``, ``dns`` the first name servers that came with a network, ``host_ip`` the host's
    address as seen from the pod on the network that ports are forwarded to (empty if there is none).
    """

    __slots__ = ("dns", "host_ip", "netns", "networks")

    def __init__(self, netns: str, networks: list[NetInfo], dns: Dns | None, host_ip: str) -> None:
        self.netns = netns
        self.networks = networks
        self.dns = dns
        self.host_ip = host_ip


def setup(request: NetworkRequest) -> NetworkSetup:
    """Create the pod's network and join its namespace.

    With host networking nothing is created or joined.  On failure all that was done is undone and the
    caller is where it was; the error is an RktError naming network, plugin and cause.
    """
    kind = selection.kind(request.networks)
    if kind == selection.HOST:
        if request.ports:
            raise RktError("--port flag does not work with 'host' networking")
        return NetworkSetup("", [], None, "")
    return _Setup(request, kind).run()


class _Setup:
    """One run of ``setup``: the state between its steps."""

    __slots__ = ("attached", "configs", "firewall", "places", "pod_dir", "record", "request", "target")

    def __init__(self, request: NetworkRequest, kind: str) -> None:
        self.request = request
        self.pod_dir = os.path.abspath(request.pod_dir)
        self.places = plugins.directories(request.directories, request.stage1_root)
        self.record = Record(self.pod_dir)
        self.record.boot = record.this_boot()
        self.record.places = [place for place in self.places if not place.startswith(self.pod_dir)]
        self.attached: list[tuple[Network, Result | None]] = []
        self.configs: list[tuple[NetworkConfig, str]] = []
        self.firewall = ""
        if kind == selection.NONE:
            request.notify("networking namespace with loopback only")
        else:
            known = configuration.load(request.directories, request.stage1_root)
            self.configs = configuration.select(request.networks, known, request.notify)
        if request.ports and not self.configs:
            raise RktError("no networks found")
        self.target = _target([config for config, _ in self.configs])

    def run(self) -> NetworkSetup:
        networks = [self._plan(number) for number in range(len(self.configs))]
        if self._forwards or any(network.attachment.masquerade for network in networks):
            self.firewall = firewall.choose()
        host = namespace.current()
        try:
            return self._run(host, networks)
        except BaseException:
            namespace.join(host)
            for fault in self._undo():
                self.request.notify(f"error undoing the network setup: {one_line(fault)}")
            raise
        finally:
            os.close(host)

    def _undo(self) -> list[RktError]:
        request = self.request
        return teardown(
            self.pod_dir,
            request.uuid,
            request.local_config,
            request.stage1_root,
            time_limit=request.time_limit,
        )

    @property
    def _forwards(self) -> list[ForwardedPort]:
        """The ports that are forwarded by rules of rkt: none where a plugin does it."""
        ports = self.request.ports
        return [] if ports and self.configs[self.target][0].takes(attachment.PORTS) else ports

    def _plan(self, number: int) -> Network:
        """What attaching one network will be; RktError if a plugin is not installed."""
        config, args = self.configs[number]
        given = attachment.capabilities_from(args)
        if self.request.ports and number == self.target and config.takes(attachment.PORTS):
            given[attachment.PORTS] = _port_mappings(self.request.ports)
        if self.request.bandwidth is not None:
            given[attachment.BANDWIDTH] = _rates(self.request.bandwidth)
        entry = Attachment(
            config.name,
            f"{record.DIRECTORY}/{self._copy_name(number)}",
            f"eth{number}",
            args,
            capabilities=given,
            masquerade=attachment.masquerades(config),
        )
        network = Network(config, entry, self.places)
        try:
            network.require(self.places)
        except RktError as exc:
            raise RktError(f'error adding network "{config.name}": {exc}', hint=exc.hint) from None
        return network

    def _copy_name(self, number: int) -> str:
        """The file name of the configuration's copy: another one where two directories have the same."""
        name = self.configs[number][0].file_name
        used = [config.file_name for config, _ in self.configs[:number]]
        return f"{number}-{name}" if name in used else name

    def _run(self, host: int, networks: list[Network]) -> NetworkSetup:
        netns = self._begin()
        namespace.create(netns)
        pod = namespace.current()
        try:
            namespace.join(host)
            infos = [self._attach(network, netns) for network in networks]
            self._translate(netns)
            record.save_net_info(self.pod_dir, infos)
            self.record.save(durable=False)
            if self.request.debug:
                self._check(netns)
            namespace.join(pod)
        finally:
            os.close(pod)
        dns = next((result.dns for _, result in self.attached if result and result.dns.nameservers), None)
        return NetworkSetup(netns, infos, dns, self._host_ip())

    def _begin(self) -> str:
        """Record the namespace and the ports, and claim these if nobody else has them."""
        from rkt.linux import files

        files.make_directory(os.path.join(self.pod_dir, record.DIRECTORY))
        self.record.ports = list(self.request.ports)
        self.record.save(durable=False)
        if self.request.ports:
            from rkt.network import claims, conflicts

            claims.take(self.request.uuid, self.pod_dir, self.request.ports, self.request.notify)
            conflicts.check_host(self.request.ports)
        netns = namespace.new_path()
        record.save_netns(self.pod_dir, netns)
        return netns

    def _attach(self, network: Network, netns: str) -> NetInfo:
        """Attach one network: copy its configuration, record the attempt, run its plugins."""
        from rkt.linux import files

        config, entry = network.config, network.attachment
        if self.request.debug:
            types = ", ".join(step.type for step in network.steps)
            self.request.notify(f"loading network {config.name} with type {types}")
        files.write_atomic(os.path.join(self.pod_dir, entry.conf_path), config.text)
        self.record.attachments.append(entry)
        self.record.save()
        try:
            result = network.add(self._invocation(network, netns))
        except RktError as exc:
            entry.refused = isinstance(exc, plugins.Refusal)
            # One sentence, because only the outermost and the innermost cause are shown.
            raise RktError(f'error adding network "{config.name}": {exc}', hint=exc.hint) from None
        finally:
            self.record.save(durable=False)
        self.attached.append((network, result))
        ip4, ip6 = (result.address(4), result.address(6)) if result else (None, None)
        return NetInfo(
            config.name,
            entry.conf_path,
            plugin_path=self._relative(network.steps[0].path),
            if_name=entry.if_name,
            ip=ip4.ip if ip4 else "",
            args=entry.args,
            mask=ip4.mask if ip4 else "",
            ip6=ip6.ip if ip6 else "",
            mask6=ip6.mask if ip6 else "",
        )

    def _invocation(self, network: Network, netns: str) -> plugins.Invocation:
        return plugins.Invocation(
            self.request.uuid,
            netns,
            network.attachment.if_name,
            args=network.attachment.args,
            directories=self.places,
            time_limit=self.request.time_limit,
        )

    def _check(self, netns: str) -> None:
        for network, _ in self.attached:
            try:
                network.check(self._invocation(network, netns))
            except RktError as exc:
                raise RktError(f'error checking network "{network.config.name}": {exc}') from None

    def _host_ip(self) -> str:
        """The host as the pod sees it: IPv4 if there is one, as everything that prints it expects."""
        result = self.attached[self.target][1] if self.attached else None
        gateways = [address.gateway for address in result.addresses if address.gateway] if result else []
        return next((ip for ip in gateways if ":" not in ip), gateways[0] if gateways else "")

    def _translate(self, netns: str) -> None:
        """Put the rules for ports and masquerading in place, all at once."""
        if not self.firewall:
            return
        masqueraded = [
            address
            for network, result in self.attached
            if network.attachment.masquerade and result
            for address in result.addresses
        ]
        ports, targets = self._forwards, self._targets()
        for port in ports:
            if not any(family in targets for family in port.families):
                families = " or ".join(f"IPv{family}" for family in port.families)
                raise RktError(f"cannot forward port {port}: the pod's network has no {families} address")
        translation = firewall.Translation(ports, targets, masqueraded)
        self.record.firewall, self.record.tables = self.firewall, translation.tables
        self.record.save(durable=False)
        try:
            firewall.apply(self.firewall, self.request.uuid, translation, {plugins.NETNS: netns})
        except RktError as exc:
            names = ", ".join(f'"{name}"' for name in self._translated)
            raise RktError(f"error translating addresses of network {names}: {exc}", hint=exc.hint) from None
        if ports:
            from rkt.network import claims

            if translation.opened:
                claims.open_loopback(self.request.uuid, translation.opened)
            fault = forget_flows(ports)
            if fault is not None:
                self.request.notify(f"warning: {one_line(fault)}")

    @property
    def _translated(self) -> list[str]:
        """The names of the networks that rules of rkt are for."""
        target = self.attached[self.target][0] if self._forwards else None
        networks = [network for network, _ in self.attached]
        return [n.config.name for n in networks if n.attachment.masquerade or n is target]

    def _targets(self) -> dict[int, firewall.Target]:
        """Where ports are forwarded to, by family; none without ports of rkt's own."""
        found: dict[int, firewall.Target] = {}
        network, result = self.attached[self.target]
        if result is None or not self._forwards:
            return found
        # Others on a bridge answer each other past the host; on a link of its own a pod has no neighbour.
        alone = network.config.plugins[0]["type"] == "ptp"
        for family in (4, 6):
            address = result.address(family)
            if address is None:
                continue
            opened = family == 4 and address.gateway
            name = interfaces.leading_to(address.ip, address.gateway) if opened else ""
            if not _PLAIN.issuperset(name):  # it goes into rules, where + is any end of a name
                name = ""
            neighbours = address.ip if alone else address.network
            found[family] = firewall.Target(address.ip, neighbours, name)
        return found

    def _relative(self, path: str) -> str:
        prefix = self.pod_dir + "/"
        return path[len(prefix) :] if path.startswith(prefix) else path


def _target(configs: list[NetworkConfig]) -> int:
    """The index of the network that ports are forwarded to: of the first whose plugins take ports, else
    of the first that masquerades, else of the last (rkt 1.30)."""
    for number, config in enumerate(configs):
        if config.takes(attachment.PORTS):
            return number
    for number, config in enumerate(configs):
        if config.masquerades:
            return number
    return len(configs) - 1


def _port_mappings(ports: list[ForwardedPort]) -> list[dict[str, object]]:
    """The value of the capability ``portMappings``: it has no ranges."""
    return [
        {
            "hostPort": number,
            "containerPort": number - port.host_port + port.pod_port,
            "protocol": port.protocol,
            **({"hostIP": port.host_ip} if port.host_ip else {}),
        }
        for port in ports
        for number in port.host_ports
    ]


def _rates(limit: int) -> dict[str, int]:
    """The value of the capability ``bandwidth``: bits per second and bits, for both directions.

    A burst of a tenth of a second lets the scheduler of packets keep the rate; below a few packets it
    would stop the traffic.  The plugin takes no burst of 2**32 bits.
    """
    rate = max(limit * 8, 8)
    burst = min(max(rate // 10, 128 * 1024), (1 << 32) - 8)
    return {"ingressRate": rate, "ingressBurst": burst, "egressRate": rate, "egressBurst": burst}


def is_recorded(pod_dir: str) -> bool:
    """Whether anything is left for ``teardown``: then the directory must stay."""
    return any(os.path.lexists(os.path.join(pod_dir, name)) for name in (record.RECORD, record.NETNS))
