"""The layout of an application container image (specification, "Image Archives").

Exactly ``manifest``, a file, and ``rootfs``, a directory, with everything else below ``rootfs``, each name
once.  Checked while the archive streams by, before anything of it is used.  Stricter than the reference
where it let names through that lead elsewhere: ``rootfs2/x``, hard links to what is not in ``rootfs``.
"""

from __future__ import annotations

from rkt.errors import RktError
from rkt.store.entry import DIRECTORY, FILE, LINK, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.store.archive import Reader

MANIFEST = "manifest"
ROOTFS = "rootfs"

NAME_MAX = 255
"""Bytes of one component of a path on Linux (limits.h)."""
MAX_MANIFEST = 4 << 20
"""Bytes; the largest manifests known are a few KiB."""


def clean(name: str) -> str:
    """A name of an archive without ``.``, empty parts and a trailing slash; empty for ``./``.

    RktError for an absolute name and for ``..`` anywhere: no image needs them.
    """
    if name.startswith("/"):
        raise RktError(f"the archive has the absolute name {name!r}")
    if "\0" in name:
        raise RktError(f"the archive has the name {name!r} with a NUL")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise RktError(f"the archive has the name {name!r}, which leads out of it")
    return "/".join(parts)


class ImageLayout:
    """Collects what an image consists of; one object for one image."""

    __slots__ = ("_has_rootfs", "_manifest", "_names")

    def __init__(self) -> None:
        self._manifest: bytes | None = None
        self._has_rootfs = False
        self._names: set[str] = set()

    @property
    def manifest(self) -> bytes | None:
        """The manifest's bytes once its entry was checked."""
        return self._manifest

    def check_entry(self, entry: Entry, reader: Reader) -> None:
        """Check the entry ``reader`` has just given; reads the body of the manifest.

        Raises RktError that names the entry and the rule.
        """
        name = clean(entry.name)
        if name.startswith("rootfs/"):
            self._check_below(name, entry)
        elif name == ROOTFS:
            # A second entry for rootfs itself is harmless, and there are images that have one.
            if entry.type != DIRECTORY:
                raise RktError("rootfs of the image is not a directory")
            self._has_rootfs = True
        elif name == MANIFEST:
            self._read_manifest(entry, reader)
        elif name:
            raise RktError(f"the image has {name!r}: only manifest and rootfs may be there")

    def _check_below(self, name: str, entry: Entry) -> None:
        if name in self._names:
            raise RktError(f"the image has {name!r} twice")
        # Only long names need a closer look; a letter has up to four bytes.
        if len(name) > NAME_MAX or (len(name) * 4 > NAME_MAX and not name.isascii()):
            _check_components(name)
        if entry.type == LINK:
            target = clean(entry.linkname)
            if target not in self._names:
                raise RktError(f"{name!r} is a hard link to {target!r}, which is not in the image before it")
        self._names.add(name)

    def _read_manifest(self, entry: Entry, reader: Reader) -> None:
        if self._manifest is not None:
            raise RktError("the image has two manifests")
        if entry.type != FILE or entry.segments is not None:
            raise RktError("the manifest of the image is not a plain file")
        if entry.size > MAX_MANIFEST:
            raise RktError(f"the manifest of the image is larger than {MAX_MANIFEST} bytes")
        self._manifest = reader.read()

    def finish(self) -> bytes:
        """The manifest's bytes, once the archive has been read to its end."""
        if not self._has_rootfs:
            raise RktError("the image has no rootfs")
        if self._manifest is None:
            raise RktError("the image has no manifest")
        return self._manifest


def _check_components(name: str) -> None:
    """RktError for a name that no file system of Linux takes: the image could never be unpacked."""
    for component in name.split("/"):
        if len(component.encode("utf-8", "surrogateescape")) > NAME_MAX:
            raise RktError(f"the image has a name longer than {NAME_MAX} bytes: {component[:100]!r}...")
