"""The door of the store: an image passes when its signature is good and it is the one asked for.

Bytes are verified while the store decompresses and hashes them, and nothing has a name in the store
before both have ended well.  All kinds of sources come through here.
"""

from __future__ import annotations

from io import FileIO

from rkt.errors import Context, RktError
from rkt.store.signature import DETACHED, Signature, SignedCopy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.appc.image import ImageManifest
    from rkt.image.source import VerifiedSource
    from rkt.store.hashing import Readable
    from rkt.store.store import Store
    from rkt.trust.keystore import Keystore

    Check = Callable[[ImageManifest], None]


class VerificationError(RktError):
    """The signature does not vouch for the image, or it is not the image that was asked for."""


class Plain:
    """A source whose bytes nobody vouches for, because the caller said so."""

    __slots__ = ("_source", "signature", "verified")

    def __init__(self, source: Readable, why: str) -> None:
        self._source = source
        self.signature = None
        self.verified = why, ""

    @property
    def source(self) -> Readable:
        """The source itself: nobody has to see what is read of it."""
        return self._source

    def read(self, size: int, /) -> bytes:
        return self._source.read(size)

    def accept(self, name: str, notify: Callable[[str], object]) -> None:
        """Nothing to verify."""

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Admission:
    """Lets images into a store.

    ``keystore`` None: signatures are not looked at, and ``unverified`` is noted as how an image was verified:
    ``none``, or ``installed`` for what came with rkt.
    """

    __slots__ = ("_keystore", "_notify", "_store", "_unverified")

    def __init__(
        self,
        store: Store,
        keystore: Keystore | None,
        notify: Callable[[str], object],
        *,
        unverified: str = "none",
    ) -> None:
        self._unverified = unverified
        self._store = store
        self._keystore = keystore
        self._notify = notify

    @property
    def needs_signature(self) -> bool:
        return self._keystore is not None

    def verify(self, source: Readable, name: str, signature: bytes | None) -> Plain | VerifiedSource:
        """``source`` being verified; nothing is read yet.  A context manager.

        ``name`` is for messages.  Raises VerificationError when no trusted key can have made the signature.
        """
        if self._keystore is None:
            return Plain(source, self._unverified)
        from rkt.image.source import VerifiedSource

        if signature is None:
            raise AssertionError("a signature is needed")
        try:
            return VerifiedSource(source, signature, self._keystore)
        except RktError as error:
            raise VerificationError(f'image "{name}" verification failed') from error

    def admit(
        self,
        verified: Plain | VerifiedSource,
        name: str,
        *,
        latest: bool = False,
        check: Check = lambda _: None,
        render: bool = False,
    ) -> str:
        """Import what ``verify`` gave and return its key; ``check`` says whether it is what was asked for.

        ``render``: the image's tree is wanted next.

        Raises VerificationError, RktError for what is no image, and what the source raises.
        """

        def judge(manifest: ImageManifest) -> None:
            try:
                verified.accept(manifest.name, self._notify)
                check(manifest)
            except RktError as error:
                raise VerificationError(f'image "{name}" verification failed') from error

        with SignedCopy(self._store.places) as copy:
            source = _Watched(verified, copy if verified.signature is not None else None)
            given: Readable = source
            if isinstance(verified, Plain) and isinstance(verified.source, FileIO):
                # The file itself: whoever takes it apart reads it.
                given = verified.source
            try:
                key = self._store.import_image(given, latest=latest, check=judge, render=render)
                self._note(key, verified, copy)
                return key
            except VerificationError:
                raise
            except (RktError, OSError) as error:
                if error is source.failure and isinstance(error, RktError):
                    raise
                raise RktError(f'image "{name}" cannot be imported') from error

    def _note(self, key: str, verified: Plain | VerifiedSource, copy: SignedCopy) -> None:
        signature = None
        if verified.signature is not None:
            copy.keep(key)
            signature = Signature(DETACHED, verified.signature.data, covers=copy.covers())
        self._store.put_verification(key, *verified.verified, signature)

    def read_signature(self, path: str) -> bytes | None:
        """The signature in a file; None where none is needed."""
        if self._keystore is None:
            return None
        from rkt.image import source

        try:
            return source.read_signature(path)
        except OSError as error:
            raise Context("error opening signature file") from error


class _Watched:
    """Tells what the source raised from what the importer did, and has a copy made of what passes by."""

    __slots__ = ("_copy", "_source", "failure")

    def __init__(self, source: Readable, copy: SignedCopy | None) -> None:
        self._source = source
        self._copy = copy
        self.failure: BaseException | None = None

    def read(self, size: int, /) -> bytes:
        try:
            data = self._source.read(size)
        except BaseException as error:
            self.failure = error
            raise
        if self._copy is not None:
            self._copy.feed(data)
        return data
