"""Unpacks an archive into a directory and touches nothing outside it.

The archive is hostile.  Every entry is made by its last name in an open parent directory; parents are
opened with openat2 RESOLVE_IN_ROOT, so that links of the archive resolve inside the directory and nowhere
else, never into a mount, never through /proc.  An entry replaces what has its name: a link is removed, not
followed.  ``..`` and absolute names are refused.

Kept: owners, modes with setuid, setgid and sticky (set after the owner, which clears them), times in
nanoseconds, hard links, holes, FIFOs, devices, and of the extended attributes ``user.*`` and
``security.capability``.  Dropped: all other attributes (``trusted.overlay.*`` and ``user.overlay.*`` are
metadata of overlayfs and would show other files than the image has; labels and ACLs belong to a host).
Refused: character devices 0:0, overlayfs' sign for a removed file.  Without ``owner`` everything belongs
to the caller, and what needs privileges (devices, file capabilities) or would give away the caller's
(setuid, setgid) is left out.
"""

from __future__ import annotations

import errno
import os
import stat

from rkt.errors import RktError
from rkt.linux import files, paths
from rkt.linux.failure import named
from rkt.linux.users import LAST_ID
from rkt.store.entry import BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, FILE, LINK, SYMLINK, Entry
from rkt.store.layout import MANIFEST, ROOTFS, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Union

    from rkt.store.archive import Reader
    from rkt.store.checksum import Contents

    Body = Union[Reader, "Bytes"]  # noqa: UP007, a class of this module

_OPEN_DIRECTORIES = 128
_SMALL = 64 * 1024
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RESOLVE = paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_MAGICLINKS | paths.RESOLVE_NO_XDEV
_CAPABILITY = "security.capability"
# Last names that are no names.
_NO_NAMES = frozenset(("", ".", ".."))


class LinkPlan:
    """Which name the content of a file gets when its first name is left out but not a hard link to it.

    Made from the headers alone, before extraction: ``LinkPlan(Reader(blob, seek=True), keep)``, where
    ``keep`` decides by path below ``strip`` whether an entry is made.
    """

    __slots__ = ("moved", "targets")

    def __init__(self, entries: Iterable[Entry], keep: Callable[[str], bool], *, strip: str = ROOTFS) -> None:
        self.targets: dict[str, str] = {}
        """The file each link leads to in the end, links to links followed."""
        self.moved: dict[str, str] = {}
        """By the path of a file that is left out: the link that takes its place."""
        for entry in entries:
            if entry.type != LINK:
                continue
            path, target = inner_path(entry.name, strip), inner_path(entry.linkname, strip)
            if not path or not target:
                continue
            target = self.targets.get(target, target)
            self.targets[path] = target
            if keep(path) and not keep(target):
                self.moved.setdefault(target, path)


def inner_path(name: str, strip: str) -> str | None:
    """The path below ``strip`` of a name in an archive: empty for ``strip`` itself, None beside it."""
    path = clean(name)
    if not strip:
        return path
    if path == strip:
        return ""
    return path[len(strip) + 1 :] if path.startswith(strip + "/") else None


