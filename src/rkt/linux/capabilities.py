"""Capabilities (capabilities(7)): numbers, and giving them up.

Sets are sets of numbers; ``NUMBERS`` has the names.  Every function acts on the calling thread.
"""

from __future__ import annotations

from rkt.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
    "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
    "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
    "PERFMON BPF CHECKPOINT_RESTORE"
).split()

NUMBERS: dict[str, int] = {"CAP_" + name: number for number, name in enumerate(_NAMES)}
"""The number of each capability by its full name, ``CAP_CHOWN`` is 0."""

_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_KEEPCAPS = 8
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522
_EINVAL_PROBE = 63


def last_capability() -> int:
    """The highest capability number this kernel knows."""
    try:
        with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
            return int(file.read())
    except OSError:
        number = _EINVAL_PROBE
        while libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) < 0:
            number -= 1
        return number


def drop_bounding(keep: Iterable[int]) -> None:
    """Drop everything but ``keep`` from the bounding set, capabilities without a name here included.

    Nothing executed from now on can gain what was dropped, by setuid or file capabilities.
    """
    kept = frozenset(keep)
    for number in range(last_capability() + 1):
        if number not in kept and libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
            libc.check(libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), f"drop capability {number}")


def bounding() -> frozenset[int]:
    """The bounding set."""
    numbers = range(last_capability() + 1)
    return frozenset(number for number in numbers if libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1)


def set_capabilities(effective: Iterable[int], permitted: Iterable[int], inheritable: Iterable[int]) -> None:
    """capset(2) of this thread."""
    masks = [_mask(numbers) for numbers in (effective, permitted, inheritable)]
    low, high = ([mask >> shift & 0xFFFFFFFF for mask in masks] for shift in (0, 32))
    header = libc.CapabilityHeader(_VERSION_3, 0)
    data = (libc.CapabilityData * 2)(libc.CapabilityData(*low), libc.CapabilityData(*high))
    libc.check(libc.capset(libc.byref(header), libc.byref(data)), "capset")


def get_capabilities() -> tuple[frozenset[int], frozenset[int], frozenset[int]]:
    """The effective, permitted and inheritable set of this thread."""
    header = libc.CapabilityHeader(_VERSION_3, 0)
    data = (libc.CapabilityData * 2)()
    libc.check(libc.capget(libc.byref(header), libc.byref(data)), "capget")
    low, high = data[0], data[1]
    return (
        _numbers(low.effective | high.effective << 32),
        _numbers(low.permitted | high.permitted << 32),
        _numbers(low.inheritable | high.inheritable << 32),
    )


def _mask(numbers: Iterable[int]) -> int:
    mask = 0
    for number in numbers:
        mask |= 1 << number
    return mask


def _numbers(mask: int) -> frozenset[int]:
    return frozenset(number for number in range(64) if mask >> number & 1)


def raise_ambient(numbers: Iterable[int]) -> None:
    """Add to the ambient set what a program without file capabilities shall keep over exec.

    Each must be permitted and inheritable already.
    """
    for number in numbers:
        libc.check(
            libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0), f"raise capability {number}"
        )


def clear_ambient() -> None:
    """Empty the ambient set."""
    libc.check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "clear ambient capabilities")


def set_keep_capabilities(keep: bool) -> None:
    """Whether the permitted set survives the change from uid 0 to another; reset by exec."""
    libc.check(libc.prctl(_PR_SET_KEEPCAPS, int(keep), 0, 0, 0), "prctl")


def set_securebits(bits: int) -> None:
    """PR_SET_SECUREBITS."""
    libc.check(libc.prctl(_PR_SET_SECUREBITS, bits, 0, 0, 0), "set securebits")


def set_no_new_privileges() -> None:
    """Neither setuid nor file capabilities have effect from now on, for all descendants."""
    libc.check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "set no_new_privs")
