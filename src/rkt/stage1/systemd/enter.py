"""Entry point ``enter``: a command inside a running app, no less confined than the app.

    enter --pid=PID1 --appname=APP -- COMMAND [ARGUMENT...]         in the pod's directory

The command runs as root in the app's root with the app's environment, in all the namespaces and control
groups of the app, with its capability bounding set, system call filters, no_new_privs and resource
limits, and without the caller's keyring and descriptors (but 0, 1, 2).  Everything is imported and
opened before the pod's namespaces are joined; there the process is not dumpable and executes at once.
"""

from __future__ import annotations

# The module itself: importing ``signal`` makes enumerations of it, which takes 4 ms.
import _signal as signal  # type: ignore[import-not-found]
import errno
import os
import resource
import sys

from rkt.errors import RktError, one_line
from rkt.linux import apparmor, capabilities, cgroup, keyring, namespaces, process, seccomp, selinux
from rkt.stage1.common import assessment, call_filter, environment, mounts, status
from rkt.stage1.common import flags as command_line
from rkt.stage1.common import pod as pods
from rkt.stage1.common.outcome import Outcomes
from rkt.stage1.systemd import container_filter, covered, isolation, plan, runtime, units, view
from rkt.stage1.systemd import target as targets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.common.pod import App, Pod
    from rkt.stage1.common.relaxed import Relaxed
    from rkt.stage1.systemd.target import Target

_FAILURE = 254
_NAMESPACES = ("ipc", "uts", "net", "mnt", "cgroup", "user")
_HANG_UP_SECONDS = 2.0
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(argv: list[str]) -> int:
    """The command's exit code, 128 + signal when it was killed."""
    try:
        # From here on nobody else can open what this process has open (CVE-2016-9962).
        process.set_dumpable(False)
        values, command, _ = command_line.parse(argv[1:], command_line.ENTER)
        pid, name = str(values["pid"]), str(values["appname"])
        if not pid.isdecimal() or int(pid) < 2:
            raise RktError(f'"{pid}" is not the process of a pod')
        if not command:
            raise RktError("a command is required")
        return enter(os.getcwd(), int(pid), name, command)
    except (RktError, OSError) as error:
        sys.stderr.write(f"Error: {one_line(error)}\n")
    return _FAILURE


