"""``rkt fetch``: images into the store, their IDs on stdout."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call

SHORT_ID = len("sha512-") + 32


def run(call: Call) -> int:
    from rkt.image import reference
    from rkt.image.fetch import Fetcher
    from rkt.store.store import Store
    from rkt.trust.keystore import Keystore

    if not call.images:
        call.error("must provide at least one image")
        return 254
    settings = call.globals
    keystore = Keystore(settings.system_config, settings.local_config)
    policy = call.pull_policy()
    full: bool = call.flags["full"]
    with Store(settings.dir, call.notify("image")) as store:
        fetcher = Fetcher(
            store,
            keystore,
            insecure=settings.insecure,
            pull_policy=policy,
            notify=call.notify("image"),
            debug=settings.debug,
        )
        for words in call.images:
            key = fetcher.fetch(reference.parse(words.image, ids=False), words.flags["signature"] or None)
            call.print(key if full else key[:SHORT_ID])
            call.flush()
    return 0
