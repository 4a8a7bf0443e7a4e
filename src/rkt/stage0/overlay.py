"""The root file systems of a pod as overlays: rendered image below, the pod's own layer above.

Mounts are made in the mount namespace of the caller and stay visible below the pod's directory until gc
takes them away: what runs in the pod is what an administrator can look at.

The optional features of overlayfs are switched off instead of left to the kernel's configuration:
``index`` and ``metacopy`` would make a layer unusable on another kernel or without its lower one,
``redirect_dir`` would make a renamed directory unreadable to ``export``, ``xino`` changes inode numbers
between hosts.  ``volatile`` is not used: a power cut would cost exit codes and what apps have written.

A pod with user IDs of its own gets an id-mapped mount of the image below (Linux 5.19): the files have the
owners of the image inside the pod, and on disk they stay as they are.  Only the pod's own layer
holds IDs of its range.
"""

from __future__ import annotations

import os
import stat

from rkt.errors import RktError
from rkt.linux import mount, paths
from rkt.pod import layout, status
from rkt.pod.pod import make_directories, make_directory
from rkt.stage0 import users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.pod.pod import Pod

OPTIONS = "index=off,metacopy=off,redirect_dir=off,xino=off"
_REFUSED = {0x61756673: "aufs", 0x2FC12FC1: "zfs", 0x794C7630: "overlayfs"}
# ext4, btrfs and tmpfs always have what a layer needs; xfs and others are asked.
_GOOD = frozenset((0xEF53, 0x9123683E, 0x01021994))


class Layer:
    """One overlay to be mounted: directories of the host, target relative to the pod's stage1."""

    __slots__ = ("lower", "target", "upper", "work")

    def __init__(self, target: str, *, lower: str, upper: str, work: str) -> None:
        self.target = target
        self.lower = lower
        self.upper = upper
        self.work = work

    def __str__(self) -> str:
        return f"overlay {self.lower} + {self.upper} at {self.target or '/'}"


def unusable(data_dir: str) -> str:
    """Why overlays cannot be used in ``data_dir``, empty when they can.

    On a file system that is not known to be good the kernel is asked for an overlay: whatever it lacks is
    known here and not in the middle of a start.  The data directory is created when missing;
    an OSError that it cannot be is raised.
    """
    make_directories(data_dir)
    if not _kernel_has_overlay():
        return "overlay is not supported by the kernel"
    fd = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        magic = paths.filesystem_type(fd)
    finally:
        os.close(fd)
    if magic in _REFUSED:
        return f"unsupported filesystem {_REFUSED[magic]}"
    return "" if magic in _GOOD else probe(data_dir)


def probe(data_dir: str) -> str:
    """Try an overlay in ``data_dir``; why it failed, empty when it did not."""
    directory = os.path.join(data_dir, "tmp", f"overlay-probe-{os.getpid()}")
    try:
        make_directory(os.path.dirname(directory), layout.DIRECTORY_MODE)
        os.mkdir(directory, 0o700)
        if not _has_types(directory):
            return "unsupported filesystem: missing d_type support"
        _try_overlay(directory)
    except OSError as error:
        from rkt.errors import describe

        return describe(error)
    finally:
        _remove_probe(directory)
    return ""


def _has_types(directory: str) -> bool:
    """Whether reading a directory tells the type of each entry (d_type); whiteouts need that.

    Where it does not, ``is_dir`` has to look at the entry, which is gone by then.
    """
    os.mkdir(f"{directory}/lower", 0o700)
    with os.scandir(directory) as entries:
        entry = next(entries)
    os.rmdir(f"{directory}/lower")
    return entry.is_dir(follow_symlinks=False)


def _try_overlay(directory: str) -> None:
    fds = []
    try:
        for name in ("lower", "upper", "work"):
            os.mkdir(f"{directory}/{name}", 0o700)
            fds.append(os.open(f"{directory}/{name}", os.O_PATH | os.O_CLOEXEC))
        os.close(_detached(fds[:1], upper=fds[1], work=fds[2]))
    finally:
        for fd in fds:
            os.close(fd)


def _remove_probe(directory: str) -> None:
    for name in ("work/work", "work", "upper", "lower", ""):
        try:
            os.rmdir(f"{directory}/{name}".rstrip("/"))
        except OSError:
            continue


def _kernel_has_overlay() -> bool:
    if _in_filesystems():
        return True
    from rkt.linux import process

    try:
        process.run(["modprobe", "overlay"], check=False, timeout=20)
    except (OSError, RktError):
        return False
    return _in_filesystems()


def _in_filesystems() -> bool:
    with open("/proc/filesystems", "rb") as file:
        return b"\toverlay\n" in file.read()


def _detached(lower: list[int], *, upper: int = -1, work: int = -1, attributes: int = 0) -> int:
    """An overlay of open directories, uppermost first, that no namespace ever sees: gone with its fd.

    An option of fsconfig(2) is at most 255 bytes: fds have short names.
    """
    options: dict[str, str | None] = {"lowerdir": ":".join(f"/proc/self/fd/{fd}" for fd in lower)}
    if upper >= 0:
        options["upperdir"] = f"/proc/self/fd/{upper}"
        options["workdir"] = f"/proc/self/fd/{work}"
    return mount.new_mount("overlay", options, attributes=attributes)


