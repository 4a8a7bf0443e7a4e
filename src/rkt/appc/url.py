"""Addresses as Go's ``net/url`` reads and prints them; of the schemes only http and https pass.

The standard library's parser is laxer (it takes spaces in hosts, bad escapes and bad ports), so the
rules of Go 1.19 are written out here.
"""

from __future__ import annotations

from rkt.appc.decode import string
from rkt.appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ALPHANUMERIC = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_LETTERS = _ALPHANUMERIC - frozenset(b"0123456789")
_HEX = frozenset(b"0123456789abcdefABCDEF")
_UNRESERVED = _ALPHANUMERIC | frozenset(b"-_.~")
_RESERVED = frozenset(b"$&+,/:;=?@")
# What stands for itself in each part of an address (Go: shouldEscape).
_PLAIN = {
    "host": _UNRESERVED | frozenset(b"!$&'()*+,;=:[]<>\""),
    "path": _UNRESERVED | (_RESERVED - frozenset(b"?")),
    "user": _UNRESERVED | (_RESERVED - frozenset(b"@/?:")),
    "fragment": _UNRESERVED | _RESERVED | frozenset(b"!()*"),
}
_USER_LETTERS = _ALPHANUMERIC | frozenset(b"-._:~!$&'()*+,;=%@")
# What may stand unescaped in a text that is taken as already encoded (Go: validEncoded).
_ENCODED = frozenset(b"!$&'()*+,;=:@[]%")


def parse(text: str) -> str:
    """The address printed again in Go's normal form; raises ``AppcError`` if it is none of http or https."""
    raw = text.encode("utf-8", "surrogatepass")
    if any(byte < 0x20 or byte == 0x7F for byte in raw):
        raise AppcError(f"bad URL: invalid control character in {text!r}")
    rest, _, fragment = raw.partition(b"#")
    fragment = _normal(fragment, "fragment")
    scheme, rest = _split_scheme(rest, text)
    # the scheme is checked last in the reference, but an address with another one fails either way
    if scheme not in (b"http", b"https"):
        raise AppcError(f"bad URL scheme, must be http/https: {text!r}")
    made = scheme + b":"
    force_query = rest.endswith(b"?") and rest.count(b"?") == 1
    rest, _, query = rest.partition(b"?")
    if not rest.startswith(b"/"):
        made += rest  # an opaque address: http:example.com
    else:
        made += _normal_hierarchy(rest)
    if query or force_query:
        made += b"?" + query
    if fragment:
        made += b"#" + fragment
    return made.decode("utf-8", "surrogatepass")


def check(text: str) -> str:
    """The text as it is, if it is an http or https URL; else ``AppcError``."""
    parse(text)
    return text


def decode(value: Any) -> str:
    """A URL from parsed JSON, in normal form."""
    return parse(string(value))


def _split_scheme(raw: bytes, text: str) -> tuple[bytes, bytes]:
    scheme, colon, rest = raw.partition(b":")
    if colon and not scheme:
        raise AppcError(f"bad URL: missing protocol scheme in {text!r}")
    if colon and scheme[0] in _LETTERS and (_ALPHANUMERIC | frozenset(b"+-.")).issuperset(scheme):
        return scheme.lower(), rest
    return b"", raw


def _normal_hierarchy(rest: bytes) -> bytes:
    """``//authority/path`` or ``/path``."""
    if not rest.startswith(b"//"):
        return _normal(rest, "path")
    authority, slash, path = rest[2:].partition(b"/")
    path = _normal(slash + path, "path")
    before, at, host = authority.rpartition(b"@")
    user = _normal_user(before) + b"@" if at else b""
    host = _escape(_parse_host(host), "host")
    if not (user or host or path):
        return b""
    return b"//" + user + host + path


def _normal_user(user: bytes) -> bytes:
    if not _USER_LETTERS.issuperset(user):
        raise AppcError("bad URL: invalid user information")
    name, colon, password = user.partition(b":")
    return _escape(_unescape(name), "user") + colon + _escape(_unescape(password), "user")


def _parse_host(host: bytes) -> bytes:
    """The host without escapes; only the bytes of other alphabets and of a zone may be escaped."""
    zone = b""
    if host.startswith(b"["):
        end = host.rfind(b"]")
        if end < 0:
            raise AppcError("bad URL: missing ']' in host")
        _check_port(host[end + 1 :])
        start = host.find(b"%25", 0, end)
        if start >= 0:
            zone = _unescape(host[start:end], host=True, zone=True)
            return _unescape(host[:start], host=True) + zone + _unescape(host[end:], host=True)
    else:
        colon = host.rfind(b":")
        if colon >= 0:
            _check_port(host[colon:])
    return _unescape(host, host=True)


def _check_port(port: bytes) -> None:
    if port and not (port.startswith(b":") and (len(port) == 1 or port[1:].isdigit())):
        raise AppcError(f"bad URL: invalid port {port.decode('utf-8', 'replace')!r} after host")


def _normal(raw: bytes, part: str) -> bytes:
    """A part printed again: as it was written if that is a valid encoding, else encoded anew."""
    plain = _unescape(raw)
    if (_PLAIN[part] | _ENCODED).issuperset(raw):
        return raw
    return _escape(plain, part)


def _unescape(raw: bytes, *, host: bool = False, zone: bool = False) -> bytes:
    made = bytearray()
    at = 0
    while at < len(raw):
        byte = raw[at]
        if byte == 0x25:
            digits = raw[at + 1 : at + 3]
            if len(digits) != 2 or not _HEX.issuperset(digits):
                raise AppcError(f"bad URL: invalid escape {raw[at : at + 3].decode('utf-8', 'replace')!r}")
            byte = int(digits, 16)
            if host and digits != b"25":
                allowed = byte == 0x20 or byte in _PLAIN["host"] if zone else byte >= 0x80
                if not allowed:
                    raise AppcError(f"bad URL: invalid escape {raw[at : at + 3].decode('ascii')!r} in host")
            at += 2
        elif host and byte < 0x80 and byte not in _PLAIN["host"]:
            raise AppcError(f"bad URL: invalid character {chr(byte)!r} in host name")
        made.append(byte)
        at += 1
    return bytes(made)


def _escape(plain: bytes, part: str) -> bytes:
    letters = _PLAIN[part]
    return b"".join(bytes((byte,)) if byte in letters else b"%%%02X" % byte for byte in plain)
