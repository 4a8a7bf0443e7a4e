"""Tables as Go's text/tabwriter prints them with the settings of rkt: tab stops of 8, padding 1, padded by
tabs.

A cell is padded if another cell follows it in its line; a column is as wide as its longest cell over
consecutive lines that have it, plus one, up to the next multiple of 8.  Widths count code points.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

STOP = 8


def align(lines: Sequence[Sequence[str]]) -> str:
    """The lines of cells as text; every line ends in a newline."""
    padded = [list(line) for line in lines]
    columns = max((len(line) for line in lines), default=1) - 1
    for column in range(columns):
        start = 0
        while start < len(lines):
            end = start
            width = 0
            while end < len(lines) and len(lines[end]) - 1 > column:
                width = max(width, len(lines[end][column]) + 1)
                end += 1
            width = -(-width // STOP) * STOP
            for index in range(start, end):
                missing = width - len(lines[index][column])
                padded[index][column] += "\t" * -(-missing // STOP)
            start = max(end, start + 1)
    return "".join("".join(line) + "\n" for line in padded)


def plain(text: str) -> str:
    """The text with a question mark for everything that is no visible letter."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


class Table:
    """Rows of cells under headers; without headers it is only rows."""

    __slots__ = ("lines",)

    def __init__(self, headers: Iterable[str] = ()) -> None:
        headers = tuple(headers)
        self.lines: list[tuple[str, ...]] = [headers] if headers else []

    def row(self, *cells: str) -> None:
        # A tab or a newline in a cell would begin another cell or row (names come from foreign manifests).
        self.lines.append(tuple(cell if cell.isprintable() else plain(cell) for cell in cells))

    def render(self) -> str:
        """The table; "" when it has no line at all."""
        return align(self.lines)
