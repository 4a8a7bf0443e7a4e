"""The one exception of this package, which knows where in a document the fault is."""

from __future__ import annotations

from rkt.errors import RktError

_LONGEST = 600
"""Letters of what is wrong, or where."""


class AppcError(RktError):
    """A text or value breaks a rule of the specification.

    ``fault`` says which; ``path`` names the place as the segments from the outside in (member names
    and list indices), empty for a value that stands alone.  The text is
    ``app.ports[0].port: expected integer, got string``.
    """

    __slots__ = ("fault", "path")

    def __init__(self, fault: str, *path: str | int) -> None:
        fault = _shortened(fault)
        super().__init__(fault)
        self.fault = fault
        self.path: list[str | int] = list(path)
        if path:
            self._render()

    def under(self, segment: str | int) -> None:
        """Put one more segment in front: the fault lies inside ``segment``.

        The decoders build the path while the exception passes, so that good documents pay nothing.
        """
        self.path.insert(0, segment)
        self._render()

    def _render(self) -> None:
        words = ""
        for segment in self.path:
            if isinstance(segment, int):
                words += f"[{segment}]"
            elif words:
                words += f".{segment}"
            else:
                words = segment
        self.message = f"{_shortened(words)}: {self.fault}"
        self.args = (self.message,)


def _shortened(text: str) -> str:
    """Values and names of members come from outside, and may be as long as the document."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"
