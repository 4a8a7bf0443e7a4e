"""Gets the layers of an image, several at once: download, digests, inflating and reading headers overlap.

A layer of a registry goes through ``cas/layers`` (``rkt.store.layers``); one that is on disk already, in a
layout or an archive, is read where it lies.  Both digests are checked whenever a layer is read: that of the
bytes that came, from the manifest, and that of the archive in them, from the configuration.
"""

from __future__ import annotations

import hashlib
import os
import threading

from rkt.errors import RktError
from rkt.image.progress import Progress
from rkt.store import archive, filesystem
from rkt.store import digest as digests
from rkt.store.layer_content import HINT, Content, too_many, too_much
from rkt.store.pipe import CHUNK, read_ahead

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from rkt.image.oci.documents import Descriptor
    from rkt.image.oci.source import Source, Stream
    from rkt.image.progress import Bar
    from rkt.store.compression import Readable
    from rkt.store.filesystem import Header
    from rkt.store.layers import Layers

AT_ONCE = 3
"""Layers on their way at the same time."""


class Limits:
    """How much of an image is taken: bytes of all layers as they come, and of what is in them; entries."""

    __slots__ = ("content", "download", "entries")

    def __init__(
        self, *, download: int = 32 << 30, content: int = 64 << 30, entries: int = 1_000_000
    ) -> None:
        self.download = download
        self.content = content
        self.entries = entries


class Layer:
    """One layer: ``descriptor`` of what is downloaded, ``diff_id`` of the archive in it.

    ``headers`` are those of its entries once it was taken, ``size`` the bytes of its archive.
    """

    __slots__ = ("descriptor", "diff_id", "headers", "size")

    def __init__(self, descriptor: Descriptor, diff_id: str) -> None:
        self.descriptor = descriptor
        self.diff_id = diff_id
        self.headers: list[Header] = []
        self.size = 0


class Budget:
    """What all layers together may still have; shared by the threads."""

    __slots__ = ("_limits", "_lock", "_stopped", "content", "entries")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self.content = limits.content
        self.entries = limits.entries
        self._stopped = False

    def stop(self) -> None:
        """Nobody wants the layers any more: the threads end with the piece they are at."""
        self._stopped = True

    def check(self) -> None:
        """Raises RktError once nobody wants the layers any more."""
        if self._stopped:
            raise RktError("another layer failed")

    def take_content(self, size: int) -> None:
        with self._lock:
            self.check()
            self.content -= size
            if self.content < 0:
                raise too_much(self._limits.content)

    def take_entries(self, count: int = 1) -> None:
        with self._lock:
            self.entries -= count
            if self.entries < 0:
                raise too_many(self._limits.entries)


