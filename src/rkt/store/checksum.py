"""The checksum of a rendered tree, made when it is rendered and compared by ``image verify``.

SHA-512 over a walk: the entries of each directory sorted by name, each with its name, type, mode, owner,
size, link target, device number, extended attributes and, for a file, the SHA-256 of its content; a further
link to a file seen before contributes only that it is one.  Times are left out, so are sockets and the
control files.  As each file has a digest of its own, what unpacks a tree makes them on the way
(``Contents``), and nothing is read again.

A tree's file ``hash`` has ``sha512-``, 128 hex digits and, after a blank, a 2.  Without that it is the
checksum of earlier versions, with the files' contents inline; trees that have one are compared by that.
"""

from __future__ import annotations

import os
import stat
from hashlib import sha256, sha512

from rkt.errors import RktError
from rkt.store.hashing import CHUNK, Hasher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CONTROL_FILES = frozenset({"manifest", "hash", "rendered", "image"})
_PREFIX = "sha512-"
_KIND = "2"
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ZEROS = bytes(1 << 16)

# Type flags of tar headers, as the reference has them.
_REGULAR, _HARD_LINK, _SYMLINK, _CHARACTER, _BLOCK, _DIRECTORY, _FIFO = 48, 49, 50, 51, 52, 53, 54
_FILE_TYPES = {
    stat.S_IFREG: _REGULAR,
    stat.S_IFLNK: _SYMLINK,
    stat.S_IFCHR: _CHARACTER,
    stat.S_IFBLK: _BLOCK,
    stat.S_IFDIR: _DIRECTORY,
    stat.S_IFIFO: _FIFO,
}


class Contents:
    """Digests and extended attributes of files as they are written, by inode.

    ``feed`` the pieces of one file, ascending, then ``end``; holes are read as zeros.
    """

    __slots__ = ("_files", "_hash", "_size")

    def __init__(self) -> None:
        self._files: dict[int, tuple[bytes, bytes]] = {}
        self._hash = sha256()
        self._size = 0

    def feed(self, data: bytes | memoryview, offset: int) -> None:
        if offset != self._size:
            self._zeros(offset)
        self._hash.update(data)
        self._size = offset + len(data)

    def end(self, fd: int, size: int, *, has_attributes: bool) -> None:
        """The file of ``fd``, of ``size`` bytes, is complete; ``has_attributes``: it was given some."""
        digest = self.take(size)
        self._files[os.fstat(fd).st_ino] = digest, attributes(fd) if has_attributes else b""

    def take(self, size: int) -> bytes:
        """The digest of what was fed, up to ``size`` bytes; what is fed next belongs to another file."""
        if size != self._size:
            self._zeros(size)
        digest = self._hash.digest()
        self._hash = sha256()
        self._size = 0
        return digest

    def know(self, status: os.stat_result, digest: bytes) -> None:
        """The digest of a file without attributes that was made before."""
        self._files[status.st_ino] = digest, b""

    def of(self, status: os.stat_result) -> tuple[bytes, bytes] | None:
        """Digest and attributes of a file; None for one that was not written here."""
        return self._files.get(status.st_ino)

    def _zeros(self, until: int) -> None:
        left = until - self._size
        while left > 0:
            self._hash.update(_ZEROS[:left])
            left -= len(_ZEROS)
        self._size = until


def summary(root: int, contents: Contents | None = None) -> tuple[str, int]:
    """The checksum of the tree in the directory ``root`` (an fd), and its size as ``tree_size`` has it.

    Files that ``contents`` knows are not read.
    """
    total = sha512()
    size = os.fstat(root).st_size
    seen: dict[tuple[int, int], str] = {}
    stack = [""]
    while stack:
        parent = stack.pop()
        directory = os.open(parent or ".", _DIRECTORY_FLAGS, dir_fd=root)
        try:
            below = []
            total.update(b"D" + attributes(directory))
            for base in sorted(os.listdir(directory)):
                name = f"{parent}/{base}" if parent else base
                status = os.stat(base, dir_fd=directory, follow_symlinks=False)
                kind = status.st_mode & 0o170000
                first = name
                if status.st_nlink > 1 and kind != stat.S_IFDIR:
                    first = seen.setdefault((status.st_dev, status.st_ino), name)
                if first == name:
                    size += status.st_size
                if name in CONTROL_FILES or kind == stat.S_IFSOCK:
                    continue
                total.update(_entry(directory, base, name, first=first, status=status, contents=contents))
                if kind == stat.S_IFDIR:
                    below.append(name)
            stack += reversed(below)
        finally:
            os.close(directory)
    return _PREFIX + total.hexdigest(), size


def _entry(
    directory: int, base: str, name: str, *, first: str, status: os.stat_result, contents: Contents | None
) -> bytes:
    """What one entry contributes: fields that end with a NUL, in a fixed order, those of names last."""
    mode = status.st_mode
    if first != name:
        return b"L%s\0%s\0" % (os.fsencode(name), os.fsencode(first))
    kind = mode & 0o170000
    size, device, digest, target = 0, 0, b"", b""
    if kind == stat.S_IFREG:
        size = status.st_size
        known = contents.of(status) if contents is not None else None
        digest = b"".join(known or _read(directory, base))
    elif kind == stat.S_IFLNK:
        target = os.fsencode(os.readlink(base, dir_fd=directory))
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        device = status.st_rdev
    fields = b"E%o %d %d %d %d:%d" % (mode, status.st_uid, status.st_gid, size, device >> 32, device)
    return b"%s\0%d\0%s%s\0%s\0" % (fields, len(digest), digest, os.fsencode(name), target)


