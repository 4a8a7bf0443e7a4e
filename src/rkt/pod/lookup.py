"""Finding pods: by the beginning of a UUID, and all of them."""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.pod import layout
from rkt.pod.pod import Pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def names(data_dir: str, directories: tuple[str, ...] = layout.LISTED_DIRECTORIES) -> dict[str, str]:
    """UUID -> directory where it was seen, of all pods in ``directories``, sorted by UUID.

    Read in the order in which pods move, so none is missed; what is no UUID is no pod and not ours.
    """
    found: dict[str, str] = {}
    for directory in directories:
        path = os.path.join(data_dir, layout.PODS, directory)
        try:
            entries = os.listdir(path)
        except FileNotFoundError:
            continue
        for name in entries:
            if layout.is_uuid(name):
                found[name] = directory
    return dict(sorted(found.items()))


def walk(data_dir: str, directories: tuple[str, ...] = layout.LISTED_DIRECTORIES) -> Iterator[Pod]:
    """All pods in ``directories``, by UUID, each closed when the next one is asked for.

    A pod that vanishes while we walk is left out, one that has moved to another state is not; what has the
    name of a pod and is no directory is no pod.
    """
    for uuid, directory in names(data_dir, directories).items():
        try:
            pod = Pod.open(data_dir, uuid, start=directory)
        except (RktError, OSError):
            continue
        with pod:
            yield pod


def find(data_dir: str, prefix: str) -> Pod:
    """The pod whose UUID begins with ``prefix``, in any case of letters.

    RktError when none or several do: ``no matches found for "x"``, ``ambiguous uuid, N matches``.
    """
    return Pod.open(data_dir, resolve(data_dir, prefix), start=layout.PREPARE_DIRECTORY)


def resolve(data_dir: str, prefix: str) -> str:
    """The full UUID that ``prefix`` means among the pods a user can see."""
    if not prefix:
        raise RktError("UUID cannot be empty")
    wanted = prefix.lower()
    matches = [uuid for uuid in names(data_dir) if uuid.startswith(wanted)]
    if not matches:
        raise RktError(f'no matches found for "{prefix}"')
    if len(matches) > 1:
        raise RktError(f"ambiguous uuid, {len(matches)} matches")
    return matches[0]


def from_file(path: str) -> str:
    """The UUID, or its beginning, in a file as ``--uuid-file-save`` writes it.

    OSError when it cannot be read, RktError when it holds no text.
    """
    with open(path, "rb") as file:
        data = file.read(256)
    try:
        return data.decode().strip()
    except UnicodeDecodeError as error:
        raise RktError(f"{path} holds no UUID") from error
