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
from rkt.store import compression, confined

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
    return _have_done("missing", path, "missing")


def _unpack(path: str, directory: str, *, whole: bool) -> bytes:
    """Unpack an image (``whole``), whose manifest is returned, or an archive of a root file system."""
    target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _have_done("unpack", path, "manifest", target, whole=whole).encode("latin-1")
    finally:
        os.close(target)


def _have_done(task: str, path: str, member: str, *fds: int, **arguments: object) -> str:
    """A task of ``rkt.store.confined.building`` for the file at ``path``; a member of its result."""
    file = source.open_file(path)
    try:
        kind = compression.detect(os.pread(file, compression.SNIFFED, 0))
        result = confined.call(f"confined.building:{task}", {"kind": kind, **arguments}, [file, *fds])
    finally:
        os.close(file)
    return str(result.get(member, ""))
