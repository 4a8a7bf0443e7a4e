"""Unit files: a writer that escapes what comes from manifests, the pod's own units, an app's unit.

Units have DefaultDependencies=no throughout: every order they need is said.  The pod's own units carry
an underscore in their names, which no app name can have, or are in ``_RESERVED``.  How a pod ends:

* an app's unit stops; ``/rkt/app-exit`` records its status, and on the first failure asks for ``exit`` with
  that code.  It runs in a unit that the app's end starts (OnSuccess=, OnFailure=); where systemd does not
  tell such a unit how the other ended (before version 251), as ExecStopPost= of the app's;
* when no app is left, nothing wants ``rkt_alive.target`` any more: its SuccessAction ends the pod;
* every end goes through ``rkt_end.target``: ``rkt_running.socket`` stops and takes its FIFO away, by
  which ``/rkt/app-exit`` tells an app that was stopped from one that ended, the apps stop, then journald,
  which prints all it has received, and only then systemd ends.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.stage1.common import streams
from rkt.stage1.systemd import attachments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Options = Sequence[tuple[str, str]]

DIRECTORY = "rkt/units"
"""Where the units are, below stage1's root; the only directory systemd looks into."""

SCRIPTS = ("app-exit", "shutdown")
"""Programs of stage1's own, below ``/rkt``."""

EARLY = "init.scope.d/sockets.conf"
"""A file beside the units that is read before any other."""

_RESERVED = ("systemd-journald", "systemd-journald-dev-log", "dbus", "init")
_LINE_LIMIT = 1 << 20
_PATH_LIMIT = 4096
_NAME_LIMIT = 255
_HEX = "0123456789abcdef"
ENDS = (("Conflicts", "rkt_end.target"), ("Before", "rkt_end.target"))
# The name by which systemd knows that it is shutting down.
_SHUTDOWN = "shutdown.target"
# What records how an app ended.  A unit that is named by both options is not told which of them started it.
_ENDINGS = {"succeeded": "OnSuccess", "failed": "OnFailure"}
BARE = ("DefaultDependencies", "no")
_END_POD = (("Requires", "rkt_exit.service"), ("After", "rkt_exit.service"))


def unit_name(app: str) -> str:
    """The unit of an app: ``APP.service``, or another name when systemd would mistake that one."""
    return f"{app}_app.service" if app in _RESERVED else f"{app}.service"


def render(sections: Sequence[tuple[str, Options]]) -> str:
    """The text of a unit: sections with (option, value) pairs, in order, values as they shall stand.

    RktError for a value no unit file can hold: a line break or NUL, a backslash at its end (which
    would continue the line) or blanks around it (which would be lost), more than 1 MiB.
    """
    lines: list[str] = []
    for section, options in sections:
        lines.append(f"[{section}]")
        for name, value in options:
            if any(letter in value for letter in "\n\r\0") or value.endswith("\\") or value != value.strip():
                raise RktError(f"{value!r} cannot be written into a unit file ({name})")
            if len(value.encode("utf-8", "replace")) >= _LINE_LIMIT - len(name) - 2:
                raise RktError(f"{name} is longer than the 1 MiB a line of a unit file may have")
            lines.append(f"{name}={value}")
        lines.append("")
    return "\n".join(lines)


def specifier_safe(text: str) -> str:
    """``%`` doubled, so that no specifier is expanded."""
    return text.replace("%", "%%")


def quote(word: str) -> str:
    """One word of a list or command line (systemd.syntax(7)): C escapes in double quotes, ``%`` doubled."""
    letters = []
    for letter in specifier_safe(word):
        if letter in '"\\':
            letters.append("\\" + letter)
        elif letter < " " or letter == "\x7f":
            number = ord(letter)
            if not number:
                raise RktError(f"{word!r} contains a NUL")
            letters.append(f"\\x{_HEX[number >> 4]}{_HEX[number & 15]}")
        else:
            letters.append(letter)
    return '"' + "".join(letters) + '"'


def command(argv: Sequence[str]) -> str:
    """A command line for Exec*=; the ``:`` keeps systemd from expanding ``$``."""
    return ":" + " ".join(quote(word) for word in argv)


