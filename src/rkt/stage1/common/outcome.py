"""What becomes of each isolator of a pod: enforced, changed or ignored (appc specification, "isolators").

Who finds out something says it here, the last word counts; what is not enforced as it was asked for is
told to the user, or with ``--strict-isolators`` refused.
"""

from __future__ import annotations

import os

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rkt.appc.isolators import Isolator

VARIABLE = "RKT_STRICT_ISOLATORS"
"""Set to 1 by stage0 for ``--strict-isolators``."""

ENFORCED = "enforced"
CHANGED = "changed"
IGNORED = "ignored"

POD = "pod"


def is_strict() -> bool:
    """Whether the pod is to be refused when an isolator cannot be enforced; the variable goes no further."""
    return os.environ.pop(VARIABLE, "") == "1"


def of_app(name: str) -> str:
    """The scope of an app's isolators."""
    return f'app "{name}"'


class Outcomes:
    """State and reason by scope (``pod`` or ``app "NAME"``) and isolator name, in the manifests' order."""

    __slots__ = ("_found", "strict")

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self._found: dict[tuple[str, str], tuple[str, str]] = {}

    def expect(self, scope: str, isolators: Iterable[Isolator]) -> None:
        """Take note of isolators: nobody's word is no word, and they keep this order."""
        for isolator in isolators:
            self.ignored(scope, isolator.name, "this flavor has nothing to enforce it")

    def enforced(self, scope: str, isolator: str, how: str = "") -> None:
        """The isolator is in force; ``how`` is for ``--debug``."""
        self._found[scope, isolator] = (ENFORCED, how)

    def changed(self, scope: str, isolator: str, reason: str) -> None:
        """Something near to the isolator is in force."""
        self._found[scope, isolator] = (CHANGED, reason)

    def ignored(self, scope: str, isolator: str, reason: str) -> None:
        """The isolator has no effect."""
        self._found[scope, isolator] = (IGNORED, reason)

    def is_enforced(self, scope: str, isolator: str) -> bool:
        """What has been said last."""
        return self._found.get((scope, isolator), ("",))[0] == ENFORCED

    def lines(self) -> list[str]:
        """Every isolator, one a line: ``app "web": isolator resource/cpu is enforced``."""
        return [_line(*key, *value) for key, value in self._found.items()]

    def warnings(self) -> list[str]:
        """Those that are not enforced as they were asked for."""
        return [_line(*key, *value) for key, value in self._found.items() if value[0] != ENFORCED]

    def check(self) -> None:
        """RktError when the user wants all or nothing and does not get all."""
        missing = self.warnings() if self.strict else []
        if missing:
            more = f" (and {len(missing) - 1} more)" if missing[1:] else ""
            raise RktError(f"{missing[0]}{more}, which --strict-isolators does not allow")


def _line(scope: str, isolator: str, state: str, reason: str) -> str:
    line = f"{scope}: isolator {isolator} is {state}"
    return f"{line}: {reason}" if reason else line
