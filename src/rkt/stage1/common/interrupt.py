"""Signals that end a command, while it still has something to take back."""

from __future__ import annotations

from rkt.errors import Interrupted

EXIT_CODE = 130
"""After SIGINT, which is KeyboardInterrupt: as a shell says it."""

_NAMES = {1: "SIGHUP", 15: "SIGTERM"}
_SIGINT = 2


def admit_signals() -> None:
    """Let those in that had to wait since the program was started; KeyboardInterrupt when SIGINT was one."""
    import _signal  # type: ignore[import-not-found]

    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_SIGINT, *_NAMES))


def catch_signals() -> None:
    """Make SIGTERM and SIGHUP errors like any other, so that what has been begun is undone.

    Those that are ignored (nohup) stay so.  An exec gives all of them their default effect again.
    """
    import _signal

    def interrupt(number: int, _: object) -> None:
        for other in _NAMES:
            _signal.signal(other, _signal.SIG_IGN)  # once is enough: undoing is not to be interrupted
        raise Interrupted(f"interrupted by {_NAMES[number]}")

    for number in _NAMES:
        if _signal.getsignal(number) == _signal.SIG_DFL:
            _signal.signal(number, interrupt)
    admit_signals()