def check_program(path: str) -> None:
    """RktError for an absolute path that systemd does not execute: with it a whole unit is not read.

    Quotes, backslashes and control characters (string_is_safe() of systemd), a slash at the end, names and
    paths longer than the kernel's.
    """
    if any(letter < " " or letter in "\"'\\\x7f" for letter in path):
        reason = "it takes no quotes, backslashes or control characters"
    elif path.endswith("/"):
        reason = "it is a directory"
    elif len(os.fsencode(path)) >= _PATH_LIMIT or any(
        len(os.fsencode(name)) > _NAME_LIMIT for name in path.split("/")
    ):
        reason = "it is too long"
    else:
        return
    raise RktError(f'systemd cannot execute "{path}": {reason}')


class AppUnit:
    """What an app's unit says, as values ready for the kernel: plain data of the plan.

    ``argv[0]`` is an absolute path of the app; ``capabilities`` None leaves the bounding set alone;
    ``system_calls`` is a SystemCallFilter= value or ""; ``namespaces`` tells whether the app may make some;
    ``bound`` are paths of the pod that the app has too, all paths are absolute; ``profile`` is AppArmor's;
    ``monitored``: a unit of its own records how the app ended; ``sockets`` are options of its socket unit;
    ``streams`` has the mode of each of its streams by name.
    """

    __slots__ = (
        "argv",
        "bound",
        "capabilities",
        "gid",
        "groups",
        "hidden_paths",
        "image",
        "monitored",
        "name",
        "namespaces",
        "no_new_privileges",
        "notify",
        "post_stop",
        "pre_start",
        "profile",
        "resources",
        "sockets",
        "streams",
        "system_call_errno",
        "system_calls",
        "uid",
        "working_directory",
    )

    def __init__(self, name: str, image: str, argv: Sequence[str]) -> None:
        self.name, self.image, self.argv = name, image, list(argv)
        self.uid = self.gid = 0
        self.groups: list[int] = []
        self.working_directory = "/"
        self.capabilities: list[str] | None = None
        self.no_new_privileges = False
        self.namespaces = True
        self.system_calls = self.system_call_errno = self.profile = ""
        self.bound: list[str] = []
        self.hidden_paths: list[str] = []
        self.resources: list[tuple[str, str]] = []
        self.sockets: list[tuple[str, str]] = []
        self.streams = dict.fromkeys(streams.NAMES, streams.LOG) | {"stdin": streams.NULL}
        self.notify = self.monitored = False
        self.pre_start: list[str] = []
        self.post_stop: list[str] = []

    @property
    def unit(self) -> str:
        return unit_name(self.name)

    @property
    def socket_unit(self) -> str:
        return self.unit.removesuffix(".service") + ".socket"

    @property
    def _tell_end(self) -> list[str]:
        """The command lines that tell whoever serves the app's streams that it has ended.

        A FIFO that is opened for both does not wait for a reader, who may have been killed.
        """
        if not attachments.attached(self.streams):
            return []
        return [f'/bin/sh -c ": <> {attachments.directory(self.name)}/{attachments.ENDED}"']

    @property
    def limited(self) -> list[str]:
        """The units that have the app's limits: its own, and those of its event handlers."""
        handlers = (("pre-start", self.pre_start), ("post-stop", self.post_stop))
        return [self.unit, *(self._handler(kind) for kind, argv in handlers if argv)]

    def files(self) -> dict[str, str]:
        """File names and texts: the app's service, its sockets, what records its end, and event handlers."""
        found = {self.unit: self._service()}
        if self.sockets:
            found[self.socket_unit] = self._socket()
        if self.monitored:
            found.update(dict.fromkeys(map(self._handler, _ENDINGS), self._recorder()))
        if self.pre_start:
            found[self._handler("pre-start")] = self._handler_unit(self.pre_start, before=True)
        if self.post_stop:
            found[self._handler("post-stop")] = self._handler_unit(self.post_stop, before=False)
        return found

    def _handler(self, kind: str) -> str:
        return f"{self.name}_{kind}.service"

    def _service(self) -> str:
        after = ["systemd-journald.service"]
        wants = ["rkt_alive.target", "systemd-journald.service"]
        requires: list[str] = []
        if self.sockets:
            requires.append(self.socket_unit)
            after.append(self.socket_unit)
        if self.pre_start:
            requires.append(self._handler("pre-start"))
            after.append(self._handler("pre-start"))
        if self.post_stop:
            wants.append(self._handler("post-stop"))
            after.append(self._handler("post-stop"))
        unit = [
            ("Description", specifier_safe(f"Application={self.name} Image={self.image}")),
            ("DefaultDependencies", "no"),
            *((("Requires", " ".join(requires)),) if requires else ()),
            ("Wants", " ".join(wants)),
            ("After", " ".join(after)),
            *ENDS,
        ]
        if self.monitored:
            unit += [(option, self._handler(kind)) for kind, option in _ENDINGS.items()]
            unit.append(("OnSuccessJobMode", "replace"))
        service = [
            ("Type", "notify" if self.notify else "simple"),
            *((("TimeoutStartSec", "infinity"), ("NotifyAccess", "all")) if self.notify else ()),
            ("Restart", "no"),
            ("ExecStart", command(self.argv)),
            *self._environment(),
            *attachments.options(self.name, self.streams),
            *self._identity(),
            *self._limits(),
        ]
        if not self.monitored:
            # app-exit belongs to stage1; an app's own handlers have units of their own.
            service += [("ExecStopPost", f"+/rkt/app-exit {self.name}"), ("RootDirectoryStartOnly", "yes")]
            service += [("ExecStopPost", "+" + line) for line in self._tell_end]
        return render((("Unit", unit), ("Service", service)))

    def _recorder(self) -> str:
        """Runs app-exit once the app has ended, whatever ended it; the end of the pod waits for it.

        Unlike a command of the app's own unit it needs none of the app's mounts.
        """
        unit = [
            ("Description", specifier_safe(f"Exit status of application={self.name}")),
            BARE,
            ("Wants", "rkt_alive.target"),
            ("Before", "rkt_end.target"),
            # A pod that has no room left for this program must not seem to have succeeded.
            ("FailureAction", "exit"),
            ("FailureActionExitStatus", "254"),
        ]
        service = [
            ("Type", "oneshot"),
            ("ExecStart", f"/rkt/app-exit {self.name}"),
            *(("ExecStart", line) for line in self._tell_end),
            ("StandardOutput", "null"),
        ]
        return render((("Unit", unit), ("Service", service)))

    def _socket(self) -> str:
        """The sockets that were passed from outside; they go with the app: no connection starts it again."""
        unit = [
            ("Description", specifier_safe(f"Sockets of application={self.name}")),
            BARE,
            ("StopWhenUnneeded", "yes"),
            *ENDS,
        ]
        socket = [*self.sockets, ("BindIPv6Only", "both"), ("Service", self.unit)]
        return render((("Unit", unit), ("Socket", socket)))

    def _environment(self) -> list[tuple[str, str]]:
        return [
            ("RootDirectory", f"/opt/stage2/{self.name}/rootfs"),
            # MountAPIVFS would lay a tmpfs over the image's /run; /dev and /sys are there already.
            ("MountAPIVFS", "no"),
            ("BindPaths", " ".join(("/proc:/proc:rbind", *(f"{path}:{path}" for path in self.bound)))),
            ("BindReadOnlyPaths", "/run/systemd/journal:/run/systemd/journal"),
            *((("BindPaths", "/run/systemd/notify:/run/systemd/notify"),) if self.notify else ()),
            ("WorkingDirectory", specifier_safe(self.working_directory)),
            ("EnvironmentFile", f"/rkt/env/{self.name}"),
            # systemd ignores SIGPIPE for its services, and an ignored signal stays ignored over exec.
            ("IgnoreSIGPIPE", "no"),
        ]

    def _identity(self) -> list[tuple[str, str]]:
        options = [("User", str(self.uid)), ("Group", str(self.gid))]
        if self.groups:
            options.append(("SupplementaryGroups", " ".join(str(gid) for gid in self.groups)))
        return options

    def _limits(self) -> list[tuple[str, str]]:
        options: list[tuple[str, str]] = []
        if self.capabilities is not None:
            options.append(("CapabilityBoundingSet", " ".join(self.capabilities)))
        if self.no_new_privileges:
            options.append(("NoNewPrivileges", "yes"))
        if self.system_calls:
            options.append(("SystemCallFilter", self.system_calls))
            if self.system_call_errno:
                options.append(("SystemCallErrorNumber", self.system_call_errno))
        if not self.namespaces:
            options.append(("RestrictNamespaces", "yes"))
        # "+": below RootDirectory=, not below the root of the pod; "-": this kernel may lack it.
        options.extend(("InaccessiblePaths", "-+" + path) for path in map(quote, self.hidden_paths))
        if self.profile:
            options.append(("AppArmorProfile", specifier_safe(self.profile)))
        options.extend(self.resources)
        return options

    def _handler_unit(self, argv: Sequence[str], *, before: bool) -> str:
        """An event handler (appc specification): root in the app's environment, run to its end.

        ``post-stop`` is a unit that is wanted by the app's and stops when that has stopped.
        """
        unit = [
            ("Description", specifier_safe(f"Handler of application={self.name}")),
            ("DefaultDependencies", "no"),
            ("Wants", "systemd-journald.service"),
            ("After", "systemd-journald.service"),
            *ENDS,
        ]
        if before:
            unit.append(("FailureAction", "exit"))
            lifetime = [("ExecStart", command(argv))]
        else:
            unit += [("StopWhenUnneeded", "yes"), ("Wants", "rkt_alive.target")]
            lifetime = [("RemainAfterExit", "yes"), ("ExecStop", command(argv))]
        service = [
            ("Type", "oneshot"),
            *lifetime,
            *self._environment(),
            *attachments.options(self.name, self.streams, handler=True),
            ("User", "0"),
            ("Group", "0"),
            *self._limits(),
        ]
        return render((("Unit", unit), ("Service", service)))


