"""The network of one pod: ``setup`` before its supervisor starts, ``teardown`` when it is collected.

``setup`` leaves the calling process inside the pod's network namespace, so that what it executes next
lives there; plugins and ``iptables`` run in the namespace the caller came from.  Every step is recorded
in the pod's directory before it is taken (``rkt.network.record``): whatever is killed in between,
``teardown`` finds and undoes it.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.network import configuration, forwarding, interfaces, namespace, plugins, record, selection
from rkt.network.forwarding import ForwardedPort
from rkt.network.record import Attachment, NetInfo, Record
from rkt.network.result import Address, Dns, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.network.configuration import NetworkConfig


def _silent(_: str) -> None:
    """The default of ``notify``: nobody listens."""


class NetworkRequest:
    """What a pod wants.

    ``uuid`` and ``pod_dir`` name the pod; ``networks`` is a selection (``rkt.network.selection``);
    ``local_config`` and ``stage1_root`` hold configurations and plugins; ``ports`` are forwarded;
    ``notify`` gets lines for the user (without prefix), ``debug`` asks for more of them; ``time_limit``
    is what one plugin may take, in seconds.
    """

    __slots__ = (
        "debug",
        "local_config",
        "networks",
        "notify",
        "pod_dir",
        "ports",
        "stage1_root",
        "time_limit",
        "uuid",
    )

    def __init__(
        self,
        uuid: str,
        pod_dir: str,
        networks: list[tuple[str, str]],
        *,
        local_config: str = "/etc/rkt",
        stage1_root: str = "stage1/rootfs",
        ports: list[ForwardedPort] | None = None,
        notify: Callable[[str], None] = _silent,
        debug: bool = False,
        time_limit: float = plugins.TIME_LIMIT,
    ) -> None:
        self.uuid = uuid
        self.pod_dir = pod_dir
        self.networks = networks
        self.local_config = local_config
        self.stage1_root = os.path.join(pod_dir, stage1_root)
        self.ports = ports or []
        self.notify = notify
        self.debug = debug
        self.time_limit = time_limit


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

    __slots__ = ("attached", "configs", "directories", "pod_dir", "record", "request")

    def __init__(self, request: NetworkRequest, kind: str) -> None:
        self.request = request
        self.pod_dir = os.path.abspath(request.pod_dir)
        self.directories = plugins.directories(request.local_config, request.stage1_root)
        self.record = Record(self.pod_dir)
        self.attached: list[tuple[NetworkConfig, Result | None]] = []
        self.configs: list[tuple[NetworkConfig, str]] = []
        if kind == selection.NONE:
            request.notify("networking namespace with loopback only")
        else:
            known = configuration.load(request.local_config, request.stage1_root)
            self.configs = configuration.select(request.networks, known, request.notify)
        if request.ports and not self.configs:
            raise RktError("no networks found")
        for config, _ in self.configs:
            plugins.find_all(config, self.directories)

    def run(self) -> NetworkSetup:
        host = namespace.current()
        try:
            return self._run(host)
        except BaseException:
            namespace.join(host)
            for fault in teardown(
                self.pod_dir,
                self.request.uuid,
                self.request.local_config,
                self.request.stage1_root,
                time_limit=self.request.time_limit,
            ):
                self.request.notify(f"error undoing the network setup: {fault}")
            raise
        finally:
            os.close(host)

    def _run(self, host: int) -> NetworkSetup:
        netns = namespace.new_path()
        record.save_netns(self.pod_dir, netns)
        namespace.create(netns)
        pod = namespace.current()
        try:
            namespace.join(host)
            networks = [self._attach(number, netns) for number in range(len(self.configs))]
            self._forward()
            record.save_net_info(self.pod_dir, networks)
            namespace.join(pod)
        finally:
            os.close(pod)
        dns = next((result.dns for _, result in self.attached if result and result.dns.nameservers), None)
        target = self._target()
        return NetworkSetup(netns, networks, dns, target.gateway if target else "")

    def _attach(self, number: int, netns: str) -> NetInfo:
        """Attach one network: copy its configuration, record the attempt, run its plugins."""
        config, args = self.configs[number]
        if self.request.debug:
            types = ", ".join(plugin["type"] for plugin in config.plugins)
            self.request.notify(f"loading network {config.name} with type {types}")
        conf_path = self._copy(config)
        attachment = Attachment(config.name, conf_path, f"eth{number}", args)
        self.record.attachments.append(attachment)
        self.record.save()
        invocation = plugins.Invocation(
            self.request.uuid,
            netns,
            attachment.if_name,
            args=args,
            directories=self.directories,
            time_limit=self.request.time_limit,
        )
        try:
            paths, result = _add(config, attachment, invocation, self.directories)
        except RktError as exc:
            raise RktError(f'error adding network "{config.name}"', hint=exc.hint) from exc
        finally:
            self.record.save()
        self.attached.append((config, result))
        address = (result.address(4) or result.address(6)) if result else None
        return NetInfo(
            config.name,
            conf_path,
            plugin_path=self._relative(paths[0]),
            if_name=attachment.if_name,
            ip=address.ip if address else "",
            args=args,
            mask=address.mask if address else "",
        )

    def _copy(self, config: NetworkConfig) -> str:
        """Put the configuration into the pod for teardown; returns the path relative to the pod."""
        from rkt.linux import files

        files.make_directory(os.path.join(self.pod_dir, record.DIRECTORY))
        used = {attachment.conf_path for attachment in self.record.attachments}
        path = f"{record.DIRECTORY}/{config.file_name}"
        if path in used:  # two directories have files of this name
            path = f"{record.DIRECTORY}/{len(used)}-{config.file_name}"
        files.write_atomic(os.path.join(self.pod_dir, path), config.text)
        return path

    def _target(self) -> Address | None:
        """The address that ports are forwarded to: of the first network that masquerades, else the last."""
        chosen: Result | None = None
        for config, result in self.attached:
            chosen = result
            if config.masquerades:
                break
        return chosen.address(4) if chosen else None

    def _forward(self) -> None:
        ports = self.request.ports
        if not ports:
            return
        target = self._target()
        if target is None:
            raise RktError("cannot forward ports: the pod's network has no IPv4 address")
        self.record.ports = list(ports)
        self.record.save()
        _check_other_pods(self.pod_dir, ports)
        forwarding.add(self.request.uuid, target.ip, ports)
        # Only with this does the kernel route packets from 127.0.0.1 out of the host to the pod.
        for name in interfaces.with_address(target.gateway) if target.gateway else []:
            with open(f"/proc/sys/net/ipv4/conf/{name}/route_localnet", "wb", buffering=0) as file:
                file.write(b"1")

    def _relative(self, path: str) -> str:
        prefix = self.pod_dir + "/"
        return path[len(prefix) :] if path.startswith(prefix) else path


def _add(
    config: NetworkConfig, attachment: Attachment, invocation: plugins.Invocation, places: list[str]
) -> tuple[list[str], Result | None]:
    """Run ADD of each plugin, the answer of one being ``prevResult`` of the next."""
    paths = plugins.find_all(config, places)
    previous = None
    for number, path in enumerate(paths):
        text = config.plugin_input(number, previous)
        try:
            answer = plugins.run("ADD", path, text, invocation=invocation, version=config.cni_version)
        except RktError as exc:
            raise _translated(exc, config.name) from None
        try:
            result = Result(answer) if answer is not None else None
        except RktError as exc:
            raise RktError(f"plugin {path} answered ADD with a result that is wrong: {exc}") from None
        attachment.results.append(answer)
        previous = answer if answer is not None else previous
        if result is None and config.is_list:
            raise RktError(f"plugin {path} answered ADD with nothing")
    return paths, Result(previous) if previous is not None else None


def _translated(error: RktError, network: str) -> RktError:
    """host-local's words for an address that is taken, in the form that scripts of rkt look for."""
    start = "requested IP address "
    before, found, rest = error.message.partition(start)
    address, separator, _ = rest.partition(" is not available in range set ")
    if not found or not separator:
        return error
    return RktError(f'{before}{start}"{address}" is not available in network: {network}')


