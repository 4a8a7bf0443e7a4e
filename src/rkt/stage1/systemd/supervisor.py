"""How systemd-nspawn is called on this host, and the cgroup the pod lives in.

Hosts differ in three ways: whether systemd runs them, whether its machined can be asked to register the
pod, and whether rkt was started in a unit that is to keep the pod.
"""

from __future__ import annotations

import os
import stat

from rkt.errors import RktError
from rkt.linux import cgroup, devices, mount, mountinfo
from rkt.linux.devices import Rule
from rkt.stage1.common import confinement, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.systemd.plan import Plan

PROGRAMS = ("/usr/bin/systemd-nspawn", "/bin/systemd-nspawn")
UNIT_DIRECTORY = "/rkt/units"
SETPRIV = "/usr/bin/setpriv"
SYSTEMD = "/usr/lib/systemd/systemd"

_SIGKILL = 9

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


class Host:
    """What matters of the machine: ``systemd`` booted it, ``machined`` answers there, ``unit`` is the
    cgroup of the service rkt was started in ("" when in none)."""

    __slots__ = ("machined", "systemd", "unit")

    def __init__(self, *, systemd: bool, machined: bool, unit: str) -> None:
        self.systemd, self.machined, self.unit = systemd, machined, unit


def detect() -> Host:
    """Look at this machine."""
    systemd = os.path.isdir("/run/systemd/system")
    machined = (
        systemd
        and os.path.exists("/run/dbus/system_bus_socket")
        and os.path.exists("/usr/share/dbus-1/system-services/org.freedesktop.machine1.service")
    )
    return Host(systemd=systemd, machined=machined, unit=_unit(cgroup.own()) if systemd else "")


def _unit(own: dict[str, str]) -> str:
    """The cgroup of the system service we are in; a login session (a scope) is none."""
    path = own.get("name=systemd", own.get(cgroup.UNIFIED, "/"))
    parts = path.split("/")
    for position, part in enumerate(parts):
        if part.endswith(".service") and not part.startswith("user@"):
            return "/".join(parts[: position + 1])
    return ""


def program() -> str:
    """The path of systemd-nspawn; RktError when the host has none."""
    for path in (SETPRIV, SYSTEMD):
        if not os.access(path, os.X_OK):
            raise RktError(f"{path} is not installed", hint="on Debian: apt-get install systemd util-linux")
    for path in PROGRAMS:
        if os.access(path, os.X_OK):
            return path
    raise RktError("systemd-nspawn is not installed", hint="on Debian: apt-get install systemd-container")


def scope_name(machine: str) -> str:
    """The unit name machined gives a machine: dashes and the like escaped (systemd-escape(1))."""
    letters = []
    for letter in machine:
        if letter.isascii() and (letter.isalnum() or letter in ":_."):
            letters.append(letter)
        else:
            letters.append("".join(f"\\x{byte:02x}" for byte in letter.encode()))
    return f"machine-{''.join(letters)}.scope"


