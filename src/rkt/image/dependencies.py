"""The images an image is built on: each is found or fetched like the image itself.

A manifest comes from outside: it may name itself, a chain without end, or an image and the ID of another.
Hence every dependency is fetched once, chains are bounded, and what came is compared with what was meant.
"""

from __future__ import annotations

from rkt.errors import RktError
from rkt.store import dependencies
from rkt.store.store import ImageNotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.appc.image import Dependency
    from rkt.store.store import Store

MAX_DEPTH = 32
MAX_IMAGES = 1000


def fetch_all(
    store: Store, key: str, fetch: Callable[[Dependency], str], *, believed: Callable[[str], bool]
) -> None:
    """Get all that the image depends on into the store; ``fetch`` gives the key of one dependency.

    ``believed`` says of an image in the store whether it was verified as is asked for now: a name may mean
    another one there than the one just fetched.  Raises RktError for a loop, for an image that is not the one
    meant or not believed, and what ``fetch`` raises.
    """
    seen: set[tuple[str, str, tuple[tuple[str, str], ...]]] = set()
    waiting = [(key, 0)]
    while waiting:
        current, depth = waiting.pop()
        for dependency in reversed(store.manifest(current).dependencies):
            labels = tuple((label.name, label.value) for label in dependency.labels)
            identity = (dependency.image_name, dependency.image_id or "", labels)
            if identity in seen:
                continue
            seen.add(identity)
            name = dependency.image_name
            if depth >= MAX_DEPTH or len(seen) > MAX_IMAGES:
                raise RktError(f'dependency "{name}" is one too many: image {key} depends on too much')
            found = _one(store, dependency, fetch)
            # An ID in the manifest of an image that was verified says which image is meant.
            if not dependency.image_id and not believed(found):
                raise RktError(
                    f'dependency "{name}" is image {found} in the local store, which was not verified',
                    hint=f"remove it with: rkt image rm {found}, or relax with --insecure-options=image",
                )
            waiting.append((found, depth + 1))
    # what was resolved one by one has to fit together, and hold no loop
    store.tree_id(key)


def _one(store: Store, dependency: Dependency, fetch: Callable[[Dependency], str]) -> str:
    if dependency.image_id:
        try:
            store.resolve(dependency.image_id)
        except ImageNotFoundError:
            pass
        else:
            return dependencies.find_dependency(store, dependency)
    came = fetch(dependency)
    if dependency.image_id and not _same(came, dependency.image_id):
        raise RktError(
            f'dependency "{dependency.image_name}" is image {came} instead of {dependency.image_id}'
        )
    return dependencies.find_dependency(store, dependency)


def _same(key: str, image_id: str) -> bool:
    """IDs in manifests may be shorter or longer than a key."""
    shorter = min(len(key), len(image_id))
    return key[:shorter] == image_id[:shorter].lower()
