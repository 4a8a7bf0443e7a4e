"""``rkt prepare``: make a pod that ``run-prepared`` runs later."""

from __future__ import annotations

from rkt.cli import pod_requests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call


def run(call: Call) -> int:
    from rkt.stage0 import prepare
    from rkt.store.store import Store

    pod_requests.check(call)
    pod_requests.catch_signals()
    overlay = pod_requests.overlay_for(call)
    with Store(call.globals.dir, call.notify(call.command.name)) as store:
        request = pod_requests.prepare_request(call, store, overlay)
        pod = pod_requests.new_pod(call, request, store)
    with pod:
        try:
            # The UUID is what the caller needs to use the pod: without it nobody would ever run it.
            call.print(pod.uuid)
            call.flush()
            pod.to_prepared()
        except BaseException:
            prepare.discard(pod)
            raise
    return 0
