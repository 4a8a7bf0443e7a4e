"""Public keys in PEM, and the signatures of container images made with them (``cosign sign --key``).

A signature is over the bytes of a payload that names the image (``rkt.trust.simple_signing``).  Kinds of
keys and their schemes are sigstore's: ECDSA with SHA-256, RSA (PKCS #1 v1.5) with SHA-256, Ed25519.
"""

from __future__ import annotations

import binascii

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_KEY_SIZE = 1 << 16
MAX_SIGNATURE_SIZE = 1 << 14
_BEGIN = b"-----BEGIN PUBLIC KEY-----"
_SECRET = b"PRIVATE KEY-----"
_LEAST_RSA_BITS = 2048


class PublicKey:
    """A key: ``fingerprint`` is the SHA-256 of its DER form in hex, ``pem`` its text."""

    __slots__ = ("_key", "fingerprint", "kind", "pem")

    def __init__(self, data: bytes) -> None:
        """Read a PEM file with one public key.  Raises RktError for anything else."""
        import hashlib

        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization

        if _SECRET in data[:MAX_KEY_SIZE]:
            raise RktError("the file holds a private key, a public key is needed")
        if len(data) > MAX_KEY_SIZE or not is_public_key(data) or data.count(b"-----BEGIN") != 1:
            raise RktError("the file does not hold one public key in PEM form")
        try:
            self._key = serialization.load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise RktError("the public key cannot be read") from RktError(str(error).partition("\n")[0])
        self.kind = _kind(self._key)
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        der = self._key.public_bytes(serialization.Encoding.DER, form)
        self.pem = self._key.public_bytes(serialization.Encoding.PEM, form)
        self.fingerprint = hashlib.sha256(der).hexdigest()

    def verify(self, payload: bytes, signature: bytes) -> bool:
        """Whether the key made the signature of the payload."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

        key = self._key
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
            elif isinstance(key, rsa.RSAPublicKey):
                key.verify(signature, payload, padding.PKCS1v15(), hashes.SHA256())
            elif isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, payload)
            else:
                raise AssertionError("the kind of key was checked when it was read")
        except InvalidSignature:
            return False
        return True


def is_public_key(data: bytes) -> bool:
    """Whether a file looks like a public key in PEM form (an OpenPGP key begins otherwise)."""
    return data.lstrip().startswith(_BEGIN)


def verify(payload: bytes, signature: str, keys: Iterable[PublicKey]) -> PublicKey:
    """The key that made a signature, given in base64.  Raises RktError when it is none of these."""
    if len(signature) > MAX_SIGNATURE_SIZE:
        raise RktError("sigstore: signature is too large")
    try:
        raw = binascii.a2b_base64(signature.strip().encode(), strict_mode=True)
    except (ValueError, binascii.Error):
        raise RktError("sigstore: signature is not valid base64") from None
    for key in keys:
        if key.verify(payload, raw):
            return key
    raise RktError("sigstore: signature made by none of the trusted keys")


def _kind(key: object) -> str:
    """What kind of key it is; RktError for one that is not used for signing images, or too weak."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1):
            raise RktError(f"the public key is on the curve {key.curve.name}, which is not accepted")
        return f"ECDSA {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _LEAST_RSA_BITS:
            raise RktError(f"the public key has {key.key_size} bits, which are too few")
        return f"RSA {key.key_size}"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "Ed25519"
    raise RktError("the public key is of a kind that does not sign images")
