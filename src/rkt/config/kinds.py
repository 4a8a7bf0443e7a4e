"""What configuration files say, kind by kind (facts of rkt 1.30: auth, dockerAuth, paths, stage1)."""

from __future__ import annotations

from rkt.appc.decode import record, string, strings
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rkt.appc.decode import Members
    from rkt.config import Config

SCHEMES = ("docker", "file", "http", "https")
"""What the location of a stage1 may start with if it is no absolute path."""


class Basic:
    """User and password, for HTTP basic authentication and for registries."""

    __slots__ = ("password", "user")
    kind = "basic"

    def __init__(self, user: str = "", password: str = "") -> None:
        self.user = user
        self.password = password

    def check(self) -> None:
        if not self.user:
            raise RktError("user not specified")
        if not self.password:
            raise RktError("password not specified")

    def to_value(self) -> dict[str, str]:
        return {"user": self.user, "password": self.password}


class OAuth:
    """A bearer token."""

    __slots__ = ("token",)
    kind = "oauth"

    def __init__(self, token: str = "") -> None:
        self.token = token

    def check(self) -> None:
        if not self.token:
            raise RktError("no oauth bearer token specified")

    def to_value(self) -> dict[str, str]:
        return {"token": self.token}


class AWS:
    """Keys with which each request is signed (AWS Signature V4); an empty region is guessed from the host."""

    __slots__ = ("access_key_id", "region", "secret_access_key")
    kind = "aws"

    def __init__(self, access_key_id: str = "", secret_access_key: str = "", region: str = "") -> None:
        self.access_key_id = access_key_id
        self.secret_access_key = secret_access_key
        self.region = region

    def check(self) -> None:
        if not self.access_key_id:
            raise RktError("no AWS Access Key ID specified")
        if not self.secret_access_key:
            raise RktError("no AWS Secret Access Key specified")

    def to_value(self) -> dict[str, str]:
        return {
            "accessKeyID": self.access_key_id,
            "secretAccessKey": self.secret_access_key,
            "awsRegion": self.region,
        }


Credentials = Basic | OAuth | AWS

BASIC: Members = {"user": ("user", string), "password": ("password", string)}
CREDENTIALS: dict[str, tuple[Callable[[], Credentials], Members]] = {
    "basic": (Basic, BASIC),
    "oauth": (OAuth, {"token": ("token", string)}),
    "aws": (
        AWS,
        {
            "accessKeyID": ("access_key_id", string),
            "secretAccessKey": ("secret_access_key", string),
            "awsRegion": ("region", string),
        },
    ),
}


class Paths:
    """Directories, "" where nothing is configured."""

    __slots__ = ("data", "stage1_images")

    def __init__(self, data: str = "", stage1_images: str = "") -> None:
        self.data = data
        self.stage1_images = stage1_images

    def override(self, upper: Paths) -> None:
        self.data = upper.data or self.data
        self.stage1_images = upper.stage1_images or self.stage1_images

    def to_value(self) -> dict[str, str]:
        return {"data": self.data, "stage1-images": self.stage1_images}


class Stage1:
    """The default stage1: name and version to look for in the store, and where to get it from."""

    __slots__ = ("location", "name", "version")

    def __init__(self, name: str = "", version: str = "", location: str = "") -> None:
        self.name = name
        self.version = version
        self.location = location

    def override(self, upper: Stage1) -> None:
        if upper.name:
            self.name, self.version = upper.name, upper.version
        self.location = upper.location or self.location

    def check(self) -> None:
        if self.version and not self.name:
            raise RktError("default stage1 image version specified, but name is missing")
        if self.name and not self.version:
            raise RktError("default stage1 image name specified, but version is missing")
        if not self.location or self.location.startswith("/"):
            return
        scheme, colon, _ = self.location.partition(":")
        if not colon or "/" in scheme:
            raise RktError("default stage1 image location is either a relative path or a URL without scheme")
        if scheme.lower() not in SCHEMES:
            allowed = '", "'.join(SCHEMES)
            raise RktError(
                f'default stage1 image location URL has invalid scheme "{scheme}", '
                f'allowed schemes are "{allowed}"'
            )

    def to_value(self) -> dict[str, str]:
        return {"name": self.name, "version": self.version, "location": self.location}


class Entry:
    """The members of an auth or dockerAuth file; ``names`` are its domains or registries."""

    __slots__ = ("credentials", "names", "type")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.type = ""
        self.credentials: Any = None


def as_it_is(value: Any) -> Any:
    """Credentials are decoded when their type is known."""
    return value


AUTH: Members = {
    "domains": ("names", strings),
    "type": ("type", string),
    "credentials": ("credentials", as_it_is),
}
DOCKER_AUTH: Members = {"registries": ("names", strings), "credentials": ("credentials", as_it_is)}
PATHS: Members = {"data": ("data", string), "stage1-images": ("stage1_images", string)}
STAGE1: Members = {
    "name": ("name", string),
    "version": ("version", string),
    "location": ("location", string),
}


def read_auth(layer: Config, value: Any) -> None:
    """``domains``, ``type`` and the credentials of that type."""
    entry = record(Entry(), AUTH, value)
    if not entry.names:
        raise RktError("no domains specified")
    if not entry.type:
        raise RktError("no auth type specified")
    if entry.type not in CREDENTIALS:
        raise RktError(f'unknown auth type: "{entry.type}"')
    make, fields = CREDENTIALS[entry.type]
    credentials = record(make(), fields, entry.credentials, "credentials")
    credentials.check()
    for domain in entry.names:
        if domain in layer.auth:
            raise RktError(f'auth for domain "{domain}" is already specified')
        layer.auth[domain] = credentials


def read_docker_auth(layer: Config, value: Any) -> None:
    """``registries`` and the credentials for them."""
    entry = record(Entry(), DOCKER_AUTH, value)
    if not entry.names:
        raise RktError("no registries specified")
    basic = record(Basic(), BASIC, entry.credentials, "credentials")
    basic.check()
    for registry in entry.names:
        if registry in layer.docker_auth:
            raise RktError(f'credentials for docker registry "{registry}" are already specified')
        layer.docker_auth[registry] = basic


def read_paths(layer: Config, value: Any) -> None:
    """``data`` and ``stage1-images``."""
    merge_paths(layer.paths, value)


def merge_paths(paths: Paths, value: Any) -> None:
    """Adds the members of one file to what the files before it said."""
    found = record(Paths(), PATHS, value)
    for attribute, words in (("data", "data directory"), ("stage1_images", "stage1 images directory")):
        path = getattr(found, attribute)
        if not path:
            continue
        if getattr(paths, attribute):
            raise RktError(f"{words} is already specified")
        if not path.startswith("/"):
            raise RktError(f"{words} must be an absolute path")
        setattr(paths, attribute, path)


def read_stage1(layer: Config, value: Any) -> None:
    """``name`` with ``version``, and ``location``."""
    found = record(Stage1(), STAGE1, value)
    try:
        found.check()
    except RktError as error:
        raise RktError(f"invalid stage1 configuration: {error}") from None
    if found.name and layer.stage1.name:
        raise RktError("name and version of a default stage1 image are already specified")
    if found.location and layer.stage1.location:
        raise RktError("location of a default stage1 image is already specified")
    layer.stage1.override(found)


READERS: dict[str, Callable[[Config, Any], None]] = {
    "auth": read_auth,
    "dockerAuth": read_docker_auth,
    "paths": read_paths,
    "stage1": read_stage1,
}
