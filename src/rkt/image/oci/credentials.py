"""Who we are for a registry: from rkt's configuration, and from the files and helpers of other tools.

In this order: ``dockerAuth`` of rkt's configuration; ``auth.json`` of the containers tools
(``REGISTRY_AUTH_FILE``, ``$XDG_RUNTIME_DIR/containers``, ``~/.config/containers``); ``config.json`` of Docker
(``$DOCKER_CONFIG``, ``~/.docker``).  The files have credentials by registry, or by a part of an image's name,
or name a helper program (docker-credential-helpers: ``docker-credential-NAME get`` reads the registry and
prints JSON).
"""

from __future__ import annotations

import binascii
import os

from rkt.errors import RktError
from rkt.image.oci import documents
from rkt.image.oci.names import DOCKER_HUB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rkt.config.kinds import Basic

_HUB_KEYS = ("docker.io", "index.docker.io", DOCKER_HUB)
_HUB_SERVER = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"
_HELPER = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_HELPER_SECONDS = 30.0


class Credentials:
    """A user with a password, or an identity token with which tokens are asked for."""

    __slots__ = ("identity_token", "password", "user")

    def __init__(self, user: str, password: str, identity_token: str = "") -> None:
        self.user = user
        self.password = password
        self.identity_token = identity_token

    def basic(self) -> str:
        """The value of an ``Authorization`` header."""
        from rkt.image.credentials import basic

        return basic(self.user, self.password)


def find(
    host: str,
    repository: str,
    configured: Mapping[str, Basic],
    environment: Mapping[str, str] | None = None,
) -> Credentials | None:
    """The credentials for an image; None when there are none.  Raises RktError for a file that is damaged."""
    values = os.environ if environment is None else environment
    for name in _hosts(host):
        if name in configured:
            return Credentials(configured[name].user, configured[name].password)
    for path in _files(values):
        found = _in_file(path, host, repository, values)
        if found is not None:
            return found
    return None


def _hosts(host: str) -> tuple[str, ...]:
    return (host, *_HUB_KEYS) if host == DOCKER_HUB else (host,)


def _files(environment: Mapping[str, str]) -> list[str]:
    home = environment.get("HOME", "/root")
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    named = environment.get("REGISTRY_AUTH_FILE", "")
    found = [named] if named else []
    if runtime and not named:
        found.append(os.path.join(runtime, "containers/auth.json"))
    if os.geteuid() == 0 and not named:
        found.append("/run/containers/0/auth.json")
    if not named:
        found.append(os.path.join(home, ".config/containers/auth.json"))
    docker = environment.get("DOCKER_CONFIG", "") or os.path.join(home, ".docker")
    return [*found, os.path.join(docker, "config.json")]


def _in_file(path: str, host: str, repository: str, environment: Mapping[str, str]) -> Credentials | None:
    try:
        with open(path, "rb") as file:
            data = file.read(documents.MAX_DOCUMENT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not data.strip():
        return None
    value = documents.load(data, path)
    try:
        helpers = documents.member(value, "credHelpers")
        for name in _hosts(host):
            if name in helpers:
                return _ask(documents.text(helpers, name), host, environment)
        auths = {_key(name): one for name, one in documents.member(value, "auths").items()}
        for key in _keys(host, repository):
            entry = auths.get(key)
            if isinstance(entry, dict) and (found := _decode(entry)) is not None:
                return found
        store = documents.text(value, "credsStore")
        return _ask(store, host, environment) if store else None
    except RktError as error:
        raise RktError(f"credentials of {path} cannot be used") from error


def _key(text: str) -> str:
    """``https://HOST/v1/`` and ``HOST`` mean the same; other paths are parts of images' names."""
    text = text.partition("://")[2] if "://" in text else text
    text = text.rstrip("/")
    for version in ("/v1", "/v2"):
        text = text.removesuffix(version)
    return text


def _keys(host: str, repository: str) -> list[str]:
    """From the whole name of the image up to its registry."""
    found = []
    for name in _hosts(host):
        parts = repository.split("/")
        found += [f"{name}/{'/'.join(parts[:count])}" for count in range(len(parts), 0, -1)]
        found.append(name)
    return found


def _decode(entry: dict[str, Any]) -> Credentials | None:
    token = documents.text(entry, "identitytoken")
    text = documents.text(entry, "auth")
    try:
        pair = binascii.a2b_base64(text.encode()).decode() if text else ""
    except (ValueError, binascii.Error):
        raise RktError("an entry is not valid base64") from None
    user, colon, password = pair.partition(":")
    if token:
        return Credentials(user, "", token)
    # Old versions of Docker filled the text up with NUL.
    return Credentials(user, password.strip("\0")) if colon else None


def _ask(helper: str, host: str, environment: Mapping[str, str]) -> Credentials | None:
    """Ask a credential helper; None when it knows nothing of the registry."""
    from rkt.linux import process

    if not helper or set(helper) - _HELPER:
        raise RktError(f'"{helper[:100]}" is no credential helper')
    server = _HUB_SERVER if host == DOCKER_HUB else host
    program = f"docker-credential-{helper}"
    try:
        done = process.run(
            [program, "get"], env=environment, input=server.encode(), timeout=_HELPER_SECONDS, check=False
        )
    except FileNotFoundError:
        raise RktError(f"credential helper {program} is not installed") from None
    if done.status:
        if b"not found" in done.stdout or b"not found" in done.stderr:
            return None
        raise RktError(f"credential helper {program} failed")
    value = documents.load(done.stdout, f"answer of {program}")
    user, secret = documents.text(value, "Username"), documents.text(value, "Secret")
    if user == _TOKEN_USER:
        return Credentials("", "", secret)
    return Credentials(user, secret) if user else None
