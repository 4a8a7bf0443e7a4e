"""Layouts and archives as users name them: ``oci:PATH[:NAME]``, ``docker-archive:FILE[:NAME]``, ``@DIGEST``.

The path ends at the first colon.  An image is called by its name in the layout or archive where that is one
a registry could have, else by the last component of the path, with its name there as the version.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.image.oci import names
from rkt.image.oci.docker_archive import DockerArchive
from rkt.image.oci.fetch import Request
from rkt.image.oci.files import Archive, Directory
from rkt.image.oci.layout import Layout
from rkt.store import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.image.oci.files import Files
    from rkt.image.oci.source import Source

_ENDINGS = (".gz", ".zst", ".tar", ".oci", ".docker")


class Place:
    """Where a word leads: ``path`` made absolute, and the ``name`` or ``digest`` of an image there."""

    __slots__ = ("digest", "name", "path", "text")

    def __init__(self, text: str, location: str) -> None:
        self.text = text
        path, at, digest = location.rpartition("@")
        if not at or not digest.startswith(("sha256:", "sha512:")):
            path, digest = location, ""
        path, _, self.name = path.partition(":")
        if not path or (digest and self.name):
            raise RktError(f'invalid image string "{text}"')
        self.digest = digests.check(digest) if digest else ""
        self.path = os.path.abspath(path)

    @property
    def label(self) -> str:
        """The last component of the path, without what says that it is an archive."""
        label = os.path.basename(self.path)
        while label.endswith(_ENDINGS):
            label = os.path.splitext(label)[0]
        return label or "image"


def open_files(place: Place, *, scratch: str, limit: int) -> Files:
    """The files there.  Raises OSError, RktError for what is neither a directory nor a file."""
    if os.path.isdir(place.path):
        return Directory(place.path)
    return open_archive(place, scratch=scratch, limit=limit)


def open_archive(place: Place, *, scratch: str, limit: int) -> Archive:
    from rkt.image import source

    return Archive(source.open_file(place.path), place.path, scratch=scratch, limit=limit)


def layout_request(place: Place, layout: Layout) -> tuple[Source, Request]:
    """What to ask a layout for."""
    name = place.name
    if not place.digest and not name:
        found = layout.names()
        name = found[0] if len(set(found)) == 1 else ""
    return layout, _request(place, place.digest or place.name, name)


def archive_request(place: Place, archive: DockerArchive) -> tuple[Source, Request]:
    """What to ask an archive of ``docker save`` for."""
    image = archive.find(place.digest or place.name)
    name = place.name or (image.names[0] if image.names else "")
    return archive, _request(place, place.digest or place.name, name)


def _request(place: Place, reference: str, name: str) -> Request:
    container = None
    if "/" in name or (":" in name and not name.startswith(("sha256:", "sha512:"))):
        container = names.parse(name)
    version = "" if container else name
    return Request(
        place.text,
        reference,
        pinned=place.digest,
        name=container,
        label=place.label,
        version=version or place.digest,
    )