class Bytes:
    """The body of an entry that has been read already, in the place of the reader."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self) -> bytes:
        return self._data

    def pieces(self) -> Iterator[tuple[int, memoryview]]:
        yield 0, memoryview(self._data)


class _NowhereError(RktError):
    """A name leads through a link to what is not there."""


class _Attributes:
    """What a directory gets when everything in it is done."""

    __slots__ = ("gid", "mode", "mtime_ns", "uid", "xattrs")

    def __init__(
        self, owner: tuple[int, int], mode: int, mtime_ns: int | None, xattrs: dict[str, bytes]
    ) -> None:
        self.uid, self.gid = owner
        self.mode = mode
        self.mtime_ns = mtime_ns
        self.xattrs = xattrs


class Extractor:
    """Unpacks archives into the directory ``target_fd``, which stays the caller's.

    ``strip``: the directory of the archive that becomes the target, other entries but the manifest are
    refused; empty for all of an archive.  ``owner``: set owners, make devices (needs root).  ``shift``:
    (first id, count) of a user namespace, added to every owner.  ``contents`` gets the digest of each file.

    Raises RktError naming the entry; what has been unpacked then is the caller's to remove.
    """

    __slots__ = (
        "_cached",
        "_contents",
        "_directories",
        "_mode_mask",
        "_owner",
        "_prefix",
        "_shift",
        "_strip",
        "_target",
    )

    def __init__(
        self,
        target_fd: int,
        *,
        strip: str = ROOTFS,
        owner: bool = True,
        shift: tuple[int, int] | None = None,
        contents: Contents | None = None,
    ) -> None:
        self._target = target_fd
        self._contents = contents
        self._strip = strip
        self._prefix = strip + "/" if strip else ""
        self._owner = owner
        self._mode_mask = 0o7777 if owner else 0o1777
        self._shift = shift
        self._cached: dict[str, int] = {}
        self._directories: dict[str, _Attributes] = {}

    def __enter__(self) -> Extractor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def extract(self, reader: Reader) -> None:
        """Unpack the whole archive and finish."""
        try:
            for entry in reader:
                self.add(entry, reader)
            self.finish()
        finally:
            self.close()

    def add(self, entry: Entry, reader: Body) -> None:
        """Unpack the entry ``reader`` has just given, or whose body it is.

        For callers that look at the entries too, or unpack several archives into one directory.
        """
        try:
            # Most entries are files in a directory that is open already: its name is known to be clean.
            name = entry.name
            if entry.type is FILE and name.startswith(self._prefix):
                parent, _, base = name[len(self._prefix) :].rpartition("/")
                directory = self._cached.get(parent)
                if directory is not None and base not in _NO_NAMES and name[0] != "/":
                    self._file(directory, (parent, base), entry, reader)
                    return
            path = self._path(name)
            if path is None:
                return
            if not path:
                self._root(entry)
            else:
                self._make(path, entry, reader)
        except (OSError, _NowhereError) as error:
            raise RktError(f"cannot unpack {entry.name!r}") from error
        except OverflowError:
            raise RktError(f"cannot unpack {entry.name!r}: its time is out of range") from None

    def finish(self) -> None:
        """Give the directories their owners, modes and times, the deepest first."""
        self.close()
        for path in sorted(self._directories, reverse=True):
            attributes = self._directories[path]
            try:
                fd = self._open(path or ".", os.O_RDONLY)
                try:
                    self._dress(fd, attributes)
                finally:
                    os.close(fd)
            except OSError as error:
                raise RktError(f"cannot unpack {self._prefix + path!r}") from error
            except OverflowError:
                raise RktError(f"cannot unpack {self._prefix + path!r}: its time is out of range") from None
        self._directories.clear()

    def close(self) -> None:
        """Close the directories kept open; harmless at any time."""
        cached, self._cached = self._cached, {}
        for fd in cached.values():
            os.close(fd)

    # Where an entry goes

    def _path(self, name: str) -> str | None:
        """The path of an entry below the target, None for the manifest beside it."""
        path = inner_path(name, self._strip)
        if path is None and clean(name) not in ("", MANIFEST):
            raise RktError(f"the archive has {name!r} beside {self._strip}")
        return path

    def _directory(self, path: str) -> int:
        """An O_PATH fd of a directory below the target, made when it is missing."""
        fd = self._cached.get(path)
        if fd is not None:
            return fd
        missing: list[str] = []
        while fd is None:
            try:
                fd = self._open(path or ".", os.O_PATH)
            except FileNotFoundError:
                if not path:
                    raise
                path, _, base = path.rpartition("/")
                missing.append(base)
                fd = self._cached.get(path)
            else:
                self._remember(path, fd)
        # Archives may leave parents out.
        for base in reversed(missing):
            try:
                os.mkdir(base, 0o700, dir_fd=fd)
            except FileExistsError:
                raise _NowhereError(
                    f"{f'{path}/{base}'.lstrip('/')!r} is a link that leads nowhere"
                ) from None
            path = f"{path}/{base}" if path else base
            self._directories[path] = _Attributes(self._ids(0, 0), 0o755, None, {})
            fd = paths.open_child(fd, base, os.O_PATH | os.O_DIRECTORY)
            self._remember(path, fd)
        return fd

    def _remember(self, path: str, fd: int) -> None:
        """Keep a directory open; the one opened first is closed when there are too many."""
        if len(self._cached) >= _OPEN_DIRECTORIES:
            os.close(self._cached.pop(next(iter(self._cached))))
        self._cached[path] = fd

    def _open(self, path: str, flags: int) -> int:
        return paths.openat2(self._target, path, flags | os.O_DIRECTORY, resolve=_RESOLVE)

    # What an entry becomes

    def _make(self, path: str, entry: Entry, reader: Body) -> None:
        parent, _, base = path.rpartition("/")
        place = (parent, base)
        directory = self._directory(parent)
        kind = entry.type
        if kind == FILE:
            self._file(directory, place, entry, reader)
        elif kind == DIRECTORY:
            self._make_directory(directory, place, entry)
        elif kind == LINK:
            self._link(place, entry)
        elif kind == SYMLINK:
            self._symlink(directory, place, entry)
        else:
            self._special(directory, place, entry)

    def _root(self, entry: Entry) -> None:
        if entry.type != DIRECTORY:
            raise RktError(f"{entry.name!r} of the archive is not a directory")
        self._directories[""] = self._attributes(entry)

    def _file(self, directory: int, place: tuple[str, str], entry: Entry, reader: Body) -> None:
        base = place[1]
        try:
            fd = os.open(base, _CREATE, 0o600, dir_fd=directory)
        except FileExistsError:
            directory = self._clear(directory, place)
            fd = os.open(base, _CREATE, 0o600, dir_fd=directory)
        try:
            self._fill(fd, entry, reader)
            if self._owner:
                os.fchown(fd, *self._ids(entry.uid, entry.gid))
            os.fchmod(fd, entry.mode & self._mode_mask)
            if entry.xattrs:
                self._set_xattrs(fd, entry.xattrs)
            time = entry.mtime_ns
            os.utime(fd, ns=(time, time))
            if self._contents is not None:
                self._contents.end(fd, entry.size, has_attributes=bool(entry.xattrs))
        finally:
            os.close(fd)

    def _fill(self, fd: int, entry: Entry, reader: Body) -> None:
        """Write a file's content."""
        contents = self._contents
        size = entry.stored
        if entry.segments is not None:
            os.ftruncate(fd, entry.size)
            for offset, piece in reader.pieces():
                _write_at(fd, piece, offset)
                if contents is not None:
                    contents.feed(piece, offset)
        elif size > _SMALL:
            for offset, piece in reader.pieces():
                files.write_all(fd, piece)
                if contents is not None:
                    contents.feed(piece, offset)
        elif size:
            data = reader.read()
            written = os.write(fd, data)
            if written < size:
                files.write_all(fd, data[written:])
            if contents is not None:
                contents.feed(data, 0)

    def _make_directory(self, directory: int, place: tuple[str, str], entry: Entry) -> None:
        parent, base = place
        try:
            os.mkdir(base, 0o700, dir_fd=directory)
        except FileExistsError:
            status = os.stat(base, dir_fd=directory, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                directory = self._clear(directory, place)
                os.mkdir(base, 0o700, dir_fd=directory)
        self._directories[f"{parent}/{base}" if parent else base] = self._attributes(entry)

    def _link(self, place: tuple[str, str], entry: Entry) -> None:
        parent, base = place
        path = f"{parent}/{base}" if parent else base
        target = inner_path(entry.linkname, self._strip)
        if not target:
            raise RktError(
                f"{entry.name!r} is a hard link to {entry.linkname!r}, outside of the archive's tree"
            )
        if target == path:
            raise RktError(f"{entry.name!r} is a hard link to itself")
        source_parent, _, source = target.rpartition("/")
        # A copy: opening the other directory may close this one.
        source_directory = os.dup(self._directory(source_parent))
        try:
            directory = self._directory(parent)
            try:
                _hard_link(source_directory, source, directory, base)
            except FileExistsError:
                one = os.stat(source, dir_fd=source_directory, follow_symlinks=False)
                other = os.stat(base, dir_fd=directory, follow_symlinks=False)
                if (one.st_dev, one.st_ino) != (other.st_dev, other.st_ino):
                    directory = self._clear(directory, place)
                    _hard_link(source_directory, source, directory, base)
        finally:
            os.close(source_directory)

    def _symlink(self, directory: int, place: tuple[str, str], entry: Entry) -> None:
        base = place[1]
        try:
            os.symlink(entry.linkname, base, dir_fd=directory)
        except FileExistsError:
            directory = self._clear(directory, place)
            os.symlink(entry.linkname, base, dir_fd=directory)
        if self._owner:
            uid, gid = self._ids(entry.uid, entry.gid)
            os.chown(base, uid, gid, dir_fd=directory, follow_symlinks=False)
        os.utime(base, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=directory, follow_symlinks=False)

    def _special(self, directory: int, place: tuple[str, str], entry: Entry) -> None:
        """A FIFO or a device."""
        base = place[1]
        kind = {FIFO: stat.S_IFIFO, CHARACTER: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK}[entry.type]
        if entry.type == CHARACTER and entry.devmajor == entry.devminor == 0:
            raise RktError(f"{entry.name!r} is the sign of overlayfs for a removed file")
        if kind != stat.S_IFIFO and not self._owner:
            return
        device = os.makedev(entry.devmajor, entry.devminor) if kind != stat.S_IFIFO else 0
        mode = entry.mode & self._mode_mask
        try:
            os.mknod(base, kind | mode, device, dir_fd=directory)
        except FileExistsError:
            directory = self._clear(directory, place)
            os.mknod(base, kind | mode, device, dir_fd=directory)
        if self._owner:
            os.chown(base, *self._ids(entry.uid, entry.gid), dir_fd=directory, follow_symlinks=False)
        if stat.S_IMODE(os.stat(base, dir_fd=directory, follow_symlinks=False).st_mode) != mode:
            _change_mode(directory, base, mode)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(base, ns=times, dir_fd=directory, follow_symlinks=False)

    def _clear(self, directory: int, place: tuple[str, str]) -> int:
        """Remove what has the name of a new entry; the fd of the parent from now on."""
        parent, base = place
        status = os.stat(base, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            files.remove_tree(base, dirfd=directory)
        else:
            os.unlink(base, dir_fd=directory)
            if not stat.S_ISLNK(status.st_mode):
                return directory
        # Names that led through it lead elsewhere now.
        self.close()
        path = f"{parent}/{base}" if parent else base
        gone = [known for known in self._directories if known == path or known.startswith(path + "/")]
        for known in gone:
            del self._directories[known]
        return self._directory(parent)

    # Attributes

    def _ids(self, uid: int, gid: int) -> tuple[int, int]:
        if self._shift is None:
            if uid > LAST_ID or gid > LAST_ID:
                raise RktError(f"the archive has an owner out of range: {uid}:{gid}")
            return uid, gid
        first, count = self._shift
        if uid >= count or gid >= count:
            raise RktError(f"owner {uid}:{gid} does not fit into a user namespace of {count} ids")
        return first + uid, first + gid

    def _attributes(self, entry: Entry) -> _Attributes:
        return _Attributes(self._ids(entry.uid, entry.gid), entry.mode, entry.mtime_ns, entry.xattrs)

    def _dress(self, fd: int, attributes: _Attributes) -> None:
        if self._owner:
            os.fchown(fd, attributes.uid, attributes.gid)
        os.fchmod(fd, attributes.mode & self._mode_mask)
        if attributes.xattrs:
            self._set_xattrs(fd, attributes.xattrs)
        if attributes.mtime_ns is not None:
            os.utime(fd, ns=(attributes.mtime_ns, attributes.mtime_ns))

    def _set_xattrs(self, fd: int, xattrs: dict[str, bytes]) -> None:
        for name, value in xattrs.items():
            if not is_kept(name) or (name == _CAPABILITY and not self._owner):
                continue
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                # A file system without user attributes loses them, as with every other tool.
                if error.errno != errno.ENOTSUP or name == _CAPABILITY:
                    raise named(error, f"set attribute {name} of") from None


def is_kept(xattr: str) -> bool:
    """Whether an extended attribute of an archive is given to the file."""
    if xattr.startswith("user."):
        return not xattr.startswith("user.overlay.")
    return xattr == _CAPABILITY


def _change_mode(directory: int, base: str, mode: int) -> None:
    """chmod(2) of what may not be opened: a device would act."""
    fd = paths.open_child(directory, base, os.O_PATH)
    try:
        os.chmod(f"/proc/self/fd/{fd}", mode)
    except FileNotFoundError:
        # The jail of a worker has no /proc.  By name a link is followed, but in there it leads nowhere else.
        os.chmod(base, mode, dir_fd=directory)
    finally:
        os.close(fd)


def _hard_link(source_directory: int, source: str, directory: int, base: str) -> None:
    os.link(source, base, src_dir_fd=source_directory, dst_dir_fd=directory, follow_symlinks=False)


def _write_at(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data = data[written:]
        offset += written
