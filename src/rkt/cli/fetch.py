"""``rkt fetch``: images into the store, their IDs on stdout."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call

SHORT_ID = len("sha512-") + 32


def run(call: Call) -> int:
    from rkt.cli.fetching import fetcher
    from rkt.image import reference
    from rkt.store.store import Store

    if not call.images:
        call.error("must provide at least one image")
        return 254
    full: bool = call.flags["full"]
    with Store(call.globals.dir, call.notify("image")) as store, fetcher(call, store) as images:
        for words in call.images:
            key = images.fetch(reference.parse(words.image, ids=False), words.flags["signature"] or None)
            call.print(key if full else key[:SHORT_ID])
            call.flush()
    return 0
