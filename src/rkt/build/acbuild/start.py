"""What a build begins from."""

from __future__ import annotations

import os

from rkt.appc.image import ImageManifest
from rkt.appc.labels import Label
from rkt.build.acbuild import copying
from rkt.build.acbuild.context import PLACEHOLDER, Context
from rkt.errors import RktError
from rkt.image import source
from rkt.image.fetch import host_labels
from rkt.linux import files
from rkt.store import archive, compression, layout
from rkt.store.extract import Extractor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.build.acbuild.sources import Sources

_LOCAL = (".", "~", "/")


def begin(
    work_path: str,
    start: str,
    sources: Callable[[Context], Sources],
    notify: Callable[[str], object] = lambda _: None,
) -> None:
    """Begin a build.

    ``start`` is empty, a local directory or file (it begins with ``.``, ``~`` or ``/``) or an image to be
    fetched.  Raises RktError or OSError, and leaves nothing behind then.
    """
    context = Context.begin(work_path)
    try:
        with context:
            if not start:
                write_empty_manifest(context)
            elif start.startswith(_LOCAL):
                _begin_locally(context, os.path.expanduser(start), notify)
            else:
                sources(context).unpack(start, context.image)
                files.remove_tree(context.data, missing_ok=True)
    except BaseException:
        context.end()
        raise


def write_empty_manifest(context: Context) -> None:
    """The manifest of an image without a name, for this machine."""
    host = host_labels()
    context.manifest = ImageManifest(
        PLACEHOLDER, labels=[Label("arch", host["arch"]), Label("os", host["os"])]
    )
    context.save()


def _begin_locally(context: Context, path: str, notify: Callable[[str], object]) -> None:
    if not os.path.lexists(path):
        raise RktError(f"no such file or directory: {path}")
    if os.path.isdir(path):
        copying.copy(context.rootfs, os.path.realpath(path), "/")
        write_empty_manifest(context)
        return
    missing = _missing(path)
    if missing:
        notify(f"{missing} is missing, assuming build is beginning with a tar of a rootfs")
        _unpack(path, context.rootfs, whole=False)
        write_empty_manifest(context)
    else:
        data = _unpack(path, context.image, whole=True)
        files.write_atomic(context.manifest_path, ImageManifest.decode(data).encode().encode())


def _missing(path: str) -> str:
    """What an archive lacks to be an image, "" for one that is."""
    found = set()
    with open(source.open_file(path), "rb") as file:
        for entry in archive.Reader(compression.open_reader(file)):
            name = layout.clean(entry.name)
            if name == layout.MANIFEST and entry.type == archive.FILE:
                found.add(layout.MANIFEST)
            elif name == layout.ROOTFS and entry.type == archive.DIRECTORY:
                found.add(layout.ROOTFS)
            if len(found) == 2:
                return ""
    return "manifest file" if layout.MANIFEST not in found else "rootfs directory"


def _unpack(path: str, directory: str, *, whole: bool) -> bytes:
    """Unpack an image (``whole``), whose manifest is returned, or an archive of a root file system."""
    checked = layout.ImageLayout()
    target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with (
            open(source.open_file(path), "rb") as file,
            Extractor(target, strip="", owner=os.geteuid() == 0) as extractor,
        ):
            reader = archive.Reader(compression.open_reader(file))
            for entry in reader:
                if whole:
                    checked.check_entry(entry, reader)
                    if layout.clean(entry.name) in ("", layout.MANIFEST):
                        continue
                extractor.add(entry, reader)
            extractor.finish()
    finally:
        os.close(target)
    return checked.finish() if whole else b""
