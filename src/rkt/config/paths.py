"""The one setting nearly every command needs, read without the rest of the configuration.

Costs three look-ups of directories that mostly do not exist, and no import beyond that.
"""

from __future__ import annotations

from rkt.config.files import documents
from rkt.errors import RktError


def data_directory(system: str, local: str, user: str = "") -> str:
    """The ``data`` of the uppermost layer that has one; "" if none has.

    Raises RktError: ``cannot get configuration``.
    """
    found = ""
    try:
        for layer in (system, local, user):
            if layer:
                found = layer_directory(layer) or found
    except (RktError, OSError) as error:
        raise RktError("cannot get configuration") from error
    return found


def layer_directory(layer: str) -> str:
    paths = None
    for document in documents(layer, "paths.d"):
        from rkt.config.kinds import Paths, merge_paths

        if paths is None:
            paths = Paths()
        document.read(merge_paths, paths)
    return paths.data if paths is not None else ""
