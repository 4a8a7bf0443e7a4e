"""The volumes of a pod and where its apps see them: first a plan, then mounts made by fd.

``plan`` matches the mounts of the pod manifest and the mount points of the images to volumes (appc
specification, "volumes"; facts of rkt 1.30).  ``Mounter`` carries the plan out inside the caller's own
mount namespace: the source is opened without following a link, the target by openat2(2) in
the app's root directory, and a mount is complete, read-only included, before it appears.
"""

from __future__ import annotations

import itertools
import os
import stat

from rkt.errors import RktError
from rkt.linux import files, mount, paths
from rkt.stage1.common.ids import IdRange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.appc.volume import Volume
    from rkt.stage1.common.pod import App, Pod

_MODE = 0o755
_CONTAINER_IMAGE = "appc.io/docker/"


class PlannedMount:
    """One mount of one app.

    ``source`` is a path of the host, ``target`` a path of the app, both absolute; ``volume`` the
    volume's name; ``empty`` says that the source is a directory of the pod, to be made with
    ``mode``, ``uid``, ``gid`` when missing; with ``filled`` it gets what the image has at ``target``.
    """

    __slots__ = (
        "app",
        "empty",
        "filled",
        "gid",
        "implicit",
        "mode",
        "read_only",
        "recursive",
        "source",
        "target",
        "uid",
        "volume",
    )

    def __init__(
        self, app: str, volume: str, target: str, *, source: str, read_only: bool, recursive: bool
    ) -> None:
        self.app, self.volume, self.target = app, volume, target
        self.source, self.read_only, self.recursive = source, read_only, recursive
        self.empty = self.implicit = self.filled = False
        self.mode, self.uid, self.gid = _MODE, 0, 0

    def describe(self) -> str:
        """One line for ``--debug``."""
        options = ",".join(
            word
            for word, given in (
                ("ro", self.read_only),
                ("rw", not self.read_only),
                ("recursive", self.recursive),
                ("implicit", self.implicit),
            )
            if given
        )
        return f'mount volume "{self.volume}" {self.source} on {self.target} of app "{self.app}" ({options})'


def plan(pod: Pod, *, recursive: bool = True, implicit: bool = True) -> list[PlannedMount]:
    """Every mount of the pod, those nearer to an app's root first.

    ``recursive`` is what a host volume is when it does not say; ``implicit`` gives mount points
    without a volume an empty one of their own, else that is an RktError.
    """
    volumes = {volume.name: volume for volume in pod.manifest.volumes}
    planned: list[PlannedMount] = []
    for app in pod.apps:
        mounts = _plan_app(pod, app, volumes, recursive=recursive, implicit=implicit)
        mounts.sort(key=lambda entry: (entry.target.count("/"), entry.target))
        for one, other in itertools.pairwise(mounts):
            if one.target == other.target:
                raise RktError(f'app "{app.name}": two volumes are mounted on {one.target}')
        planned.extend(mounts)
    return planned


def _plan_app(
    pod: Pod, app: App, volumes: dict[str, Volume], *, recursive: bool, implicit: bool
) -> list[PlannedMount]:
    points = {clean(point.path): point for point in app.app.mount_points}
    planned: list[PlannedMount] = []
    for entry in app.runtime.mounts:
        target = _target(app, entry.path)
        volume = entry.app_volume if entry.app_volume is not None else volumes.get(entry.volume)
        if volume is None:
            raise RktError(f'app "{app.name}": no volume "{entry.volume}" for the mount on {target}')
        point = points.get(target)
        read_only = point is not None and point.read_only
        planned.append(_planned(pod, app, volume, target, read_only=read_only, recursive=recursive))
    served = {entry.target for entry in planned}
    for path, point in points.items():
        if path in served:
            continue
        target = _target(app, point.path)
        volume = volumes.get(point.name)
        if volume is not None:
            read_only = point.read_only
            planned.append(_planned(pod, app, volume, target, read_only=read_only, recursive=recursive))
        elif implicit:
            planned.append(_implicit(pod, app, point.name, target, read_only=point.read_only))
        else:
            raise RktError(f'app "{app.name}": missing volume for mountpoint "{point.name}"')
    return planned


