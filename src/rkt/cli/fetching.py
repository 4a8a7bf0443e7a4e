"""The fetcher of a call: what all commands that take images have in common."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call
    from rkt.image.fetch import Fetcher, Network
    from rkt.image.keys import Ask, Reviewer
    from rkt.image.progress import Progress
    from rkt.store.store import Store


def watch_workers(call: Call) -> None:
    """With ``--debug``: say what the confinement of workers lacks on this machine."""
    if call.globals.debug:
        from rkt.store import confined

        confined.on_missing(call.notify("store"))


def fetcher(
    call: Call, store: Store, *, trusted: bool = False, render: bool | None = None, finish: bool = True
) -> Fetcher:
    """A fetcher for this call; images that came with rkt are ``trusted`` and need no signature.

    ``render`` and ``finish`` as ``Fetcher`` has them.
    """
    from rkt.image.fetch import Fetcher
    from rkt.trust.keystore import Keystore

    settings = call.globals
    watch_workers(call)
    store.max_image_size = call.flags["max-image-size"]
    keystore = None
    if "image" not in settings.insecure:
        keystore = Keystore(settings.system_config, settings.local_config)
    return Fetcher(
        store,
        keystore,
        insecure=settings.insecure,
        pull_policy=call.pull_policy(),
        notify=call.notify("image"),
        debug=settings.debug,
        render=render,
        finish=finish,
        network=network(call),
        installed=trusted,
    )


def network(call: Call) -> Network:
    """Credentials, progress and the person at the terminal, each looked for when it is needed."""
    from rkt.image.fetch import Network

    def reviewer() -> Reviewer:
        from rkt.image.keys import Reviewer

        notify = call.notify("pubkey")
        # stdout carries the hashes of images and nothing else
        return Reviewer(
            ask=asker(call),
            accept_https=call.globals.trust_keys_from_https,
            result=notify,
            notify=notify,
        )

    return Network(call.config, lambda: progress(call), reviewer)


def progress(call: Call) -> Progress:
    """Bars on a terminal; nothing elsewhere, where each image has its line."""
    import os

    from rkt.image.progress import Progress

    if not os.isatty(2) or os.environ.get("TERM", "dumb") == "dumb":
        return Progress()
    from rkt.cli.progress import Bars

    return Bars(call.err)


def asker(call: Call) -> Ask | None:
    """Puts questions to the user; None when standard input is no terminal."""
    import os

    if not os.isatty(0):
        return None

    def ask(question: str) -> str:
        import sys

        call.notify("pubkey")(question)
        return sys.stdin.readline()

    return ask
