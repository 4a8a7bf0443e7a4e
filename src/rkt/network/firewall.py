"""The address translation of a pod: forwarded ports, and masquerading of what leaves its networks.

With iptables, chains of the nat tables belong to a pod, named by the first eight digits of its UUID; the
built-in chains get jumps to them.  Each family's rules are put in place, and taken away, by one
``iptables-restore --noflush``: the kernel has all of them or none, and no rule of anybody else is
touched.  A host without iptables gets one nftables table of the pod's own by one ``nft -f -``.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import process
from rkt.network.forwarding import ForwardedPort

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.network.result import Address

TIME_LIMIT = 30.0
IPTABLES = "iptables"
NFT = "nft"
_PROGRAMS = {4: "iptables", 6: "ip6tables"}
_MULTICAST = {4: "224.0.0.0/4", 6: "ff00::/8"}
_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}


class Translation:
    """What is to be translated for one pod.

    ``ports`` are forwarded to ``targets``, the pod's address of each family; packets from one of
    ``masqueraded`` (addresses of the pod with the networks they are in) to anywhere else take the host's.
    """

    __slots__ = ("masqueraded", "ports", "targets")

    def __init__(
        self, ports: list[ForwardedPort], targets: dict[int, str], masqueraded: list[Address]
    ) -> None:
        self.ports = ports
        self.targets = targets
        self.masqueraded = masqueraded

    def forwards(self, family: int) -> list[ForwardedPort]:
        if family not in self.targets:
            return []
        return [port for port in self.ports if family in port.families]

    def sources(self, family: int) -> list[Address]:
        return [address for address in self.masqueraded if address.family == family]

    @property
    def families(self) -> list[int]:
        """Those that need any rule."""
        return [family for family in (4, 6) if self.forwards(family) or self.sources(family)]


def choose() -> str:
    """Which of the two this host has: iptables before nftables, as rkt and CNI plugins use it."""
    for kind, program in ((IPTABLES, "iptables-restore"), (NFT, "nft")):
        if is_installed(program):
            return kind
    raise RktError(
        "cannot translate addresses: neither iptables-restore nor nft is installed",
        hint="install the package iptables or nftables",
    )


def is_installed(program: str) -> bool:
    """Whether this host has a program."""
    return bool(_path(program))


def _path(program: str) -> str:
    """Where a program is, empty if nowhere; a user's PATH may leave out the administrator's directories."""
    places = [*os.environ.get("PATH", "").split(":"), *process.CLEAN_ENVIRONMENT["PATH"].split(":")]
    candidates = (os.path.join(place, program) for place in places if place.startswith("/"))
    return next((path for path in candidates if os.access(path, os.X_OK)), "")


def apply(kind: str, uuid: str, translation: Translation) -> None:
    """Put the rules in place; the caller is in the host's namespace."""
    if kind == NFT:
        _run(["nft", "-f", "-"], table(uuid, translation))
        return
    for family in translation.families:
        _restore(_PROGRAMS[family], rules(uuid, family, translation))


def remove(kind: str, uuid: str) -> None:
    """Take away all rules of a pod; nothing to do is no error."""
    if kind == NFT:
        # Adding the table first makes its deletion succeed whether it is there or not.
        name = _table_name(uuid)
        _run(["nft", "-f", "-"], f"add table inet {name}\ndelete table inet {name}\n")
        return
    for program in _PROGRAMS.values():
        if program == "iptables" or is_installed(f"{program}-restore"):
            _remove(program, chains(uuid))


def exists(uuid: str) -> bool:
    """Whether a pod has chains of its own; without iptables on the machine it has none."""
    if not is_installed("iptables"):
        return False
    listed = _list("iptables")
    return any(f"-N {chain}" in listed for chain in chains(uuid))


def remove_masquerading(uuid: str) -> None:
    """Take away what CNI plugins put into the nat tables for a pod whose namespace is gone.

    ``ptp`` and ``bridge`` find the rules of a pod by the addresses in its namespace, so that without it
    their DEL leaves them behind.  Each carries the container id in a comment: ``name: "N" id: "ID"``.
    """
    mark = f' id: \\"{uuid}\\""'
    for program in _PROGRAMS.values():
        if not is_installed(program):
            continue
        own = [line for line in _list(program) if line.startswith("-A ") and mark in line]
        _remove(program, tuple({line.split(" -j ", 1)[1].split()[0] for line in own if " -j CNI-" in line}))


def chains(uuid: str) -> tuple[str, str, str]:
    """The names of a pod's chains: for destinations, for sources and for masquerading."""
    return f"RKT-PFWD-DNAT-{uuid[:8]}", f"RKT-PFWD-SNAT-{uuid[:8]}", f"RKT-MASQ-{uuid[:8]}"


def rules(uuid: str, family: int, translation: Translation) -> list[str]:
    """The rules of one family as lines of ``iptables-restore`` (table nat)."""
    return _forwarding_rules(uuid, family, translation) + _masquerading_rules(uuid, family, translation)


