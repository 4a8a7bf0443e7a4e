"""Which files of which image make up a root file system: dependencies, overriding, path whitelists.

Source: specification, "Dependency Matching" and "Image Archives"; the algorithm is the reference's: the
tree of dependencies as a list from the top, the last listed dependency first, and going down that list
the first image that provides a path wins.  Two defects of the reference are not kept: the whitelist of a
sibling does not leak, and a path whose parent is only implied hides a lower file in the place of the
parent.  The reference does not end on a loop; here it is an error.
"""

from __future__ import annotations

import posixpath

from rkt.appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rkt.appc.image import Dependency, ImageManifest

ROOT = "rootfs"
# Dependencies may repeat, so a short chain of images can name exponentially many.
_MOST_LAYERS = 1000


class Layer:
    """One image in the list of a rendering; ``level`` is its depth in the tree of dependencies."""

    __slots__ = ("key", "level", "whitelist")

    def __init__(self, key: str, level: int, whitelist: Sequence[str] = ()) -> None:
        self.key = key
        self.level = level
        self.whitelist = whitelist

    def __repr__(self) -> str:
        return f"Layer({self.key!r}, {self.level})"


def flatten(
    key: str,
    manifest_of: Callable[[str], ImageManifest],
    resolve: Callable[[Dependency], str],
) -> list[Layer]:
    """The image called ``key`` and all it depends on, from the top down, a higher one before a lower one.

    ``resolve`` gives the key of the image a dependency means.  Raises ``AppcError`` for a loop.
    """
    layers: list[Layer] = []
    # what is to be visited, with the chain of keys that leads to it
    waiting: list[tuple[str, tuple[str, ...]]] = [(key, ())]
    while waiting:
        current, above = waiting.pop()
        if current in above:
            chain = [*above[above.index(current) :], current]
            raise AppcError(f"dependency loop: {' -> '.join(chain)}")
        if len(layers) == _MOST_LAYERS:
            raise AppcError(f"image {key} depends on more than {_MOST_LAYERS} images")
        manifest = manifest_of(current)
        layers.append(Layer(current, len(above), manifest.path_whitelist))
        # the last one listed is taken first
        waiting.extend((resolve(dependency), (*above, current)) for dependency in manifest.dependencies)
    return layers


def upper_whitelist(layers: Sequence[Layer], position: int) -> Sequence[str]:
    """The whitelist of the outermost image that has one among those the image at ``position`` serves."""
    found: Sequence[str] = ()
    level = layers[position].level
    for layer in reversed(layers[:position]):
        if layer.level < level:
            level = layer.level
            if layer.whitelist:
                found = layer.whitelist
    return found


def _paths(whitelist: Iterable[str]) -> frozenset[str]:
    """The entries as names in an archive."""
    return frozenset(posixpath.normpath(f"{ROOT}/{path}") for path in whitelist)


class Selector:
    """Decides for the images of a list, from the top down, which of their entries are wanted.

    Call ``start`` for each position in turn, then ``wants`` for each entry of that image.
    """

    __slots__ = ("_implied", "_layers", "_own", "_provided", "_upper")

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers
        # path -> whether the image that provides it has a directory there
        self._provided: dict[str, bool] = {}
        # directories that exist because something in them is provided
        self._implied: set[str] = set()
        self._own: frozenset[str] = frozenset()
        self._upper: frozenset[str] = frozenset()

    def start(self, position: int) -> None:
        self._own = _paths(self._layers[position].whitelist)
        self._upper = _paths(upper_whitelist(self._layers, position))

    def wants(self, name: str, *, directory: bool) -> bool:
        """Whether the entry is part of the result; ``name`` is its cleaned name in the archive."""
        if name == ROOT:
            self._provided[name] = directory
            return directory
        if not name.startswith(f"{ROOT}/"):
            return False
        if self._own and not directory and name not in self._own:
            return False
        if self._upper and name not in self._upper:
            return False
        if name in self._provided or (name in self._implied and not directory):
            return False
        parents = _parents(name)
        if any(self._provided.get(parent) is False for parent in parents):
            return False
        self._provided[name] = directory
        self._implied.update(parents)
        return True


def _parents(name: str) -> list[str]:
    parents = []
    end = name.rfind("/")
    while end > 0:
        parents.append(name[:end])
        end = name.rfind("/", 0, end)
    return parents


def select(
    layers: Sequence[Layer], entries_of: Callable[[str], Iterable[tuple[str, bool]]]
) -> list[set[str]]:
    """For each image of the list the names of its entries that are wanted.

    ``entries_of`` gives the entries of an image: cleaned name in the archive, and whether it is a directory.
    The manifest of the first image is part of the result.
    """
    selector = Selector(layers)
    chosen = []
    for position, layer in enumerate(layers):
        selector.start(position)
        names = {
            name for name, directory in entries_of(layer.key) if selector.wants(name, directory=directory)
        }
        if position == 0:
            names.add("manifest")
        chosen.append(names)
    return chosen
