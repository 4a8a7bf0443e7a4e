"""The environment of an app: unique names of a narrow set of letters, free values.

A value may hold NUL as far as the reference is concerned; no process can be given one, so executing
refuses it (``rkt.stage1.common.environment``).
"""

from __future__ import annotations

from rkt.appc.decode import encoded, items, record, string
from rkt.appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from rkt.appc.decode import Members

_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_LETTERS = _FIRST | frozenset("0123456789.-")


class EnvironmentVariable:
    """One variable."""

    __slots__ = ("name", "value")

    def __init__(self, name: str = "", value: str = "") -> None:
        self.name = name
        self.value = value

    def __repr__(self) -> str:
        return f"EnvironmentVariable({self.name!r}, {self.value!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EnvironmentVariable) and (self.name, self.value) == (other.name, other.value)

    def __hash__(self) -> int:
        return hash((self.name, self.value))

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> EnvironmentVariable:
        return record(cls(), _MEMBERS, value, path)

    def to_value(self) -> dict[str, Any]:
        check_name(self.name)
        return {"name": self.name, "value": self.value}


_MEMBERS: Members = {"name": ("name", string), "value": ("value", string)}
_decode_list = items(EnvironmentVariable.from_value)


def decode(value: Any) -> list[EnvironmentVariable]:
    """A list of variables from parsed JSON, checked."""
    variables = _decode_list(value)
    check(variables)
    return variables


def encode(variables: list[EnvironmentVariable]) -> list[Any] | None:
    """The JSON value of a list of variables, checked."""
    check(variables)
    return encoded(variables)


def check_name(name: str) -> str:
    """The name if it matches ``^[A-Za-z_][A-Za-z_0-9.-]*$``, else ``AppcError``."""
    if not name:
        raise AppcError("environment variable name must not be empty")
    if name[0] not in _FIRST or not _LETTERS.issuperset(name):
        raise AppcError(f'environment variable "{name}" does not have a valid name')
    return name


def check(variables: Iterable[EnvironmentVariable]) -> None:
    """Every name is well-formed and unique."""
    seen = set()
    for variable in variables:
        check_name(variable.name)
        if variable.name in seen:
            raise AppcError(f'duplicate environment variable of name "{variable.name}"')
        seen.add(variable.name)
