"""Usage texts, made from the option table."""

from __future__ import annotations

from rkt import VERSION
from rkt.cli import options
from rkt.cli.table import align

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rkt.cli.call import Call
    from rkt.cli.options import Command, Option

WIDTH = 92
QUOTED = frozenset(("string", "wait", "hostname"))
"""Kinds whose default is printed in quotes: the plain strings of pflag."""


def usage(command: Command) -> str:
    """The usage text of a command, of a group of commands, or (``options.ROOT``) of rkt."""
    root = not command.path
    lines: list[list[str]] = [
        ["NAME:"],
        ["", f"{command.path or 'rkt'} - {command.summary or 'runs pods of apps'}"],
    ]
    lines += [[], ["USAGE:"], ["", " ".join(filter(None, ("rkt", command.path, command.usage)))]]
    if root:
        lines += [[], ["VERSION:"], ["", VERSION]]
    if root:
        within = [entry for entry in options.listed() if entry.module]
    else:
        prefix = command.path + " "
        within = [e for e in options.available() if e.path.startswith(prefix) and not e.hidden]
    if within:
        skip = 0 if root else len(command.path) + 1
        lines += [[], ["COMMANDS:"]]
        lines += [["", entry.path[skip:], entry.summary] for entry in within]
    if command.description:
        lines += [[], ["DESCRIPTION:"]]
        lines += [["", line] if line else [] for line in wrap(command.description)]
    lines += [[], ["OPTIONS:"]]
    if root:
        lines += option_lines(options.GLOBALS, "rkt")
    else:
        lines += option_lines(command.options, command.name)
        lines += [[], ["GLOBAL OPTIONS:"], *option_lines(options.GLOBALS)]
    return align(lines)


def wrap(text: str) -> list[str]:
    """Paragraphs as lines of at most ``WIDTH`` letters; lines that are indented stay as they are."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        if not paragraph.startswith(" "):
            line = ""
            for word in paragraph.split(" "):
                if line and len(line) + 1 + len(word) > WIDTH:
                    lines.append(line)
                    line = word
                else:
                    line = f"{line} {word}" if line else word
            lines.append(line)
        else:
            lines.append(paragraph)
    return lines


def option_lines(table: Iterable[Option], owner: str = "") -> list[list[str]]:
    """One line an option, sorted by name; with an owner also ``--help``."""
    lines = {option.name: ["", "    " + spelling(option), option.help] for option in table if option.shown}
    if owner:
        lines["help"] = ["", "-h, --help[=false]", f"print this help for {owner}"]
    return [lines[name] for name in sorted(lines)]


def spelling(option: Option) -> str:
    """``--name=default`` as help shows it."""
    default = f'"{option.default}"' if option.kind in QUOTED else option.default
    return f"--{option.name}[={default}]" if option.bare else f"--{option.name}={default}"


def without_command(call: Call) -> int:
    """rkt or a group of commands without a command."""
    if not call.command.path:
        call.error("missing command")
        call.print(usage(call.command))
        return 2
    call.print(usage(call.command))
    return 0
