"""The syntax of flags: ``NAME,key=value,key=value``, values taken literally."""

from __future__ import annotations

from rkt.appc.errors import AppcError

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
_BLANK = 0x20
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def split_flag(text: str) -> dict[str, str]:
    """The parts of a flag whose first word is its name; the result has ``name`` first."""
    return split_pairs(f"name={text}")


def split_pairs(text: str) -> dict[str, str]:
    """``key=value`` words between commas; a word without ``=`` and a key given twice are errors."""
    made: dict[str, str] = {}
    for key, value in _words(text):
        if key in made:
            raise AppcError(f'parameter "{key}" is given more than once')
        made[key] = value
    return made


def _words(text: str) -> list[tuple[str, str]]:
    made = []
    for word in text.split(","):
        key, equals, value = word.partition("=")
        if not equals:
            raise AppcError(f'parameter "{word}" has no value: it must be of the form key=value')
        made.append((key, value))
    return made


def query_string(text: str) -> str:
    """The words as the query of an address, values escaped."""
    return "&".join(f"{key}={_escape(value)}" for key, value in _words(text))


def _escape(text: str) -> str:
    return "".join(
        chr(byte) if byte in _UNRESERVED else "+" if byte == _BLANK else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogatepass")
    )


def parse_bool(text: str) -> bool:
    """A truth value as Go's ``strconv.ParseBool`` reads it."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise AppcError(f'"{text}" is not a boolean: use true or false')


def parse_integer(text: str) -> int:
    """A decimal integer of 64 bits with an optional sign, as Go's ``strconv.Atoi`` reads it."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if digits.isascii() and digits.isdigit() and len(digits) <= 640:
        value = int(text)
        if -(1 << 63) <= value < 1 << 63:
            return value
    raise AppcError(f'"{text}" is not an integer')


def parse_unsigned(text: str, bits: int) -> int:
    """A decimal number without sign that fits into ``bits`` bits."""
    if text.isascii() and text.isdigit() and len(text) <= 640 and int(text) < 1 << bits:
        return int(text)
    raise AppcError(f'"{text}" is not a number from 0 to {(1 << bits) - 1}')
