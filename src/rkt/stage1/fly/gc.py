"""``gc``: nothing of a fly pod is outside its directory.

gc [--debug] [--local-config=DIR] UUID
"""

from __future__ import annotations

import sys

from rkt.errors import RktError, one_line
from rkt.stage1.common import flags


def main(argv: list[str]) -> int:
    """Check the command line, do nothing."""
    try:
        _, arguments, _ = flags.parse(argv[1:], flags.GC)
        if len(arguments) != 1:
            raise RktError("a pod UUID is required")
    except RktError as exc:
        sys.stderr.write(f"stage1: {one_line(exc)}\n")
        return 254
    return 0
