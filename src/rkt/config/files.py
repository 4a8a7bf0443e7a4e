"""Finding and reading configuration files."""

from __future__ import annotations

import os
import stat

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    from rkt.appc.decode import Members

    Target = TypeVar("Target")

DIRECTORIES: dict[str, tuple[str, ...]] = {
    "auth.d": ("auth", "dockerAuth"),
    "paths.d": ("paths",),
    "stage1.d": ("stage1",),
}
"""Which kinds of configuration belong into which directory of a layer."""

VERSION = "v1"


class Header:
    """What every configuration file says about itself."""

    __slots__ = ("kind", "version")

    def __init__(self) -> None:
        self.kind = ""
        self.version = ""


class Document:
    """One configuration file: its path, its kind and its members."""

    __slots__ = ("kind", "path", "value")

    def __init__(self, path: str, kind: str, value: Any) -> None:
        self.path = path
        self.kind = kind
        self.value = value

    def read(self, reader: Callable[[Target, Any], None], target: Target) -> None:
        """Has a reader add the members to the target; what it raises gets the name of the file."""
        try:
            reader(target, self.value)
        except RktError as error:
            raise RktError(f'failed to parse "{self.path}"') from error


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


def parse(path: str, data: bytes, kinds: tuple[str, ...]) -> Document:
    """A file's members; checks kind and version."""
    from rkt.appc.decode import document, record, string

    members: Members = {"rktKind": ("kind", string), "rktVersion": ("version", string)}
    header = Header()
    try:
        value = document(data)
        record(header, members, value)
    except RktError as error:
        raise RktError(f'failed to parse "{path}"') from error
    if not header.kind:
        raise RktError(f'no rktKind specified in "{path}"')
    if not header.version:
        raise RktError(f'no rktVersion specified in "{path}"')
    if header.kind not in kinds:
        directory, _, name = path.rpartition("/")
        allowed = '", "'.join(kinds)
        raise RktError(
            f'the configuration directory "{directory}" expects to have configuration files of kinds '
            f'"{allowed}", but "{name}" has kind of "{header.kind}"'
        )
    if header.version != VERSION:
        raise RktError(
            f'no parser available for configuration of kind "{header.kind}" and version "{header.version}" '
            f'in "{path}"'
        )
    return Document(path, header.kind, value)
