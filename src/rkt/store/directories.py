"""Where things lie in the data directory, who may touch them, and the locks with a fixed place.

::

    DATA/                       2750
      tmp/                      2750   scratch
      cas/                      2770   flock shared: somebody uses the store
        db/                     2770   flock shared: a transaction, exclusive: the index is being rebuilt
          index.sqlite3         0660
        blob/sha512/XX/KEY      0660   an image, uncompressed
        imageManifest/sha512/XX/KEY  0660
        imagelocks/KEY          0660   flock exclusive: the image is being imported or removed
        signed/sha512/XX/KEY    0660   the compressed file that was signed (rkt.store.signature)
        layers/ALGORITHM/XX/    2770   layers of container images as downloaded (rkt.store.layers)
        recipe/sha512/XX/KEY    0660   what an image is made of, where it is kept as layers (rkt.store.recipe)
        unpacked/               2700   unpacked layers (rkt.store.unpacked)
        tmp/                    2770   imports under way, each file flocked by its writer
        tree/ID/                       a rendered image
        treestorelocks/ID              flock exclusive: rendered or removed, shared: checked or copied
      locks/prepareLock         0640   flock exclusive: image gc, shared: a pod is being prepared
      pods/

Members of the group ``rkt`` fetch, list and remove images: what they need belongs to that group and
is writable for it (the set-group-ID bit hands the group down).  Rendered trees hold set-user-ID
programs of anybody's making, so only root passes ``tree/``.  Directories are made when something is
first written; reading a store that does not exist finds nothing.
"""

from __future__ import annotations

import os

from rkt.linux import files
from rkt.linux.lock import Lock, lock_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

GROUP = "rkt"
SHARED_MODE = 0o2770
ROOT_MODE = 0o2700
DATA_MODE = 0o2750
FILE_MODE = 0o660
IMPORT_PREFIX = "import"
"""How names of images under way in ``cas/tmp`` begin."""

_SHARED = ("db", "tmp", "blob", "imageManifest", "imagelocks", "layers", "recipe", "signed")
_ROOT_ONLY = ("tree", "treestorelocks", "unpacked")


_group: list[int | None] = []


def group_id() -> int | None:
    """The number of the group ``rkt``, which root gives files to; None for others, and where there is none.

    Asked once: it may be far away (LDAP).  A user namespace without the group, as a unit's PrivateUsers=
    makes them, is as a host without it.
    """
    if not _group:
        _group.append(_find_group() if os.geteuid() == 0 else None)
    return _group[0]


def _find_group() -> int | None:
    import grp

    try:
        group = grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None
    with open("/proc/self/gid_map") as file:
        for line in file:
            first, _, count = map(int, line.split())
            if first <= group < first + count:
                return group
    return None


class Directories:
    """The paths of one data directory; ``make`` creates what is missing of the store's."""

    __slots__ = (
        "blobs",
        "cas",
        "data",
        "db",
        "image_locks",
        "layers",
        "manifests",
        "recipes",
        "signed_files",
        "temporary",
        "tree_locks",
        "trees",
        "unpacked",
    )

    def __init__(self, data: str) -> None:
        self.data = data
        self.cas = os.path.join(data, "cas")
        self.db = os.path.join(self.cas, "db")
        self.blobs = os.path.join(self.cas, "blob")
        self.manifests = os.path.join(self.cas, "imageManifest")
        self.image_locks = os.path.join(self.cas, "imagelocks")
        self.layers = os.path.join(self.cas, "layers")
        self.recipes = os.path.join(self.cas, "recipe")
        self.signed_files = os.path.join(self.cas, "signed")
        self.temporary = os.path.join(self.cas, "tmp")
        self.trees = os.path.join(self.cas, "tree")
        self.tree_locks = os.path.join(self.cas, "treestorelocks")
        self.unpacked = os.path.join(self.cas, "unpacked")

    def blob(self, key: str) -> str:
        """The path of an image; two hex digits of its key spread images over directories."""
        return os.path.join(self.blobs, "sha512", key[7:9], key)

    def manifest(self, key: str) -> str:
        return os.path.join(self.manifests, "sha512", key[7:9], key)

    def signed(self, key: str) -> str:
        """The path of the file an image was signed as, where that is not what the store has."""
        return os.path.join(self.signed_files, "sha512", key[7:9], key)

    def recipe(self, key: str) -> str:
        """The path of what an image is made of, where the store keeps no image file."""
        return os.path.join(self.recipes, "sha512", key[7:9], key)

    def make(self) -> None:
        """Create the store's directories as far as they are missing; those of trees only as root."""
        if not is_there(self.data):
            os.makedirs(os.path.dirname(self.data) or "/", mode=0o755, exist_ok=True)
            make_shared(self.data, DATA_MODE)
        make_shared(self.cas)
        for name in _SHARED:
            make_shared(os.path.join(self.cas, name))
        for directory in (self.blobs, self.manifests, self.recipes, self.signed_files):
            make_shared(os.path.join(directory, "sha512"))

    def make_trees(self) -> None:
        """Create the directories of rendered images (root)."""
        self.make()
        for name in _ROOT_ONLY:
            make_shared(os.path.join(self.cas, name), ROOT_MODE)


def is_there(path: str) -> bool:
    """Whether a directory of the store exists.  One that may not be looked for is an OSError, not absent."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def make_shared(path: str, mode: int = SHARED_MODE) -> None:
    """Create a directory of the store that belongs to the group ``rkt``; an existing one stays as it is."""
    if is_there(path):
        return
    group = group_id()
    files.make_directory(path, mode, owner=None if group is None else (0, group))


def make_parent(path: str, mode: int = SHARED_MODE) -> None:
    """Create the directory that a file of the store goes into, durably."""
    parent = os.path.dirname(path)
    if not is_there(parent):
        make_shared(parent, mode)
        files.fsync_directory(os.path.dirname(parent))


def own_file(fd: int, mode: int = FILE_MODE) -> None:
    """Give a file just created to the group, with ``mode`` whatever the umask."""
    group = group_id()
    if group is not None:
        os.fchown(fd, -1, group)
    os.fchmod(fd, mode)


def key_lock(
    directory: str,
    key: str,
    *,
    shared: bool = False,
    mode: int = FILE_MODE,
    waiting: Callable[[], object] | None = None,
) -> Lock:
    """The lock of one image or tree: a file named by it, created when missing, checked after locking."""
    path = os.path.join(directory, key)
    fresh = not os.path.exists(path)
    lock = lock_file(path, shared=shared, mode=mode, waiting=waiting)
    if fresh and os.fstat(lock.fd).st_uid == os.geteuid():
        own_file(lock.fd, mode)
    return lock


def prepare_lock(data: str, *, shared: bool, waiting: Callable[[], object] | None = None) -> Lock:
    """``locks/prepareLock``: shared while a pod is prepared, exclusive while trees are collected.

    Between choosing a tree and writing its ID into the pod's directory nobody can see that the tree is
    needed; this lock keeps the collector out meanwhile.
    """
    directory = os.path.join(data, "locks")
    if not is_there(data):
        Directories(data).make()
    make_shared(directory, DATA_MODE)
    return key_lock(directory, "prepareLock", shared=shared, mode=0o640, waiting=waiting)
