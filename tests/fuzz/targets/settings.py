"""Files of administrators and other tools: registries.conf, auth.json, registries.d, rkt's own."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

from fuzz.target import Target, attempt
from rkt import config
from rkt.image.oci import credentials, lookaside, names, registries

_NAME = names.parse("registry.example.com:5000/team/app:1")
_PINNED = names.parse("docker.io/library/app@sha256:" + "ab" * 32)


def in_file(name: str, data: bytes, work: Callable[[str], Any]) -> Any:
    """``work`` with the path of a file that holds the input."""
    with tempfile.TemporaryDirectory(
        prefix="rkt-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    ) as directory:
        path = os.path.join(directory, name)
        with open(path, "wb") as file:
            file.write(data)
        return work(path)


def registries_conf(data: bytes) -> None:
    loaded = in_file("r.conf", data, lambda path: registries.load({"CONTAINERS_REGISTRIES_CONF": path}))
    for name in (_NAME, _PINNED):
        for endpoint in attempt(lambda name=name: loaded.endpoints(name)) or ():
            assert endpoint.host and endpoint.repository
            assert isinstance(endpoint.insecure, bool)


def auth(data: bytes) -> None:
    """Credentials are for the registry they are kept for, and no program is started that is none."""

    def ask(path: str) -> None:
        # No directory of PATH holds a helper.
        environment = {"REGISTRY_AUTH_FILE": path, "PATH": "/nonexistent", "HOME": "/nonexistent"}
        for name in (_NAME, _PINNED):
            found = attempt(partial(credentials.find, name.registry, name.repository, {}, environment))
            if found is not None:
                header = found.basic()
                assert header.startswith("Basic ") and "\n" not in header

    in_file("auth.json", data, ask)


def lookaside_yaml(data: bytes) -> None:
    value = lookaside.parse_yaml(data.decode("utf-8", "replace"), "file")
    stack: list[object] = [value]
    while stack:
        one = stack.pop()
        assert isinstance(one, dict | str)
        stack += one.values() if isinstance(one, dict) else []


def rkt_configuration(data: bytes) -> None:
    """Each kind of file, which the first byte chooses."""
    kinds = ("auth.d", "paths.d", "stage1.d")
    kind = kinds[data[0] % len(kinds)] if data else kinds[0]
    with tempfile.TemporaryDirectory(
        prefix="rkt-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    ) as directory:
        os.mkdir(os.path.join(directory, kind))
        with open(os.path.join(directory, kind, "a.json"), "wb") as file:
            file.write(data[1:])
        loaded = config.load("/nonexistent", directory)
        json.dumps(loaded.dump())


_CONF = b"""unqualified-search-registries = ["docker.io"]
[[registry]]
prefix = "registry.example.com:5000/team"
location = "mirror.example.com/x"
insecure = true
blocked = false
mirror-by-digest-only = true
[[registry.mirror]]
location = "m.example.com"
pull-from-mirror = "tag-only"
[[registry]]
prefix = "*.io"
[[registry]]
location = "docker.io"
"""
_AUTH = {
    "auths": {
        "https://index.docker.io/v1/": {"auth": "dTpw"},
        "registry.example.com:5000/team": {"auth": "dTpw", "identitytoken": ""},
    },
    "credHelpers": {"a.example.com": "helper"},
    "credsStore": "",
}
_YAML = b"""# comment
default-docker:
    lookaside: https://signatures.example.com
docker:
    "registry.example.com/team":
        lookaside: 'file:///var/lib/containers/sigstore' # here
"""
_OWN = [
    {
        "rktKind": "auth",
        "rktVersion": "v1",
        "domains": ["example.com"],
        "type": "basic",
        "credentials": {"user": "u", "password": "p"},
    },
    {
        "rktKind": "dockerAuth",
        "rktVersion": "v1",
        "registries": ["a"],
        "credentials": {"user": "u", "password": "p"},
    },
    {"rktKind": "paths", "rktVersion": "v1", "data": "/d", "stage1-images": "/s"},
    {"rktKind": "stage1", "rktVersion": "v1", "name": "a", "version": "1", "location": "/x"},
]


def _own() -> list[bytes]:
    return [bytes([kind]) + json.dumps(one).encode() for one, kind in zip(_OWN, (0, 0, 1, 2), strict=True)]


TARGETS = [
    Target(
        "registries-conf", registries_conf, lambda: [_CONF], words=[b"[[registry]]", b"mirror"], runs=2000
    ),
    Target("auth", auth, lambda: [json.dumps(_AUTH).encode()], words=[b'"auth"', b"\\ud800"], runs=2000),
    Target("lookaside", lookaside_yaml, lambda: [_YAML], words=[b"    ", b": "], runs=2000),
    Target("configuration", rkt_configuration, _own, words=[b'"rktKind"', b'"type": "aws"'], runs=2000),
]
