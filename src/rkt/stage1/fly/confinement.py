"""What confines an app without systemd's help: capabilities, seccomp, no_new_privs.

``plan`` turns isolators into plain data (facts of rkt 1.30, "Sandboxing"); ``Confinement`` hands it to the
kernel just before the app is executed.  ``enter`` does the same.
"""

from __future__ import annotations

import errno
import os

from rkt.appc import isolators
from rkt.errors import RktError
from rkt.linux import capabilities, seccomp
from rkt.stage1.common import system_calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rkt.appc.app import App
    from rkt.appc.isolator_values import SeccompSet

TIOCSTI = 0x5412
TIOCLINUX = 0x541C
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEW* of clone(2), but for CLONE_NEWTIME, which clone has not
_UNENFORCED = (isolators.MEMORY, isolators.CPU, isolators.CPU_SHARES)


class Confinement:
    """The promises of one app.

    ``capabilities`` is the bounding set by name, None for an unrestricted one; ``filters`` are BPF
    programs in the order to load them; ``no_new_privileges``, and ``oom_score_adj`` (None: as it is).
    """

    __slots__ = ("capabilities", "filters", "no_new_privileges", "oom_score_adj")

    def __init__(self) -> None:
        self.capabilities: frozenset[str] | None = None
        self.filters: list[bytes] = []
        self.no_new_privileges = False
        self.oom_score_adj: int | None = None

    def describe(self) -> str:
        """One line for ``--debug``."""
        held = "all" if self.capabilities is None else " ".join(sorted(self.capabilities))
        return (
            f"capabilities: {held}; system call filters: {len(self.filters)}; "
            f"no_new_privs: {'yes' if self.no_new_privileges else 'no'}"
        )

    def become(self, uid: int, gid: int, groups: list[int]) -> None:
        """Become the user, holding no more than the bounding set after the next execve(2).

        The bounding set limits what execve gives to root, so nothing is taken from the permitted
        set: loading the filters still needs it.
        """
        if self.oom_score_adj is not None:
            with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
                file.write(b"%d" % self.oom_score_adj)
        if self.capabilities is not None:
            capabilities.drop_bounding(capabilities.NUMBERS[name] for name in self.capabilities)
        capabilities.clear_ambient()
        effective, permitted, _ = capabilities.get_capabilities()
        capabilities.set_capabilities(effective, permitted, ())
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)

    def restrict(self) -> None:
        """Set no_new_privs and load the filters; what remains to be done is execve(2).

        Each filter needs no_new_privs or CAP_SYS_ADMIN; for a user that has not the latter ``plan`` asks
        for the former.
        """
        if self.no_new_privileges:
            capabilities.set_no_new_privileges()
        for program in self.filters:
            seccomp.load(program)


def plan(app: App, uid: int, *, disable_capabilities: bool, disable_seccomp: bool) -> Confinement:
    """The confinement of an app that runs as ``uid``; the two flags are ``--insecure-options``."""
    confinement = Confinement()
    if not disable_capabilities:
        confinement.capabilities = bounding_set(app.isolators)
    confinement.no_new_privileges = any(
        isolator.value is True for isolator in app.isolators if isolator.name == isolators.NO_NEW_PRIVILEGES
    )
    if not disable_seccomp:
        confinement.filters = filters(app.isolators)
        # The filter needs it where CAP_SYS_ADMIN is missing; systemd does the same.
        confinement.no_new_privileges |= uid != 0 and bool(confinement.filters)
    adjustment = isolators.get(app.isolators, isolators.OOM_SCORE_ADJ)
    confinement.oom_score_adj = adjustment.value if adjustment is not None else None
    return confinement


def bounding_set(given: list[isolators.Isolator]) -> frozenset[str]:
    """The capabilities that isolators leave: those retained, or the default without those removed."""
    retained: set[str] | None = None
    removed: set[str] = set()
    for isolator in given:
        if isolator.name == isolators.CAPABILITIES_RETAIN:
            retained = (retained or set()) | set(isolator.value.set)
        elif isolator.name == isolators.CAPABILITIES_REMOVE:
            removed |= set(isolator.value.set)
    if retained is not None and removed:
        raise RktError("capabilities cannot be both retained and removed")
    for name in sorted((retained or set()) | removed):
        if name not in capabilities.NUMBERS:
            raise RktError(f'unknown capability "{name}"')
    if retained is not None:
        return frozenset(retained)
    return frozenset(isolators.DEFAULT_CAPABILITIES) - removed


