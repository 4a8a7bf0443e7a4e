"""The address translation of a pod: forwarded ports, and masquerading of what leaves its networks.

With iptables, chains belong to a pod, named by the first eight digits of its UUID; the built-in chains get
jumps to them.  Each family's rules are put in place, and taken away, by one ``iptables-restore
--noflush``: the kernel has all of a table or none, and no rule of anybody else is touched.  A host without
iptables gets one nftables table of the pod's own by one ``nft -f -``.

A connection through a forwarded port keeps the client's address, with two exceptions.  One from the host's
loopback address, and one from a neighbour of the pod (itself, or another pod on its bridge), take the
host's: the answer would not come back through the host otherwise.  And where packets of the loopback address
may leave to the pod (``route_localnet``), the kernel would also let the pod's in: those are dropped.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import process
from rkt.network.forwarding import ForwardedPort

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rkt.network.result import Address

TIME_LIMIT = 30.0
IPTABLES = "iptables"
NFT = "nft"
_PROGRAMS = {4: "iptables", 6: "ip6tables"}
_MULTICAST = {4: "224.0.0.0/4", 6: "ff00::/8"}
_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_LOOPBACKS = "127.0.0.0/8"
_UNMARKED: Mapping[str, str] = {}


class Target:
    """Where ports lead to in one address family: the pod's address ``ip``.

    ``neighbours`` (an address or network) are those whom the pod would answer past the host, at least the
    pod itself; ``interface`` of the host leads to the pod and is given packets of the host's loopback
    address ("" where it is not).
    """

    __slots__ = ("interface", "ip", "neighbours")

    def __init__(self, ip: str, neighbours: str = "", interface: str = "") -> None:
        self.ip = ip
        self.neighbours = neighbours or ip
        self.interface = interface


class Translation:
    """What is to be translated for one pod.

    ``ports`` are forwarded to ``targets``, by family; packets from one of ``masqueraded`` (addresses of the
    pod with the networks they are in) to anywhere else take the host's.
    """

    __slots__ = ("masqueraded", "ports", "targets")

    def __init__(
        self, ports: list[ForwardedPort], targets: dict[int, Target], masqueraded: list[Address]
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

    @property
    def tables(self) -> list[str]:
        """The tables of iptables that get rules, as ``rkt.network.record`` keeps them."""
        return [*(["4 raw"] if self.opened else []), *(f"{family} nat" for family in self.families)]

    @property
    def opened(self) -> str:
        """The interface behind which the host's loopback addresses must not be reached, "" if none."""
        return self.targets[4].interface if self.forwards(4) else ""


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


def apply(kind: str, uuid: str, translation: Translation, mark: Mapping[str, str]) -> None:
    """Put the rules in place; the caller is in the host's namespace.

    ``mark`` goes into the environment of the programs: by it those are found that outlive their caller.
    """
    if kind == NFT:
        _run(["nft", "-f", "-"], table(uuid, translation), mark)
        return
    for family in translation.families:
        tables = {"nat": rules(uuid, family, translation)}
        if family == 4 and translation.opened:
            tables = {"raw": guard(uuid, translation.opened), **tables}
        _restore(_PROGRAMS[family], tables, mark)


def remove(kind: str, uuid: str, tables: list[str]) -> None:
    """Take away all rules of a pod from these tables; nothing to do is no error."""
    if kind == NFT:
        # Adding the table first makes its deletion succeed whether it is there or not.
        name = _table_name(uuid)
        _run(["nft", "-f", "-"], f"add table inet {name}\ndelete table inet {name}\n")
        return
    for family, program in _PROGRAMS.items():
        names = [name for number, name in map(str.split, tables) if number == str(family)]
        if names and (family == 4 or is_installed(f"{program}-restore")):
            _remove(program, dict.fromkeys(names, chains(uuid)))


def exists(uuid: str) -> bool:
    """Whether a pod has chains of its own; without iptables on the machine it has none."""
    if not is_installed("iptables"):
        return False
    listed = _list("iptables", "nat")
    return any(f"-N {chain}" in listed for chain in chains(uuid))


