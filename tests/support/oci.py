"""Container images made here, byte by byte, as OCI layouts; and trees compared file by file."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from typing import Any

import zstandard

from support import aci

EPOCH = 1_600_000_000
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""security.capability with CAP_NET_BIND_SERVICE, permitted and effective."""

Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, data: bytes = b"", *, mode: int = 0o644, **more: Any) -> Member:
    info = _info(name, tarfile.REGTYPE, mode, **more)
    info.size = len(data)
    return info, data


def directory(name: str, *, mode: int = 0o755, **more: Any) -> Member:
    return _info(name, tarfile.DIRTYPE, mode, **more), b""


def symlink(name: str, target: str, **more: Any) -> Member:
    return _info(name, tarfile.SYMTYPE, 0o777, linkname=target, **more), b""


def link(name: str, target: str, **more: Any) -> Member:
    return _info(name, tarfile.LNKTYPE, 0o644, linkname=target, **more), b""


def device(name: str, major: int, minor: int, **more: Any) -> Member:
    return _info(name, tarfile.CHRTYPE, 0o600, devmajor=major, devminor=minor, **more), b""


def fifo(name: str, **more: Any) -> Member:
    return _info(name, tarfile.FIFOTYPE, 0o600, **more), b""


def whiteout(name: str) -> Member:
    parent, _, base = name.rpartition("/")
    return file(f"{parent}/.wh.{base}" if parent else f".wh.{base}")


def opaque(name: str) -> Member:
    return file(f"{name}/.wh..wh..opq")


def _info(
    name: str, type: bytes, mode: int, *, xattrs: dict[str, bytes] | None = None, **more: Any
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = type
    info.mode = mode
    info.mtime = EPOCH
    for key, value in more.items():
        setattr(info, key, value)
    for key, value in (xattrs or {}).items():
        info.pax_headers[f"SCHILY.xattr.{key}"] = value.decode("utf-8", "surrogateescape")
    return info


def tar(members: list[Member]) -> bytes:
    """A layer's archive."""
    made = io.BytesIO()
    with tarfile.open(
        fileobj=made, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layer:
    """A layer: what is stored, what is in it."""

    def __init__(self, archive: bytes, compression: str = "gzip") -> None:
        self.diff_id = digest(archive)
        if compression == "gzip":
            self.blob = gzip.compress(archive, 1, mtime=0)
        elif compression == "zstd":
            self.blob = zstandard.ZstdCompressor().compress(archive)
        else:
            self.blob = archive
        suffix = f"+{compression}" if compression in ("gzip", "zstd") else ""
        self.descriptor = {
            "mediaType": f"application/vnd.oci.image.layer.v1.tar{suffix}",
            "digest": digest(self.blob),
            "size": len(self.blob),
        }


class Layout:
    """An OCI layout in a directory, to be filled."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(os.path.join(path, "blobs/sha256"))
        self._write("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        self.index: dict[str, Any] = {"schemaVersion": 2, "manifests": []}
        self._write_index()

    def blob(self, data: bytes, media_type: str = "", **more: Any) -> dict[str, Any]:
        """Store some bytes; their descriptor."""
        name = digest(data)
        self._write("blobs/" + name.replace(":", "/"), data)
        return {"mediaType": media_type, "digest": name, "size": len(data), **more}

    def image(
        self,
        name: str,
        layers: list[Layer],
        *,
        config: dict[str, Any] | None = None,
        platform: dict[str, str] | None = None,
        **members: Any,
    ) -> dict[str, Any]:
        """Store an image; the descriptor of its manifest.  With a name it can be found."""
        where = platform or {"os": "linux", "architecture": "amd64"}
        value = {
            "created": "2020-09-13T12:26:40Z",
            "architecture": where["architecture"],
            "os": where["os"],
            "config": {"Cmd": ["/bin/true"]} if config is None else config,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            **members,
        }
        for layer in layers:
            self.blob(layer.blob)
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.blob(encode(value), "application/vnd.oci.image.config.v1+json"),
            "layers": [layer.descriptor for layer in layers],
        }
        made = self.blob(encode(manifest), str(manifest["mediaType"]))
        if platform:
            made["platform"] = platform
        if name:
            self.name(name, made)
        return made

    def images(self, name: str, manifests: list[dict[str, Any]]) -> dict[str, Any]:
        """Store an index over several images; its descriptor."""
        media_type = "application/vnd.oci.image.index.v1+json"
        value = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}
        made = self.blob(encode(value), media_type)
        self.name(name, made)
        return made

    def name(self, name: str, descriptor: dict[str, Any]) -> None:
        notes = {"org.opencontainers.image.ref.name": name}
        self.index["manifests"].append({**descriptor, "annotations": notes})
        self._write_index()

    def _write_index(self) -> None:
        self._write("index.json", encode(self.index))

    def _write(self, name: str, data: bytes) -> None:
        with open(os.path.join(self.path, name), "wb") as target:
            target.write(data)


def encode(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def describe(root: str, *, directory_times: bool = True) -> dict[str, tuple[Any, ...]]:
    """Every file below a directory with all that can be seen of it; hard links share a number.

    Names elsewhere do not count: a store may share files between trees.
    """
    names_of: dict[int, list[str]] = {}
    found: dict[str, tuple[Any, ...]] = {}
    for parent, directories, names in os.walk(root):
        directories.sort()
        for name in sorted([*directories, *names]) if parent != root else sorted([".", *directories, *names]):
            path = os.path.join(parent, name)
            status = os.lstat(path)
            mode = status.st_mode
            content: Any = b""
            if stat.S_ISREG(mode):
                with open(path, "rb") as source:
                    content = hashlib.sha256(source.read()).hexdigest()
            elif stat.S_ISLNK(mode):
                content = os.readlink(path)
            elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                content = status.st_rdev
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            }
            if not stat.S_ISDIR(mode):
                names_of.setdefault(status.st_ino, []).append(os.path.relpath(path, root))
            time = 0 if stat.S_ISDIR(mode) and not directory_times else status.st_mtime_ns
            found[os.path.relpath(path, root)] = (
                oct(mode), status.st_uid, status.st_gid, time, content, 0, tuple(sorted(xattrs.items()))
            )  # fmt: skip
    linked = [names for names in names_of.values() if len(names) > 1]
    for number, names in enumerate(linked, 1):
        for name in names:
            found[name] = (*found[name][:5], number, *found[name][6:])
    return found


def difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs between two descriptions, by path."""
    return {
        path: (one.get(path), other.get(path))
        for path in sorted({*one, *other})
        if one.get(path) != other.get(path)
    }


def busybox_layer() -> Layer:
    """A root file system with a shell."""
    members = []
    for entry in aci.busybox_entries():
        info = tarfile.TarInfo(entry.name)
        info.type, info.mode, info.linkname = entry.type, entry.mode, entry.linkname
        info.size = len(entry.content)
        members.append((info, entry.content))
    return Layer(tar(members))
