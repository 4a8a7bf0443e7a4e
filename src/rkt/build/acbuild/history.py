"""Annotations that tell by which commands an image was made: ``coreos.com/acbuild/command-N``."""

from __future__ import annotations

from rkt.appc import annotations as notes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.image import ImageManifest

PREFIX = "coreos.com/acbuild/command-"


def add(manifest: ImageManifest, command: str) -> None:
    """Note one more command."""
    numbers = [0]
    for annotation in manifest.annotations:
        digits = annotation.name.removeprefix(PREFIX)
        if digits != annotation.name and digits.isascii() and digits.isdigit() and len(digits) < 10:
            numbers.append(int(digits))
    notes.put(manifest.annotations, f"{PREFIX}{max(numbers) + 1}", command)
