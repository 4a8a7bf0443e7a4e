"""Signs container images as ``cosign sign --key`` does, without cosign."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from support import oci
from support.registry import Registry

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Key:
    """A key pair that signs as cosign does."""

    def __init__(self, kind: str = "ec") -> None:
        self.private: Any
        if kind == "rsa":
            self.private = rsa.generate_private_key(65537, 2048)
        elif kind == "ed25519":
            self.private = ed25519.Ed25519PrivateKey.generate()
        else:
            self.private = ec.generate_private_key(ec.SECP256R1())
        self.kind = kind

    @property
    def pem(self) -> bytes:
        made: bytes = self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return made

    def sign(self, data: bytes) -> str:
        if self.kind == "rsa":
            made = self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())
        elif self.kind == "ed25519":
            made = self.private.sign(data)
        else:
            made = self.private.sign(data, ec.ECDSA(hashes.SHA256()))
        return base64.b64encode(made).decode()


def payload(reference: str, digest: str, **critical: Any) -> bytes:
    value = {
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
            **critical,
        },
        "optional": None,
    }
    return json.dumps(value).encode()


def attach(registry: Registry, repository: str, digest: str, signatures: list[tuple[bytes, str]]) -> None:
    """Push a manifest with signatures as ``cosign attach signature`` does."""
    layers = []
    for data, signature in signatures:
        notes = {"dev.cosignproject.cosign/signature": signature}
        media_type = "application/vnd.dev.cosign.simplesigning.v1+json"
        layers.append({"mediaType": media_type, **registry.blob(repository, data), "annotations": notes})
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", **registry.blob(repository, b"{}")}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    tag = digest.replace(":", "-") + ".sig"
    registry.put(f"{repository}/manifests/{tag}", oci.encode(manifest), MANIFEST)
