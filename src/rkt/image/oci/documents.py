"""Indexes, manifests and configurations of container images, read strictly.

Sources: OCI image specification 1.1 ("Image Index", "Image Manifest", "Image Configuration") and Docker's
image manifest version 2, schema 2.  A document says by itself what it is; one that can be read as two
things, or that is not what its server called it, is refused (CVE-2021-41190), and so are members given twice.
"""

from __future__ import annotations

from rkt.appc import gojson
from rkt.errors import RktError
from rkt.store import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_DOCUMENT = 4 << 20
"""Bytes of one document: what registries accept, too."""
MAX_LAYERS = 512
MAX_MANIFESTS = 1024
_MAX_SIZE = 1 << 40
_MAX_STRING = 1 << 16

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
INDEXES = (OCI_INDEX, DOCKER_LIST)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)
LAYERS = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
)
_SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
_FOREIGN = ("nondistributable", "rootfs.foreign")
_GENERIC = ("", "application/json", "application/octet-stream", "text/plain")


class Platform:
    """What an image runs on, in Go's words."""

    __slots__ = ("architecture", "os", "variant")

    def __init__(self, os: str, architecture: str, variant: str = "") -> None:
        self.os = os
        self.architecture = architecture
        self.variant = variant

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor:
    """Points to content: what it is, its digest and its size in bytes."""

    __slots__ = ("annotations", "digest", "media_type", "platform", "size")

    def __init__(
        self,
        media_type: str,
        digest: str,
        size: int,
        *,
        platform: Platform | None = None,
        annotations: dict[str, str] | None = None,
    ) -> None:
        self.media_type = media_type
        self.digest = digest
        self.size = size
        self.platform = platform
        self.annotations = annotations or {}

    def __repr__(self) -> str:
        return f"Descriptor({self.media_type!r}, {self.digest!r}, {self.size})"


class Index:
    """Manifests for several platforms."""

    __slots__ = ("manifests",)

    def __init__(self, manifests: list[Descriptor]) -> None:
        self.manifests = manifests


class Manifest:
    """One image: its configuration and its layers, the lowest first."""

    __slots__ = ("config", "layers")

    def __init__(self, config: Descriptor, layers: list[Descriptor]) -> None:
        self.config = config
        self.layers = layers


class Configuration:
    """What an image was made for and how it is run; ``diff_ids`` are the digests of its unpacked layers.

    ``run`` is the ``config`` member, which may be missing.
    """

    __slots__ = ("author", "comment", "created", "diff_ids", "platform", "run")

    def __init__(self, value: dict[str, Any]) -> None:
        self.author = text(value, "author")
        self.comment = text(value, "comment")
        self.created = text(value, "created")
        self.platform = Platform(text(value, "os"), text(value, "architecture"), text(value, "variant"))
        rootfs = member(value, "rootfs")
        if text(rootfs, "type") not in ("", "layers"):
            raise RktError("the image's configuration does not describe layers")
        self.diff_ids = [digests.check(one) for one in strings(rootfs, "diff_ids")]
        run = value.get("config")
        self.run = run if isinstance(run, dict) else None


def load(data: bytes, what: str) -> dict[str, Any]:
    """The object a JSON text holds, without members given twice.  Raises RktError that names ``what``."""
    if len(data) > MAX_DOCUMENT:
        raise RktError(f"{what} is larger than {MAX_DOCUMENT} bytes")
    try:
        value = _plain(gojson.loads_pairs(data))
    except RecursionError:
        raise RktError(f"{what} is nested too deeply") from None
    except RktError as error:
        raise RktError(f"{what} cannot be read") from error
    if not isinstance(value, dict):
        raise RktError(f"{what} is no JSON object")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, gojson.Pairs):
        made: dict[str, Any] = {}
        for name, item in value:
            if name in made:
                raise RktError(f'member "{name[:100]}" is given twice')
            made[name] = _plain(item)
        return made
    return [_plain(item) for item in value] if isinstance(value, list) else value


def parse(data: bytes, declared: str, what: str) -> Index | Manifest:
    """An index or a manifest; ``declared`` is the media type its server or descriptor gave it, or "".

    Raises RktError, for schema 1 with advice.
    """
    value = load(data, what)
    media_type = _media_type(value, declared.partition(";")[0].strip(), what)
    try:
        if media_type in INDEXES:
            return Index([_descriptor(one) for one in objects(value, "manifests", MAX_MANIFESTS)])
        layers = [_descriptor(one) for one in objects(value, "layers", MAX_LAYERS)]
        return Manifest(_descriptor(member(value, "config")), layers)
    except RktError as error:
        raise RktError(f"{what} cannot be used") from error


def _media_type(value: dict[str, Any], declared: str, what: str) -> str:
    """What a document is, by its own word and its members."""
    if value.get("schemaVersion") == 1 or "fsLayers" in value or declared in _SCHEMA_1:
        raise RktError(
            f"{what} is of schema 1, which cannot be verified and is no longer supported",
            hint="push the image again with a current tool, or convert it: "
            "skopeo copy --format=v2s2 docker://SOURCE docker://TARGET",
        )
    if value.get("schemaVersion") != 2:
        raise RktError(f"{what} is of an unknown schema version")
    own = text(value, "mediaType")
    is_index, is_manifest = "manifests" in value, "layers" in value or "config" in value
    if is_index == is_manifest:
        raise RktError(f"{what} is neither an index nor a manifest")
    known = INDEXES if is_index else MANIFESTS
    for name in (own, declared):
        if name not in known and name not in (("",) if name is own else _GENERIC):
            raise RktError(f"{what} is not the {name[:200]} it is said to be")
    if own and declared in known and own != declared:
        raise RktError(f"{what} is said to be {declared}, but calls itself {own}")
    return own or (declared if declared in known else known[0])


def check_layer(layer: Descriptor) -> None:
    """Raises RktError unless a layer is an archive that is found beside its manifest."""
    if any(word in layer.media_type for word in _FOREIGN):
        raise RktError(
            f"layer {layer.digest} is not distributed by the registry",
            hint="push the image with its foreign layers included",
        )
    if layer.media_type not in LAYERS:
        raise RktError(f'layer {layer.digest} is of the unknown type "{layer.media_type[:200]}"')


def _descriptor(value: dict[str, Any]) -> Descriptor:
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE:
        raise RktError("a descriptor has no valid size")
    platform = None
    if isinstance(value.get("platform"), dict):
        one = value["platform"]
        platform = Platform(text(one, "os"), text(one, "architecture"), text(one, "variant"))
    annotations = value.get("annotations")
    notes = {}
    if isinstance(annotations, dict):
        notes = {name: item for name, item in annotations.items() if isinstance(item, str)}
    return Descriptor(
        text(value, "mediaType"),
        digests.check(text(value, "digest")),
        size,
        platform=platform,
        annotations=notes,
    )


# Members of parsed objects; null and absent are the same, another type is an error


def member(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise RktError(f'member "{name}" is no object')
    return found


def text(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    if found is None:
        return ""
    if not isinstance(found, str) or isinstance(found, gojson.Number):
        raise RktError(f'member "{name}" is no string')
    if len(found) > _MAX_STRING:
        raise RktError(f'member "{name}" is longer than {_MAX_STRING} letters')
    return found


def strings(value: dict[str, Any], name: str) -> list[str]:
    found = value.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise RktError(f'member "{name}" is no list of strings')
    return found


def objects(value: dict[str, Any], name: str, most: int) -> list[dict[str, Any]]:
    found = value.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise RktError(f'member "{name}" is no list of objects')
    if len(found) > most:
        raise RktError(f'member "{name}" has more than {most} items')
    return found
