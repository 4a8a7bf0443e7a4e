"""The step that runs a program of the image in the image; what it changes stays.

With dependencies the image's own files are the upper layer of an overlay over theirs, so that what the
program changes becomes part of the image, and nothing else does.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the module ``signal`` costs 4 ms for its enums
import os
import stat

from rkt.build.acbuild import changes, engines
from rkt.build.acbuild.engines import RESOLV_CONF, Command, Place
from rkt.errors import RktError, one_line
from rkt.linux import cgroup, devices, files, namespaces, paths, process
from rkt.stage1.fly import application
from rkt.stage1.fly import supervisor as supervision
from rkt.stage1.systemd.access import DEVICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.build.acbuild.context import Context
    from rkt.build.acbuild.engines import Engine
    from rkt.build.acbuild.sources import Sources

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FAILED = 1
_SIGKILL = 9


def run(
    context: Context,
    words: list[str],
    sources: Callable[[Context], Sources],
    *,
    engine: str = engines.NSPAWN,
    directory: str = "",
    notify: Callable[[str], object] = lambda _: None,
) -> int:
    """Run a command in the image; its exit code.  Raises RktError when it cannot be started."""
    if os.geteuid() != 0:
        raise RktError("the run subcommand must be run as root")
    if engine not in engines.ENGINES:
        raise RktError(f'no such engine "{engine}": there are {", ".join(engines.ENGINES)}')
    if not words or not words[0]:
        raise RktError("command to run not set")
    manifest = context.manifest
    lower = sources(context).render(manifest) if manifest.dependencies else ""
    variables = (
        {variable.name: variable.value for variable in manifest.app.environment} if manifest.app else {}
    )
    environment = {"HOME": "/root", **variables, "PATH": PATH}
    command = Command(list(words), environment, os.path.normpath(os.path.join("/", directory)))
    place = _place(context, lower)
    missing = _missing(context.rootfs, lower)
    resolv_conf = _resolv_conf(context.rootfs, lower)
    if resolv_conf == "link":
        notify(f"warning: {RESOLV_CONF} of the image is a link: names of hosts may not be known")
    place.resolv_conf = resolv_conf != "link" and os.path.isfile(RESOLV_CONF)
    try:
        with _DeviceGroup(context.path) as group:
            status = _supervise(engines.ENGINES[engine], place, command, group=group)
    finally:
        _tidy(context.rootfs, lower, missing, resolv_conf_is_ours=resolv_conf == "" and place.resolv_conf)
        if lower:
            for scratch in (place.root, place.work):
                files.remove_tree(scratch, missing_ok=True)
    return process.exit_code(status)


def _place(context: Context, lower: str) -> Place:
    if not lower:
        return Place(context.rootfs)
    target, work = (os.path.join(context.path, name) for name in ("target", "work"))
    for scratch in (target, work):
        files.remove_tree(scratch, missing_ok=True)
        os.mkdir(scratch, 0o755)
    return Place(target, lower=lower, upper=context.rootfs, work=work)


def _missing(upper: str, lower: str) -> list[str]:
    """The names in the root of the image that an engine may make."""
    return [
        name
        for name in (*engines.MOUNT_POINTS, *engines.LINKS)
        if not os.path.lexists(os.path.join(upper, name))
        and not (lower and os.path.lexists(os.path.join(lower, name)))
    ]


def _resolv_conf(upper: str, lower: str) -> str:
    """What the image has under that name: "" for nothing, "file" or "link"."""
    for root in filter(None, (upper, lower)):
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = paths.open_in_root(top, RESOLV_CONF, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            continue
        finally:
            os.close(top)
        found = os.fstat(fd)
        os.close(fd)
        if changes.is_removed(found):
            return ""
        return "link" if stat.S_ISLNK(found.st_mode) else "file"
    return ""


def _tidy(upper: str, lower: str, missing: list[str], *, resolv_conf_is_ours: bool) -> None:
    """Remove what was made to mount on and is still empty."""
    top = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if resolv_conf_is_ours:
            _remove_empty_file(top)
            if lower:
                _remove_unchanged(top, os.path.join(lower, "etc"))
        for name in missing:
            try:
                if name in engines.LINKS:
                    if os.readlink(name, dir_fd=top).startswith("usr/"):
                        os.unlink(name, dir_fd=top)
                else:
                    os.rmdir(name, dir_fd=top)
            except OSError:
                continue  # in use by now, or never made
    finally:
        os.close(top)


def _remove_unchanged(top: int, below: str) -> None:
    """Remove an empty directory of the upper layer that says nothing but what the one below says."""
    name = os.path.basename(below)
    try:
        one, other = os.stat(name, dir_fd=top, follow_symlinks=False), os.lstat(below)
        if (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid):
            os.rmdir(name, dir_fd=top)
    except OSError:
        pass  # not there, or in use


def _remove_empty_file(top: int) -> None:
    try:
        parent = paths.open_in_root(top, os.path.dirname(RESOLV_CONF), os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        name = os.path.basename(RESOLV_CONF)
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode) and found.st_size == 0:
            os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    finally:
        os.close(parent)


class _DeviceGroup:
    """A control group whose processes can open the devices of a container only; a context manager.

    It has the same name each time for a build, so that one left by a crash is used again and removed.
    """

    __slots__ = ("_hierarchy", "_path")

    def __init__(self, build: str) -> None:
        mounted = cgroup.hierarchies()
        usable = [one for one in mounted if "devices" in one.controllers]
        usable += [one for one in mounted if one.unified]
        if not usable:
            raise _no_devices()
        self._hierarchy = usable[0]
        own = cgroup.own()[self._hierarchy.controllers[0]]
        self._path = f"{own.rstrip('/')}/acbuild-{os.stat(build).st_ino}"

    def __enter__(self) -> _DeviceGroup:
        cgroup.create(self._path, mounted=[self._hierarchy])
        try:
            if not devices.restrict(self._path, DEVICES, mounted=[self._hierarchy]):
                raise _no_devices()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        cgroup.remove(self._path, mounted=[self._hierarchy])

    def enter(self) -> None:
        """Move this process into it."""
        cgroup.attach(self._path, 0, mounted=[self._hierarchy])


def _no_devices() -> RktError:
    return RktError(
        "unable to restrict the devices of the program",
        hint="neither the devices controller of cgroup version 1 nor BPF on version 2 is available",
    )


def _supervise(engine: Engine, place: Place, command: Command, *, group: _DeviceGroup) -> int:
    """Start the program, wait for it and end what it leaves behind; its wait status."""
    process.set_dumpable(False)
    process.set_child_subreaper()
    reader, writer = os.pipe2(os.O_CLOEXEC)
    mask = supervision.Mask()

    def become() -> None:
        _become(engine, place, command, report=writer, mask=mask, group=group)

    try:
        child = _fork_namespace(become, writer)
        os.close(writer)
        with open(reader, "rb", buffering=0) as report:
            fault = report.read()
        if fault:
            os.waitpid(child, 0)
            raise RktError(fault.decode("utf-8", "replace"))
        return supervision.wait(child)
    finally:
        supervision.end_remaining()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask.before)


def _fork(become: Callable[[], None]) -> int:
    """A child that ends with this process and becomes something else; its pid."""
    own = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            process.set_parent_death_signal(_SIGKILL)
            # The parent may have ended before; from a namespace of our own its number cannot be seen.
            if os.getppid() in (own, 0):
                become()
        finally:
            os._exit(_FAILED)
    return child


def _fork_namespace(become: Callable[[], None], report: int) -> int:
    """As ``_fork``, in a process namespace of its own: when its init, the child, ends, all in it do."""

    def init() -> None:
        program = _fork(become)
        os.close(report)
        application.seal_imports()
        os._exit(process.exit_code(supervision.wait(program)))

    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.unshare(namespaces.CLONE_NEWPID)
        try:
            return _fork(init)
        finally:
            namespaces.setns(own, namespaces.CLONE_NEWPID)
    finally:
        os.close(own)


def _become(
    engine: Engine,
    place: Place,
    command: Command,
    *,
    report: int,
    mask: supervision.Mask,
    group: _DeviceGroup,
) -> None:
    """The child: returns only when it could not become the program.

    The fault goes through the pipe, which execve(2) closes.
    """

    def ready() -> None:
        application.seal_imports()
        mask.restore()

    try:
        os.closerange(3, report)
        os.closerange(report + 1, 1 << 30)
        group.enter()
        engine(place, command, ready)
    except (RktError, OSError) as error:
        os.write(report, one_line(error).encode("utf-8", "replace"))
    except BaseException as error:
        os.write(report, f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
