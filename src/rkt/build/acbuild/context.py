"""A build under way.

::

    WORK_PATH/.acbuild/           flock exclusive while a command works on the build
        build-mode                "appc"
        currentaci/manifest       the image so far, a layout
        currentaci/rootfs/
        data/                     store of what was fetched for the build
        target/ work/             mount point and work directory of overlayfs, while a program runs

Files the build has removed from what lies below the image are marked in ``rootfs`` as overlayfs does it
(``changes``).  A crash leaves the build as it was after the last command, but for what a program run in it
has done by then.
"""

from __future__ import annotations

import os

from rkt.appc.image import ImageManifest
from rkt.errors import RktError
from rkt.linux import files
from rkt.linux.lock import Lock
from rkt.store.layout import MANIFEST, ROOTFS

DIRECTORY = ".acbuild"
MODE = "appc"
PLACEHOLDER = "acbuild-unnamed"
"""The name of an image that was not given one."""


class Context:
    """One build, locked; a context manager.

    ``manifest`` is read when the build is opened; ``save`` writes it back.
    """

    __slots__ = ("_lock", "_written", "manifest", "path")

    def __init__(self, path: str, lock: Lock) -> None:
        self.path = path
        self._lock = lock
        self._written = ""
        self.manifest = ImageManifest(PLACEHOLDER)

    @classmethod
    def begin(cls, work_path: str) -> Context:
        """A new build in a directory.  Raises RktError when there is one already."""
        path = os.path.join(os.path.abspath(work_path), DIRECTORY)
        files.make_directory(os.path.dirname(path), parents=True)
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            raise RktError("build already in progress in this working dir") from None
        context = cls(path, _locked(path))
        try:
            for directory in (context.image, context.rootfs):
                files.make_directory(directory, 0o755)
            files.write_atomic(os.path.join(path, "build-mode"), MODE.encode())
        except BaseException:
            context.end()
            raise
        return context

    @classmethod
    def open(cls, work_path: str) -> Context:
        """The build in a directory.  Raises RktError when there is none, or somebody is at work on it."""
        path = os.path.join(os.path.abspath(work_path), DIRECTORY)
        if not os.path.isdir(path):
            raise RktError('build not in progress in this working dir - try "acbuild begin"')
        context = cls(path, _locked(path))
        try:
            with open(context.manifest_path, "rb") as file:
                data = file.read()
            context.manifest = ImageManifest.decode(data)
            context._written = context.manifest.encode()
            # A crash may have left a manifest that was being written.
            for name in {*os.listdir(context.image)} - {MANIFEST, ROOTFS}:
                files.remove_tree(os.path.join(context.image, name))
        except FileNotFoundError as error:
            context.close()
            raise RktError(f"the build in {path} is not complete", hint='see "acbuild end"') from error
        except BaseException:
            context.close()
            raise
        return context

    @property
    def image(self) -> str:
        """The layout of the image."""
        return os.path.join(self.path, "currentaci")

    @property
    def rootfs(self) -> str:
        return os.path.join(self.image, ROOTFS)

    @property
    def manifest_path(self) -> str:
        return os.path.join(self.image, MANIFEST)

    @property
    def data(self) -> str:
        """The data directory of the build's own store."""
        return os.path.join(self.path, "data")

    def save(self) -> None:
        """Write the manifest, if it was changed.  Raises RktError when it breaks a rule."""
        text = self.manifest.encode()
        # What can be written can also be read: some rules are looked at by the reader only.
        ImageManifest.decode(text)
        if text != self._written:
            files.write_atomic(self.manifest_path, text.encode())
            self._written = text

    def end(self) -> None:
        """Drop the build."""
        files.remove_tree(self.path, missing_ok=True)
        self.close()

    def close(self) -> None:
        self._lock.close()

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def discard(work_path: str) -> None:
    """Drop the build in a directory, whatever state it is in.  Raises RktError when there is none."""
    path = os.path.join(os.path.abspath(work_path), DIRECTORY)
    if not os.path.isdir(path):
        raise RktError("build not in progress in this working dir")
    with _locked(path):
        files.remove_tree(path, missing_ok=True)


def _locked(path: str) -> Lock:
    lock = Lock.open(path)
    try:
        if not lock.try_exclusive() or not lock.is_current():
            raise RktError("lock already held - is another acbuild running in this working dir?")
    except BaseException:
        lock.close()
        raise
    return lock
