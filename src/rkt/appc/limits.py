"""What the resource isolators of an app or a pod ask for, in numbers that a kernel can be given."""

from __future__ import annotations

from rkt.appc import isolators as names
from rkt.appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.isolators import Isolator
    from rkt.appc.quantity import Quantity

_MEMORY_LEAST = 4096
_MOST = (1 << 63) - 1


class Limits:
    """None where nothing is asked for.

    ``memory`` in bytes, ``cpu`` in thousandths of a processor, ``cpu_shares`` 2 to 262144, ``oom_score_adj``
    -1000 to 1000; ``block_bandwidth`` and ``network_bandwidth`` in bytes, ``block_iops`` in operations, a
    second.  ``unlimited`` are resource isolators without a limit, ``reserving`` those whose request is
    not their limit: isolator names.
    """

    __slots__ = (
        "block_bandwidth",
        "block_iops",
        "cpu",
        "cpu_shares",
        "memory",
        "network_bandwidth",
        "oom_score_adj",
        "reserving",
        "unlimited",
    )

    def __init__(self) -> None:
        self.memory: int | None = None
        self.cpu: int | None = None
        self.cpu_shares: int | None = None
        self.oom_score_adj: int | None = None
        self.block_bandwidth: int | None = None
        self.block_iops: int | None = None
        self.network_bandwidth: int | None = None
        self.unlimited: set[str] = set()
        self.reserving: set[str] = set()

    @classmethod
    def of(cls, found: list[Isolator]) -> Limits:
        """The last isolator of each name counts.  AppcError for a limit that no machine could keep."""
        limits = cls()
        for isolator in found:
            value = isolator.value
            if isolator.name == names.CPU_SHARES:
                limits.cpu_shares = value
            elif isolator.name == names.OOM_SCORE_ADJ:
                limits.oom_score_adj = value
            elif isolator.name in _RESOURCES:
                attribute, unit, least = _RESOURCES[isolator.name]
                limits.unlimited.discard(isolator.name)
                limits.reserving.discard(isolator.name)
                if value.request is not None and value.request != value.limit:
                    limits.reserving.add(isolator.name)
                if value.limit is None:
                    limits.unlimited.add(isolator.name)
                    setattr(limits, attribute, None)
                else:
                    setattr(limits, attribute, _number(isolator.name, value.limit, unit, least))
        return limits

    def within(self, other: Limits) -> Limits:
        """The limits that hold where both do."""
        made = Limits()
        for attribute, _, _ in _RESOURCES.values():
            given = [value for value in (getattr(self, attribute), getattr(other, attribute)) if value]
            setattr(made, attribute, min(given, default=None))
        made.cpu_shares, made.oom_score_adj = self.cpu_shares, self.oom_score_adj
        return made


_RESOURCES = {
    names.MEMORY: ("memory", "bytes", _MEMORY_LEAST),
    names.CPU: ("cpu", "thousandths of a processor", 1),
    names.BLOCK_BANDWIDTH: ("block_bandwidth", "bytes a second", 1),
    names.BLOCK_IOPS: ("block_iops", "operations a second", 1),
    names.NETWORK_BANDWIDTH: ("network_bandwidth", "bytes a second", 1),
}


def _number(name: str, limit: Quantity, unit: str, least: int) -> int:
    number: int = limit.milli_value() if name == names.CPU else limit.value()
    if number < least:
        raise AppcError(f"isolator {name}: a limit of {limit} is too low, it must be {least} or more {unit}")
    if number > _MOST:
        raise AppcError(f"isolator {name}: a limit of {limit} is too high, it must be {_MOST} {unit} or less")
    return number