def _forwarding_rules(uuid: str, family: int, translation: Translation) -> list[str]:
    """Packets to any address of the host go through the first chain; connections that the host makes to
    its own loopback address need the second, because their source is of no use inside the pod."""
    forwards = translation.forwards(family)
    if not forwards:
        return []
    destination, source, _ = chains(uuid)
    loopback, target = _LOOPBACK[family], translation.targets[family]
    lines = [
        f":{destination} - [0:0]",
        f":{source} - [0:0]",
        f"-I POSTROUTING 1 -s {loopback} ! -d {loopback} -j {source}",
    ]
    lines.extend(
        f"-I {hook} 1 -m addrtype --dst-type LOCAL -j {destination}" for hook in ("PREROUTING", "OUTPUT")
    )
    for port in forwards:
        address = _ANYWHERE[family] if port.is_for_any_address else port.host_ip
        dport = _span(port.host_port, port.count, ":")
        lines.append(
            f"-A {destination} -d {address} -p {port.protocol} --dport {dport}"
            f" -j DNAT --to-destination {_destination(target, port)}"
        )
        lines.append(
            f"-A {source} -p {port.protocol} -s {loopback} -d {target}"
            f" --dport {_span(port.pod_port, port.count, ':')} -j MASQUERADE"
        )
    return lines


def _masquerading_rules(uuid: str, family: int, translation: Translation) -> list[str]:
    sources = translation.sources(family)
    if not sources:
        return []
    chain = chains(uuid)[2]
    lines = [f":{chain} - [0:0]"]
    for address in sources:
        lines.append(f"-A POSTROUTING -s {address.ip} -j {chain}")
        lines.append(f"-A {chain} -s {address.ip} -d {address.network} -j RETURN")
    lines.append(f"-A {chain} ! -d {_MULTICAST[family]} -j MASQUERADE")
    return lines


def _span(first: int, count: int, separator: str) -> str:
    return str(first) if count == 1 else f"{first}{separator}{first + count - 1}"


def _destination(target: str, port: ForwardedPort) -> str:
    """The value of ``--to-destination``: a range that is shifted says where the original begins."""
    address = f"[{target}]" if ":" in target else target
    shifted = f"/{port.host_port}" if port.count > 1 else ""
    return f"{address}:{_span(port.pod_port, port.count, '-')}{shifted}"


def _table_name(uuid: str) -> str:
    return f"rkt-{uuid}"


def table(uuid: str, translation: Translation) -> str:
    """The same as a table for ``nft -f -``, priorities those of nftables' own names dstnat and srcnat."""
    forwards, post = [], []
    for family in (4, 6):
        ip, loopback = ("ip", "127.0.0.1") if family == 4 else ("ip6", "::1")
        for port in translation.forwards(family):
            target = translation.targets[family]
            address = "" if port.is_for_any_address else f" {ip} daddr {port.host_ip}"
            dport = f"{port.protocol} dport {_span(port.host_port, port.count, '-')}"
            forwards.append(f"meta nfproto ipv{family}{address} {dport} dnat {ip} to {_mapped(target, port)}")
            span = _span(port.pod_port, port.count, "-")
            post.append(f"{ip} saddr {loopback} {ip} daddr {target} {port.protocol} dport {span} masquerade")
        for source in translation.sources(family):
            others = f"{ip} daddr != {source.network} {ip} daddr != {_MULTICAST[family]}"
            post.append(f"{ip} saddr {source.ip} {others} masquerade")
    lines = [f"add table inet {_table_name(uuid)}", f"delete table inet {_table_name(uuid)}"]
    lines.append(f"table inet {_table_name(uuid)} {{")
    lines.extend(_chain("forwards", "", forwards))
    if forwards:
        for hook in ("prerouting", "output"):
            lines.extend(
                _chain(hook, f"type nat hook {hook} priority -100;", ["fib daddr type local jump forwards"])
            )
    lines.extend(_chain("postrouting", "type nat hook postrouting priority 100;", post))
    return "\n".join([*lines, "}", ""])


def _mapped(target: str, port: ForwardedPort) -> str:
    address = f"[{target}]" if ":" in target else target
    if port.count == 1:
        return f"{address}:{port.pod_port}"
    if port.pod_port == port.host_port:
        return target
    pairs = ", ".join(f"{number} : {number - port.host_port + port.pod_port}" for number in port.host_ports)
    return f"{address} : {port.protocol} dport map {{ {pairs} }}"


def _chain(name: str, hook: str, body: list[str]) -> list[str]:
    return [f" chain {name} {{", *(f"  {line}" for line in (hook, *body) if line), " }"]


def _remove(program: str, names: tuple[str, ...]) -> None:
    """Take away chains and every rule that leads to them, by one transaction."""
    listed = _list(program)
    present = [name for name in names if f"-N {name}" in listed]
    if not present:
        return
    jumps = tuple(f" -j {name}" for name in present)
    lines = ["-D" + line[2:] for line in listed if line.startswith("-A ") and line.endswith(jumps)]
    lines.extend(f"-F {name}" for name in present)
    lines.extend(f"-X {name}" for name in present)
    _restore(program, lines)


def _list(program: str) -> list[str]:
    return _run([program, "--wait", "-t", "nat", "-S"]).splitlines()


def _restore(program: str, lines: list[str]) -> None:
    _run([f"{program}-restore", "--wait", "--noflush"], "\n".join(["*nat", *lines, "COMMIT", ""]))


def _run(argv: list[str], text: str = "") -> str:
    program = _path(argv[0])
    if not program:
        raise RktError(
            f"cannot change the translation of addresses: {argv[0]} not found",
            hint="install the package " + ("nftables" if argv[0] == "nft" else "iptables"),
        )
    done = process.run([program, *argv[1:]], input=text.encode(), timeout=TIME_LIMIT)
    return done.stdout.decode(errors="replace")
