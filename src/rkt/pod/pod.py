"""One pod: an open directory, the state found when it was opened, and the moves from state to state.

Each move is one rename(2) inside ``DATA/pods``, followed by fsync of both parents: after a crash the pod
is in the old or in the new state.  The lock is on the directory itself, so it moves along.
"""

from __future__ import annotations

import os
import stat
import time

from rkt.errors import RktError
from rkt.linux.failure import named
from rkt.linux.files import fsync_directory, write_all
from rkt.linux.lock import Lock
from rkt.pod import layout, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# How long two processes that both want to run a prepared pod may meet before one gives up, in seconds.
_TAKE_SECONDS = 10.0
_LONGEST_FILE = 16 << 20


class Pod:
    """A pod's directory, held open; close it or use ``with``.

    ``state`` is what was true when the pod was opened or last probed.  Files are read through the
    open directory, so that a rename by another process does no harm.  ``owned`` says whether this
    process holds the exclusive lock.
    """

    __slots__ = ("_manifest", "data_dir", "directory", "lock", "owned", "state", "uuid")

    def __init__(self, data_dir: str, directory: str, uuid: str, lock: Lock) -> None:
        self.data_dir = data_dir
        self.directory = directory
        self.uuid = uuid
        self.lock = lock
        self.owned = False
        self.state = state.EMBRYO
        self._manifest: dict[str, Any] = {}

    @classmethod
    def open(cls, data_dir: str, uuid: str, *, start: str = layout.EMBRYO_DIRECTORY) -> Pod:
        """Open a pod by its full UUID wherever it is from the directory ``start`` on.

        RktError when there is none.
        """
        first = layout.DIRECTORIES.index(start)
        # A second round, from the beginning, for the one move backwards there is: a pod whose start
        # failed becomes a prepared pod again.
        for directory in (*layout.DIRECTORIES[first:], *layout.DIRECTORIES):
            pod = cls._open_in(data_dir, directory, uuid)
            if pod is not None:
                return pod
        raise RktError(f"pod {uuid} was not present")

    @classmethod
    def _open_in(cls, data_dir: str, directory: str, uuid: str) -> Pod | None:
        path = os.path.join(data_dir, layout.PODS, directory, uuid)
        try:
            fd = os.open(path, _OPEN)
        except FileNotFoundError:
            return None
        pod = cls(data_dir, directory, uuid, Lock(fd, path))
        try:
            if pod._probe():
                return pod
        except BaseException:
            pod.close()
            raise
        pod.close()
        return None

    def _probe(self) -> bool:
        """Find the state; False when the pod has moved on while we looked."""
        state.trace("opened")
        word = state.fixed(self.directory)
        if word is None:
            # The shared lock is given back at once; nobody waits for it but a process that deletes.
            unlocked = self.lock.try_shared()
            if unlocked:
                self.lock.unlock()
            word = state.derive(self.directory, not unlocked)
            state.trace("probed")
        if not self.lock.is_current():
            return False
        self.state = word
        return True

    @property
    def fd(self) -> int:
        """The open directory, which is also what is locked."""
        return self.lock.fd

    @property
    def path(self) -> str:
        return os.path.join(self.data_dir, layout.PODS, self.directory, self.uuid)

    def close(self) -> None:
        """Close the directory; drops the lock if this process has it and no other was given it."""
        self.lock.close()
        self.owned = False

    def __enter__(self) -> Pod:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Moves.

    def to_prepared(self) -> None:
        """End of ``prepare``: the pod belongs to nobody from here on."""
        self._move(layout.PREPARED_DIRECTORY)
        self.lock.unlock()
        self.owned = False
        self.state = state.PREPARED

    def to_run(self) -> None:
        """Become a running pod, which it stays while the lock is held."""
        self._move(layout.RUN_DIRECTORY)
        self.state = state.RUNNING

    def back_to_prepared(self) -> None:
        """The start of a prepared pod failed before its stage1 was called: it can be tried again."""
        self._move(layout.PREPARED_DIRECTORY)
        self.state = state.PREPARED

    def to_exited_garbage(self) -> bool:
        """Mark an exited pod for removal; False when another process was faster."""
        return self._try_move(layout.EXITED_GARBAGE_DIRECTORY, state.EXITED_GARBAGE)

    def to_garbage(self) -> bool:
        """Give up a pod that never ran; False when another process was faster."""
        return self._try_move(layout.GARBAGE_DIRECTORY, state.GARBAGE)

    def _try_move(self, directory: str, word: str) -> bool:
        try:
            self._move(directory)
        except FileNotFoundError:
            return False
        self.state = word
        return True

    def _move(self, directory: str, *, durable: bool = True) -> None:
        old, new = self.path, os.path.join(self.data_dir, layout.PODS, directory, self.uuid)
        state.trace("moving")
        try:
            os.rename(old, new)
        except OSError as error:
            raise named(error, "rename", old) from None
        self.directory = directory
        self.lock.path = new
        if durable:
            fsync_directory(os.path.dirname(new))
            fsync_directory(os.path.dirname(old))

    # The lock.

    def take(self) -> bool:
        """Get the exclusive lock of a prepared pod to run it; False when another process runs it.

        Whoever holds it either renames the pod within moments or only looks at its state, so
        it is tried again for a while, and given up as soon as the pod is elsewhere.
        """
        deadline = time.monotonic() + _TAKE_SECONDS
        while not self.lock.try_exclusive():
            if not self.lock.is_current() or time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        self.owned = True
        if self.lock.is_current():
            return True
        self.lock.unlock()
        self.owned = False
        return False

    def seize(self, waiting: Callable[[], object] | None = None) -> bool:
        """Get the exclusive lock to delete the pod, waiting for it; False when the pod is gone by then."""
        self.lock.exclusive(waiting)
        self.owned = True
        return self.lock.is_current()

    # Files.

    def read(self, name: str, limit: int = _LONGEST_FILE) -> bytes:
        """A regular file of the pod's own directory (not one of an image's root file system)."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError as error:
            raise named(error, "open", os.path.join(self.path, name)) from None
        try:
            return read_regular(fd, limit, os.path.join(self.path, name))
        finally:
            os.close(fd)

    def read_text(self, name: str) -> str:
        """A short text file without surrounding blanks, empty when it is missing or no text."""
        try:
            return self.read(name, 1 << 16).decode().strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return ""

    def write(self, name: str, data: bytes | str, mode: int = layout.FILE_MODE) -> None:
        """Create a file of the pod with exactly ``mode``; ``synchronise`` makes its name durable."""
        content = data.encode() if isinstance(data, str) else data
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, mode, dir_fd=self.fd)
            try:
                os.fchmod(fd, mode)
                if content:
                    write_all(fd, content)
                    os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise named(error, "write", os.path.join(self.path, name)) from None

    def make_directory(self, name: str, mode: int = layout.DIRECTORY_MODE, *, inherit: bool = True) -> None:
        """Create a directory of the pod; its parents exist.  A directory that is there is kept.

        Without ``inherit`` it has no set-group-ID bit: what an app creates must not get the host's group.
        """
        make_directory(name, mode, dirfd=self.fd, path=os.path.join(self.path, name), inherit=inherit)

    def exists(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def synchronise(self, *directories: str) -> None:
        """Make the names in the pod's directory and in some below it durable."""
        for name in directories:
            fsync_directory(name, dirfd=self.fd)
        os.fsync(self.fd)

    @property
    def manifest(self) -> dict[str, Any]:
        """The pod manifest as plain JSON values, empty when the pod has none yet.

        RktError when it cannot be understood.
        """
        if not self._manifest:
            self._manifest = self._read_manifest()
        return self._manifest

    def _read_manifest(self) -> dict[str, Any]:
        from rkt.appc import gojson

        try:
            value = gojson.loads(self.read(layout.MANIFEST))
        except FileNotFoundError:
            return {}
        except RktError as error:
            raise RktError(f"pod {self.uuid} has an invalid manifest") from error
        if not isinstance(value, dict):
            raise RktError(f"pod {self.uuid} has an invalid manifest")
        return value

    @property
    def uses_overlay(self) -> bool:
        return self.exists(layout.OVERLAY_PREPARED)


