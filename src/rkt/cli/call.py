"""What a command gets: its words, the global settings, and where its output goes."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

    from rkt.appc.volume import Mount
    from rkt.cli.options import Command, Option
    from rkt.config import Config


CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "�")
"""Names, labels and addresses come from images and servers: shown, they must not steer the terminal."""
PULL_POLICIES = ("never", "new", "update")
AS_WRITTEN = frozenset(("string", "directory", "format"))
LISTS = frozenset(
    (
        *("list", "words", "networks", "choices", "identifiers"),
        *("volume", "mount", "app-volume", "port", "sandbox-port"),
    )
)
MAPS = frozenset(("pairs", "settings", "environment-file"))
"""Kinds by what they are when nothing was written; that is nearly all options of nearly all calls, so finding
out imports nothing."""


def default(option: Option) -> Any:
    """The typed default of an option; the kinds not named here are None without one."""
    kind, text = option.kind, option.default
    if kind == "bool":
        return text == "true"
    if kind in AS_WRITTEN:
        return text
    if kind in LISTS:
        return text.split(",") if text else []
    if kind in MAPS:
        return {}
    if kind == "insecure":
        return frozenset()
    if not text:
        return None
    from rkt.cli.values import convert

    return convert(option, text, None)


class Flags:
    """The option values of one scope, typed; an option that was not written has its default."""

    __slots__ = ("_options", "_values")

    def __init__(self, options: dict[str, Option]) -> None:
        self._options = options
        self._values: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        return default(self._options[name])

    def given(self, name: str) -> bool:
        """Was the option written on the command line (under this or a deprecated name)?"""
        return name in self._values

    def names(self) -> list[str]:
        """The options that were written, in the order of their first occurrence."""
        return list(self._values)

    def get(self, name: str) -> Any:
        """The value written so far, or None: for the parser."""
        return self._values.get(name)

    def set(self, name: str, value: Any) -> None:
        """Only the parser calls this."""
        self._values[name] = value


class Globals:
    """The settings every command has."""

    __slots__ = (
        "_dir",
        "debug",
        "dir_flag",
        "insecure",
        "local_config",
        "system_config",
        "trust_keys_from_https",
        "user_config",
    )

    def __init__(self, flags: Flags) -> None:
        self.debug: bool = flags["debug"]
        self.dir_flag: str = flags["dir"] if flags.given("dir") else ""
        self.insecure: frozenset[str] = flags["insecure-options"]
        self.system_config: str = flags["system-config"]
        self.local_config: str = flags["local-config"]
        self.user_config: str = flags["user-config"]
        self.trust_keys_from_https: bool = flags["trust-keys-from-https"]
        self._dir = ""

    @property
    def dir(self) -> str:
        """The data directory: ``--dir``, else the ``paths`` configuration, else /var/lib/rkt; links resolved.

        Raises RktError for a configuration that cannot be read.
        """
        if not self._dir:
            path = self.dir_flag
            if not path:
                from rkt.config.paths import data_directory

                path = (
                    data_directory(self.system_config, self.local_config, self.user_config) or "/var/lib/rkt"
                )
            self._dir = os.path.realpath(path)
        return self._dir


class ImageWords:
    """One image of a command line with the flags and arguments that follow it.

    ``mounts`` is what applies to this app: its own, then those given before the first image whose target it
    does not have already; of two mounts with one target the first one counts (facts of rkt: ``--mount``).
    """

    __slots__ = ("args", "flags", "image", "mounts")

    def __init__(self, image: str, flags: Flags) -> None:
        self.image = image
        self.flags = flags
        self.args: list[str] = []
        self.mounts: list[Mount] = []


class Call:
    """One call of one command; see the docstring of ``rkt.cli``."""

    __slots__ = ("_config", "args", "command", "err", "flags", "globals", "images", "out")

    def __init__(self, command: Command, settings: Globals, flags: Flags, args: list[str]) -> None:
        self.command = command
        self.globals = settings
        self.flags = flags
        self.args = args
        self.images: list[ImageWords] = []
        self.out: TextIO = sys.stdout
        self.err: TextIO = sys.stderr
        self._config: Config | None = None

    def print(self, text: str) -> None:
        """A line, or lines that already end in one newline, on stdout."""
        try:
            self.out.write(text if text.endswith("\n") else text + "\n")
        except OSError as error:
            raise output_error(error)  # noqa: B904 - the cause is set there

    def error(self, text: str) -> None:
        """A line on stderr that starts with the name of the command."""
        self.notify(self.command.name)(text)

    def notify(self, prefix: str) -> Callable[[str], None]:
        """A function that writes a line with this prefix to stderr: ``image: using image from file F``."""

        def write(text: str) -> None:
            # One write a line: several processes share this stream.
            for line in text.translate(CONTROLS).split("\n"):
                self.err.write(f"{prefix}: {line}\n")
            self.err.flush()

        return write

    def usage(self) -> int:
        """Usage on stdout; the exit code of a command that was called with the wrong words."""
        from rkt.cli.help import usage

        self.print(usage(self.command))
        return 254

    def config(self) -> Config:
        """The layered configuration.  Raises RktError: ``cannot get configuration: ...``."""
        if self._config is None:
            from rkt.config import load
            from rkt.errors import RktError

            settings = self.globals
            try:
                self._config = load(
                    settings.system_config,
                    settings.local_config,
                    settings.user_config,
                    self.notify(self.command.name),
                )
            except (RktError, OSError) as error:
                raise RktError("cannot get configuration") from error
        return self._config

    def pull_policy(self) -> str:
        """``--pull-policy`` with its deprecated spellings: "new", "never" or "update".

        Raises RktError for another word: rkt 1.30 took it for "new".
        """
        store_only, no_store = self.flags["store-only"], self.flags["no-store"]
        if store_only and no_store:
            from rkt.errors import RktError

            raise RktError("both --store-only and --no-store specified")
        if store_only:
            return "never"
        if no_store:
            return "update"
        policy: str = self.flags["pull-policy"]
        if policy not in PULL_POLICIES:
            from rkt.errors import RktError

            raise RktError(f'invalid pull policy "{policy}": it is one of {", ".join(PULL_POLICIES)}')
        return policy

    def flush(self) -> None:
        """Hands everything printed so far to the kernel (before an exec)."""
        try:
            self.out.flush()
        except OSError as error:
            raise output_error(error)  # noqa: B904 - the cause is set there
        self.err.flush()


def output_error(error: OSError) -> Exception:
    """The error of a write to stdout, named as such; a reader that went away stays what it is."""
    if isinstance(error, BrokenPipeError):
        return error
    from rkt.errors import RktError

    failure = RktError("cannot write to standard output")
    failure.__cause__ = error
    return failure
