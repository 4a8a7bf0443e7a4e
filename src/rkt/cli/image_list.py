"""``rkt image list``: the images of the store as a table or as JSON."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rkt.cli.call import Call
    from rkt.store.index import ImageInfo

SHORT_ID = len("sha512-") + 12
HEADERS = {
    "id": "ID",
    "name": "NAME",
    "size": "SIZE",
    "importtime": "IMPORT TIME",
    "lastused": "LAST USED",
    "verified": "VERIFIED",
}
SORT: dict[str, Callable[[ImageInfo], Any]] = {
    "name": lambda info: info.name,
    "importtime": lambda info: info.import_time,
    "lastused": lambda info: info.last_used,
    "size": lambda info: info.total_size,
}


def run(call: Call) -> int:
    from rkt.errors import RktError
    from rkt.store.store import Store

    images: list[tuple[ImageInfo, str]] = []
    with Store(call.globals.dir, call.notify("db")) as store:
        for info in store.images():
            try:
                images.append((info, _name(info.name, store.manifest_bytes(info.key))))
            except (RktError, OSError):
                # Removed at this moment.
                continue
        verified = store.verifications() if "verified" in call.flags["fields"] else {}
    order = [SORT[field] for field in call.flags["sort"]]
    images.sort(key=lambda image: [of(image[0]) for of in order], reverse=call.flags["order"] == "desc")
    if call.flags["format"]:
        shown = verified if "verified" in call.flags["fields"] else None
        call.print(_json(images, shown, pretty=call.flags["format"] == "json-pretty"))
    else:
        call.print(_table(call, images, verified))
    return 0


def _name(name: str, manifest: bytes) -> str:
    """``name:version``; the manifest is read without judging it, so that every image can be listed."""
    from rkt.appc import gojson

    try:
        labels = gojson.loads(manifest).get("labels") or []
        version = next(label["value"] for label in labels if label["name"] == "version")
    except (ValueError, LookupError, StopIteration, AttributeError, TypeError):
        return name
    return f"{name}:{version}"


def _table(call: Call, images: list[tuple[ImageInfo, str]], verified: dict[str, tuple[str, str]]) -> str:
    from rkt.cli import times
    from rkt.cli.table import Table

    full: bool = call.flags["full"]
    time = times.exact if full else times.age
    cells: dict[str, Callable[[ImageInfo, str], str]] = {
        "id": lambda info, _: info.key if full else info.key[:SHORT_ID],
        "name": lambda _, name: name,
        "size": lambda info, _: str(info.total_size) if full else times.size(info.total_size),
        "importtime": lambda info, _: time(info.import_time),
        "lastused": lambda info, _: time(info.last_used),
        "verified": lambda info, _: _verified(verified.get(info.key), full=full),
    }
    fields: list[str] = call.flags["fields"]
    table = Table(() if call.flags["no-legend"] else [HEADERS[field] for field in fields])
    for info, name in images:
        table.row(*(cells[field](info, name) for field in fields))
    return table.render()


def _verified(how: tuple[str, str] | None, *, full: bool) -> str:
    """How an image was verified, in full with the digest or the key."""
    if how is None:
        return "unknown"
    return " ".join(how).strip() if full else how[0]


def _json(
    images: list[tuple[ImageInfo, str]], verified: dict[str, tuple[str, str]] | None, *, pretty: bool
) -> str:
    """``verified`` None: the members that rkt 1.30 prints, and no others."""
    from rkt.appc import gojson

    values: list[dict[str, Any]] = [
        {
            "id": info.key,
            "name": name,
            "import_time": info.import_time,
            "last_used_time": info.last_used,
            "size": info.total_size,
        }
        for info, name in images
    ]
    if verified is not None:
        for value in values:
            value["verified"], value["verified_by"] = verified.get(value["id"], ("unknown", ""))
    return gojson.dumps(values or None, "\t" if pretty else None)
