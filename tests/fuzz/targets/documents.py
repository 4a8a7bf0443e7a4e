"""Manifests and documents in JSON: appc's and those of container images."""

from __future__ import annotations

import json
from typing import Any

from fuzz.target import Target, attempt
from rkt.appc import gojson, lastditch
from rkt.appc.image import ImageManifest
from rkt.appc.pod import PodManifest
from rkt.image.oci import documents
from rkt.image.oci.manifest import Origin, convert
from rkt.trust import simple_signing

_HOST = {"os": "linux", "arch": "amd64"}
_DIGEST = "sha256:" + "ab" * 32


def image_manifest(data: bytes) -> None:
    """What is accepted is JSON for others too, and is written as something that reads as the same."""
    attempt(lambda: lastditch.ImageManifest.decode(data))
    _stable(ImageManifest, data)


def pod_manifest(data: bytes) -> None:
    attempt(lambda: lastditch.PodManifest.decode(data))
    _stable(PodManifest, data)


def _stable(kind: Any, data: bytes) -> None:
    value = kind.decode(data)
    _others_read(data)
    written = attempt(value.encode)
    if written is not None:
        assert kind.decode(written).encode() == written
        json.loads(written)


def _others_read(data: bytes) -> Any:
    """What the standard library reads; None for bytes that are no UTF-8, which Go replaces in its own way."""
    try:
        return json.loads(data.decode())
    except (RecursionError, UnicodeDecodeError):
        return None


def document(data: bytes) -> None:
    """Indexes and manifests."""
    value = documents.load(data, "it")
    _others_read(data)
    found = documents.parse(data, "", "it")
    assert ("manifests" in value) == isinstance(found, documents.Index)
    if isinstance(found, documents.Manifest):
        for layer in found.layers:
            attempt(lambda layer=layer: documents.check_layer(layer))


def configuration(data: bytes) -> None:
    """A configuration becomes a manifest that is valid, or is refused."""
    config = documents.Configuration(documents.load(data, "it"))
    origin = Origin("example.com", "a/b", text="example.com/a/b", tag="1", version="1")
    manifest = convert(config, origin, _HOST)
    written = manifest.encode()
    assert ImageManifest.decode(written).encode() == written


def payload(data: bytes) -> None:
    """What a signature says: both kinds, never both at once."""
    kinds = (simple_signing.ATOMIC, simple_signing.COSIGN)
    found = [attempt(lambda kind=kind: simple_signing.parse(data, kind)) for kind in kinds]
    assert None in found


def scalar(data: bytes) -> None:
    """JSON itself: what is read here is what the standard library reads, duplicates and numbers aside."""
    value = gojson.loads(data)
    theirs = _others_read(data)
    if b"\\u" not in data and theirs is not None:
        assert gojson.dumps(value) == gojson.dumps(theirs)


def _image() -> list[bytes]:
    app = {
        "exec": ["/bin/a"],
        "user": "0",
        "group": "0",
        "supplementaryGIDs": [1],
        "environment": [{"name": "A", "value": "b"}],
        "workingDirectory": "/",
        "eventHandlers": [{"name": "pre-start", "exec": ["/x"]}],
        "mountPoints": [{"name": "m", "path": "/m", "readOnly": True}],
        "ports": [{"name": "p", "protocol": "tcp", "port": 1, "count": 2, "socketActivated": True}],
        "isolators": [
            {"name": "resource/memory", "value": {"request": "1Mi", "limit": "1.5Gi"}},
            {"name": "os/linux/seccomp-retain-set", "value": {"set": ["a"], "errno": "EPERM"}},
            {"name": "os/linux/oom-score-adj", "value": 5},
        ],
        "userLabels": {"a": "b"},
    }
    value = {
        "acKind": "ImageManifest",
        "acVersion": "0.8.11",
        "name": "example.com/a",
        "labels": [{"name": "os", "value": "linux"}, {"name": "arch", "value": "amd64"}],
        "app": app,
        "dependencies": [{"imageName": "b", "imageID": "sha512-" + "a" * 64, "labels": [], "size": 1}],
        "pathWhitelist": ["/a"],
        "annotations": [{"name": "created", "value": "2020-01-01T00:00:00Z"}],
    }
    return [json.dumps(value).encode(), b'{"acKind":"ImageManifest","acVersion":"1.0.0","name":"a"}']


def _pod() -> list[bytes]:
    value = {
        "acKind": "PodManifest",
        "acVersion": "0.8.11",
        "apps": [
            {
                "name": "a",
                "image": {"id": "sha512-" + "a" * 64, "name": "b", "labels": []},
                "app": {"exec": ["/a"], "user": "0", "group": "0"},
                "mounts": [{"volume": "v", "path": "/v"}],
                "annotations": [],
                "readOnlyRootFS": True,
            }
        ],
        "volumes": [
            {"name": "v", "kind": "host", "source": "/s", "recursive": True},
            {"name": "e", "kind": "empty", "mode": "0755", "uid": 1, "gid": 2},
        ],
        "ports": [{"name": "p", "hostPort": 80, "hostIP": "127.0.0.1"}],
        "isolators": [{"name": "resource/cpu", "value": {"limit": "500m"}}],
    }
    return [json.dumps(value).encode()]


def _documents() -> list[bytes]:
    layer = {"mediaType": documents.LAYERS[1], "digest": _DIGEST, "size": 5, "annotations": {"a": "b"}}
    config = {"mediaType": documents.OCI_CONFIG, "digest": _DIGEST, "size": 7}
    platform = {"os": "linux", "architecture": "arm", "variant": "v7"}
    inner = {"mediaType": documents.OCI_MANIFEST, "digest": _DIGEST, "size": 9, "platform": platform}
    manifest = {"schemaVersion": 2, "mediaType": documents.OCI_MANIFEST, "config": config, "layers": [layer]}
    index = {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": [inner]}
    old = {"schemaVersion": 1, "fsLayers": []}
    return [json.dumps(one).encode() for one in (manifest, index, old)]


def _configurations() -> list[bytes]:
    run = {
        "User": "7:8",
        "Env": ["A=b", "C"],
        "Entrypoint": ["/a"],
        "Cmd": ["b"],
        "WorkingDir": "x",
        "Volumes": {"/data": {}},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
    }
    value = {
        "architecture": "amd64",
        "os": "linux",
        "author": "me",
        "created": "2020-01-01T00:00:00.5Z",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [_DIGEST]},
    }
    return [json.dumps(value).encode()]


def _payloads() -> list[bytes]:
    image, identity = {"docker-manifest-digest": _DIGEST}, {"docker-reference": "example.com/a"}
    return [
        json.dumps(
            {"critical": {"type": kind, "image": image, "identity": identity}, "optional": {}}
        ).encode()
        for kind in (simple_signing.ATOMIC, simple_signing.COSIGN)
    ]


_TOKENS = [b'"', b"null", b"true", b"[]", b"{}", b"1e999", b"-0", b"\\ud800", b"\xef\xbb\xbf", b"\\u0000"]

TARGETS = [
    Target("image-manifest", image_manifest, _image, words=_TOKENS),
    Target("pod-manifest", pod_manifest, _pod, words=_TOKENS),
    Target("oci-document", document, _documents, words=_TOKENS),
    Target("oci-configuration", configuration, _configurations, words=_TOKENS),
    Target("signature-payload", payload, _payloads, words=_TOKENS, runs=5000),
    Target("json", scalar, lambda: [b'{"a": [1, 2.5, "x", null, true]}', *_pod()], words=_TOKENS),
]
