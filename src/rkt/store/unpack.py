"""Unpacks images of the store: one alone, or one with its dependencies as they make up a root file system.

Which entry of which image counts is decided by ``rkt.appc.rendering``, from the top image down.  Every blob
is hashed again while it is read, so what is unpacked is what the key says.

A hard link whose target is hidden by a higher image, or by a whitelist, stands for its content all the
same: the first such link takes the target's place in the archive, further ones link to it.
"""

from __future__ import annotations

import os

from rkt.appc import rendering
from rkt.errors import RktError
from rkt.store import archive, dependencies, layout
from rkt.store.extract import Extractor, LinkPlan
from rkt.store.hashing import HashingReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rkt.appc.rendering import Layer
    from rkt.store.store import Store

    Shift = tuple[int, int] | None


def extract_image(store: Store, key: str, directory: str, *, rootfs_only: bool, shift: Shift) -> None:
    """One image alone, whatever its whitelist says."""
    layer = rendering.Layer(key, 0)
    _extract(store, [layer], directory, rootfs_only=rootfs_only, shift=shift)


def extract_rendered(store: Store, key: str, directory: str, *, rootfs_only: bool, shift: Shift) -> None:
    """An image with its dependencies."""
    _extract(store, dependencies.layers(store, key), directory, rootfs_only=rootfs_only, shift=shift)


def extract_layers(store: Store, found: Sequence[Layer], directory: str) -> None:
    """What ``dependencies.layers`` gave, as ``manifest`` and ``rootfs/`` in a directory that exists."""
    _extract(store, found, directory, rootfs_only=False, shift=None)


def _extract(
    store: Store, found: Sequence[Layer], directory: str, *, rootfs_only: bool, shift: Shift
) -> None:
    plain = len(found) == 1 and not found[0].whitelist
    selections = [None] if plain else _select(store, found)
    strip = layout.ROOTFS if rootfs_only else ""
    target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with Extractor(target, strip=strip, owner=os.geteuid() == 0, shift=shift) as extractor:
            for layer, selection in zip(found, selections, strict=True):
                _extract_layer(store, layer.key, extractor, selection)
            extractor.finish()
    finally:
        os.close(target)


def _extract_layer(store: Store, key: str, extractor: Extractor, selection: _Selection | None) -> None:
    with store.open_blob(key) as blob:
        source = HashingReader(blob)
        try:
            reader = archive.Reader(source)
            for entry in reader:
                if selection is None or selection.adapt(entry):
                    extractor.add(entry, reader)
            found = source.key()
        finally:
            source.close()
    if found != key:
        raise RktError(f'image "{key}" in the store is damaged: its content has another digest')


class _Selection:
    """The entries of one image that are wanted, by their clean names."""

    __slots__ = ("_links", "_wanted")

    def __init__(self, entries: Sequence[archive.Entry], wanted: set[str]) -> None:
        self._wanted = wanted
        self._links = LinkPlan(entries, wanted.__contains__, strip="")

    def adapt(self, entry: archive.Entry) -> bool:
        """Whether the entry is made; changes it where a link takes the place of a name left out."""
        path = layout.clean(entry.name)
        moved = self._links.moved
        if path not in self._wanted:
            if path not in moved or entry.type == archive.LINK:
                return False
            entry.name = moved[path]
        elif entry.type == archive.LINK:
            target = self._links.targets[path]
            entry.linkname = moved.get(target, target)
            return entry.linkname != path
        return True


def _select(store: Store, found: Sequence[Layer]) -> list[_Selection | None]:
    """Read the headers of all images and decide, from the top down."""
    selector = rendering.Selector(found)
    selections: list[_Selection | None] = []
    for position, layer in enumerate(found):
        selector.start(position)
        with store.open_blob(layer.key) as blob:
            entries = list(archive.Reader(blob, seek=True))
        wanted = {layout.MANIFEST} if position == 0 else set()
        for entry in entries:
            path = layout.clean(entry.name)
            if path and selector.wants(path, directory=entry.type == archive.DIRECTORY):
                wanted.add(path)
        selections.append(_Selection(entries, wanted))
    return selections
