"""Manifests, indexes and configurations as they come from outside."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rkt.errors import RktError, one_line
from rkt.image.oci import documents, platforms
from rkt.image.oci.manifest import Origin, convert
from rkt.store import digest as digests

DIGEST = "sha256:" + "a" * 64
LAYER = {"mediaType": documents.LAYERS[1], "digest": DIGEST, "size": 5}
CONFIG = {"mediaType": documents.OCI_CONFIG, "digest": DIGEST, "size": 7}
MANIFEST = {"schemaVersion": 2, "mediaType": documents.OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]}
INDEX = {
    "schemaVersion": 2,
    "mediaType": documents.OCI_INDEX,
    "manifests": [{**CONFIG, "mediaType": documents.OCI_MANIFEST}],
}


def parse(value: Any, declared: str = "") -> documents.Index | documents.Manifest:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return documents.parse(data, declared, "manifest")


def refused(value: Any, declared: str = "") -> str:
    with pytest.raises(RktError) as caught:
        parse(value, declared)
    return one_line(caught.value)


def test_volumes_become_mount_points() -> None:
    """Named after their paths, also where nothing of a path can be part of a name."""
    config = {"Volumes": dict.fromkeys(["/a/b", "/a-b", "rel", "/ü", "/中/文", "/"])}
    value = {"os": "linux", "architecture": "amd64", "config": config}
    origin = Origin("", "app", text="app")
    made = convert(documents.Configuration(value), origin, {"os": "linux", "arch": "amd64"})
    assert made.app is not None
    assert {point.name: point.path for point in made.app.mount_points} == {
        "volume": "/",
        "volume-1": "/ü",
        "volume-2": "/中/文",
        "volume-a-b": "/a-b",
        "volume-a-b-1": "/a/b",
        "volume-rel": "/rel",
    }


def test_manifest_and_index() -> None:
    manifest = parse(MANIFEST, documents.OCI_MANIFEST)
    assert isinstance(manifest, documents.Manifest)
    assert manifest.config.size == 7 and [layer.digest for layer in manifest.layers] == [DIGEST]
    index = parse(INDEX, documents.OCI_INDEX + "; charset=utf-8")
    assert isinstance(index, documents.Index) and len(index.manifests) == 1
    del (unnamed := dict(MANIFEST))["mediaType"]
    assert isinstance(parse(unnamed, "application/octet-stream"), documents.Manifest)


@pytest.mark.parametrize(
    ("value", "declared", "message"),
    [
        ({**MANIFEST, "manifests": []}, "", "neither an index nor a manifest"),
        ({"schemaVersion": 2}, "", "neither an index nor a manifest"),
        ({**MANIFEST, "mediaType": documents.OCI_INDEX}, "", "is not the"),
        (MANIFEST, documents.OCI_INDEX, "is not the"),
        (INDEX, documents.DOCKER_MANIFEST, "is not the"),
        (MANIFEST, documents.DOCKER_MANIFEST, "calls itself"),
        (MANIFEST, "text/html", "is not the"),
        ({**MANIFEST, "schemaVersion": 3}, "", "unknown schema version"),
        ({"schemaVersion": 1, "fsLayers": []}, "", "is of schema 1"),
        ({**MANIFEST, "layers": [{**LAYER, "size": -1}]}, "", "no valid size"),
        ({**MANIFEST, "layers": [{**LAYER, "size": 1 << 60}]}, "", "no valid size"),
        ({**MANIFEST, "layers": [{**LAYER, "size": True}]}, "", "no valid size"),
        ({**MANIFEST, "layers": [{**LAYER, "size": 5.0}]}, "", "no valid size"),
        ({**MANIFEST, "layers": [{**LAYER, "digest": "sha256:../../etc"}]}, "", "not valid"),
        ({**MANIFEST, "layers": [{**LAYER, "digest": "md5:" + "0" * 32}]}, "", "not of a supported kind"),
        ({**MANIFEST, "layers": [LAYER] * 600}, "", "more than 512 items"),
        ({**MANIFEST, "layers": "x"}, "", "no list of objects"),
        ({**MANIFEST, "config": []}, "", "no object"),
        ([], "", "no JSON object"),
        (b'{"schemaVersion":2,"schemaVersion":2}', "", "given twice"),
        (b"[" * 100_000 + b"]" * 100_000, "", ""),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "", ""),
        (b"\xef\xbb\xbf{}", "", "cannot be read"),
        (b'{"schemaVersion": ' + b"9" * 5000 + b"}", "", "unknown schema version"),
        (b"", "", "cannot be read"),
        (b" " * (documents.MAX_DOCUMENT + 1), "", "larger than"),
    ],
)
def test_refused(value: Any, declared: str, message: str) -> None:
    assert message in refused(value, declared)


def test_schema_1_comes_with_advice() -> None:
    with pytest.raises(RktError) as caught:
        parse({"schemaVersion": 1}, "application/vnd.docker.distribution.manifest.v1+prettyjws")
    assert "skopeo copy" in caught.value.hint


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        "",
    ],
)
def test_layers_of_other_kinds(media_type: str) -> None:
    with pytest.raises(RktError):
        documents.check_layer(documents.Descriptor(media_type, DIGEST, 5))


class TestPlatforms:
    def index(self, *platforms: str) -> documents.Index:
        found = []
        for number, text in enumerate(platforms):
            words = dict(zip(("os", "architecture", "variant"), text.split("/"), strict=False))
            item: dict[str, Any] = {"mediaType": documents.OCI_MANIFEST, "digest": DIGEST, "size": number}
            found.append({**item, "platform": words} if text else item)
        made = parse({**INDEX, "manifests": found})
        assert isinstance(made, documents.Index)
        return made

    @pytest.mark.parametrize(
        ("labels", "there", "chosen"),
        [
            (("linux", "amd64"), ("linux/arm64", "linux/amd64"), 1),
            (("linux", "amd64"), ("linux/amd64/v3", "linux/amd64"), 1),
            (("linux", "aarch64"), ("linux/amd64", "linux/arm64/v8"), 1),
            (("linux", "armv7l"), ("linux/arm/v6", "linux/arm/v7"), 1),
            (("linux", "armv7l"), ("linux/arm/v5", "linux/arm/v6"), 1),
            (("linux", "i386"), ("linux/386",), 0),
            (("linux", "amd64"), ("",), 0),
        ],
    )
    def test_choice(self, labels: tuple[str, str], there: tuple[str, ...], chosen: int) -> None:
        assert platforms.choose(self.index(*there), platforms.host(*labels)).size == chosen

    @pytest.mark.parametrize("there", [("linux/arm64",), ("linux/amd64/v3",), ("", ""), ("windows/amd64",)])
    def test_none(self, there: tuple[str, ...]) -> None:
        with pytest.raises(RktError, match="there is no image for linux/amd64"):
            platforms.choose(self.index(*there), platforms.host("linux", "amd64"))


class TestDigests:
    def reader(self, data: bytes, expected: str, size: int) -> digests.CheckedReader:
        import io

        return digests.CheckedReader(io.BytesIO(data), expected, size, "blob")

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_right(self, algorithm: str) -> None:
        data = b"x" * 100_000
        reader = self.reader(data, digests.of(data, algorithm), len(data))
        assert b"".join(iter(lambda: reader.read(1000), b"")) == data

    @pytest.mark.parametrize(
        ("size", "expected", "message"),
        [
            (99, digests.of(b"x" * 100), "more than the 99 bytes"),
            (101, digests.of(b"x" * 100), "has 100 bytes instead of 101"),
            (100, digests.of(b"y" * 100), "has the digest"),
        ],
    )
    def test_wrong(self, size: int, expected: str, message: str) -> None:
        reader = self.reader(b"x" * 100, expected, size)
        with pytest.raises(RktError, match=message):
            while reader.read(64):
                pass
