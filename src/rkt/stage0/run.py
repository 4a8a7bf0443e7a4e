"""Run: the root file systems of a prepared pod, its DNS files, then this process becomes the stage1.

Nothing runs before the stage1 does, and rkt does not stay: ``execute`` only returns by an exception.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import paths
from rkt.pod import layout, status
from rkt.stage0 import dns, users
from rkt.stage0.interface import EXTENSIONS, Stage1, check_strict, run_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rkt.pod.pod import Pod
    from rkt.stage0 import overlay
    from rkt.stage0.records import RunRequest

_IGNORED_BY_PYTHON = (13, 25)  # SIGPIPE, SIGXFSZ; the module ``signal`` costs 4 ms
_MTAB_TARGET = "../proc/self/mounts"


class Start:
    """Everything that is needed to become the pod: made by ``set_up``, used by ``execute``."""

    __slots__ = ("argv", "directory", "environment", "lock_fd")

    def __init__(self, argv: list[str], *, environment: dict[str, str], directory: str, lock_fd: int) -> None:
        self.argv = argv
        self.environment = environment
        self.directory = directory
        self.lock_fd = lock_fd


def set_up(
    pod: Pod, request: RunRequest, environment: Mapping[str, str], notify: Callable[[str], None]
) -> Start:
    """Mount what the pod is made of, write the DNS files, register it; the pod is locked and in ``run``.

    On an error the mounts are taken away again.  RktError says what failed.
    """
    try:
        return _set_up(pod, request, environment, notify)
    except BaseException as error:
        undo(pod)
        if isinstance(error, OSError):
            raise RktError("error setting up the pod") from error
        raise


def _set_up(
    pod: Pod, request: RunRequest, environment: Mapping[str, str], notify: Callable[[str], None]
) -> Start:
    stage1 = Stage1(pod)
    strict = request.strict_isolators or pod.exists(layout.STRICT_ISOLATORS)
    if strict:
        check_strict(stage1.annotations.get(EXTENSIONS, ""))
    apps = [str(app.get("name", "")) for app in status.apps(pod)]
    if pod.uses_overlay:
        from rkt.stage0 import overlay

        layer = overlay.mount_stage1(pod)
        if request.debug and layer is not None:
            notify(f"mounted {layer}")
    root = os.open(os.path.join(pod.path, layout.STAGE1_ROOT), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        owner = users.owner(users.of(pod))
        _make_status_directory(root, owner)
        for app in apps:
            layer = _set_up_app(pod, app, root, owner)
            if request.debug and layer is not None:
                notify(f"mounted {layer}")
        dns.write(request.dns, root, owner)
    finally:
        os.close(root)
    token = ""
    if request.metadata:
        from rkt.stage0 import metadata

        token = metadata.register(pod, apps)
    flags = run_arguments(
        stage1, request, private_users=pod.read_text(layout.PRIVATE_USERS), token=token, notify=notify
    )
    program = stage1.program("run")
    if request.debug:
        from rkt.linux.process import quote

        notify(f"executing {quote([program, *flags])}")
    given = {
        **environment,
        "RKT_LOCK_FD": str(pod.fd),
        "RKT_SELINUX_CONTEXT": "",
        "RKT_SELINUX_MOUNT_CONTEXT": "",
    }
    for name, value in (
        ("RKT_SYSTEM_CONFIG", request.system_config),
        ("RKT_USER_CONFIG", request.user_config),
        ("RKT_DISCARD_ON_FAILURE", "1" if request.fresh else ""),
        ("RKT_STRICT_ISOLATORS", "1" if strict else ""),
    ):
        given.pop(name, None)
        if value:
            given[name] = value
    return Start([program, *flags], environment=given, directory=pod.path, lock_fd=pod.fd)


def _make_status_directory(root: int, owner: tuple[int, int] | None) -> None:
    """``rkt/status`` for exit codes; touched, so that it is in the pod's own layer from the beginning.

    The command line reads it there, mounted or not.
    """
    fd = paths.make_directories(root, layout.STATUS, owner=owner)
    try:
        os.utime(fd)
    finally:
        os.close(fd)


def _set_up_app(pod: Pod, app: str, stage1_root: int, owner: tuple[int, int] | None) -> overlay.Layer | None:
    """Mount an app's root and complete it; the overlay that was mounted, None for a copy."""
    layer = None
    if pod.uses_overlay:
        from rkt.stage0 import overlay

        layer = overlay.mount_app(pod, app, stage1_root)
        path = f"{layout.STAGE2}/{app}/manifest"
        dns.write_file(stage1_root, path, pod.read(layout.app_manifest(app)), owner)
    directory = f"{layout.STAGE2}/{app}/rootfs"
    root = paths.open_in_root(stage1_root, directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _link_mtab(root, owner)
    finally:
        os.close(root)
    return layer


def _link_mtab(app_root: int, owner: tuple[int, int] | None) -> None:
    """``/etc/mtab`` for programs that know nothing else, if the image has ``/etc`` but no such file."""
    try:
        etc = paths.open_in_root(app_root, "etc", os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise RktError("cannot open /etc of an app") from error
    try:
        os.symlink(_MTAB_TARGET, "mtab", dir_fd=etc)
        if owner is not None:
            os.chown("mtab", *owner, dir_fd=etc, follow_symlinks=False)
    except FileExistsError:
        pass
    finally:
        os.close(etc)


def undo(pod: Pod) -> None:
    """Take away what ``set_up`` has mounted and registered."""
    from rkt.linux.mountinfo import unmount_below

    unmount_below(pod.path)
    if pod.exists(layout.METADATA_REGISTERED):
        from rkt.stage0 import metadata

        metadata.unregister(pod)


def execute(start: Start) -> None:
    """Become the stage1; raises RktError when that is impossible.

    Of this process's fds the stage1 gets the standard ones, what was inherited (sockets of systemd), and
    the pod's lock if it is to hold it.
    """
    import _signal  # type: ignore[import-not-found]

    try:
        os.chdir(start.directory)
        if start.lock_fd >= 0:
            os.set_inheritable(start.lock_fd, True)
        if "LISTEN_FDS" in start.environment:
            keep_sockets(start.environment, inheritable=True)
        for number in _IGNORED_BY_PYTHON:
            _signal.signal(number, _signal.SIG_DFL)
        os.execve(start.argv[0], start.argv, start.environment)
    except OSError as error:
        if start.lock_fd >= 0:
            os.set_inheritable(start.lock_fd, False)
        raise RktError("error executing stage1 entrypoint") from error


def keep_sockets(environment: Mapping[str, str], *, inheritable: bool) -> None:
    """Let the stage1, or no program, have the sockets that systemd has passed."""
    from rkt.linux import listening

    listening.set_inheritable(listening.descriptors(environment), inheritable)


def save_uuid(path: str, uuid: str) -> None:
    """Write ``--uuid-file-save``: 36 characters, no newline; never half of it."""
    from rkt.linux.files import write_atomic

    try:
        write_atomic(os.path.abspath(path), uuid)
    except OSError as error:
        raise RktError("error saving pod UUID to file") from error
