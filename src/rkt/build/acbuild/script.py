"""Scripts: one command a line, without the word acbuild.

Words are separated by blanks; quotes and backslashes keep blanks, ``#`` begins a comment, a backslash at
the end of a line joins it with the next.  Before the command of ``run`` and ``set-exec`` the ``--`` may be
left out.
"""

from __future__ import annotations

from rkt.errors import RktError

_WITH_COMMANDS = ("run", "set-exec")


def parse(text: str) -> list[list[str]]:
    """The commands of a script as words, the name of each in lower case.

    Raises RktError that names the line.
    """
    found = []
    for number, line in _join(text.split("\n")):
        try:
            words = split(line)
        except RktError as error:
            raise RktError(f"line {number}") from error
        if not words:
            continue
        words[0] = words[0].lower()
        if words[0] == "end":
            raise RktError(
                f"line {number}: calling end is unnecessary in a script, cleanup is done automatically"
            )
        found.append(_with_dashes(words) if words[0] in _WITH_COMMANDS else words)
    return found


def _join(lines: list[str]) -> list[tuple[int, str]]:
    """Lines with the number of the first of those that were joined."""
    joined: list[tuple[int, str]] = []
    pending = ""
    start = 0
    for number, raw in enumerate(lines, 1):
        line = raw.strip()
        start = start or number
        if line.endswith("\\") and number < len(lines):
            pending += line[:-1] + " "
            continue
        joined.append((start, pending + line))
        pending, start = "", 0
    return joined


def split(line: str) -> list[str]:
    """The words of a line."""
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    escaped = False
    for letter in line:
        if escaped:
            word = [*(word or []), letter]
            escaped = False
        elif letter == "\\":
            escaped = True
        elif quote:
            if letter == quote:
                quote = ""
            else:
                word = [*(word or []), letter]
        elif letter in "'\"":
            quote = letter
            word = word or []
        elif letter in " \t#":
            if word is not None:
                words.append("".join(word))
                word = None
            if letter == "#":
                return words
        else:
            word = [*(word or []), letter]
    if quote:
        raise RktError(f"unterminated {'single' if quote == chr(39) else 'double'} quote block")
    if escaped:
        raise RktError("ended with an escape")
    if word is not None:
        words.append("".join(word))
    return words


def _with_dashes(words: list[str]) -> list[str]:
    """Put ``--`` before the first word that is no flag."""
    for position, word in enumerate(words):
        if position and word == "--":
            return words
        if position and not word.startswith("-"):
            return [*words[:position], "--", *words[position:]]
    return words
