"""JSON as Go's ``encoding/json`` reads and prints it, without the start-up cost of ``json``.

``json`` imports ``re`` and ``enum`` (6 ms).  The scanner in C behind it, ``_json.make_scanner``, is
used directly; ``json.decoder`` is imported only to raise an error.

Reading differs from ``json.loads``: no NaN or Infinity, bytes that are not UTF-8 and lone surrogates
become U+FFFD as in Go.  Printing differs from ``json.dumps``: ``<``, ``>``, ``&``, U+2028 and U+2029
are escaped, empty lists and objects stay on one line, nothing else that is not ASCII is escaped.
"""

from __future__ import annotations

import _json

from rkt.appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


_BLANKS = " \t\n\r"
# Above this many digits int() refuses the text (sys.set_int_max_str_digits); no member is that large.
_LONGEST_INTEGER = 640


class Number(str):
    """The text of a JSON number with a fraction or an exponent (or one too long for an ``int``)."""

    __slots__ = ()


class Pairs(list["tuple[str, Any]"]):
    """The members of a JSON object in their order, duplicates included."""

    __slots__ = ()


def _integer(text: str) -> int | Number:
    return int(text) if len(text) <= _LONGEST_INTEGER else Number(text)


def _constant(text: str) -> Any:
    raise AppcError(f"invalid JSON: {text} is not a number")


class _Settings:
    """What the C scanner wants to know; it reads these attributes once."""

    __slots__ = (
        "memo",
        "object_hook",
        "object_pairs_hook",
        "parse_constant",
        "parse_float",
        "parse_int",
        "strict",
    )

    def __init__(
        self, pairs: Callable[[list[tuple[str, Any]]], Any] | None, real: Callable[[str], Any]
    ) -> None:
        self.strict = True
        self.object_hook = None
        self.object_pairs_hook = pairs
        self.parse_float = real
        self.parse_int = _integer
        self.parse_constant = _constant
        self.memo: dict[str, str] = {}


# The stub of make_scanner wants another scanner where the module wants these settings.
_scan_plain: Any = _json.make_scanner(_Settings(None, float))  # type: ignore[arg-type]
_scan_pairs: Any = _json.make_scanner(_Settings(Pairs, Number))  # type: ignore[arg-type]


def loads(text: str | bytes) -> Any:
    """The value of a JSON text: dict, list, str, int, float, bool or None; a later duplicate wins.

    Raises ``AppcError`` with line and column.
    """
    return _loads(text, _scan_plain)


def loads_pairs(text: str | bytes) -> Any:
    """Like ``loads``, but objects are ``Pairs`` and numbers that are not integers are ``Number``."""
    return _loads(text, _scan_pairs)


def _loads(text: str | bytes, scan: Callable[[str, int], tuple[Any, int]]) -> Any:
    if not isinstance(text, str):
        text = _decode(text)
    start = 0
    length = len(text)
    while start < length and text[start] in _BLANKS:
        start += 1
    try:
        value, end = scan(text, start)
    except StopIteration as stop:
        position = stop.value if isinstance(stop.value, int) else start
        if position >= length:
            raise AppcError("invalid JSON: unexpected end of the text") from None
        raise _fault(text, position, f"unexpected {text[position]!r}") from None
    except ValueError as error:
        if not hasattr(error, "pos"):
            raise AppcError(f"invalid JSON: {error}") from None
        words = str(getattr(error, "msg", error))
        raise _fault(text, error.pos, words[:1].lower() + words[1:]) from None
    except RecursionError:
        raise AppcError("invalid JSON: nested too deeply") from None
    except SystemError:
        # What the scanner wants to raise is defined in json.decoder, which it only looks for (Python 3.11).
        import sys

        if "json.decoder" in sys.modules:
            raise
        import json.decoder  # noqa: F401

        return _loads(text, scan)
    while end < length:
        if text[end] not in _BLANKS:
            raise _fault(text, end, f"unexpected {text[end]!r} after the value")
        end += 1
    if "\\u" in text:
        try:
            value = _without_surrogates(value)
        except RecursionError:
            raise AppcError("invalid JSON: nested too deeply") from None
    return value


