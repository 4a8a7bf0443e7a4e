"""Signatures that cosign puts beside an image: the tag ``sha256-HEX.sig`` of the same repository.

That tag is a manifest whose layers are payloads, each with its signature in an annotation (cosign's
"Signature Specification").  What is read here is verified by ``rkt.trust.sigstore``.
"""

from __future__ import annotations

from rkt.errors import RktError
from rkt.image.oci import documents
from rkt.trust import simple_signing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rkt.image.oci.source import Source

ANNOTATION = "dev.cosignproject.cosign/signature"
PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
_MOST = 50


def tag(digest: str) -> str:
    """The tag under which the signatures of a manifest are."""
    return digest.replace(":", "-") + ".sig"


def signatures(source: Source, digest: str) -> Iterator[tuple[bytes, str]]:
    """(payload, signature in base64) of each signature beside a manifest; none when there is no such tag."""
    document = source.document(tag(digest))
    if document is None:
        return
    manifest = documents.parse(document.data, document.media_type, f"signatures of {digest}")
    if not isinstance(manifest, documents.Manifest):
        raise RktError(f"signatures of {digest} are no manifest")
    for layer in manifest.layers[:_MOST]:
        signature = layer.annotations.get(ANNOTATION, "")
        if layer.media_type == PAYLOAD and signature:
            yield source.read(layer, f"signature {layer.digest}", simple_signing.MAX_PAYLOAD), signature
