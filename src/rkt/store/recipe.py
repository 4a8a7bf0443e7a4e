"""What an image is made of that the store keeps as unpacked layers: enough to write its archive again.

::

    cas/recipe/sha512/XX/KEY    {"manifest": TEXT, "layers": [DIGEST, ...], "size": BYTES}

``manifest`` is the one in the archive, ``layers`` are the digests of the layers' archives from the bottom up,
``size`` is that of the image.  Members of the group ``rkt`` can write recipes, so they are as little to be
trusted as blobs: what is made by one is compared with the key.
"""

from __future__ import annotations

import json
import os

from rkt.errors import RktError
from rkt.linux import files
from rkt.store import digest as digests
from rkt.store import directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.store.directories import Directories

_LIMIT = 16 << 20


class Recipe:
    """``manifest`` as it is in the archive, the ``layers`` by their diff IDs, ``size`` in bytes."""

    __slots__ = ("layers", "manifest", "size")

    def __init__(self, manifest: bytes, layers: list[str], size: int) -> None:
        self.manifest = manifest
        self.layers = layers
        self.size = size

    def encode(self) -> str:
        return json.dumps({"manifest": self.manifest.decode(), "layers": self.layers, "size": self.size})


def read(places: Directories, key: str) -> Recipe | None:
    """The recipe of an image; None where there is none.  Raises RktError for one that is damaged."""
    path = places.recipe(key)
    try:
        with open(path, "rb") as file:
            data = file.read(_LIMIT)
    except FileNotFoundError:
        return None
    try:
        return _decode(json.loads(data))
    except (ValueError, KeyError, TypeError, RecursionError, RktError) as error:
        raise RktError(f"{path} is damaged", hint="fetch the image again") from error


def _decode(value: Any) -> Recipe:
    layers, size = value["layers"], value["size"]
    if type(layers) is not list or type(size) is not int or size < 0:
        raise ValueError("no recipe")
    return Recipe(value["manifest"].encode(), [digests.check(layer) for layer in layers], size)


def write(places: Directories, key: str, recipe: Recipe) -> None:
    """Keep a recipe, on disk when this returns."""
    path = places.recipe(key)
    directories.make_parent(path)
    files.write_atomic(path, recipe.encode(), directories.FILE_MODE)


def needed(places: Directories) -> set[str]:
    """The diff IDs of all layers that some image is made of."""
    found: set[str] = set()
    for _, _, names in os.walk(os.path.join(places.recipes, "sha512")):
        for name in names:
            try:
                recipe = read(places, name)
            except RktError:
                continue
            if recipe is not None:
                found.update(recipe.layers)
    return found
