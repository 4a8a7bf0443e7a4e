"""Host ports forwarded into a pod: what the manifest asks for, conflicts, and the rules of iptables.

Two chains of the nat table belong to a pod, named by the first eight digits of its UUID.  All rules
are put in place, and taken away, by one ``iptables-restore``: the kernel has all of them or none.
"""

from __future__ import annotations

from rkt.errors import RktError
from rkt.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.appc.pod import PodManifest

ANY = "0.0.0.0"
TIME_LIMIT = 30.0


class ForwardedPort:
    """``(protocol, host_ip, host_port)`` of the host lead to ``pod_port`` of the pod; ``0.0.0.0`` is any."""

    __slots__ = ("host_ip", "host_port", "pod_port", "protocol")

    def __init__(self, protocol: str, host_ip: str, host_port: int, pod_port: int) -> None:
        self.protocol = protocol
        self.host_ip = host_ip or ANY
        self.host_port = host_port
        self.pod_port = pod_port

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> ForwardedPort:
        return cls(value["protocol"], value["hostIP"], value["hostPort"], value["podPort"])

    def to_value(self) -> dict[str, object]:
        return {
            "protocol": self.protocol,
            "hostIP": self.host_ip,
            "hostPort": self.host_port,
            "podPort": self.pod_port,
        }

    def conflicts_with(self, other: ForwardedPort) -> bool:
        """Whether both want the same packets."""
        return (
            self.protocol == other.protocol
            and self.host_port == other.host_port
            and (self.host_ip == other.host_ip or ANY in (self.host_ip, other.host_ip))
        )

    def __str__(self) -> str:
        return f"{self.protocol}-{self.host_ip}:{self.host_port}"


def forwarded_ports(manifest: PodManifest) -> list[ForwardedPort]:
    """The forwards that a pod manifest's ``ports`` ask for, checked against each other.

    A port names one port of one app, unless it says itself which port of the pod it means.
    """
    forwards: list[ForwardedPort] = []
    for exposed in manifest.ports:
        pod_port = exposed.pod_port
        if pod_port is None:
            pod_port = _app_port(manifest, exposed.name)
        if not 0 < exposed.host_port <= 65535:
            raise RktError(f'port "{exposed.name}": {exposed.host_port} is no port of the host')
        if ":" in (exposed.host_ip or ""):
            raise RktError(f'port "{exposed.name}": cannot forward from the IPv6 address {exposed.host_ip}')
        forward = ForwardedPort(pod_port.protocol, exposed.host_ip or ANY, exposed.host_port, pod_port.port)
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


def _app_port(manifest: PodManifest, name: str) -> Any:
    found = [
        port for app in manifest.apps if app.app is not None for port in app.app.ports if port.name == name
    ]
    if not found:
        raise RktError(f'port name "{name}" could not be found in any apps')
    if len(found) > 1:
        raise RktError(f'port name "{name}" defined multiple apps')
    return found[0]


def chains(uuid: str) -> tuple[str, str]:
    """The names of a pod's chains, for destinations and for sources."""
    return f"RKT-PFWD-DNAT-{uuid[:8]}", f"RKT-PFWD-SNAT-{uuid[:8]}"


def rules(uuid: str, pod_ip: str, ports: list[ForwardedPort]) -> list[str]:
    """The rules as lines of ``iptables-restore`` (table nat).

    Packets to any address of the host go through the first chain; connections that the host makes to
    its own loopback address need the second, because their source is of no use inside the pod.
    """
    destination, source = chains(uuid)
    lines = [f":{destination} - [0:0]", f":{source} - [0:0]"]
    lines.append(f"-I POSTROUTING 1 -s 127.0.0.1 ! -d 127.0.0.1 -j {source}")
    lines.extend(
        f"-I {hook} 1 -m addrtype --dst-type LOCAL -j {destination}" for hook in ("PREROUTING", "OUTPUT")
    )
    for port in ports:
        address = "0.0.0.0/0" if port.host_ip == ANY else port.host_ip
        lines.append(
            f"-A {destination} -d {address} -p {port.protocol} --dport {port.host_port}"
            f" -j DNAT --to-destination {pod_ip}:{port.pod_port}"
        )
        lines.append(
            f"-A {source} -p {port.protocol} -s 127.0.0.1 -d {pod_ip} --dport {port.pod_port} -j MASQUERADE"
        )
    return lines


def add(uuid: str, pod_ip: str, ports: list[ForwardedPort]) -> None:
    """Put the rules in place; the caller is in the host's namespace."""
    _restore(rules(uuid, pod_ip, ports))


def exists(uuid: str) -> bool:
    """Whether a pod has chains of its own; without iptables on the machine it has none."""
    try:
        listed = _list()
    except RktError as exc:
        if isinstance(exc.__cause__, FileNotFoundError):
            return False
        raise
    return any(f"-N {chain}" in listed for chain in chains(uuid))


def remove(uuid: str) -> None:
    """Take away both chains and every rule that leads to them; nothing to do is no error."""
    mine = chains(uuid)
    listed = _list()
    lines = [f"-F {chain}" for chain in mine if f"-N {chain}" in listed]
    if not lines:
        return
    lines[:0] = ["-D" + line[2:] for line in listed if line.startswith("-A ") and line.endswith(_jumps(mine))]
    lines.extend("-X" + line[2:] for line in lines if line.startswith("-F "))
    _restore(lines)


def remove_masquerading(uuid: str) -> None:
    """Take away what CNI plugins put into the nat table for a pod whose namespace is gone.

    ``ptp`` and ``bridge`` find the rules of a pod by the addresses in its namespace, so that without it
    their DEL leaves them behind.  Each carries the container id in a comment: ``name: "N" id: "ID"``.
    """
    listed = _list()
    mark = f' id: \\"{uuid}\\""'
    own = [line for line in listed if line.startswith("-A ") and mark in line]
    used = {line.rsplit(" -j ", 1)[1].split()[0] for line in own if " -j CNI-" in line}
    doomed = sorted(chain for chain in used if f"-N {chain}" in listed)
    if not own:
        return
    jumps = [line for line in own if line.endswith(_jumps(tuple(doomed)))]
    lines = ["-D" + line[2:] for line in jumps]
    lines.extend(f"-F {chain}" for chain in doomed)
    lines.extend(f"-X {chain}" for chain in doomed)
    _restore(lines)


def _jumps(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f" -j {name}" for name in names)


def _list() -> list[str]:
    done = _iptables(["iptables", "--wait", "-t", "nat", "-S"])
    return done.splitlines()


def _restore(lines: list[str]) -> None:
    text = "\n".join(["*nat", *lines, "COMMIT", ""])
    _iptables(["iptables-restore", "--wait", "--noflush"], text)


def _iptables(argv: list[str], text: str = "") -> str:
    try:
        done = process.run(argv, input=text.encode(), timeout=TIME_LIMIT)
    except FileNotFoundError as exc:
        raise RktError(
            f"cannot forward ports: {argv[0]} not found", hint="install the package iptables"
        ) from exc
    return done.stdout.decode(errors="replace")