def pod_units(apps: Sequence[str], *, interactive: bool, users: bool = False) -> dict[str, str]:
    """The units that depend on the pod: file names and texts; ``users``: not all apps run as root."""
    names = " ".join(unit_name(app) for app in apps)
    default = [
        ("Description", "Apps of the pod"),
        ("DefaultDependencies", "no"),
        # A unit that systemd cannot read fails the whole start, on which process 1 of a container exits:
        # were it only wanted, the pod would wait for ever for an app that never was.
        ("Requires", names),
        ("Wants", "rkt_ready.service rkt_running.socket dbus.socket"),
        ("After", names),
        ("Before", "rkt_ready.service"),
    ]
    ready_unit = [
        ("Description", "The pod is ready"),
        ("DefaultDependencies", "no"),
        ("After", f"{names} default.target"),
        *ENDS,
    ]
    ready_service = [
        ("Type", "oneshot"),
        ("RemainAfterExit", "yes"),
        ("ExecStart", "/bin/ln -sfn ready /rkt/supervisor-status"),
        ("StandardOutput", "null"),
    ]
    # Nobody connects: systemd makes the FIFO, and removes it at the beginning of the end, without a process.
    # It waits for no app, of which one may fail while another still starts.  At the end it stops beside the
    # apps: all stops of the pod's end are begun before systemd looks which processes have ended.
    running_unit = [("Description", "The pod is not being stopped"), BARE, *ENDS]
    running_socket = [
        ("ListenFIFO", "/run/rkt-running"),
        ("SocketMode", "0600"),
        ("RemoveOnStop", "yes"),
        ("Service", "rkt_exit.service"),
    ]
    return {
        "default.target": render((("Unit", default),)),
        "rkt_running.socket": render((("Unit", running_unit), ("Socket", running_socket))),
        "systemd-journald.service": _journald(interactive=interactive, users=users),
        "rkt_ready.service": render((("Unit", ready_unit), ("Service", ready_service))),
    }


