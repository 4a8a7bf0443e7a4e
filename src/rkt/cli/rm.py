"""``rkt rm``: remove pods that do not run, without a grace period."""

from __future__ import annotations

import os

from rkt.cli import pods
from rkt.errors import RktError
from rkt.pod import lookup, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call
    from rkt.pod.pod import Pod

_REFUSED = {
    state.RUNNING: "running",
    state.EMBRYO: "being prepared",
    state.PREPARING: "being prepared",
    state.DELETING: "being deleted",
    state.EXITED_DELETING: "being deleted",
}


def run(call: Call) -> int:
    words = pods.uuids(call)
    if words is None:
        return call.usage()
    results = [_remove(call, word) for word in words]
    if all(results):
        return 0
    call.error("failed to remove one or more pods")
    return 254


def _remove(call: Call, prefix: str) -> bool:
    from rkt.stage0.gc import Collector

    try:
        pod = lookup.find(call.globals.dir, prefix)
    except (RktError, OSError) as error:
        pods.complain(call, "cannot get pod", error)
        return False
    collector = Collector(
        call.globals.dir,
        os.environ,
        notify=call.notify(call.command.name),
        failed=lambda message, error: pods.complain(call, message, error),
        debug=call.globals.debug,
        local_config=call.globals.local_config,
    )
    with pod:
        if pod.state in _REFUSED:
            call.error(f'pod "{pod.uuid}" is currently {_REFUSED[pod.state]}')
            return False
        call.flush()
        try:
            if _give_up(call, pod) and collector.remove(pod):
                call.print(f'"{pod.uuid}"')
                return True
        except (RktError, OSError) as error:
            pods.complain(call, f'unable to remove pod "{pod.uuid}"', error)
            return False
        call.error(f'pod "{pod.uuid}" was used or removed by another process')
    return False


def _give_up(call: Call, pod: Pod) -> bool:
    """Bring a pod to where it can be removed; False when another process has taken it meanwhile."""
    if pod.state == state.ABORTED_PREPARE:
        call.error(f'moving failed prepare "{pod.uuid}" to garbage')
        return pod.to_garbage()
    if pod.state == state.PREPARED:
        call.error(f'moving expired prepared pod "{pod.uuid}" to garbage')
        return pod.to_garbage()
    if pod.state == state.EXITED:
        return pod.to_exited_garbage()
    return True
