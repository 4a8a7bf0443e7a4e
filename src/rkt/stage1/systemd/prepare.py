"""Carries a plan out: mounts, devices and files, all in stage1's root and the apps' roots.

Runs in a mount namespace of its own.  What lies in an app's root came with an image: it is only touched by
fds below that root (``rkt.linux.paths``), so a link there leads nowhere else.
"""

from __future__ import annotations

import os
import stat

from rkt.errors import RktError
from rkt.linux import files, mount, namespaces, paths
from rkt.linux.failure import named
from rkt.stage1.common import confinement, environment, executable, mounts, streams
from rkt.stage1.common.users import Identity
from rkt.stage1.systemd import covered, units
from rkt.stage1.systemd.plan import of_app

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.stage1.common.ids import IdRange
    from rkt.stage1.common.pod import Pod
    from rkt.stage1.systemd.plan import AppPlan, Plan

_NSPAWN_RUN = "/run/systemd/nspawn"
SHUTDOWN = "/usr/lib/systemd/systemd-shutdown"
# The number of group "tty" in systemd-nspawn, and nearly everywhere else.
_TTY_GROUP = 5
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
# Streams that are logged are sockets of the journal, which open(2) refuses; a program that opens /dev/stderr
# as its log file (nginx, the images of Docker Hub) gets the console, as under rkt 1.30.
_STREAM_LINKS = ("stdout", "stderr")
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
    ("log", "/run/systemd/journal/dev-log"),
)


def enter_mount_namespace() -> None:
    """A mount namespace that sees what the host mounts later, and shows the host nothing."""
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mount.set_propagation("/", mount.MS_SLAVE, recursive=True)


def stage1_root(plan: Plan) -> None:
    """stage1's own root: identity, users, environments."""
    pod, owner = plan.pod, plan.ids.root
    root = pod.stage1_root
    give_nspawn_tmpfs()
    if not plan.flags.private_users:
        _prepare_run(root)
    _write(root, "etc/machine-id", pod.machine_id + "\n", 0o444, owner=owner)
    _write(root, "etc/hostname", plan.hostname + "\n", owner=owner)
    _hide_time_zone(root, owner)
    passwd, group = user_files(plan)
    _write(root, "etc/passwd", passwd, owner=owner)
    _write(root, "etc/group", group, owner=owner)
    for entry in plan.apps:
        variables = environment.encode(entry.environment)
        _write(root, f"rkt/env/{entry.app.name}", variables, owner=owner)
        # app-exit writes here, without needing more room, what it has no room for elsewhere.
        _write(root, f"rkt/reserve/{entry.app.name}", "\n", owner=owner)


def unit_files(plan: Plan) -> None:
    """The units of the pod, once the programs of all apps have been found."""
    for name, text in plan.unit_files().items():
        _write(plan.pod.stage1_root, f"{units.DIRECTORY}/{name}", text, owner=plan.ids.root)


