"""The image manifest."""

from __future__ import annotations

from rkt.appc import VERSION, digest, kind, labels, version
from rkt.appc import annotations as notes
from rkt.appc.app import App
from rkt.appc.decode import document, encoded, items, optional, record, strings, under, unsigned
from rkt.appc.errors import AppcError
from rkt.appc.gojson import dumps
from rkt.appc.identifiers import check_identifier, decode_identifier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.appc.annotations import Annotation
    from rkt.appc.decode import Members
    from rkt.appc.labels import Label


class Dependency:
    """An image whose files come below this one's; ``size`` 0 means not given."""

    __slots__ = ("image_id", "image_name", "labels", "size")

    def __init__(
        self,
        image_name: str = "",
        *,
        image_id: str | None = None,
        labels: list[Label] | None = None,
        size: int = 0,
    ) -> None:
        self.image_name = image_name
        self.image_id = image_id
        self.labels = [] if labels is None else labels
        self.size = size

    def __repr__(self) -> str:
        return f"Dependency({self.image_name!r}, image_id={self.image_id!r}, labels={self.labels!r})"

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> Dependency:
        return record(cls(), _DEPENDENCY_MEMBERS, value, path, check=cls.check)

    def check(self) -> None:
        if not self.image_name:
            raise AppcError("imageName must be set", "imageName")

    def to_value(self) -> dict[str, Any]:
        made: dict[str, Any] = {"imageName": under("imageName", lambda: check_identifier(self.image_name))}
        image_id = self.image_id
        if image_id is not None:
            made["imageID"] = under("imageID", lambda: digest.check(image_id))
        if self.labels:
            made["labels"] = under("labels", lambda: labels.encode(self.labels))
        if self.size:
            made["size"] = self.size
        return made


_DEPENDENCY_MEMBERS: Members = {
    "imageName": ("image_name", decode_identifier),
    "imageID": ("image_id", optional(digest.decode)),
    "labels": ("labels", labels.decode),
    "size": ("size", unsigned),
}


class ImageManifest:
    """What an image is called, needs and runs; ``app`` is None for one that only serves as a part."""

    __slots__ = (
        "ac_kind",
        "ac_version",
        "annotations",
        "app",
        "dependencies",
        "labels",
        "name",
        "path_whitelist",
    )

    def __init__(
        self,
        name: str = "",
        *,
        labels: list[Label] | None = None,
        app: App | None = None,
        annotations: list[Annotation] | None = None,
        dependencies: list[Dependency] | None = None,
        path_whitelist: list[str] | None = None,
        ac_version: str = VERSION,
    ) -> None:
        self.ac_kind = kind.IMAGE
        self.ac_version = ac_version
        self.name = name
        self.labels = [] if labels is None else labels
        self.app = app
        self.annotations = [] if annotations is None else annotations
        self.dependencies = [] if dependencies is None else dependencies
        self.path_whitelist = [] if path_whitelist is None else path_whitelist

    @classmethod
    def decode(cls, data: bytes | str) -> ImageManifest:
        """Read a whole manifest; raises ``AppcError`` with the place of the fault."""
        return cls.from_value(document(data))

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> ImageManifest:
        manifest = cls(ac_version="")
        manifest.ac_kind = ""
        return record(manifest, _MEMBERS, value, path, check=cls.check)

    def merge(self, value: Any) -> None:
        """Read members over this manifest, as the reference's decoder does with one preset."""
        record(self, _MEMBERS, value, check=ImageManifest.check)

    def check(self) -> None:
        kind.require(self.ac_kind, kind.IMAGE)
        if not self.ac_version:
            raise AppcError("acVersion must be set", "acVersion")
        if not self.name:
            raise AppcError("name must be set", "name")

    def label(self, name: str) -> str | None:
        """The value of a label."""
        return labels.get(self.labels, name)

    def annotation(self, name: str) -> str | None:
        """The value of an annotation."""
        return notes.get(self.annotations, name)

    def to_value(self) -> dict[str, Any]:
        """The JSON value in the reference's order; raises ``AppcError`` if the manifest breaks a rule."""
        self.check()
        made: dict[str, Any] = {
            "acKind": self.ac_kind,
            "acVersion": under("acVersion", lambda: version.normalise(self.ac_version)),
            "name": under("name", lambda: check_identifier(self.name)),
        }
        if self.labels:
            made["labels"] = under("labels", lambda: labels.encode(self.labels))
        if self.app is not None:
            made["app"] = under("app", self.app.to_value)
        if self.annotations:
            made["annotations"] = under("annotations", lambda: notes.encode(self.annotations))
        if self.dependencies:
            made["dependencies"] = under("dependencies", lambda: encoded(self.dependencies))
        if self.path_whitelist:
            made["pathWhitelist"] = list(self.path_whitelist)
        return made

    def encode(self, indent: str | None = None) -> str:
        """The manifest as the reference prints it."""
        return dumps(self.to_value(), indent)


_MEMBERS: Members = {
    "acKind": ("ac_kind", kind.decode),
    "acVersion": ("ac_version", version.decode),
    "name": ("name", decode_identifier),
    "labels": ("labels", labels.decode),
    "app": ("app", optional(App.from_value)),
    "annotations": ("annotations", notes.decode),
    "dependencies": ("dependencies", items(Dependency.from_value)),
    "pathWhitelist": ("path_whitelist", strings),
}
