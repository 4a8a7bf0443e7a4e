"""Unpacks images of the store, in a worker: one alone, or one with its dependencies.

Every blob is hashed again while it is handed to the worker, so what is unpacked is what the key says.
"""

from __future__ import annotations

import os

from rkt.appc import rendering
from rkt.errors import RktError
from rkt.store import dependencies, layout
from rkt.store.confined import Worker
from rkt.store.streams import Feeder

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


def extract_layers(store: Store, found: Sequence[Layer], directory: str, *, lock: int) -> tuple[str, int]:
    """What ``dependencies.layers`` gave, as ``manifest`` and ``rootfs/`` in a directory that exists.

    ``lock``: the fd of the directory's lock, which the worker holds too for as long as it lives.  Returns the
    checksum of what is there then, and its size (``checksum.summary``).
    """
    answer = _extract(store, found, directory, rootfs_only=False, shift=None, lock=lock)
    checksum, size = answer.get("checksum"), answer.get("size")
    if not isinstance(checksum, str) or not isinstance(size, int):
        raise RktError("the answer of the worker for a tree cannot be understood")
    return checksum, size


def _extract(
    store: Store,
    found: Sequence[Layer],
    directory: str,
    *,
    rootfs_only: bool,
    shift: Shift,
    lock: int = -1,
) -> dict[str, object]:
    select = len(found) > 1 or bool(found[0].whitelist)
    sizes = {layer.key: _size(store, layer.key) for layer in found}
    arguments: dict[str, object] = {
        "images": [
            {
                "key": layer.key,
                "level": layer.level,
                "whitelist": list(layer.whitelist),
                "size": sizes[layer.key],
            }
            for layer in found
        ],
        "select": select,
        "strip": layout.ROOTFS if rootfs_only else "",
        "shift": shift,
        "summary": lock >= 0,
    }
    target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with Feeder() as feeder:
            fds = [target, feeder.reader, *([lock] if lock >= 0 else [])]
            with Worker("confined.unpacking:unpack", arguments, fds) as worker:
                feeder.started()
                for layer in [*found, *found] if select else found:
                    with store.open_blob(layer.key) as blob:
                        if not feeder.feed(blob, sizes[layer.key], layer.key):
                            break
                feeder.close()
                return worker.wait()
    finally:
        os.close(target)


def _size(store: Store, key: str) -> int:
    try:
        return os.stat(store.places.blob(key)).st_size
    except FileNotFoundError:
        # Kept as layers; a size that is wrong gives another digest.
        return store.info(key).size
