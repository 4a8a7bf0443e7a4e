"""Manifests read with almost no checks, so that broken ones can still be listed and removed.

Only well-formed JSON of the right types and the right ``acKind`` are required.
"""

from __future__ import annotations

from rkt.appc import kind
from rkt.appc.decode import document, items, record, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.appc.decode import Members


class Label:
    """A label with any name."""

    __slots__ = ("name", "value")

    def __init__(self) -> None:
        self.name = ""
        self.value = ""

    @classmethod
    def from_value(cls, value: Any) -> Label:
        return record(cls(), _LABEL_MEMBERS, value)

    def to_value(self) -> dict[str, Any]:
        return {"name": self.name, "value": self.value}


class ImageManifest:
    """Name and labels of an image, unchecked."""

    __slots__ = ("ac_kind", "ac_version", "labels", "name")

    def __init__(self) -> None:
        self.ac_kind = ""
        self.ac_version = ""
        self.name = ""
        self.labels: list[Label] = []

    @classmethod
    def decode(cls, data: bytes | str) -> ImageManifest:
        return record(cls(), _IMAGE_MEMBERS, document(data), check=cls.check)

    def check(self) -> None:
        kind.require(self.ac_kind, kind.IMAGE)

    def to_value(self) -> dict[str, Any]:
        return {
            "acVersion": self.ac_version,
            "acKind": self.ac_kind,
            "name": self.name,
            "labels": [label.to_value() for label in self.labels],
        }


class RuntimeImage:
    """The image of an app, unchecked."""

    __slots__ = ("id", "labels", "name")

    def __init__(self) -> None:
        self.name = ""
        self.id = ""
        self.labels: list[Label] = []

    @classmethod
    def from_value(cls, value: Any) -> RuntimeImage:
        return record(cls(), _RUNTIME_IMAGE_MEMBERS, value)

    def to_value(self) -> dict[str, Any]:
        return {"name": self.name, "id": self.id, "labels": [label.to_value() for label in self.labels]}


class RuntimeApp:
    """An app of a pod, unchecked."""

    __slots__ = ("image", "name")

    def __init__(self) -> None:
        self.name = ""
        self.image = RuntimeImage()

    @classmethod
    def from_value(cls, value: Any) -> RuntimeApp:
        return record(cls(), _APP_MEMBERS, value)

    def to_value(self) -> dict[str, Any]:
        return {"name": self.name, "image": self.image.to_value()}


class PodManifest:
    """The apps of a pod, unchecked."""

    __slots__ = ("ac_kind", "ac_version", "apps")

    def __init__(self) -> None:
        self.ac_version = ""
        self.ac_kind = ""
        self.apps: list[RuntimeApp] = []

    @classmethod
    def decode(cls, data: bytes | str) -> PodManifest:
        return record(cls(), _POD_MEMBERS, document(data), check=cls.check)

    def check(self) -> None:
        kind.require(self.ac_kind, kind.POD)

    def to_value(self) -> dict[str, Any]:
        return {
            "acVersion": self.ac_version,
            "acKind": self.ac_kind,
            "apps": [app.to_value() for app in self.apps],
        }


_LABEL_MEMBERS: Members = {"name": ("name", string), "value": ("value", string)}
_labels = items(Label.from_value)
_IMAGE_MEMBERS: Members = {
    "acVersion": ("ac_version", string),
    "acKind": ("ac_kind", string),
    "name": ("name", string),
    "labels": ("labels", _labels),
}
_RUNTIME_IMAGE_MEMBERS: Members = {
    "name": ("name", string),
    "id": ("id", string),
    "labels": ("labels", _labels),
}
_APP_MEMBERS: Members = {"name": ("name", string), "image": ("image", RuntimeImage.from_value)}
_POD_MEMBERS: Members = {
    "acVersion": ("ac_version", string),
    "acKind": ("ac_kind", string),
    "apps": ("apps", items(RuntimeApp.from_value)),
}
