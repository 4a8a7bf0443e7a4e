"""Adding keys to the key store after somebody has compared their fingerprints."""

from __future__ import annotations

from rkt.errors import RktError
from rkt.trust import openpgp
from rkt.trust.keystore import check_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rkt.trust.keystore import Keystore
    from rkt.trust.openpgp import Key
    from rkt.trust.sigstore import PublicKey

QUESTION = "Are you sure you want to trust this key (yes/no)?"


class Review:
    """How keys are reviewed and what is said meanwhile.

    ``ask`` puts the question and returns the line typed ("" at the end of the input); it is None where
    nobody can be asked.  With ``accept`` nobody is asked.  ``result`` gets what was decided, ``notify``
    all else.
    """

    __slots__ = ("accept", "ask", "notify", "result")

    def __init__(
        self,
        *,
        ask: Callable[[str], str] | None,
        accept: bool,
        result: Callable[[str], object],
        notify: Callable[[str], object],
    ) -> None:
        self.ask = ask
        self.accept = accept
        self.result = result
        self.notify = notify


def add_keys(keystore: Keystore, data: bytes, *, prefix: str, location: str, review: Review) -> bool:
    """Store the keys of a key file found at ``location`` for ``prefix`` ("" for all images) if accepted.

    Returns whether they were.  Raises RktError when the file is no key or nobody can be asked.
    """
    check_prefix(prefix)
    from rkt.trust import sigstore

    keys: list[Key] | list[PublicKey]
    try:
        keys = [sigstore.PublicKey(data)] if sigstore.is_public_key(data) else openpgp.parse_keys(data)
    except RktError as error:
        raise RktError(f"error reading the key {location}") from error
    review.notify(summary(keys, prefix, location))
    if not review.accept and not _accepted(prefix, review):
        review.notify(f'not trusting "{location}"')
        return False
    manner = "without" if review.accept else "after"
    review.result(f'Trusting "{location}" for prefix "{prefix}" {manner} fingerprint review.')
    for key in keys:
        path = keystore.add(key, prefix) if isinstance(key, openpgp.Key) else keystore.add_public(key, prefix)
        kind = f'key for prefix "{prefix}"' if prefix else "root key"
        review.result(f'Added {kind} at "{path}"')
    return True


def summary(keys: Sequence[Key | PublicKey], prefix: str, location: str) -> str:
    """What a person needs to see of keys before trusting them."""
    lines = [f'prefix: "{prefix}"', f'key: "{location}"']
    for key in keys:
        if not isinstance(key, openpgp.Key):
            lines.append(f"public key ({key.kind}), sha256 fingerprint is: {key.fingerprint}")
            continue
        lines.append(f"gpg key fingerprint is: {openpgp.format_fingerprint(key.fingerprint)}")
        lines += [f"    subkey fingerprint: {openpgp.format_fingerprint(one)}" for one in key.subkeys]
        lines += [f"\t{identity}" for identity in key.identities]
    return "\n".join(lines)


def _accepted(prefix: str, review: Review) -> bool:
    if review.ask is None:
        review.notify(f'To trust the key for "{prefix}", do one of the following:')
        review.notify(" - call rkt with --trust-keys-from-https")
        review.notify(f' - run: rkt trust --prefix "{prefix}"' if prefix else " - run: rkt trust --root")
        raise RktError("error reviewing key: unable to ask user to review fingerprint due to lack of tty")
    return review.ask(QUESTION).strip() == "yes"
