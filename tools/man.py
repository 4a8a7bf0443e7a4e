#!/usr/bin/python3
"""Writes the manual pages, one a program and command, from the tables that also drive parsers and help.

PYTHONPATH=src tools/man.py DIRECTORY
"""

from __future__ import annotations

import os
import sys

from rkt import VERSION
from rkt.cli import options
from rkt.cli.help import spelling
from rkt.cli.tools import acbuild, actool, docker2aci, manual
from rkt.cli.tools.manual import escape


def section(title: str, *paragraphs: str) -> list[str]:
    lines = [f".SH {title}"]
    for paragraph in paragraphs:
        lines += [".PP", escape(paragraph)]
    return lines


def option_list(table: tuple[options.Option, ...]) -> list[str]:
    lines = []
    for option in sorted(table, key=lambda option: option.name):
        if option.shown:
            lines += [".TP", f"\\fB{escape(spelling(option))}\\fR", escape(option.help)]
    return lines


def page(command: options.Command, others: list[options.Entry], experiment: str = "") -> str:
    title = "-".join(["rkt", *command.path.split()])
    summary = command.summary or "runs pods of apps without a daemon"
    words = " ".join(filter(None, ("rkt", command.path, command.usage)))
    lines = [f'.TH {title.upper()} 1 "" "rkt {VERSION}" "rkt"']
    lines += section("NAME", f"{title} - {summary[0].lower()}{summary[1:]}")
    lines += section("SYNOPSIS", words)
    lines += section("DESCRIPTION", *(part for part in command.description.split("\n") if part))
    if experiment:
        words = f"RKT_EXPERIMENT_{experiment.upper()}=true"
        lines += [".PP", escape(f"This command exists only with {words} in the environment.")]
    if others:
        lines.append(".SH COMMANDS")
        for entry in others:
            name = "rkt-" + entry.path.replace(" ", "-")
            lines += [".TP", f"\\fB{escape(name)}\\fR(1)", escape(entry.summary)]
    if command.options:
        lines += [".SH OPTIONS", *option_list(command.options)]
    lines += [".SH GLOBAL OPTIONS", *option_list(options.GLOBALS)]
    lines += section(
        "EXIT STATUS",
        "0 for success, 254 for a failure of rkt. The commands that run something (run, run-prepared, enter) "
        "exit with its status.",
    )
    if command.path:
        lines += section("SEE ALSO", "rkt(1)")
    return "\n".join(lines) + "\n"


def main() -> None:
    directory = sys.argv[1]
    entries = [entry for entry in options.COMMANDS if not entry.hidden]
    listed = [entry for entry in entries if entry.module and not entry.experiment]
    pages = {"rkt": page(options.ROOT, listed)}
    for entry in entries:
        command = options.load(entry) if entry.module else options.Command("COMMAND")
        command.path, command.summary = entry.path, entry.summary
        below = [other for other in entries if other.path.startswith(entry.path + " ")]
        pages["rkt-" + entry.path.replace(" ", "-")] = page(command, below, entry.experiment)
    for name, text in pages.items():
        with open(os.path.join(directory, name + ".1"), "w") as file:
            file.write(text)
    for program in (actool.PROGRAM, acbuild.PROGRAM, docker2aci.PROGRAM):
        manual.write(program, directory)


if __name__ == "__main__":
    main()
