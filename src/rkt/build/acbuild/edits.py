"""The steps that change the manifest: each takes it and words, and changes it in place.

What has the same name is replaced where it stands; removing what is not there is a NotFoundError.
"""

from __future__ import annotations

from rkt.appc import annotations as notes
from rkt.appc import identifiers, isolators, labels
from rkt.appc.app import EVENTS, App, EventHandler
from rkt.appc.environment import EnvironmentVariable, check_name
from rkt.appc.flags import parse_integer, parse_unsigned
from rkt.appc.image import Dependency
from rkt.appc.isolators import Isolator
from rkt.appc.labels import Label
from rkt.appc.port import Port
from rkt.appc.volume import MountPoint
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from rkt.appc.image import ImageManifest

    Item = TypeVar("Item")

PROTOCOLS = ("tcp", "udp")


class NotFoundError(RktError):
    """What is to be removed is not in the image; acbuild exits with 2."""

    __slots__ = ()
    exit_code = 2

    def __init__(self) -> None:
        super().__init__("element to be removed does not exist in this ACI")


def app_of(manifest: ImageManifest) -> App:
    """The app of an image; made for root when there is none."""
    if manifest.app is None:
        manifest.app = App(user="0", group="0")
    return manifest.app


def _existing(manifest: ImageManifest) -> App:
    if manifest.app is None:
        raise NotFoundError
    return manifest.app


def _put(items: list[Item], item: Item, same: Callable[[Item], bool]) -> None:
    """Replace the first of those that are ``same``, drop the others; append when there is none."""
    found = [position for position, other in enumerate(items) if same(other)]
    if not found:
        items.append(item)
        return
    items[found[0]] = item
    for position in reversed(found[1:]):
        del items[position]


def _remove(items: list[Item], same: Callable[[Item], bool]) -> None:
    left = [item for item in items if not same(item)]
    if len(left) == len(items):
        raise NotFoundError
    items[:] = left


# Name, labels, annotations, dependencies


def set_name(manifest: ImageManifest, name: str) -> None:
    manifest.name = identifiers.check_identifier(name)


def add_label(manifest: ImageManifest, name: str, value: str) -> None:
    label = Label(identifiers.check_identifier(name), value)
    _put(manifest.labels, label, lambda other: other.name == name)
    labels.check(manifest.labels)


def remove_label(manifest: ImageManifest, name: str) -> None:
    _remove(manifest.labels, lambda other: other.name == name)


def add_annotation(manifest: ImageManifest, name: str, value: str) -> None:
    notes.put(manifest.annotations, identifiers.check_identifier(name), value)
    notes.check(manifest.annotations)


def remove_annotation(manifest: ImageManifest, name: str) -> None:
    _remove(manifest.annotations, lambda other: other.name == name)


def add_dependency(
    manifest: ImageManifest, text: str, *, image_id: str = "", label_words: list[str], size: str = ""
) -> None:
    """``text`` is ``NAME[:VERSION][,LABEL=VALUE...]``; ``label_words`` are further ``LABEL=VALUE``."""
    from rkt.appc import digest
    from rkt.appc.discovery import ImageName

    image = ImageName.parse(text)
    values: dict[str, str] = {}
    for word in label_words:
        name, equals, value = word.partition("=")
        if not equals:
            raise RktError(f"no '=' character in \"{word}\"")
        if name in values:
            raise RktError(f"multiple {name} labels specified")
        values[name] = value
    for name, value in image.labels.items():
        if name in values:
            raise RktError(f"multiple {name} labels specified")
        values[name] = value
    made = Dependency(
        image.name,
        image_id=digest.check(image_id) if image_id else None,
        labels=labels.from_map(values),
        size=parse_unsigned(size, 64) if size else 0,
    )
    _put(manifest.dependencies, made, lambda other: other.image_name == made.image_name)


def remove_dependency(manifest: ImageManifest, name: str) -> None:
    """All with that name, whatever their labels are."""
    _remove(manifest.dependencies, lambda other: other.image_name == name)


# The app


def set_exec(manifest: ImageManifest, words: list[str]) -> None:
    app_of(manifest).exec = list(words)


def set_event_handler(manifest: ImageManifest, event: str, words: list[str]) -> None:
    if event not in EVENTS:
        raise RktError(f'unknown event "{event}": it is {" or ".join(EVENTS)}')
    handlers = app_of(manifest).event_handlers
    _put(handlers, EventHandler(event, list(words)), lambda other: other.name == event)


def set_user(manifest: ImageManifest, user: str) -> None:
    if not user:
        raise RktError("user cannot be empty")
    app_of(manifest).user = user


def set_group(manifest: ImageManifest, group: str) -> None:
    if not group:
        raise RktError("group cannot be empty")
    app_of(manifest).group = group


def set_supplementary_groups(manifest: ImageManifest, words: list[str]) -> None:
    app_of(manifest).supplementary_gids = [parse_unsigned(word, 32) for word in words]


def set_working_directory(manifest: ImageManifest, path: str) -> None:
    app_of(manifest).working_directory = path


def add_variable(manifest: ImageManifest, name: str, value: str) -> None:
    made = EnvironmentVariable(check_name(name), value)
    _put(app_of(manifest).environment, made, lambda other: other.name == name)


def remove_variable(manifest: ImageManifest, name: str) -> None:
    _remove(_existing(manifest).environment, lambda other: other.name == name)


def add_isolator(manifest: ImageManifest, name: str, value: Any) -> None:
    """``value`` is parsed JSON."""
    try:
        made = Isolator(identifiers.check_identifier(name), value)
    except RktError as error:
        raise RktError(f'cannot add isolator "{name}"') from error
    items = app_of(manifest).isolators
    _put(items, made, lambda other: other.name == name)
    isolators.check(items)


def remove_isolator(manifest: ImageManifest, name: str) -> None:
    _remove(_existing(manifest).isolators, lambda other: other.name == name)


def add_mount(manifest: ImageManifest, name: str, path: str, *, read_only: bool = False) -> None:
    """In the place of a mount point with the same name or the same path."""
    if not path.startswith("/"):
        raise RktError(f'the path of a mount point is absolute, unlike "{path}"')
    made = MountPoint(identifiers.check_name(name), path, read_only=read_only)
    _put(app_of(manifest).mount_points, made, lambda other: other.name == name or other.path == path)


def remove_mount(manifest: ImageManifest, text: str) -> None:
    """The mount point with a name or a path."""
    _remove(_existing(manifest).mount_points, lambda other: text in (other.name, other.path))


def add_port(
    manifest: ImageManifest,
    name: str,
    protocol: str,
    *,
    number: str,
    count: str = "1",
    activated: bool = False,
) -> None:
    if protocol not in PROTOCOLS:
        raise RktError(f'invalid protocol "{protocol}": it is {" or ".join(PROTOCOLS)}')
    made = Port(
        identifiers.check_name(name),
        protocol,
        parse_unsigned(number, 16),
        count=parse_unsigned(count, 16),
        socket_activated=activated,
    )
    _put(app_of(manifest).ports, made, lambda other: other.name == name)


def remove_port(manifest: ImageManifest, text: str) -> None:
    """The port with a name or a number."""
    number = parse_integer(text) if text.isascii() and text.isdigit() else -1
    _remove(_existing(manifest).ports, lambda other: other.name == text or other.port == number)
