"""Reads OpenPGP keys and signatures (RFC 4880): armor, packets, fingerprints, identities, issuers.

No cryptography here: what is read decides only which keys are stored, shown and handed to gpgv, which
does the verification (``rkt.trust.verification``).  Hence the parser is strict: what it does not
understand is refused, so that gpgv never sees more than what was shown and looked up.
"""

from __future__ import annotations

import binascii

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_KEY_SIZE = 4 << 20
MAX_SIGNATURE_SIZE = 1 << 20
PUBLIC_KEY = "PGP PUBLIC KEY BLOCK"
SIGNATURE = "PGP SIGNATURE"

_TAG_SIGNATURE = 2
_TAG_SECRET_KEY = 5
_TAG_PUBLIC_KEY = 6
_TAG_SECRET_SUBKEY = 7
_TAG_MARKER = 10
_TAG_TRUST = 12
_TAG_USER_ID = 13
_TAG_PUBLIC_SUBKEY = 14
_TAG_USER_ATTRIBUTE = 17
_SUBPACKET_ISSUER = 16
_SUBPACKET_ISSUER_FINGERPRINT = 33
_TYPE_BINARY_DOCUMENT = 0

_CRC24_START = 0xB704CE
_CRC24_POLYNOMIAL = 0x1864CFB


class OpenPGPError(RktError):
    """The data is not the OpenPGP data that was expected."""


class Key:
    """A transferable public key.

    ``fingerprint`` and ``subkeys`` are 40 lower-case hex digits, ``identities`` the user IDs, ``data`` the
    key's own packets in binary form.
    """

    __slots__ = ("data", "fingerprint", "identities", "subkeys")

    def __init__(self, fingerprint: str, subkeys: list[str], identities: list[str], data: bytes) -> None:
        self.fingerprint = fingerprint
        self.subkeys = subkeys
        self.identities = identities
        self.data = data

    def issued(self, signature: Signature) -> bool:
        """Whether the signature names this key, or one of its subkeys, as its maker."""
        if signature.issuer_fingerprint:
            return signature.issuer_fingerprint in (self.fingerprint, *self.subkeys)
        return any(one.endswith(signature.issuer) for one in (self.fingerprint, *self.subkeys))


class Signature:
    """What a detached signature says about itself; nothing of it is verified yet."""

    __slots__ = ("data", "hash_algorithm", "issuer", "issuer_fingerprint")

    def __init__(self, issuer: str, issuer_fingerprint: str, hash_algorithm: int, data: bytes) -> None:
        self.issuer = issuer
        self.issuer_fingerprint = issuer_fingerprint
        self.hash_algorithm = hash_algorithm
        self.data = data


def parse_keys(data: bytes) -> list[Key]:
    """The public keys of a key file, armored or binary; at least one.

    Raises OpenPGPError for anything else, a secret key included.
    """
    if len(data) > MAX_KEY_SIZE:
        raise OpenPGPError("openpgp: key file is too large")
    binary = _binary(data, PUBLIC_KEY)
    keys: list[Key] = []
    start = 0
    for tag, body, begin, end in _packets(binary):
        if tag in (_TAG_SECRET_KEY, _TAG_SECRET_SUBKEY):
            raise OpenPGPError("openpgp: file holds a secret key, a public key is needed")
        if tag == _TAG_PUBLIC_KEY:
            start = begin
            keys.append(Key(_fingerprint(body), [], [], b""))
        elif tag == _TAG_MARKER and not keys:
            continue
        elif not keys:
            raise OpenPGPError("openpgp: data does not begin with a public key")
        elif tag == _TAG_PUBLIC_SUBKEY:
            keys[-1].subkeys.append(_fingerprint(body))
        elif tag == _TAG_USER_ID:
            keys[-1].identities.append(_printable(body))
        elif tag not in (_TAG_SIGNATURE, _TAG_TRUST, _TAG_USER_ATTRIBUTE):
            raise OpenPGPError(f"openpgp: unexpected packet with tag {tag} in a public key")
        keys[-1].data = binary[start:end]
    if not keys:
        raise OpenPGPError("openpgp: no public key found")
    return keys


