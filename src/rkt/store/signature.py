"""The signature for which an image was believed, as the store keeps it with the image.

An OpenPGP signature of an image file is over the file as it was fetched.  Where that was compressed, what the
store has is not what was signed: then the file is kept too (``cas/signed``), or nobody could check the
signature again.  Signatures of container images are over a payload that names the digest of a manifest.
"""

from __future__ import annotations

import os

from rkt.linux import files
from rkt.store import compression
from rkt.store.directories import IMPORT_PREFIX, make_parent
from rkt.store.temporary import TemporaryFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import _Hash

    from rkt.store.directories import Directories

DETACHED = "detached"
SIGSTORE = "sigstore"
MESSAGE = "message"

_SNIFFED = 6
"""The longest magic number of a compressed file."""
_LOOK = 4 << 20
_ROOM = 16 << 20
_EXPANSION = 4
"""The image comes first: a copy goes on while so many times its size, and ``_ROOM``, are still free."""


class Signature:
    """``kind`` says what ``data`` is:

    - DETACHED: an OpenPGP signature in binary form, over the image as it is stored, or, with ``covers``, over
      the file of that digest (``sha256:HEX``) that was fetched;
    - SIGSTORE: a signature in base64 over ``payload``;
    - MESSAGE: a signed OpenPGP message with its payload inside ("simple signing").

    The latter two are about the container manifest, or index, of the digest ``covers``.
    """

    __slots__ = ("covers", "data", "kind", "payload")

    def __init__(self, kind: str, data: bytes, *, payload: bytes = b"", covers: str = "") -> None:
        self.kind = kind
        self.data = data
        self.payload = payload
        self.covers = covers


class SignedCopy:
    """Keeps the file that passes by if it is compressed, and its digest in any case; a context manager.

    Keeping it is a service: a disk that is full, or nearly so, means that it is not kept, and does not end
    the import.  It is not synced either: whoever reads it compares the digest.
    """

    __slots__ = ("_digest", "_file", "_first", "_look", "_places", "_written")

    def __init__(self, places: Directories) -> None:
        self._places = places
        self._first: bytes | None = b""
        self._file: TemporaryFile | None = None
        self._digest: _Hash | None = None
        self._written = 0
        self._look = 0

    def feed(self, data: bytes) -> None:
        """The next bytes of the file, b"" at its end."""
        if self._first is not None:
            self._first += data
            if data and len(self._first) < _SNIFFED:
                return
            data, self._first = self._first, None
            self._begin(data)
        if self._digest is not None:
            self._digest.update(data)
        if self._file is not None:
            try:
                self._write(self._file.fd, data)
            except OSError:
                self._drop()

    def covers(self) -> str:
        """The digest of the file; "" where it is what the store has."""
        return f"sha256:{self._digest.hexdigest()}" if self._digest is not None else ""

    def keep(self, key: str) -> None:
        """The image got into the store as ``key``: give the file its place beside it."""
        if self._file is None:
            return
        path = self._places.signed(key)
        try:
            make_parent(path)
            self._file.publish(path, durable=False)
        except OSError:
            self._drop()

    def close(self) -> None:
        self._drop()

    def __enter__(self) -> SignedCopy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, first: bytes) -> None:
        if compression.detect(first) not in compression.COMPRESSIONS:
            return
        from hashlib import sha256

        self._digest = sha256()
        try:
            self._file = TemporaryFile(self._places.temporary, IMPORT_PREFIX)
        except OSError:
            self._file = None

    def _write(self, fd: int, data: bytes) -> None:
        self._written += len(data)
        if self._written >= self._look:
            self._look = self._written + _LOOK
            status = os.fstatvfs(fd)
            if status.f_bavail * status.f_frsize < max(self._written * _EXPANSION, _ROOM):
                self._drop()
                return
        files.write_all(fd, data)

    def _drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
