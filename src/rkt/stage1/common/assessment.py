"""What becomes of isolators that all flavors treat alike; the rest is for each flavor to say."""

from __future__ import annotations

from rkt.appc import isolators
from rkt.appc.limits import Limits
from rkt.errors import RktError
from rkt.stage1.common import call_filter, outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.isolators import Isolator
    from rkt.stage1.common.outcome import Outcomes
    from rkt.stage1.common.pod import App, Pod
    from rkt.stage1.common.relaxed import Relaxed

_CAPABILITIES = (isolators.CAPABILITIES_RETAIN, isolators.CAPABILITIES_REMOVE)
_SECCOMP = (isolators.SECCOMP_RETAIN, isolators.SECCOMP_REMOVE)
_OF_APPS = (
    *(*_CAPABILITIES, *_SECCOMP),
    *(isolators.NO_NEW_PRIVILEGES, isolators.OOM_SCORE_ADJ, isolators.CPU_SHARES),
)
# What an app without one of its own has from its pod.
_DEFAULTS = (isolators.APPARMOR_PROFILE, isolators.SELINUX_CONTEXT)
_OOM_SCORE = "/proc/self/oom_score_adj"


def pod_scope(outcomes: Outcomes, found: list[Isolator]) -> None:
    """Isolators of a pod that rkt does not know, or that are for apps."""
    for isolator in found:
        if isolator.value is None:
            outcomes.ignored(outcome.POD, isolator.name, "rkt does not know it")
        elif isolator.name in _OF_APPS:
            outcomes.ignored(outcome.POD, isolator.name, "it is one of apps, not of pods")
        elif isolator.name in _DEFAULTS:
            outcomes.enforced(outcome.POD, isolator.name, "every app has one of its own")


def app_scope(outcomes: Outcomes, app: App, relaxed: Relaxed, *, no_new_privileges: bool) -> None:
    """Isolators of an app that need nothing of the host; ``no_new_privileges`` is what the app gets."""
    scope = outcome.of_app(app.name)
    for isolator in app.app.isolators:
        name = isolator.name
        if name in _CAPABILITIES or name in _SECCOMP:
            option = "capabilities" if name in _CAPABILITIES else "seccomp"
            if relaxed.capabilities if name in _CAPABILITIES else relaxed.seccomp:
                outcomes.ignored(scope, name, f"--insecure-options={option} switches it off")
            elif name in _SECCOMP and (unknown := call_filter.unknown_wildcards(isolator.value.set)):
                outcomes.changed(scope, name, f"rkt does not know {', '.join(unknown)}, and passes over it")
            else:
                outcomes.enforced(scope, name)
        elif name == isolators.NO_NEW_PRIVILEGES:
            if isolator.value is no_new_privileges:
                outcomes.enforced(scope, name)
            else:
                outcomes.changed(scope, name, "a system call filter of a user other than root needs it")
        elif name == isolators.SYSCTL:
            outcomes.ignored(scope, name, "it is one of pods, not of apps")


def incomplete(outcomes: Outcomes, scope: str, limits: Limits) -> None:
    """Resources whose limit is missing, or not all that is asked for: the last word on these."""
    for name in limits.unlimited:
        outcomes.ignored(scope, name, "it has no limit, and nothing is reserved for a request")
    for name in limits.reserving - limits.unlimited:
        if outcomes.is_enforced(scope, name):
            outcomes.changed(scope, name, "its limit is enforced, nothing is reserved for its request")


def oom_score(outcomes: Outcomes, app: App, score: int | None, *, private_users: bool) -> None:
    """Whether an app can be given its OOM score; it then can as any process of this one's descendants."""
    if score is None:
        return
    scope = outcome.of_app(app.name)
    if score < 0 and private_users:
        reason = "a pod with user IDs of its own cannot lower it"
        outcomes.ignored(scope, isolators.OOM_SCORE_ADJ, reason)
    elif score < 0 and not can_lower_oom_score(score):
        reason = "rkt was started without CAP_SYS_RESOURCE, which lowering it takes"
        outcomes.ignored(scope, isolators.OOM_SCORE_ADJ, reason)
    else:
        outcomes.enforced(scope, isolators.OOM_SCORE_ADJ)


def can_lower_oom_score(score: int) -> bool:
    """Whether this process may have such a score: tried, and taken back."""
    with open(_OOM_SCORE, "rb", buffering=0) as file:
        before = file.read()
    try:
        _write_oom_score(b"%d" % score)
    except PermissionError:
        return False
    _write_oom_score(before)
    return True


def _write_oom_score(text: bytes) -> None:
    with open(_OOM_SCORE, "wb", buffering=0) as file:
        file.write(text)


class MandatoryAccess:
    """What AppArmor and SELinux are told of an app: ``profile`` and ``context``, "" for nothing."""

    __slots__ = ("context", "profile")

    def __init__(self, profile: str = "", context: str = "") -> None:
        self.profile, self.context = profile, context


def mandatory_access(outcomes: Outcomes, pod: Pod, app: App) -> MandatoryAccess:
    """The profile and the context of an app, its own or else the pod's.

    RktError when the host has AppArmor and not the profile, or SELinux and not the context (appc
    specification).  What the host does not have is ignored.
    """
    found = MandatoryAccess()
    for scope, name, isolator in _nearest(pod, app, isolators.APPARMOR_PROFILE):
        from rkt.linux import apparmor

        if not apparmor.is_enabled():
            outcomes.ignored(scope, name, "this host has no AppArmor")
        elif isolator.value.profile not in ("unconfined", *apparmor.profiles()):
            raise RktError(f'AppArmor profile "{isolator.value.profile}" is not loaded on this host')
        else:
            found.profile = isolator.value.profile
            outcomes.enforced(scope, name, found.profile)
    for scope, name, isolator in _nearest(pod, app, isolators.SELINUX_CONTEXT):
        from rkt.linux import selinux

        if not selinux.is_enabled():
            outcomes.ignored(scope, name, "this host has no SELinux")
        elif not selinux.is_valid(str(isolator.value)):
            raise RktError(f'the SELinux policy of this host has no context "{isolator.value}"')
        else:
            found.context = str(isolator.value)
            outcomes.enforced(scope, name, found.context)
    return found


def _nearest(pod: Pod, app: App, name: str) -> list[tuple[str, str, Isolator]]:
    """The isolator of this name that is for an app, with its scope; none or one."""
    for scope, found in (
        (outcome.of_app(app.name), app.app.isolators),
        (outcome.POD, pod.manifest.isolators),
    ):
        isolator = isolators.get(found, name)
        if isolator is not None:
            return [(scope, name, isolator)]
    return []