def parse_signature(data: bytes) -> Signature:
    """A detached signature over a binary document, armored or binary, exactly one.

    Raises OpenPGPError for anything else: with several signatures it would not be clear which one counts.
    """
    if len(data) > MAX_SIGNATURE_SIZE:
        raise OpenPGPError("openpgp: signature is too large")
    binary = _binary(data, SIGNATURE)
    found: Signature | None = None
    for tag, body, begin, end in _packets(binary):
        if tag == _TAG_MARKER:
            continue
        if tag != _TAG_SIGNATURE:
            raise OpenPGPError(f"openpgp: unexpected packet with tag {tag} in a signature")
        if found is not None:
            raise OpenPGPError("openpgp: file holds more than one signature")
        found = _signature(body, binary[begin:end])
    if found is None:
        raise OpenPGPError("openpgp: no signature found")
    return found


def format_fingerprint(fingerprint: str) -> str:
    """Ten groups of four digits with a gap in the middle, as a person compares them."""
    groups = [fingerprint[at : at + 4].upper() for at in range(0, len(fingerprint), 4)]
    return " ".join(groups[:5]) + "  " + " ".join(groups[5:])


def armor(data: bytes, kind: str) -> bytes:
    """ASCII armor with its checksum (RFC 4880, section 6)."""
    encoded = binascii.b2a_base64(data, newline=False).decode()
    lines = [encoded[at : at + 64] for at in range(0, len(encoded), 64)]
    check = binascii.b2a_base64(_crc24(data).to_bytes(3, "big"), newline=False).decode()
    text = [f"-----BEGIN {kind}-----", "", *lines, f"={check}", f"-----END {kind}-----", ""]
    return "\n".join(text).encode()


def dearmor(data: bytes, kind: str) -> bytes:
    """The content of the one armored block in ``data``, its checksum verified where it has one."""
    begin, end = f"-----BEGIN {kind}-----", f"-----END {kind}-----"
    lines = [line.rstrip() for line in data.decode("latin-1").splitlines()]
    blocks = [line for line in lines if line.startswith("-----BEGIN PGP")]
    if len(blocks) > 1:
        raise OpenPGPError("openpgp: file holds more than one armored block")
    if begin not in lines:
        found = blocks[0].strip("-") if blocks else "nothing of the kind"
        raise OpenPGPError(f"openpgp: expected a {kind.lower()}, found {found.lower()}")
    first = lines.index(begin) + 1
    if end not in lines[first:]:
        raise OpenPGPError(f"openpgp: {kind.lower()} is cut off")
    content = lines[first : lines.index(end, first)]
    # Armor headers ("Version: ...") end with an empty line.
    if "" in content:
        headers = content[: content.index("")]
        if all(": " in line or line.endswith(":") for line in headers):
            content = content[len(headers) + 1 :]
    checksum = ""
    while content and (not content[-1] or (content[-1].startswith("=") and not checksum)):
        checksum = content.pop().removeprefix("=")
    try:
        binary = binascii.a2b_base64("".join(content), strict_mode=True)
        expected = binascii.a2b_base64(checksum, strict_mode=True) if checksum else b""
    except ValueError as error:
        raise OpenPGPError(f"openpgp: {kind.lower()} is not valid base64") from error
    if expected and int.from_bytes(expected, "big") != _crc24(binary):
        raise OpenPGPError(f"openpgp: checksum of the {kind.lower()} does not match")
    return binary


def _binary(data: bytes, kind: str) -> bytes:
    """Binary packets begin with a set high bit, armor with text."""
    if not data:
        raise OpenPGPError(f"openpgp: expected a {kind.lower()}, found an empty file")
    return data if data[0] & 0x80 else dearmor(data, kind)


def _crc24(data: bytes) -> int:
    """The checksum of armor (RFC 4880, section 6.1)."""
    table = _crc24_table()
    crc = _CRC24_START
    for byte in data:
        crc = ((crc << 8) & 0xFFFFFF) ^ table[(crc >> 16) ^ byte]
    return crc


def _crc24_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= _CRC24_POLYNOMIAL
        table.append(crc)
    return table


