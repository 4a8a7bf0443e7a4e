"""OCI image layouts: a directory, or an archive of one (OCI image specification, "Image Layout").

::

    oci-layout                  {"imageLayoutVersion": "1.0.0"}
    index.json                  what there is; its members have names in an annotation
    blobs/ALGORITHM/HEX
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.image.oci import documents
from rkt.image.oci.source import Document, Source
from rkt.store import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.image.oci.documents import Descriptor
    from rkt.image.oci.files import Files
    from rkt.image.oci.source import Stream

REF_NAME = "org.opencontainers.image.ref.name"
_VERSION = "1."


class Layout(Source):
    """A layout in ``files``; ``where`` is what it is called in messages."""

    __slots__ = ("_files", "_index", "_where")

    def __init__(self, files: Files, where: str) -> None:
        """Raises RktError for what is no layout."""
        self._files = files
        self._where = where
        marker = documents.load(files.read("oci-layout", 1 << 16), f"oci-layout of {where}")
        version = documents.text(marker, "imageLayoutVersion")
        if not version.startswith(_VERSION):
            raise RktError(f'{where} is a layout of the unknown version "{version[:100]}"')
        data = files.read("index.json", documents.MAX_DOCUMENT)
        index = documents.parse(data, documents.OCI_INDEX, f"index.json of {where}")
        if not isinstance(index, documents.Index):
            raise RktError(f"index.json of {where} is no index")
        self._index = index

    def names(self) -> list[str]:
        """The names that images have in the layout."""
        return [one.annotations[REF_NAME] for one in self._index.manifests if REF_NAME in one.annotations]

    def find(self, name: str) -> Descriptor:
        """The descriptor with a name or digest; with "" the only one.

        Raises RktError that lists the names.
        """
        found = [
            one for one in self._index.manifests if name in ("", one.annotations.get(REF_NAME), one.digest)
        ]
        if len(found) == 1:
            return found[0]
        if len({one.digest for one in found}) == 1:
            return found[0]
        there = ", ".join(sorted(self.names())[:50]) or "none with a name"
        if not found:
            raise RktError(f'{self._where} has no image "{name[:200]}"', hint=f"its images: {there}")
        which = f'several images "{name[:200]}"' if name else "several images"
        raise RktError(f"{self._where} has {which}", hint=f"name one of them: {there}")

    def document(self, reference: str) -> Document | None:
        if ":" in reference and not any(name == reference for name in self.names()):
            path = _path(digests.check(reference))
            if not self._files.has(path):
                return None
            data = self._files.read(path, documents.MAX_DOCUMENT)
            digests.verify(data, reference, f"manifest {reference}")
            known = [one.media_type for one in self._index.manifests if one.digest == reference]
            return Document(data, known[0] if known else "", reference)
        if reference and reference not in self.names():
            return None
        descriptor = self.find(reference)
        data = self.read(descriptor, f"manifest {descriptor.digest}")
        return Document(data, descriptor.media_type, descriptor.digest)

    def open(self, descriptor: Descriptor) -> Stream:
        return self._files.open(_path(descriptor.digest))


def _path(digest: str) -> str:
    algorithm, _, digits = digest.partition(":")
    return os.path.join("blobs", algorithm, digits)
