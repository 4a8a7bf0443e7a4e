"""Images a build takes from elsewhere: what it begins from, and what lies below it.

They are fetched and verified as ``rkt fetch`` does it, into a store: the build's own, unless another is
named.
"""

from __future__ import annotations

import io
import os

from rkt.appc.image import ImageManifest
from rkt.errors import RktError
from rkt.image import reference as references
from rkt.store.archive_writer import Writer
from rkt.store.entry import DIRECTORY, Entry
from rkt.store.layout import MANIFEST, ROOTFS
from rkt.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.image.fetch import Fetcher

_NAME = "acbuild-dependencies"


class Sources:
    """``data`` is the data directory of the store; ``fetcher`` makes the fetcher for it."""

    __slots__ = ("_data", "_fetcher")

    def __init__(self, data: str, fetcher: Callable[[Store], Fetcher]) -> None:
        self._data = data
        self._fetcher = fetcher

    def unpack(self, text: str, directory: str) -> None:
        """Fetch an image and unpack it as a layout; the images below it are not part of that."""
        reference = references.parse(text)
        if reference.kind == references.FILE:
            raise RktError(f'"{text}" is no image to fetch: paths begin with ".", "~" or "/"')
        with Store(self._data) as store, self._fetcher(store) as fetcher:
            store.extract_image(fetcher.fetch(reference), directory)

    def render(self, manifest: ImageManifest) -> str:
        """The root file system of all an image depends on, without the image itself.

        An empty image with the same dependencies and whitelist stands for it, so that everything is found,
        checked and rendered as it will be when the image is run.
        """
        stand_in = ImageManifest(
            _NAME, dependencies=manifest.dependencies, path_whitelist=manifest.path_whitelist
        )
        with Store(self._data) as store:
            key = store.import_image(io.BytesIO(_empty(stand_in)))
            with self._fetcher(store) as fetcher:
                fetcher.fetch(key)
            return os.path.join(store.tree_root(store.render(key)), ROOTFS)


def _empty(manifest: ImageManifest) -> bytes:
    data = manifest.encode().encode()
    target = io.BytesIO()
    with Writer(target) as writer:
        writer.add(Entry(ROOTFS, DIRECTORY, mode=0o755))
        writer.add(Entry(MANIFEST, size=len(data)), data)
    return target.getvalue()
