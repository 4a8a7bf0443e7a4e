"""What ``docker save`` writes: one archive with the configuration and the layers of some images.

Since Docker 1.10 ``manifest.json`` lists the images: ``[{"Config": PATH, "RepoTags": [NAME...], "Layers":
[PATH...]}]``.  Before, ``repositories`` named the top layer of each image, and each layer was a directory
``ID`` with ``json`` and ``layer.tar``, linked by ``parent``.  Newer files have an OCI layout beside, which is
not needed.

There is no manifest whose digest could be pinned: images are known by the digest of their configuration, what
Docker calls the image's ID.  It holds the digests of the layers, too.
"""

from __future__ import annotations

from rkt.appc import gojson
from rkt.errors import RktError
from rkt.image.oci import documents, names
from rkt.image.oci.documents import Descriptor
from rkt.image.oci.source import Document, Source
from rkt.store import compression
from rkt.store import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.image.oci.files import Archive, Section

_TAR = "application/vnd.docker.image.rootfs.diff.tar"
_HEX = frozenset("0123456789abcdef")
_CHUNK = 1 << 20


class Image:
    """One image of the archive: its names, its configuration's bytes and digest, its layers' members."""

    __slots__ = ("config", "digest", "layers", "names")

    def __init__(self, config: bytes, layers: list[str], names: list[str]) -> None:
        self.config = config
        self.digest = digests.of(config)
        self.layers = layers
        self.names = names


class DockerArchive(Source):
    """An archive in ``files``; ``where`` is what it is called in messages."""

    __slots__ = ("_blobs", "_files", "_where", "images")

    def __init__(self, files: Archive, where: str) -> None:
        """Raises RktError for what is no such archive."""
        self._files = files
        self._where = where
        self._blobs: dict[str, str | bytes] = {}
        if files.has("manifest.json"):
            self.images = self._listed()
        elif files.has("repositories"):
            self.images = self._chained()
        else:
            raise RktError(f"{where} is no archive of docker save: it has no manifest.json")
        if not self.images:
            raise RktError(f"{where} has no images")

    def find(self, reference: str) -> Image:
        """The image with a name or the digest of its configuration; with "" the only one."""
        if not reference:
            found = self.images
        elif reference.startswith("sha256:") and len(reference) == 71:
            found = [image for image in self.images if image.digest == reference]
        else:
            wanted = str(names.parse(reference))
            found = [
                image for image in self.images if wanted in (str(names.parse(one)) for one in image.names)
            ]
        if len(found) == 1:
            return found[0]
        there = ", ".join(name for image in self.images for name in (image.names or [image.digest]))
        if not found:
            raise RktError(
                f'{self._where} has no image "{reference[:200]}"', hint=f"its images: {there[:1000]}"
            )
        raise RktError(f"{self._where} has several images", hint=f"name one of them: {there[:1000]}")

    def document(self, reference: str) -> Document | None:
        """A manifest made of what the archive says; its digest is that of the configuration."""
        image = self.find(reference)
        self._blobs[image.digest] = image.config
        config = documents.Configuration(documents.load(image.config, f"configuration {image.digest}"))
        if len(config.diff_ids) != len(image.layers):
            raise RktError(
                f"{self._where} has {len(image.layers)} layers, the configuration {len(config.diff_ids)}"
            )
        if len(image.layers) > documents.MAX_LAYERS:
            raise RktError(f"{self._where} has more than {documents.MAX_LAYERS} layers")
        pairs = zip(image.layers, config.diff_ids, strict=True)
        layers = [self._layer(member, diff_id) for member, diff_id in pairs]
        value = {
            "schemaVersion": 2,
            "mediaType": documents.DOCKER_MANIFEST,
            "config": _value(Descriptor(documents.DOCKER_CONFIG, image.digest, len(image.config))),
            "layers": [_value(layer) for layer in layers],
        }
        return Document(gojson.dumps(value).encode(), documents.DOCKER_MANIFEST, image.digest)

    def open(self, descriptor: Descriptor) -> Section | _Bytes:
        blob = self._blobs[descriptor.digest]
        return _Bytes(blob) if isinstance(blob, bytes) else self._files.open(blob)

    def _layer(self, member: str, diff_id: str) -> Descriptor:
        """A layer's archive is mostly plain, so that its own digest is the one in the configuration."""
        with self._files.open(member) as stream:
            first = stream.read(compression.SNIFFED)
        compressed = compression.detect(first) in compression.COMPRESSIONS
        digest = self._digest(member) if compressed else diff_id
        self._blobs[digest] = member
        return Descriptor(_TAR, digest, self._files.size(member))

    def _digest(self, member: str) -> str:
        import hashlib

        hash = hashlib.sha256()
        with self._files.open(member) as stream:
            while data := stream.read(_CHUNK):
                hash.update(data)
        return f"sha256:{hash.hexdigest()}"

    # What is in the archive

    def _listed(self) -> list[Image]:
        data = self._files.read("manifest.json", documents.MAX_DOCUMENT)
        what = f"manifest.json of {self._where}"
        # A list is no object: it is read as the member of one.
        value = documents.load(b'{"images":' + data + b"}", what)
        images = []
        for one in documents.objects(value, "images", documents.MAX_MANIFESTS):
            config = self._files.read(_member(documents.text(one, "Config")), documents.MAX_DOCUMENT)
            layers = [_member(name) for name in documents.strings(one, "Layers")]
            images.append(Image(config, layers, documents.strings(one, "RepoTags")))
        return images

    def _chained(self) -> list[Image]:
        data = self._files.read("repositories", documents.MAX_DOCUMENT)
        named: dict[str, list[str]] = {}
        for repository, tags in documents.load(data, f"repositories of {self._where}").items():
            for tag, top in (tags if isinstance(tags, dict) else {}).items():
                if not isinstance(top, str):
                    raise RktError(f"repositories of {self._where} cannot be read")
                named.setdefault(top, []).append(f"{repository}:{tag}")
        return [self._chain(top, found) for top, found in named.items()]

    def _chain(self, top: str, named: list[str]) -> Image:
        """The image whose top layer is ``top``; its configuration is put together from the layers'."""
        layers: list[str] = []
        described: dict[str, Any] = {}
        layer = top
        while layer:
            # An ID is a path of the archive: it is one component of hexadecimal digits (CVE-2016-7569).
            if not layer or set(layer) - _HEX:
                raise RktError(f'{self._where} has the layer "{layer[:100]}", which is no ID')
            if f"{layer}/layer.tar" in layers:
                raise RktError(f"the layers of {self._where} are each other's parents")
            if len(layers) >= documents.MAX_LAYERS:
                raise RktError(f"{self._where} has more than {documents.MAX_LAYERS} layers")
            data = self._files.read(f"{layer}/json", documents.MAX_DOCUMENT)
            value = documents.load(data, f"{layer}/json of {self._where}")
            described = described or value
            layers.insert(0, f"{layer}/layer.tar")
            layer = documents.text(value, "parent")
        kept = ("architecture", "author", "comment", "config", "created", "os")
        config = {name: described[name] for name in kept if name in described}
        config["rootfs"] = {"type": "layers", "diff_ids": [self._digest(member) for member in layers]}
        return Image(gojson.dumps(config).encode(), layers, named)


class _Bytes:
    """Bytes as a stream."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int, /) -> bytes:
        data, self._data = self._data[:size], self._data[size:]
        return data

    def __enter__(self) -> _Bytes:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _member(name: str) -> str:
    from rkt.store import layout

    return layout.clean(name)


def _value(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "size": descriptor.size, "digest": descriptor.digest}
