"""Manual pages of a tool, one a command, from its table."""

from __future__ import annotations

import os

from rkt import VERSION
from rkt.cli.help import spelling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rkt.cli.options import Command, Option
    from rkt.cli.tools.program import Program


def write(program: Program, directory: str) -> None:
    """Write ``TOOL.1`` and ``TOOL-COMMAND.1`` into a directory, which is made if it is missing."""
    os.makedirs(directory, exist_ok=True)
    pages: dict[str, Command | None] = {"": None, **program.commands}
    for path, command in pages.items():
        name = "-".join([program.name, *path.split()])
        with open(os.path.join(directory, name + ".1"), "w", encoding="utf-8") as file:
            file.write(page(program, name, command))


def page(program: Program, name: str, command: Command | None) -> str:
    """One page in roff."""
    path = command.path if command else ""
    summary = (command.summary if command else "") or program.summary
    words = " ".join(filter(None, (program.name, path, command.usage if command else "[command]")))
    lines = [f'.TH {name.upper()} 1 "" "rkt {VERSION}" "{program.name}"']
    lines += [
        ".SH NAME",
        escape(f"{name} - {summary[0].lower()}{summary[1:]}"),
        ".SH SYNOPSIS",
        escape(words),
    ]
    if command is not None and command.description:
        lines += [".SH DESCRIPTION", escape(command.description)]
    if not path and len(program.commands) > 1:
        lines.append(".SH COMMANDS")
        for one in program.commands.values():
            title = "-".join([program.name, *one.path.split()])
            lines += [".TP", f"\\fB{escape(title)}\\fR(1)", escape(one.summary)]
    if command is not None and command.options:
        lines += [".SH OPTIONS", *_options(command.options)]
    if program.globals:
        lines += [".SH GLOBAL OPTIONS", *_options(program.globals)]
    return "\n".join(lines) + "\n"


def _options(table: Iterable[Option]) -> list[str]:
    lines = []
    for option in sorted(table, key=lambda option: option.name):
        if option.shown:
            lines += [".TP", f"\\fB{escape(spelling(option))}\\fR", escape(option.help)]
    return lines


def escape(text: str) -> str:
    """Text for roff: a hyphen that may be copied, no line that is taken for a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in text.split("\n"))