def is_in_place(kind: str, uuid: str) -> bool:
    """Whether the rules of a pod are all reached and none of their chains is empty."""
    if kind == NFT:
        return _is_table_in_place(_table_name(uuid))
    found = False
    for program, tables in (("iptables", ("raw", "nat")), ("ip6tables", ("nat",))):
        for table in tables if is_installed(program) else ():
            listed = _list(program, table)
            for chain in chains(uuid):
                if f"-N {chain}" in listed:
                    found = True
                    has_rules = any(line.startswith(f"-A {chain} ") for line in listed)
                    if not has_rules or not any(line.endswith(f" -j {chain}") for line in listed):
                        return False
    return found


def _is_table_in_place(name: str) -> bool:
    if f"table inet {name}\n" not in _run(["nft", "list", "tables"]):
        return False
    chains = _run(["nft", "list", "table", "inet", name]).split("chain ")[1:]
    bodies = [[line.strip() for line in chain.splitlines()[1:]] for chain in chains]
    rules = [[line for line in body if line.strip("}") and not line.startswith("type ")] for body in bodies]
    return bool(rules) and all(rules)


def remove_masquerading(uuid: str) -> None:
    """Take away what CNI plugins put into the nat tables for a pod whose namespace is gone.

    ``ptp`` and ``bridge`` find the rules of a pod by the addresses in its namespace, so that without it
    their DEL leaves them behind.  Each carries the container id in a comment: ``name: "N" id: "ID"``.
    """
    mark = f' id: \\"{uuid}\\""'
    for program in _PROGRAMS.values():
        if not is_installed(program):
            continue
        own = [line for line in _list(program, "nat") if line.startswith("-A ") and mark in line]
        names = {line.split(" -j ", 1)[1].split()[0] for line in own if " -j CNI-" in line}
        _remove(program, {"nat": tuple(names)})


def chains(uuid: str) -> tuple[str, str, str, str]:
    """The names of a pod's chains: for destinations, for sources, for masquerading and (table raw) for what
    the pod must not reach."""
    return (
        f"RKT-PFWD-DNAT-{uuid[:8]}",
        f"RKT-PFWD-SNAT-{uuid[:8]}",
        f"RKT-MASQ-{uuid[:8]}",
        f"RKT-PFWD-RAW-{uuid[:8]}",
    )


def guard(uuid: str, interface: str) -> list[str]:
    """The rules of table raw: nothing behind the interface reaches the host's loopback addresses.

    Answers to what left from there are addressed to the interface's own address at this point.
    """
    chain = chains(uuid)[3]
    return [
        f":{chain} - [0:0]",
        f"-I PREROUTING 1 -i {interface} -d {_LOOPBACKS} -j {chain}",
        f"-A {chain} -j DROP",
    ]


def rules(uuid: str, family: int, translation: Translation) -> list[str]:
    """The rules of one family as lines of ``iptables-restore`` (table nat)."""
    return _forwarding_rules(uuid, family, translation) + _masquerading_rules(uuid, family, translation)


