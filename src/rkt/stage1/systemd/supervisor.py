"""How systemd-nspawn is called on this host."""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import cgroup, mount
from rkt.stage1.common import confinement
from rkt.stage1.systemd import access, machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.systemd.host import Host
    from rkt.stage1.systemd.plan import Plan

PROGRAMS = ("/usr/bin/systemd-nspawn", "/bin/systemd-nspawn")
UNIT_DIRECTORY = "/rkt/units"
SETPRIV = "/usr/bin/setpriv"
ENV = "/usr/bin/env"
HALT = 37
"""SIGRTMIN+3: asks the pod's systemd to end (systemd(1)); what systemd-nspawn makes of SIGTERM."""
SYSTEMD = "/usr/lib/systemd/systemd"

# What systemd and journald need to start apps as anybody, in mount namespaces of their own, and to end them.
_SUPERVISOR = frozenset(
    "CAP_AUDIT_WRITE CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_MKNOD "
    "CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_ADMIN "
    "CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_RESOURCE CAP_SYS_TTY_CONFIG".split()
)
# What systemd-nspawn leaves to a container unless told otherwise (systemd-nspawn(1), --capability).
_NSPAWN = frozenset(
    "CAP_AUDIT_CONTROL CAP_AUDIT_WRITE CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID "
    "CAP_IPC_OWNER CAP_KILL CAP_LEASE CAP_LINUX_IMMUTABLE CAP_MKNOD CAP_NET_BIND_SERVICE CAP_NET_BROADCAST "
    "CAP_NET_RAW CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_CHROOT "
    "CAP_SYS_NICE CAP_SYS_PTRACE CAP_SYS_RESOURCE CAP_SYS_TTY_CONFIG".split()
)


def program() -> str:
    """The path of systemd-nspawn; RktError when the host has none."""
    for path in (SETPRIV, SYSTEMD):
        if not os.access(path, os.X_OK):
            raise RktError(f"{path} is not installed", hint="on Debian: apt-get install systemd util-linux")
    for path in PROGRAMS:
        if os.access(path, os.X_OK):
            return path
    raise RktError("systemd-nspawn is not installed", hint="on Debian: apt-get install systemd-container")


def arguments(plan: Plan, host: Host, further: list[str]) -> list[str]:
    """The command line of systemd-nspawn, with ``further`` options."""
    pod, flags = plan.pod, plan.flags
    argv = [
        program(),
        "--settings=no",
        # halt.target: what --boot would choose, which is not used because of setpriv below
        f"--kill-signal={HALT}",
        "--notify-ready=yes",
        f"--register={'yes' if host.machined else 'no'}",
        f"--link-journal={'try-guest' if host.systemd and os.path.isdir('/var/log/journal') else 'no'}",
        "--resolv-conf=off",
        "--timezone=off",
        f"--uuid={pod.uuid}",
        f"--machine={machine.name(pod.uuid)}",
        f"--hostname={plan.hostname}",
        f"--directory={pod.stage1_root}",
        # systemd is to see our units only, and nothing that would make more of them.
        f"--setenv=SYSTEMD_UNIT_PATH={UNIT_DIRECTORY}",
        "--setenv=SYSTEMD_GENERATOR_PATH=/rkt/none",
        "--setenv=SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/rkt/none",
    ]
    if host.scope:
        argv += machine.scope_options(machine.name(pod.uuid), access.device_rules(plan))
    else:
        argv.append("--keep-unit")
    if not flags.debug:
        argv.append("--quiet")
    if plan.ids.private:
        # The root file systems have these owners already.
        argv.append(f"--private-users={plan.ids.first}:{plan.ids.count}")
        argv.append("--private-users-ownership=off")
    argv += further
    argv += _capabilities(plan.capabilities())
    if not flags.disable_paths and not flags.private_users:
        # What is to be read-only in /proc systemd-nspawn makes so by itself.
        argv += [f"--inaccessible={path}" for path in hidden_paths()]
    # At the end of a pipe nspawn would end the pod: without a terminal, stdin is not forwarded.
    interactive = flags.interactive and os.isatty(0)
    argv.append(f"--console={'interactive' if interactive else 'read-only'}")
    # A killed supervisor takes the pod with it: the pod is exited as soon as its lock is free.
    # The kernel drops signals that process 1 has no handler for; blocked ones it keeps for systemd.
    argv += ["--", ENV, f"--block-signal={HALT}", SETPRIV, "--pdeathsig", "KILL", "--", SYSTEMD]
    if flags.debug:
        return [*argv, "--log-level=debug", "--log-target=console", "--show-status=1"]
    return [*argv, "--log-target=null", "--show-status=0"]


def hidden_paths() -> list[str]:
    """The files of /proc that no app may see, as far as this kernel has them.

    Hidden once for the whole pod: in the unit of each app, systemd would walk through the mount table for
    every one of them.  A procfs of our own is asked, because the host's may hide some.
    """
    names = [path for path in confinement.HIDDEN_PATHS if path.startswith("/proc/")]
    fd = mount.new_mount("proc")
    try:
        return [path for path in names if _has(fd, path.removeprefix("/proc/"))]
    finally:
        os.close(fd)


def _has(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _capabilities(apps: list[str] | None) -> list[str]:
    if apps is None:
        return ["--capability=all"]
    return capability_options(_SUPERVISOR | frozenset(apps))


def capability_options(needed: frozenset[str]) -> list[str]:
    """The options that leave a container these capabilities and no others."""
    options = []
    if more := sorted(needed - _NSPAWN):
        options.append("--capability=" + ",".join(more))
    if less := sorted(_NSPAWN - needed):
        options.append("--drop-capability=" + ",".join(less))
    return options


def variables(plan: Plan) -> dict[str, str]:
    """systemd-nspawn's own environment; nothing of it but ``container`` reaches the pod."""
    flags = plan.flags
    found = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        # systemd-nspawn 252 ends itself by a failed assertion when it is to log more than this.
        "SYSTEMD_LOG_LEVEL": "info" if flags.debug else "err",
        "SYSTEMD_NSPAWN_CONTAINER_SERVICE": "rkt",
    }
    for name in ("TERM", "COLORTERM", "NOTIFY_SOCKET"):
        if name in os.environ:
            found[name] = os.environ[name]
    if cgroup.mode() == "v2":
        # nspawn asks the pod's root which systemd it has and, as /usr is bound only later, finds none:
        # it would mount a version 1 hierarchy without controllers for it.
        found["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
    if flags.disable_paths and not plan.ids.private:
        # With user IDs of its own systemd-nspawn refuses that; there root of the pod cannot write to them.
        found["SYSTEMD_NSPAWN_API_VFS_WRITABLE"] = "yes"
    if flags.ipc == "parent" or plan.isolation.makes_ipc_namespace:
        found["SYSTEMD_NSPAWN_SHARE_NS_IPC"] = "true"
    return found
