"""The tasks a worker can be given, and what each may do.  The table is all there is: nothing names others."""

from __future__ import annotations

STREAMS = "streams"
"""Reads and writes the fds it was given; no path means anything to it."""

TREES = "trees"
"""Also makes, changes and removes what lies below the directories it was given."""

TASKS: dict[str, str] = {
    "confined.building:missing": STREAMS,
    "confined.building:unpack": TREES,
    "confined.reading:read_image": STREAMS,
    "confined.importing:unpack_image": TREES,
    "confined.unpacking:unpack": TREES,
    "layer_inflate:inflate": STREAMS,
    "layer_unpack:unpack": TREES,
}
"""What is run, ``MODULE:FUNCTION`` below ``rkt.store``, with its profile (STREAMS or TREES).

FUNCTION takes the arguments and the numbers of its fds, in the order in which the caller passed them, and
returns a dict that is JSON-able (text in UTF-8; ``bytes.decode("latin-1")`` for what may be anything).
MODULE may have a function ``prepare(arguments)``: it imports what FUNCTION will need, for later nothing can
be imported.  As root each directory of a TREES task becomes a mount of its own: no link and no renaming leads
from one to another.
"""
