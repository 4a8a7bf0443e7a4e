"""Makes what apps with streams to attach to need, and the process that serves them (``multiplexer``).

That process is a copy of this one, made before it becomes the supervisor: on the host's side, nobody's child
(the supervisor's only child is the pod's first process), in the cgroup of the pod.  It ends with the
supervisor, whose pidfd it waits for, however that ends.  What it gives up before it copies the first byte:

====================  ====================================================================================
descriptors           all but those of the streams; not the pod's lock, so the pod lives without it
session, signals      one of its own, without a terminal; what is meant for the supervisor does not end it
no_new_privs          and not dumpable
root directory        an empty one
keyring, limits       a session keyring of its own; memory, open files
capabilities          all
Landlock, seccomp     no files, no sockets but those it has, no programs, no processes, no signals
====================  ====================================================================================
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the module ``signal`` costs 4 ms for its enums
import _socket
import errno
import os
import resource

from rkt.errors import RktError, one_line
from rkt.linux import capabilities, cgroup, files, keyring, landlock, mount, paths, process, seccomp, terminal
from rkt.stage1.common import kubernetes, streams
from rkt.stage1.systemd import attachments, container_filter, covered
from rkt.stage1.systemd.multiplexer import CLIENTS, App, Endpoint, Multiplexer
from rkt.stage1.systemd.plan import of_app

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.systemd.plan import AppPlan, Plan

GROUP = "iottymux"
"""The cgroup of the process, below the pod's (version 2)."""

NAME = "rkt-iottymux"
_MEMORY = 1 << 30
_SPARE_FILES = 32
# 24 rows of 80 columns, until somebody is attached who has a terminal.
_SIZE = (24).to_bytes(2, "little") + (80).to_bytes(2, "little") + bytes(4)
_READY = b"ready"
_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE, signal.SIGUSR1,
            signal.SIGUSR2, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)  # fmt: skip
_CALLS = """\
_llseek accept4 brk clock_gettime clock_gettime64 close epoll_ctl epoll_pwait epoll_wait exit exit_group fstat
fstat64 futex getpid getrandom gettid lseek madvise mmap mmap2 mprotect mremap munmap newfstatat read
restart_syscall rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack write
"""

_IOCTLS = (0x5414, 0x5421)  # TIOCSWINSZ, FIONBIO: the same wherever system calls are known


def make(plan: Plan) -> list[App]:
    """FIFOs, terminals, sockets and log files of all apps that have something to attach to.

    The roots of the apps are prepared.  RktError when something cannot be made.
    """
    made = []
    for entry in plan.apps:
        if attachments.attached(entry.unit.streams):
            try:
                made.append(_make_app(plan, entry))
            except (OSError, RktError) as error:
                raise of_app(entry.app.name, error) from error.__cause__
    return made


def _make_app(plan: Plan, entry: AppPlan) -> App:
    name, modes = entry.app.name, entry.unit.streams
    directory = os.path.join(plan.pod.stage1_root, attachments.DIRECTORY, name)
    files.make_directory(directory, parents=True)
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        first = plan.ids.first
        owner = (first + entry.identity.uid, first + entry.identity.gid)
        app = App(name, _fifo(place, attachments.ENDED, plan.ids.root, os.O_RDONLY))
        log = kubernetes.open_log(plan.pod, entry.app) if _logs(modes) else None
        for endpoint in attachments.endpoints(modes):
            if endpoint == attachments.TTY:
                made = _terminal(plan, entry, place, owner)
                app.window = _listen(place, attachments.WINDOW, _socket.SOCK_DGRAM)
            else:
                # Open for both: it has a reader and a writer, whatever the app does.
                fd = _fifo(place, attachments.fifo(endpoint), owner, os.O_RDWR)
                is_input = endpoint == streams.NAMES[0]
                made = Endpoint(endpoint, _socket_of(place, endpoint), fd, gives=not is_input, takes=is_input)
                if log is not None and made.gives:
                    made.log = kubernetes.LogStream(log, endpoint)
                    made.needed.append(log)
            app.endpoints.append(made)
        _write_endpoints(place, name, modes)
        return app
    finally:
        os.close(place)


def _logs(modes: dict[str, str]) -> bool:
    return streams.STREAM in (modes["stdout"], modes["stderr"])


def _fifo(place: int, name: str, owner: tuple[int, int], access: int) -> int:
    """A FIFO that nobody but its owner, and root, opens; our descriptor of it."""
    os.mkfifo(name, 0o600, dir_fd=place)
    os.chown(name, *owner, dir_fd=place, follow_symlinks=False)
    return os.open(name, access | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)


def _listen(place: int, name: str, kind: int) -> _socket.socket:
    made = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK, 0)
    # The path of the directory may be longer than the 107 bytes an address has.
    made.bind(f"/proc/self/fd/{place}/{name}")
    os.chmod(name, 0o600, dir_fd=place)
    if kind == _socket.SOCK_STREAM:
        made.listen(CLIENTS)
    return made


def _socket_of(place: int, endpoint: str) -> _socket.socket:
    return _listen(place, attachments.socket(endpoint), _socket.SOCK_STREAM)


