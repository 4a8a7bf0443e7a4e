"""What ``rkt image gc`` removes: trees no pod refers to, images not used for a while, what crashes left.

Pods are read as they lie on disk: a pod that is prepared, runs or waits for its own collection needs its
trees.  The exclusive prepare lock keeps new references from being written meanwhile.
"""

from __future__ import annotations

import os
import time

from rkt.errors import RktError
from rkt.linux.lock import Lock
from rkt.store import temporary
from rkt.store.directories import IMPORT_PREFIX, prepare_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.store.store import Store

_REFERRING = ("prepare", "prepared", "run", "exited-garbage")
_FILE_LIMIT = 16 << 20


class References:
    """What the pods of a data directory refer to.

    ``trees``: IDs of the trees of all pods; ``running_trees``: those of running pods' stage1; ``keys``:
    images of the apps of running pods.
    """

    __slots__ = ("keys", "running_trees", "trees")

    def __init__(self, data_dir: str) -> None:
        """Read the pods of ``data_dir``; one that vanishes meanwhile refers to nothing."""
        self.trees: set[str] = set()
        self.running_trees: set[str] = set()
        self.keys: set[str] = set()
        for state in _REFERRING:
            for pod in _pods(os.path.join(data_dir, "pods", state)):
                self._add(pod, running=state == "run" and _is_locked(pod))

    def _add(self, pod: str, *, running: bool) -> None:
        stage1 = _read(os.path.join(pod, "stage1TreeStoreID"))
        if stage1:
            self.trees.add(stage1)
            if running:
                self.running_trees.add(stage1)
        apps = os.path.join(pod, "appsinfo")
        for app in _names(apps):
            tree = _read(os.path.join(apps, app, "treeStoreID"))
            if tree:
                self.trees.add(tree)
        if running:
            self.keys.update(_image_ids(_read(os.path.join(pod, "pod"))))


def collect_trees(
    store: Store,
    *,
    removed: Callable[[str], object],
    failed: Callable[[str, Exception], object],
    waiting: Callable[[], object] | None = None,
) -> None:
    """Remove the trees that no pod needs; tells each ID, and each that could not be removed (root)."""
    with prepare_lock(store.places.data, shared=False, waiting=waiting):
        needed = References(store.places.data).trees
        for tree_id in store.trees.ids():
            if tree_id in needed:
                continue
            try:
                store.remove_tree(tree_id)
            except (RktError, OSError) as error:
                failed(tree_id, error)
            else:
                removed(tree_id)
        store.trees.collect_new()
        store.trees.collect_locks()


def unused_images(store: Store, grace: int) -> list[str]:
    """Keys of images whose last use is more than ``grace`` nanoseconds ago, the longest unused first.

    Images of running pods are in use: their apps', and the stage1's.
    """
    images = sorted(store.images(), key=lambda info: (info.last_used, info.key))
    now = time.time_ns()
    old = [info.key for info in images if now - info.last_used > grace]
    if not old:
        return []
    found = References(store.places.data)
    in_use = found.keys | {store.trees.image_of(tree) for tree in found.running_trees}
    return [key for key in old if key not in in_use]


def collect_layers(store: Store, grace: int) -> list[str]:
    """Remove layers of container images that were not used for ``grace`` nanoseconds; their digests."""
    from rkt.store import recipe
    from rkt.store.layers import Layers
    from rkt.store.unpacked import UnpackedLayers

    removed = Layers(store.places).collect(grace)
    unpacked = UnpackedLayers(store.places)
    return removed + unpacked.collect(grace, lambda: recipe.needed(store.places))


def collect_leftovers(store: Store) -> None:
    """Remove temporary files of processes that were killed, and blobs that never got into the index."""
    from rkt.store.unpacked import UnpackedLayers

    places = store.places
    for directory in (places.temporary, UnpackedLayers(places).temporary):
        temporary.collect(directory, IMPORT_PREFIX)
    store.collect_orphans()


def _pods(directory: str) -> list[str]:
    return [os.path.join(directory, name) for name in _names(directory)]


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(path: str) -> str:
    """The text of a small file; "" when it does not exist."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_FILE_LIMIT).strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _is_locked(pod: str) -> bool:
    """A running pod holds the exclusive lock of its directory."""
    try:
        lock = Lock.open(pod)
    except FileNotFoundError:
        return False
    with lock:
        return not lock.try_shared()


def _image_ids(manifest: str) -> list[str]:
    from rkt.appc import gojson

    try:
        return [app["image"]["id"] for app in gojson.loads(manifest)["apps"]]
    except (RktError, ValueError, LookupError, TypeError):
        return []
