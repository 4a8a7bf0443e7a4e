"""An image as layers: its archive, its key and its tree, made of the unpacked layers.

The archive is the same, byte for byte, as if the image had been written as one: ``rkt.store.merge``.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import files
from rkt.linux.failure import named
from rkt.store import filesystem, hashing, merge
from rkt.store import recipe as recipes
from rkt.store.pipe import CHUNK
from rkt.store.unpacked import UnpackedLayers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import FileIO

    from rkt.store.directories import Directories
    from rkt.store.filesystem import Plan
    from rkt.store.layer_files import UnpackedLayer
    from rkt.store.pipe import Pipe
    from rkt.store.recipe import Recipe


class LayeredImage:
    """``layers`` become ours; ``plan`` is what they make up.  A context manager."""

    __slots__ = ("_stopped", "layers", "manifest", "plan")

    def __init__(self, manifest: bytes, layers: Sequence[UnpackedLayer], plan: Plan) -> None:
        self.manifest = manifest
        self.layers = layers
        self.plan = plan
        self._stopped = False

    def archive(self) -> Pipe:
        """The image as a readable that is to be closed."""
        return merge.stream(self.manifest, self.plan, self.layers)

    def key(self) -> tuple[str, int]:
        """The key of the image, and its size in bytes.  Raises RktError for a layer that is damaged."""
        import hashlib

        digest, size = hashlib.sha512(), 0
        with self.archive() as archive:
            while data := archive.read(CHUNK):
                if self._stopped:
                    raise RktError("nobody wants the key any more")
                digest.update(data)
                size += len(data)
        return hashing.PREFIX + digest.hexdigest()[: hashing.KEY_LENGTH], size

    def stop(self) -> None:
        """Let a thread that works out the key end soon."""
        self._stopped = True

    def close(self) -> None:
        for layer in self.layers:
            layer.close()

    def __enter__(self) -> LayeredImage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Built:
    """What ``build`` worked out of an image: its key and the size of its archive; the checksum of its tree,
    and the tree's size.
    """

    __slots__ = ("checksum", "key", "size", "tree_size")

    def __init__(self, archive: tuple[str, int], tree: tuple[str, int]) -> None:
        self.key, self.size = archive
        self.checksum, self.tree_size = tree


def open_image(places: Directories, recipe: Recipe) -> LayeredImage:
    """The image of a recipe.  Raises RktError where a layer is missing or damaged."""
    store = UnpackedLayers(places)
    layers: list[UnpackedLayer] = []
    made = filesystem.Filesystem()
    try:
        for diff_id in recipe.layers:
            layer = store.open(diff_id)
            if layer is None:
                raise RktError(f"layer {diff_id} is not in the store", hint="fetch the image again")
            layers.append(layer)
            made.apply(filesystem.headers(entry for entry, _ in layer.entries()))
    except BaseException:
        for layer in layers:
            layer.close()
        raise
    return LayeredImage(recipe.manifest, layers, made.plan())


def build(image: LayeredImage, directory: int, wait: Callable[[], object] = lambda: None) -> Built:
    """Make the tree of an image in an empty directory (an fd), and work out everything about it meanwhile.

    ``wait`` is called at the end, for what else has to be done by then.
    """
    from concurrent.futures import ThreadPoolExecutor

    from rkt.store import assembly, checksum

    with ThreadPoolExecutor(1) as pool:
        try:
            hashed = pool.submit(image.key)
            tree = checksum.summary(directory, assembly.assemble(image, directory))
            archive = hashed.result()
            wait()
        except BaseException:
            image.stop()
            raise
    return Built(archive, tree)


def open_blob(places: Directories, key: str) -> FileIO | None:
    """The archive of an image that the store keeps as layers, in a file without a name; None for others.

    Raises RktError where it cannot be made any more, or has another key.
    """
    recipe = recipes.read(places, key)
    if recipe is None:
        return None
    if os.geteuid() != 0:
        raise RktError(
            f'image "{key}" was fetched by root and is kept as layers, which only root may read',
            hint="ask root, or fetch it again from a layout or archive",
        )
    fd = os.open(places.temporary, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _write(places, key, recipe, fd)
        os.lseek(fd, 0, os.SEEK_SET)
        return open(fd, "rb", buffering=0)
    except BaseException:
        os.close(fd)
        raise


def _write_to(directory: str, fd: int, data: bytes) -> None:
    """To a file without a name in a directory, which an error names."""
    try:
        files.write_all(fd, data)
    except OSError as error:
        raise named(error, "write to", directory) from None


def _write(places: Directories, key: str, recipe: Recipe, fd: int) -> None:
    hasher = hashing.Hasher()
    try:
        with open_image(places, recipe) as image, image.archive() as archive:
            while data := archive.read(CHUNK):
                hasher.update(data)
                _write_to(places.temporary, fd, data)
        found = hasher.key()
    finally:
        hasher.close()
    if found != key:
        raise RktError(f'image "{key}" in the store is damaged: its content has another digest')


def is_complete(places: Directories, key: str) -> bool:
    """Whether the image can be had from the store: as a file, or made of layers that are all there.

    Only root can tell about layers: for others a recipe will do.
    """
    if os.path.exists(places.blob(key)):
        return True
    try:
        recipe = recipes.read(places, key)
    except RktError:
        return False
    if recipe is None or os.geteuid() != 0:
        return recipe is not None
    layers = UnpackedLayers(places)
    return all(layers.has(diff_id) for diff_id in recipe.layers)
