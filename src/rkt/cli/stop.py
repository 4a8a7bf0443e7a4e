"""``rkt stop``: ask pods to end."""

from __future__ import annotations

import os

from rkt.cli import pods
from rkt.errors import RktError
from rkt.pod import lookup, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call

_ALREADY = (*state.ENDED, state.GARBAGE)


def run(call: Call) -> int:
    try:
        words = pods.uuids(call)
    except pods.UUIDFileError as error:
        pods.report(call, error)
        return 1
    if words is None:
        return call.usage()
    failed = sum(not _stop(call, word) for word in words)
    if failed:
        call.error(f"failed to stop {failed} pod(s)")
        return 254
    return 0


def _stop(call: Call, prefix: str) -> bool:
    from rkt.stage0 import stop

    try:
        pod = lookup.find(call.globals.dir, prefix)
    except (RktError, OSError) as error:
        pods.complain(call, "cannot get pod", error)
        return False
    with pod:
        if pod.state in _ALREADY:
            call.print(f'pod "{pod.uuid}" is already stopped')
            return True
        if pod.state != state.RUNNING:
            call.error(f'pod "{pod.uuid}" is not running')
            return False
        call.flush()
        try:
            stop.stop(pod, os.environ, force=call.flags["force"])
        except RktError as error:
            pods.report(call, error)
            return False
        call.print(f'"{pod.uuid}"')
    return True