def _decode(data: bytes) -> str:
    """UTF-8 to text; each byte that is no part of a character becomes U+FFFD, as in Go."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        text = str(data, "utf-8", "surrogateescape")
        return "".join("\ufffd" if "\udc80" <= character <= "\udcff" else character for character in text)


def _fault(text: str, position: int, words: str) -> AppcError:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return AppcError(f"invalid JSON at line {line}, column {column}: {words}")


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, Number):
        return value
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, Pairs):
        return Pairs([(_clean(name), _without_surrogates(item)) for name, item in value])
    if isinstance(value, dict):
        return {_clean(name): _without_surrogates(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


def _clean(text: str) -> str:
    """Each lone surrogate as U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text


_ESCAPES: dict[int, str] = {code: f"\\u{code:04x}" for code in range(0x20)}
_ESCAPES.update({code: f"\\u{code:04x}" for code in (0x3C, 0x3E, 0x26, 0x2028, 0x2029)})
_ESCAPES.update({0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x22: '\\"', 0x5C: "\\\\"})


def quote(text: str) -> str:
    """A string as Go prints it in JSON, quotes included."""
    if not text.isascii():
        text = _clean(text)
    return f'"{text.translate(_ESCAPES)}"'


def dumps(value: Any, indent: str | None = None) -> str:
    """JSON text as ``json.Marshal`` prints it, or with ``indent`` as ``json.MarshalIndent``.

    Members come in the order given: sort maps first, Go does.
    """
    parts: list[str] = []
    try:
        _print(value, parts.append, indent, "\n")
    except RecursionError:
        raise AppcError("value is nested too deeply for JSON") from None
    return "".join(parts)


def _print(value: Any, put: Callable[[str], None], indent: str | None, newline: str) -> None:
    if isinstance(value, str):
        put(str(value) if isinstance(value, Number) else quote(value))
    elif value is None:
        put("null")
    elif value is True:
        put("true")
    elif value is False:
        put("false")
    elif isinstance(value, int):
        put(str(value))
    elif isinstance(value, dict):
        _print_members(value.items(), put, indent, newline)
    elif isinstance(value, Pairs):
        _print_members(value, put, indent, newline)
    elif isinstance(value, list | tuple):
        _print_items(value, put, indent, newline)
    elif isinstance(value, float):
        put(_real(value))
    else:
        raise TypeError(f"{type(value).__name__} has no JSON form")


def _print_members(
    members: Iterable[tuple[str, Any]], put: Callable[[str], None], indent: str | None, newline: str
) -> None:
    inner = newline if indent is None else newline + indent
    before = "{" if indent is None else "{" + inner
    between = "," if indent is None else "," + inner
    colon = ":" if indent is None else ": "
    empty = True
    for name, item in members:
        put(before if empty else between)
        empty = False
        put(quote(name))
        put(colon)
        _print(item, put, indent, inner)
    if empty:
        put("{}")
    else:
        put("}" if indent is None else newline + "}")


def _print_items(
    items: list[Any] | tuple[Any, ...], put: Callable[[str], None], indent: str | None, newline: str
) -> None:
    inner = newline if indent is None else newline + indent
    before = "[" if indent is None else "[" + inner
    between = "," if indent is None else "," + inner
    if not items:
        put("[]")
        return
    for position, item in enumerate(items):
        put(between if position else before)
        _print(item, put, indent, inner)
    put("]" if indent is None else newline + "]")


def _real(value: float) -> str:
    """A float as Go prints it: shortest digits, an exponent only below 1e-6 and from 1e21 on."""
    if str(value) in ("nan", "inf", "-inf"):
        raise AppcError(f"{value} has no JSON form")
    if value == 0:
        return "-0" if str(value)[0] == "-" else "0"
    mantissa, _, exponent = f"{value!r}".partition("e")
    sign = "-" if mantissa[0] == "-" else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    # value = 0.DIGITS * 10**point
    point = len(digits) - len(fraction) + int(exponent or 0)
    digits = digits.rstrip("0")
    if -6 < point <= 21:
        if point <= 0:
            return f"{sign}0.{'0' * -point}{digits}"
        if point >= len(digits):
            return sign + digits + "0" * (point - len(digits))
        return f"{sign}{digits[:point]}.{digits[point:]}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1:+}"
