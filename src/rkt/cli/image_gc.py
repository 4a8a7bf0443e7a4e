"""``rkt image gc``: rendered trees no pod needs, then images that were not used for a while."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call


def run(call: Call) -> int:
    from rkt.cli.image_rm import remove_images
    from rkt.errors import one_line
    from rkt.image import partial
    from rkt.store import collector
    from rkt.store.store import Store

    failures = 0

    def failed(tree_id: str, error: Exception) -> None:
        nonlocal failures
        failures += 1
        call.error(f'error removing treestore "{tree_id}": {one_line(error)}')

    with Store(call.globals.dir, call.notify("db")) as store:
        collector.collect_trees(
            store,
            removed=lambda tree_id: call.error(f'removed treestore "{tree_id}"'),
            failed=failed,
            waiting=lambda: call.error("waiting for pods that are being prepared"),
        )
        status = remove_images(call, store, collector.unused_images(store, call.flags["grace-period"]))
        for digest in collector.collect_layers(store, call.flags["grace-period"]):
            call.error(f'removed layer "{digest}"')
        collector.collect_leftovers(store)
        partial.collect(store.places.temporary, call.flags["grace-period"])
    return 254 if failures else status