def _journald(*, interactive: bool, users: bool) -> str:
    unit = [
        ("Description", "Journal of the pod"),
        ("DefaultDependencies", "no"),
        ("Requires", "systemd-journald.socket systemd-journald-dev-log.socket rkt_flushed.socket"),
        ("After", "systemd-journald.socket systemd-journald-dev-log.socket rkt_flushed.socket"),
        # Of one that does not stay (StartLimitBurst=): the apps would wait for a reader of what they print.
        ("OnFailure", "rkt_mute.service"),
        *ENDS,
    ]
    service = [
        # Apps start beside it: what they print waits in its sockets.  A signal that ends it waits until
        # it takes signals, which it does when it has read all there is.
        ("Type", "exec"),
        *_console(interactive=interactive, users=users),
        ("ExecStart", "/usr/bin/env --block-signal=TERM /usr/lib/systemd/systemd-journald"),
        ("NotifyAccess", "main"),
        # Should it be killed, systemd keeps the apps' streams for the next one.
        ("FileDescriptorStoreMax", "4224"),
        ("Restart", "always"),
        ("RestartSec", "0"),
        ("Sockets", "systemd-journald.socket systemd-journald-dev-log.socket"),
        ("StandardOutput", "null"),
        ("NoNewPrivileges", "yes"),
        ("TimeoutStopSec", "30"),
    ]
    return render((("Unit", unit), ("Service", service)))


