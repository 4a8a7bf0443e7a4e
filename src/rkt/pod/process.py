"""The processes of a running pod: pid 1 of its container."""

from __future__ import annotations

import time

from rkt.errors import RktError
from rkt.linux.process import children
from rkt.pod import layout, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.pod.pod import Pod

_POLL_SECONDS = 0.1


def container_pid(pod: Pod) -> int:
    """pid 1 of a running pod as the host sees it: the number in ``pid``, else the only child of ``ppid``.

    A pod that is still starting has neither; it is asked again every 100 ms while it runs.
    RktError when the pod has ended, or when ``ppid`` has several children.
    """
    from rkt.pod.pod import Pod as Again

    while True:
        found = _container_pid(pod)
        if found is not None:
            return found
        with Again.open(pod.data_dir, pod.uuid, start=pod.directory) as now:
            if now.state != state.RUNNING:
                raise RktError(f'pod "{pod.uuid}" isn\'t currently running')
        time.sleep(_POLL_SECONDS)


def _container_pid(pod: Pod) -> int | None:
    text = pod.read_text(layout.PID)
    if text.isascii() and text.isdigit():
        return int(text)
    text = pod.read_text(layout.PARENT_PID)
    if not (text.isascii() and text.isdigit()):
        return None
    found = children(int(text))
    if len(found) > 1:
        raise RktError(f"too many children of pid {text}")
    return found[0] if found else None
