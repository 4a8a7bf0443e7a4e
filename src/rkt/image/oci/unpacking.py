"""Gets the layers of an image unpacked: what is in the store already is neither downloaded nor unpacked.

Layers that are not there are locked until they are, or nobody wants them any more; everybody locks them in
the order of their digests, so that no two fetches wait for each other.  What came gets into the store once
the image is known to be one (``publish``), which waits for the disk; meanwhile the image is put together.  Of
a refused image nothing is kept; of an interrupted one whatever is complete.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor

from rkt.errors import RktError
from rkt.image.http import HttpError
from rkt.image.oci import layers as layering
from rkt.image.oci.pipeline import Pipeline
from rkt.image.progress import Progress
from rkt.store import filesystem
from rkt.store.layer_files import DamagedLayerError, UnpackedLayer
from rkt.store.pipe import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rkt.image.oci.layers import Layer, Limits
    from rkt.image.oci.source import Source
    from rkt.linux.lock import Lock
    from rkt.store.temporary import TemporaryDirectory
    from rkt.store.unpacked import UnpackedLayers


class _Coming:
    """A layer on its way: ``directory`` is there once all of it was unpacked and checked."""

    __slots__ = ("directory", "layer", "lock")

    def __init__(self, layer: Layer, lock: Lock) -> None:
        self.layer = layer
        self.lock = lock
        self.directory: TemporaryDirectory | None = None

    def close(self) -> None:
        """Let go of it; what was not published is removed."""
        if self.directory is not None:
            self.directory.close()
            self.directory = None
        self.lock.close()


class Unpacker:
    """Unpacks the layers of one image from a source: ``take``, then ``publish``, then ``wait``.

    A context manager.  What ``take`` returned stays open and is the caller's.
    """

    __slots__ = (
        "_budget",
        "_coming",
        "_limits",
        "_notify",
        "_progress",
        "_publishing",
        "_source",
        "_store",
        "_waiting",
    )

    def __init__(
        self,
        source: Source,
        store: UnpackedLayers,
        *,
        limits: Limits,
        notify: Callable[[str], object] = lambda _: None,
        progress: Progress | None = None,
    ) -> None:
        self._source = source
        self._store = store
        self._limits = limits
        self._budget = layering.Budget(limits)
        self._notify = notify
        self._progress = progress or Progress()
        self._coming: list[_Coming] = []
        self._publishing = ThreadPoolExecutor(1)
        self._waiting: list[Future[None]] = []

    def __enter__(self) -> Unpacker:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        refused = isinstance(error, RktError) and not isinstance(error, HttpError)
        if not refused:
            self.publish()
        self._publishing.shutdown(wait=True)
        for coming in self._coming:
            coming.close()

    def take(self, layers: Sequence[Layer]) -> list[UnpackedLayer]:
        """Get all layers and read their headers.  Raises the first error in the order of the layers."""
        layering.check_download(layers, self._limits)
        different = {layer.diff_id: layer for layer in layers}
        taken: dict[str, UnpackedLayer] = {}
        try:
            for diff_id in sorted(different):
                found = self._find_or_lock(different[diff_id])
                if found is not None:
                    taken[diff_id] = found
            missing = [layer for diff_id, layer in different.items() if diff_id not in taken]
            if missing:
                self._get_all(missing, taken)
        except BaseException:
            for unpacked in taken.values():
                unpacked.close()
            raise
        for layer in layers:
            layer.headers = different[layer.diff_id].headers
        return [taken[layer.diff_id] for layer in layers]

    def publish(self) -> None:
        """Begin to put what is complete into the store; what is not is given up."""
        coming, self._coming = self._coming, []
        for one in coming:
            if one.directory is None:
                one.close()
            else:
                self._waiting.append(self._publishing.submit(self._publish, one))

    def wait(self) -> None:
        """Wait until all layers are in the store.  Raises OSError."""
        for future in self._waiting:
            future.result()

    def _find_or_lock(self, layer: Layer) -> UnpackedLayer | None:
        """The layer in the store; None for one that is locked now, and is to be got."""
        lock = self._store.lock(layer.diff_id)
        try:
            found = self._find(layer)
        except BaseException:
            lock.close()
            raise
        if found is None:
            self._coming.append(_Coming(layer, lock))
        else:
            lock.close()
            self._notify(f"layer {layer.diff_id} is there already")
        return found

    def _get_all(self, layers: Sequence[Layer], taken: dict[str, UnpackedLayer]) -> None:
        coming = {one.layer.diff_id: one for one in self._coming}

        def get(layer: Layer) -> None:
            taken[layer.diff_id] = self._get(coming[layer.diff_id])

        layering.at_once(layers, get, self._budget)

    def _find(self, layer: Layer) -> UnpackedLayer | None:
        """The layer in the store, read; one that is damaged is none."""
        found = self._store.open(layer.diff_id)
        if found is None:
            return None
        try:
            self._read(layer, found)
        except DamagedLayerError:
            found.close()
            self._store.forget(layer.diff_id)
            return None
        except BaseException:
            found.close()
            raise
        self._budget.take_content(found.size)
        self._budget.take_entries(len(layer.headers))
        return found

    def _get(self, coming: _Coming) -> UnpackedLayer:
        layer, directory = coming.layer, self._store.create()
        try:
            self._unpack(layer, directory)
            unpacked = UnpackedLayer(os.dup(directory.fd), layer.diff_id)
            try:
                self._read(layer, unpacked)
                self._budget.take_entries(len(layer.headers))
            except BaseException:
                unpacked.close()
                raise
        except BaseException:
            directory.close()
            raise
        coming.directory = directory
        return unpacked

    def _publish(self, coming: _Coming) -> None:
        assert coming.directory is not None
        try:
            self._store.keep(coming.layer.diff_id, coming.directory)
            coming.directory.downgrade()
        finally:
            coming.close()

    def _read(self, layer: Layer, unpacked: UnpackedLayer) -> None:
        layer.headers = list(filesystem.headers(entry for entry, _ in unpacked.entries()))
        layer.size = unpacked.size

    def _unpack(self, layer: Layer, directory: TemporaryDirectory) -> None:
        digest = layer.descriptor.digest
        bar = self._progress.start(f"layer {digest.partition(':')[2][:12]}", total=layer.descriptor.size)
        try:
            with (
                self._source.open(layer.descriptor) as stream,
                Pipeline(layer, directory.fd, self._budget, self._limits) as pipeline,
            ):
                reader = layering.checked(layer, stream)
                while data := reader.read(CHUNK):
                    self._budget.check()
                    if not pipeline.feed(data):
                        break
                    bar.advance(len(data))
                pipeline.finish()
        finally:
            bar.finish()
