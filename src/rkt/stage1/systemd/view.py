"""An app's root as the app saw it, built anew for ``enter`` when the app has ended.

Works in the mount namespace of the pod's systemd, made private: the same mounts that the app's unit asks
systemd for, then pivot_root(2), so that nothing of the pod around the app is left.
"""

from __future__ import annotations

import os
import stat

from rkt.linux import mount, namespaces, paths
from rkt.stage1.common import confinement, mounts


def build(app: str, bound: list[str], *, protect: bool) -> None:
    """Become a process whose root is the app's root; called inside the pod's mount namespace.

    ``bound`` is that of the app's unit.
    """
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mount.set_propagation("/", mount.MS_PRIVATE, recursive=True)
    root = f"/opt/stage2/{app}/rootfs"
    mount.mount(root, root, None, mount.MS_BIND | mount.MS_REC)
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in ("/proc", *bound, "/run/systemd/journal"):
            _bind(root_fd, path)
        if protect:
            for path in confinement.HIDDEN_PATHS:
                if path.startswith("/proc/"):
                    _hide(root_fd, path)
        os.fchdir(root_fd)
    finally:
        os.close(root_fd)
    mount.pivot_root(".", ".")
    mount.umount(".", mount.MNT_DETACH)
    os.chdir("/")


def _bind(root_fd: int, path: str) -> None:
    try:
        source = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        directory = stat.S_ISDIR(os.fstat(source).st_mode)
        target = mounts.open_target(root_fd, path, directory=directory)
        try:
            read_only = path == "/run/systemd/journal"
            mount.bind_fd(source, target, recursive=True, read_only=read_only)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _hide(root_fd: int, path: str) -> None:
    """Lay an empty directory, or an empty file, that nobody can open over what is there."""
    try:
        target = paths.open_in_root(root_fd, path, os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return
    cover = mount.new_mount("tmpfs", {"mode": "0000"})
    try:
        if stat.S_ISDIR(os.fstat(target).st_mode):
            mount.mount_setattr(cover, set=mount.MOUNT_ATTR_RDONLY)
            mount.move_mount(cover, target)
        else:
            os.close(os.open("empty", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0, dir_fd=cover))
            empty = os.open("empty", os.O_PATH | os.O_CLOEXEC, dir_fd=cover)
            try:
                mount.bind_fd(empty, target, recursive=False, read_only=True)
            finally:
                os.close(empty)
    finally:
        os.close(cover)
        os.close(target)
