"""``rkt run-prepared``: become a pod that was prepared."""

from __future__ import annotations

import os

from rkt.cli import pod_requests, pods
from rkt.errors import RktError
from rkt.pod import layout, state, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call
    from rkt.pod.pod import Pod
    from rkt.stage0.records import RunRequest


def run(call: Call) -> int:
    """Does not return when all goes well.  Of several that run the same pod, one wins."""
    if len(call.args) != 1:
        return call.usage()
    request = pod_requests.run_request(call)
    pod_requests.hold_sockets()
    with pods.find(call, call.args[0]) as pod:
        if pod.state != state.PREPARED:
            raise _not_prepared(pod)
        _check(call, pod)
        pod_requests.catch_signals()
        if not pod.take():
            raise _not_prepared(pod)
        _start(call, pod, request)
    raise AssertionError("not reached")


def _not_prepared(pod: Pod) -> RktError:
    return RktError(f'pod "{pod.uuid}" is not prepared')


def _check(call: Call, pod: Pod) -> None:
    if call.flags["interactive"] and len(status.apps(pod)) > 1:
        raise RktError("interactive option only supports pods with one app")
    if pod.uses_overlay:
        from rkt.stage0 import overlay

        reason = overlay.unusable(call.globals.dir)
        if reason:
            raise RktError("unable to run prepared overlay-enabled pod: overlay not supported") from RktError(
                reason
            )


def _start(call: Call, pod: Pod, request: RunRequest) -> None:
    """A pod that could not be started is a prepared pod again."""
    from rkt.stage0 import run as stage0

    try:
        _become(call, pod, request)
    except BaseException:
        if pod.directory == layout.RUN_DIRECTORY:
            stage0.undo(pod)
            pod.back_to_prepared()
        raise


def _become(call: Call, pod: Pod, request: RunRequest) -> None:
    from rkt.stage0 import run as stage0

    try:
        pod.to_run()
    except FileNotFoundError as error:
        raise _not_prepared(pod) from error
    start = stage0.set_up(pod, request, os.environ, call.notify("stage0"))
    call.flush()
    stage0.execute(start)