def _terminal(plan: Plan, entry: AppPlan, place: int, owner: tuple[int, int]) -> Endpoint:
    """A terminal among the app's own, for its unit also at a place that no app can change."""
    if covered.TERMINALS in {mount.target for mount in entry.mounts}:
        raise RktError(f'a volume on {covered.TERMINALS} leaves no place for a "{streams.TTY}"')
    root = os.open(plan.pod.app_root(entry.app.name), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        devpts = paths.open_in_root(root, covered.TERMINALS, os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(root)
    try:
        if paths.filesystem_type(devpts) != terminal.DEVPTS_SUPER_MAGIC:
            raise RktError(f"{covered.TERMINALS} is no place for terminals")
        # The terminal stays open on our side: it is not hung up before the app has opened it.
        master, held, name = terminal.open_pair(devpts)
        os.chown(name, owner[0], -1, dir_fd=devpts)
        terminal.set_size(master, _SIZE)
        source = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=devpts)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        target = os.open(attachments.TERMINAL, flags, 0o600, dir_fd=place)
        try:
            mount.bind_fd(source, target, recursive=False, read_only=False)
        finally:
            os.close(target)
            os.close(source)
    finally:
        os.close(devpts)
    made = Endpoint(attachments.TTY, _socket_of(place, attachments.TTY), master, gives=True, takes=True)
    made.needed.append(held)
    return made


def _write_endpoints(place: int, app: str, modes: dict[str, str]) -> None:
    targets = ",".join(
        f'{{"name":"{name}","domain":"unix",'
        f'"address":"{attachments.directory(app)}/{attachments.socket(name)}"}}'
        for name in attachments.endpoints(modes)
    )
    text = f'{{"version":1,"targets":[{targets}]}}\n'
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(attachments.ENDPOINTS, flags, 0o644, dir_fd=place)
    try:
        files.write_all(fd, text.encode())
    finally:
        os.close(fd)


def start(apps: list[App], uuid: str, *, grouped: bool) -> None:
    """Start the process that serves the apps; this one is about to become the supervisor.

    ``uuid`` is the pod's; ``grouped``: this process is in the pod's cgroup already.  RktError when it
    cannot be started.
    """
    supervisor = os.pidfd_open(os.getpid())
    answer, report = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            if not os.fork():
                _serve(Multiplexer(supervisor, apps), uuid, report, grouped=grouped)
            status = 0
        finally:
            os._exit(status)
    os.close(report)
    with open(answer, "rb", buffering=0) as file:
        text = file.readall()
    os.waitpid(child, 0)
    if text != _READY:
        reason = text.decode("utf-8", "replace") or "it has ended"
        raise RktError(f"unable to start what serves the streams of the apps: {reason}")


def _serve(multiplexer: Multiplexer, uuid: str, report: int, *, grouped: bool) -> None:
    """The new process: never returns."""
    try:
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        os.setsid()
        process.set_name(NAME)
        process.set_title(f"{NAME} {uuid}")
        if grouped:
            _enter_cgroup()
        _confine([*multiplexer.fds, report])
    except (OSError, RktError) as error:
        os.write(report, one_line(error).encode("utf-8", "backslashreplace"))
        os._exit(1)
    os.write(report, _READY)
    os.close(report)
    multiplexer.run()
    os._exit(0)


def _enter_cgroup() -> None:
    """In version 2 a cgroup that hands on controllers has no processes: this one leaves it like nspawn."""
    for hierarchy in cgroup.hierarchies():
        if hierarchy.unified:
            path = f"{cgroup.own()[cgroup.UNIFIED]}/{GROUP}"
            cgroup.create(path, mounted=[hierarchy])
            cgroup.attach(path, 0, mounted=[hierarchy])


def _confine(fds: list[int]) -> None:
    """Give up everything but the descriptors, for good."""
    calls = _filter() if container_filter.is_available() else b""
    _keep_only(fds)
    keyring.join_session_keyring()
    attributes = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_NOEXEC
    empty = mount.new_mount("tmpfs", attributes=attributes | mount.MOUNT_ATTR_RDONLY)
    os.fchdir(empty)
    os.close(empty)
    os.chroot(".")
    for name, limit in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_NOFILE, max(fds) + CLIENTS + _SPARE_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(name)
        lower = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(name, (lower, lower))
    capabilities.set_no_new_privileges()
    process.set_dumpable(False)
    os.setgroups([])
    capabilities.drop_bounding(())
    capabilities.clear_ambient()
    capabilities.set_capabilities((), (), ())
    landlock.restrict(())
    if calls:
        seccomp.load(calls)


def _filter() -> bytes:
    conditions = [[seccomp.Comparison(1, "&", number, 0xFFFFFFFF)] for number in _IOCTLS]
    return seccomp.compile_filter(
        [*_CALLS.split(), "ioctl"],
        allow=True,
        action=seccomp.refuse(errno.EPERM),
        conditions={"ioctl": conditions},
        native=True,
    )


def _keep_only(fds: list[int]) -> None:
    """Close all other descriptors; the standard ones lead nowhere."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(null, number, inheritable=False)
    last = 2
    for fd in sorted(fds):
        os.closerange(last + 1, fd)
        last = fd
    os.closerange(last + 1, 1 << 30)
