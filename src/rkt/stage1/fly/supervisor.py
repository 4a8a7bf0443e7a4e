"""The process that waits for the app: signals in, exit code out.

Its signals are blocked and taken one by one, so that none is lost between two instructions.  It is the
reaper of everything the app starts: what is left when the app has ended is killed, and the pod with
its lock ends after that.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the module ``signal`` costs 4 ms for its enums
import os

from rkt.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Not passed on: the state of our own children and terminal, and what only the kernel or a debugger sends.
_OWN = (signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP, signal.SIGCONT, signal.SIGKILL,
        signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP,
        signal.SIGABRT)  # fmt: skip
_PASSED = frozenset(range(1, 32)) - frozenset(_OWN)
_WAITED = _PASSED | {signal.SIGCHLD}
_SI_KERNEL = 0x80
_ROUNDS = 200


class Mask:
    """The signal mask as it was before ``block``."""

    __slots__ = ("before",)

    def __init__(self) -> None:
        self.before: Any = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED | {signal.SIGTTOU})

    def restore(self) -> None:
        """For the child: the mask of the caller, and the default effect of what Python ignores."""
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.before)


class Terminal:
    """The caller's terminal while an interactive app has it.

    ``app`` becomes its foreground process group; ``take_back`` returns it.  When the app is stopped
    (^Z), so are we, until the shell continues us.
    """

    __slots__ = ("fd", "group")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.group = os.getpgrp()

    def give(self, app: int) -> None:
        if os.tcgetpgrp(self.fd) in (self.group, app):
            os.tcsetpgrp(self.fd, app)

    def take_back(self) -> None:
        try:
            os.tcsetpgrp(self.fd, self.group)
        except OSError:
            pass  # hung up

    def suspend(self, app: int) -> None:
        self.take_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.give(app)
        _kill(-app, signal.SIGCONT)


def wait(app: int, terminal: Terminal | None = None) -> int:
    """Pass signals to the app until it ends; returns its wait status."""
    while True:
        info = signal.sigwaitinfo(_WAITED)
        if info.si_signo == signal.SIGCHLD:
            status = _reap(app, terminal)
            if status is not None:
                return status
        elif info.si_code == _SI_KERNEL:
            # From the terminal, meant for all of the foreground, which the app is not when it has a
            # session of its own.
            _kill(-app, info.si_signo)
        else:
            _kill(app, info.si_signo)


def _reap(app: int, terminal: Terminal | None) -> int | None:
    """Collect every child that has ended; the app's wait status if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | (os.WUNTRACED if terminal else 0))
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid != app:
            continue
        if os.WIFSTOPPED(status):
            if terminal is not None:
                terminal.suspend(app)
            continue
        found = status


def end_remaining() -> None:
    """Kill what the app has left behind; orphans become our children, so that none escapes.

    A parent's end gives us its children: repeat until there are none.  The number of rounds is bounded
    in case something forks faster than we kill.
    """
    own = os.getpid()
    for _ in range(_ROUNDS):
        children = process.children(own)
        if not children:
            return
        for pid in children:
            _kill(pid, signal.SIGKILL)
        for pid in children:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass


def end_like(status: int) -> int:
    """The exit code of a wait status; for a signal this process ends by the same one instead.

    So a service manager sees what it would see if the app were its own child: SIGTERM is no failure.
    """
    if os.WIFSIGNALED(status):
        import resource

        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    return process.exit_code(status)


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
