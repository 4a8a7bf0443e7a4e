"""What ``machinectl login`` and ``shell`` find in a pod: a D-Bus for whoever asks first, and a root shell.

machined connects to the system bus of a machine and asks its systemd to start a unit on a terminal that it
has opened there: ``container-getty@N.service`` for ``login``, a transient ``container-shell@N.service`` for
``shell``.  machined lets nobody do that but root of the host and whom polkit allows: there is no password.

Until somebody connects there is a socket and no process.  Who may is root of the pod outside of all apps:
these have other roots and other terminals (``prepare``).  The daemon keeps all capabilities that systemd has:
with fewer an app that is root could trace it (ptrace(2)), and so come to the socket.  Where the host has no
dbus-daemon there is no socket, and machined says so.
"""

from __future__ import annotations

from rkt.stage1.systemd.units import BARE, ENDS, render

SOCKET = "dbus.socket"
"""systemd connects to the bus when the units of this name, and of the service's, are active."""

_DAEMON = "/usr/bin/dbus-daemon"
_CONFIGURATION = "rkt/dbus"

_BUS = f"""\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>systemd:</listen>
  <servicedir>/{_CONFIGURATION}</servicedir>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <deny user="*"/>
    <allow user="root"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"""

# A call to systemd that comes before systemd itself does waits for it: nothing is executed for this name.
_MANAGER = "[D-BUS Service]\nName=org.freedesktop.systemd1\nExec=/bin/false\nUser=root\n"

# A shell that is told to end is hung up; what holds out gets this long, as the pod waits for it.
_TIMEOUT = ("TimeoutStopSec", "2")


def files() -> dict[str, str]:
    """The configuration of the bus: paths below stage1's root, and texts."""
    return {
        f"{_CONFIGURATION}/system.conf": _BUS,
        f"{_CONFIGURATION}/org.freedesktop.systemd1.service": _MANAGER,
    }


def units() -> dict[str, str]:
    """The units, part of the stage1 image: file names and texts."""
    socket_unit = [
        ("Description", "D-Bus of the pod"),
        BARE,
        ("ConditionFileIsExecutable", _DAEMON),
        *ENDS,
    ]
    socket = [("ListenStream", "/run/dbus/system_bus_socket"), ("SocketMode", "0600")]
    service_unit = [("Description", "D-Bus of the pod"), BARE, ("Requires", SOCKET), ("After", SOCKET), *ENDS]
    options = "--nofork --nopidfile --systemd-activation --nosyslog"
    service = [("ExecStart", f"{_DAEMON} --config-file=/{_CONFIGURATION}/system.conf {options}"), _TIMEOUT]
    # machined's own unit has dependencies and PAM, of which a pod has neither; what resets a terminal throws
    # away what a command has just printed there.
    shell_unit = [BARE, *ENDS]
    shell = [("PAMName", ""), ("TTYReset", "no"), _TIMEOUT]
    return {
        SOCKET: render((("Unit", socket_unit), ("Socket", socket))),
        "dbus.service": render((("Unit", service_unit), ("Service", service))),
        "container-getty@.service": _getty(),
        "container-shell@.service.d/rkt.conf": render((("Unit", shell_unit), ("Service", shell))),
    }


def _getty() -> str:
    """A login shell of root; after a logout there is a new one, as anywhere, until the terminal is gone."""
    unit = [
        ("Description", "Shell on /dev/pts/%I"),
        BARE,
        ("ConditionPathExists", "/dev/pts/%I"),
        ("StartLimitIntervalSec", "0"),
        *ENDS,
    ]
    service = [
        ("ExecStart", "-@/bin/sh -sh"),
        ("User", "root"),
        ("WorkingDirectory", "-~"),
        ("Restart", "always"),
        ("StandardInput", "tty-force"),
        ("StandardOutput", "tty"),
        ("TTYPath", "/dev/pts/%I"),
        ("TTYReset", "yes"),
        ("TTYVHangup", "yes"),
        ("IgnoreSIGPIPE", "no"),
        ("SendSIGHUP", "yes"),
        ("KillMode", "mixed"),
        _TIMEOUT,
    ]
    return render((("Unit", unit), ("Service", service)))
