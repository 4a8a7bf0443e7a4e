"""From parsed JSON to records by the rules of Go's decoder, with the path of a fault.

Member names match without regard to case, unknown members are ignored, members are decoded in their
order and a later duplicate wins, null is the zero value.  A decoder takes one parsed value and
returns what the record keeps; it raises ``AppcError`` and the callers add where.
"""

from __future__ import annotations

from rkt.appc.errors import AppcError
from rkt.appc.gojson import Number, Pairs, loads_pairs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    Item = TypeVar("Item")
    Made = TypeVar("Made")
    # member name -> (attribute of the record, decoder)
    Members = dict[str, tuple[str, Callable[[Any], Any]]]

_INT64_END = 1 << 63
_UINT64_END = 1 << 64


class Absent(list["Any"]):
    """A list that was not given (or null): it is empty, and printed as null while it stays so."""

    __slots__ = ()


def document(text: str | bytes) -> Any:
    """The JSON value of a whole text, objects as ``Pairs`` in their order."""
    return loads_pairs(text)


def type_name(value: Any) -> str:
    """The JSON type of a parsed value in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float | Number):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, Pairs | dict) else "list"


def expected(what: str, value: Any) -> AppcError:
    return AppcError(f"expected {what}, got {type_name(value)}")


def pairs(value: Any) -> Iterable[tuple[str, Any]]:
    """The members of an object; null has none."""
    if isinstance(value, Pairs):
        return value
    if isinstance(value, dict):
        return value.items()
    if value is None:
        return ()
    raise expected("object", value)


def _folded(name: str) -> str:
    # Go folds simple case and the two letters outside ASCII that fold into it: U+212A, U+017F
    return name.lower().replace("\u017f", "s")


def _member(members: Members, name: str) -> str | None:
    """The member of the table that a name in a document means, by Go's case folding."""
    folded = _folded(name)
    for known in members:
        if _folded(known) == folded:
            return known
    return None


def record(
    made: Made,
    members: Members,
    value: Any,
    path: str = "",
    *,
    check: Callable[[Made], None] | None = None,
) -> Made:
    """Fill the attributes of ``made`` from an object, check it and return it.

    ``path`` is where the object stands, empty for a whole document and for the items of a list.
    """
    try:
        for name, item in pairs(value):
            entry = members.get(name)
            if entry is None:
                known = _member(members, name)
                if known is None:
                    continue
                name = known  # noqa: PLW2901
                entry = members[name]
            try:
                setattr(made, entry[0], entry[1](item))
            except AppcError as error:
                error.under(name)
                raise
        if check is not None:
            check(made)
    except AppcError as error:
        if path:
            error.under(path)
        raise
    return made


def string(value: Any) -> str:
    if isinstance(value, str) and not isinstance(value, Number):
        return value
    if value is None:
        return ""
    raise expected("string", value)


def boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value is None:
        return False
    raise expected("boolean", value)


def integer(value: Any) -> int:
    """A signed 64 bit integer; ``1.0`` and ``1e2`` are none."""
    if isinstance(value, int) and not isinstance(value, bool):
        if -_INT64_END <= value < _INT64_END:
            return value
        raise AppcError(f"{value} is out of range")
    if value is None:
        return 0
    if isinstance(value, Number | float):
        raise AppcError(f"expected integer, got {value}")
    raise expected("integer", value)


def unsigned(value: Any) -> int:
    """An unsigned 64 bit integer."""
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < _UINT64_END:
            return value
        raise AppcError(f"{value} is out of range")
    return integer(value)


def optional(decoder: Callable[[Any], Item]) -> Callable[[Any], Item | None]:
    """Null is None instead of the zero value."""

    def decode_optional(value: Any) -> Item | None:
        return None if value is None else decoder(value)

    return decode_optional


def items(decoder: Callable[[Any], Item]) -> Callable[[Any], list[Item]]:
    """A list of what ``decoder`` makes; null is an ``Absent`` list."""

    def decode_items(value: Any) -> list[Item]:
        if value is None:
            return Absent()
        if not isinstance(value, list) or isinstance(value, Pairs):
            raise expected("list", value)
        made = []
        for position, item in enumerate(value):
            try:
                made.append(decoder(item))
            except AppcError as error:
                error.under(position)
                raise
        return made

    return decode_items


strings = items(string)


def string_map(value: Any) -> dict[str, str]:
    """An object of strings, sorted by name, which is how Go prints a map."""
    made = {}
    for name, item in pairs(value):
        try:
            made[name] = string(item)
        except AppcError as error:
            error.under(name)
            raise
    return dict(sorted(made.items()))


def plain(value: Any) -> Any:
    """A value of ``document`` with its objects as dicts."""
    if isinstance(value, Pairs):
        return {name: plain(item) for name, item in value}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def encoded(values: list[Any]) -> list[Any] | None:
    """The values of a list of records; an ``Absent`` list that is still empty is null."""
    if not values and isinstance(values, Absent):
        return None
    made = []
    for position, item in enumerate(values):
        try:
            made.append(item if isinstance(item, str | int) else item.to_value())
        except AppcError as error:
            error.under(position)
            raise
    return made


def under(name: str, encode: Callable[[], Any]) -> Any:
    """What ``encode`` makes; a fault in it is a fault of the member ``name``."""
    try:
        return encode()
    except AppcError as error:
        error.under(name)
        raise
