"""The appc manifest of a container image, by the rules of docker2aci.

Names, labels and annotations are those existing users of converted images look for; what is not listed here
(health checks, stop signals, labels) has no place in the manifest of an image.
"""

from __future__ import annotations

from rkt.appc import date, gojson, identifiers, labels
from rkt.appc.annotations import Annotation
from rkt.appc.app import App
from rkt.appc.environment import EnvironmentVariable
from rkt.appc.errors import AppcError
from rkt.appc.image import ImageManifest
from rkt.appc.port import Port
from rkt.appc.volume import MountPoint
from rkt.errors import RktError
from rkt.image.oci import documents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.image.oci.documents import Configuration

PREFIX = "appc.io/docker/"
_EPOCHS = ("1970-01-01T00:00:00", "0001-01-01T00:00:00")


class Origin:
    """Where an image came from: ``name`` is ``REGISTRY/REPOSITORY``, the digests those of its documents."""

    __slots__ = ("config_digest", "manifest_digest", "registry", "repository", "tag", "text", "version")

    def __init__(
        self,
        registry: str,
        repository: str,
        *,
        text: str,
        tag: str = "",
        version: str = "",
        manifest_digest: str = "",
        config_digest: str = "",
    ) -> None:
        self.registry = registry
        self.repository = repository
        self.text = text
        self.tag = tag
        self.version = version
        self.manifest_digest = manifest_digest
        self.config_digest = config_digest

    @property
    def name(self) -> str:
        return identifier(f"{self.registry}/{self.repository}" if self.registry else self.repository)


def identifier(name: str) -> str:
    """The name of an image as appc writes it."""
    return identifiers.sanitize_identifier(name)


def convert(config: Configuration, origin: Origin, host: dict[str, str]) -> ImageManifest:
    """``host`` are this machine's labels os and arch, for an image that does not say.

    Raises RktError for what no manifest can say, such as the name of a variable that is none.
    """
    run = config.run
    manifest = ImageManifest(
        origin.name,
        labels=_labels(config, origin, host),
        app=None if run is None else _app(run),
        annotations=_annotations(config, origin),
    )
    try:
        manifest.encode()
    except RktError as error:
        raise RktError(f'image "{origin.text}" cannot be converted') from error
    return manifest


def _labels(config: Configuration, origin: Origin, host: dict[str, str]) -> list[labels.Label]:
    platform = config.platform
    flavour = platform.variant.removeprefix("v") if platform.architecture == "arm" else ""
    pair = labels.from_go(platform.os, platform.architecture, flavour)
    system, arch = pair or (host["os"], host["arch"])
    values = {"version": origin.version, "os": system, "arch": arch}
    return [labels.Label(name, value) for name, value in values.items() if value]


def _annotations(config: Configuration, origin: Origin) -> list[Annotation]:
    run = config.run or {}
    values = {
        "author": config.author,
        "created": _date(config.created),
        "docker-comment": config.comment,
        PREFIX + "originalname": origin.text,
        PREFIX + "registryurl": origin.registry,
        PREFIX + "repository": origin.repository,
        PREFIX + "imageid": origin.config_digest,
        PREFIX + "tag": origin.tag,
        PREFIX + "entrypoint": _command(run, "Entrypoint"),
        PREFIX + "cmd": _command(run, "Cmd"),
        PREFIX + "manifesthash": origin.manifest_digest,
    }
    return [Annotation(name, value) for name, value in values.items() if value]


def _date(text: str) -> str:
    """The time of creation, unless it says nothing or is none."""
    if not text or text.startswith(_EPOCHS):
        return ""
    try:
        date.parse(text)
    except RktError:
        return ""
    return text


def _command(run: dict[str, Any], name: str) -> str:
    words = documents.strings(run, name)
    return gojson.dumps(words) if words else ""


def _app(run: dict[str, Any]) -> App:
    user, group = _user(documents.text(run, "User"))
    directory = documents.text(run, "WorkingDir")
    return App(
        exec=[*documents.strings(run, "Entrypoint"), *documents.strings(run, "Cmd")],
        user=user,
        group=group,
        working_directory=directory if directory.startswith("/") or not directory else f"/{directory}",
        environment=_environment(documents.strings(run, "Env")),
        mount_points=_mount_points(documents.member(run, "Volumes")),
        ports=_ports(run),
    )


def _user(text: str) -> tuple[str, str]:
    """``USER[:GROUP]``: nobody said is root, and a user alone names the group, too."""
    user, colon, group = text.partition(":")
    if not user:
        return "0", group or "0"
    return user, group if colon and group else user


def _environment(entries: list[str]) -> list[EnvironmentVariable]:
    """An entry without ``=`` is left out: it would mean a value of the host.  The last of one name counts."""
    values: dict[str, str] = {}
    for entry in entries:
        name, separator, value = entry.partition("=")
        if separator and name:
            values[name] = value
    return [EnvironmentVariable(name, value) for name, value in values.items()]


def _mount_points(volumes: dict[str, Any]) -> list[MountPoint]:
    """A mount point for each volume: ``volume-`` and its path with dashes; a name twice is numbered."""
    made: list[MountPoint] = []
    taken: set[str] = set()
    for path in sorted(volumes):
        try:
            base = name = f"volume-{identifiers.sanitize_name(path)}"
        except AppcError:
            # Nothing in it can be part of a name.
            base = name = "volume"
        number = 0
        while name in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name)
        made.append(MountPoint(name, path if path.startswith("/") else f"/{path}"))
    return sorted(made, key=lambda point: point.name)


def _ports(run: dict[str, Any]) -> list[Port]:
    """``80/tcp`` becomes the port ``80-tcp``; a range is no port of an image."""
    exposed = documents.member(run, "ExposedPorts")
    words = sorted(exposed) if exposed else documents.strings(run, "PortSpecs")
    return sorted((_port(word) for word in words), key=lambda port: port.name)


def _port(text: str) -> Port:
    number, slash, protocol = text.partition("/")
    if not number.isascii() or not number.isdigit() or len(number) > 5:
        raise RktError(f'"{text[:100]}" is no port of an image')
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise RktError(f'"{text[:100]}" is no port of an image')
    return Port(f"{number}-{protocol}" if slash else number, protocol, int(number))
