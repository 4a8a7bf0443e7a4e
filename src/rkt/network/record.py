"""What a pod's directory remembers of its network.

================== ======================================================================
netns              path of the namespace's file
net/NAME.conf      copy of each network's configuration, read again by teardown
net/record.json    attachments, port forwards and rules, written *before* each step that they name
net-info.json      what ``list``, ``status`` and the services show; written when all is done
================== ======================================================================

A crash between two steps leaves a record of more than was done, never of less; undoing a step that
was not done is harmless.  Pods of rkt 1.30 have no ``record.json``: there ``net-info.json`` is used.
"""

from __future__ import annotations

import os

from rkt.appc import gojson
from rkt.errors import RktError
from rkt.linux import files
from rkt.network.forwarding import ForwardedPort

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NETNS = "netns"
NET_INFO = "net-info.json"
DIRECTORY = "net"
RECORD = "net/record.json"
IPTABLES = "iptables"
# The tables of iptables that may have rules of a pod: address family and name.
TABLES = ("4 raw", "4 nat", "6 nat")


class NetInfo:
    """One network of a pod as ``net-info.json`` has it; paths are relative to the pod's directory.

    ``ip`` and ``mask`` are IPv4, as in rkt 1.30; ``ip6`` and ``mask6`` are in the file where there is one.
    """

    __slots__ = ("args", "conf_path", "if_name", "ip", "ip6", "mask", "mask6", "net_name", "plugin_path")

    def __init__(
        self,
        net_name: str,
        conf_path: str,
        *,
        plugin_path: str = "",
        if_name: str = "",
        ip: str = "",
        args: str = "",
        mask: str = "",
        ip6: str = "",
        mask6: str = "",
    ) -> None:
        self.net_name = net_name
        self.conf_path = conf_path
        self.plugin_path = plugin_path
        self.if_name = if_name
        self.ip = ip
        self.args = args
        self.mask = mask
        self.ip6 = ip6
        self.mask6 = mask6

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> NetInfo:
        def text(name: str) -> str:
            member = value.get(name)
            return member if isinstance(member, str) else ""

        return cls(
            text("netName"),
            text("netConf"),
            plugin_path=text("pluginPath"),
            if_name=text("ifName"),
            ip=text("ip"),
            args=text("args"),
            mask=text("mask"),
            ip6=text("ip6"),
            mask6=text("mask6"),
        )

    def to_value(self) -> dict[str, str]:
        value = {
            "netName": self.net_name,
            "netConf": self.conf_path,
            "pluginPath": self.plugin_path,
            "ifName": self.if_name,
            "ip": self.ip,
            "args": self.args,
            "mask": self.mask,
        }
        if self.ip6:
            value["ip6"], value["mask6"] = self.ip6, self.mask6
        return value


class Attachment:
    """One network that was, or was about to be, attached.

    ``results`` has one answer per plugin run; ``capabilities`` is what the pod asks plugins for by the
    names of CNI's capabilities; ``masquerade`` says that rkt's own rules do that for the network,
    ``refused`` that the plugin after those with results has refused to add the pod.
    """

    __slots__ = (
        "args",
        "capabilities",
        "conf_path",
        "if_name",
        "masquerade",
        "net_name",
        "refused",
        "results",
    )

    def __init__(
        self,
        net_name: str,
        conf_path: str,
        if_name: str,
        args: str,
        *,
        results: list[Any] | None = None,
        capabilities: dict[str, Any] | None = None,
        masquerade: bool = False,
    ) -> None:
        self.net_name = net_name
        self.conf_path = conf_path
        self.if_name = if_name
        self.args = args
        self.results = results if results is not None else []
        self.capabilities = capabilities if capabilities is not None else {}
        self.masquerade = masquerade
        self.refused = False

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> Attachment:
        made = cls(
            value["netName"],
            value["netConf"],
            value["ifName"],
            value["args"],
            results=value["results"],
            capabilities=value.get("capabilities"),
            masquerade=value.get("masquerade") is True,
        )
        made.refused = value.get("refused") is True
        return made

    def to_value(self) -> dict[str, Any]:
        return {
            "netName": self.net_name,
            "netConf": self.conf_path,
            "ifName": self.if_name,
            "args": self.args,
            "capabilities": self.capabilities,
            "masquerade": self.masquerade,
            "refused": self.refused,
            "results": self.results,
        }


