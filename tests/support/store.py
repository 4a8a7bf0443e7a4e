"""Images straight into a store."""

from __future__ import annotations

import io
from typing import Any

from rkt.store.store import Store


def labels(version: str, **more: str) -> list[dict[str, str]]:
    values = {"version": version, "os": "linux", "arch": "amd64", **more}
    return [{"name": name, "value": value} for name, value in values.items()]


def add(store: Store, data: bytes, **options: Any) -> str:
    return store.import_image(io.BytesIO(data), **options)
