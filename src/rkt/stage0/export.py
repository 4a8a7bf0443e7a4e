"""Export: the root file system of an ended pod's app, with its changes, as an image.

The files are an app's, which may have made of them whatever it liked: they are read by directory fds, no
link is followed, no mount entered, nothing but regular files opened for reading.
"""

from __future__ import annotations

import os
import stat

from rkt.errors import RktError
from rkt.linux import files, mountinfo, paths
from rkt.pod import layout, state
from rkt.stage0 import overlay, users
from rkt.store.archive_writer import Writer
from rkt.store.entry import BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, FILE, LINK, SYMLINK, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.pod.pod import Pod

_EXITED = (state.EXITED, state.EXITED_GARBAGE)
_TYPES = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}
_KEPT_ATTRIBUTES = ("security.capability", "user.")
_LEVEL = 6
_GZIP = 31


def check(pod: Pod) -> None:
    """RktError unless the pod has ended."""
    if pod.state not in _EXITED:
        raise RktError("pod is not exited. Only exited pods can be exported")


def export(pod: Pod, app: str, output: str, *, overwrite: bool = False) -> None:
    """Write the app's root file system and its image manifest to ``output``, compressed by gzip.

    The file appears complete or not at all.  RktError when it exists (unless ``overwrite``).
    """
    if os.path.lexists(output) and not overwrite:
        raise RktError("output ACI file exists (try --overwrite)")
    manifest = pod.read(layout.app_manifest(app))
    temporary = f"{output}.{os.urandom(6).hex()}.new"
    root = _open_root(pod, app)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o644), "wb") as file:
            target = _Compressed(file)
            with Writer(target) as writer:
                _Exporter(writer, root, users.parse(pod.read_text(layout.PRIVATE_USERS))).run()
                writer.add(Entry("manifest", size=len(manifest)), manifest)
            target.finish()
            file.flush()
            os.fsync(file.fileno())
        _publish(temporary, output, overwrite)
    except BaseException as error:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        if isinstance(error, OSError):
            raise RktError(f"error exporting app {app}") from error
        raise
    finally:
        os.close(root)


def _publish(temporary: str, output: str, overwrite: bool) -> None:
    if overwrite:
        os.rename(temporary, output)
    else:
        try:
            paths.rename_no_replace(temporary, output)
        except FileExistsError:
            raise RktError("output ACI file exists (try --overwrite)") from None
    files.fsync_directory(os.path.dirname(output) or ".")


def _open_root(pod: Pod, app: str) -> int:
    """An fd of the app's root as the app has left it, without what was mounted into it."""
    if pod.uses_overlay:
        tree = pod.read_text(layout.app_tree(app))
        lower = os.path.join(pod.data_dir, "cas", "tree", tree, "rootfs")
        upper = os.path.join(pod.path, layout.OVERLAY, tree, "upper", app)
        if not tree or "/" in tree or not os.path.isdir(lower):
            raise RktError(f'tree "{tree}" of pod {pod.uuid} is not in the store')
        if not os.path.isdir(upper):
            return os.open(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        view = overlay.read_only_view(lower, upper)
        try:
            # An fd of fsmount(2) only names the mount; to list it takes an open directory.
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=view)
        finally:
            os.close(view)
    stage1 = os.path.join(pod.path, layout.STAGE1_ROOT)
    if mountinfo.below(stage1):
        raise RktError(f"pod {pod.uuid} has mounts left over, cannot export it before they are gone")
    root = os.open(stage1, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return paths.open_in_root(root, f"{layout.STAGE2}/{app}/rootfs", os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(root)


class _Compressed:
    """Writes what it is given to a file, compressed by gzip, the same bytes for the same input."""

    __slots__ = ("_compressor", "_file")

    def __init__(self, file: object) -> None:
        import zlib

        self._file = file
        self._compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)

    def write(self, data: bytes, /) -> int:
        self._file.write(self._compressor.compress(data))  # type: ignore[attr-defined]
        return len(data)

    def finish(self) -> None:
        self._file.write(self._compressor.flush())  # type: ignore[attr-defined]


class _Exporter:
    """One walk over a root file system, names sorted, a directory before what is in it."""

    __slots__ = ("links", "root", "shift", "writer")

    def __init__(self, writer: Writer, root: int, shift: tuple[int, int] | None) -> None:
        self.writer = writer
        self.root = root
        self.shift = shift
        # (device, inode) of files with several names -> the first of these names in the archive
        self.links: dict[tuple[int, int], str] = {}

    def run(self) -> None:
        self.writer.add(self._entry("rootfs", os.fstat(self.root)))
        pending = [""]
        while pending:
            directory = pending.pop()
            flags = os.O_RDONLY | os.O_DIRECTORY
            fd = paths.open_child(self.root, directory or ".", flags)
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
        if kind not in _TYPES:
            return ""  # a socket: nobody listens on it any more
        entry = self._entry("rootfs/" + path, found)
        if kind == stat.S_IFLNK:
            entry.linkname = os.readlink(name, dir_fd=parent)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            entry.devmajor, entry.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
        elif kind == stat.S_IFDIR:
            fd = paths.open_child(parent, name, os.O_RDONLY | os.O_DIRECTORY)
            entry.xattrs = _attributes(fd)
            os.close(fd)
        self.writer.add(entry)
        return path if kind == stat.S_IFDIR else ""

    def _add_file(self, parent: int, name: str, path: str) -> None:
        fd = paths.open_child(parent, name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        with open(fd, "rb", buffering=0) as content:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise RktError(f"{path} was replaced while it was read")
            entry = self._entry("rootfs/" + path, found)
            identity = (found.st_dev, found.st_ino)
            if found.st_nlink > 1 and identity in self.links:
                entry.type, entry.linkname, entry.size = LINK, self.links[identity], 0
                self.writer.add(entry)
                return
            self.links[identity] = entry.name
            entry.size = entry.stored = found.st_size
            entry.xattrs = _attributes(fd)
            self.writer.add(entry, content)

    def _entry(self, name: str, found: os.stat_result) -> Entry:
        return Entry(
            name,
            _TYPES[stat.S_IFMT(found.st_mode)],
            mode=stat.S_IMODE(found.st_mode),
            uid=self._unshifted(found.st_uid),
            gid=self._unshifted(found.st_gid),
            mtime_ns=found.st_mtime_ns,
        )

    def _unshifted(self, number: int) -> int:
        """The ID inside the pod's user namespace of an ID of the host."""
        if self.shift is not None and 0 <= number - self.shift[0] < self.shift[1]:
            return number - self.shift[0]
        return number


def _attributes(fd: int) -> dict[str, bytes]:
    """The extended attributes an image may carry; those of overlayfs and of the host's policy are none."""
    return {name: os.getxattr(fd, name) for name in os.listxattr(fd) if name.startswith(_KEPT_ATTRIBUTES)}
