"""Files that survive a crash, and trees that are removed without leaving them.

Works without the C library, except ``remove_tree``.
"""

from __future__ import annotations

import errno
import os

from rkt.linux.failure import named

# A name of a deep tree is moved up to the top when this many directories are open: an image may nest
# deeper than the limit of open files.
_OPEN_DIRECTORIES = 64


def write_atomic(path: str, data: bytes | str, mode: int = 0o644, *, dirfd: int | None = None) -> None:
    """Replace ``path`` by a file with exactly ``mode``: after a crash it has the old or the new content.

    A crash may leave a file ``.NAME.RANDOM.new`` beside it, which nobody reads.
    """
    content = data.encode() if isinstance(data, str) else data
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{os.urandom(6).hex()}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with open(os.open(temporary, flags, 0o600, dir_fd=dirfd), "wb", buffering=0) as file:
            write_all(file.fileno(), content)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(temporary, path, src_dir_fd=dirfd, dst_dir_fd=dirfd)
    except BaseException as error:
        try:
            os.unlink(temporary, dir_fd=dirfd)
        except OSError:
            pass
        if isinstance(error, OSError):
            raise named(error, "write", path) from None
        raise
    fsync_directory(directory or ".", dirfd=dirfd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data`` to an fd."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def fsync_directory(directory: str | int, *, dirfd: int | None = None) -> None:
    """Make the names in a directory (path or fd) durable."""
    if isinstance(directory, int):
        os.fsync(directory)
        return
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dirfd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(
    path: str,
    mode: int = 0o755,
    *,
    dirfd: int | None = None,
    parents: bool = False,
    owner: tuple[int, int] | None = None,
) -> bool:
    """Create a directory with exactly ``mode``, whatever the umask; False when it exists already.

    ``parents`` are made in the same way.  An existing directory keeps its mode and owner.  For paths of
    the host only; inside a root file system use ``rkt.linux.paths.make_directories``.
    """
    try:
        os.mkdir(path, mode, dir_fd=dirfd)
    except FileExistsError as error:
        if dirfd is None and not os.path.isdir(path):
            raise named(error, "mkdir", path) from None
        return False
    except FileNotFoundError as error:
        parent = os.path.dirname(path)
        if not parents or not parent:
            raise named(error, "mkdir", path) from None
        make_directory(parent, mode, dirfd=dirfd, parents=True, owner=owner)
        return make_directory(path, mode, dirfd=dirfd, owner=owner)
    except OSError as error:
        raise named(error, "mkdir", path) from None
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dirfd)
    try:
        if owner is not None:
            os.fchown(fd, *owner)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)
    return True


def remove_tree(path: str, *, dirfd: int | None = None, missing_ok: bool = False) -> None:
    """Remove a file or a directory with all below it.

    Works by directory fds, follows no link and enters no other mount: a mount point below is an
    OSError (EBUSY or EXDEV), with what is in it untouched.  Any depth.
    """
    parent_path, name = os.path.split(path.rstrip("/"))
    try:
        parent = os.open(parent_path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dirfd)
        try:
            _remove(parent, name, path)
        finally:
            os.close(parent)
    except FileNotFoundError as error:
        if not missing_ok:
            raise named(error, "remove", path) from None


def _remove(parent: int, name: str, path: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
        return
    except (IsADirectoryError, PermissionError) as error:
        # unlink(2) of a directory is EISDIR on Linux; the immutable flag and the like are EPERM.
        if isinstance(error, PermissionError):
            raise named(error, "remove", path) from None
    except OSError as error:
        raise named(error, "remove", path) from None
    _Remover(parent, name, path).run()


class _Remover:
    """One walk: a stack of open directories, each with the names still to be removed."""

    __slots__ = ("path", "stack", "top")

    def __init__(self, parent: int, name: str, path: str) -> None:
        self.path = path
        self.stack: list[tuple[int, str, list[tuple[str, bool]]]] = []
        self.top = parent
        self._push(parent, name)

    def run(self) -> None:
        try:
            while self.stack:
                fd, name, names = self.stack[-1]
                if not names:
                    os.close(fd)
                    self.stack.pop()
                    self._rmdir(self.stack[-1][0] if self.stack else self.top, name)
                    continue
                child, is_directory = names.pop()
                if not is_directory:
                    self._unlink(fd, child)
                elif len(self.stack) < _OPEN_DIRECTORIES:
                    self._push(fd, child)
                else:
                    self._lift(fd, child)
        finally:
            for fd, _, _ in self.stack:
                os.close(fd)

    def _push(self, parent: int, name: str) -> None:
        from rkt.linux import paths

        try:
            fd = paths.open_child(parent, name, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno == errno.EXDEV:
                error = OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            raise named(error, "remove", self._where(name)) from None
        self.stack.append((fd, name, []))
        with os.scandir(fd) as entries:
            self.stack[-1][2].extend((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)

    def _lift(self, fd: int, name: str) -> None:
        """Move a directory that is too deep up to the top directory, to be removed from there."""
        top_fd, _, names = self.stack[0]
        lifted = f".removing.{os.urandom(8).hex()}"
        try:
            os.rename(name, lifted, src_dir_fd=fd, dst_dir_fd=top_fd)
        except OSError as error:
            raise named(error, "remove", self._where(name)) from None
        names.append((lifted, True))

    def _unlink(self, fd: int, name: str) -> None:
        try:
            os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise named(error, "remove", self._where(name)) from None

    def _rmdir(self, fd: int, name: str) -> None:
        try:
            os.rmdir(name, dir_fd=fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise named(error, "remove", self._where(name)) from None

    def _where(self, name: str) -> str:
        names = [entry[1] for entry in self.stack[1:]]
        return "/".join([self.path, *names, name]) if self.stack else self.path