def _target(app: App, path: str) -> str:
    target = clean(path)
    if not path.startswith("/") or target == "/":
        raise RktError(f'app "{app.name}": "{path}" is no path to mount a volume on')
    return target


def clean(path: str) -> str:
    """A path without doubled slashes, ``.`` and ``..``, as Go's path.Clean gives it."""
    return os.path.normpath(path).replace("//", "/") if path else "."


def _planned(
    pod: Pod, app: App, volume: Volume, target: str, *, read_only: bool, recursive: bool
) -> PlannedMount:
    """The volume's own readOnly decides when it is set, the mount point's otherwise."""
    if volume.read_only is not None:
        read_only = volume.read_only
    empty = volume.kind == "empty"
    source = _shared(pod.directory, volume.name) if empty else volume.source or ""
    if volume.recursive is not None:
        recursive = volume.recursive
    planned = PlannedMount(
        app.name, volume.name, target, source=source, read_only=read_only, recursive=recursive
    )
    if empty:
        planned.empty = True
        planned.mode, planned.uid, planned.gid = _empty_owner(volume)
    return planned


def _empty_owner(volume: Volume) -> tuple[int, int, int]:
    text = str(volume.mode) if volume.mode is not None else "0755"
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise RktError(f'volume "{volume.name}": "{text}" is no file mode')
    uid, gid = volume.uid or 0, volume.gid or 0
    if not (0 <= uid < 0xFFFFFFFF and 0 <= gid < 0xFFFFFFFF):
        raise RktError(f'volume "{volume.name}": owner {uid}:{gid} is outside the range of ids')
    return mode, uid, gid


def _implicit(pod: Pod, app: App, point: str, target: str, *, read_only: bool) -> PlannedMount:
    name = f"{app.name}-{point}"
    source = _shared(pod.directory, name)
    planned = PlannedMount(app.name, name, target, source=source, read_only=read_only, recursive=False)
    planned.empty = planned.implicit = True
    # A volume of a container image begins with the image's own content (Docker's VOLUME).
    planned.filled = any(note.name.startswith(_CONTAINER_IMAGE) for note in app.image.annotations)
    return planned


def _shared(directory: str, name: str) -> str:
    """Where the pod keeps an empty volume; the name comes from a manifest and must stay one component."""
    if not name or "/" in name or name in (".", "..") or "\0" in name:
        raise RktError(f'"{name}" is no name of a volume')
    return os.path.join(directory, "sharedVolumes", name)


class Mounter:
    """Opens the sources of a plan and mounts them over targets in the apps' root directories."""

    __slots__ = ("ids", "notify", "refuses")

    def __init__(
        self,
        notify: Callable[[str], object],
        ids: IdRange | None = None,
        refuses: Callable[[int, int], bool] | None = None,
    ) -> None:
        """``refuses`` is asked of an app's root and each mount point opened in it."""
        self.notify, self.refuses = notify, refuses
        self.ids = IdRange() if ids is None else ids

    def carry_out(self, planned: list[PlannedMount], roots: dict[str, int]) -> None:
        """Make every mount; ``roots`` has an fd of each app's root directory.

        RktError names volume, app and path.  The caller has unshared its mount namespace: what was
        mounted before an error goes with it.
        """
        with self.ids:
            for entry in planned:
                if entry.implicit:
                    self.notify(
                        f'warning: no volume specified for mount point "{entry.target}" of app '
                        f'"{entry.app}", implicitly creating an empty volume that is removed with the pod'
                    )
                made = entry.filled and not os.path.lexists(entry.source)
                source = open_source(entry, self.ids)
                try:
                    if made:
                        fill(source, roots[entry.app], entry)
                    bind(source, roots[entry.app], entry, self)
                finally:
                    os.close(source)

    def clone(self, source: int, entry: PlannedMount) -> int:
        """A detached copy of the source, as the pod is to see it.

        A volume of the host has the host's owners inside too; one of the pod's own belongs to its IDs.
        """
        read_only = mount.MOUNT_ATTR_RDONLY if entry.read_only else 0
        detached = mount.clone(source, recursive=entry.recursive, set=read_only)
        try:
            if self.ids.private and not entry.empty and not self.ids.map_owners(detached):
                self.notify(
                    f'warning: volume "{entry.volume}": the file system of {entry.source}, or one below it, '
                    "cannot be mounted with the owners of the host, its files belong to nobody in the pod"
                )
        except BaseException:
            os.close(detached)
            raise
        return detached


