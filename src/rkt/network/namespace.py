"""A network namespace that outlives the process which made it.

It is kept by a bind mount of the namespace on a file ``/var/run/netns/cni-<random>``: the form that
CNI plugins and ``ip netns`` expect.  The directory is a shared mount, so that the file appears in
(and later vanishes from) every mount namespace, as ``ip netns`` and CNI's own library do it.
"""

from __future__ import annotations

import errno
import os

from rkt.errors import RktError
from rkt.linux import mount, namespaces
from rkt.linux.lock import Lock
from rkt.network import interfaces

DIRECTORY = "/var/run/netns"
PREFIX = "cni-"


def new_path() -> str:
    """The path for a new namespace: sixteen random bytes in the form of a UUID, as CNI names them."""
    text = os.urandom(16).hex()
    return f"{DIRECTORY}/{PREFIX}{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def check_path(path: str) -> None:
    """RktError unless ``path`` is one that ``new_path`` may have given: it will be unmounted and unlinked."""
    directory, name = os.path.split(path)
    if directory != DIRECTORY or not name.startswith(PREFIX) or len(name) == len(PREFIX):
        raise RktError(f'"{path}" is not the path of a pod\'s network namespace')


def current() -> int:
    """An fd of the namespace the calling thread is in."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def join(fd: int) -> None:
    """Move the calling thread into the namespace."""
    namespaces.setns(fd, namespaces.CLONE_NEWNET)


def create(path: str) -> None:
    """Make a namespace with its loopback up, keep it at ``path``; the caller is inside when this returns.

    On failure the caller is back where it was; a file or mount at ``path`` is left for ``remove``.
    """
    _share_directory()
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    except OSError as exc:
        raise RktError(f"cannot create the network namespace {path}") from exc
    before = current()
    try:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        try:
            interfaces.loopback_up()
            _skip_duplicate_detection()
            mount.mount("/proc/thread-self/ns/net", path, "", mount.MS_BIND)
        except BaseException:
            join(before)
            raise
    except OSError as exc:
        raise RktError(f"cannot create the network namespace {path}") from exc
    finally:
        os.close(before)


def _skip_duplicate_detection() -> None:
    """IPv6 addresses of the pod are usable at once, as IPv4 ones are.

    The kernel would ask the link for a second or two whether anybody has the address, and plugins wait for
    that; that no two have it is what address management is for.  A plugin may still switch it on.
    """
    try:
        with open("/proc/sys/net/ipv6/conf/default/accept_dad", "wb", buffering=0) as file:
            file.write(b"0")
    except FileNotFoundError:  # a kernel without IPv6
        pass


def exists(path: str) -> bool:
    """Whether a namespace is mounted at ``path``; a file left by a crash or a reboot is none."""
    try:
        return os.stat(path).st_dev != os.stat(os.path.dirname(path)).st_dev
    except (FileNotFoundError, NotADirectoryError):
        return False


def remove(path: str) -> None:
    """Unmount the namespace and remove its file; nothing to do is no error.

    The kernel destroys a namespace, and the interfaces in it, with its last process and last mount.
    """
    check_path(path)
    while exists(path):
        mount.umount(path, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        pass


def _share_directory() -> None:
    """Make ``DIRECTORY`` a shared mount point; an existing one is made shared if it is not."""
    os.makedirs(DIRECTORY, 0o755, exist_ok=True)
    if _make_shared():
        return
    # Two pods that start at once must not both mount: the second would hide what the first puts there.
    with Lock.open(DIRECTORY) as lock:
        lock.exclusive()
        if not _make_shared():
            mount.mount(DIRECTORY, DIRECTORY, "", mount.MS_BIND | mount.MS_REC)
            mount.mount("", DIRECTORY, "", mount.MS_SHARED | mount.MS_REC)


def _make_shared() -> bool:
    try:
        mount.mount("", DIRECTORY, "", mount.MS_SHARED | mount.MS_REC)
    except OSError as exc:
        if exc.errno == errno.EINVAL:  # not a mount point
            return False
        raise
    return True