class Record:
    """Attachments in the order they were made, the forwarded ports, which firewall has rules of the pod
    ("" for none), in which tables, where plugins were looked for, and during which ``boot`` of the machine
    that was ("" if nobody knows); ``save`` replaces the file."""

    __slots__ = ("attachments", "boot", "firewall", "places", "pod_dir", "ports", "tables")

    def __init__(self, pod_dir: str) -> None:
        self.pod_dir = pod_dir
        self.attachments: list[Attachment] = []
        self.ports: list[ForwardedPort] = []
        self.firewall = ""
        self.tables = list(TABLES)
        self.places: list[str] = []
        self.boot = ""

    def save(self, *, durable: bool = True) -> None:
        """``durable`` before something that outlives a reboot is made (a lease)."""
        value = {
            "networks": [item.to_value() for item in self.attachments],
            "ports": [port.to_value() for port in self.ports],
            "firewall": self.firewall,
            "tables": self.tables,
            "plugins": self.places,
            "boot": self.boot,
        }
        path = os.path.join(self.pod_dir, RECORD)
        (files.write_atomic if durable else replace)(path, gojson.dumps(value) + "\n")

    def remove(self) -> None:
        """Nothing is left to undo."""
        unlink(os.path.join(self.pod_dir, RECORD))

    @property
    def is_empty(self) -> bool:
        return not self.attachments and not self.ports and not self.firewall


def load(pod_dir: str) -> Record | None:
    """The record of a pod; None for a pod without one.  RktError names a file that cannot be decoded."""
    value = _read_json(os.path.join(pod_dir, RECORD))
    if value is None:
        return None
    record = Record(pod_dir)
    try:
        record.attachments.extend(Attachment.from_value(item) for item in value["networks"])
        record.ports.extend(ForwardedPort.from_value(item) for item in value["ports"])
        record.firewall = value.get("firewall", IPTABLES if record.ports else "")
        record.tables = [name for name in TABLES if name in value.get("tables", TABLES)]
        record.places.extend(value.get("plugins") or [])
        record.boot = str(value.get("boot", ""))
    except (AttributeError, KeyError, TypeError) as exc:
        raise RktError(f"{os.path.join(pod_dir, RECORD)} is not the record of a pod's network") from exc
    return record


def this_boot() -> str:
    """The kernel's identifier of the time since the machine was started."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def load_net_info(pod_dir: str) -> list[NetInfo]:
    """The networks in ``net-info.json``; none when there is no such file."""
    value = _read_json(os.path.join(pod_dir, NET_INFO))
    return [NetInfo.from_value(item) for item in value or [] if isinstance(item, dict)]


def save_net_info(pod_dir: str, networks: list[NetInfo]) -> None:
    """Write ``net-info.json`` with the bytes that rkt writes."""
    text = gojson.dumps([network.to_value() for network in networks])
    replace(os.path.join(pod_dir, NET_INFO), text + "\n")


def save_netns(pod_dir: str, path: str) -> None:
    """Write the pod's ``netns`` file (mode 0: rkt's; only root's commands read it)."""
    replace(os.path.join(pod_dir, NETNS), path, 0)


def load_netns(pod_dir: str) -> str:
    """The path of the pod's namespace, empty when it never had one."""
    try:
        with open(os.path.join(pod_dir, NETNS), encoding="utf-8") as file:
            return file.read(4096).strip()
    except FileNotFoundError:
        return ""


def replace(path: str, text: str, mode: int = 0o644) -> None:
    """Replace a file at once, for what means nothing after a reboot: it is not written to the disk now."""
    temporary = f"{path}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(temporary, flags, 0o600), "wb", buffering=0) as file:
        files.write_all(file.fileno(), text.encode())
        os.fchmod(file.fileno(), mode)
    os.rename(temporary, path)


def unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _read_json(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return gojson.loads(data)
    except RktError as exc:
        raise RktError(f"cannot decode {path}") from exc