def stage1_layer(pod: Pod) -> Layer:
    """The overlay of the stage1; its directories are made as far as they are missing."""
    tree = status.stage1_tree(pod)
    if not tree:
        raise RktError(f"pod {pod.uuid} has no stage1 tree")
    return _layer(pod, tree, app="", target="")


def app_layer(pod: Pod, app: str) -> Layer:
    """The overlay of one app."""
    tree = pod.read_text(layout.app_tree(app))
    if not tree or "/" in tree:
        raise RktError(f"pod {pod.uuid} has no tree of the app {app}")
    return _layer(pod, tree, app=app, target=f"{layout.STAGE2}/{app}/rootfs")


def _layer(pod: Pod, tree: str, *, app: str, target: str) -> Layer:
    lower = os.path.join(pod.data_dir, "cas", "tree", tree, "rootfs")
    try:
        root = os.stat(lower)
    except FileNotFoundError as error:
        raise RktError(f'tree "{tree}" of pod {pod.uuid} is not in the store') from error
    base = f"{layout.OVERLAY}/{tree}"
    suffix = f"/{app}" if app else ""
    pod.make_directory(layout.OVERLAY)
    pod.make_directory(base, inherit=False)
    pod.make_directory(f"{base}/upper", 0o755, inherit=False)
    pod.make_directory(f"{base}/work", inherit=False)
    upper = os.path.join(pod.path, f"{base}/upper{suffix}")
    work = os.path.join(pod.path, f"{base}/work{suffix}")
    if app:
        pod.make_directory(f"{base}/upper{suffix}", 0o755, inherit=False)
        pod.make_directory(f"{base}/work{suffix}", inherit=False)
    # The merged root has mode and owner of the upper one: they must be the image's.
    shift = users.of(pod)
    first = 0 if shift is None else shift[0]
    os.chown(upper, root.st_uid + first, root.st_gid + first)
    os.chmod(upper, stat.S_IMODE(root.st_mode))
    if shift is not None:
        pod.make_directory(f"{base}/lower", inherit=False)
        lower = _map_owners(lower, os.path.join(pod.path, f"{base}/lower"), shift)
    return Layer(target, lower=lower, upper=upper, work=work)


def _map_owners(tree: str, target: str, shift: tuple[int, int]) -> str:
    """Mount a tree at ``target`` with its owners moved into a range of IDs; returns ``target``."""
    if os.path.ismount(target):
        return target
    namespace = users.open_namespace(shift)
    try:
        detached = mount.clone(tree, recursive=False)
        try:
            mount.mount_setattr(detached, set=mount.MOUNT_ATTR_RDONLY, userns_fd=namespace)
            mount.move_mount(detached, mount.AT_FDCWD, to_path=target)
        finally:
            os.close(detached)
    except OSError as error:
        raise RktError("the kernel cannot map owners of a root file system, try --no-overlay") from error
    finally:
        os.close(namespace)
    return target


def mount_stage1(pod: Pod) -> Layer | None:
    """Mount the stage1's overlay at ``stage1/rootfs``; None when something is mounted there already."""
    pod.make_directory(layout.STAGE1_ROOT, 0o755)
    target = os.path.join(pod.path, layout.STAGE1_ROOT)
    if os.path.ismount(target):
        return None
    layer = stage1_layer(pod)
    _mount(layer, target)
    return layer


def mount_app(pod: Pod, app: str, stage1_fd: int) -> Layer:
    """Mount an app's overlay inside the stage1's root, which ``stage1_fd`` is."""
    layer = app_layer(pod, app)
    fd = app_directory(stage1_fd, app, users.owner(users.of(pod)))
    try:
        # The target is the directory that was opened, whatever its name means by now.
        _mount(layer, f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return layer


def app_directory(stage1_fd: int, app: str, owner: tuple[int, int] | None) -> int:
    """Make ``opt/stage2/APP/rootfs`` in a stage1's root, owned by ``owner`` (default root); an fd of it.

    Only the pod's root may enter the directory of an app: its set-user-ID programs are no programs of
    the host.
    """
    steps = ((layout.STAGE2, 0o755), (f"{layout.STAGE2}/{app}", layout.DIRECTORY_MODE))
    for path, mode in steps:
        os.close(paths.make_directories(stage1_fd, path, mode, owner=owner))
    return paths.make_directories(stage1_fd, f"{layout.STAGE2}/{app}/rootfs", 0o755, owner=owner)


def _mount(layer: Layer, target: str) -> None:
    try:
        mount.mount_overlay(target, lower=[layer.lower], upper=layer.upper, work=layer.work, options=OPTIONS)
    except OSError as error:
        raise RktError(f"cannot mount {layer}") from error


def read_only_view(lower: str, upper: str) -> int:
    """A detached read-only overlay of an ended app's root: an fd, gone when it is closed.

    The writable layer becomes the uppermost read-only one, so it does not matter whether the pod's own
    mount is still there, here or in another mount namespace.
    """
    fds = []
    try:
        for path in (upper, lower):
            fds.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
        return _detached(fds, attributes=mount.MOUNT_ATTR_RDONLY)
    finally:
        for fd in fds:
            os.close(fd)
