"""Errors in print: which text goes to which stream, and the exit code that goes with it.

Nothing here is imported by a command that succeeds.
"""

from __future__ import annotations

import sys

from rkt.cli import grammar
from rkt.cli.call import CONTROLS
from rkt.errors import RktError, chain, one_line, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call

FAILURE = 254
INTERRUPTED = 130
"""What a shell reports for a program that SIGINT ended."""
BROKEN_PIPE = 141
"""What a shell reports for a program that SIGPIPE ended."""
ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def quote(text: str) -> str:
    """A string as Go's ``%q`` prints it."""
    result = ['"']
    for character in text:
        code = ord(character)
        if character in '"\\':
            result.append("\\" + character)
        elif character in ESCAPES:
            result.append(ESCAPES[character])
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as the interpreter decodes arguments
            result.append(f"\\x{code - 0xDC00:02x}")
        elif not character.isprintable():
            result.append(
                f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
            )
        else:
            result.append(character)
    result.append('"')
    return "".join(result)


def warn(line: str) -> None:
    """A line on stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def report(error: BaseException, call: Call | None, words: list[str]) -> int:
    """Prints what ended a command and returns the exit code; a stream that cannot be written is no further
    error.
    """
    try:
        status = explain(error, call, words)
        sys.stdout.flush()
    except BrokenPipeError:
        return BROKEN_PIPE
    except OSError:
        return FAILURE
    return status


def explain(error: BaseException, call: Call | None, words: list[str]) -> int:
    if isinstance(error, grammar.HelpRequest):
        from rkt.cli.help import usage

        sys.stdout.write(usage(error.command))
        return 0
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError) and error.filename is None:
        return BROKEN_PIPE  # the reader has seen enough
    if isinstance(error, grammar.UnknownCommandError):
        warn(f"Error: {error}\nRun '{error.within} --help' for usage.")
    elif isinstance(error, grammar.UsageError):
        from rkt.cli.help import usage

        # The usage belongs to stdout, and an empty line follows the error (cobra prints a usage text that is
        # empty).
        warn(f"Error: {error}\n")
        sys.stdout.write(usage(error.command))
    else:
        prefix = call.command.name if call is not None else "rkt"
        debug = call.globals.debug if call is not None else "--debug" in words
        lines = (
            known(error, debug=debug)
            if isinstance(error, RktError | OSError)
            else unexpected(error, debug=debug)
        )
        warn("\n".join(f"{prefix}: {line}" for line in lines).translate(CONTROLS))
    return FAILURE


def known(error: BaseException, *, debug: bool) -> list[str]:
    """The lines about something a user or the kernel caused, the first hint of the chain last."""
    lines = "\n".join(tree(error) if debug else [one_line(error)]).split("\n")
    for link in chain(error):
        if isinstance(link, RktError) and link.hint:
            return lines + link.hint.split("\n")
    return lines


def unexpected(error: BaseException, *, debug: bool) -> list[str]:
    """The lines about a defect of rkt."""
    detail = f"internal error: {type(error).__name__}: {error}".replace("\n", " ")
    if not debug:
        return [detail + " (--debug prints where)"]
    import traceback

    return [line for part in traceback.format_exception(error) for line in part.splitlines()] + [detail]
