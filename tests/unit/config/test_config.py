"""The layered configuration."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from rkt.appc import gojson
from rkt.config import Config, load
from rkt.config.paths import data_directory
from rkt.errors import RktError, one_line

BASIC = {"user": "me", "password": "secret"}


class Layers:
    """Three directories and what is written into them."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.said: list[str] = []
        for name in ("system", "local", "user"):
            os.mkdir(os.path.join(base, name))

    def path(self, name: str) -> str:
        return os.path.join(self.base, name)

    def write(self, name: str, content: Any, version: str = "v1") -> str:
        """A file like ``local/auth.d/a.json``; content without a kind gets nothing added."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            if isinstance(content, str):
                file.write(content)
            else:
                json.dump({"rktVersion": version, **content}, file)
        return path

    def load(self) -> Config:
        return load(self.path("system"), self.path("local"), self.path("user"), self.said.append)

    def fault(self) -> str:
        with pytest.raises((RktError, OSError)) as caught:
            self.load()
        return one_line(caught.value)


@pytest.fixture
def layers(tmp_path: os.PathLike[str]) -> Layers:
    return Layers(os.fspath(tmp_path))


def auth(*domains: str, kind: str = "basic", **credentials: str) -> dict[str, Any]:
    return {"rktKind": "auth", "domains": domains, "type": kind, "credentials": credentials or BASIC}


def test_nothing_configured(layers: Layers) -> None:
    config = layers.load()
    assert config.auth == config.docker_auth == {}
    # Byte for byte what the original prints.
    assert (
        gojson.dumps(config.dump(), "\t")
        == """{
	"stage0": [
		{
			"rktVersion": "v1",
			"rktKind": "paths",
			"data": "",
			"stage1-images": ""
		},
		{
			"rktVersion": "v1",
			"rktKind": "stage1",
			"name": "",
			"version": "",
			"location": ""
		}
	]
}"""
    )


def test_directories_may_be_missing(layers: Layers) -> None:
    assert load(layers.path("none"), layers.path("nor/this")).auth == {}


def test_every_kind(layers: Layers) -> None:
    layers.write("system/auth.d/a.json", auth("b.example", "a.example:8443"))
    layers.write("system/auth.d/b.json", auth("o.example", kind="oauth", token="t"))
    keys = {"accessKeyID": "id", "secretAccessKey": "key", "awsRegion": "eu-west-1"}
    layers.write("system/auth.d/c.json", auth("s3.example", kind="aws", **keys))
    layers.write(
        "system/auth.d/d.json", {"rktKind": "dockerAuth", "registries": ["quay.io"], "credentials": BASIC}
    )
    layers.write("system/paths.d/p.json", {"rktKind": "paths", "data": "/d", "stage1-images": "/i"})
    stage1 = {"name": "example.com/s1", "version": "1", "location": "https://example.com/s1.aci"}
    layers.write("system/stage1.d/s.json", {"rktKind": "stage1", **stage1})
    assert layers.load().dump() == {
        "stage0": [
            {"rktVersion": "v1", "rktKind": "auth", "domains": [domain], "type": kind, "credentials": value}
            for domain, kind, value in [
                ("a.example:8443", "basic", BASIC),
                ("b.example", "basic", BASIC),
                ("o.example", "oauth", {"token": "t"}),
                ("s3.example", "aws", keys),
            ]
        ]
        + [
            {"rktVersion": "v1", "rktKind": "dockerAuth", "registries": ["quay.io"], "credentials": BASIC},
            {"rktVersion": "v1", "rktKind": "paths", "data": "/d", "stage1-images": "/i"},
            {"rktVersion": "v1", "rktKind": "stage1", **stage1},
        ]
    }


def test_later_layers_override_entry_by_entry(layers: Layers) -> None:
    layers.write("system/auth.d/a.json", auth("a.example", "b.example"))
    layers.write("local/auth.d/a.json", auth("b.example", user="local", password="x"))
    layers.write("system/paths.d/a.json", {"rktKind": "paths", "data": "/system", "stage1-images": "/i"})
    layers.write("local/paths.d/a.json", {"rktKind": "paths", "data": "/local"})
    layers.write("user/paths.d/a.json", {"rktKind": "paths", "data": "/user"})
    layers.write("system/stage1.d/a.json", {"rktKind": "stage1", "name": "a", "version": "1"})
    layers.write("local/stage1.d/a.json", {"rktKind": "stage1", "location": "/s1.aci"})
    config = layers.load()
    assert config.auth["a.example"].to_value()["user"] == "me"
    assert config.auth["b.example"].to_value()["user"] == "local"
    assert (config.paths.data, config.paths.stage1_images) == ("/user", "/i")
    stage1 = config.stage1
    assert (stage1.name, stage1.version, stage1.location) == ("a", "1", "/s1.aci")


def test_settings_of_one_layer_may_be_in_several_files(layers: Layers) -> None:
    layers.write("local/paths.d/a.json", {"rktKind": "paths", "data": "/d"})
    layers.write("local/paths.d/b.json", {"rktKind": "paths", "stage1-images": "/i"})
    assert layers.load().paths.to_value() == {"data": "/d", "stage1-images": "/i"}


@pytest.mark.parametrize(
    ("directory", "content", "message"),
    [
        ("auth.d", auth("a.example"), 'auth for domain "a.example" is already specified'),
        (
            "auth.d",
            {"rktKind": "dockerAuth", "registries": ["r"], "credentials": BASIC},
            'credentials for docker registry "r" are already specified',
        ),
        ("paths.d", {"rktKind": "paths", "data": "/d"}, "data directory is already specified"),
        (
            "paths.d",
            {"rktKind": "paths", "stage1-images": "/d"},
            "stage1 images directory is already specified",
        ),
        (
            "stage1.d",
            {"rktKind": "stage1", "name": "a", "version": "1"},
            "name and version of a default stage1 image are already specified",
        ),
        (
            "stage1.d",
            {"rktKind": "stage1", "location": "/x"},
            "location of a default stage1 image is already specified",
        ),
    ],
)
def test_duplicates_in_one_layer(layers: Layers, directory: str, content: Any, message: str) -> None:
    layers.write(f"local/{directory}/a.json", content)
    second = layers.write(f"local/{directory}/b.json", content)
    assert layers.fault() == f'failed to parse "{second}": {message}'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("auth.d", auth(), "no domains specified"),
        ("auth.d", {**auth("a"), "type": ""}, "no auth type specified"),
        ("auth.d", auth("a", kind="magic"), 'unknown auth type: "magic"'),
        ("auth.d", auth("a", user="x"), "password not specified"),
        ("auth.d", auth("a", password="x"), "user not specified"),
        ("auth.d", auth("a", kind="oauth", tok="x"), "no oauth bearer token specified"),
        ("auth.d", auth("a", kind="aws", accessKeyID="x"), "no AWS Secret Access Key specified"),
        ("auth.d", {**auth("a"), "credentials": None}, "user not specified"),
        (
            "auth.d",
            {**auth("a"), "credentials": {"user": 1}},
            "credentials.user: expected string, got number",
        ),
        ("auth.d", {"rktKind": "dockerAuth", "credentials": BASIC}, "no registries specified"),
        ("paths.d", {"rktKind": "paths", "data": "d"}, "data directory must be an absolute path"),
        (
            "stage1.d",
            {"rktKind": "stage1", "version": "1"},
            "invalid stage1 configuration: default stage1 image version specified, but name is missing",
        ),
        (
            "stage1.d",
            {"rktKind": "stage1", "name": "a"},
            "invalid stage1 configuration: default stage1 image name specified, but version is missing",
        ),
        (
            "stage1.d",
            {"rktKind": "stage1", "location": "images/s1.aci"},
            (
                "invalid stage1 configuration: "
                "default stage1 image location is either a relative path or a URL without scheme"
            ),
        ),
        (
            "stage1.d",
            {"rktKind": "stage1", "location": "ftp://example.com/s1.aci"},
            (
                'invalid stage1 configuration: default stage1 image location URL has invalid scheme "ftp", '
                'allowed schemes are "docker", "file", "http", "https"'
            ),
        ),
        ("paths.d", "{", "invalid JSON"),
        ("paths.d", "[]", "expected object, got list"),
    ],
)
def test_validation(layers: Layers, name: str, content: Any, message: str) -> None:
    path = layers.write(f"local/{name}/a.json", content)
    fault = layers.fault()
    assert fault.startswith(f'failed to parse "{path}": ')
    assert message in fault
    assert "secret" not in fault


def test_kind_and_version(layers: Layers) -> None:
    path = layers.write("local/paths.d/a.json", {"data": "/d"})
    assert layers.fault() == f'no rktKind specified in "{path}"'
    layers.write("local/paths.d/a.json", '{"rktKind": "paths"}')
    assert layers.fault() == f'no rktVersion specified in "{path}"'
    layers.write("local/paths.d/a.json", {"rktKind": "paths"}, version="v2")
    expected = 'no parser available for configuration of kind "paths" and version "v2"'
    assert layers.fault() == f'{expected} in "{path}"'
    layers.write("local/paths.d/a.json", auth("a"))
    assert layers.fault() == (
        f'the configuration directory "{os.path.dirname(path)}" expects to have configuration files of kinds '
        '"paths", but "a.json" has kind of "auth"'
    )


def test_only_regular_json_files_count(layers: Layers) -> None:
    elsewhere = layers.write("elsewhere.json", {"rktKind": "paths", "data": "/elsewhere"})
    layers.write("local/paths.d/readme.txt", "not JSON")
    layers.write("local/paths.d/sub/a.json", "not JSON")
    directory = layers.path("local/paths.d")
    os.symlink(elsewhere, os.path.join(directory, "link.json"))
    os.mkfifo(os.path.join(directory, "pipe.json"))
    os.mkdir(os.path.join(directory, "dir.json"))
    assert layers.load().paths.data == ""
    assert layers.said == [
        f'"{directory}/{name}" is no regular file, not reading it'
        for name in ("dir.json", "link.json", "pipe.json")
    ]


def test_a_layer_that_is_no_directory(layers: Layers) -> None:
    layers.write("local/paths.d", "")
    path = layers.path("local/paths.d")
    assert layers.fault() == f'expected "{path}" to be a directory'
    layers.write("file", "")
    with pytest.raises(RktError, match=r'expected ".*/file" to be a directory'):
        load(layers.path("file"), layers.path("local"))


def test_member_names_match_without_case(layers: Layers) -> None:
    layers.write("local/paths.d/a.json", '{"RKTVERSION": "v1", "rktkind": "paths", "DATA": "/d"}')
    assert layers.load().paths.data == "/d"


class TestDataDirectory:
    """The setting that is read without the others."""

    def directory(self, layers: Layers) -> str:
        return data_directory(layers.path("system"), layers.path("local"), layers.path("user"))

    def test_layers(self, layers: Layers) -> None:
        assert self.directory(layers) == ""
        layers.write("system/paths.d/a.json", {"rktKind": "paths", "data": "/system"})
        assert self.directory(layers) == "/system"
        layers.write("user/paths.d/a.json", {"rktKind": "paths", "data": "/user"})
        layers.write("local/paths.d/a.json", {"rktKind": "paths", "stage1-images": "/i"})
        assert self.directory(layers) == "/user"

    def test_other_kinds_are_not_read(self, layers: Layers) -> None:
        layers.write("local/auth.d/a.json", "not JSON")
        assert self.directory(layers) == ""

    def test_faults(self, layers: Layers) -> None:
        layers.write("local/paths.d/a.json", {"rktKind": "paths", "data": "d"})
        with pytest.raises(RktError) as caught:
            self.directory(layers)
        assert one_line(caught.value).startswith('cannot get configuration: failed to parse "')
        assert one_line(caught.value).endswith('paths.d/a.json": data directory must be an absolute path')
