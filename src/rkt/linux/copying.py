"""Copies a directory's content with owners, modes, times, extended attributes, links and devices.

By directory fds only, and no link is followed: what is copied may come from an image.
"""

from __future__ import annotations

import errno
import os
import stat

from rkt.linux.failure import named

_DEPTH = 200
_CHUNK = 1 << 24
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_content(source: int, target: int) -> None:
    """Fill the empty directory ``target`` with what is in ``source`` (fds), and give it its attributes.

    Both must be out of reach of others.  The OSError names what could not be copied.
    """
    _Copy(target).directory(source, target, "")


class _Copy:
    __slots__ = ("links", "top")

    def __init__(self, top: int) -> None:
        self.top = top
        self.links: dict[tuple[int, int], str] = {}

    def directory(self, source: int, target: int, path: str) -> None:
        if path.count("/") > _DEPTH:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path[:80])
        for name in sorted(os.listdir(source)):
            inner = f"{path}/{name}"
            try:
                self._entry(source, target, name, inner)
            except OSError as error:
                if hasattr(error, "operation"):
                    raise
                raise named(error, "copy", inner) from None
        _attributes(source, target)

    def _entry(self, source: int, target: int, name: str, path: str) -> None:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            self._opened(source, target, name, path)
            return
        first = self.links.setdefault((status.st_dev, status.st_ino), path) if status.st_nlink > 1 else path
        if first != path:
            os.link(first[1:], name, src_dir_fd=self.top, dst_dir_fd=target, follow_symlinks=False)
        elif stat.S_ISREG(status.st_mode):
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target))
            self._opened(source, target, name, path)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            _own(target, name, status)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
            _own(target, name, status)
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)

    def _opened(self, source: int, target: int, name: str, path: str) -> None:
        inside = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        try:
            directory = stat.S_ISDIR(os.fstat(inside).st_mode)
            flags = _DIRECTORY if directory else os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            copy = os.open(name, flags, dir_fd=target)
            try:
                if directory:
                    self.directory(inside, copy, path)
                else:
                    while os.sendfile(copy, inside, None, _CHUNK):
                        pass
                    _attributes(inside, copy)
            finally:
                os.close(copy)
        finally:
            os.close(inside)


def _own(directory: int, name: str, status: os.stat_result) -> None:
    os.chown(name, status.st_uid, status.st_gid, dir_fd=directory, follow_symlinks=False)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)


def _attributes(source: int, target: int) -> None:
    """Owner first: a change of it takes set-user-ID bits and capabilities away."""
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):
                raise
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
