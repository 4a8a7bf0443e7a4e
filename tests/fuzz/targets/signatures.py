"""OpenPGP keys and signatures, and public keys, as files hold them: nothing here is verified yet."""

from __future__ import annotations

import base64

from fuzz.target import Target, attempt
from rkt.trust import openpgp, sigstore

# A key "alice" with a subkey, and a signature of hers: ed25519, made by gpg, good for nothing else.
_KEY = base64.b64decode("""
mDMEawiDyBYJKwYBBAHaRw8BAQdA1khF50iERRxy+IQxvRReFlntCsA5uTd3sLrIq2nMXIi0GWFsaWNlIDxhbGljZUBleGFtcGxl
LmNvbT6IkAQTFggAOBYhBJeStop6/6BQrQ2nK8up+VWnQWxKBQJrCIPIAhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJEMup
+VWnQWxKMfIA/jdu/arcX7uKEMfdeq9orzZdGnW2ju3KYUPsPmCAgmKaAQDrXqt/Wlyu4yMkinx+dfpDyt1S/J0Dg6z3WiPFzq75
D7gzBGsIg8kWCSsGAQQB2kcPAQEHQEz2r9S0UH0gE2mXTquCRVUBOf8AbIrsEjU8ZOc4XrYNiO8EGBYIACAWIQSXkraKev+gUK0N
pyvLqflVp0FsSgUCawiDyQIbAgCBCRDLqflVp0FsSnYgBBkWCAAdFiEEx7yZAPZjoDS1Ls6q17h4EXk/JG8FAmsIg8kACgkQ17h4
EXk/JG+XqwEA5U1tvfuz+4aRbgP1nrtjsfuIgt+21dHzOjqE9KzVCOYBAOXt7JERPPQCEnuz+EkOdDDPPC3PKOY1Gyir1is0Kk4P
dAgA/03dq6qIB9wK9VpL7M/i7XiCOznJoNun2dav3K/biqJLAQDKFIwzTIdPLKz9VSo+5RiJfQptsmOoYFOCkUzf2ZfnBA==
""")
_SIGNATURE = base64.b64decode("""
iIgEABYIADAWIQTHvJkA9mOgNLUuzqrXuHgReT8kbwUCawiDyRIcYWxpY2VAZXhhbXBsZS5jb20ACgkQ17h4EXk/JG89MAD6AwOc
lnsuDDS/EHsLxz5bYXDCjAj+PLjbkKjU1ukrTfoBAIsF6swenE4Dv4F/sPql28Y9eNNR0FdNHbByy3sWlDYM
""")
_PEM = b"""-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEza4V1PAYcMeaqffBmT3T2+xPa53l
pwL28hxL1gHsymHe9WmX8NL6jkmdFC7nVhw1CDCB2+/qFHdyL9cmgcAhLg==
-----END PUBLIC KEY-----
"""


def key(data: bytes) -> None:
    """Keys hold all of what they are made of, and names that a terminal can be shown."""
    found = openpgp.parse_keys(data)
    assert sum(len(one.data) for one in found) <= len(data)
    for one in found:
        assert all(identity.isprintable() for identity in one.identities)
        assert all(len(name) == 40 for name in (one.fingerprint, *one.subkeys))
        again = openpgp.parse_keys(openpgp.armor(one.data, openpgp.PUBLIC_KEY))
        assert [(a.fingerprint, a.data) for a in again] == [(one.fingerprint, one.data)]


def signature(data: bytes) -> None:
    found = openpgp.parse_signature(data)
    again = openpgp.parse_signature(openpgp.armor(found.data, openpgp.SIGNATURE))
    assert (again.data, again.issuer, again.issuer_fingerprint) == (
        found.data,
        found.issuer,
        found.issuer_fingerprint,
    )
    assert len(found.data) <= len(data)


def public_key(data: bytes) -> None:
    found = attempt(lambda: sigstore.PublicKey(data))
    if found is not None:
        assert sigstore.PublicKey(found.pem).fingerprint == found.fingerprint
        assert len(found.fingerprint) == 64


TARGETS = [
    Target("openpgp-key", key, lambda: [_KEY, openpgp.armor(_KEY, openpgp.PUBLIC_KEY)]),
    Target(
        "openpgp-signature",
        signature,
        lambda: [_SIGNATURE, openpgp.armor(_SIGNATURE, openpgp.SIGNATURE)],
        words=[b"-----BEGIN PGP SIGNATURE-----\n", b"\n=", b"Version: x\n"],
    ),
    Target("public-key", public_key, lambda: [_PEM], words=[b"-----BEGIN PUBLIC KEY-----"], runs=3000),
]