# What systemd-nspawn puts into a pod's /dev; nodes may be made of everything (archives hold some).
DEVICES = (
    Rule("c", None, None, "m"),
    Rule("b", None, None, "m"),
    *(Rule("c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)),  # null zero full random urandom
    Rule("c", 5, 0, "rwm"),  # tty
    Rule("c", 5, 2, "rwm"),  # ptmx
    Rule("c", 136, None, "rwm"),  # pts
    Rule("c", 10, 200, "rwm"),  # net/tun
)


def device_rules(plan: Plan) -> list[Rule]:
    """The devices of the pod: the usual ones, and volumes that are devices."""
    rules = list(DEVICES)
    for entry in plan.apps:
        for planned in entry.mounts:
            found = None if planned.empty else os.stat(planned.source, follow_symlinks=False)
            if found is not None and (stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)):
                kind = "c" if stat.S_ISCHR(found.st_mode) else "b"
                major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
                rules.append(Rule(kind, major, minor, "r" if planned.read_only else "rw"))
    return rules


def hierarchies() -> list[cgroup.Hierarchy]:
    """The mounted cgroup hierarchies, without looking at the other mounts: a thousand pods have many."""
    with open("/proc/self/mountinfo", "rb") as file:
        lines = [line for line in file if b" - cgroup" in line]
    return cgroup.hierarchies(mountinfo.parse(os.fsdecode(b"".join(lines))))


def enter_cgroup(plan: Plan, host: Host) -> str:
    """Move this process into the pod's cgroup; the path to be written to ``subcgroup``.

    A cgroup per hierarchy is made below the caller's own, so that limits on the caller hold for
    the pod, and recorded in the pod's file ``cgroups`` before it exists; in it only the pod's devices can
    be opened.  Nothing is made where machined moves the supervisor to a scope of its own: that has
    the same rules.
    """
    name = scope_name(plan.pod.machine_name)
    if host.machined and not host.unit:
        return f"/machine.slice/{name}"
    own = cgroup.own()
    mounted = hierarchies()
    wanted = []
    for hierarchy in mounted:
        parent = own[hierarchy.controllers[0]]
        wanted.append((hierarchy, f"{parent.rstrip('/')}/{name}"))
    lines = [f"{hierarchy.controllers[0]}:{path}\n" for hierarchy, path in wanted]
    status.write(plan.pod.directory, "cgroups", "".join(lines))
    for hierarchy, path in wanted:
        cgroup.create(path, mounted=[hierarchy])
    if not _restrict_devices(wanted, device_rules(plan)):
        raise RktError(
            "unable to restrict the devices of the pod",
            hint="neither the devices controller of cgroup version 1 nor BPF on version 2 is available",
        )
    for hierarchy, path in wanted:
        cgroup.attach(path, 0, mounted=[hierarchy])
    leading = own.get("name=systemd", own.get(cgroup.UNIFIED, "/"))
    return f"{leading.rstrip('/')}/{name}"


def _restrict_devices(wanted: list[tuple[cgroup.Hierarchy, str]], rules: list[Rule]) -> bool:
    # version 1 first: where both exist, its controller is the one in force already
    order = sorted(wanted, key=lambda pair: pair[0].unified)
    return any(devices.restrict(path, rules, mounted=[hierarchy]) for hierarchy, path in order)


def leave_own_cgroup(directory: str) -> list[OSError]:
    """Go back to the parent of the pod's cgroups and remove them: after a failed start."""
    own = cgroup.own()
    mounted = {hierarchy.controllers[0]: hierarchy for hierarchy in hierarchies()}
    for controller, path in own.items():
        parent, _, name = path.rpartition("/")
        if controller in mounted and name.startswith("machine-rkt"):
            # this process must be out before the rest is killed
            cgroup.attach(parent or "/", 0, mounted=[mounted[controller]])
    return leave_cgroup(directory)


def leave_cgroup(directory: str) -> list[OSError]:
    """Remove the cgroups recorded in the pod's directory; the errors of those that are still busy."""
    faults: list[OSError] = []
    path = os.path.join(directory, "cgroups")
    try:
        with open(path) as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return faults
    mounted = {hierarchy.controllers[0]: hierarchy for hierarchy in hierarchies()}
    for line in lines:
        controller, _, name = line.partition(":")
        if controller not in mounted or not name.rpartition("/")[2].startswith("machine-rkt"):
            continue
        try:
            kill(name, [mounted[controller]])
            cgroup.remove(name, mounted=[mounted[controller]])
        except OSError as error:
            faults.append(error)
    if not faults:
        os.unlink(path)
    return faults


def kill(path: str, mounted: list[cgroup.Hierarchy]) -> None:
    """End what is left in a pod's cgroup: its lock is free, so its supervisor is gone."""
    for pid in cgroup.processes(path, mounted=mounted):
        try:
            os.kill(pid, _SIGKILL)
        except ProcessLookupError:
            pass


def arguments(plan: Plan, host: Host, further: list[str]) -> list[str]:
    """The command line of systemd-nspawn, with ``further`` options."""
    pod, flags = plan.pod, plan.flags
    argv = [
        program(),
        "--settings=no",
        # halt.target: what --boot would choose, which is not used because of setpriv below
        "--kill-signal=SIGRTMIN+3",
        "--notify-ready=yes",
        f"--register={'yes' if host.machined else 'no'}",
        f"--link-journal={'try-guest' if host.systemd and os.path.isdir('/var/log/journal') else 'no'}",
        "--resolv-conf=off",
        "--timezone=off",
        f"--uuid={pod.uuid}",
        f"--machine={pod.machine_name}",
        f"--hostname={plan.hostname}",
        f"--directory={pod.stage1_root}",
        # systemd is to see our units only, and nothing that would make more of them.
        f"--setenv=SYSTEMD_UNIT_PATH={UNIT_DIRECTORY}",
        "--setenv=SYSTEMD_GENERATOR_PATH=/rkt/none",
        "--setenv=SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/rkt/none",
    ]
    if host.unit or not host.machined:
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
    argv += ["--", SETPRIV, "--pdeathsig", "KILL", "--", SYSTEMD]
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