def _forwarding_rules(uuid: str, family: int, translation: Translation) -> list[str]:
    """Packets to any address of the host go through the first chain, connections whose source must be
    changed as well through the second."""
    forwards = translation.forwards(family)
    if not forwards:
        return []
    destination, source, _, _ = chains(uuid)
    target = translation.targets[family]
    lines = [f":{destination} - [0:0]", f":{source} - [0:0]"]
    sources = [target.neighbours]
    output = f"OUTPUT 1 ! -d {_LOOPBACK[family]}"
    if family == 4:
        # IPv6 routes nothing from its loopback address: there a connection is refused, not swallowed.
        sources.append(_LOOPBACK[family])
        output = "OUTPUT 1"
        lines.append(f"-I POSTROUTING 1 -s {_LOOPBACK[family]} ! -d {_LOOPBACK[family]} -j {source}")
    lines.append(
        f"-I POSTROUTING 1 -s {target.neighbours} -d {target.ip} -m conntrack --ctstate DNAT -j {source}"
    )
    for hook in ("PREROUTING 1", output):
        lines.append(f"-I {hook} -m addrtype --dst-type LOCAL -j {destination}")
    for port in forwards:
        address = _ANYWHERE[family] if port.is_for_any_address else port.host_ip
        dport = _span(port.host_port, port.count, ":")
        lines.append(
            f"-A {destination} -d {address} -p {port.protocol} --dport {dport}"
            f" -j DNAT --to-destination {_destination(target.ip, port)}"
        )
        dport = _span(port.pod_port, port.count, ":")
        lines.extend(
            f"-A {source} -p {port.protocol} -s {address} -d {target.ip} --dport {dport} -j MASQUERADE"
            for address in reversed(sources)
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
    """The same as a table for ``nft -f -``, with the priorities nftables calls raw, dstnat and srcnat."""
    forwards: list[str] = []
    post: list[str] = []
    for family in (4, 6):
        ip = "ip" if family == 4 else "ip6"
        for port in translation.forwards(family):
            target = translation.targets[family]
            address = "" if port.is_for_any_address else f" {ip} daddr {port.host_ip}"
            dport = f"{port.protocol} dport {_span(port.host_port, port.count, '-')}"
            mapped = _mapped(target.ip, port)
            forwards.append(f"meta nfproto ipv{family}{address} {dport} dnat {ip} to {mapped}")
            dport = f"{port.protocol} dport {_span(port.pod_port, port.count, '-')}"
            sources = [target.neighbours, *([_LOOPBACK[family]] if family == 4 else [])]
            post.extend(
                f"ct status dnat {ip} saddr {source} {ip} daddr {target.ip} {dport} masquerade"
                for source in sources
            )
        for source in translation.sources(family):
            others = f"{ip} daddr != {source.network} {ip} daddr != {_MULTICAST[family]}"
            post.append(f"{ip} saddr {source.ip} {others} masquerade")
    lines = [f"add table inet {_table_name(uuid)}", f"delete table inet {_table_name(uuid)}"]
    lines.append(f"table inet {_table_name(uuid)} {{")
    if translation.opened:
        drop = f'iifname "{translation.opened}" ip daddr {_LOOPBACKS} drop'
        lines.extend(_chain("guard", "type filter hook prerouting priority -300;", [drop]))
    if forwards:
        lines.extend(_chain("forwards", "", forwards))
        for hook, guards in (("prerouting", [""]), ("output", ["meta nfproto ipv4 ", "ip6 daddr != ::1 "])):
            jumps = [f"{guard}fib daddr type local jump forwards" for guard in guards]
            lines.extend(_chain(hook, f"type nat hook {hook} priority -100;", jumps))
    if post:
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


def _remove(program: str, names: dict[str, tuple[str, ...]]) -> None:
    """Take away chains (by table) and every rule that leads to them, by one transaction a table.

    Rules are listed first, and each is taken away by what it says.  Where somebody else changes the tables
    meanwhile, a rule may be gone by then, or have been listed twice (iptables 1.8.9, when its dump is
    interrupted): the transaction fails as a whole, and all begins anew.  What fails twice for the same rules
    has another reason.
    """
    failed: dict[str, list[str]] = {}
    while tables := _removal(program, names):
        try:
            _restore(program, tables)
        except RktError:
            if tables == failed:
                raise
            failed = tables
        else:
            return


def _removal(program: str, names: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """The lines that take away what is there of these chains, by table."""
    tables = {}
    for table, own in names.items():
        listed = _list(program, table)
        present = [name for name in own if f"-N {name}" in listed]
        if not present:
            continue
        jumps = tuple(f" -j {name}" for name in present)
        lines = ["-D" + line[2:] for line in listed if line.startswith("-A ") and line.endswith(jumps)]
        lines.extend(f"-F {name}" for name in present)
        lines.extend(f"-X {name}" for name in present)
        tables[table] = lines
    return tables


def _list(program: str, table: str) -> list[str]:
    return _run([program, "--wait", "-t", table, "-S"]).splitlines()


def _restore(program: str, tables: dict[str, list[str]], mark: Mapping[str, str] = _UNMARKED) -> None:
    """Rules by table, in one call."""
    lines = [line for table, rules in tables.items() for line in (f"*{table}", *rules, "COMMIT")]
    _run([f"{program}-restore", "--wait", "--noflush"], "\n".join([*lines, ""]), mark)


def _run(argv: list[str], text: str = "", mark: Mapping[str, str] = _UNMARKED) -> str:
    program = _path(argv[0])
    if not program:
        raise RktError(
            f"cannot change the translation of addresses: {argv[0]} not found",
            hint="install the package " + ("nftables" if argv[0] == "nft" else "iptables"),
        )
    environment = {**process.CLEAN_ENVIRONMENT, **mark}
    done = process.run([program, *argv[1:]], env=environment, input=text.encode(), timeout=TIME_LIMIT)
    return done.stdout.decode(errors="replace")
