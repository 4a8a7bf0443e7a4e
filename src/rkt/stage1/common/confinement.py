"""What an app may do, from its isolators: capabilities, system calls, paths, resources.

Rules: appc specification ("isolators") and facts of rkt 1.30.  The outcome is plain data; systemd, fly and
``enter`` bring it into force, each in its own way.
"""

from __future__ import annotations

from rkt.appc import isolators
from rkt.errors import RktError
from rkt.linux import capabilities, seccomp
from rkt.stage1.common import system_calls as lists

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.app import App

READ_ONLY_PATHS = (
    "/proc/bus",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sysrq-trigger",
    "/sys/block",
    "/sys/bus",
    "/sys/class",
    "/sys/dev",
    "/sys/devices",
    "/sys/kernel",
)
"""Read-only for every app, unless path protection is off."""

_CLASSIC = "clone3 nice readdir sigaction signal sigpending sigprocmask sigsuspend".split()

HIDDEN_PATHS = (
    "/sys/firmware",
    "/sys/fs",
    "/sys/hypervisor",
    "/sys/module",
    "/sys/power",
    "/proc/config.gz",
    "/proc/kallsyms",
    "/proc/sched_debug",
    "/proc/kcore",
    "/proc/kmem",
    "/proc/mem",
)
"""Not accessible at all."""


class SystemCalls:
    """The calls an app is limited to (``allow``) or kept from; ``errno`` "" means SIGSYS.

    ``default`` marks rkt's own list, in force when nothing is said.
    """

    __slots__ = ("allow", "default", "errno", "names")

    def __init__(self, names: frozenset[str], *, allow: bool, errno: str = "", default: bool = False) -> None:
        self.names, self.allow, self.errno, self.default = names, allow, errno, default

    def refused(self) -> frozenset[str]:
        """The refused calls among those known for this machine."""
        if not self.allow:
            return self.names
        known = (name for table in seccomp.architectures() for name in seccomp.table(table))
        return frozenset(known) - self.names - frozenset(seccomp.ESSENTIAL)

    def program(self) -> bytes:
        """The filter as BPF, as strong as the one systemd makes of ``SystemCallFilter=``."""
        action = seccomp.KILL_PROCESS
        if self.errno:
            import errno

            action = seccomp.refuse(getattr(errno, self.errno))
        if self.allow and not self.default:
            names = self.names | frozenset(seccomp.ESSENTIAL)
            return seccomp.compile_filter(names, allow=True, action=action)
        return seccomp.compile_filter(self.refused(), allow=False, action=action)


def capability_set(app: App) -> list[str]:
    """The names of the capabilities the app's processes can have at most, in the kernel's order.

    RktError for a name the kernel does not know.
    """
    retain = isolators.get(app.isolators, isolators.CAPABILITIES_RETAIN)
    remove = isolators.get(app.isolators, isolators.CAPABILITIES_REMOVE)
    if retain is not None and remove is not None:
        raise RktError("the app has both a retain set and a remove set of capabilities")
    names = set(isolators.DEFAULT_CAPABILITIES)
    if retain is not None:
        names = {_capability(name) for name in retain.value.set}
    elif remove is not None:
        names -= {_capability(name) for name in remove.value.set}
    return sorted(names, key=capabilities.NUMBERS.__getitem__)


def _capability(name: str) -> str:
    if name not in capabilities.NUMBERS:
        raise RktError(f'unknown capability "{name}"')
    return name


def system_calls(app: App) -> SystemCalls | None:
    """The app's system call filter; None when an isolator switches filtering off.

    RktError for an unknown name; unknown wildcards are passed over, as rkt does.
    """
    retain = isolators.get(app.isolators, isolators.SECCOMP_RETAIN)
    remove = isolators.get(app.isolators, isolators.SECCOMP_REMOVE)
    if retain is not None and remove is not None:
        raise RktError("too many seccomp isolators")
    isolator = retain if retain is not None else remove
    if isolator is None:
        return _default()
    words, errno = isolator.value.set, isolator.value.errno
    if retain is not None and "@appc.io/all" in words:
        return None
    if retain is None and "@appc.io/empty" in words:
        return _default()
    _check_errno(errno)
    names: set[str] = set()
    for word in words:
        names |= _wildcard(word) if word.startswith("@") else {_known(word)}
    return SystemCalls(frozenset(names), allow=retain is not None, errno=errno)


def _default() -> SystemCalls:
    return SystemCalls(default_names(), allow=True, default=True)


def default_names() -> frozenset[str]:
    """The calls an app may use when nothing is said.

    Besides rkt's list and what has appeared since: ``clone3``, which without a filter for arguments is as
    ``clone``, and calls of 32-bit programs that are older forms of listed ones.
    """
    return frozenset((*lists.DEFAULT.split(), *lists.YOUNGER.split(), *_CLASSIC))


def _wildcard(word: str) -> set[str]:
    if word in ("@docker/default-whitelist", "@rkt/default-whitelist"):
        return set(default_names())
    if word in ("@docker/default-blacklist", "@rkt/default-blacklist"):
        return set(lists.PRIVILEGED.split())
    if word.startswith("@systemd/"):
        return set(lists.SYSTEMD.get(word[len("@systemd/") :], "").split())
    return set()


def _known(name: str) -> str:
    known = name in lists.DEFAULT.split() or name in lists.PRIVILEGED.split()
    if not known and not seccomp.is_known(name):
        raise RktError(f'unknown system call "{name}"')
    return name


def _check_errno(name: str) -> None:
    import errno

    if name and not hasattr(errno, name):
        raise RktError(f'unknown error name "{name}" in a seccomp isolator')


def no_new_privileges(app: App) -> bool:
    """Whether the app asked for no_new_privs."""
    isolator = isolators.get(app.isolators, isolators.NO_NEW_PRIVILEGES)
    return isolator is not None and isolator.value is True


class Resources:
    """Limits of an app, None where there is none.

    ``memory`` in bytes, ``cpu_milli`` in thousandths of a core, ``cpu_shares`` 2 to 262144.
    """

    __slots__ = ("cpu_milli", "cpu_shares", "memory", "oom_score_adj")

    def __init__(self, app: App) -> None:
        memory = isolators.get(app.isolators, isolators.MEMORY)
        cpu = isolators.get(app.isolators, isolators.CPU)
        shares = isolators.get(app.isolators, isolators.CPU_SHARES)
        adjust = isolators.get(app.isolators, isolators.OOM_SCORE_ADJ)
        limit = None if memory is None else memory.value.limit
        cores = None if cpu is None else cpu.value.limit
        self.memory: int | None = None if limit is None else limit.value()
        self.cpu_milli: int | None = None if cores is None else cores.milli_value()
        self.cpu_shares: int | None = None if shares is None else shares.value
        self.oom_score_adj: int | None = None if adjust is None else adjust.value
