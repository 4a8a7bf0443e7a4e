"""Export: the root file system of an ended pod's app, with its changes, as an image."""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.pod import layout, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.pod.pod import Pod

_EXITED = (state.EXITED, state.EXITED_GARBAGE)


def check(pod: Pod) -> None:
    """RktError unless the pod has ended."""
    if pod.state not in _EXITED:
        raise RktError("pod is not exited. Only exited pods can be exported")
