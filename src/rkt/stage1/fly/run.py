"""``run``: start the pod's one app, wait for it, record its exit code.

    run [flags] UUID          in the pod's directory, with the lock in RKT_LOCK_FD

A child builds the app's root and becomes the app; a fault before that comes back through a pipe that
closes by itself when execve(2) succeeds.  Exit code: the app's; 254 when it could not be started.
"""

from __future__ import annotations

import os
import sys

from rkt.errors import RktError, one_line, tree
from rkt.linux import files, process
from rkt.stage1.common import discard, environment, flags, mounts, outcome, status
from rkt.stage1.common import pod as pods
from rkt.stage1.common.relaxed import Relaxed
from rkt.stage1.fly import application, supervisor
from rkt.stage1.fly import root as roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.common.pod import App, Pod

FAILED = 254
_INTERRUPTED = 130
# --private-users, --mutable and --ipc came later or make no sense without namespaces.
_UNKNOWN = ("private-users", "mutable", "ipc")
_STATUS = "rkt/status"
_READY = "rkt/supervisor-status"


def main(argv: list[str]) -> int:
    """The entry point; ``argv`` includes the program's name."""
    debug = "--debug" in argv
    directory, fresh, strict = os.getcwd(), discard.wanted(), outcome.is_strict()
    code = _INTERRUPTED
    try:
        return _run(flags.run_flags(argv[1:], without=_UNKNOWN), strict=strict)
    except (RktError, OSError) as exc:
        _complain("\n".join(tree(exc)) if debug else one_line(exc))
        code = FAILED
    except KeyboardInterrupt:
        pass
    if fresh:
        try:
            discard.discard(directory)
        except (RktError, OSError) as exc:
            _complain(f"error removing the pod that could not be started: {one_line(exc)}")
    return code


def _complain(text: str) -> None:
    sys.stderr.write(f"stage1: {text}\n")
    sys.stderr.flush()


def _run(given: flags.RunFlags, *, strict: bool) -> int:
    for name, value in (("hostname", given.hostname), ("mds-token", given.mds_token)):
        if value:
            sys.stdout.write(f"Warning: -{name} not supported; ignoring\n")
            sys.stdout.flush()
    lock = _lock_fd()
    pod = pods.load(".", given.uuid)
    if len(pod.apps) != 1:
        raise RktError(f"flavor fly runs exactly one app in a pod, not {len(pod.apps)}")
    app = pod.apps[0]
    plan = plan_root(pod, app, given)
    outcomes = outcome.Outcomes(strict=strict)
    application_ = application.load(pod, app, Relaxed.of(given), outcomes)
    outcomes.check()
    for line in outcomes.warnings():
        _complain(f"warning: {line}")
    if given.debug:
        for line in (*plan.describe(), application_.confinement.describe(), *outcomes.lines()):
            _complain(line)
    _write(pod, f"rkt/env/{app.name}", environment.encode(list(application_.environment.items())))
    _write(pod, "rkt/fly", _restrictions(given))
    wait_status = _start_and_wait(pod, app.name, plan, application_, interactive=given.interactive)
    _record(pod, app.name, wait_status)
    supervisor.end_remaining()
    os.close(lock)
    return supervisor.end_like(wait_status)


def plan_root(pod: Pod, app: App, given: flags.RunFlags) -> roots.RootPlan:
    """What is mounted into the app's root."""
    plan = roots.RootPlan(
        pod.app_root(app.name),
        mounts.plan(pod, recursive=False, implicit=False),
        read_only=app.runtime.read_only_root_fs,
        protect=not given.disable_paths,
    )
    seen: dict[str, str] = {}
    for entry in plan.volumes:
        if entry.volume in seen:
            raise RktError(f'volume "{entry.volume}" is mounted twice: {seen[entry.volume]}, {entry.target}')
        seen[entry.volume] = entry.target
    for mode, name, target in (
        (given.resolv, "rkt-resolv.conf", "/etc/resolv.conf"),
        (given.hosts, "rkt-hosts", "/etc/hosts"),
    ):
        if mode == "host":
            plan.files.append((target, target, True))
        elif mode == "stage0":
            plan.files.append((os.path.join(pod.stage1_root, "etc", name), target, False))
    plan.hosts_stub = given.hosts == "default"
    return plan


