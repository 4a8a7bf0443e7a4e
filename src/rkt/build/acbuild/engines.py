"""How a program of an image is confined while it runs for a build.

Whatever the engine, it is root in mount and process namespaces of its own with the image as its root, holds
the capabilities that appc gives an app by default, and can open no device but those of every container; the
network is the host's.  ``systemd-nspawn`` also gives it IPC and host name namespaces.  ``chroot`` needs no
other program: it confines as rkt's stage1 "fly" does, by capabilities and system call filters.

The functions here run in the child that becomes the program and do not return.
"""

from __future__ import annotations

import os

from rkt.appc.app import App
from rkt.appc.isolators import DEFAULT_CAPABILITIES
from rkt.errors import RktError
from rkt.linux import mount, paths, seccomp
from rkt.stage1.common import executable
from rkt.stage1.common.relaxed import Relaxed
from rkt.stage1.fly import application, confinement
from rkt.stage1.fly import root as roots
from rkt.stage1.systemd import prepare, supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NSPAWN = "systemd-nspawn"
CHROOT = "chroot"
RESOLV_CONF = "/etc/resolv.conf"
MOUNT_POINTS = ("dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var")
"""Directories an engine needs in the root of an image, or makes there."""

LINKS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
"""Links to directories of /usr that systemd-nspawn makes where there is nothing of that name."""

_OVERLAY_OPTIONS = "redirect_dir=off,metacopy=off,index=off"
_EPERM = 1


if TYPE_CHECKING:
    Engine = Callable[["Place", "Command", Callable[[], None]], None]


class Place:
    """Where a program runs: ``root`` is the directory that becomes its root.

    With a ``lower`` directory that is an overlay of ``upper`` over it, mounted at ``root``.  ``resolv_conf``:
    the host's file is shown to the program.
    """

    __slots__ = ("lower", "resolv_conf", "root", "upper", "work")

    def __init__(self, root: str, *, lower: str = "", upper: str = "", work: str = "") -> None:
        self.root = root
        self.lower = lower
        self.upper = upper
        self.work = work
        self.resolv_conf = False


class Command:
    """What is run: its words, its whole environment and its working directory."""

    __slots__ = ("directory", "environment", "words")

    def __init__(self, words: list[str], environment: dict[str, str], directory: str) -> None:
        self.words = words
        self.environment = environment
        self.directory = directory


def _enter_place(place: Place) -> None:
    """Mount the overlay, if there is one, where only this process sees it, and make what is missing.

    /proc is that of the process namespace we are in: systemd-nspawn finds its children there.
    """
    prepare.enter_mount_namespace()
    mount.mount("proc", "/proc", "proc", mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC)
    if place.lower:
        try:
            mount.mount_overlay(
                place.root,
                lower=[place.lower],
                upper=place.upper,
                work=place.work,
                options=_OVERLAY_OPTIONS,
            )
        except OSError as error:
            raise RktError(
                "overlayfs support is required for using run with dependencies",
                hint="the build has to lie on a file system that can be the upper one of an overlay",
            ) from error
    fd = os.open(place.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in MOUNT_POINTS:
            try:
                os.mkdir(name, 0o755, dir_fd=fd)
            except FileExistsError:
                continue
        if place.resolv_conf:
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            os.close(paths.open_in_root(fd, RESOLV_CONF, flags, 0o644))
    finally:
        os.close(fd)


def chroot(place: Place, command: Command, ready: Callable[[], None]) -> None:
    """``ready`` is called when nothing more can be imported from the image by mistake."""
    plan = roots.RootPlan(place.root, [], read_only=False, protect=True)
    plan.tmp = False  # what a step puts there is for the next one
    if place.resolv_conf:
        plan.files.append((RESOLV_CONF, RESOLV_CONF, True))
    relaxed = Relaxed(capabilities=False, paths=False, seccomp=False)
    confined = confinement.of_section(App(user="0", group="0"), 0, relaxed)
    app = application.Application(command.words, command.environment, confined)
    app.working_directory = command.directory
    _enter_place(place)
    ready()
    root = roots.enter_new_root(plan)
    app.execute(root)


def nspawn(place: Place, command: Command, ready: Callable[[], None]) -> None:
    """Become systemd-nspawn."""
    program = supervisor.program()
    _enter_place(place)
    prepare.give_nspawn_tmpfs()
    fd = os.open(place.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = executable.find(
            fd,
            command.words[0],
            search_path=command.environment["PATH"],
            working_directory=command.directory,
        )
        reason = executable.obstacle(fd, found)
        try:
            os.close(paths.open_in_root(fd, command.directory, os.O_PATH | os.O_DIRECTORY))
        except OSError as error:
            raise RktError(f'unable to use the working directory "{command.directory}"') from error
    finally:
        os.close(fd)
    if reason:
        raise RktError(reason)
    argv = [program, *nspawn_options(place, command), "--", found, *command.words[1:]]
    # Where a stream is the caller's terminal, nothing may be typed into it (CVE-2017-5226).
    no_typing = _no_typing()
    ready()
    seccomp.load(no_typing)
    os.execve(program, argv, _NSPAWN_ENVIRONMENT)


# A volatile /tmp would lose what a step puts there for the next one.
_NSPAWN_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SYSTEMD_LOG_LEVEL": "err",
    "SYSTEMD_NSPAWN_TMPFS_TMP": "0",
}


def nspawn_options(place: Place, command: Command) -> list[str]:
    interactive = os.isatty(0) and os.isatty(1)
    options = [
        "--quiet",
        "--settings=no",
        "--register=no",
        "--keep-unit",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--as-pid2",
        # Our number is 2 in every process namespace: the name has to differ on this host.
        f"--machine=acbuild-{os.urandom(6).hex()}",
        f"--directory={place.root}",
        f"--chdir={command.directory}",
        f"--console={'interactive' if interactive else 'pipe'}",
        *supervisor.capability_options(frozenset(DEFAULT_CAPABILITIES)),
        *(f"--setenv={name}={value}" for name, value in command.environment.items()),
    ]
    if place.resolv_conf:
        options.append(f"--bind-ro={os.path.realpath(RESOLV_CONF)}:{RESOLV_CONF}")
    return options


def _no_typing() -> bytes:
    requests = (confinement.TIOCSTI, confinement.TIOCLINUX)
    conditions = [[seccomp.Comparison(1, "&", request, 0xFFFFFFFF)] for request in requests]
    return seccomp.compile_filter(
        ["ioctl"], allow=False, action=seccomp.refuse(_EPERM), conditions={"ioctl": conditions}
    )


ENGINES = {NSPAWN: nspawn, CHROOT: chroot}
