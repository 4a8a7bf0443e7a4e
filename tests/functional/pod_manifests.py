"""Pod manifests for tests: isolators of apps and pods that have no flag."""

from __future__ import annotations

import json
import os
from typing import Any

from support.driver import Rkt


def resource(name: str, limit: str | None = None, **more: Any) -> dict[str, Any]:
    """A resource isolator; those of block devices and networks are for all of them."""
    shared = name.startswith(("block-", "network-"))
    value = {"default": shared, **({} if limit is None else {"limit": limit}), **more}
    return {"name": f"resource/{name}", "value": value}


def app(
    name: str, image: str, *command: str, isolators: list[Any] | None = None, **members: Any
) -> dict[str, Any]:
    section = {
        "exec": list(command),
        "user": members.pop("user", "0"),
        "group": members.pop("group", "0"),
        "isolators": isolators or [],
        **members.pop("app", {}),
    }
    return {"name": name, "image": {"id": image}, "app": section, **members}


def write(rkt: Rkt, *apps: dict[str, Any], **members: Any) -> str:
    """The flag for a manifest of these apps."""
    path = os.path.join(rkt.base, "pod.json")
    with open(path, "w") as file:
        json.dump({"acVersion": "0.8.11", "acKind": "PodManifest", "apps": list(apps), **members}, file)
    return f"--pod-manifest={path}"


def fetch(rkt: Rkt, image: str) -> str:
    """The ID of an image in the store."""
    return rkt.ok("--insecure-options=image", "fetch", "--full", image).out.strip()
