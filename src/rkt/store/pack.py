"""From a directory to an image file: the archive of a root file system, and the file that holds it.

The directory may belong to somebody who has made of it whatever he liked: it is read by directory fds, no
link is followed, no mount entered, nothing but regular files opened for reading.  Names are sorted, a
directory comes before what is in it, files with several names become hard links, sockets are left out.
Holes of files are written as zeros: where a file system keeps holes must not change the ID of an image.
"""

from __future__ import annotations

import os
import stat

from rkt.errors import RktError
from rkt.linux import files, paths
from rkt.store.archive_writer import Writer
from rkt.store.entry import BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, FILE, LINK, SYMLINK, Entry
from rkt.store.layout import MANIFEST, ROOTFS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from rkt.store.gzip_writer import GzipWriter

_TYPES = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}
_KEPT_ATTRIBUTES = ("security.capability", "user.")
_CHUNK = 1 << 18


class Rules:
    """What is changed on the way into the archive.

    ``shift``: (first, count) of the user namespace the owners are in; ``owner_root``: every owner is 0:0;
    ``latest``: no time is later than this (nanoseconds since 1970).
    """

    __slots__ = ("latest", "owner_root", "shift")

    def __init__(
        self, *, shift: tuple[int, int] | None = None, owner_root: bool = False, latest: int | None = None
    ) -> None:
        self.shift = shift
        self.owner_root = owner_root
        self.latest = latest

    def owner(self, number: int) -> int:
        """The ID an image has for an ID of this host."""
        if self.owner_root:
            return 0
        if self.shift is not None and 0 <= number - self.shift[0] < self.shift[1]:
            return number - self.shift[0]
        return number

    def time(self, time: int) -> int:
        return time if self.latest is None else min(time, self.latest)


class Packer:
    """One walk over a root file system."""

    __slots__ = ("_links", "_root", "_rules", "_writer")

    def __init__(self, writer: Writer, root: int, rules: Rules | None = None) -> None:
        """``root`` is an fd of the directory that becomes ``rootfs``, opened for reading."""
        self._writer = writer
        self._root = root
        self._rules = rules or Rules()
        # (device, inode) of files with several names -> the first of these names in the archive
        self._links: dict[tuple[int, int], str] = {}

    def run(self) -> None:
        """Write everything.  Raises RktError or OSError that names the file."""
        top = self._entry(ROOTFS, os.fstat(self._root))
        top.xattrs = attributes(self._root)
        self._writer.add(top)
        pending = [""]
        while pending:
            directory = pending.pop()
            fd = paths.open_child(self._root, directory or ".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                names = sorted(os.listdir(fd))
                found = [self._add(fd, name, f"{directory}/{name}".lstrip("/")) for name in names]
            finally:
                os.close(fd)
            pending += [path for path in reversed(found) if path]

    def _add(self, parent: int, name: str, path: str) -> str:
        """Write one file; the path when it is a directory that has to be walked, else empty."""
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFREG:
            self._add_file(parent, name, path)
            return ""
        if kind not in _TYPES or (kind == stat.S_IFCHR and found.st_rdev == 0):
            return (
                ""  # a socket, which nobody listens on any more, or the sign of overlayfs for a removed file
            )
        entry = self._entry(f"{ROOTFS}/{path}", found)
        if kind != stat.S_IFDIR and self._is_link(entry, found):
            return ""
        if kind == stat.S_IFLNK:
            entry.linkname = os.readlink(name, dir_fd=parent)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            entry.devmajor, entry.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
        elif kind == stat.S_IFDIR:
            fd = paths.open_child(parent, name, os.O_RDONLY | os.O_DIRECTORY)
            entry.xattrs = attributes(fd)
            os.close(fd)
        self._writer.add(entry)
        return path if kind == stat.S_IFDIR else ""

    def _add_file(self, parent: int, name: str, path: str) -> None:
        fd = paths.open_child(parent, name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        with open(fd, "rb", buffering=0) as content:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise RktError(f"{path} was replaced while it was read")
            entry = self._entry(f"{ROOTFS}/{path}", found)
            if self._is_link(entry, found):
                return
            entry.size = entry.stored = found.st_size
            entry.xattrs = attributes(fd)
            self._writer.add(entry, content)

    def _is_link(self, entry: Entry, found: os.stat_result) -> bool:
        """Write a further name of a file that is in the archive already."""
        if found.st_nlink < 2:
            return False
        first = self._links.setdefault((found.st_dev, found.st_ino), entry.name)
        if first == entry.name:
            return False
        entry.type, entry.linkname, entry.size = LINK, first, 0
        self._writer.add(entry)
        return True

    def _entry(self, name: str, found: os.stat_result) -> Entry:
        rules = self._rules
        return Entry(
            name,
            _TYPES[stat.S_IFMT(found.st_mode)],
            mode=stat.S_IMODE(found.st_mode),
            uid=rules.owner(found.st_uid),
            gid=rules.owner(found.st_gid),
            mtime_ns=rules.time(found.st_mtime_ns),
        )


def attributes(fd: int) -> dict[str, bytes]:
    """The extended attributes an image may carry; those of overlayfs and of the host's policy are none."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return {}  # a file system without them
    return {name: os.getxattr(fd, name) for name in names if name.startswith(_KEPT_ATTRIBUTES)}


class ImageFile:
    """An image file in the making: it gets its name when it is complete, or never.

    A context manager; ``writer`` takes the entries, ``finish`` the manifest.  ``exists`` is what is said of
    a file that is there already and not to be replaced.
    """

    __slots__ = ("_compressor", "_exists", "_file", "_hasher", "_overwrite", "_path", "_temporary", "writer")

    def __init__(self, path: str, *, overwrite: bool, exists: str, compress: bool = True) -> None:
        self._path = path
        self._overwrite = overwrite
        self._exists = exists
        if os.path.lexists(path) and not overwrite:
            raise RktError(exists)
        self._temporary = f"{path}.{os.urandom(6).hex()}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file: BinaryIO = open(os.open(self._temporary, flags, 0o644), "wb", _CHUNK)
        self._compressor: GzipWriter | None = None
        if compress:
            from rkt.store.gzip_writer import GzipWriter

            self._compressor = GzipWriter(self._file)
        from rkt.store.hashing import Hasher

        self._hasher = Hasher()
        self.writer = Writer(self)

    def write(self, data: bytes, /) -> int:
        """For the writer."""
        self._hasher.update(data)
        (self._compressor or self._file).write(data)
        return len(data)

    def finish(self, manifest: bytes, mtime_ns: int = 0) -> str:
        """Write the manifest and give the file its name; the image's ID: ``sha512-`` and 128 digits."""
        self.writer.add(Entry(MANIFEST, size=len(manifest), mtime_ns=mtime_ns), manifest)
        self.writer.finish()
        return self.publish()

    def publish(self) -> str:
        """Give a file its name to which a whole archive was written; the image's ID."""
        if self._compressor is not None:
            self._compressor.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._overwrite:
            os.rename(self._temporary, self._path)
        else:
            try:
                paths.rename_no_replace(self._temporary, self._path)
            except FileExistsError:
                raise RktError(self._exists) from None
        self._temporary = ""
        files.fsync_directory(os.path.dirname(self._path) or ".")
        return "sha512-" + self._hasher.digest()

    def __enter__(self) -> ImageFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._hasher.close()
        if self._compressor is not None:
            self._compressor.close()
        if self._temporary:
            try:
                os.unlink(self._temporary)
            except OSError:
                pass
        try:
            self._file.close()
        except OSError:
            pass  # the disk is full, which has been said
