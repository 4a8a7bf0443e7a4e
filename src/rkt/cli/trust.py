"""``rkt trust``: keys into the local key store, after somebody has compared their fingerprints."""

from __future__ import annotations

import os
import sys

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.cli.call import Call

UNBOUNDED = """\
aborting due to implicit unbounded trust (root domain)
Please provide a specific domain prefix to trust:
    rkt trust --prefix "example.com/foo" [PUBKEY]
Otherwise, trust at the root domain (not recommended) must be explicitly requested:
    rkt trust --root PUBKEY"""


def run(call: Call) -> int:
    from rkt.trust import review
    from rkt.trust.keystore import Keystore

    prefix: str = call.flags["prefix"]
    refusal = _refusal(call, prefix)
    if refusal is not None:
        return refusal
    keystore = Keystore(call.globals.system_config, call.globals.local_config)
    notify = call.notify("pubkey")
    how = review.Review(
        ask=_asker(call) if os.isatty(0) else None,
        accept=call.flags["skip-fingerprint-review"],
        result=call.print,
        notify=notify,
    )
    for location in call.args:
        review.add_keys(keystore, _read(location), prefix=prefix, location=location, review=how)
    return 0


def _refusal(call: Call, prefix: str) -> int | None:
    """The exit code for words that do not go together; None when they do."""
    if not prefix and not call.flags["root"]:
        if not call.args:
            return call.usage()
        call.error(UNBOUNDED)
        return 254
    if prefix and call.flags["root"]:
        call.error("--root and --prefix usage mutually exclusive")
        return 254
    if "image" in call.globals.insecure:
        call.error("could not get the keystore")
        return 254
    scheme, separator, _ = prefix.partition("://")
    if separator:
        call.error(f"--prefix must not contain a URL scheme, omit {scheme}://")
        return 254
    if not call.args:
        if call.flags["root"]:
            raise RktError("error determining key location") from RktError(
                "at least one key or --prefix required"
            )
        raise RktError("error determining key location") from RktError(
            f'discovery of the keys for "{prefix}" is not available in this version'
        )
    return None


def _read(location: str) -> bytes:
    from rkt.image import source
    from rkt.trust.openpgp import MAX_KEY_SIZE

    scheme = location.partition(":")[0].lower()
    if scheme in ("http", "https"):
        raise RktError(f"error accessing the key {location}") from RktError(
            "keys from URLs are not available in this version"
        )
    with open(source.open_file(location), "rb") as file:
        return file.read(MAX_KEY_SIZE + 1)


def _asker(call: Call) -> Callable[[str], str]:
    def ask(question: str) -> str:
        call.notify("pubkey")(question)
        return sys.stdin.readline()

    return ask
