"""One configuration file: which kind it is, and who reads what is in it."""

from __future__ import annotations

from rkt.appc.decode import document, record, string
from rkt.errors import RktError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from rkt.appc.decode import Members

    Target = TypeVar("Target")

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
            raise _failed(self.path, error) from None


HEADER: Members = {"rktKind": ("kind", string), "rktVersion": ("version", string)}


def _failed(path: str, error: RktError) -> RktError:
    """File and cause in one message: of a chain only the first and the last are printed."""
    return RktError(f'failed to parse "{path}": {one_line(error)}')


def parse(path: str, data: bytes, kinds: tuple[str, ...]) -> Document:
    """A file's members; checks kind and version."""
    header = Header()
    try:
        value = document(data)
        record(header, HEADER, value)
    except RktError as error:
        raise _failed(path, error) from None
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
