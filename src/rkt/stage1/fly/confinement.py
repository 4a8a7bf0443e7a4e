"""What confines an app without systemd's help: capabilities, seccomp, no_new_privs.

``plan`` takes what the isolators mean from ``rkt.stage1.common.confinement``; ``Confinement`` hands it to the
kernel just before the app is executed.  ``enter`` does the same.
"""

from __future__ import annotations

import errno
import os

from rkt.appc import isolators
from rkt.linux import capabilities, seccomp
from rkt.stage1.common import call_filter
from rkt.stage1.common import confinement as common

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.app import App

TIOCSTI = 0x5412
TIOCLINUX = 0x541C
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
        confinement.capabilities = frozenset(common.capability_set(app))
    confinement.no_new_privileges = common.no_new_privileges(app)
    if not disable_seccomp:
        confinement.filters = filters(app)
        # The filter needs it where CAP_SYS_ADMIN is missing; systemd does the same.
        confinement.no_new_privileges |= uid != 0 and bool(confinement.filters)
    confinement.oom_score_adj = common.Resources(app).oom_score_adj
    return confinement


def filters(app: App) -> list[bytes]:
    """The seccomp programs that isolators ask for; the default where they ask for nothing.

    With any filter, input cannot be pushed into a terminal: with the caller's terminal as its own, an
    app would type into the shell it was started from (CVE-2017-5226).
    """
    calls = call_filter.system_calls(app)
    # The last one may refuse prctl(2): nothing can be loaded after it.
    return [] if calls is None else [_terminal(), *calls.programs()]


def unenforced(app: App) -> list[str]:
    """The isolators of the app that only a control group of its own could enforce."""
    return sorted({isolator.name for isolator in app.isolators if isolator.name in _UNENFORCED})


def _terminal() -> bytes:
    # Only the lower half of the argument is looked at by the kernel (CVE-2019-10063).
    conditions = [[seccomp.Comparison(1, "&", request, 0xFFFFFFFF)] for request in (TIOCSTI, TIOCLINUX)]
    action = seccomp.refuse(errno.EPERM)
    return seccomp.compile_filter(["ioctl"], allow=False, action=action, conditions={"ioctl": conditions})
