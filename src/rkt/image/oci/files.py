"""The files of a directory or of a tar archive, by name, without ever leaving it."""

from __future__ import annotations

import os
import stat

from rkt.errors import RktError
from rkt.linux import paths
from rkt.store import archive, compression, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from rkt.image.oci.source import Stream
    from rkt.store.compression import Readable

_MAX_MEMBERS = 20_000
_COPY = 1 << 20


class Section:
    """A part of an open file, read by position: any number at once."""

    __slots__ = ("_at", "_end", "_fd", "_own")

    def __init__(self, fd: int, start: int, size: int, *, own: bool) -> None:
        self._fd = fd
        self._at = start
        self._end = start + size
        self._own = own

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._fd, min(size, self._end - self._at), self._at)
        self._at += len(data)
        return data

    def __enter__(self) -> Section:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._own:
            os.close(self._fd)


class Files:
    """Files by name; a context manager."""

    __slots__ = ()

    def open(self, name: str) -> Stream:
        """A regular file.  Raises RktError when there is none."""
        raise NotImplementedError

    def has(self, name: str) -> bool:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def read(self, name: str, limit: int) -> bytes:
        """A whole file of at most ``limit`` bytes."""
        parts, left = [], limit
        with self.open(name) as stream:
            while data := stream.read(min(_COPY, left + 1)):
                left -= len(data)
                if left < 0:
                    raise RktError(f"{name} is larger than {limit} bytes")
                parts.append(data)
        return b"".join(parts)

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Directory(Files):
    """Files below a directory; links that lead out of it are not followed."""

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def open(self, name: str) -> Section:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
        try:
            fd = paths.open_beneath(self._fd, name, flags)
        except OSError as error:
            raise RktError(f"{self._path} has no {name}") from error
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise RktError(f"{self._path}/{name} is not a regular file")
        return Section(fd, 0, status.st_size, own=True)

    def has(self, name: str) -> bool:
        try:
            self.open(name).__exit__(None, None, None)
        except RktError:
            return False
        return True

    def close(self) -> None:
        os.close(self._fd)


class Archive(Files):
    """Members of a tar archive, found by its headers; a compressed one is unpacked to a file without a name.

    Links inside the archive are followed, as old programs wrote them for layers that are the same.
    """

    __slots__ = ("_fd", "_links", "_members", "_path")

    def __init__(self, fd: int, path: str, *, scratch: str, limit: int) -> None:
        """``fd`` becomes ours.  ``scratch`` is where up to ``limit`` bytes may be unpacked."""
        self._path = path
        self._fd = fd
        self._members: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        try:
            self._fd = _plain(fd, scratch, limit)
            self._list()
        except RktError as error:
            self.close()
            raise RktError(f"{path} cannot be read as an archive") from error
        except BaseException:
            self.close()
            raise

    def _list(self) -> None:
        os.lseek(self._fd, 0, os.SEEK_SET)
        limits = archive.Limits(entries=_MAX_MEMBERS)
        with open(self._fd, "rb", buffering=0, closefd=False) as file:
            for entry in archive.Reader(file, limits=limits, end_marker=False, seek=True):
                name = layout.clean(entry.name)
                if entry.type == archive.FILE:
                    if entry.segments is not None:
                        raise RktError(f"{entry.name!r} of {self._path} is a sparse file")
                    self._members[name] = (entry.offset, entry.size)
                    self._links.pop(name, None)
                elif entry.type in (archive.SYMLINK, archive.LINK):
                    base = os.path.dirname(name) if entry.type == archive.SYMLINK else ""
                    self._links[name] = os.path.normpath(os.path.join(base, entry.linkname))
                    self._members.pop(name, None)

    def open(self, name: str) -> Section:
        found = self._find(name)
        if found is None:
            raise RktError(f"{self._path} has no {name[:200]}")
        offset, size = found
        return Section(self._fd, offset, size, own=False)

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def size(self, name: str) -> int:
        """The size of a member in bytes."""
        found = self._find(name)
        return found[1] if found is not None else 0

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _find(self, name: str) -> tuple[int, int] | None:
        for _ in range(8):
            target = self._links.get(name)
            if target is None:
                break
            name = target
        return self._members.get(name)


def _plain(fd: int, scratch: str, limit: int) -> int:
    """The file itself, or for a compressed one what is in it."""
    if compression.detect(os.pread(fd, compression.SNIFFED, 0)) not in compression.COMPRESSIONS:
        return fd
    made = os.open(scratch, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "rb", buffering=0, closefd=False) as file:
            _copy(compression.open_reader(file, limit=limit), made)
    except BaseException:
        os.close(made)
        raise
    os.close(fd)
    return made


def _copy(source: Readable, fd: int) -> None:
    from rkt.linux import files

    while data := source.read(_COPY):
        files.write_all(fd, data)
