"""Where the standard streams of an app lead, as annotations of the app say (facts of rkt: I/O modes).

``null`` is /dev/null; ``log``, which input cannot have, is where output goes without an annotation.
"""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.common.pod import App

PREFIX = "coreos.com/rkt/stage2/"
NAMES = ("stdin", "stdout", "stderr")

_NULL, _LOG = "null", "log"
_ATTACHED = ("stream", "tty")


def silenced(app: App) -> list[str]:
    """Those of an app's streams that are /dev/null.

    RktError for a mode there is none of: what is to be attached to (``stream``, ``tty``) would be lost.
    """
    found = []
    for name in NAMES:
        mode = app.runtime.annotation(PREFIX + name)
        if mode in _ATTACHED:
            raise RktError(f'{name} cannot be "{mode}": this stage1 has nothing to attach to')
        if mode is not None and mode not in ((_NULL,) if name == NAMES[0] else (_NULL, _LOG)):
            raise RktError(f'{name} cannot be "{mode}"')
        if mode == _NULL:
            found.append(name)
    return found
