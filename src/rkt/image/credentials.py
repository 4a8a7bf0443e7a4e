"""Who we are for a server: the credentials configured for its host, as headers of one request.

Sources: RFC 7617 (basic), RFC 6750 (bearer), and "Signature Version 4 signing process" of AWS, service s3.
A header is made for each request anew and for the host of that request only; the caller sees to it
that it leaves over TLS.
"""

from __future__ import annotations

import hashlib
import hmac
import time

from rkt.config.kinds import Basic, OAuth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rkt.config.kinds import AWS, Credentials

SERVICE = "s3"
_ALGORITHM = "AWS4-HMAC-SHA256"
_EMPTY = hashlib.sha256(b"").hexdigest()
_GLOBAL_REGION = "us-east-1"


def headers(credentials: Mapping[str, Credentials], method: str, url: str) -> dict[str, str]:
    """The headers that the configuration has for the ``host[:port]`` of a URL; none for other hosts."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    found = credentials.get(host)
    if found is None and parts.port in (None, 443):
        bare = host.removesuffix(":443")
        found = credentials.get(bare) or credentials.get(f"{bare}:443")
    if found is None:
        return {}
    if isinstance(found, Basic):
        return {"Authorization": basic(found.user, found.password)}
    if isinstance(found, OAuth):
        return {"Authorization": f"Bearer {found.token}"}
    return sign(found, method, url, now=time.time())


def basic(user: str, password: str) -> str:
    from binascii import b2a_base64

    return "Basic " + b2a_base64(f"{user}:{password}".encode(), newline=False).decode()


def sign(credentials: AWS, method: str, url: str, *, now: float) -> dict[str, str]:
    """AWS Signature V4 of a request without a body at ``now``, in seconds since 1970."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    region = credentials.region or guess_region(host)
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    signed = {"host": host, "x-amz-content-sha256": _EMPTY, "x-amz-date": moment}
    names = ";".join(signed)
    lines = [method, _canonical_path(parts.path), _canonical_query(parts.query)]
    lines += [*(f"{name}:{value}" for name, value in signed.items()), "", names, _EMPTY]
    scope = f"{moment[:8]}/{region}/{SERVICE}/aws4_request"
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    text = "\n".join((_ALGORITHM, moment, scope, digest))
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    signature = _hmac(key, text).hex()
    return {
        "X-Amz-Date": moment,
        "X-Amz-Content-Sha256": _EMPTY,
        "Authorization": f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}",
    }


def guess_region(host: str) -> str:
    """The region in a host's name: ``s3-REGION`` or ``s3.REGION``, also behind a bucket; else us-east-1."""
    words = host.partition(":")[0].lower().split(".")
    if words[-2:] != ["amazonaws", "com"] and words[-3:] != ["amazonaws", "com", "cn"]:
        return _GLOBAL_REGION
    words = words[: words.index("amazonaws")]
    for at, word in enumerate(words):
        if word.startswith("s3-") and word != "s3-external-1":
            return word.removeprefix("s3-").removeprefix("website-")
        if word == "s3" and at + 1 < len(words):
            return words[-1]
    return _GLOBAL_REGION


def _canonical_path(path: str) -> str:
    """For s3 each byte of the path is escaped once, slashes stay."""
    from urllib.parse import quote, unquote_to_bytes

    return quote(unquote_to_bytes(path or "/"), safe="/-_.~")


def _canonical_query(query: str) -> str:
    from urllib.parse import quote, unquote

    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    escaped = [
        (quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~")) for name, _, value in pairs
    ]
    return "&".join(f"{name}={value}" for name, value in sorted(escaped))


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
