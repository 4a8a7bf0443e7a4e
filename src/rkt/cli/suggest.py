"""What a mistyped command may have meant, by cobra's rule: at most two edits away, or the start of a name."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def similar(word: str, names: Iterable[str]) -> list[str]:
    """The names that start with the word or are two edits away at most, case aside.

    Unlike cobra's: a word all of whose letters would have to change is no mistyped name.
    """
    word = word.lower()
    limit = min(2, len(word) - 1)
    return [name for name in names if name.startswith(word) or distance(word, name) <= limit]


def distance(left: str, right: str) -> int:
    """Levenshtein's distance: insertions, deletions and replacements of one letter."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            cost = previous if a == b else 1 + min(previous, row[j], row[j - 1])
            previous, row[j] = row[j], cost
    return row[-1]
