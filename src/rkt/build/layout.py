"""An image as a directory: ``manifest`` and ``rootfs``, nothing else (specification, "Image Layout")."""

from __future__ import annotations

import os
import stat

from rkt.appc.image import ImageManifest
from rkt.errors import RktError
from rkt.linux import paths
from rkt.store import pack
from rkt.store.layout import MANIFEST, MAX_MANIFEST, ROOTFS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class LayoutDirectory:
    """A directory that is an image layout; a context manager.

    ``manifest`` is the checked manifest, ``time`` when its file was last changed (nanoseconds).  Raises
    RktError that names the rule when it is none, OSError when it cannot be read.
    """

    __slots__ = ("_fd", "manifest", "time")

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._check_names()
            data = paths.read_file(self._fd, MANIFEST, MAX_MANIFEST)
            try:
                self.manifest = ImageManifest.decode(data)
            except RktError as error:
                raise RktError("the manifest of the layout is not valid") from error
            self.time = os.stat(MANIFEST, dir_fd=self._fd).st_mtime_ns
        except BaseException:
            os.close(self._fd)
            raise

    def _check_names(self) -> None:
        names = set(os.listdir(self._fd))
        for name, kind, words in (
            (MANIFEST, stat.S_ISREG, "a regular file"),
            (ROOTFS, stat.S_ISDIR, "a directory"),
        ):
            if name not in names:
                raise RktError(f"the layout has no {name}")
            if not kind(os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode):
                raise RktError(f"{name} of the layout is not {words}")
        if others := sorted(names - {MANIFEST, ROOTFS}):
            raise RktError(f"the layout has {others[0]!r}: only manifest and rootfs may be there")

    def write(
        self, target: pack.ImageFile, rules: pack.Rules | None = None, manifest: ImageManifest | None = None
    ) -> str:
        """Make it an image file, with another manifest if given; the image's ID."""
        rules = rules or pack.Rules()
        root = os.open(ROOTFS, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            pack.Packer(target.writer, root, rules).run()
        finally:
            os.close(root)
        text = (manifest or self.manifest).encode()
        return target.finish(text.encode(), rules.time(self.time))

    def __enter__(self) -> LayoutDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def whitelist(paths: Iterable[str]) -> list[str]:
    """Absolute paths as a ``pathWhitelist``: a manifest is text, a name on Linux need not be.

    Raises RktError for a name that cannot be listed, and would be lost without a word.
    """
    made = sorted(paths)
    for path in made:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise RktError(
                f"{path!r} cannot be listed in a manifest, as its name is not UTF-8",
                hint="an image that leaves out files of the images below it has to list all others",
            ) from None
    return made
