"""Why a container image is believed: by its digest, by a signature, or because the caller says so.

A reference that pins a digest is verified by that digest.  Else the manifest (or the index it was chosen
from) has to be signed by a key that is trusted for ``REGISTRY/REPOSITORY`` or a prefix of it:

- a sigstore signature by a public key, as ``cosign sign --key`` puts beside the image;
- an OpenPGP signature as containers/image keeps in a look-aside store ("simple signing").

Keys are those of ``rkt trust``, for appc names and container names alike.
"""

from __future__ import annotations

from rkt.errors import RktError
from rkt.image.oci import names
from rkt.store import signature as signatures
from rkt.store.signature import Signature

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rkt.image.oci.names import ContainerName
    from rkt.image.oci.source import Document, Source
    from rkt.trust.keystore import Keystore
    from rkt.trust.simple_signing import Payload

NONE, DIGEST, SIGSTORE, OPENPGP = "none", "digest", "sigstore", "openpgp"


class Verified:
    """How an image was verified: ``method`` is one of the above, ``detail`` the digest or the key's name,
    ``signature`` by what.
    """

    __slots__ = ("detail", "method", "signature")

    def __init__(self, method: str, detail: str = "", signature: Signature | None = None) -> None:
        self.method = method
        self.detail = detail
        self.signature = signature

    def __repr__(self) -> str:
        return f"Verified({self.method!r}, {self.detail!r})"


def verify(
    keystore: Keystore | None,
    source: Source,
    name: ContainerName | None,
    documents: Sequence[Document],
    *,
    pinned: str,
    lookaside: Callable[[str], list[bytes]],
    notify: Callable[[str], object],
) -> Verified:
    """Verify the documents that led to an image, the outermost first; one of them is to be signed.

    ``keystore`` None: the caller asks for no verification.  ``name`` None: the image has no name a key could
    be trusted for.  ``pinned`` is the digest the user named, which the first document has.  ``lookaside``
    gives the OpenPGP signatures kept for a digest.  Raises RktError.
    """
    if pinned:
        return Verified(DIGEST, pinned)
    if keystore is None:
        return Verified(NONE)
    if name is None:
        raise RktError(
            "an image in a layout or archive is verified by its digest only, and none is given",
            hint="add @sha256:DIGEST, or relax with --insecure-options=image",
        )
    from rkt.trust import sigstore, simple_signing

    trusted = names.trust_name(name.name)
    failures: list[RktError] = []
    public = keystore.public_keys_for(trusted)
    openpgp = keystore.keys_for(trusted)
    for document in documents:
        if public:
            from rkt.image.oci import cosign

            for payload, signature in cosign.signatures(source, document.digest):
                try:
                    key = sigstore.verify(payload, signature, public)
                    _check(simple_signing.parse(payload, simple_signing.COSIGN), name, document.digest)
                except RktError as error:
                    failures.append(error)
                    continue
                notify(f"signature verified:\n  sigstore key {key.fingerprint}")
                kept = Signature(
                    signatures.SIGSTORE, signature.encode(), payload=payload, covers=document.digest
                )
                return Verified(SIGSTORE, key.fingerprint, kept)
        if openpgp:
            for message in lookaside(document.digest):
                try:
                    verified, said = simple_signing.verify(message, openpgp)
                    _check(said, name, document.digest)
                except RktError as error:
                    failures.append(error)
                    continue
                notify("\n  ".join(["signature verified:", *verified.identities]))
                kept = Signature(signatures.MESSAGE, message, covers=document.digest)
                return Verified(OPENPGP, verified.fingerprint, kept)
    if failures:
        raise failures[0]
    if not public and not openpgp:
        raise RktError(
            f'no key is trusted for "{trusted}", and the reference names no digest',
            hint=f"name a digest, trust the signer's key with: rkt trust --prefix={trusted} KEY, "
            "or relax with --insecure-options=image",
        )
    raise RktError(
        f'no signature of a key trusted for "{trusted}" was found',
        hint="name a digest, or relax with --insecure-options=image",
    )


def _check(said: Payload, name: ContainerName, digest: str) -> None:
    """Whether a signature is of this image: of its digest, and under its name (and tag, if it says one)."""
    if said.digest != digest:
        raise RktError(f"the signature is of another image, {said.digest[:200]}")
    signed = names.parse(said.reference)
    tagged = ":" in said.reference.rpartition("/")[2].partition("@")[0]
    if signed.name != name.name or (tagged and name.tag and signed.tag not in ("", name.tag)):
        raise RktError(f'the signature is of an image called "{said.reference[:200]}"')