def bind_programs(root: str) -> None:
    """systemd, journald and the few programs of the units are the host's; process 1 ends by a script of ours.

    Bound here, and not by systemd-nspawn, which reads the whole mount table several times for every bind.
    What covers ``/usr`` covers the code of this process, too: nothing can be imported afterwards.
    """
    fd = os.open(os.path.join(root, "usr"), _OPEN_DIRECTORY)
    try:
        mount.bind_fd("/usr", fd, recursive=True, read_only=True)
    finally:
        os.close(fd)
    shutdown = os.path.join(root, SHUTDOWN.lstrip("/"))
    fd = os.open(shutdown, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mount.bind_fd(os.path.join(root, "rkt/shutdown"), fd, recursive=False, read_only=True)
    finally:
        os.close(fd)


def give_nspawn_tmpfs() -> None:
    """In our mount namespace nspawn's files lie on a tmpfs, as on a host booted by systemd."""
    if not _is_tmpfs("/run"):
        # nspawn removes them with a function that refuses disk file systems, and says so.
        files.make_directory(_NSPAWN_RUN, parents=True)
        mount.mount("tmpfs", _NSPAWN_RUN, "tmpfs", mount.MS_NOSUID | mount.MS_NODEV, "mode=0755")


def _prepare_run(root: str) -> None:
    """The pod's /run, as systemd-nspawn would make it, and in it what only the owner of /run can say.

    Two links lead nowhere: systemd looks there, by inotify(7), for passwords to be asked and for mounts of
    mount(8), and each time it closes such a descriptor it waits for the kernel, some 15 ms.  Neither exists
    in a pod.  What systemd-nspawn lays over files that are to be hidden is there before it looks for it:
    version 252 itself makes it elsewhere, and hides nothing.
    """
    path = os.path.join(root, "run")
    mount.mount(
        "tmpfs",
        path,
        "tmpfs",
        mount.MS_NOSUID | mount.MS_NODEV | mount.MS_STRICTATIME,
        "mode=0755,size=20%,nr_inodes=800k",
    )
    os.symlink("mount", f"{path}/mount")
    os.mkdir(f"{path}/systemd", 0o755)
    os.symlink("ask-password", f"{path}/systemd/ask-password")
    os.mkdir(f"{path}/systemd/inaccessible", 0o755)
    os.mkdir(f"{path}/systemd/inaccessible/dir", 0o000)
    os.mknod(f"{path}/systemd/inaccessible/reg", stat.S_IFREG)


def _hide_time_zone(root: str, owner: tuple[int, int]) -> None:
    """Keep systemd from watching stage1's time zone, of which apps see nothing: see ``_prepare_run``.

    Of what inotify(7) watches the watcher must be able to read, and the file laid over it not even root can.
    """
    _write(root, "etc/localtime", "", 0o444, owner=owner)
    fd = os.open(os.path.join(root, "etc/localtime"), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mount.bind_fd("/proc/sys/vm/drop_caches", fd, recursive=False, read_only=True)
    finally:
        os.close(fd)


def _is_tmpfs(path: str) -> bool:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return paths.filesystem_type(fd) == paths.TMPFS_MAGIC
    finally:
        os.close(fd)


def _write(
    root: str, path: str, data: str | bytes, mode: int = 0o644, *, owner: tuple[int, int] = (0, 0)
) -> None:
    """A file of stage1's root, which only stage0 and this program have written to so far."""
    content = data.encode() if isinstance(data, str) else data
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(os.path.join(root, path), flags, mode)
    try:
        if owner != (0, 0):
            os.fchown(fd, *owner)
        os.fchmod(fd, mode)
        files.write_all(fd, content)
    finally:
        os.close(fd)


def user_files(plan: Plan) -> tuple[str, str]:
    """passwd and group of stage1's root: systemd wants an entry for every id it is given."""
    uids: dict[int, int] = {}
    gids: set[int] = set()
    for entry in plan.apps:
        uids.setdefault(entry.identity.uid, entry.identity.gid)
        gids.update((entry.identity.gid, *entry.identity.groups))
    uids.pop(0, None)
    gids.discard(0)
    passwd = ["root:x:0:0:root:/root:/bin/sh\n"]
    passwd += [f"gen{uid}:x:{uid}:{gid}::/:/bin/sh\n" for uid, gid in sorted(uids.items())]
    group = ["root:x:0:\n", *(f"gen{gid}:x:{gid}:\n" for gid in sorted(gids))]
    return "".join(passwd), "".join(group)


class AppRoots:
    """The root directories of the apps, open; closes them at the end of ``with``."""

    __slots__ = ("fds", "pod")

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.fds: dict[str, int] = {}

    def __enter__(self) -> AppRoots:
        for app in self.pod.apps:
            self.fds[app.name] = os.open(self.pod.app_root(app.name), _OPEN_DIRECTORY)
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self.fds.values():
            os.close(fd)


def app_roots(plan: Plan, resolv_conf: str | None, notify: Callable[[str], object]) -> None:
    """Prepare every app's root: its base, its volumes, then its program; read-only roots last.

    ``resolv_conf`` is the content for /etc/resolv.conf that came with a network, or None.
    """
    with AppRoots(plan.pod) as roots:
        for entry in plan.apps:
            name = entry.app.name
            try:
                if entry.read_only:
                    # The root has to be a mount to become read-only; reopened, the fd is on it.
                    root = plan.pod.app_root(name)
                    mount.bind_fd(roots.fds[name], roots.fds[name], recursive=True, read_only=False)
                    os.close(roots.fds.pop(name))
                    roots.fds[name] = os.open(root, _OPEN_DIRECTORY)
                base(
                    roots.fds[name],
                    protect=not plan.flags.disable_paths,
                    modes=entry.unit.streams,
                    owner=plan.ids.root,
                )
                own_name_files(plan, entry, roots.fds[name])
            except OSError as error:
                raise RktError(f'unable to prepare the root file system of app "{name}"') from error
        mounter = mounts.Mounter(notify, plan.ids, refuses=covered.is_proc)
        for entry in plan.apps:
            mounter.carry_out(entry.mounts, roots.fds)
        for entry in plan.apps:
            name = entry.app.name
            try:
                covered.complete(roots.fds[name], entry.mounts, plan.ids.root)
                if covered.TERMINALS not in {mount.target for mount in entry.mounts}:
                    _mount_terminals(roots.fds[name], plan.ids.root)
                given_name_files(plan, roots.fds[name], resolv_conf)
                program(plan.pod, entry, roots.fds[name], plan.ids)
                if entry.read_only:
                    mount.mount_setattr(roots.fds[name], set=mount.MOUNT_ATTR_RDONLY)
            except (OSError, RktError) as error:
                raise of_app(name, error) from error.__cause__


def base(root_fd: int, *, protect: bool, modes: dict[str, str], owner: tuple[int, int] = (0, 0)) -> None:
    """The directories every app has, /dev with its own nodes, /sys, /etc/mtab; ``owner`` has what is made.

    ``modes`` are those of the app's streams.
    """
    for path in ("/proc", "/etc", "/run/systemd/journal", "/run/systemd/incoming"):
        os.close(paths.make_directories(root_fd, path, owner=owner))
    try:
        os.close(paths.open_in_root(root_fd, "/tmp", os.O_PATH))
    except FileNotFoundError:
        os.close(paths.make_directories(root_fd, "/tmp", 0o1777, owner=owner))
    os.close(mounts.open_target(root_fd, "/run/systemd/notify", directory=False, owner=owner))
    system = paths.make_directories(root_fd, "/sys", owner=owner)
    try:
        _mount_sysfs(system, protect=protect)
    finally:
        os.close(system)
    target = _device_directory(root_fd, owner)
    try:
        devices = mount.new_mount(
            "tmpfs",
            {
                "mode": "0755",
                "size": "65536k",
                "nr_inodes": "65536",
                "source": "tmpfs",
                "uid": str(owner[0]),
                "gid": str(owner[1]),
            },
            attributes=mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC,
        )
        try:
            _fill_devices(devices, modes, owner)
            mount.move_mount(devices, target)
        finally:
            os.close(devices)
    finally:
        os.close(target)
    etc = paths.make_directories(root_fd, "/etc", owner=owner)
    try:
        os.symlink("../proc/self/mounts", "mtab", dir_fd=etc)
        os.chown("mtab", *owner, dir_fd=etc, follow_symlinks=False)
    except FileExistsError:
        pass
    finally:
        os.close(etc)


def _mount_terminals(root_fd: int, owner: tuple[int, int]) -> None:
    """Terminals of the app's own, below /dev/pts.

    In those of the pod root logs in (``login``): an app that had them could make such a terminal its own
    before the shell is there, and then type there (TIOCSTI).
    """
    target = paths.open_in_root(root_fd, covered.TERMINALS, os.O_PATH | os.O_DIRECTORY)
    try:
        options: dict[str, str | None] = {
            "mode": "0620",
            "ptmxmode": "0666",
            "gid": str(owner[1] + _TTY_GROUP),
        }
        attributes = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC
        terminals = mount.new_mount("devpts", options, attributes=attributes)
        try:
            if owner != (0, 0):
                for name in (".", "ptmx"):
                    os.chown(name, *owner, dir_fd=terminals)
            mount.move_mount(terminals, target)
        finally:
            os.close(terminals)
    finally:
        os.close(target)


def _mount_sysfs(target: int, *, protect: bool) -> None:
    """A sysfs for this network namespace; with ``protect`` read-only, and without what apps must not see."""
    attributes = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_NOEXEC
    if protect:
        attributes |= mount.MOUNT_ATTR_RDONLY
    sysfs = mount.new_mount("sysfs", attributes=attributes)
    try:
        mount.move_mount(sysfs, target)
        for path in confinement.HIDDEN_PATHS if protect else ():
            if path.startswith("/sys/"):
                _hide(sysfs, path.removeprefix("/sys/"))
    finally:
        os.close(sysfs)


def _hide(sysfs: int, name: str) -> None:
    """Lay an empty directory that nobody can open over a directory of sysfs, if this kernel has it."""
    try:
        target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=sysfs)
    except FileNotFoundError:
        return
    try:
        attributes = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC
        cover = mount.new_mount("tmpfs", {"mode": "0000", "nr_inodes": "2"}, attributes=attributes)
        try:
            mount.move_mount(cover, target)
        finally:
            os.close(cover)
    finally:
        os.close(target)


def _device_directory(root_fd: int, owner: tuple[int, int]) -> int:
    """An fd of the app's /dev.  Anything but a directory there is replaced by one, also a link."""
    flags = os.O_PATH | os.O_NOFOLLOW
    try:
        fd = paths.open_in_root(root_fd, "/dev", flags)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        os.unlink("dev", dir_fd=root_fd)
    except FileNotFoundError:
        pass
    return paths.make_directories(root_fd, "/dev", owner=owner)


def _fill_devices(fd: int, modes: dict[str, str], owner: tuple[int, int]) -> None:
    """Device nodes of a new /dev, links, and the places where more is mounted."""
    made = ["net", "pts", "shm", "console", *_STREAM_LINKS]
    made += [entry[0] for entry in (*_DEVICES, *_DEVICE_LINKS)]
    for name, major, minor in _DEVICES:
        _make_device(fd, name, os.makedev(major, minor))
    os.mkdir("net", 0o755, dir_fd=fd)
    if os.path.exists("/dev/net/tun"):
        _make_device(fd, "net/tun", os.makedev(10, 200))
        made.append("net/tun")
    for name, target in _DEVICE_LINKS:
        os.symlink(target, name, dir_fd=fd)
    for number, name in enumerate(_STREAM_LINKS, 1):
        logged = modes[name] == streams.LOG
        os.symlink("/dev/console" if logged else f"/proc/self/fd/{number}", name, dir_fd=fd)
    for name in ("pts", "shm"):
        os.mkdir(name, 0o755, dir_fd=fd)
    os.close(os.open("console", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd))
    if owner != (0, 0):
        for name in made:
            os.chown(name, *owner, dir_fd=fd, follow_symlinks=False)


def _make_device(directory: int, name: str, number: int) -> None:
    try:
        os.mknod(name, stat.S_IFCHR | 0o666, number, dir_fd=directory)
    except OSError as error:
        raise named(error, "mknod", f"/dev/{name}") from None
    os.chmod(name, 0o666, dir_fd=directory)


def own_name_files(plan: Plan, entry: AppPlan, root_fd: int) -> None:
    """/etc/hostname of the pod, and an /etc/hosts if the image has none: volumes come over these."""
    stage1, owner = plan.pod.stage1_root, plan.ids.root
    hostname = os.path.join(stage1, "etc/hostname")
    _bind_file(hostname, root_fd, "/etc/hostname", read_only=True, owner=owner)
    given = plan.flags.hosts != "default" or "/etc/hosts" in {mount.target for mount in entry.mounts}
    if not given and not _exists(root_fd, "/etc/hosts"):
        _write_hosts(stage1, plan.hostname, root_fd, owner=owner)


def given_name_files(plan: Plan, root_fd: int, resolv_conf: str | None) -> None:
    """/etc/resolv.conf and /etc/hosts of the caller (the host's or stage0's), else of a network.

    They win over volumes and over the image's own (rkt's table of DNS and hosts).
    """
    stage1 = plan.pod.stage1_root
    flags = plan.flags
    chosen = []
    if flags.resolv == "host":
        chosen.append(("/etc/resolv.conf", "/etc/resolv.conf", True))
    elif flags.resolv == "stage0":
        chosen.append(("/etc/resolv.conf", os.path.join(stage1, "etc/rkt-resolv.conf"), False))
    elif flags.resolv == "default" and resolv_conf is not None:
        path = os.path.join(stage1, "etc/rkt-resolv.conf")
        _write(stage1, "etc/rkt-resolv.conf", resolv_conf, owner=plan.ids.root)
        chosen.append(("/etc/resolv.conf", path, False))
    if flags.hosts == "host":
        chosen.append(("/etc/hosts", "/etc/hosts", True))
    elif flags.hosts == "stage0":
        chosen.append(("/etc/hosts", os.path.join(stage1, "etc/rkt-hosts"), False))
    for target, source, read_only in chosen:
        try:
            _bind_file(source, root_fd, target, read_only=read_only, owner=plan.ids.root)
        except OSError as error:
            raise RktError(f"unable to put {target} in place") from error


def _bind_file(source: str, root_fd: int, target: str, *, read_only: bool, owner: tuple[int, int]) -> None:
    fd = mounts.open_target(root_fd, target, directory=False, owner=owner)
    try:
        mount.bind_fd(source, fd, recursive=False, read_only=read_only)
    finally:
        os.close(fd)


def _exists(root_fd: int, path: str) -> bool:
    try:
        os.close(paths.open_in_root(root_fd, path, os.O_PATH | os.O_NOFOLLOW))
    except OSError:
        return False
    return True


def _write_hosts(stage1: str, hostname: str, root_fd: int, *, owner: tuple[int, int]) -> None:
    """/etc/hosts of an app that has none: stage1's fallback, with the host name on the local address."""
    with open(os.path.join(stage1, "etc/hosts-fallback")) as file:
        text = file.read()
    etc = paths.make_directories(root_fd, "/etc", owner=owner)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open("hosts", flags, 0o644, dir_fd=etc)
        try:
            os.fchown(fd, *owner)
            os.fchmod(fd, 0o644)
            files.write_all(fd, f"{text.rstrip()}\n127.0.0.1 {hostname}\n".encode())
        finally:
            os.close(fd)
    finally:
        os.close(etc)


def program(pod: Pod, entry: AppPlan, root_fd: int, ids: IdRange) -> None:
    """Find the programs of an app in its finished root, and note why its own cannot be executed.

    RktError when the search finds nothing, when an event handler cannot be executed, when systemd would not
    take the path of a program, or when the working directory does not exist.
    """
    unit = entry.unit
    try:
        fd = paths.open_in_root(root_fd, unit.working_directory, os.O_PATH | os.O_DIRECTORY)
        os.close(fd)
    except OSError as error:
        raise RktError(f'unable to use working directory "{unit.working_directory}"') from error
    if ".." in unit.working_directory.split("/"):
        # systemd takes none of these.
        unit.working_directory = paths.without_links(root_fd, unit.working_directory)
    variables = dict(entry.app.variables)
    for argv in (unit.argv, unit.pre_start, unit.post_stop):
        if argv or argv is unit.argv:
            argv[:1] = [
                executable.find(
                    root_fd,
                    argv[0] if argv else "",
                    search_path=variables.get("PATH"),
                    working_directory=unit.working_directory,
                )
            ]
            units.check_program(argv[0])
    for kind, argv in (("pre-start", unit.pre_start), ("post-stop", unit.post_stop)):
        reason = executable.obstacle(root_fd, argv[0]) if argv else ""
        if reason:
            raise RktError(f"event handler {kind}: {reason}")
    reason = executable.diagnose(root_fd, unit.argv[0], _on_disk(entry.identity, ids))
    overflow = executable.overflow(unit.argv[0], unit.argv, entry.environment)
    if overflow and not unit.monitored:
        # What records how the app ended would have the same environment, and could not be executed either.
        raise RktError(overflow)
    reason = reason or overflow
    if reason:
        path = f"rkt/diagnostic/{entry.app.name}"
        _write(pod.stage1_root, path, f"Error: {reason}\n", owner=ids.root)


def _on_disk(identity: Identity, ids: IdRange) -> Identity | None:
    """The numbers by which files of the host belong to an app's user; None for the pod's root."""
    if not identity.uid:
        return None
    groups = [ids.first + gid for gid in identity.groups]
    return Identity(ids.first + identity.uid, ids.first + identity.gid, groups)
