"""``rkt image render``: an image with all it depends on into a directory of the user's."""

from __future__ import annotations

import os

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call
    from rkt.store.store import Store


def run(call: Call) -> int:
    from rkt.cli import image_extract
    from rkt.cli.fetching import watch_workers
    from rkt.store.store import Store

    if len(call.args) != 2:
        return call.usage()
    watch_workers(call)
    image_extract.check_output(call, call.args[1])
    with Store(call.globals.dir, call.notify("db")) as store:
        key = store.lookup(call.args[0])
        if os.geteuid() == 0:
            _check_tree(call, store, key)

        def fill(directory: str) -> None:
            rootfs_only = call.flags["rootfs-only"]
            store.extract_rendered(key, directory, rootfs_only=rootfs_only)
            if not rootfs_only:
                os.chmod(os.path.join(directory, "manifest"), 0o700)

        image_extract.fill_directory(call.args[1], fill, overwrite=call.flags["overwrite"])
    return 0


def _check_tree(call: Call, store: Store, key: str) -> None:
    """Rendering by hand is what people do who doubt the store: check the tree of the image as well."""
    tree_id = store.render(key)
    try:
        store.check_tree(tree_id)
    except RktError:
        call.error("warning: tree cache is in a bad state. Rebuilding...")
        store.render(key, rebuild=True)
