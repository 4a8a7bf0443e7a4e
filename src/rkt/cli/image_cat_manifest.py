"""``rkt image cat-manifest``: the manifest of an image as JSON."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call


def run(call: Call) -> int:
    from rkt.store.store import Store

    if len(call.args) != 1:
        return call.usage()
    with Store(call.globals.dir, call.notify("db")) as store:
        manifest = store.manifest(store.lookup(call.args[0]))
    call.print(manifest.encode("\t" if call.flags["pretty-print"] else None))
    return 0
