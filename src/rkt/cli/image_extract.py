"""``rkt image extract`` and what it shares with ``image render``: an image into a directory of the user's."""

from __future__ import annotations

import os

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.cli.call import Call


def run(call: Call) -> int:
    from rkt.cli.fetching import watch_workers
    from rkt.store.store import Store

    if len(call.args) != 2:
        return call.usage()
    watch_workers(call)
    with Store(call.globals.dir, call.notify("db")) as store:
        key = store.lookup(call.args[0])

        def fill(directory: str) -> None:
            store.extract_image(key, directory, rootfs_only=call.flags["rootfs-only"])

        check_output(call, call.args[1])
        fill_directory(call.args[1], fill, overwrite=call.flags["overwrite"])
    return 0


def check_output(call: Call, path: str) -> None:
    """Refuse what would be replaced with all rkt has, and a path that exists unless it may be overwritten.

    RktError for the root directory, and for the data directory with what it is in and what is in it.
    """
    target, data = os.path.realpath(path), os.path.realpath(call.globals.dir)
    if target == "/":
        raise RktError("this would delete your root filesystem. Refusing.")
    if os.path.commonpath((target, data)) in (target, data):
        raise RktError(f"{path} holds, or is in, the data directory {call.globals.dir}. Refusing.")
    if os.path.lexists(path) and not call.flags["overwrite"]:
        raise RktError(f"output directory exists (try --overwrite): {path}")


def fill_directory(path: str, fill: Callable[[str], None], *, overwrite: bool) -> None:
    """Call ``fill`` with a new directory beside ``path``, then give it that name.

    ``path`` was checked.  What was there before goes only when the new directory is complete; a failure
    leaves it as it was.
    """
    from rkt.linux import files

    target = os.path.abspath(path)
    parent, name = os.path.split(target)
    os.makedirs(parent, exist_ok=True)
    temporary = os.path.join(parent, f".{name}.{os.urandom(6).hex()}.new")
    files.make_directory(temporary, 0o755)
    try:
        fill(temporary)
        if overwrite:
            files.remove_tree(target, missing_ok=True)
        os.rename(temporary, target)
    except BaseException:
        files.remove_tree(temporary, missing_ok=True)
        raise
