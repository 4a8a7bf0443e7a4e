"""Where the bytes of an image come from, and verifying them on their way into the store.

Every source is opened once; what is imported are the bytes that were verified.
"""

from __future__ import annotations

import os
import stat

from rkt.errors import RktError
from rkt.trust import openpgp
from rkt.trust.verification import Verification

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.store.hashing import Readable
    from rkt.trust.keystore import Keystore

_LONGEST_HINT = 500
_MAX_COPIES = 8
"""More different copies of one key are not tried: each costs a gpgv over the whole image."""


def open_file(path: str) -> int:
    """An fd of a regular file.  Raises OSError, or RktError for anything that could block or act."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise RktError(f"{path} is not a regular file")
    return fd


def read_signature(path: str) -> bytes:
    """The content of a signature file."""
    with open(open_file(path), "rb") as file:
        return file.read(openpgp.MAX_SIGNATURE_SIZE + 1)


class VerifiedSource:
    """A readable that hands the bytes it gives out to gpgv too; a context manager.

    Which keys are trusted depends on the image's name, and its manifest may come last.  So the signature is
    checked against the key that may have made it, and once the name is known, ``accept`` decides
    whether that key is trusted for it.  Copies of that key under several prefixes can differ (one may
    carry a revocation); each is checked and the one that is trusted for the name counts.
    """

    __slots__ = ("_keystore", "_source", "_verifications", "read_all", "signature", "verified")

    def __init__(self, source: Readable, signature: bytes, keystore: Keystore) -> None:
        """Raises RktError when no trusted key can have made the signature: before the image is read."""
        self._source = source
        self._keystore = keystore
        self.signature = openpgp.parse_signature(signature)
        self._verifications: dict[bytes, Verification] = {}
        self.read_all = False
        self.verified = "none", ""
        candidates = keystore.candidates(self.signature)
        if not candidates:
            hint = "; ".join(keystore.faults)[:_LONGEST_HINT]
            raise RktError("openpgp: signature made by unknown entity", hint=hint)
        if len(candidates) > _MAX_COPIES:
            raise RktError("openpgp: too many different copies of the signing key are trusted")
        try:
            for key in candidates:
                self._verifications[key.data] = Verification(self.signature, key)
        except BaseException:
            self.close()
            raise

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        if not data:
            self.read_all = True
        for verification in self._verifications.values():
            verification.feed(data)
        return data

    def accept(self, name: str, notify: Callable[[str], object]) -> None:
        """All has been read and the image calls itself ``name``: raises RktError unless a key trusted
        for that name made the signature.
        """
        if not self.read_all:
            raise AssertionError("the image was not read to its end")
        failure = RktError(f'openpgp: signature made by unknown entity (its key is not trusted for "{name}")')
        for key in self._keystore.keys_for(name):
            verification = self._verifications.pop(key.data, None)
            if verification is None:
                continue
            with verification:
                try:
                    verification.finish()
                except RktError as error:
                    failure = error
                    continue
            notify("\n  ".join(["signature verified:", *key.identities]))
            self.verified = "openpgp", key.fingerprint
            return
        raise failure

    def close(self) -> None:
        for verification in self._verifications.values():
            verification.close()

    def __enter__(self) -> VerifiedSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
