"""The app's root: what is mounted where, and moving into it.

Everything is done in a mount namespace of our own, by fds: the image decides what its paths mean, so
targets are looked up inside the root and nothing is created where the host's /dev, /proc or /sys are
mounted already.
"""

from __future__ import annotations

import errno
import os
import stat

from rkt.errors import RktError
from rkt.linux import mount, namespaces, paths
from rkt.stage1.common import confinement, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.common.mounts import PlannedMount

HOST_DIRECTORIES = ("/dev", "/proc", "/sys")

_HOSTS = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


class RootPlan:
    """What to mount.

    ``path`` is the app's root on the host, ``volumes`` its mounts, ``files`` pairs of a host file and
    the target it is bound on (resolv.conf, hosts) with whether it is read-only, ``hosts_stub`` asks for
    an /etc/hosts if the image has none, ``protect`` for the path protection, ``read_only`` for a
    read-only root, ``tmp`` for a /tmp of its own.
    """

    __slots__ = ("files", "hosts_stub", "path", "protect", "read_only", "tmp", "volumes")

    def __init__(self, path: str, volumes: list[PlannedMount], *, read_only: bool, protect: bool) -> None:
        self.path = path
        self.volumes = volumes
        self.read_only = read_only
        self.protect = protect
        self.files: list[tuple[str, str, bool]] = []
        self.hosts_stub = False
        self.tmp = True

    def describe(self) -> list[str]:
        """One line a step, for ``--debug``."""
        lines = [f"root {self.path} ({'ro' if self.read_only else 'rw'})"]
        if self.tmp:
            lines.append("mount tmpfs on /tmp")
        lines += [entry.describe() for entry in self.volumes]
        lines += [f"bind {path} (recursive)" for path in HOST_DIRECTORIES]
        lines += [
            f"bind {source} on {target}{' (ro)' if read_only else ''}"
            for source, target, read_only in self.files
        ]
        if self.protect:
            lines.append("protect paths of /proc and /sys")
        return lines


def enter_new_root(plan: RootPlan) -> int:
    """Build the root in a new mount namespace and make it this process's; returns an fd of it.

    Order matters.  Volumes come before the host's directories, so that a mount point of the image that
    leads into /dev is made in the image's own /dev; only volumes meant for a place below one of these
    come after, on what the host has there.
    """
    namespaces.unshare(namespaces.CLONE_NEWNS)
    sources = _clone_volumes(plan.volumes)
    # From here on nothing mounted reaches the host; volumes are copies that still share with it, so
    # that an agent with the capability to mount can mount for the host, as under rkt.
    mount.set_propagation("/", mount.MS_SLAVE, recursive=True)
    # Copied after that: what protects /proc and /sys of the app must not cover the host's.
    host = {path: mount.clone(path, recursive=True) for path in HOST_DIRECTORIES}
    root = _attach_root(plan.path)
    try:
        if plan.hosts_stub:
            _write_hosts(root)
        if plan.tmp:
            _mount_tmp(root)
        late = [entry for entry in plan.volumes if _is_below_host_directory(entry.target)]
        for entry in plan.volumes:
            if entry not in late:
                _attach_volume(root, entry, sources[entry.target], create=True)
        for path, detached in host.items():
            _attach_host_directory(root, path, detached)
        for entry in late:
            _attach_volume(root, entry, sources[entry.target], create=False)
        for source, target, read_only in plan.files:
            _bind_file(root, source, target, read_only=read_only)
        if plan.protect:
            _protect(root, [entry.target for entry in late])
        if plan.read_only:
            mount.mount_setattr(root, set=mount.MOUNT_ATTR_RDONLY)
        _switch(root)
    finally:
        for fd in (*sources.values(), *host.values()):
            os.close(fd)
    return root


def _clone_volumes(volumes: list[PlannedMount]) -> dict[str, int]:
    """Detached copies of the volumes' sources by target, complete with their attributes."""
    sources: dict[str, int] = {}
    for entry in volumes:
        opened = mounts.open_source(entry)
        try:
            attributes = mount.MOUNT_ATTR_RDONLY if entry.read_only else 0
            sources[entry.target] = mount.clone(opened, recursive=entry.recursive, set=attributes)
        except OSError as exc:
            raise RktError(f'unable to use the source of volume "{entry.volume}"') from exc
        finally:
            os.close(opened)
    return sources


def _attach_root(path: str) -> int:
    """The app's root as a mount of its own (pivot_root asks for one): an fd of it."""
    try:
        root = mount.clone(path, recursive=False)
        mount.move_mount(root, mount.AT_FDCWD, to_path=path)
    except OSError as exc:
        raise RktError(f"unable to mount the app's root {path}") from exc
    return root


