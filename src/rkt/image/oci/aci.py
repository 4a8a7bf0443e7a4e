"""The archive of an appc image made of layers: the same layers always give the same bytes.

``manifest``, then all directories in the order of their paths, then the files in the order in which the
layers have them, each followed by its hard links.  Nothing is held in memory but headers: files pass from
the layers through a thread that inflates and one that writes to whoever reads here.
"""

from __future__ import annotations

from rkt.image.oci.pipe import Pipe
from rkt.store import archive
from rkt.store.archive_writer import Writer
from rkt.store.entry import DIRECTORY, FILE, LINK, Entry
from rkt.store.extract import is_kept
from rkt.store.layout import MANIFEST, ROOTFS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rkt.image.oci.filesystem import Plan
    from rkt.image.oci.layers import Layer, Taker


def stream(manifest: bytes, plan: Plan, layers: Sequence[Layer], taker: Taker) -> Pipe:
    """The archive as a readable that is to be closed."""

    def produce(pipe: Pipe) -> None:
        with Writer(pipe) as writer:
            writer.add(Entry(MANIFEST, size=len(manifest)), manifest)
            for path, entry in plan.directories:
                writer.add(_directory(path, entry))
            for layer, files in zip(layers, plan.files, strict=True):
                if files:
                    _copy(layer, files, taker, writer)

    return Pipe(produce)


def _directory(path: str, described: Entry | None) -> Entry:
    name = f"{ROOTFS}/{path}" if path else ROOTFS
    if described is None:
        return Entry(name, DIRECTORY, mode=0o755)
    return Entry(
        name,
        DIRECTORY,
        mode=described.mode,
        uid=described.uid,
        gid=described.gid,
        mtime_ns=described.mtime_ns,
        xattrs=_kept(described.xattrs),
    )


def _copy(layer: Layer, files: dict[int, list[str]], taker: Taker, writer: Writer) -> None:
    """Write the entries of a layer that count, under the paths they have in the end."""
    limits = archive.Limits(entries=len(layer.headers) + 1, total=1 << 60)
    with taker.open(layer) as content:
        reader = archive.Reader(content, limits=limits, end_marker=False)
        for index, entry in enumerate(reader):
            paths = files.get(index)
            if paths is None:
                continue
            entry.name = f"{ROOTFS}/{paths[0]}"
            if entry.xattrs:
                entry.xattrs = _kept(entry.xattrs)
            if entry.type == FILE:
                writer.add(entry, reader)
            else:
                writer.add(entry)
            for path in paths[1:]:
                writer.add(_link(path, entry))
        content.finish()


def _link(path: str, target: Entry) -> Entry:
    return Entry(
        f"{ROOTFS}/{path}",
        LINK,
        mode=target.mode,
        uid=target.uid,
        gid=target.gid,
        mtime_ns=target.mtime_ns,
        linkname=target.name,
    )


def _kept(xattrs: dict[str, bytes]) -> dict[str, bytes]:
    return {name: value for name, value in xattrs.items() if is_kept(name)}
