"""Image IDs: ``sha512-`` and the digest (specification, "Image ID type").

The reference checks neither length nor letters of the digest and manifests in the wild rely on it;
where an ID becomes a key, the store (``Store.resolve``) decides.
"""

from __future__ import annotations

from rkt.appc.decode import string
from rkt.appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def check(text: str) -> str:
    """The text if the reference takes it for a hash, else ``AppcError``."""
    kind, dash, value = text.partition("-")
    if not dash or "-" in value:
        raise AppcError("badly formatted hash string")
    if kind != "sha512":
        raise AppcError(f"unrecognized hash type: {kind!r}")
    if not value:
        raise AppcError("no hash value")
    return text


def decode(value: Any) -> str:
    """A hash from parsed JSON."""
    return check(string(value))