def read_regular(fd: int, limit: int, path: str) -> bytes:
    """The content of an open regular file; OSError or RktError for anything else, or when too long."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise RktError(f"{path} is not a regular file")
    parts = []
    size = 0
    while piece := os.read(fd, min(1 << 16, limit + 1 - size)):
        parts.append(piece)
        size += len(piece)
        if size > limit:
            raise RktError(f"{path} is longer than {limit} bytes")
    return b"".join(parts)


def make_directory(
    name: str, mode: int, *, dirfd: int | None = None, path: str = "", inherit: bool = True
) -> None:
    """Create a directory with ``mode`` whatever the umask; the set-group-ID bit is inherited unless told so.

    ``path`` is the name for messages.
    """
    try:
        os.mkdir(name, mode, dir_fd=dirfd)
    except FileExistsError:
        return
    except OSError as error:
        raise named(error, "mkdir", path or name) from None
    made = os.stat(name, dir_fd=dirfd, follow_symlinks=False).st_mode
    wanted = mode | (made & stat.S_ISGID if inherit else 0)
    if stat.S_IMODE(made) != wanted:
        os.chmod(name, wanted, dir_fd=dirfd)


def make_directories(data_dir: str) -> None:
    """Create what is missing of the data directory, of ``pods`` and of the directories of the states."""
    if os.path.isdir(os.path.join(data_dir, layout.PODS, layout.DIRECTORIES[-1])):
        return
    try:
        os.makedirs(data_dir, mode=layout.DIRECTORY_MODE, exist_ok=True)
    except OSError as error:
        raise named(error, "mkdir", data_dir) from None
    pods = os.path.join(data_dir, layout.PODS)
    for path in (pods, *(os.path.join(pods, directory) for directory in layout.DIRECTORIES)):
        make_directory(path, layout.DIRECTORY_MODE)


def random_uuid() -> str:
    """A random UUID (RFC 4122, version 4), lower case."""
    number = bytearray(os.urandom(16))
    number[6] = number[6] & 0x0F | 0x40
    number[8] = number[8] & 0x3F | 0x80
    text = number.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def create(data_dir: str) -> Pod:
    """A new pod with a random UUID, locked by this process, in the state ``preparing``.

    A crash on the way leaves an embryo, which gc collects: the shared lock on the directory of embryos
    says that some pod there exists but is not locked yet.
    """
    make_directories(data_dir)
    embryos = os.path.join(data_dir, layout.PODS, layout.EMBRYO_DIRECTORY)
    uuid = random_uuid()
    path = os.path.join(embryos, uuid)
    pod = Pod(data_dir, layout.EMBRYO_DIRECTORY, uuid, Lock(-1, path))
    try:
        with Lock.open(embryos) as birth:
            birth.shared()
            make_directory(path, layout.DIRECTORY_MODE)
            state.trace("embryo")
            pod.lock.fd = os.open(path, _OPEN)
            pod.lock.exclusive()
            pod.owned = True
        pod.write(layout.CREATED, b"")
        # Either place means the same after a crash: rubbish.
        pod._move(layout.PREPARE_DIRECTORY, durable=False)
    except BaseException:
        from rkt.linux.files import remove_tree

        remove_tree(path, missing_ok=True)
        pod.close()
        raise
    pod.state = state.PREPARING
    return pod
