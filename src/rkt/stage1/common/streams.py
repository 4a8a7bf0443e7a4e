"""Where the standard streams of an app lead, as annotations of the app say (facts of rkt: I/O modes).

============  ============================================================================================
null          /dev/null; what input is without an annotation
log           the journal of the pod, for output; what output is without an annotation
stream        a FIFO, for whoever attaches to the app
tty           a terminal of the app's own, for whoever attaches to the app
interactive   the terminal rkt was started from, of all streams of an app or of none (``--interactive``)
============  ============================================================================================
"""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.common.pod import App

PREFIX = "coreos.com/rkt/stage2/"
NAMES = ("stdin", "stdout", "stderr")

NULL, LOG, STREAM, TTY, INTERACTIVE = "null", "log", "stream", "tty", "interactive"
ATTACHED = (STREAM, TTY)
"""The modes that somebody can attach to."""

_INPUT = (NULL, STREAM, TTY)
_OUTPUT = (NULL, LOG, STREAM, TTY)


def modes(app: App, *, interactive: bool = False) -> dict[str, str]:
    """The mode of each stream of an app, which has the caller's terminal if it is ``interactive``.

    RktError for a mode there is none of, and for one that does not go with the caller's terminal.
    """
    found = {}
    for name in NAMES:
        allowed = _INPUT if name == NAMES[0] else _OUTPUT
        mode = app.runtime.annotation(PREFIX + name)
        if mode is not None and mode not in allowed and not (interactive and mode == INTERACTIVE):
            reason = ": the pod was not started with --interactive" if mode == INTERACTIVE else ""
            raise RktError(f'{name} cannot be "{mode}"{reason}')
        if interactive and mode in ATTACHED:
            raise RktError(f'{name} cannot be "{mode}": with --interactive the app has the terminal of rkt')
        found[name] = INTERACTIVE if interactive else mode or (NULL if name == NAMES[0] else LOG)
    return found


def silenced(app: App, *, interactive: bool) -> list[str]:
    """Those of an app's streams that an annotation makes /dev/null, where nobody can attach to any.

    RktError for a mode there is none of: what is to be attached to would be lost.
    """
    found = modes(app, interactive=interactive)
    for name, mode in found.items():
        if mode in ATTACHED:
            raise RktError(f'{name} cannot be "{mode}": this stage1 has nothing to attach to')
    return [name for name in NAMES if app.runtime.annotation(PREFIX + name) == NULL]
