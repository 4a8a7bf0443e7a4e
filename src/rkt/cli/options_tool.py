"""The commands about rkt itself."""

from __future__ import annotations

from rkt.cli.options import Command, Option

TABLE = {
    "completion": Command(
        "SHELL",
        "Prints a script that completes commands and flags. The only shell is bash:\n\n    . <(rkt "
        "completion bash)",
        completes="shell",
    ),
    "config": Command(
        "",
        'The output is an object whose member "stage0" lists the entries in force, in the form in which they '
        "are written in configuration files. Passwords and tokens are printed in clear.",
        (Option("pretty-print", "bool", "true", "indent the output"),),
    ),
    "help": Command(
        "[COMMAND]",
        "Prints the usage of a command, or of rkt with a list of all commands.",
        completes="command",
    ),
    "version": Command("", "Prints the versions of rkt, of the appc specification and of what runs it."),
}
