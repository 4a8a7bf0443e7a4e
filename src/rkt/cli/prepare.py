"""``rkt prepare``: make a pod that ``run-prepared`` runs later."""

from __future__ import annotations

from rkt.cli import pod_requests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call


def run(call: Call) -> int:
    """Prints the UUID once the pod is prepared; a caller who cannot be told it gets no pod either."""
    from rkt.store.store import Store

    pod_requests.check(call)
    pod_requests.catch_signals()
    overlay = pod_requests.overlay_for(call)
    with Store(call.globals.dir, call.notify(call.command.name)) as store:
        request = pod_requests.prepare_request(call, store, overlay)
        pod = pod_requests.new_pod(call, request, store)
    with pod:
        try:
            pod.to_prepared()
            call.print(pod.uuid)
            call.flush()
        except BaseException:
            pod_requests.discard(call, pod)
            raise
    return 0
