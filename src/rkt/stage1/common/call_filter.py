"""The system calls of an app, from its seccomp isolators (appc specification, facts of rkt 1.30).

An isolator that names no error ends the process by SIGSYS, as the specification says.  Where none says
anything rkt's own list is in force, which answers: what is privileged fails with EPERM, what the list does
not know with ENOSYS, upon which C libraries use an older call.
"""

from __future__ import annotations

import errno

from rkt.appc import isolators
from rkt.errors import RktError
from rkt.linux import seccomp
from rkt.stage1.common import compiled
from rkt.stage1.common import system_calls as lists

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.app import App

NEW_NAMESPACES = (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""CLONE_NEW* of clone(2), which has not CLONE_NEWTIME."""

DEFAULT_TEXT = "default-text"
DEFAULT_PROGRAMS = ("default-calls", "default-privileged")
"""What rkt's own list is called in an image (``rkt.stage1.common.compiled``)."""

# Words of the appc specification that are no groups of calls.
_SPECIFIED = ("@appc.io/all", "@appc.io/empty")
# Older forms, which only 32-bit programs have.
_CLASSIC = "nice readdir sigaction signal sigpending sigprocmask sigsuspend".split()


class SystemCalls:
    """The calls an app is limited to (``allow``) or kept from; ``errno`` "" means SIGSYS.

    ``default`` marks rkt's own list.
    """

    __slots__ = ("allow", "default", "errno", "names")

    def __init__(self, names: frozenset[str], *, allow: bool, errno: str = "", default: bool = False) -> None:
        self.names, self.allow, self.errno, self.default = names, allow, errno, default

    def programs(self) -> list[bytes]:
        """The filter as BPF, in the order to load it."""
        if self.default:
            return compiled.programs(DEFAULT_PROGRAMS) or default_programs()
        action = seccomp.refuse(getattr(errno, self.errno)) if self.errno else seccomp.KILL_PROCESS
        names = self.names.union(seccomp.ESSENTIAL) if self.allow else self.names
        return [seccomp.compile_filter(names, allow=self.allow, action=action)]

    def systemd(self) -> tuple[str, str]:
        """The values of ``SystemCallFilter=`` and ``SystemCallErrorNumber=`` (systemd.exec(5)).

        rkt's own list is written as what it refuses: calls that are newer than systemd's C library are
        then left to the filter around the pod, which answers ENOSYS.
        """
        if not self.default:
            return ("" if self.allow else "~") + " ".join(sorted(self.names)), self.errno
        built = compiled.read(DEFAULT_TEXT)
        return (default_text() if built is None else built.decode()), "EPERM"


def default_text() -> str:
    """rkt's own list as the value of ``SystemCallFilter=``."""
    privileged = lists.PRIVILEGED.split()
    known = {name for table in seccomp.architectures() for name in seccomp.table(table)}
    unknown = known - default_names() - set(privileged) - set(seccomp.ESSENTIAL)
    return "~" + " ".join([*privileged, *(f"{name}:ENOSYS" for name in sorted(unknown))])


def default_programs() -> list[bytes]:
    """rkt's own list as two filters, of which the stricter answer counts.

    A clone(2) that makes namespaces is refused, as unshare(2) is: both lead to the same.
    """
    privileged = lists.PRIVILEGED.split()
    namespaces = [[seccomp.Comparison(0, "&", flag, flag)] for flag in NEW_NAMESPACES]
    known = default_names().union(privileged)
    return [
        seccomp.compile_filter(known, allow=True, action=seccomp.refuse(errno.ENOSYS)),
        seccomp.compile_filter(
            [*privileged, "clone"],
            allow=False,
            action=seccomp.refuse(errno.EPERM),
            conditions={"clone": namespaces},
        ),
    ]


def system_calls(app: App) -> SystemCalls | None:
    """The app's system call filter; None when an isolator switches filtering off.

    RktError for an unknown name; unknown wildcards are passed over, as rkt does (``unknown_wildcards``).
    """
    retain = isolators.get(app.isolators, isolators.SECCOMP_RETAIN)
    remove = isolators.get(app.isolators, isolators.SECCOMP_REMOVE)
    if retain is not None and remove is not None:
        raise RktError("too many seccomp isolators")
    isolator = retain if retain is not None else remove
    if isolator is None:
        return _default()
    words, error = isolator.value.set, isolator.value.errno
    if retain is not None and "@appc.io/all" in words:
        return None
    if retain is None and "@appc.io/empty" in words:
        return _default()
    if error and not hasattr(errno, error):
        raise RktError(f'unknown error name "{error}" in a seccomp isolator')
    names: set[str] = set()
    for word in words:
        names |= _wildcard(word) if word.startswith("@") else {_known(word)}
    if retain is None and "execve" in names:
        raise RktError('the system call "execve" is in the remove set: the app could not be executed')
    return SystemCalls(frozenset(names), allow=retain is not None, errno=error)


def unknown_wildcards(words: list[str]) -> list[str]:
    """The groups of calls in a set that stand for nothing here."""
    groups = [word for word in words if word.startswith("@") and word not in _SPECIFIED]
    return [word for word in groups if not _wildcard(word)]


def _default() -> SystemCalls:
    return SystemCalls(default_names(), allow=True, default=True)


def default_names() -> frozenset[str]:
    """The calls an app may use when nothing is said: rkt's list, and what has appeared since.

    Not ``clone3``: its flags lie in memory, where no filter sees them.
    """
    return frozenset((*lists.DEFAULT.split(), *lists.YOUNGER.split(), *_CLASSIC))


def _wildcard(word: str) -> set[str]:
    if word in ("@docker/default-whitelist", "@rkt/default-whitelist"):
        # Named in an isolator, the list has one answer for all others; C libraries take none but ENOSYS.
        return {*default_names(), "clone3"}
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
