"""One layer on its way from a registry to files; each arrow is a pipe, what is in brackets a worker.

::

    download, digest -> [inflate] -> digest, limits -> [unpack] -> directory

Both digests are worked out here, from bytes that no worker can change any more: what a layer is called in the
store does not depend on what its content may have made of the code that inflates it.  A layer that is no
compressed one needs no first worker.
"""

from __future__ import annotations

import hashlib
import os
import threading

from rkt.errors import RktError
from rkt.linux import files
from rkt.store import compression, streams
from rkt.store.confined import Worker
from rkt.store.layer_inflate import KINDS
from rkt.store.pipe import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.image.oci.layers import Budget, Layer, Limits

_PLAIN = ("tar", "unknown")
"""What an archive looks like; an empty or very old one shows no sign of being one."""


class Pipeline:
    """Unpacks one layer into an empty directory (an fd); a context manager that leaves no worker behind.

    ``feed`` all of it, then ``finish``.
    """

    __slots__ = (
        "_budget",
        "_first",
        "_hash",
        "_inflater",
        "_layer",
        "_relay",
        "_relay_error",
        "_sink",
        "_source",
        "_started",
        "_unpacked",
        "_unpacker",
    )

    def __init__(self, layer: Layer, directory: int, budget: Budget, limits: Limits) -> None:
        self._layer = layer
        self._budget = budget
        self._hash = hashlib.new(layer.diff_id.partition(":")[0])
        self._started = False
        self._first = b""
        self._source = -1
        self._inflater: Worker | None = None
        self._relay: threading.Thread | None = None
        self._relay_error: BaseException | None = None
        arguments = {"entries": budget.entries, "limits": [limits.content, limits.entries]}
        theirs, self._sink = streams.pipe()
        try:
            self._unpacker = Worker("layer_unpack:unpack", arguments, [theirs, directory])
        except BaseException:
            os.close(self._sink)
            raise
        finally:
            os.close(theirs)

    def feed(self, data: bytes) -> bool:
        """The next piece; False once no more is wanted, and ``finish`` says why."""
        if not self._started:
            data = self._first = self._first + data
            if len(data) < compression.SNIFFED:
                return True
            self._start()
        return self._feed(data)

    def _feed(self, data: bytes) -> bool:
        try:
            if self._inflater is None:
                self._pass_on(data)
            else:
                files.write_all(self._source, data)
        except BrokenPipeError:
            return False
        return True

    def finish(self) -> None:
        """Wait until all is unpacked.  Raises what went wrong first, RktError for another digest."""
        if not self._started:
            self._start()
            self._feed(self._first)
        self._source = _close(self._source)
        if self._relay is not None:
            self._relay.join()
            if self._relay_error is not None and not isinstance(self._relay_error, BrokenPipeError):
                raise self._relay_error
        if self._inflater is not None and self._relay_error is None:
            self._inflater.wait()
        expected = self._layer.diff_id
        found = f"{expected.partition(':')[0]}:{self._hash.hexdigest()}"
        self._sink = _close(self._sink)
        self._unpacker.wait()
        if found != expected:
            digest = self._layer.descriptor.digest
            raise RktError(f"the content of layer {digest} has the digest {found} instead of {expected}")

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self._source = _close(self._source)
        self._unpacker.kill()
        if self._inflater is not None:
            self._inflater.kill()
        if self._relay is not None:
            self._relay.join()
        self._sink = _close(self._sink)

    def _start(self) -> None:
        """Once the first bytes are there, or all if there are fewer."""
        self._started = True
        kind = compression.detect(self._first)
        if kind in _PLAIN:
            return
        if kind not in KINDS:
            raise RktError(f"layer {self._layer.descriptor.digest} is {kind} data")
        theirs, self._source = streams.pipe()
        plain, output = streams.pipe()
        try:
            self._inflater = Worker("layer_inflate:inflate", {"kind": kind}, [theirs, output])
        except BaseException:
            os.close(plain)
            raise
        finally:
            os.close(theirs)
            os.close(output)
        self._relay = threading.Thread(target=self._run, args=(plain,), daemon=True)
        self._relay.start()

    def _run(self, plain: int) -> None:
        try:
            while data := os.read(plain, CHUNK):
                self._pass_on(data)
        except BaseException as error:
            self._relay_error = error
        finally:
            os.close(plain)

    def _pass_on(self, data: bytes) -> None:
        self._budget.take_content(len(data))
        self._hash.update(data)
        files.write_all(self._sink, data)


def _close(fd: int) -> int:
    if fd >= 0:
        os.close(fd)
    return -1
