"""Isolators: what an app or a pod may use and do (specification, "Isolators")."""

from __future__ import annotations

from rkt.appc import isolator_values as values
from rkt.appc.decode import encoded, items, plain, record, under
from rkt.appc.errors import AppcError
from rkt.appc.flags import parse_integer, parse_unsigned
from rkt.appc.identifiers import check_identifier, decode_identifier
from rkt.appc.isolator_values import AppArmorProfile, CapabilitySet, Resource, SeccompSet, SELinuxContext
from rkt.appc.quantity import Quantity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from rkt.appc.decode import Members

CAPABILITIES_RETAIN = "os/linux/capabilities-retain-set"
CAPABILITIES_REMOVE = "os/linux/capabilities-remove-set"
SECCOMP_RETAIN = "os/linux/seccomp-retain-set"
SECCOMP_REMOVE = "os/linux/seccomp-remove-set"
SELINUX_CONTEXT = "os/linux/selinux-context"
APPARMOR_PROFILE = "os/linux/apparmor-profile"
NO_NEW_PRIVILEGES = "os/linux/no-new-privileges"
OOM_SCORE_ADJ = "os/linux/oom-score-adj"
CPU_SHARES = "os/linux/cpu-shares"
SYSCTL = "os/unix/sysctl"
CPU = "resource/cpu"
MEMORY = "resource/memory"
BLOCK_BANDWIDTH = "resource/block-bandwidth"
BLOCK_IOPS = "resource/block-iops"
NETWORK_BANDWIDTH = "resource/network-bandwidth"

# What an app may hold when it has no capability isolator.
DEFAULT_CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETFCAP",
    "CAP_SYS_CHROOT",
)

_DECODERS: dict[str, Callable[[Any], Any]] = {
    CAPABILITIES_RETAIN: CapabilitySet.from_value,
    CAPABILITIES_REMOVE: CapabilitySet.from_value,
    SECCOMP_RETAIN: SeccompSet.from_value,
    SECCOMP_REMOVE: SeccompSet.from_value,
    SELINUX_CONTEXT: SELinuxContext.from_value,
    APPARMOR_PROFILE: AppArmorProfile.from_value,
    NO_NEW_PRIVILEGES: values.no_new_privileges,
    OOM_SCORE_ADJ: values.oom_score_adj,
    CPU_SHARES: values.cpu_shares,
    SYSCTL: values.sysctl,
    CPU: Resource.own,
    MEMORY: Resource.own,
    BLOCK_BANDWIDTH: Resource.shared,
    BLOCK_IOPS: Resource.shared,
    NETWORK_BANDWIDTH: Resource.shared,
}
_ONCE = frozenset(
    (
        SECCOMP_RETAIN,
        SECCOMP_REMOVE,
        SELINUX_CONTEXT,
        APPARMOR_PROFILE,
        OOM_SCORE_ADJ,
        CPU_SHARES,
        SYSCTL,
    )
)
_CONFLICTS = {SECCOMP_RETAIN: SECCOMP_REMOVE, SECCOMP_REMOVE: SECCOMP_RETAIN}


class Isolator:
    """One isolator.

    ``raw`` is its value as parsed JSON, printed again as it came; ``value`` is the value as a type of
    ``isolator_values`` (bool, int and dict for the simple ones), None if the name is not known.
    """

    __slots__ = ("name", "raw", "value")

    def __init__(self, name: str = "", raw: Any = None) -> None:
        """``raw`` is a JSON value; for a known name it is checked."""
        self.name = name
        self.raw = raw
        self.value: Any = None
        if name:
            self._interpret()

    def __repr__(self) -> str:
        return f"Isolator({self.name!r}, {plain(self.raw)!r})"

    def _interpret(self) -> None:
        decoder = _DECODERS.get(self.name)
        if decoder is None:
            return
        if self.raw is None:
            # the reference crashes on a known isolator without a value
            raise AppcError(f'isolator "{self.name}" has no value', "value")
        self.value = under("value", lambda: decoder(self.raw))

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> Isolator:
        return record(cls(), _MEMBERS, value, path, check=cls._interpret)

    def to_value(self) -> dict[str, Any]:
        return {"name": under("name", lambda: check_identifier(self.name)), "value": self.raw}


def _as_it_is(value: Any) -> Any:
    return value


_MEMBERS: Members = {"name": ("name", decode_identifier), "value": ("raw", _as_it_is)}
decode = items(Isolator.from_value)


def decode_of_app(value: Any) -> list[Isolator]:
    """The isolators of an app from parsed JSON: all known, and none that contradict each other."""
    isolators = decode(value)
    check(isolators)
    return isolators


def encode(isolators: list[Isolator]) -> list[Any] | None:
    """The JSON value of a list of isolators."""
    return encoded(isolators)


def check(isolators: Iterable[Isolator]) -> None:
    """The rules for the list of an app; lists of pods are not checked."""
    seen = set()
    for isolator in isolators:
        name = isolator.name
        if isolator.value is None:
            raise AppcError(f'invalid isolator "{name}"')
        if name in seen and name in _ONCE:
            raise AppcError(f'isolators set contains too many instances of type "{name}"')
        if _CONFLICTS.get(name) in seen:
            raise AppcError(f'isolators set contains incompatible types "{name}" and "{_CONFLICTS[name]}"')
        seen.add(name)


def get(isolators: list[Isolator], name: str) -> Isolator | None:
    """The last isolator called ``name``."""
    for isolator in reversed(isolators):
        if isolator.name == name:
            return isolator
    return None


def unrecognized(isolators: Iterable[Isolator]) -> list[Isolator]:
    """Those whose name is not known."""
    return [isolator for isolator in isolators if isolator.value is None]


def capabilities_from_flag(text: str, *, retain: bool) -> Isolator:
    """``CAP_A,CAP_B`` of ``--caps-retain`` and ``--caps-remove``."""
    names = [word for word in text.split(",") if word]
    return Isolator(CAPABILITIES_RETAIN if retain else CAPABILITIES_REMOVE, {"set": names})


def seccomp_from_flag(text: str) -> Isolator:
    """``mode=retain|remove[,errno=ENAME],CALL,...`` of ``--seccomp``."""
    mode = errno = ""
    calls = []
    for word in text.split(","):
        key, equals, value = word.partition("=")
        if not equals:
            calls.append(word)
        elif key == "mode" and not mode:
            mode = value
        elif key == "errno" and not errno:
            errno = value
        else:
            raise AppcError(f'unknown or repeated seccomp parameter "{key}"')
    if mode not in ("retain", "remove"):
        raise AppcError(f'seccomp mode must be "retain" or "remove", not "{mode}"')
    name = SECCOMP_RETAIN if mode == "retain" else SECCOMP_REMOVE
    return Isolator(name, {"set": [call for call in calls if call], "errno": errno})


def memory_from_flag(text: str) -> Isolator:
    """The limit of ``--memory``, which is also the request."""
    return _bounded(MEMORY, text)


def cpu_from_flag(text: str) -> Isolator:
    """The limit of ``--cpu`` in cores, which is also the request."""
    return _bounded(CPU, text)


def _bounded(name: str, text: str) -> Isolator:
    amount = str(Quantity.parse(text))
    return Isolator(name, {"default": False, "request": amount, "limit": amount})


def cpu_shares_from_flag(text: str) -> Isolator:
    """The weight of ``--cpu-shares``."""
    return Isolator(CPU_SHARES, parse_unsigned(text, 32))


def oom_score_adj_from_flag(text: str) -> Isolator:
    """The value of ``--oom-score-adj``."""
    return Isolator(OOM_SCORE_ADJ, parse_integer(text))
