"""The task that unpacks images of the store: one alone, or one with its dependencies.

Which entry of which image counts is decided by ``rkt.appc.rendering``, from the top image down, in a first
pass over the headers.

A hard link whose target is hidden by a higher image, or by a whitelist, stands for its content all the
same: the first such link takes the target's place in the archive, further ones link to it.
"""

from __future__ import annotations

import os

from rkt.appc import rendering
from rkt.store import archive, checksum, layout
from rkt.store.confined.reading import FdReader
from rkt.store.extract import Extractor, LinkPlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rkt.appc.rendering import Layer


def unpack(arguments: dict[str, Any], fds: list[int]) -> dict[str, object]:
    """Unpack images into the directory ``fds[0]``; from the pipe ``fds[1]`` come their archives.

    ``images``, from the top down: ``key``, ``level``, ``whitelist``, ``size`` in bytes.  ``select``: what
    each provides is to be decided first; then the pipe has all archives twice.  ``strip``, ``shift`` as for
    ``Extractor``.  Returns ``checksum`` and ``size`` of the tree if ``summary`` asks for them.
    """
    directory, pipe = fds[:2]
    images = arguments["images"]
    layers = [rendering.Layer(image["key"], image["level"], image["whitelist"]) for image in images]
    sizes = [image["size"] for image in images]
    selections: list[_Selection | None] = [None] * len(layers)
    if arguments["select"]:
        selections = _select(layers, sizes, pipe)
    contents = checksum.Contents() if arguments["summary"] else None
    shift = arguments["shift"]
    with Extractor(
        directory,
        strip=arguments["strip"],
        owner=os.geteuid() == 0,
        shift=None if shift is None else (shift[0], shift[1]),
        contents=contents,
    ) as extractor:
        for size, selection in zip(sizes, selections, strict=True):
            source = FdReader(pipe, size)
            reader = archive.Reader(source)
            for entry in reader:
                if selection is None or selection.adapt(entry):
                    extractor.add(entry, reader)
            _drain(source)
        extractor.finish()
    if contents is None:
        return {}
    found, total = checksum.summary(directory, contents)
    return {"checksum": found, "size": total}


def _drain(source: FdReader) -> None:
    while source.read():
        pass


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


def _select(layers: Sequence[Layer], sizes: Sequence[int], pipe: int) -> list[_Selection | None]:
    """Read the headers of all images and decide, from the top down."""
    selector = rendering.Selector(layers)
    selections: list[_Selection | None] = []
    for position, size in enumerate(sizes):
        selector.start(position)
        source = FdReader(pipe, size)
        entries = list(archive.Reader(source))
        _drain(source)
        wanted = {layout.MANIFEST} if position == 0 else set()
        for entry in entries:
            path = layout.clean(entry.name)
            if path and selector.wants(path, directory=entry.type == archive.DIRECTORY):
                wanted.add(path)
        selections.append(_Selection(entries, wanted))
    return selections
