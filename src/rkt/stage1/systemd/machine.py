"""The pod as a machine of a host that systemd runs: who is there to be told of it, and its scope.

systemd-nspawn registers the pod with machined and has a scope made for it, which it is told to end before
systemd ends it.  It would wait 25 seconds for one of them that hangs; so they are asked before, through
busctl(1), and given some seconds for an answer.
"""

from __future__ import annotations

from rkt.errors import RktError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rkt.linux.devices import Rule

SLICE = "machine.slice"

# For the one that is asked, and for D-Bus itself.
_SECONDS = 4
_BUS_SECONDS = 5.0
_BUSCTL = "/usr/bin/busctl"
_MACHINED = (
    *("org.freedesktop.machine1", "/org/freedesktop/machine1"),
    *("org.freedesktop.machine1.Manager", "ListMachines"),
)
_SYSTEMD = (
    *("org.freedesktop.systemd1", "/org/freedesktop/systemd1"),
    *("org.freedesktop.DBus.Peer", "Ping"),
)
_KINDS = {"b": "block", "c": "char"}
_GROUPS = {136: "pts"}


class NoBus(RktError):
    """D-Bus does not answer, so nobody can be asked."""

    __slots__ = ()


def name(uuid: str) -> str:
    """What machined and the supervisor call the pod with this UUID."""
    return "rkt-" + uuid


def scope_name(machine: str) -> str:
    """The unit name of a machine's scope: dashes and the like escaped (systemd-escape(1))."""
    letters = []
    for letter in machine:
        if letter.isascii() and (letter.isalnum() or letter in ":_."):
            letters.append(letter)
        else:
            letters.append("".join(f"\\x{byte:02x}" for byte in letter.encode()))
    return f"machine-{''.join(letters)}.scope"


def obstacle(machine: str) -> str:
    """Why machined will not register a machine, "" when it will.

    RktError when it has one of that name, or there is nobody to ask.
    """
    try:
        listed = _call(*_MACHINED)
    except NoBus:
        raise
    except (RktError, OSError) as error:
        return one_line(error)
    if f'"{machine}"'.encode() in listed:
        raise RktError(
            f'machined has a machine "{machine}" already', hint=f"what it is: machinectl status {machine}"
        )
    return ""


def scope_obstacle() -> str:
    """Why systemd cannot be asked for a scope, "" when it can; NoBus when there is nobody to ask."""
    try:
        _call(*_SYSTEMD)
    except NoBus:
        raise
    except (RktError, OSError) as error:
        return one_line(error)
    return ""


def scope_options(machine: str, rules: Iterable[Rule]) -> list[str]:
    """Options of systemd-nspawn for the scope: its processes may use the devices of ``rules`` only."""
    properties = [f"Description=Pod {machine}", "CollectMode=inactive-or-failed", "DevicePolicy=strict"]
    properties += [f"DeviceAllow={device(rule)}" for rule in rules]
    return [f"--property={entry}" for entry in properties]


def device(rule: Rule) -> str:
    """A rule as DeviceAllow= has it (systemd.resource-control(5)): node and access."""
    kind = _KINDS[rule.kind]
    if rule.major is None:
        return f"{kind}-* {rule.access}"
    if rule.minor is None:
        return f"{kind}-{_GROUPS[rule.major]} {rule.access}"
    return f"/dev/{kind}/{rule.major}:{rule.minor} {rule.access}"


def _call(*words: str) -> bytes:
    from rkt.linux import process

    argv = [_BUSCTL, f"--timeout={_SECONDS}", "call", *words]
    try:
        done = process.run(argv, timeout=_BUS_SECONDS, check=False)
    except RktError as error:
        raise NoBus("D-Bus does not answer") from error
    if done.status:
        raise process.failure(done)
    return done.stdout
