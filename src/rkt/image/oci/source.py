"""What registries, layouts and archives have in common for whoever fetches an image from one."""

from __future__ import annotations

from rkt.errors import RktError
from rkt.image.oci.documents import MAX_DOCUMENT, Descriptor
from rkt.store import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Protocol

    class Stream(Protocol):
        """A readable that is closed by leaving it."""

        def read(self, size: int, /) -> bytes: ...
        def __enter__(self) -> Stream: ...
        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            trace: TracebackType | None,
            /,
        ) -> object: ...


class Document:
    """A manifest or index as found: its bytes, the media type it was given with, its digest."""

    __slots__ = ("data", "digest", "media_type")

    def __init__(self, data: bytes, media_type: str, digest: str) -> None:
        self.data = data
        self.media_type = media_type
        self.digest = digest


class Source:
    """One place with images; nothing it gives is trusted before its digest was checked.

    ``remote``: layers are worth keeping, for getting them again costs time.
    """

    __slots__ = ()

    remote = False

    def document(self, reference: str) -> Document | None:
        """The manifest or index behind a tag or a digest, None when there is none.

        What is asked for by digest has that digest.
        """
        raise NotImplementedError

    def open(self, descriptor: Descriptor) -> Stream:
        """The bytes of a blob, unchecked; may be called from several threads at once."""
        raise NotImplementedError

    def read(self, descriptor: Descriptor, what: str, limit: int = MAX_DOCUMENT) -> bytes:
        """A small blob as a whole, of the right size and digest."""
        if descriptor.size > limit:
            raise RktError(f"{what} is larger than {limit} bytes")
        with self.open(descriptor) as stream:
            reader = digests.CheckedReader(stream, descriptor.digest, descriptor.size, what)
            parts = []
            while data := reader.read(1 << 16):
                parts.append(data)
        return b"".join(parts)
