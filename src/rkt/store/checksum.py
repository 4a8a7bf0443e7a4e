"""The checksum of a rendered tree, made when it is rendered and compared by ``image verify``.

SHA-512 over a sorted walk.  Each entry contributes a JSON object of its name, mode, owner, size, type, link
target, device numbers and extended attributes, then a file's content; a further link to a file seen
before contributes only that it is one.  Times are left out, so are sockets and the control files.
"""

from __future__ import annotations

import os
import stat

from rkt.store.hashing import CHUNK, Hasher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CONTROL_FILES = frozenset({"manifest", "hash", "rendered", "image"})

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


def tree_checksum(directory: str) -> str:
    """The checksum of a tree, ``sha512-`` and 128 hex digits."""
    from rkt.appc import gojson

    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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
        return "sha512-" + hasher.digest()
    finally:
        hasher.close()
        os.close(root)


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
