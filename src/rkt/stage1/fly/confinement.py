"""What confines an app without systemd's help: capabilities, seccomp, no_new_privs.

``plan`` takes what the isolators mean from ``rkt.stage1.common.confinement``; ``Confinement`` hands it to the
kernel just before the app is executed.  ``enter`` does the same.
"""

from __future__ import annotations

import errno
import os

from rkt.appc import isolators
from rkt.appc.limits import Limits
from rkt.linux import apparmor, capabilities, seccomp, selinux
from rkt.stage1.common import assessment, call_filter, outcome
from rkt.stage1.common import confinement as common

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.app import App as AppSection
    from rkt.stage1.common.outcome import Outcomes
    from rkt.stage1.common.pod import App, Pod
    from rkt.stage1.common.relaxed import Relaxed

TIOCSTI = 0x5412
TIOCLINUX = 0x541C
_UNENFORCED = {
    isolators.MEMORY: "flavor fly has no control group of its own",
    isolators.CPU: "flavor fly has no control group of its own",
    isolators.CPU_SHARES: "flavor fly has no control group of its own",
    isolators.BLOCK_BANDWIDTH: "flavor fly has no control group of its own",
    isolators.BLOCK_IOPS: "flavor fly has no control group of its own",
    isolators.NETWORK_BANDWIDTH: "flavor fly has the network of the host",
}


class Confinement:
    """The promises of one app.

    ``capabilities`` is the bounding set by name, None for an unrestricted one; ``filters`` are BPF
    programs in the order to load them; ``no_new_privileges``; ``oom_score_adj`` (None: as it is);
    ``access`` for AppArmor and SELinux.
    """

    __slots__ = ("access", "capabilities", "filters", "no_new_privileges", "oom_score_adj")

    def __init__(self) -> None:
        self.capabilities: frozenset[str] | None = None
        self.filters: list[bytes] = []
        self.no_new_privileges = False
        self.oom_score_adj: int | None = None
        self.access = assessment.MandatoryAccess()

    def describe(self) -> str:
        """One line for ``--debug``."""
        held = "all" if self.capabilities is None else " ".join(sorted(self.capabilities))
        return (
            f"capabilities: {held}; system call filters: {len(self.filters)}; "
            f"no_new_privs: {'yes' if self.no_new_privileges else 'no'}"
        )

    def set_attributes(self) -> None:
        """Write what is written to files of procfs: before the root is the app's, which may have others."""
        if self.oom_score_adj is not None:
            with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
                file.write(b"%d" % self.oom_score_adj)
        if self.access.profile:
            apparmor.change_profile_on_exec(self.access.profile)
        if self.access.context:
            selinux.change_context_on_exec(self.access.context)

    def become(self, uid: int, gid: int, groups: list[int]) -> None:
        """Become the user, holding no more than the bounding set after the next execve(2).

        The bounding set limits what execve gives to root, so nothing is taken from the permitted
        set: loading the filters still needs it.
        """
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


def of_section(section: AppSection, uid: int, relaxed: Relaxed) -> Confinement:
    """What needs nothing of the host: capabilities, system calls and no_new_privs of an app of ``uid``."""
    confinement = Confinement()
    if not relaxed.capabilities:
        confinement.capabilities = frozenset(common.capability_set(section))
    confinement.no_new_privileges = common.no_new_privileges(section)
    if not relaxed.seccomp:
        confinement.filters = filters(section)
        # The filter needs it where CAP_SYS_ADMIN is missing; systemd does the same.
        confinement.no_new_privileges |= uid != 0 and bool(confinement.filters)
    return confinement


def plan(pod: Pod, app: App, uid: int, relaxed: Relaxed, outcomes: Outcomes) -> Confinement:
    """The confinement of an app that runs as ``uid``; what becomes of each isolator goes to ``outcomes``."""
    confinement = of_section(app.app, uid, relaxed)
    scope = outcome.of_app(app.name)
    limits = {outcome.POD: Limits.of(pod.manifest.isolators), scope: Limits.of(app.app.isolators)}
    for owner, found in ((outcome.POD, pod.manifest.isolators), (scope, app.app.isolators)):
        outcomes.expect(owner, found)
        for isolator in found:
            if isolator.name in _UNENFORCED:
                outcomes.ignored(owner, isolator.name, _UNENFORCED[isolator.name])
    assessment.pod_scope(outcomes, pod.manifest.isolators)
    assessment.app_scope(outcomes, app, relaxed, no_new_privileges=confinement.no_new_privileges)
    score = limits[scope].oom_score_adj
    assessment.oom_score(outcomes, app, score, private_users=False)
    if outcomes.is_enforced(scope, isolators.OOM_SCORE_ADJ):
        confinement.oom_score_adj = score
    confinement.access = assessment.mandatory_access(outcomes, pod, app)
    sysctl = isolators.get(pod.manifest.isolators, isolators.SYSCTL)
    if sysctl is not None:
        from rkt.stage1.common import sysctl as parameters

        # None can be the pod's: this is an error, unless there is nothing to set.
        parameters.plan(sysctl.value, own=set())
        outcomes.enforced(outcome.POD, isolators.SYSCTL)
    return confinement


def filters(app: AppSection) -> list[bytes]:
    """The seccomp programs that isolators ask for; the default where they ask for nothing.

    With any filter, input cannot be pushed into a terminal: with the caller's terminal as its own, an
    app would type into the shell it was started from (CVE-2017-5226).
    """
    calls = call_filter.system_calls(app)
    # The last one may refuse prctl(2): nothing can be loaded after it.
    return [] if calls is None else [_terminal(), *calls.programs()]


def _terminal() -> bytes:
    # Only the lower half of the argument is looked at by the kernel (CVE-2019-10063).
    conditions = [[seccomp.Comparison(1, "&", request, 0xFFFFFFFF)] for request in (TIOCSTI, TIOCLINUX)]
    action = seccomp.refuse(errno.EPERM)
    return seccomp.compile_filter(["ioctl"], allow=False, action=action, conditions={"ioctl": conditions})
