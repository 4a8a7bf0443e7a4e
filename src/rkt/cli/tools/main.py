"""Where a call of a tool begins and ends: the tool is chosen by the name it was called by."""

from __future__ import annotations

import os
import sys

from rkt.cli.grammar import HelpRequest, UsageError
from rkt.cli.main import open_streams
from rkt.cli.tools.program import MisuseError, Program, ToolCall, parse, usage
from rkt.errors import RktError


def main(argv: list[str]) -> int:
    """Runs one command line and returns its exit code; never exits, never raises."""
    open_streams()
    name = os.path.basename(argv[0])
    words = argv[1:]
    if name == "acbuild-script":  # for the first line of a script
        name, words = "acbuild", ["script", *words]
    program: Program = __import__("rkt.cli.tools." + name, fromlist=("PROGRAM",)).PROGRAM
    call: ToolCall | None = None
    try:
        call = parse(program, words)
        status = run(call)
        call.flush()
    except BaseException as error:
        return report(program, error, call, debug="--debug" in words or "-debug" in words)
    return status


def run(call: ToolCall) -> int:
    """Runs a parsed call."""
    if not call.command.module:
        call.print(usage(call.program, call.command))
        return 0
    module, _, function = call.command.module.rpartition(".")
    status: int = getattr(__import__("rkt.cli.tools." + module, fromlist=(function,)), function)(call)
    return status


def report(program: Program, error: BaseException, call: ToolCall | None, *, debug: bool) -> int:
    """Prints what ended a call and returns the exit code."""
    from rkt.cli import output

    try:
        status = explain(program, error, call, debug=debug)
        sys.stdout.flush()
    except BrokenPipeError:
        return output.BROKEN_PIPE
    except OSError:
        return program.failure
    return status


def explain(program: Program, error: BaseException, call: ToolCall | None, *, debug: bool) -> int:
    """As ``report``, for streams that can be written."""
    from rkt.cli import output

    if isinstance(error, HelpRequest):
        sys.stdout.write(usage(program, error.command))
        return 0
    if isinstance(error, KeyboardInterrupt):
        return output.INTERRUPTED
    if isinstance(error, BrokenPipeError) and error.filename is None:
        return output.BROKEN_PIPE
    if isinstance(error, UsageError):
        output.warn(f"Error: {error}\n")
        sys.stdout.write(usage(program, error.command))
        return program.misuse
    prefix = (call.command.path if call is not None else "") or program.name
    known = isinstance(error, RktError | OSError)
    lines = output.known(error, debug=debug) if known else output.unexpected(error, debug=debug)
    output.warn("\n".join(f"{prefix}: {line}" for line in lines))
    if isinstance(error, MisuseError):
        return program.misuse
    code: int = getattr(error, "exit_code", program.failure)
    return code
