"""What ``rkt image export`` writes: an image, and beside it the signature for which it was believed.

A signature file is written only where it verifies what is written beside it, or what it says of itself: the
bytes are compared with what was signed while they are copied.
"""

from __future__ import annotations

from rkt.errors import RktError
from rkt.store.signature import DETACHED, MESSAGE, SIGSTORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

    from rkt.store.signature import Signature
    from rkt.store.store import Store

_PIECE = 1 << 20
_MANIFEST_DIGEST = "appc.io/docker/manifesthash"


class Export:
    """An image about to be written to ``path``; a context manager that closes it.

    ``beside`` are the files to be written beside it, (path, content); ``notes`` what the user is to be told.
    """

    __slots__ = ("_key", "_signed", "_source", "beside", "checked", "notes")

    def __init__(self, store: Store, key: str, path: str, *, as_signed: bool) -> None:
        """Raises RktError where it cannot be written as it was signed."""
        self._key = key
        self.beside: list[tuple[str, bytes]] = []
        self.notes: list[str] = []
        signature = store.signature(key)
        self._signed = ""
        covers = signature.covers if signature is not None and signature.kind == DETACHED else ""
        if as_signed and (signature is None or signature.kind != DETACHED):
            raise RktError(f'image "{key}" was not verified by a signature of its file')
        if as_signed and covers:
            self._source = _open_signed(store, key)
            self._signed = covers
        else:
            self._source = store.open_blob(key)
        self.checked = False
        if signature is not None:
            self._plan(store, signature, path)

    @property
    def source(self) -> FileIO:
        """The file to copy."""
        return self._source

    def pieces(self) -> Iterator[bytes]:
        """The file, compared with what was signed: RktError at its end if it is not that any more."""
        import hashlib

        algorithm, _, expected = self._signed.partition(":") if self._signed else ("sha512", "", "")
        digest = hashlib.new(algorithm)
        while data := self._source.read(_PIECE):
            digest.update(data)
            yield data
        found = digest.hexdigest()
        if found != expected if self._signed else not self._key.endswith(f"-{found[:64]}"):
            raise RktError(
                f'the file of image "{self._key}" in the store is damaged', hint="fetch the image again"
            )

    def _plan(self, store: Store, signature: Signature, path: str) -> None:
        key = (store.verification(self._key) or ("", ""))[1]
        if signature.kind == DETACHED:
            self._plan_detached(signature, path, key)
            return
        if signature.kind == SIGSTORE:
            self.beside = [(f"{path}.payload", signature.payload), (f"{path}.sig", signature.data)]
        elif signature.kind == MESSAGE:
            self.beside = [(f"{path}.signed", signature.data)]
        own = store.manifest(self._key).annotation(_MANIFEST_DIGEST)
        what = "manifest" if own == signature.covers else "index"
        names = " and ".join(name for name, _ in self.beside)
        self.notes.append(
            f"wrote {names}: key {key} signed the container {what} {signature.covers}, of which this image "
            f"was made; the file {path} itself is not signed"
        )

    def _plan_detached(self, signature: Signature, path: str, key: str) -> None:
        from rkt.image.reference import EXTENSION, signature_location
        from rkt.trust import openpgp

        if signature.covers and not self._signed:
            self.notes.append(
                f"the signature of key {key} is over the compressed file that was fetched, not over {path}, "
                "so it was not written; --as-signed writes both"
            )
            return
        self.checked = True
        beside = signature_location(path) if path.endswith(EXTENSION) else f"{path}.asc"
        self.beside = [(beside, openpgp.armor(signature.data, openpgp.SIGNATURE))]
        self.notes.append(f"wrote {beside}: the signature of key {key} over {path}")

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_signed(store: Store, key: str) -> FileIO:
    try:
        return store.open_signed(key)
    except FileNotFoundError:
        raise RktError(
            f'the file that image "{key}" was signed as is not in the store',
            hint="fetch the image again to keep it",
        ) from None
