"""What an app may do, from its isolators: capabilities and paths (system calls: ``call_filter``).

Rules: appc specification ("isolators") and facts of rkt 1.30.  The outcome is plain data; systemd, fly and
``enter`` bring it into force, each in its own way.
"""

from __future__ import annotations

from rkt.appc import isolators
from rkt.errors import RktError
from rkt.linux import capabilities

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
    "/proc/keys",
    "/proc/kmem",
    "/proc/mem",
)
"""Not accessible at all."""


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


def no_new_privileges(app: App) -> bool:
    """Whether the app asked for no_new_privs."""
    isolator = isolators.get(app.isolators, isolators.NO_NEW_PRIVILEGES)
    return isolator is not None and isolator.value is True
