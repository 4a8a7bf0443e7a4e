"""Finding and reading configuration files; light, because most starts find none."""

from __future__ import annotations

import os
import stat

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rkt.config.document import Document

DIRECTORIES: dict[str, tuple[str, ...]] = {
    "auth.d": ("auth", "dockerAuth"),
    "paths.d": ("paths",),
    "stage1.d": ("stage1",),
}
"""Which kinds of configuration belong into which directory of a layer."""


def documents(layer: str, name: str, notify: Callable[[str], None] | None = None) -> Iterator[Document]:
    """The configuration files of one directory of one layer, by name.

    Only regular ``*.json`` files count; a link is passed over, so that nothing outside the layer is read.
    Raises RktError for a file of the wrong kind or version or without JSON.
    """
    directory = os.path.join(layer, name)
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    except NotADirectoryError:
        wrong = layer if not os.path.isdir(layer) else directory
        raise RktError(f'expected "{wrong}" to be a directory') from None
    for file in names:
        if file.endswith(".json"):
            path = os.path.join(directory, file)
            data = read_regular(path)
            if data is not None:
                from rkt.config.document import parse

                yield parse(path, data, DIRECTORIES[name])
            elif notify is not None:
                notify(f'"{path}" is no regular file, not reading it')


def read_regular(path: str) -> bytes | None:
    """The content of a regular file; None for anything else, which is not even opened for reading."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return None
    # Between the two calls the file may have become something else: a link is refused, a FIFO does not block.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        return file.read() if stat.S_ISREG(os.fstat(fd).st_mode) else None
