"""``run``: start the pod's one app, wait for it, record its exit code.

    run [flags] UUID          in the pod's directory, with the lock in RKT_LOCK_FD

Exit code: the app's, or that of an event handler pre-start that failed; 254 when one could not be started.
"""

from __future__ import annotations

import os
import sys

from rkt.errors import RktError, one_line, tree
from rkt.linux import files, process
from rkt.stage1.common import discard, environment, flags, interrupt, mounts, outcome, streams
from rkt.stage1.common import pod as pods
from rkt.stage1.common.messages import note
from rkt.stage1.common.relaxed import Relaxed
from rkt.stage1.fly import application, launch, supervisor
from rkt.stage1.fly import root as roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.common.pod import App, Pod

FAILED = 254
# --private-users, --mutable and --ipc came later or make no sense without namespaces.
_UNKNOWN = ("private-users", "mutable", "ipc")
_STATUS = "rkt/status"
_READY = "rkt/supervisor-status"


def main(argv: list[str]) -> int:
    """The entry point; ``argv`` includes the program's name."""
    debug = "--debug" in argv
    directory, fresh, strict = os.getcwd(), discard.wanted(), outcome.is_strict()
    code = interrupt.EXIT_CODE
    try:
        interrupt.admit_signals()
        return _run(flags.run_flags(argv[1:], without=_UNKNOWN), strict=strict)
    except (RktError, OSError) as exc:
        note("\n".join(tree(exc)) if debug else one_line(exc))
        code = FAILED
    except KeyboardInterrupt:
        pass
    if fresh:
        try:
            discard.discard(directory)
        except (RktError, OSError) as exc:
            note(f"error removing the pod that could not be started: {one_line(exc)}")
    return code


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
    application_.silenced = streams.silenced(app, interactive=given.interactive)
    outcomes.check()
    for line in outcomes.warnings():
        note(f"warning: {line}")
    if given.debug:
        for line in (*plan.describe(), application_.confinement.describe(), *outcomes.lines()):
            note(line)
    _write(pod, f"rkt/env/{app.name}", environment.encode(list(application_.environment.items())))
    _write(pod, "rkt/fly", _restrictions(given))
    wait_status = _start_and_wait(pod, app, plan, application_, interactive=given.interactive)
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
    pod: Pod, app: App, plan: roots.RootPlan, program: application.Application, *, interactive: bool
) -> int:
    """Run the app between its event handlers: its wait status, or that of a pre-start that failed.

    RktError when one of them could not be started.
    """
    launcher = launch.Launcher(pod, plan, interactive=interactive)
    handlers = {entry.name: program.handler(entry.exec) for entry in app.app.event_handlers if entry.exec}
    if handlers:
        launcher.make_root(handlers)
    before, after = handlers.get("pre-start"), handlers.get("post-stop")
    wait_status = 0
    try:
        if before is not None:
            wait_status = launcher.run(before)
        if wait_status == 0:
            wait_status = launcher.run(program, lambda: _mark_ready(pod))
            _record(pod, app.name, wait_status)
    finally:
        if after is not None:
            supervisor.end_remaining()
            launcher.run(after)
    return wait_status


def _mark_ready(pod: Pod) -> None:
    """For ``rkt status --wait-ready``."""
    try:
        os.symlink("ready", os.path.join(pod.stage1_root, _READY))
    except FileExistsError:
        pass