def _packets(data: bytes) -> Iterator[tuple[int, bytes, int, int]]:
    """(tag, body, first byte, byte after the last) of each packet (RFC 4880, section 4.2)."""
    at = 0
    while at < len(data):
        begin = at
        header = data[at]
        if not header & 0x80:
            raise OpenPGPError("openpgp: not a packet header")
        if header & 0x40:
            tag = header & 0x3F
            length, at = _new_length(data, at + 1)
        else:
            tag = (header >> 2) & 0x0F
            width = (1, 2, 4, 0)[header & 3]
            if not width:
                raise OpenPGPError("openpgp: packet of indeterminate length")
            length, at = int.from_bytes(_take(data, at + 1, width), "big"), at + 1 + width
        body = _take(data, at, length)
        at += length
        yield tag, body, begin, at


def _new_length(data: bytes, at: int) -> tuple[int, int]:
    """A new-format length, also used for subpackets: the length and the offset behind it."""
    first = _take(data, at, 1)[0]
    if first < 192:
        return first, at + 1
    if first < 224:
        return ((first - 192) << 8) + _take(data, at + 1, 1)[0] + 192, at + 2
    if first == 255:
        return int.from_bytes(_take(data, at + 1, 4), "big"), at + 5
    raise OpenPGPError("openpgp: packet of partial length")


def _subpacket_length(data: bytes, at: int) -> tuple[int, int]:
    """Of signature subpackets; two-octet lengths reach up to a first octet of 254."""
    first = _take(data, at, 1)[0]
    if 224 <= first < 255:
        return ((first - 192) << 8) + _take(data, at + 1, 1)[0] + 192, at + 2
    return _new_length(data, at)


def _take(data: bytes, at: int, count: int) -> bytes:
    if at + count > len(data):
        raise OpenPGPError("openpgp: data ends in the middle of a packet")
    return data[at : at + count]


def _fingerprint(body: bytes) -> str:
    """RFC 4880, section 12.2: SHA-1 over 0x99, the length and the key packet."""
    from hashlib import sha1

    version = _take(body, 0, 1)[0]
    if version != 4:
        raise OpenPGPError(f"openpgp: keys of version {version} are not supported")
    packet = b"\x99" + len(body).to_bytes(2, "big") + body if len(body) < 1 << 16 else None
    if packet is None:
        raise OpenPGPError("openpgp: key packet is too large")
    return sha1(packet, usedforsecurity=False).hexdigest()


def _printable(body: bytes) -> str:
    """A user ID for a terminal: control characters would let it draw over what is being reviewed."""
    text = body.decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _signature(body: bytes, packet: bytes) -> Signature:
    version = _take(body, 0, 1)[0]
    if version == 3:
        # length 5, type, time, key ID, algorithms
        header = _take(body, 0, 17)
        kind, issuer, algorithm = header[2], header[7:15].hex(), header[16]
        fingerprint = ""
    elif version == 4:
        kind, _, algorithm = _take(body, 1, 3)
        issuer, fingerprint = _issuer(body)
    else:
        raise OpenPGPError(f"openpgp: signatures of version {version} are not supported")
    if kind != _TYPE_BINARY_DOCUMENT:
        raise OpenPGPError(f"openpgp: signature of type 0x{kind:02x} is not one over a binary document")
    if not issuer:
        raise OpenPGPError("openpgp: signature does not name its issuer")
    return Signature(issuer, fingerprint, algorithm, packet)


def _issuer(body: bytes) -> tuple[str, str]:
    """Key ID and fingerprint (or "") from the hashed and unhashed subpackets."""
    issuer = fingerprint = ""
    at = 4
    for _ in range(2):
        size = int.from_bytes(_take(body, at, 2), "big")
        area = _take(body, at + 2, size)
        at += 2 + size
        inner = 0
        while inner < len(area):
            length, inner = _subpacket_length(area, inner)
            if not length:
                raise OpenPGPError("openpgp: empty signature subpacket")
            content = _take(area, inner, length)
            inner += length
            kind = content[0] & 0x7F
            if kind == _SUBPACKET_ISSUER and not issuer:
                issuer = _take(content, 1, 8).hex()
            elif kind == _SUBPACKET_ISSUER_FINGERPRINT and not fingerprint and content[1:2] == b"\x04":
                fingerprint = _take(content, 2, 20).hex()
    return issuer or fingerprint[-16:], fingerprint