def _restrictions(given: flags.RunFlags) -> bytes:
    """The protections that are off, for ``enter``: flag names, one a line."""
    off = []
    if given.disable_capabilities:
        off.append("disable-capabilities-restriction")
    if given.disable_seccomp:
        off.append("disable-seccomp")
    return "".join(name + "\n" for name in off).encode()


def _lock_fd() -> int:
    """The fd of the pod's lock, which no program started from here may inherit."""
    text = os.environ.get("RKT_LOCK_FD", "")
    if not text.isdecimal():
        raise RktError("RKT_LOCK_FD is not set: this program is started by rkt")
    os.set_inheritable(int(text), False)
    return int(text)


def _write(pod: Pod, name: str, data: bytes) -> None:
    """Make a file below stage1's root that only a running pod needs: nothing has to survive a crash."""
    path = os.path.join(pod.stage1_root, name)
    files.make_directory(os.path.dirname(path), parents=True)
    with open(path, "wb", buffering=0) as file:
        file.write(data)


def _record(pod: Pod, name: str, wait_status: int) -> None:
    """Record the exit code so that a crash after the app's end does not lose it."""
    directory = os.path.join(pod.stage1_root, _STATUS)
    files.make_directory(directory, parents=True)
    files.write_atomic(os.path.join(directory, name), b"%d\n" % process.exit_code(wait_status))


def _start_and_wait(
    pod: Pod, name: str, plan: roots.RootPlan, app: application.Application, *, interactive: bool
) -> int:
    """Start the app and wait for its end: its wait status.  RktError when it could not be started."""
    terminal = supervisor.Terminal(0) if interactive and os.isatty(0) else None
    process.set_dumpable(False)
    process.set_child_subreaper()
    mask = supervisor.Mask()
    reader, writer = os.pipe2(os.O_CLOEXEC)
    own = os.getpid()
    child = os.fork()
    if child == 0:
        _become_app(writer, mask, plan, app=app, terminal=terminal, parent=own)
    os.close(writer)
    try:
        _announce(pod, child, terminal)
        fault = _read_all(reader)
    except BaseException:
        os.kill(child, 9)
        raise
    finally:
        os.close(reader)
    if fault:
        os.waitpid(child, 0)
        if terminal is not None:
            terminal.take_back()
        raise RktError(fault)
    _mark_ready(pod)
    try:
        return supervisor.wait(child, terminal)
    finally:
        if terminal is not None:
            terminal.take_back()


def _announce(pod: Pod, child: int, terminal: supervisor.Terminal | None) -> None:
    """Write ``pgid`` and ``pid``: the app leads a process group of its own from its first moment on."""
    if terminal is not None:
        try:
            os.setpgid(child, child)
            terminal.give(child)
        except ProcessLookupError:
            pass
    status.write_pid(pod.directory, "pgid", child)
    status.write_pid(pod.directory, "pid", child)


def _become_app(
    report: int,
    mask: supervisor.Mask,
    plan: roots.RootPlan,
    *,
    app: application.Application,
    terminal: supervisor.Terminal | None,
    parent: int,
) -> None:
    """The child: never returns."""
    try:
        process.set_parent_death_signal(9)
        if terminal is None:
            os.setsid()
        else:
            os.setpgid(0, 0)
            terminal.give(os.getpid())
        # Nothing that was open in the caller, or here, is open in the app; the report closes by itself.
        os.closerange(3, report)
        os.closerange(report + 1, 1 << 30)
        app.confinement.set_attributes()
        application.seal_imports()
        root = roots.enter_new_root(plan)
        mask.restore()
        app.execute(root, dies_with=parent)
    except (RktError, OSError) as exc:
        os.write(report, one_line(exc).encode("utf-8", "replace"))
    except BaseException as exc:
        os.write(report, f"{type(exc).__name__}: {exc}".encode("utf-8", "replace"))
    finally:
        os._exit(FAILED)


def _read_all(fd: int) -> str:
    data = b""
    while chunk := os.read(fd, 4096):
        data += chunk
    return data.decode("utf-8", "replace")


def _mark_ready(pod: Pod) -> None:
    """For ``rkt status --wait-ready``."""
    try:
        os.symlink("ready", os.path.join(pod.stage1_root, _READY))
    except FileExistsError:
        pass
