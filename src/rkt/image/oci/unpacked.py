"""Makes an image of the store from unpacked layers, and its tree, while the layers get to the disk."""

from __future__ import annotations

from rkt.image.oci.unpacking import Unpacker
from rkt.store import filesystem, layered
from rkt.store.layer_files import DamagedLayerError
from rkt.store.layered import LayeredImage
from rkt.store.recipe import Recipe
from rkt.store.unpacked import UnpackedLayers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.image.oci.layers import Layer, Limits
    from rkt.image.oci.source import Source
    from rkt.image.progress import Progress
    from rkt.store.store import Store


class Conversion:
    """Converts images of one source into images of the store, as root."""

    __slots__ = ("_limits", "_notify", "_progress", "_source", "_store")

    def __init__(
        self,
        store: Store,
        source: Source,
        *,
        limits: Limits,
        notify: Callable[[str], object],
        progress: Progress | None,
    ) -> None:
        self._store = store
        self._source = source
        self._limits = limits
        self._notify = notify
        self._progress = progress

    def convert(self, manifest: bytes, layers: list[Layer]) -> str:
        """The key of the image with this manifest and these layers, rendered.  Raises RktError or OSError."""
        self._store.places.make_trees()
        again: set[str] = set()
        while True:
            try:
                return self._convert(manifest, layers)
            except DamagedLayerError as error:
                # The disk lost something of a layer that was there: the original is of more use.
                UnpackedLayers(self._store.places).forget(error.diff_id)
                if error.diff_id in again:
                    raise
                self._notify(str(error))
                again.add(error.diff_id)

    def _convert(self, manifest: bytes, layers: list[Layer]) -> str:
        unpacker = Unpacker(
            self._source,
            UnpackedLayers(self._store.places),
            limits=self._limits,
            notify=self._notify,
            progress=self._progress,
        )
        made = filesystem.Filesystem()
        with unpacker:
            unpacked = unpacker.take(layers)
            try:
                for layer in layers:
                    made.apply(layer.headers)
                    layer.headers = []
            except BaseException:
                for one in unpacked:
                    one.close()
                raise
            unpacker.publish()
            trees = self._store.trees
            with LayeredImage(manifest, unpacked, made.plan()) as image, trees.begin() as tree:
                built = layered.build(image, tree.fd, unpacker.wait)
                recipe = Recipe(manifest, [layer.diff_id for layer in layers], built.size)
                self._store.import_layers(built.key, recipe)
                tree.publish(built.key, checksum=built.checksum, size=built.tree_size)
        return built.key
