"""How an errno becomes an OSError that names the operation and the path."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    Error = TypeVar("Error", bound=OSError)


def os_error(number: int, operation: str, path: str | bytes | None = None) -> OSError:
    """The OSError (FileNotFoundError, PermissionError, ...) of an errno, ``operation path`` in its text."""
    if path is None:
        return named(OSError(number, os.strerror(number)), operation)
    return named(OSError(number, os.strerror(number), os.fsdecode(path)), operation)


def named(error: Error, operation: str, path: str | None = None) -> Error:
    """The same error, saying what was tried and on which path: ``raise named(error, "mkdir", path)``.

    For calls relative to a directory fd, where the standard library knows only the last part of the path.
    """
    error.__dict__["operation"] = operation
    if path is not None:
        error.filename = path
    return error
