"""Limits as values of control files: of an app's control group, and of the one around a whole pod."""

from __future__ import annotations

from rkt.appc import isolators
from rkt.linux import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.limits import Limits
    from rkt.linux.cgroup import Hierarchy

_PERIOD = 100_000  # microseconds: the kernel's default
_LONG_PERIOD = 1_000_000
_WEIGHTS = (1, 10_000)

CONTROLLERS = {
    isolators.MEMORY: "memory",
    isolators.CPU: "cpu",
    isolators.CPU_SHARES: "cpu",
    isolators.BLOCK_BANDWIDTH: "io",
    isolators.BLOCK_IOPS: "io",
}
"""The controller of version 2 that enforces an isolator; in version 1 ``io`` is ``blkio``."""

LEGACY = {"io": "blkio"}
"""Controllers that had another name in version 1."""


def hierarchy_of(controller: str, mounted: list[Hierarchy]) -> Hierarchy | None:
    """The hierarchy of a controller of ``CONTROLLERS``, whichever version has it on this host."""
    legacy = LEGACY.get(controller)
    found = cgroup.hierarchy_of(legacy, mounted) if legacy else None
    return found if found is not None else cgroup.hierarchy_of(controller, mounted)


def weight(shares: int) -> int:
    """Shares of version 1 as a weight of version 2: 1024 are 100, as systemd and the kernel convert them."""
    return min(max(shares * 100 // 1024, _WEIGHTS[0]), _WEIGHTS[1])


def wanted(limits: Limits) -> dict[str, str]:
    """The isolators among ``CONTROLLERS`` that ask for something, and their controllers."""
    values = {
        isolators.MEMORY: limits.memory,
        isolators.CPU: limits.cpu,
        isolators.CPU_SHARES: limits.cpu_shares,
        isolators.BLOCK_BANDWIDTH: limits.block_bandwidth,
        isolators.BLOCK_IOPS: limits.block_iops,
    }
    return {name: CONTROLLERS[name] for name, value in values.items() if value is not None}


def settings(
    limits: Limits, controller: str, disks: list[tuple[int, int]], *, unified: bool
) -> list[tuple[str, str]]:
    """Control files of a controller and what is to be written to them, in this order."""
    if controller == "memory":
        return _memory(limits, unified=unified)
    if controller == "cpu":
        return _cpu(limits, unified=unified)
    return _block(limits, disks, unified=unified)


def _memory(limits: Limits, *, unified: bool) -> list[tuple[str, str]]:
    if limits.memory is None:
        return []
    return [("memory.max" if unified else "memory.limit_in_bytes", str(limits.memory))]


def _cpu(limits: Limits, *, unified: bool) -> list[tuple[str, str]]:
    found = []
    if limits.cpu is not None:
        # The least quota is a millisecond: small shares need a longer period.
        period = _PERIOD if limits.cpu >= 10 else _LONG_PERIOD
        quota = limits.cpu * period // 1000
        if unified:
            found.append(("cpu.max", f"{quota} {period}"))
        else:
            found += [("cpu.cfs_period_us", str(period)), ("cpu.cfs_quota_us", str(quota))]
    if limits.cpu_shares is not None:
        shares = limits.cpu_shares
        found.append(("cpu.weight", str(weight(shares))) if unified else ("cpu.shares", str(shares)))
    return found


def _block(limits: Limits, disks: list[tuple[int, int]], *, unified: bool) -> list[tuple[str, str]]:
    found = []
    for major, minor in disks:
        if unified:
            words = []
            if limits.block_bandwidth is not None:
                words += [f"rbps={limits.block_bandwidth}", f"wbps={limits.block_bandwidth}"]
            if limits.block_iops is not None:
                words += [f"riops={limits.block_iops}", f"wiops={limits.block_iops}"]
            if words:
                found.append(("io.max", f"{major}:{minor} {' '.join(words)}"))
            continue
        for value, unit in ((limits.block_bandwidth, "bps"), (limits.block_iops, "iops")):
            if value is not None:
                found += [
                    (f"blkio.throttle.{way}_{unit}_device", f"{major}:{minor} {value}")
                    for way in ("read", "write")
                ]
    return found
