"""How a worker's result, or what it raised, becomes JSON, and becomes that again in rkt.

An answer comes from a process that has read a hostile file: it is read as data, and makes no more than an
RktError or an OSError.
"""

from __future__ import annotations

import os

from rkt.errors import Context, RktError, chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MARK = b"\0"
"""Begins an answer; before it are words of an interpreter that could not even start."""

_LONGEST = 1 << 16
"""Characters of one message."""
_DEEPEST = 32
_MEMORY = "memory"


class WorkerError(RuntimeError):
    """A defect of rkt in a worker, with the place where it happened."""


class Answer:
    """``missing``: what the confinement of this worker lacked, in words."""

    __slots__ = ("_error", "_value", "missing")

    def __init__(
        self, value: dict[str, object], missing: list[str], error: BaseException | None = None
    ) -> None:
        self.missing = missing
        self._value = value
        self._error = error

    def result(self) -> dict[str, object]:
        """The task's result; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._value


def encode_result(value: dict[str, object], missing: list[str]) -> bytes:
    """The answer of a task that ended well."""
    return _encode({"result": value, "missing": missing})


def encode_error(error: BaseException, missing: list[str]) -> bytes:
    """The answer of a task that raised ``error``."""
    return _encode({"errors": [_error(link) for link in chain(error)], "missing": missing})


def _encode(document: dict[str, object]) -> bytes:
    from rkt.appc import gojson

    return MARK + gojson.dumps(document).encode("utf-8", "backslashreplace")


def _error(error: BaseException) -> dict[str, object]:
    if isinstance(error, OSError) and error.errno is not None:
        name = error.filename
        return {
            "errno": error.errno,
            "filename": os.fsdecode(name) if isinstance(name, (str, bytes)) else None,
            "operation": str(getattr(error, "operation", "")),
        }
    if isinstance(error, RktError):
        return {"message": error.message, "hint": error.hint, "context": isinstance(error, Context)}
    if isinstance(error, MemoryError):
        return {"limit": _MEMORY}
    return {"defect": f"{type(error).__name__}: {error} {_place(error)}"}


def _place(error: BaseException) -> str:
    """Where an exception was raised; the traceback module is not needed for that, and costs 5 ms."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"({code.co_filename}:{trace.tb_lineno} in {code.co_name})"
        trace = trace.tb_next
    return place


def decode(data: bytes, *, status: int, task: str) -> Answer:
    """The answer in what a worker wrote; ``status`` is its exit code, or the negative number of a signal."""
    from rkt.appc import gojson

    words, mark, text = data.partition(MARK)
    if not mark or status:
        return Answer({}, [], _ending(words, status, task))
    try:
        document = gojson.loads(text)
        missing = [str(line)[:_LONGEST] for line in document.get("missing", [])]
        if "errors" in document:
            return Answer({}, missing, _rebuild(document["errors"]))
        result = document["result"]
        if not isinstance(result, dict):
            raise TypeError("the result is no object")
        return Answer(result, missing)
    except (RktError, LookupError, TypeError, ValueError, AttributeError) as error:
        return Answer({}, [], RktError(f"the answer of the worker for {task} cannot be understood: {error}"))


def _ending(words: bytes, status: int, task: str) -> BaseException:
    lines = words.decode("utf-8", "replace").strip().splitlines()
    last = f": {lines[-1].strip()[:_LONGEST]}" if lines else ""
    if status < 0:
        hint = "the machine, or its control group, may be out of memory" if status == -9 else ""
        return RktError(f"the worker for {task} was killed by signal {-status}{last}", hint=hint)
    return WorkerError(f"the worker for {task} exited {status} without an answer{last}")


def _rebuild(links: list[dict[str, Any]]) -> BaseException:
    """The exception that the innermost link, its consequence and so on make."""
    cause: BaseException | None = None
    for link in reversed(links[:_DEEPEST]):
        error = _exception(link)
        error.__cause__ = cause
        cause = error
    if cause is None:
        raise ValueError("an error without a message")
    return cause


def _exception(link: dict[str, Any]) -> BaseException:
    if "errno" in link:
        from rkt.linux.failure import named

        number = int(link["errno"])
        name = link.get("filename")
        error = OSError(number, os.strerror(number))
        operation = link.get("operation") or ("" if name is None else "open")
        return named(error, str(operation), None if name is None else str(name))
    if "defect" in link:
        return WorkerError(str(link["defect"])[:_LONGEST])
    if "limit" in link:
        return RktError(f"it needs more {_MEMORY} than a worker may have")
    kind = Context if link.get("context") is True else RktError
    return kind(str(link["message"])[:_LONGEST], str(link.get("hint", ""))[:_LONGEST])
