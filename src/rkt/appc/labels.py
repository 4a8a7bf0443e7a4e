"""Labels of images, with the table of operating systems and architectures."""

from __future__ import annotations

from rkt.appc.decode import encoded, items, record, string
from rkt.appc.errors import AppcError
from rkt.appc.identifiers import check_identifier, decode_identifier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rkt.appc.decode import Members

# The table of the specification, "Image Manifest Schema".
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "linux": (
        "amd64",
        "i386",
        "aarch64",
        "aarch64_be",
        "armv6l",
        "armv7l",
        "armv7b",
        "ppc64",
        "ppc64le",
        "s390x",
    ),
    "freebsd": ("amd64", "i386", "arm"),
    "darwin": ("x86_64", "i386"),
}

# (os, arch of appc) -> (GOOS, GOARCH, flavour); aarch64_be and armv7b have no name in Go.
_GO: dict[tuple[str, str], tuple[str, str, str]] = {
    ("linux", "amd64"): ("linux", "amd64", ""),
    ("linux", "i386"): ("linux", "386", ""),
    ("linux", "aarch64"): ("linux", "arm64", ""),
    ("linux", "armv6l"): ("linux", "arm", "6"),
    ("linux", "armv7l"): ("linux", "arm", "7"),
    ("linux", "ppc64"): ("linux", "ppc64", ""),
    ("linux", "ppc64le"): ("linux", "ppc64le", ""),
    ("linux", "s390x"): ("linux", "s390x", ""),
    ("freebsd", "amd64"): ("freebsd", "amd64", ""),
    ("freebsd", "i386"): ("freebsd", "386", ""),
    ("freebsd", "arm"): ("freebsd", "arm", "6"),
    ("darwin", "x86_64"): ("darwin", "amd64", ""),
    ("darwin", "i386"): ("darwin", "386", ""),
}


class Label:
    """One label; ``name`` is an AC identifier."""

    __slots__ = ("name", "value")

    def __init__(self, name: str = "", value: str = "") -> None:
        self.name = name
        self.value = value

    def __repr__(self) -> str:
        return f"Label({self.name!r}, {self.value!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Label) and (self.name, self.value) == (other.name, other.value)

    def __hash__(self) -> int:
        return hash((self.name, self.value))

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> Label:
        return record(cls(), _MEMBERS, value, path)

    def to_value(self) -> dict[str, Any]:
        check_identifier(self.name)
        return {"name": self.name, "value": self.value}


_MEMBERS: Members = {"name": ("name", decode_identifier), "value": ("value", string)}
_decode_list = items(Label.from_value)


def decode(value: Any) -> list[Label]:
    """A list of labels from parsed JSON, checked."""
    labels = _decode_list(value)
    check(labels)
    return labels


def encode(labels: list[Label]) -> list[Any] | None:
    """The JSON value of a list of labels, checked."""
    check(labels)
    return encoded(labels)


def check(labels: Iterable[Label]) -> None:
    """Names are unique, none is ``name``, and a pair of os and arch is in the table."""
    seen: dict[str, str] = {}
    for label in labels:
        if label.name == "name":
            raise AppcError('invalid label name: "name"')
        if label.name in seen:
            raise AppcError(f'duplicate labels of name "{label.name}"')
        seen[label.name] = label.value
    system = seen.get("os")
    if system is None:
        return
    known = ARCHITECTURES.get(system)
    if known is None:
        raise AppcError(f'bad os "{system}" (must be one of: [{" ".join(sorted(ARCHITECTURES))}])')
    arch = seen.get("arch")
    if arch is not None and arch not in known:
        raise AppcError(f'bad arch "{arch}" for {system} (must be one of: [{" ".join(known)}])')


def get(labels: Iterable[Label], name: str) -> str | None:
    """The value of the label called ``name``."""
    for label in labels:
        if label.name == name:
            return label.value
    return None


def to_map(labels: Iterable[Label]) -> dict[str, str]:
    return {label.name: label.value for label in labels}


def from_map(values: Mapping[str, str]) -> list[Label]:
    """Labels sorted by name, checked."""
    labels = [Label(check_identifier(name), values[name]) for name in sorted(values)]
    check(labels)
    return labels


def to_go(system: str | None, arch: str | None) -> tuple[str, str, str]:
    """GOOS, GOARCH and flavour for the labels os and arch; empty where Go has no name for the pair."""
    return _GO.get((system or "", arch or ""), ("", "", ""))


def from_go(system: str, arch: str, flavour: str = "") -> tuple[str, str] | None:
    """The labels os and arch for Go's names; None where the table has no row."""
    if system == "freebsd" and arch == "arm":
        return system, arch
    if system == "linux" and arch == "arm" and not flavour:
        flavour = "6"
    for pair, words in _GO.items():
        if words == (system, arch, flavour):
            return pair
    return None
