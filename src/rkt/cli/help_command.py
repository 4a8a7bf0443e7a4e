"""``rkt help [COMMAND]``."""

from __future__ import annotations

from rkt.cli import options
from rkt.cli.grammar import find_command, group
from rkt.cli.help import usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call


def run(call: Call) -> int:
    """Prints the usage of the command the words name; words after it do not matter."""
    entry, _ = find_command(call.args)
    if entry is None:
        call.print(usage(options.ROOT))
    else:
        call.print(usage(options.load(entry) if entry.module else group(entry)))
    return 0
