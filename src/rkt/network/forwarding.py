"""Host ports forwarded into a pod: what the manifest asks for.

Who else may have the ports is looked up by ``rkt.network.conflicts``; the rules that carry the forwards
out are made by ``rkt.network.firewall``.
"""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.appc.pod import PodManifest
    from rkt.appc.port import Port

ANY = "0.0.0.0"
ANY6 = "::"
_LAST_PORT = 65535

# What rules can tell apart by port.  The word comes from an image: nothing else may reach a rule.
PROTOCOLS = ("tcp", "udp", "sctp")


class ForwardedPort:
    """``count`` ports of the host from ``host_port`` on lead to as many of the pod from ``pod_port`` on.

    ``host_ip`` is the address of the host that they are reached at: empty for any of either family,
    ``0.0.0.0`` and ``::`` for any of one.
    """

    __slots__ = ("count", "host_ip", "host_port", "pod_port", "protocol")

    def __init__(self, protocol: str, host_ip: str, host_port: int, pod_port: int, *, count: int = 1) -> None:
        self.protocol = protocol
        self.host_ip = host_ip
        self.host_port = host_port
        self.pod_port = pod_port
        self.count = count

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> ForwardedPort:
        return cls(
            value["protocol"],
            value["hostIP"],
            value["hostPort"],
            value["podPort"],
            count=value.get("count", 1),
        )

    def to_value(self) -> dict[str, object]:
        return {
            "protocol": self.protocol,
            "hostIP": self.host_ip,
            "hostPort": self.host_port,
            "podPort": self.pod_port,
            "count": self.count,
        }

    @property
    def families(self) -> tuple[int, ...]:
        """The address families it is for: 4, 6 or both."""
        if not self.host_ip:
            return (4, 6)
        return (6,) if ":" in self.host_ip else (4,)

    @property
    def is_for_any_address(self) -> bool:
        return self.host_ip in ("", ANY, ANY6)

    @property
    def host_ports(self) -> range:
        return range(self.host_port, self.host_port + self.count)

    def conflicts_with(self, other: ForwardedPort) -> bool:
        """Whether both want the same packets."""
        return (
            self.protocol == other.protocol
            and self.host_port < other.host_port + other.count
            and other.host_port < self.host_port + self.count
            and bool(set(self.families) & set(other.families))
            and (self.host_ip == other.host_ip or self.is_for_any_address or other.is_for_any_address)
        )

    def __str__(self) -> str:
        address = f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip or ANY
        last = f"-{self.host_ports[-1]}" if self.count > 1 else ""
        return f"{self.protocol}-{address}:{self.host_port}{last}"


def forwarded_ports(manifest: PodManifest) -> list[ForwardedPort]:
    """The forwards that a pod manifest's ``ports`` ask for, checked against each other.

    A port names one port of one app, unless it says itself which port of the pod it means.  A port of an
    app that is a range is forwarded as a range of the same length.  One that is socket-activated is not
    forwarded: the app is given the socket of the host.
    """
    forwards: list[ForwardedPort] = []
    for exposed in manifest.ports:
        pod_port = exposed.pod_port
        if pod_port is None:
            pod_port = _app_port(manifest, exposed.name)
        if pod_port.socket_activated:
            continue
        protocol = pod_port.protocol.lower()
        if protocol not in PROTOCOLS:
            raise RktError(
                f'port "{exposed.name}": cannot forward protocol {pod_port.protocol!r}, only '
                + ", ".join(PROTOCOLS)
            )
        count = max(pod_port.count, 1)
        last = exposed.host_port + count - 1
        if exposed.host_port < 1 or last > _LAST_PORT:
            raise RktError(f'port "{exposed.name}": {max(last, 0)} is no port of the host')
        forward = ForwardedPort(
            protocol, exposed.host_ip or "", exposed.host_port, pod_port.port, count=count
        )
        check_conflicts([forward], forwards)
        forwards.append(forward)
    return forwards


def check_conflicts(wanted: list[ForwardedPort], existing: list[ForwardedPort], owner: str = "") -> None:
    """RktError when one of ``wanted`` meets one of ``existing``, which belong to ``owner`` (a pod)."""
    for forward in wanted:
        for other in existing:
            if forward.conflicts_with(other):
                suffix = f" of pod {owner}" if owner else ""
                raise RktError(f"port {forward} already mapped to pod port {other.pod_port}{suffix}")


def _app_port(manifest: PodManifest, name: str) -> Port:
    found = [
        port for app in manifest.apps if app.app is not None for port in app.app.ports if port.name == name
    ]
    if not found:
        raise RktError(f'port name "{name}" could not be found in any apps')
    if len(found) > 1:
        raise RktError(f'port name "{name}" defined multiple apps')
    return found[0]
