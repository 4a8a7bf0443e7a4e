"""What a mistyped command may have meant, by cobra's rule: two edits away, or the start of a name."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def similar(word: str, names: Iterable[str]) -> list[str]:
    """The names within two edits of the word, case aside, or that start with it."""
    word = word.lower()
    return [name for name in names if distance(word, name.lower()) <= 2 or name.lower().startswith(word)]


def distance(left: str, right: str) -> int:
    """Levenshtein's distance: insertions, deletions and replacements of one letter."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            cost = previous if a == b else 1 + min(previous, row[j], row[j - 1])
            previous, row[j] = row[j], cost
    return row[-1]
