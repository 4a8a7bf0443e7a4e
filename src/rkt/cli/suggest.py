"""What a mistyped command may have meant: a name a few edits away, or one that starts with the word."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def similar(word: str, names: Iterable[str]) -> list[str]:
    """The names that start with the word or are one edit away, two for a word of six letters, case aside.

    Cobra allows two always, and so takes any short word for another.
    """
    word = word.lower()
    limit = 0 if len(word) < 2 else min(2, max(1, len(word) // 3))
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
