"""CNI plugins: where they are, and running one.

A plugin is a program that reads its configuration from standard input, the command and its
parameters from the environment, and answers on standard output (CNI specification, "Execution").
It is started with nothing else: no other variable but PATH, no open files, in the host's namespace.
"""

from __future__ import annotations

import os
import time

from rkt.appc import gojson
from rkt.errors import RktError, describe
from rkt.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The variable that is in the environment of one pod's programs only, and of all of them.
NETNS = "CNI_NETNS"
DEFAULT_VERSION = "0.1.0"
TIME_LIMIT = 60.0
_SHOWN = 300
_OUTPUT_LIMIT = 4 << 20


class Refusal(RktError):
    """A plugin ended by itself and said no, or is no program at all: there is nothing that it has left."""


class Invocation:
    """What all plugins of one network of one pod are told."""

    __slots__ = ("args", "container_id", "directories", "interface", "netns", "time_limit")

    def __init__(
        self,
        container_id: str,
        netns: str,
        interface: str,
        *,
        args: str,
        directories: list[str],
        time_limit: float = TIME_LIMIT,
    ) -> None:
        self.container_id = container_id
        self.netns = netns
        self.interface = interface
        self.args = args
        self.directories = directories
        self.time_limit = time_limit

    def environment(self, command: str, version: str) -> dict[str, str]:
        return {
            "CNI_VERSION": version or DEFAULT_VERSION,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container_id,
            NETNS: self.netns,
            "CNI_IFNAME": self.interface,
            "CNI_ARGS": self.args,
            "CNI_PATH": ":".join(self.directories),
            "PATH": os.environ.get("PATH") or process.CLEAN_ENVIRONMENT["PATH"],
        }


def directories(configurations: list[str], stage1_root: str) -> list[str]:
    """Where plugins are looked for, first to last: rkt's places, then those of distributions.

    ``configurations`` are configuration directories (user, local, system): plugins may lie in ``net.d``.
    """
    return [
        *(os.path.abspath(os.path.join(directory, "net.d")) for directory in configurations),
        "/usr/lib/rkt/plugins/net",
        os.path.abspath(os.path.join(stage1_root, "usr/lib/rkt/plugins/net")),
        "/usr/lib/cni",
        "/usr/libexec/cni",
        "/opt/cni/bin",
    ]


def look_up(name: str, places: list[str]) -> str:
    """The path of a plugin, empty when it is in none of these directories."""
    for directory in places:
        path = os.path.join(directory, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""


def find(name: str, places: list[str]) -> str:
    """The path of a plugin; RktError says where it was looked for."""
    path = look_up(name, places)
    if path:
        return path
    for directory in places:
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            raise RktError(f'plugin "{name}" cannot be used: {path} is not executable')
    raise RktError(
        f'could not find plugin "{name}" in {":".join(places)}',
        hint="install the package containernetworking-plugins, or put it into one of these directories",
    )


def run(command: str, path: str, text: str, *, invocation: Invocation, version: str) -> Any:
    """Run one plugin with ``text`` as its configuration and return its decoded answer, None for no answer.

    Raises RktError naming the plugin and what it said (a CNI error object, its standard error, or
    garbage), ``Refusal`` if it could not be started or ended by itself with an exit code.  A plugin that
    takes longer than the time limit is killed, with all it has started.
    """
    environment = invocation.environment(command, version)
    start = time.monotonic()
    try:
        done = process.run(
            [path],
            env=environment,
            input=text.encode(),
            timeout=invocation.time_limit,
            check=False,
            limit=_OUTPUT_LIMIT,
            group=True,
        )
    except OSError as exc:  # it did not start
        raise Refusal(f"plugin {path} failed at {command}: {describe(exc)}") from None
    except RktError as exc:
        if time.monotonic() - start >= invocation.time_limit:
            raise RktError(
                f"plugin {path} failed at {command}: killed, as it had not ended after "
                f"{invocation.time_limit:.2g} seconds"
            ) from None
        # One sentence, because only the outermost and the innermost cause are shown.
        raise RktError(f"plugin {path} failed at {command}: {describe(exc)}") from None
    if done.status != 0:
        raise (RktError if done.status > 128 else Refusal)(_failure(path, command, done))
    answer = done.stdout.strip()
    if not answer:
        return None
    try:
        return gojson.loads(answer)
    except RktError:
        shown = shorten(answer.decode(errors="replace"))
        raise RktError(f"plugin {path} answered {command} with something that is not JSON: {shown}") from None


def _failure(path: str, command: str, done: process.Completed) -> str:
    """One line about a plugin that failed: its error object says it best, else its standard error."""
    text = done.stdout.decode(errors="replace").strip()
    try:
        value = gojson.loads(text) if text else None
    except RktError:
        value = None
    said = ""
    if isinstance(value, dict):
        said = error_text(value)
    said = said or done.stderr.decode(errors="replace").strip() or text
    how = f"signal {done.status - 128}" if done.status > 128 else f"exit code {done.status}"
    return f"plugin {path} failed at {command} ({how})" + (f": {shorten(said)}" if said else "")


def error_text(value: dict[str, Any]) -> str:
    """What an error object says; empty if it says nothing."""
    said, details = value.get("msg"), value.get("details")
    if not isinstance(said, str):
        return ""
    return f"{said}; {details}" if isinstance(details, str) and details else said


def shorten(text: str) -> str:
    line = " ".join(text.split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "..."