def _check_other_pods(pod_dir: str, ports: list[ForwardedPort]) -> None:
    """RktError when a running pod of the same directory has one of the host ports.

    An ended pod's rules stay until it is collected; the new pod's come before them.
    """
    from rkt.linux.lock import Lock

    parent, own = os.path.split(pod_dir)
    for name in os.listdir(parent):
        other = os.path.join(parent, name)
        if name == own or not os.path.isdir(other):
            continue
        try:
            known = record.load(other)
            if known is None or not any(a.conflicts_with(b) for a in ports for b in known.ports):
                continue
            with Lock.open(other) as lock:
                if lock.try_shared():
                    continue
        except (FileNotFoundError, RktError):
            continue  # vanished, or damaged: its own gc reports that
        forwarding.check_conflicts(ports, known.ports, name)


def teardown(
    pod_dir: str,
    uuid: str,
    local_config: str = "/etc/rkt",
    stage1_root: str = "stage1/rootfs",
    *,
    time_limit: float = plugins.TIME_LIMIT,
) -> list[RktError]:
    """Undo all that ``setup`` did, or was doing when it ended, for a pod that runs no more.

    Forwards first, then DEL of each network in reverse order, then the namespace.  A step that fails
    does not stop the others: the errors are returned, and what is left stays recorded, so that calling
    again tries it again.  Without anything to undo, nothing happens.
    """
    faults: list[RktError] = []
    pod_dir = os.path.abspath(pod_dir)
    stage1_root = os.path.join(pod_dir, stage1_root)
    try:
        netns = record.load_netns(pod_dir)
        known = record.load(pod_dir)
        if not netns and known is None:
            return []
        if netns:
            namespace.check_path(netns)
        known = known or _foreign_record(pod_dir, uuid)
    except RktError as exc:
        return [exc]
    present = bool(netns) and namespace.exists(netns)
    _Teardown(known, uuid, netns if present else "", faults).run(
        plugins.directories(local_config, stage1_root), time_limit
    )
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

    __slots__ = ("faults", "netns", "record", "uuid")

    def __init__(self, known: Record, uuid: str, netns: str, faults: list[RktError]) -> None:
        self.record = known
        self.uuid = uuid
        self.netns = netns
        self.faults = faults

    def run(self, places: list[str], time_limit: float) -> None:
        self._forwards()
        masqueraded = False
        for attachment in reversed(list(self.record.attachments)):
            path = os.path.join(self.record.pod_dir, attachment.conf_path)
            try:
                config = configuration.read(path)
                masqueraded |= config.masquerades
                self._delete(config, attachment, places, time_limit)
            except RktError as exc:
                self.faults.append(_caused(f'error removing network "{attachment.net_name}"', exc))
            else:
                self._forget(attachment)
        if masqueraded and not self.netns:
            try:
                forwarding.remove_masquerading(self.uuid)
            except RktError as exc:
                self.faults.append(_caused("error removing masquerading rules", exc))

    def _forwards(self) -> None:
        if not self.record.ports:
            return
        try:
            forwarding.remove(self.uuid)
        except RktError as exc:
            self.faults.append(_caused("error removing forwarded ports", exc))
        else:
            self.record.ports = []
            self._save()

    def _delete(
        self, config: NetworkConfig, attachment: Attachment, places: list[str], time_limit: float
    ) -> None:
        invocation = plugins.Invocation(
            self.uuid,
            self.netns,
            attachment.if_name,
            args=attachment.args,
            directories=places,
            time_limit=time_limit,
        )
        result = next((item for item in reversed(attachment.results) if item is not None), None)
        previous = result if _takes_previous_result(config.cni_version) else None
        paths = plugins.find_all(config, places)
        for number in reversed(range(len(paths))):
            text = config.plugin_input(number, previous)
            plugins.run("DEL", paths[number], text, invocation=invocation, version=config.cni_version)

    def _forget(self, attachment: Attachment) -> None:
        self.record.attachments.remove(attachment)
        self._save()

    def _save(self) -> None:
        """A foreign pod's directory stays as it is."""
        if os.path.exists(os.path.join(self.record.pod_dir, record.RECORD)):
            self.record.save()


def _takes_previous_result(version: str) -> bool:
    """DEL is told the result of ADD since version 0.4.0 of the specification."""
    numbers = [int(part) if part.isdecimal() else 0 for part in version.split(".")]
    return numbers >= [0, 4]


def _foreign_record(pod_dir: str, uuid: str) -> Record:
    """What there is to undo for a pod that rkt 1.30 has set up: its networks and its ports."""
    known = Record(pod_dir)
    if forwarding.exists(uuid):
        known.ports.append(ForwardedPort("tcp", "", 0, 0))  # which ones, only the rules know
    for network in record.load_net_info(pod_dir):
        known.attachments.append(
            Attachment(network.net_name, network.conf_path, network.if_name, network.args)
        )
    return known


def _caused(message: str, cause: Exception) -> RktError:
    error = RktError(message)
    error.__cause__ = cause
    return error