def _console(*, interactive: bool, users: bool) -> list[tuple[str, str]]:
    """Prepare the terminal that journald prints on, and that an app gets when it opens /dev/stdout.

    Part of journald's unit: when a unit ends while others start, systemd waits for the kernel (_prepare_run).
    """
    if interactive:
        return []
    # It is a terminal even when the pod's output is a file, and would end lines with CR LF.
    commands = ["-/bin/stty -F /dev/console -opost"]
    if users:
        commands.append("-/bin/chmod 0622 /dev/console")
    return [("ExecStartPre", command) for command in commands]


def _socket(description: str, *options: tuple[str, str]) -> str:
    socket = [
        *options,
        ("SocketMode", "0666"),
        ("PassCredentials", "yes"),
        ("PassSecurity", "yes"),
        ("ReceiveBuffer", "8M"),
    ]
    return render((("Unit", (("Description", description), BARE)), ("Socket", socket)))


def passed_sockets(names: Sequence[str]) -> dict[str, str]:
    """Makes systemd load the units of these sockets at once: file names and texts.

    It hands open sockets to units that it has loaded before it starts any: its own scope and what that names.
    """
    return {EARLY: render((("Unit", (("After", " ".join(names)),)),))}


def shutdown() -> dict[str, str]:
    """For pods with event handlers that end the pod when they fail: file names and texts.

    systemd ends nothing for the failure of a unit that is itself being ended, if it knows that it is shutting
    down.  Otherwise it is not told: it would look for passwords to be asked with each unit that ends, and
    wait for the kernel each time (_prepare_run).
    """
    return {_SHUTDOWN: _target("The pod is ending")}


def _target(description: str) -> str:
    return render((("Unit", (("Description", description), BARE)),))


def static_units() -> dict[str, str]:
    """The units every pod has, part of the stage1 image: file names and texts."""
    ending = {
        name: render((("Unit", (("Description", "End of the pod"), BARE, *_END_POD)),))
        for name in ("exit.target", "halt.target", "poweroff.target", "reboot.target")
    }
    # By this file journald is told that /var/log/journal is there, and writes to it from the beginning.
    flushed = [("ListenFIFO", "/run/systemd/journal/flushed"), ("SocketMode", "0600")]
    flushed.append(("Service", "rkt_exit.service"))
    exit_unit = [
        ("Description", "End of the pod"),
        BARE,
        ("Requires", "rkt_end.target"),
        ("After", "rkt_end.target"),
        ("Wants", _SHUTDOWN),
        ("SuccessAction", "exit-force"),
    ]
    mute = [
        ("Description", "End of a pod without journal"),
        BARE,
        # A pod that is ending already has its code.
        ("Conflicts", "rkt_end.target"),
        ("SuccessAction", "exit"),
        ("SuccessActionExitStatus", "254"),
    ]
    alive = [
        ("Description", "At least one app is running"),
        BARE,
        ("StopWhenUnneeded", "yes"),
        ("SuccessAction", "exit"),
    ]
    return {
        **ending,
        "rkt_exit.service": render((("Unit", exit_unit), ("Service", (("Type", "oneshot"),)))),
        "rkt_mute.service": render((("Unit", mute), ("Service", (("Type", "oneshot"),)))),
        "rkt_alive.target": render((("Unit", alive),)),
        "rkt_flushed.socket": render((("Unit", (BARE,)), ("Socket", flushed))),
        "rkt_end.target": _target("Nothing is running any more"),
        "systemd-journald.socket": _socket(
            "Journal sockets",
            ("ListenStream", "/run/systemd/journal/stdout"),
            ("ListenDatagram", "/run/systemd/journal/socket"),
        ),
        "systemd-journald-dev-log.socket": _socket(
            "Journal socket /dev/log",
            ("ListenDatagram", "/run/systemd/journal/dev-log"),
            ("Service", "systemd-journald.service"),
        ),
    }
