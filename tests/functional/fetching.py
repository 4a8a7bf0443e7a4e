"""What tests of fetching share: images, signatures, and a look at what is left."""

from __future__ import annotations

import os

from support import aci
from support.driver import Rkt
from support.signing import Signer

INSECURE = "--insecure-options=image"
NAME = "example.com/app"


def image(directory: str, name: str = NAME, *, size: int = 300_000, **members: object) -> bytes:
    """A compressed image with content that does not compress."""
    path = os.path.join(directory, "made.aci")
    aci.build(path, aci.manifest(name, **members), [aci.Entry("f", os.urandom(size))], compression="gzip")
    with open(path, "rb") as file:
        return file.read()


def signature(signer: Signer, directory: str, data: bytes, name: str = "alice") -> bytes:
    path = os.path.join(directory, "signed.aci")
    with open(path, "wb") as file:
        file.write(data)
    with open(signer.sign(path, name), "rb") as file:
        return file.read()


def trust(rkt: Rkt, signer: Signer, name: str = "alice", prefix: str = NAME) -> None:
    path = signer.export_to(os.path.join(rkt.base, f"{name}.pub"), name)
    rkt.ok("trust", f"--prefix={prefix}", "--skip-fingerprint-review", path)


def temporary(rkt: Rkt) -> list[str]:
    try:
        return sorted(os.listdir(os.path.join(rkt.dir, "cas", "tmp")))
    except FileNotFoundError:
        return []


def images(rkt: Rkt) -> list[str]:
    return [line for line in rkt.ok("image", "list", "--no-legend").lines if line]