def enter(directory: str, pid: int, name: str, command: list[str]) -> int:
    """Run ``command`` in the app ``name`` of the pod whose first process is ``pid``."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise RktError("the pod has ended") from None
    supervisor = status.read_pid(directory, "ppid")
    # While the pod's lock is held, none of its numbers has been given to another process.
    if not status.is_running(directory) or supervisor is None or pid not in process.children(supervisor):
        raise RktError(f"process {pid} is not the first process of a running pod")
    pod = pods.load(directory, os.path.basename(directory))
    app = next((app for app in pod.apps if app.name == name), None)
    if app is None:
        raise RktError(f'Unable to fopen "/rkt/env/{name}": No such file or directory')
    program = _Program(pod, app, command, *runtime.load(directory))
    wanted = targets.Wanted(name, units.unit_name(name), *isolation.limits_of(pod, app))
    return _run(program, targets.find(pidfd, pid, wanted))


class _Program:
    """What will be executed, and how it is confined: all of it read before the pod is entered."""

    __slots__ = (
        "app",
        "bound",
        "bounding",
        "command",
        "environment",
        "filters",
        "no_new_privileges",
        "profile",
        "protect",
    )

    def __init__(self, pod: Pod, app: App, command: list[str], relaxed: Relaxed, private_users: bool) -> None:
        self.app, self.command = app.name, command
        self.protect = not relaxed.paths
        self.bound = covered.bound(entry for entry in mounts.plan(pod) if entry.app == app.name)
        unit = units.AppUnit(app.name, app.image.name, app.app.exec)
        plan.confine(unit, app, relaxed, private_users=private_users)
        self.bounding: list[int] | None = None
        if unit.capabilities is not None:
            self.bounding = [capabilities.NUMBERS[name] for name in unit.capabilities]
        calls = None if relaxed.seccomp else call_filter.system_calls(app.app)
        # The last one may refuse prctl(2): nothing can be loaded after it.
        self.filters = [*container_filter.programs(), *([] if calls is None else calls.programs())]
        text = _read(pod, f"{units.DIRECTORY}/{units.unit_name(app.name)}").decode()
        self.no_new_privileges = "\nNoNewPrivileges=yes\n" in text
        variables = dict(environment.decode(_read(pod, f"rkt/env/{app.name}")))
        variables.setdefault("TERM", os.environ.get("TERM") or "vt100")
        self.environment = variables
        self.profile = assessment.mandatory_access(Outcomes(strict=False), pod, app).profile

    def execute(self, parent_fd: int) -> None:
        """Inside the pod: give everything up and execute.  Returns only by an OSError.

        The command dies with the process outside that waits for it, of which ``parent_fd`` is a pidfd.
        """
        os.chdir("/")
        os.umask(0o022)
        keyring.join_session_keyring()
        # Before any filter: the search in PATH makes system calls of its own.
        path = _search(self.command[0], self.environment.get("PATH", ""))
        if self.bounding is not None:
            capabilities.drop_bounding(self.bounding)
        capabilities.clear_ambient()
        effective, permitted, _ = capabilities.get_capabilities()
        capabilities.set_capabilities(effective, permitted, ())
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        # After the change of user, which clears it; by now the parent may be gone.
        process.set_parent_death_signal(signal.SIGKILL)
        if process.wait(parent_fd, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        os.close(parent_fd)
        # What could be said of a failure has been said; the filters may refuse rt_sigprocmask(2).
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        if self.no_new_privileges:
            capabilities.set_no_new_privileges()
        for program in self.filters:
            seccomp.load(program)
        os.execve(path, self.command, self.environment)


def _read(pod: Pod, name: str) -> bytes:
    path = os.path.join(pod.stage1_root, name)
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise RktError(f"unable to read {path}") from error


def _search(name: str, path: str) -> str:
    if "/" in name:
        return name
    for directory in path.split(":"):
        candidate = os.path.join(directory or "/", name)
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    return name


def _run(program: _Program, target: Target) -> int:
    """Fork into the pod's pid namespace; the parent stays outside and waits."""
    try:
        flags = 0
        for kind in _NAMESPACES:
            if kind == "user" and namespaces.same_namespace(kind, target.pid):
                continue  # joining the own user namespace is refused
            flags |= namespaces.KINDS[kind]
        namespaces.setns(target.pidfd, namespaces.CLONE_NEWPID)
    except (FileNotFoundError, ProcessLookupError):
        raise _ended(program, target) from None
    # ctrl-C is for the command, which gets it from the terminal as we do; other signals are passed on.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    parent_fd = os.pidfd_open(os.getpid())
    try:
        child = os.fork()
    except OSError as error:
        # A pid namespace takes no more processes once its first one has ended.
        if error.errno != errno.ENOMEM:
            raise
        raise RktError("the pod has ended") from None
    if child:
        for number in _PASSED_ON:
            signal.signal(number, lambda received, _: os.kill(child, received))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        return _wait(child, target.pidfd)
    try:
        _become(program, target, flags, parent_fd)
    except (RktError, OSError) as error:
        sys.stderr.write(f"Error: {one_line(error)}\n")
        sys.stderr.flush()
    finally:
        os._exit(_FAILURE)


def _wait(child: int, app_fd: int) -> int:
    """The exit code of the command, which does not outlive the process of ``app_fd`` for long.

    When an app has ended, systemd sends SIGTERM to what is left in its control group and waits: shells at a
    terminal ignore that, but take SIGHUP for what it is.
    """
    child_fd = os.pidfd_open(child)
    try:
        process.wait_any((child_fd, app_fd))
        if not process.wait(child_fd, 0):
            os.kill(child, signal.SIGHUP)
            if not process.wait(child_fd, _HANG_UP_SECONDS):
                os.kill(child, signal.SIGKILL)
    finally:
        os.close(child_fd)
    return process.exit_code(os.waitpid(child, 0)[1])


def _ended(program: _Program, target: Target) -> RktError:
    return RktError("the pod has ended" if target.ended else f'app "{program.app}" has ended')


def _become(program: _Program, target: Target, flags: int, parent_fd: int) -> None:
    """The child: the command, or an error."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    for limit, values in target.limits:
        resource.setrlimit(limit, values)
    with open("/proc/thread-self/oom_score_adj", "w") as file:
        file.write(target.oom_score_adj)
    # On the host's procfs: what is at /proc in the pod is not for us to trust.
    if program.profile:
        apparmor.change_profile_on_exec(program.profile)
    if target.context:
        selinux.change_context_on_exec(target.context)
    targets.trace("joining", target.pid)
    try:
        for fd in target.procs:
            os.write(fd, b"0")
        namespaces.setns(target.pidfd, flags)
    except OSError as error:
        if refusal := cgroup.real_time_refusal(error):
            raise refusal from None
        if error.errno not in (errno.ESRCH, errno.ENOENT, errno.ENODEV):
            raise
        raise _ended(program, target) from None
    if flags & namespaces.CLONE_NEWUSER:
        # Nobody yet: what is made from here on belongs to the pod's root.
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        process.set_dumpable(False)
    os.closerange(3, parent_fd)
    os.closerange(parent_fd + 1, 1 << 20)
    if target.ended:
        view.build(program.app, program.bound, protect=program.protect)
    try:
        program.execute(parent_fd)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise RktError(f'Unable to execute "{program.command[0]}": {reason}') from None
