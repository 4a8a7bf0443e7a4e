"""Changes of an image manifest given as words, as ``actool patch-manifest`` takes them."""

from __future__ import annotations

from rkt.appc import flags, identifiers, isolators
from rkt.appc.app import App
from rkt.appc.errors import AppcError
from rkt.appc.isolators import Isolator
from rkt.appc.port import Port
from rkt.appc.volume import MountPoint
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from rkt.appc.image import ImageManifest

    Item = TypeVar("Item", MountPoint, Port)
    Made = TypeVar("Made")

_CAPABILITIES = (isolators.CAPABILITIES_RETAIN, isolators.CAPABILITIES_REMOVE)
_SECCOMP = (isolators.SECCOMP_RETAIN, isolators.SECCOMP_REMOVE)
# Isolators whose value is one word.
_SCALARS: dict[str, Callable[[str], bool | int]] = {
    isolators.NO_NEW_PRIVILEGES: flags.parse_bool,
    isolators.OOM_SCORE_ADJ: flags.parse_integer,
}


class Patch:
    """What is to be changed; empty words change nothing.

    ``exec`` is split at blanks, ``supplementary_groups``, ``capabilities`` (to retain), ``revoked`` and
    ``seccomp_set`` at commas; ``mounts``, ``ports`` and ``isolators`` are flags separated by colons;
    ``seccomp_mode`` is ``retain|remove[,errno=NAME]``.
    """

    __slots__ = (
        "capabilities",
        "exec",
        "group",
        "isolators",
        "mounts",
        "name",
        "ports",
        "revoked",
        "seccomp_mode",
        "seccomp_set",
        "supplementary_groups",
        "user",
    )

    def __init__(
        self,
        *,
        name: str = "",
        exec: str = "",
        user: str = "",
        group: str = "",
        supplementary_groups: str = "",
        capabilities: str = "",
        revoked: str = "",
        mounts: str = "",
        ports: str = "",
        isolators: str = "",
        seccomp_mode: str = "",
        seccomp_set: str = "",
    ) -> None:
        self.name = name
        self.exec = exec
        self.user = user
        self.group = group
        self.supplementary_groups = supplementary_groups
        self.capabilities = capabilities
        self.revoked = revoked
        self.mounts = mounts
        self.ports = ports
        self.isolators = isolators
        self.seccomp_mode = seccomp_mode
        self.seccomp_set = seccomp_set

    def is_empty(self) -> bool:
        return not any(getattr(self, name) for name in self.__slots__)

    def apply(self, manifest: ImageManifest) -> None:
        """Change the manifest.  Raises RktError that quotes the word."""
        if self.name:
            manifest.name = _parsed("name", self.name, identifiers.check_identifier)
        if not any(getattr(self, name) for name in self.__slots__ if name != "name"):
            return
        app = manifest.app
        if app is None:
            if not self.exec:
                raise RktError("no app in the supplied manifest and no exec command provided")
            app = manifest.app = App()
        self._apply_identity(app)
        self._apply_lists(app)
        self._apply_isolators(app)

    def _apply_identity(self, app: App) -> None:
        if self.exec:
            app.exec = [word for word in self.exec.split(" ") if word]
        if self.user:
            app.user = self.user
        if self.group:
            app.group = self.group
        if self.supplementary_groups:
            words = self.supplementary_groups.split(",")
            app.supplementary_gids = [flags.parse_unsigned(word, 32) for word in words]

    def _apply_lists(self, app: App) -> None:
        for word in filter(None, self.mounts.split(":")):
            _put(app.mount_points, _parsed("mount point", word, MountPoint.from_flag))
        for word in filter(None, self.ports.split(":")):
            _put(app.ports, _parsed("port", word, Port.from_flag))

    def _apply_isolators(self, app: App) -> None:
        if self.capabilities and self.revoked:
            raise RktError("capabilities cannot be both retained and revoked")
        if self.capabilities or self.revoked:
            made = isolators.capabilities_from_flag(
                self.capabilities or self.revoked, retain=bool(self.capabilities)
            )
            _replace(app, made, _CAPABILITIES)
        if self.seccomp_mode or self.seccomp_set:
            if not self.seccomp_mode or not self.seccomp_set:
                raise RktError("a seccomp filter needs a mode and a set")
            made = isolators.seccomp_from_flag(f"mode={self.seccomp_mode},{self.seccomp_set}")
            _replace(app, made, _SECCOMP)
        for word in filter(None, self.isolators.split(":")):
            made = isolator(word)
            _replace(app, made, (made.name,))


def isolator(text: str) -> Isolator:
    """``NAME,key=value,...`` of a resource isolator, ``NAME,VALUE`` of the two simple ones."""
    name, _, rest = text.partition(",")
    if name in _SCALARS:
        return Isolator(name, _SCALARS[name](rest))
    if not name.startswith("resource/"):
        raise RktError(f"isolator {name} is not supported for patching")
    try:
        values = flags.split_pairs(rest) if rest else {}
        return Isolator(name, values)
    except AppcError as error:
        raise RktError(f'cannot parse isolator "{text}"') from error


def _parsed(what: str, text: str, parse: Callable[[str], Made]) -> Made:
    try:
        return parse(text)
    except AppcError as error:
        raise RktError(f'cannot parse {what} "{text}"') from error


def _put(items: list[Item], item: Item) -> None:
    """Replace what has the same name, or append."""
    for position, other in enumerate(items):
        if other.name == item.name:
            items[position] = item
            return
    items.append(item)


def _replace(app: App, made: Isolator, names: tuple[str, ...]) -> None:
    """Put an isolator in the place of those called one of ``names``."""
    app.isolators = [*(one for one in app.isolators if one.name not in names), made]
