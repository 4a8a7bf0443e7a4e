"""The archive of an appc image made of layers: the same layers always give the same bytes.

``manifest``, then all directories in the order of their paths, then the files in the order in which the
layers have them, each followed by its hard links.  Nothing is held in memory but headers: files pass from
the layers through a thread that reads them to whoever reads here.
"""

from __future__ import annotations

from rkt.store.archive_writer import Writer
from rkt.store.entry import DIRECTORY, LINK, Entry
from rkt.store.extract import is_kept
from rkt.store.layout import MANIFEST, ROOTFS
from rkt.store.pipe import Pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Protocol

    from rkt.store.compression import Readable
    from rkt.store.filesystem import Plan

    class Contents(Protocol):
        """A layer whose entries can be read."""

        def entries(self) -> Iterator[tuple[Entry, Readable]]:
            """All entries in their order, each with its content, to be read before the next is asked for."""


def stream(manifest: bytes, plan: Plan, layers: Sequence[Contents]) -> Pipe:
    """The archive as a readable that is to be closed."""

    def produce(pipe: Pipe) -> None:
        with Writer(pipe) as writer:
            for entry, content in members(manifest, plan, layers):
                writer.add(entry, content)

    return Pipe(produce)


def members(
    manifest: bytes, plan: Plan, layers: Sequence[Contents]
) -> Iterator[tuple[Entry, bytes | Readable]]:
    """What is in the archive, in its order, under the paths it has in the end."""
    yield Entry(MANIFEST, size=len(manifest)), manifest
    for path, described in plan.directories:
        yield _directory(path, described), b""
    for layer, files in zip(layers, plan.files, strict=True):
        if not files:
            continue
        for index, (entry, content) in enumerate(layer.entries()):
            paths = files.get(index)
            if paths is None:
                continue
            entry.name = f"{ROOTFS}/{paths[0]}"
            if entry.xattrs:
                entry.xattrs = _kept(entry.xattrs)
            yield entry, content
            for path in paths[1:]:
                yield _link(path, entry), b""


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
