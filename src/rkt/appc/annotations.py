"""Annotations of images, apps and pods."""

from __future__ import annotations

from rkt.appc.decode import encoded, items, record, string
from rkt.appc.errors import AppcError
from rkt.appc.identifiers import check_identifier, decode_identifier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from rkt.appc.decode import Members


class Annotation:
    """One annotation; ``name`` is an AC identifier."""

    __slots__ = ("name", "value")

    def __init__(self, name: str = "", value: str = "") -> None:
        self.name = name
        self.value = value

    def __repr__(self) -> str:
        return f"Annotation({self.name!r}, {self.value!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Annotation) and (self.name, self.value) == (other.name, other.value)

    def __hash__(self) -> int:
        return hash((self.name, self.value))

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> Annotation:
        return record(cls(), _MEMBERS, value, path)

    def to_value(self) -> dict[str, Any]:
        check_identifier(self.name)
        return {"name": self.name, "value": self.value}


_MEMBERS: Members = {"name": ("name", decode_identifier), "value": ("value", string)}
_decode_list = items(Annotation.from_value)


def decode(value: Any) -> list[Annotation]:
    """A list of annotations from parsed JSON, checked."""
    annotations = _decode_list(value)
    check(annotations)
    return annotations


def encode(annotations: list[Annotation]) -> list[Any] | None:
    """The JSON value of a list of annotations, checked."""
    check(annotations)
    return encoded(annotations)


def check(annotations: Iterable[Annotation]) -> None:
    """Names are unique; the date and the addresses the specification knows are well-formed."""
    seen: dict[str, str] = {}
    for annotation in annotations:
        if annotation.name in seen:
            raise AppcError(f'duplicate annotations of name "{annotation.name}"')
        seen[annotation.name] = annotation.value
    created = seen.get("created")
    if created is not None:
        from rkt.appc import date

        date.parse(created)
    for name in ("homepage", "documentation"):
        address = seen.get(name)
        if address is not None:
            from rkt.appc import url

            url.check(address)


def get(annotations: Iterable[Annotation], name: str) -> str | None:
    """The value of the annotation called ``name``."""
    for annotation in annotations:
        if annotation.name == name:
            return annotation.value
    return None


def put(annotations: list[Annotation], name: str, value: str) -> None:
    """Replace the annotation called ``name`` where it stands, or append it."""
    for annotation in annotations:
        if annotation.name == name:
            annotation.value = value
            return
    annotations.append(Annotation(name, value))