def _read(directory: int, base: str) -> tuple[bytes, bytes]:
    """The digest and attributes of a file."""
    fd = os.open(base, _FILE_FLAGS, dir_fd=directory)
    try:
        found = sha256()
        while chunk := os.read(fd, CHUNK):
            found.update(chunk)
        return found.digest(), attributes(fd)
    finally:
        os.close(fd)


def attributes(fd: int) -> bytes:
    """The extended attributes of a file or directory that a tree keeps, by name."""
    try:
        names = os.listxattr(fd)
    except OSError:
        # The file system has none.
        return b""
    if not names:
        return b""
    parts = []
    for name in sorted(names):
        if name == "security.capability" or name.startswith("user."):
            value = os.getxattr(fd, name)
            parts.append(b"%s\0%d\0%s" % (os.fsencode(name), len(value), value))
    return b"".join(parts)


def document(checksum: str) -> str:
    """The text of the file ``hash`` of a tree with that checksum."""
    return f"{checksum} {_KIND}"


def check(directory: str, text: str) -> None:
    """Compare a tree with what its file ``hash`` says; RktError when it differs."""
    expected, _, kind = text.strip().partition(" ")
    if kind not in ("", _KIND):
        raise RktError(f"the tree has a hash of kind {kind[:100]!r}, which this version does not know")
    found = tree_checksum(directory, former=not kind)
    if found != expected:
        raise RktError(f"wrong tree hash: {found}, expected: {expected}")


def tree_checksum(directory: str, *, former: bool = False) -> str:
    """The checksum of a tree; ``former``: as earlier versions made it, ``sha512-`` and 128 hex digits."""
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _former_checksum(root) if former else summary(root)[0]
    finally:
        os.close(root)


def _former_checksum(root: int) -> str:
    from rkt.appc import gojson

    hasher = Hasher()
    seen: dict[tuple[int, int], str] = {}
    try:
        for name, status in walk(root):
            if name in CONTROL_FILES or stat.S_ISSOCK(status.st_mode):
                continue
            first = seen.setdefault((status.st_dev, status.st_ino), name) if status.st_nlink > 1 else name
            linked = first != name and not stat.S_ISDIR(status.st_mode)
            header = _header(root, name, status, first if linked else "")
            hasher.update(gojson.dumps(header).encode("utf-8", "backslashreplace"))
            if stat.S_ISREG(status.st_mode) and not linked:
                _content(root, name, hasher)
        return _PREFIX + hasher.digest()
    finally:
        hasher.close()


def tree_size(directory: str) -> int:
    """The sizes of everything in a tree and of its own directory, each inode once, in bytes."""
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        size = os.fstat(root).st_size
        seen = set()
        for _, status in walk(root):
            inode = (status.st_dev, status.st_ino)
            if status.st_nlink > 1 and inode in seen:
                continue
            seen.add(inode)
            size += status.st_size
        return size
    finally:
        os.close(root)


def walk(root: int) -> Iterator[tuple[str, os.stat_result]]:
    """Names relative to the directory ``root`` with their status, parents first, each level sorted."""
    stack = [""]
    while stack:
        name = stack.pop()
        if name:
            status = os.stat(name, dir_fd=root, follow_symlinks=False)
            yield name, status
            if not stat.S_ISDIR(status.st_mode):
                continue
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name or ".", flags, dir_fd=root)
        try:
            children = sorted(os.listdir(fd), reverse=True)
        finally:
            os.close(fd)
        stack.extend(f"{name}/{child}" if name else child for child in children)


def _header(root: int, name: str, status: os.stat_result, link_to: str) -> dict[str, object]:
    kind = _FILE_TYPES.get(stat.S_IFMT(status.st_mode), _REGULAR)
    size = status.st_size if kind == _REGULAR and not link_to else 0
    target = link_to
    if kind == _SYMLINK and not link_to:
        target = os.readlink(name, dir_fd=root)
    device = status.st_rdev if kind in (_CHARACTER, _BLOCK) else 0
    return {
        "Name": name,
        "Mode": stat.S_IMODE(status.st_mode),
        "UID": status.st_uid,
        "GID": status.st_gid,
        "Size": size,
        "Typeflag": _HARD_LINK if link_to else kind,
        "Linkname": target,
        "Devmajor": os.major(device),
        "Devminor": os.minor(device),
        "Xattrs": _attributes(root, name),
    }


def _attributes(root: int, name: str) -> list[dict[str, str]] | None:
    path = f"/proc/self/fd/{root}/{name}"
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        # The file system has none.
        return None
    found = []
    for attribute in sorted(names):
        if attribute == "security.capability" or attribute.startswith("user."):
            value = os.getxattr(path, attribute, follow_symlinks=False)
            found.append({"Name": attribute, "Value": value.decode("latin-1")})
    return found or None


def _content(root: int, name: str, hasher: Hasher) -> None:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
    try:
        while chunk := os.read(fd, CHUNK):
            hasher.update(chunk)
    finally:
        os.close(fd)
