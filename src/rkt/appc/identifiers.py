"""AC identifiers and AC names (specification, section "types"), as plain strings.

The checks are those of the reference: only letters of the set, non-empty, first and last a letter or
digit.  The regular expression of the specification also forbids two separators in a row; images with
``a--b`` exist, so they pass.
"""

from __future__ import annotations

from rkt.appc.decode import string
from rkt.appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyz0123456789"
_NAME_EXTRA = "-"
_IDENTIFIER_EXTRA = "-._~/"
_NAME = frozenset(_ALPHANUMERIC + _NAME_EXTRA)
_IDENTIFIER = frozenset(_ALPHANUMERIC + _IDENTIFIER_EXTRA)


def check_identifier(text: str) -> str:
    """The text if it is an AC identifier, else ``AppcError``."""
    return _check(text, _IDENTIFIER, "ACIdentifier", _IDENTIFIER_EXTRA)


def check_name(text: str) -> str:
    """The text if it is an AC name, else ``AppcError``."""
    return _check(text, _NAME, "ACName", _NAME_EXTRA)


def _check(text: str, letters: frozenset[str], kind: str, extra: str) -> str:
    if not text:
        raise AppcError(f"{kind} cannot be empty")
    if not letters.issuperset(text):
        raise AppcError(f'{kind} must contain only lower case alphanumeric characters plus "{extra}"')
    if text[0] not in _ALPHANUMERIC or text[-1] not in _ALPHANUMERIC:
        raise AppcError(f"{kind} must start and end with only lower case alphanumeric characters")
    return text


def sanitize_identifier(text: str) -> str:
    """The nearest AC identifier: lower case, other letters as ``_``, edges cut."""
    return _sanitize(text, _IDENTIFIER, "_", "ACIdentifier")


def sanitize_name(text: str) -> str:
    """The nearest AC name: lower case, other letters as ``-``, edges cut (``/var/tmp`` -> ``var-tmp``)."""
    return _sanitize(text, _NAME, "-", "ACName")


def _sanitize(text: str, letters: frozenset[str], substitute: str, kind: str) -> str:
    # the first letter only: Go lowers a letter to one letter, also the Turkish capital dotted I
    lowered = (letter.lower()[0] for letter in text)
    made = "".join(letter if letter in letters else substitute for letter in lowered)
    made = made.strip(_IDENTIFIER_EXTRA)
    if not made:
        raise AppcError(f"{text!r} has nothing in it to make an {kind} of")
    return made


def decode_identifier(value: Any) -> str:
    """An AC identifier from parsed JSON."""
    return check_identifier(string(value))


def decode_name(value: Any) -> str:
    """An AC name from parsed JSON."""
    return check_name(string(value))