class Opened:
    """The archive in a layer that is read from a stream, both digests checked at the end.

    A context manager.
    """

    __slots__ = ("_ahead", "_stream", "content")

    def __init__(
        self, layer: Layer, stream: Stream, budget: Budget | None, copy: tuple[int, Bar] | None = None
    ) -> None:
        """``stream`` gives the layer as it came, and becomes ours.  ``copy``: an fd that gets it, too."""
        self._stream = stream
        self._ahead = None
        source: Readable = checked(layer, stream)
        if copy is not None:
            source = _Tee(source, *copy)
        try:
            if layer.descriptor.size > CHUNK:
                source = self._ahead = read_ahead(source)
            self.content = Content(
                source,
                layer.descriptor.digest,
                layer.diff_id,
                budget.take_content if budget is not None else lambda _: None,
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
        self._stream.__exit__(None, None, None)

    def __enter__(self) -> Content:
        return self.content

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()


def checked(layer: Layer, stream: Readable) -> digests.CheckedReader:
    """A layer as it came, its digest and size checked at the end."""
    descriptor = layer.descriptor
    return digests.CheckedReader(stream, descriptor.digest, descriptor.size, f"layer {descriptor.digest}")


class Entries:
    """The entries of a layer that was taken, read once more."""

    __slots__ = ("_layer", "_taker")

    def __init__(self, layer: Layer, taker: Taker) -> None:
        self._layer = layer
        self._taker = taker

    def entries(self) -> Iterator[tuple[archive.Entry, Readable]]:
        """All entries in their order, each with its content, to be read before the next is asked for."""
        limits = archive.Limits(entries=len(self._layer.headers) + 1, total=1 << 60)
        with self._taker.open(self._layer) as content:
            reader = archive.Reader(content, limits=limits, end_marker=False)
            for entry in reader:
                yield entry, reader
            content.finish()


class _Tee:
    """A readable that also writes to an fd, and tells how far it is."""

    __slots__ = ("_bar", "_fd", "_source")

    def __init__(self, source: Readable, fd: int, bar: Bar) -> None:
        self._source = source
        self._fd = fd
        self._bar = bar

    def read(self, size: int, /) -> bytes:
        from rkt.linux import files

        data = self._source.read(size)
        if data:
            files.write_all(self._fd, data)
            self._bar.advance(len(data))
        return data


class Taker:
    """Takes the layers of one image from a source.  ``cache`` is None where nothing is to be kept."""

    __slots__ = ("_budget", "_cache", "_limits", "_notify", "_progress", "_source")

    def __init__(
        self,
        source: Source,
        cache: Layers | None,
        *,
        limits: Limits,
        notify: Callable[[str], object] = lambda _: None,
        progress: Progress | None = None,
    ) -> None:
        self._source = source
        self._progress = progress or Progress()
        self._cache = cache if source.remote else None
        self._limits = limits
        self._budget = Budget(limits)
        self._notify = notify

    def take(self, layers: Sequence[Layer]) -> None:
        """Get all layers and read their headers.  Raises the first error in the order of the layers."""
        check_download(layers, self._limits)
        # The same layer may be there twice; it is taken once.
        different = {(layer.descriptor.digest, layer.diff_id): layer for layer in layers}
        at_once(list(different.values()), self._take, self._budget)
        for layer in layers:
            first = different[(layer.descriptor.digest, layer.diff_id)]
            layer.headers, layer.size = first.headers, first.size

    def open(self, layer: Layer) -> Opened:
        """The archive of a layer that was taken, once more."""
        return Opened(layer, self._open(layer), None)

    def _open(self, layer: Layer) -> Stream:
        if self._cache is not None:
            fd = self._cache.open(layer.descriptor.digest)
            if fd is not None:
                return open(fd, "rb", buffering=0)
        return self._source.open(layer.descriptor)

    def _take(self, layer: Layer) -> None:
        digest = layer.descriptor.digest
        if self._cache is None:
            self._read(layer, self._source.open(layer.descriptor))
            return
        with self._cache.lock(digest):
            fd = self._cache.open(digest)
            if fd is not None:
                try:
                    self._read(layer, open(fd, "rb", buffering=0))
                    self._notify(f"layer {digest} is there already")
                    return
                except RktError:
                    if _matches(self._cache.open(digest), digest):
                        raise
                    # The disk lost something: the copy is of no use, the original is.
                    self._cache.forget(digest)
            bar = self._progress.start(f"layer {digest.partition(':')[2][:12]}", total=layer.descriptor.size)
            try:
                with self._cache.create() as file:
                    self._read(layer, self._source.open(layer.descriptor), (file.fd, bar))
                    self._cache.keep(digest, file)
            finally:
                bar.finish()

    def _read(self, layer: Layer, stream: Stream, copy: tuple[int, Bar] | None = None) -> None:
        with Opened(layer, stream, self._budget, copy) as content:
            layer.headers = list(filesystem.headers(self._entries(content)))
            content.finish()
            layer.size = content.size

    def _entries(self, content: Content) -> Iterator[archive.Entry]:
        for entry in archive.Reader(content, limits=self._archive_limits(), end_marker=False):
            self._budget.take_entries()
            yield entry

    def _archive_limits(self) -> archive.Limits:
        return archive.Limits(entries=self._limits.entries, total=self._limits.content)


def at_once(layers: Sequence[Layer], work: Callable[[Layer], object], budget: Budget) -> None:
    """Do the work for each layer, several at a time; the first error in their order ends all of it."""
    if len(layers) == 1:
        work(layers[0])
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        for future in [pool.submit(work, layer) for layer in layers]:
            future.result()
    except BaseException:
        # One that is refused, or Ctrl-C.
        budget.stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def check_download(layers: Sequence[Layer], limits: Limits) -> None:
    """Raises RktError for more bytes than are taken."""
    total = sum(layer.descriptor.size for layer in layers)
    if total > limits.download:
        raise RktError(f"the layers have {total} bytes, more than {limits.download}", hint=HINT)


def _matches(fd: int | None, digest: str) -> bool:
    """Whether a kept layer still has its digest."""
    if fd is None:
        return False
    hash = hashlib.new(digest.partition(":")[0])
    with open(fd, "rb", buffering=0) as file:
        while data := file.read(CHUNK):
            hash.update(data)
    return f"{digest.partition(':')[0]}:{hash.hexdigest()}" == digest


def check_space(directory: str, size: int) -> None:
    """Raises RktError when a file system has less than ``size`` bytes left."""
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    if size > free:
        raise RktError(f"the image needs {size} bytes, and {directory} has {free} left")
