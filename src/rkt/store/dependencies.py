"""Which images of the store an image depends on."""

from __future__ import annotations

from rkt.appc import rendering
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.image import Dependency
    from rkt.appc.rendering import Layer
    from rkt.store.store import Store

_KEY_LENGTH = len("sha512-") + 64


def layers(store: Store, key: str) -> list[Layer]:
    """The image and all it depends on, from the top down.

    Raises RktError for a dependency that is not in the store or not the one meant, and for a loop.
    """
    return rendering.flatten(key, store.manifest, lambda dependency: find_dependency(store, dependency))


def find_dependency(store: Store, dependency: Dependency) -> str:
    """The key of the image in the store that a dependency means: by its ID, else by name and labels.

    The ID has to be a whole one: what pins a dependency must not fit another image by chance.
    """
    name = dependency.image_name
    if dependency.image_id:
        if len(dependency.image_id) < _KEY_LENGTH:
            raise RktError(f'dependency "{name}" has the abbreviated image ID "{dependency.image_id}"')
        try:
            key = store.resolve(dependency.image_id)
        except RktError as error:
            raise RktError(f'dependency "{name}" is not in the local store') from error
        if store.manifest(key).name != name:
            raise RktError(f'dependency "{name}" is given the ID of image "{store.manifest(key).name}"')
    else:
        try:
            key = store.require(name, dependency.labels)
        except RktError as error:
            raise RktError(f'dependency "{name}" is not in the local store') from error
    if dependency.size and (size := store.info(key).size) != dependency.size:
        raise RktError(f'dependency "{name}" has {size} bytes instead of {dependency.size}')
    return key
