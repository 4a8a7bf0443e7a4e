"""What a fuzzer is made of, and words made of bytes for targets whose input has structure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rkt.errors import RktError


class Target:
    """One parser under test.

    ``run`` takes an input and returns unless something is wrong: what leaves it other than ``refusals`` is a
    finding, a failed ``assert`` first of all.  ``seeds`` are well-formed inputs to begin with, ``words`` what
    a mutation may insert, ``longest`` the most bytes of an input, ``runs`` how many inputs ``make check``
    tries.
    """

    __slots__ = ("longest", "name", "refusals", "run", "runs", "seeds", "words")

    def __init__(
        self,
        name: str,
        run: Callable[[bytes], object],
        seeds: Callable[[], Iterable[bytes]],
        *,
        words: Sequence[bytes] = (),
        refusals: tuple[type[Exception], ...] = (RktError,),
        longest: int = 4096,
        runs: int = 10_000,
    ) -> None:
        self.name = name
        self.run = run
        self.seeds = seeds
        self.words = words
        self.refusals = refusals
        self.longest = longest
        self.runs = runs

    def __call__(self, data: bytes) -> None:
        try:
            self.run(data)
        except self.refusals as error:
            check_message(error)


def check_message(error: Exception) -> None:
    """What a user would be shown of a refusal: some text, and not more than the input was worth."""
    if isinstance(error, RktError):
        assert error.message, "an error without a message"
        assert len(str(error)) < 20_000, "an error that fills the screen"


def attempt(work: Callable[[], Any]) -> Any:
    """The result of something that may refuse; None then."""
    try:
        return work()
    except RktError as error:
        check_message(error)
        return None


class Words:
    """Reads numbers and choices from an input; past its end there are zeros."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return self._at < len(self._data)

    def byte(self) -> int:
        at = self._at
        self._at += 1
        return self._data[at] if at < len(self._data) else 0

    def choice(self, of: Sequence[Any]) -> Any:
        return of[self.byte() % len(of)]


def text_of(data: bytes) -> str:
    """An input as words of a command line arrive: any bytes, those that are no UTF-8 escaped."""
    return data.decode("utf-8", "surrogateescape")
