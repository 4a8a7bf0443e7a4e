"""The steps that put files of the host into the image.

The image decides what its paths mean: links in it are followed inside of it only.  Directories that are there
are filled, and keep their attributes; files are replaced.  What is new gets mode, times, extended attributes
and, for root, the owner of what was copied; files with several names stay that, sockets are left out.
"""

from __future__ import annotations

import errno
import os
import stat

from rkt.build.acbuild import changes
from rkt.errors import RktError
from rkt.linux import files, paths
from rkt.store.pack import attributes

_CHUNK = 1 << 20
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Where the kernel cannot copy by itself: between some file systems, or on old kernels.
_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)


def copy(rootfs: str, source: str, target: str) -> None:
    """Copy a file or directory to a path in the image; missing parents are made, 0755 and root's."""
    with _Copier(rootfs) as copier:
        copier.copy(source, target)


def copy_to_directory(rootfs: str, sources: list[str], directory: str) -> None:
    """Copy each of the files or directories into a directory of the image.

    With a slash at its end a source stands for what is in it.
    """
    with _Copier(rootfs) as copier:
        copier.make_directory(directory)
        for source in sources:
            copier.copy(source, os.path.join("/", directory, os.path.basename(source)))


class _Copier:
    __slots__ = ("_links", "_made", "_owner", "_root")

    def __init__(self, rootfs: str) -> None:
        self._root = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._owner = os.geteuid() == 0
        # (device, inode) of files with several names -> the first of these in the image
        self._links: dict[tuple[int, int], str] = {}
        self._made: list[tuple[str, str]] = []

    def __enter__(self) -> _Copier:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def make_directory(self, path: str) -> None:
        """RktError when there is something else."""
        try:
            os.close(paths.make_directories(self._root, path, owner=(0, 0) if self._owner else None))
        except NotADirectoryError:
            raise RktError(f'target "{path}" is not a directory') from None

    def copy(self, source: str, target: str) -> None:
        found = os.lstat(source)
        target = os.path.normpath(os.path.join("/", target))
        if stat.S_ISDIR(found.st_mode):
            self._copy_tree(source, target)
            return
        if target == "/":
            raise RktError(f'"{source}" is a file, it cannot become the root of the image')
        parent, base = os.path.split(target)
        self.make_directory(parent)
        fd = self._open(parent)
        try:
            self._one(source, fd, (parent, base), found)
        finally:
            os.close(fd)

    def _open(self, path: str) -> int:
        return paths.open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)

    def _copy_tree(self, source: str, target: str) -> None:
        if target != "/":
            parent, base = os.path.split(target)
            self.make_directory(parent)
            fd = self._open(parent)
            try:
                self._directory(source, fd, (parent, base))
            finally:
                os.close(fd)
        pending = [(source, target)]
        while pending:
            origin, directory = pending.pop()
            fd = self._open(directory)
            try:
                for name in sorted(os.listdir(origin)):
                    path = os.path.join(origin, name)
                    found = os.lstat(path)
                    if stat.S_ISDIR(found.st_mode):
                        self._directory(path, fd, (directory, name))
                        pending.append((path, os.path.join(directory, name)))
                    else:
                        self._one(path, fd, (directory, name), found)
            finally:
                os.close(fd)
        # The times of directories, the deepest first, when nothing changes them any more.
        for origin, path in reversed(self._made):
            fd = self._open(path)
            try:
                self._dress_directory(fd, origin)
            finally:
                os.close(fd)
        self._made.clear()

    def _directory(self, source: str, parent: int, place: tuple[str, str]) -> None:
        """A directory of the image for one of the host: new, or the one that is there."""
        path = os.path.join(*place)
        base = place[1]
        try:
            os.mkdir(base, 0o700, dir_fd=parent)
        except FileExistsError:
            if changes.is_removed(os.stat(base, dir_fd=parent, follow_symlinks=False)):
                os.unlink(base, dir_fd=parent)
                os.mkdir(base, 0o700, dir_fd=parent)
                # What lay there below the image stays removed.
                fd = paths.open_child(parent, base, os.O_RDONLY | os.O_DIRECTORY)
                os.setxattr(fd, changes.OPAQUE, b"y")
                os.close(fd)
            else:
                try:
                    os.close(self._open(path))
                except OSError as error:
                    raise RktError(f"{path} of the image is not a directory") from error
                return
        self._made.append((source, path))

    def _dress_directory(self, fd: int, source: str) -> None:
        origin = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._dress(fd, os.fstat(origin), attributes(origin))
        finally:
            os.close(origin)

    def _dress(self, fd: int, found: os.stat_result, xattrs: dict[str, bytes]) -> None:
        if self._owner:
            os.fchown(fd, found.st_uid, found.st_gid)
        os.fchmod(fd, stat.S_IMODE(found.st_mode))
        for name, value in xattrs.items():
            if self._owner or name.startswith("user."):
                os.setxattr(fd, name, value)
        os.utime(fd, ns=(found.st_mtime_ns, found.st_mtime_ns))

    def _one(self, source: str, parent: int, place: tuple[str, str], found: os.stat_result) -> None:
        """Copy what is no directory, in the place of what has its name."""
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFSOCK:
            return
        path = os.path.join(*place)
        self._clear(parent, place)
        identity = (found.st_dev, found.st_ino)
        if found.st_nlink > 1 and identity in self._links:
            directory, name = os.path.split(self._links[identity])
            other = self._open(directory)
            try:
                os.link(name, place[1], src_dir_fd=other, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(other)
            return
        self._links[identity] = path
        if kind == stat.S_IFREG:
            self._file(source, parent, place[1])
        elif kind == stat.S_IFLNK:
            self._symlink(source, parent, place[1], found)
        else:
            self._special(parent, place[1], found)

    def _clear(self, parent: int, place: tuple[str, str]) -> None:
        try:
            there = os.stat(place[1], dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(there.st_mode):
            raise RktError(f"{os.path.join(*place)} of the image is a directory")
        os.unlink(place[1], dir_fd=parent)

    def _file(self, source: str, parent: int, base: str) -> None:
        origin = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            fd = os.open(base, _CREATE, 0o600, dir_fd=parent)
            try:
                _copy_content(origin, fd)
                self._dress(fd, os.fstat(origin), attributes(origin))
            finally:
                os.close(fd)
        finally:
            os.close(origin)

    def _symlink(self, source: str, parent: int, base: str, found: os.stat_result) -> None:
        os.symlink(os.readlink(source), base, dir_fd=parent)
        if self._owner:
            os.chown(base, found.st_uid, found.st_gid, dir_fd=parent, follow_symlinks=False)
        os.utime(base, ns=(found.st_mtime_ns, found.st_mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _special(self, parent: int, base: str, found: os.stat_result) -> None:
        """A FIFO or a device; its mode is set by an fd, as a name could be a link by then."""
        os.mknod(base, stat.S_IFMT(found.st_mode) | 0o600, found.st_rdev, dir_fd=parent)
        fd = paths.open_child(parent, base, os.O_PATH)
        try:
            path = f"/proc/self/fd/{fd}"
            if self._owner:
                os.chown(path, found.st_uid, found.st_gid)
            os.chmod(path, stat.S_IMODE(found.st_mode))
            os.utime(path, ns=(found.st_mtime_ns, found.st_mtime_ns))
        finally:
            os.close(fd)


def _copy_content(source: int, target: int) -> None:
    try:
        while os.copy_file_range(source, target, 1 << 30):
            pass
        if os.lseek(source, 0, os.SEEK_CUR) or not os.fstat(source).st_size:
            return
    except OSError as error:
        if error.errno not in _NO_KERNEL_COPY:
            raise
    os.lseek(source, 0, os.SEEK_SET)
    os.lseek(target, 0, os.SEEK_SET)
    while data := os.read(source, _CHUNK):
        files.write_all(target, data)