def _mount_tmp(root: int) -> None:
    try:
        target = mounts.open_target(root, "/tmp", directory=True)
        attributes = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV
        tmpfs = mount.new_mount("tmpfs", {"mode": "1777"}, attributes=attributes)
        try:
            mount.move_mount(tmpfs, target)
        finally:
            os.close(tmpfs)
            os.close(target)
    except OSError as exc:
        raise RktError("unable to mount /tmp of the app") from exc


def _is_below_host_directory(target: str) -> bool:
    return any(target == path or target.startswith(path + "/") for path in HOST_DIRECTORIES)


def _attach_volume(root: int, entry: PlannedMount, detached: int, *, create: bool) -> None:
    is_directory = stat.S_ISDIR(os.fstat(detached).st_mode)
    where = f'{entry.target} of app "{entry.app}"'
    try:
        if create:
            target = mounts.open_target(root, entry.target, directory=is_directory)
        else:
            target = paths.open_in_root(root, entry.target, os.O_PATH)
    except OSError as exc:
        raise RktError(f'unable to make the mount point {where} for volume "{entry.volume}"') from exc
    try:
        if stat.S_ISDIR(os.fstat(target).st_mode) != is_directory:
            kinds = ("directory", "file") if is_directory else ("file", "directory")
            raise RktError(f'volume "{entry.volume}" is a {kinds[0]}, but {where} is a {kinds[1]}')
        mount.move_mount(detached, target)
    except OSError as exc:
        raise RktError(f'unable to mount volume "{entry.volume}" on {where}') from exc
    finally:
        os.close(target)


def _attach_host_directory(root: int, path: str, detached: int) -> None:
    """The image's directory of this name must be one: through a link, /proc would be somewhere else."""
    try:
        try:
            os.mkdir(path[1:], 0o755, dir_fd=root)
        except FileExistsError:
            pass
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
        target = os.open(path[1:], flags, dir_fd=root)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENOTDIR):
            raise RktError(f"{path} of the image is not a directory") from exc
        raise RktError(f"unable to make {path} of the app") from exc
    try:
        mount.move_mount(detached, target)
    except OSError as exc:
        raise RktError(f"unable to mount the host's {path}") from exc
    finally:
        os.close(target)


def _bind_file(root: int, source: str, target: str, *, read_only: bool) -> None:
    """Bind a file of the host or of the pod over one of the app, which is made when missing."""
    try:
        try:
            fd = mounts.open_target(root, target, directory=False)
        except FileExistsError:  # a link to nowhere
            directory, name = os.path.split(target)
            parent = paths.open_in_root(root, directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.unlink(name, dir_fd=parent)
            finally:
                os.close(parent)
            fd = mounts.open_target(root, target, directory=False)
        try:
            mount.bind_fd(os.path.realpath(source), fd, recursive=False, read_only=read_only)
        finally:
            os.close(fd)
    except OSError as exc:
        raise RktError(f"unable to mount {source} on {target} of the app") from exc


def _write_hosts(root: int) -> None:
    """An /etc/hosts in an image that has none, not even a link."""
    try:
        directory = paths.make_directories(root, "/etc")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open("hosts", flags, 0o644, dir_fd=directory)
        except FileExistsError:
            return
        finally:
            os.close(directory)
        try:
            os.write(fd, _HOSTS)
        finally:
            os.close(fd)
    except OSError as exc:
        raise RktError("unable to make /etc/hosts of the app") from exc


def _protect(root: int, exempt: list[str]) -> None:
    """Protect the paths that exist and on which no volume was mounted on purpose."""
    for path in (*confinement.READ_ONLY_PATHS, *confinement.HIDDEN_PATHS):
        if any(target == path or target.startswith(path + "/") for target in exempt):
            continue
        try:
            fd = paths.open_in_root(root, path, os.O_PATH)
        except FileNotFoundError:
            continue
        try:
            if path in confinement.READ_ONLY_PATHS:
                mount.bind_fd(fd, fd, recursive=True, read_only=True)
            else:
                _hide(fd)
        except OSError as exc:
            raise RktError(f"unable to protect {path}") from exc
        finally:
            os.close(fd)


def _hide(target: int) -> None:
    if not stat.S_ISDIR(os.fstat(target).st_mode):
        mount.bind_fd("/dev/null", target, recursive=False, read_only=True)
        return
    attributes = (
        mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_NOEXEC
    )
    empty = mount.new_mount("tmpfs", {"mode": "0", "size": "4k"}, attributes=attributes)
    try:
        mount.move_mount(empty, target)
    finally:
        os.close(empty)


def _switch(root: int) -> None:
    """Make ``root`` the root of the namespace, with the host's tree unmounted, and of this process."""
    os.fchdir(root)
    try:
        mount.pivot_root(".", ".")
        mount.umount(".", mount.MNT_DETACH)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise RktError("unable to change the root") from exc
        # The root of an initramfs cannot be moved away: cover it.
        mount.mount(".", "/", None, mount.MS_MOVE)
        os.chroot(".")
    os.chdir("/")
