"""Entry point ``attach``: connects the standard streams to those of an app.

    attach --action=list|auto-attach|custom-attach [--tty-in --tty-out --stdin --stdout --stderr] --app=APP

In the pod's directory.  Works on the host's side: the sockets of the app (``attachments``) are opened below
the root file system of the pod's stage1.  Ends with 0 when the app has ended, or when its user detaches.
"""

from __future__ import annotations

import os
import sys

from rkt.appc import gojson
from rkt.errors import RktError, one_line
from rkt.linux import paths
from rkt.stage1.common import flags as command_line
from rkt.stage1.common import interrupt, status
from rkt.stage1.common import pod as pods
from rkt.stage1.systemd import attachments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.common.pod import Pod

_FAILURE = 254
_BROKEN_PIPE = 141
_ACTIONS = ("list", "auto-attach", "custom-attach")
_KNOWN = ("stdin", "stdout", "stderr", attachments.TTY)
_LIMIT = 1 << 16


class Choice:
    """What to attach to: ``sends`` is the endpoint that gets our input ("" for none), ``receives`` those
    whose output we get, ``all`` what there is."""

    __slots__ = ("all", "receives", "sends")

    def __init__(self, offered: list[str], sends: str, receives: list[str]) -> None:
        self.all, self.sends, self.receives = offered, sends, receives


def main(argv: list[str]) -> int:
    """0 at the end of the app, 254 for a failure."""
    try:
        interrupt.admit_signals()
        values, arguments, _ = command_line.parse(argv[1:], command_line.ATTACH)
        if arguments:
            raise RktError(f'unexpected argument "{arguments[0]}"')
        if values["action"] not in _ACTIONS:
            raise RktError(f'invalid attach action "{values["action"]}"')
        return attach(os.getcwd(), values)
    except BrokenPipeError:
        return _BROKEN_PIPE  # who reads our output has seen enough
    except (RktError, OSError, ValueError) as error:
        sys.stderr.write(f"Error: {one_line(error)}\n")
    except KeyboardInterrupt:
        return interrupt.EXIT_CODE
    return _FAILURE


def attach(directory: str, values: dict[str, bool | str]) -> int:
    """Carry out the action for the app that the flags name."""
    pod = pods.load(directory, os.path.basename(directory))
    name = str(values["app"])
    if name not in [app.name for app in pod.apps]:
        raise RktError(f'the pod has no app "{name}"')
    place = _open_place(pod, name)
    try:
        offered = _offered(place, name)
        if values["action"] == "list":
            sys.stdout.write(_listing(name, offered))
            return 0
        automatic = values["action"] == "auto-attach"
        choice = _everything(offered) if automatic else _custom(name, offered, values)
        from rkt.stage1.systemd import relay

        return relay.Relay(place, choice, lambda: _has_ended(name)).run()
    finally:
        os.close(place)


def _open_place(pod: Pod, app: str) -> int:
    root = os.open(pod.stage1_root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return paths.open_in_root(root, attachments.directory(app), os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        raise RktError(
            f'app "{app}" has nothing to attach to: it has no stream of mode "stream" or "tty"'
        ) from None
    finally:
        os.close(root)


def _offered(place: int, app: str) -> list[str]:
    """The names of the endpoints of an app."""
    try:
        document = gojson.loads(paths.read_file(place, attachments.ENDPOINTS, limit=_LIMIT))
        return [name for name in _KNOWN if name in [target["name"] for target in document["targets"]]]
    except (OSError, RktError, KeyError, TypeError) as error:
        raise RktError(f'cannot read what there is to attach to in app "{app}"') from error


def _listing(app: str, offered: list[str]) -> str:
    """The endpoints as JSON, in the form of rkt 1.30."""
    indent = "    "
    targets = []
    for name in offered:
        address = f"{attachments.directory(app)}/{attachments.socket(name)}"
        members = (("name", name), ("domain", "unix"), ("address", address))
        lines = ",\n".join(f'{indent * 3}"{key}": "{value}"' for key, value in members)
        targets.append(f"{indent * 2}{{\n{lines}\n{indent * 2}}}")
    joined = ",\n".join(targets)
    return f'{{\n{indent}"version": 1,\n{indent}"targets": [\n{joined}\n{indent}]\n}}\n'


def _everything(offered: list[str]) -> Choice:
    """All output, and input for the app's standard input, whichever that is."""
    sends = next((name for name in ("stdin", attachments.TTY) if name in offered), "")
    return Choice(offered, sends, [name for name in offered if name != "stdin"])


def _custom(app: str, offered: list[str], values: dict[str, bool | str]) -> Choice:
    """What the flags say; RktError for what the app does not offer."""
    receives = [name for name in ("stdout", "stderr") if values[name] is True]
    if values["tty-out"] is True:
        receives.append(attachments.TTY)
    if values["stdin"] is True and values["tty-in"] is True:
        raise RktError("input is for stdin or for the terminal, not for both")
    sends = "stdin" if values["stdin"] is True else attachments.TTY if values["tty-in"] is True else ""
    if not receives and not sends:
        raise RktError("there is nothing to attach to: no endpoint was named")
    for name in [*receives, sends]:
        if name and name not in offered:
            raise RktError(f'app "{app}" has no {name} to attach to, it offers {", ".join(offered)}')
    return Choice(offered, sends, receives)


def _has_ended(app: str) -> bool:
    """Whether the app has ended, with the pod or before it; gc may have renamed the directory."""
    return os.path.exists(f"stage1/rootfs/rkt/status/{app}") or not status.is_running(".")