def open_source(entry: PlannedMount, ids: IdRange | None = None) -> int:
    """An O_PATH fd of the volume's source; an empty volume is made first when missing."""
    if entry.empty:
        known = IdRange() if ids is None else ids
        what = f'owner {entry.uid}:{entry.gid} of volume "{entry.volume}"'
        owner = known.outside(entry.uid, what), known.outside(entry.gid, what)
        files.make_directory(os.path.dirname(entry.source))
        files.make_directory(entry.source, entry.mode, owner=owner)
    try:
        return paths.open_no_links(entry.source, os.O_PATH)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise RktError(f'source of volume "{entry.volume}" does not exist') from error
        raise RktError(
            f'unable to use the source of volume "{entry.volume}"',
            hint="the source of a volume must not be, or lie behind, a symbolic link",
        ) from error


def fill(volume: int, root_fd: int, entry: PlannedMount) -> None:
    """Copy what the image has at the mount point into the new volume; nothing when it has no directory."""
    from rkt.linux import copying

    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    # Without what is mounted on the root already: /dev, /sys, other volumes.
    image = mount.clone(root_fd, recursive=False)
    try:
        source = paths.open_in_root(image, entry.target, flags)
        try:
            target = os.open(".", flags, dir_fd=volume)
            try:
                copying.copy_content(source, target)
            finally:
                os.close(target)
        finally:
            os.close(source)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        where = f'{entry.target} of app "{entry.app}"'
        raise RktError(f'unable to copy {where} into volume "{entry.volume}"') from error
    finally:
        os.close(image)


def bind(source: int, root_fd: int, entry: PlannedMount, mounter: Mounter) -> None:
    """Mount an opened source on the entry's target, which is made when missing."""
    is_directory = stat.S_ISDIR(os.fstat(source).st_mode)
    where = f'{entry.target} of app "{entry.app}"'
    try:
        target = open_target(root_fd, entry.target, directory=is_directory, owner=mounter.ids.root)
    except OSError as error:
        raise RktError(f'unable to make the mount point {where} for volume "{entry.volume}"') from error
    try:
        if stat.S_ISDIR(os.fstat(target).st_mode) != is_directory:
            kinds = ("directory", "file") if is_directory else ("file", "directory")
            raise RktError(f'volume "{entry.volume}" is a {kinds[0]}, but {where} is a {kinds[1]}')
        if mounter.refuses is not None and mounter.refuses(root_fd, target):
            raise RktError(f'volume "{entry.volume}" cannot be mounted on {where}')
        detached = mounter.clone(source, entry)
        try:
            mount.move_mount(detached, target)
        finally:
            os.close(detached)
    except OSError as error:
        raise RktError(f'unable to mount volume "{entry.volume}" on {where}') from error
    finally:
        os.close(target)


def open_target(root_fd: int, path: str, *, directory: bool, owner: tuple[int, int] = (0, 0)) -> int:
    """An O_PATH fd of a mount point inside a root; missing directories are made 0755 for ``owner``.

    Links are followed inside the root only, and never those of procfs; where one leads to is made, too.  A
    missing file is made empty.
    """
    try:
        return paths.open_in_root(root_fd, path, os.O_PATH)
    except FileNotFoundError:
        path = paths.without_links(root_fd, path)
    if directory:
        return paths.make_directories(root_fd, path, _MODE, owner=owner)
    parent_path, name = os.path.split(path)
    parent = paths.make_directories(root_fd, parent_path, _MODE, owner=owner)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o644, dir_fd=parent)
        if owner != (0, 0):
            os.fchown(fd, *owner)
    finally:
        os.close(parent)
    return fd
