"""Which image of an index is the one for this machine."""

from __future__ import annotations

from rkt.appc import labels
from rkt.errors import RktError
from rkt.image.oci.documents import MANIFESTS, Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.image.oci.documents import Descriptor, Index

# Variants a machine runs, the best first; "" is the architecture's base line.
_VARIANTS = {
    "5": ("v5",),
    "6": ("v6", "", "v5"),
    "7": ("v7", "v6", "", "v5"),
}
_FIXED = {"arm64": ("v8", ""), "amd64": ("", "v1")}


def host(system: str, arch: str) -> Platform:
    """The platform of a machine given by appc's labels; its variant as ``v7``."""
    name, architecture, flavour = labels.to_go(system, arch)
    return Platform(name, architecture, f"v{flavour}" if flavour else "")


def choose(index: Index, platform: Platform) -> Descriptor:
    """The manifest for a platform.  Raises RktError that lists what there is instead.

    An index with one manifest that names no platform means that one.
    """
    candidates = [one for one in index.manifests if one.media_type in MANIFESTS or "index" in one.media_type]
    for variant in _variants(platform):
        for one in candidates:
            found = one.platform
            if found is None or (found.os, found.architecture) != (platform.os, platform.architecture):
                continue
            if found.variant == variant:
                return one
    unnamed = [one for one in candidates if one.platform is None or not one.platform.os]
    if len(candidates) == 1 and unnamed:
        return unnamed[0]
    there = sorted({str(one.platform) for one in candidates if one.platform is not None})
    raise RktError(f"there is no image for {platform}, only for {', '.join(there)[:400] or 'nothing'}")


def _variants(platform: Platform) -> tuple[str, ...]:
    if platform.architecture == "arm":
        return _VARIANTS.get(platform.variant.removeprefix("v"), (platform.variant, ""))
    return _FIXED.get(platform.architecture, ("",))
