"""``rkt run``: make a pod and become it."""

from __future__ import annotations

import os

from rkt.cli import pod_requests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call
    from rkt.pod.pod import Pod
    from rkt.stage0.records import RunRequest


def run(call: Call) -> int:
    """Does not return when all goes well: the exit code is the pod's."""
    from rkt.store.store import Store

    pod_requests.check(call)
    pod_requests.check_running(call)
    run_request = pod_requests.run_request(call)
    run_request.fresh = True
    pod_requests.hold_sockets()
    pod_requests.catch_signals()
    overlay = pod_requests.overlay_for(call)
    with Store(call.globals.dir, call.notify(call.command.name)) as store:
        request = pod_requests.prepare_request(call, store, overlay)
        pod = pod_requests.new_pod(call, request, store)
    with pod:
        try:
            _start(call, pod, run_request)
        except BaseException:
            pod_requests.discard(call, pod)
            raise
    raise AssertionError("not reached")


def _start(call: Call, pod: Pod, request: RunRequest) -> None:
    from rkt.stage0 import run as stage0

    if call.flags["uuid-file-save"]:
        stage0.save_uuid(call.flags["uuid-file-save"], pod.uuid)
    pod.to_run()
    start = stage0.set_up(pod, request, os.environ, call.notify("stage0"))
    call.flush()
    stage0.execute(start)
