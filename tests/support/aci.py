"""Makes application container images for tests with the standard library's tarfile.

Written with another tar implementation than the product's own, so that both check each other.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable
from typing import Any

BUSYBOX = "/bin/busybox"
APPLETS = (
    "sh true false cat echo ls id sleep env pwd stat mount grep head touch mkdir rm ln test hostname ip ps "
    "wget nc kill tr sed awk sort wc readlink dd chmod chown mknod umount uname expr printf seq date od "
    "httpd ping route ifconfig"
).split()
LABELS = [
    {"name": "version", "value": "1"},
    {"name": "os", "value": "linux"},
    {"name": "arch", "value": "amd64"},
]


class Entry:
    """One member of an image's root file system; ``name`` is relative to it."""

    __slots__ = ("content", "device", "gid", "linkname", "mode", "mtime", "name", "pax", "type", "uid")

    def __init__(self, name: str, content: bytes = b"", **options: Any) -> None:
        self.name = name
        self.content = content
        self.type: bytes = options.get("type", tarfile.REGTYPE)
        self.mode: int = options.get("mode", 0o644)
        self.uid: int = options.get("uid", 0)
        self.gid: int = options.get("gid", 0)
        self.mtime: int = options.get("mtime", 1_700_000_000)
        self.linkname: str = options.get("linkname", "")
        self.device: tuple[int, int] = options.get("device", (0, 0))
        self.pax: dict[str, str] = options.get("pax", {})


def directory(name: str, mode: int = 0o755, **options: Any) -> Entry:
    return Entry(name, type=tarfile.DIRTYPE, mode=mode, **options)


def symlink(name: str, target: str) -> Entry:
    return Entry(name, type=tarfile.SYMTYPE, mode=0o777, linkname=target)


def manifest(name: str, **members: Any) -> dict[str, Any]:
    """An image manifest; ``app`` is added unless given as None."""
    value: dict[str, Any] = {
        "acKind": "ImageManifest",
        "acVersion": "0.8.11",
        "name": name,
        "labels": members.pop("labels", LABELS),
        "app": members.pop("app", {"exec": ["/bin/true"], "user": "0", "group": "0"}),
    }
    value.update(members)
    return {key: member for key, member in value.items() if member is not None}


def tar_bytes(
    image_manifest: dict[str, Any] | bytes, entries: Iterable[Entry], *, manifest_first: bool = False
) -> bytes:
    """The uncompressed archive: rootfs, its entries, the manifest last unless it is to be first."""
    out = io.BytesIO()
    data = image_manifest if isinstance(image_manifest, bytes) else json.dumps(image_manifest).encode()
    info = tarfile.TarInfo("manifest")
    info.size = len(data)
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        if manifest_first:
            tar.addfile(info, io.BytesIO(data))
        tar.addfile(_member(directory("")), None)
        for entry in entries:
            tar.addfile(_member(entry), io.BytesIO(entry.content))
        if not manifest_first:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _member(entry: Entry) -> tarfile.TarInfo:
    info = tarfile.TarInfo("rootfs/" + entry.name if entry.name else "rootfs")
    info.type, info.mode, info.uid, info.gid = entry.type, entry.mode, entry.uid, entry.gid
    info.mtime, info.linkname, info.pax_headers = entry.mtime, entry.linkname, entry.pax
    info.devmajor, info.devminor = entry.device
    info.size = len(entry.content)
    return info


_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def build(
    path: str,
    image_manifest: dict[str, Any] | bytes,
    entries: Iterable[Entry] = (),
    *,
    compression: str = "none",
) -> str:
    """Write an image file and return its path."""
    data = tar_bytes(image_manifest, entries)
    if compression == "zstd":
        import zstandard

        data = zstandard.compress(data)
    else:
        data = _COMPRESSORS[compression](data)
    with open(path, "wb") as file:
        file.write(data)
    return path


def busybox_entries() -> list[Entry]:
    """A root file system around Debian's static busybox."""
    source = shutil.which("busybox") or BUSYBOX
    with open(source, "rb") as file:
        program = file.read()
    entries = [directory(name) for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "usr", "var")]
    entries.append(directory("tmp", mode=0o1777))
    entries.append(Entry("bin/busybox", program, mode=0o755))
    entries.extend(symlink("bin/" + applet, "busybox") for applet in APPLETS)
    entries.append(Entry("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/srv:/bin/sh\n"))
    entries.append(Entry("etc/group", b"root:x:0:\nwww:x:1001:\nextra:x:1002:web\n"))
    return entries


def busybox(
    path: str,
    name: str = "example.com/box",
    *,
    entries: Iterable[Entry] = (),
    compression: str = "none",
    **members: Any,
) -> str:
    """An image with a shell; ``members`` go into the manifest (``app``, ``labels``, ...)."""
    return build(path, manifest(name, **members), [*busybox_entries(), *entries], compression=compression)


def app(*command: str, **members: Any) -> dict[str, Any]:
    """The ``app`` object that runs ``command`` as root unless told otherwise."""
    return {"exec": list(command), "user": "0", "group": "0", **members}


def size_of(path: str) -> int:
    return os.stat(path).st_size