def filters(given: list[isolators.Isolator]) -> list[bytes]:
    """The seccomp programs that isolators ask for; the default where they ask for nothing.

    With any filter, input cannot be pushed into a terminal: with the caller's terminal as its own, an
    app would type into the shell it was started from (CVE-2017-5226).
    """
    chosen = [
        isolator
        for isolator in given
        if isolator.name in (isolators.SECCOMP_RETAIN, isolators.SECCOMP_REMOVE)
    ]
    if len(chosen) > 1:
        raise RktError("too many seccomp isolators")
    # The last one may refuse prctl(2): nothing can be loaded after it.
    if not chosen:
        return [_terminal(), *_default()]
    value: SeccompSet = chosen[0].value
    names = set(value.set)
    if chosen[0].name == isolators.SECCOMP_RETAIN:
        if "@appc.io/all" in names:
            return []
        allowed = expand(names) | set(seccomp.ESSENTIAL)
        return [_terminal(), seccomp.compile_filter(allowed, allow=True, action=_action(value))]
    if "@appc.io/empty" in names:
        return [_terminal(), *_default()]
    refused = expand(names) - set(seccomp.ESSENTIAL)
    return [_terminal(), seccomp.compile_filter(refused, allow=False, action=_action(value))]


def expand(names: Iterable[str]) -> set[str]:
    """Names with wildcards replaced by what they stand for; unknown wildcards stand for nothing."""
    found: set[str] = set()
    for name in names:
        if not name.startswith("@"):
            found.add(name)
        elif name in ("@docker/default-whitelist", "@rkt/default-whitelist"):
            found.update(system_calls.DEFAULT.split(), system_calls.YOUNGER.split())
        elif name in ("@docker/default-blacklist", "@rkt/default-blacklist"):
            found.update(system_calls.PRIVILEGED.split())
        elif name.startswith("@systemd/"):
            found.update(system_calls.SYSTEMD.get(name[len("@systemd/") :], "").split())
    return found


def unenforced(app: App) -> list[str]:
    """The isolators of the app that only a control group of its own could enforce."""
    return sorted({isolator.name for isolator in app.isolators if isolator.name in _UNENFORCED})


def _default() -> list[bytes]:
    """Refuse by EPERM what is privileged, by ENOSYS what the list does not know.

    ENOSYS makes C libraries use the older call; EPERM would be taken for the answer.  A clone(2) that
    makes namespaces is not on the list either: unshare(2) is refused, and this is the same.
    """
    refused = system_calls.PRIVILEGED.split()
    known = {*system_calls.DEFAULT.split(), *system_calls.YOUNGER.split(), *refused}
    no_namespaces = {"clone": [[seccomp.Comparison(0, "&", 0, _NEW_NAMESPACES)]]}
    unknown = seccomp.refuse(errno.ENOSYS)
    return [
        seccomp.compile_filter(known, allow=True, action=unknown, conditions=no_namespaces),
        seccomp.compile_filter(refused, allow=False, action=seccomp.refuse(errno.EPERM)),
    ]


def _terminal() -> bytes:
    # Only the lower half of the argument is looked at by the kernel (CVE-2019-10063).
    conditions = [[seccomp.Comparison(1, "&", request, 0xFFFFFFFF)] for request in (TIOCSTI, TIOCLINUX)]
    action = seccomp.refuse(errno.EPERM)
    return seccomp.compile_filter(["ioctl"], allow=False, action=action, conditions={"ioctl": conditions})


def _action(value: SeccompSet) -> int:
    """What meets a refused call: the isolator's errno, or the end of the process (SIGSYS)."""
    if not value.errno:
        return seccomp.KILL_PROCESS
    number = getattr(errno, value.errno, None)
    if number is None:
        raise RktError(f'unknown errno "{value.errno}" in the seccomp isolator')
    return seccomp.refuse(number)
