"""The pod manifest."""

from __future__ import annotations

from rkt.appc import VERSION, digest, isolators, kind, labels, version
from rkt.appc import annotations as notes
from rkt.appc.app import App
from rkt.appc.decode import (
    Absent,
    boolean,
    document,
    encoded,
    items,
    optional,
    record,
    string_map,
    under,
)
from rkt.appc.errors import AppcError
from rkt.appc.gojson import dumps
from rkt.appc.identifiers import check_identifier, check_name, decode_identifier, decode_name
from rkt.appc.port import ExposedPort
from rkt.appc.volume import Mount, Volume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.appc.annotations import Annotation
    from rkt.appc.decode import Members
    from rkt.appc.isolators import Isolator
    from rkt.appc.labels import Label


class RuntimeImage:
    """The image of an app in a pod, pinned by ``id``; ``name`` is None if not given."""

    __slots__ = ("id", "labels", "name")

    def __init__(self, id: str = "", *, name: str | None = None, labels: list[Label] | None = None) -> None:
        self.id = id
        self.name = name
        self.labels = [] if labels is None else labels

    def __repr__(self) -> str:
        return f"RuntimeImage({self.id!r}, name={self.name!r})"

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> RuntimeImage:
        return record(cls(), _IMAGE_MEMBERS, value, path)

    def to_value(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        name = self.name
        if name is not None:
            made["name"] = under("name", lambda: check_identifier(name))
        made["id"] = under("id", lambda: digest.check(self.id))
        if self.labels:
            made["labels"] = under("labels", lambda: labels.encode(self.labels))
        return made


_IMAGE_MEMBERS: Members = {
    "name": ("name", optional(decode_identifier)),
    "id": ("id", digest.decode),
    "labels": ("labels", labels.decode),
}


class RuntimeApp:
    """One app of a pod; ``app`` replaces the one of the image as a whole."""

    __slots__ = ("annotations", "app", "image", "mounts", "name", "read_only_root_fs")

    def __init__(
        self,
        name: str = "",
        image: RuntimeImage | None = None,
        *,
        app: App | None = None,
        read_only_root_fs: bool = False,
        mounts: list[Mount] | None = None,
        annotations: list[Annotation] | None = None,
    ) -> None:
        self.name = name
        self.image = RuntimeImage() if image is None else image
        self.app = app
        self.read_only_root_fs = read_only_root_fs
        self.mounts = [] if mounts is None else mounts
        self.annotations = [] if annotations is None else annotations

    def __repr__(self) -> str:
        return f"RuntimeApp({self.name!r}, {self.image!r})"

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> RuntimeApp:
        return record(cls(), _APP_MEMBERS, value, path)

    def annotation(self, name: str) -> str | None:
        """The value of an annotation."""
        return notes.get(self.annotations, name)

    def to_value(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "name": under("name", lambda: check_name(self.name)),
            "image": under("image", self.image.to_value),
        }
        if self.app is not None:
            made["app"] = under("app", self.app.to_value)
        if self.read_only_root_fs:
            made["readOnlyRootFS"] = True
        if self.mounts:
            made["mounts"] = under("mounts", lambda: encoded(self.mounts))
        if self.annotations:
            made["annotations"] = under("annotations", lambda: notes.encode(self.annotations))
        return made


_APP_MEMBERS: Members = {
    "name": ("name", decode_name),
    "image": ("image", RuntimeImage.from_value),
    "app": ("app", optional(App.from_value)),
    "readOnlyRootFS": ("read_only_root_fs", boolean),
    "mounts": ("mounts", items(Mount.from_value)),
    "annotations": ("annotations", notes.decode),
}


def _check_apps(apps: list[RuntimeApp]) -> list[RuntimeApp]:
    seen = set()
    for app in apps:
        if app.name in seen:
            raise AppcError(f'duplicate apps of name "{app.name}"')
        seen.add(app.name)
    return apps


def _check_volumes(volumes: list[Volume]) -> list[Volume]:
    seen = set()
    for volume in volumes:
        if volume.name in seen:
            raise AppcError(f'duplicate volumes of name "{volume.name}"')
        seen.add(volume.name)
    return volumes


class PodManifest:
    """The apps of a pod and what they share.

    A list that was not given prints as null, an empty one that was given as ``[]``.
    """

    __slots__ = (
        "ac_kind",
        "ac_version",
        "annotations",
        "apps",
        "isolators",
        "ports",
        "user_annotations",
        "user_labels",
        "volumes",
    )

    def __init__(
        self,
        *,
        apps: list[RuntimeApp] | None = None,
        volumes: list[Volume] | None = None,
        isolators: list[Isolator] | None = None,
        annotations: list[Annotation] | None = None,
        ports: list[ExposedPort] | None = None,
        user_annotations: dict[str, str] | None = None,
        user_labels: dict[str, str] | None = None,
        ac_version: str = VERSION,
    ) -> None:
        self.ac_version = ac_version
        self.ac_kind = kind.POD
        self.apps: list[RuntimeApp] = Absent() if apps is None else apps
        self.volumes: list[Volume] = Absent() if volumes is None else volumes
        self.isolators: list[Isolator] = Absent() if isolators is None else isolators
        self.annotations: list[Annotation] = Absent() if annotations is None else annotations
        self.ports: list[ExposedPort] = Absent() if ports is None else ports
        self.user_annotations = {} if user_annotations is None else user_annotations
        self.user_labels = {} if user_labels is None else user_labels

    @classmethod
    def decode(cls, data: bytes | str) -> PodManifest:
        """Read a whole manifest; raises ``AppcError`` with the place of the fault."""
        return cls.from_value(document(data))

    @classmethod
    def from_value(cls, value: Any, path: str = "") -> PodManifest:
        manifest = cls(ac_version="")
        manifest.ac_kind = ""
        return record(manifest, _MEMBERS, value, path, check=cls.check)

    def merge(self, value: Any) -> None:
        """Read members over this manifest, as the reference's decoder does with one preset."""
        record(self, _MEMBERS, value, check=PodManifest.check)

    def check(self) -> None:
        kind.require(self.ac_kind, kind.POD)

    def app(self, name: str) -> RuntimeApp | None:
        """The app called ``name``."""
        for app in self.apps:
            if app.name == name:
                return app
        return None

    def annotation(self, name: str) -> str | None:
        """The value of an annotation of the pod."""
        return notes.get(self.annotations, name)

    def to_value(self) -> dict[str, Any]:
        """The JSON value in the reference's order; raises ``AppcError`` if the manifest breaks a rule."""
        self.check()
        made: dict[str, Any] = {
            "acVersion": under("acVersion", lambda: version.normalise(self.ac_version)),
            "acKind": self.ac_kind,
            "apps": under("apps", lambda: encoded(_check_apps(self.apps))),
            "volumes": under("volumes", lambda: encoded(_check_volumes(self.volumes))),
            "isolators": under("isolators", lambda: isolators.encode(self.isolators)),
            "annotations": under("annotations", lambda: notes.encode(self.annotations)),
            "ports": under("ports", lambda: encoded(self.ports)),
        }
        if self.user_annotations:
            made["userAnnotations"] = dict(sorted(self.user_annotations.items()))
        if self.user_labels:
            made["userLabels"] = dict(sorted(self.user_labels.items()))
        return made

    def encode(self, indent: str | None = None) -> str:
        """The manifest as the reference prints it."""
        return dumps(self.to_value(), indent)


_decode_apps = items(RuntimeApp.from_value)
_decode_volumes = items(Volume.from_value)

_MEMBERS: Members = {
    "acVersion": ("ac_version", version.decode),
    "acKind": ("ac_kind", kind.decode),
    "apps": ("apps", lambda value: _check_apps(_decode_apps(value))),
    "volumes": ("volumes", lambda value: _check_volumes(_decode_volumes(value))),
    "isolators": ("isolators", isolators.decode),
    "annotations": ("annotations", notes.decode),
    "ports": ("ports", items(ExposedPort.from_value)),
    "userAnnotations": ("user_annotations", string_map),
    "userLabels": ("user_labels", string_map),
}
