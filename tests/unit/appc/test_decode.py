"""From parsed JSON to records: Go's rules, and the path of a fault."""

from __future__ import annotations

from typing import Any

import pytest

from rkt.appc import decode
from rkt.appc.app import App
from rkt.appc.errors import AppcError
from rkt.appc.image import ImageManifest
from rkt.appc.pod import PodManifest
from rkt.appc.volume import MountPoint, Volume

IMAGE = '{"acKind":"ImageManifest","acVersion":"0.8.11","name":"a.example/b",%s}'
APP = '"app":{"exec":["/a"],"user":"0","group":"0",%s}'
POD = '{"acKind":"PodManifest","acVersion":"0.8.11",%s}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (IMAGE % (APP % '"ports":[{"port":"x"}]'), "app.ports[0].port: expected integer, got string"),
        (
            IMAGE % (APP % '"ports":[{"name":"a","port":1},{"port":0}]'),
            "app.ports[1].port: port must be in 1-65535 range",
        ),
        (IMAGE % (APP % '"ports":[{"port":1.0}]'), "app.ports[0].port: expected integer, got 1.0"),
        (IMAGE % (APP % '"ports":[{"port":-1}]'), "app.ports[0].port: -1 is out of range"),
        (
            IMAGE % (APP % '"supplementaryGIDs":[1,"2"]'),
            "app.supplementaryGIDs[1]: expected integer, got string",
        ),
        (IMAGE % (APP % '"exec":"not a list"'), "app.exec: expected list, got string"),
        (IMAGE % (APP % '"exec":{}'), "app.exec: expected list, got object"),
        (IMAGE % (APP % '"userLabels":{"a":1}'), "app.userLabels.a: expected string, got number"),
        (
            IMAGE % (APP % '"workingDirectory":"x"'),
            "app.workingDirectory: workingDirectory must be an absolute path",
        ),
        (
            IMAGE % (APP % '"isolators":[{"name":"os/linux/cpu-shares","value":1}]'),
            "app.isolators[0].value: 1 must be between 2 and 262144",
        ),
        (
            IMAGE
            % (
                APP % '"isolators":[{"name":"os/linux/seccomp-retain-set","value":{"set":["a"],"errno":"e"}}]'
            ),
            "app.isolators[0].value.errno: errno must be",
        ),
        (IMAGE % (APP % '"isolators":[{"name":"x/y","value":1}]'), 'app.isolators: invalid isolator "x/y"'),
        (IMAGE % (APP % '"environment":[{"name":"A=","value":""}]'), "app.environment: environment variable"),
        (IMAGE % '"app":[]', "app: expected object, got list"),
        (IMAGE % '"app":{}', "app.user: user is required"),
        (IMAGE % '"labels":[{"name":"OS"}]', "labels[0].name: ACIdentifier must contain only"),
        (IMAGE % '"dependencies":[{}]', "dependencies[0].imageName: imageName must be set"),
        (
            IMAGE % '"dependencies":[{"imageName":"a","imageID":"md5-1"}]',
            "dependencies[0].imageID: unrecognized hash type",
        ),
        (IMAGE % '"pathWhitelist":[true]', "pathWhitelist[0]: expected string, got boolean"),
        (IMAGE % '"annotations":[{"name":"created","value":"x"}]', "annotations: invalid date"),
        (
            POD % '"volumes":[{"name":"a","kind":"host"}]',
            "volumes[0].source: source for host volume cannot be empty",
        ),
        (POD % '"apps":[{"name":"a","image":{"id":null}}]', "apps[0].image.id: badly formatted"),
        (
            POD % '"apps":[{"mounts":[{"appVolume":{"name":"a","kind":"x"}}]}]',
            "apps[0].mounts[0].appVolume.kind: unrecognized",
        ),
        (POD % '"ports":[{"hostIP":"1.2.3"}]', "ports[0].hostIP: invalid IP address"),
        ('{"acKind":"PodManifest"}', 'acKind: bad ACKind: "PodManifest"'),
        ("[]", "expected object, got list"),
        ("null", 'acKind: bad ACKind: ""'),
        ("{\n\n", "invalid JSON at line 3, column 1"),
    ],
)
def test_a_fault_names_its_place(text: str, message: str) -> None:
    manifest = PodManifest if text.startswith(POD[:20]) else ImageManifest
    with pytest.raises(AppcError) as caught:
        (manifest if '"PodManifest","acVersion"' in text else ImageManifest).decode(text)
    assert str(caught.value).startswith(message)


def test_the_path_of_the_caller_comes_first() -> None:
    with pytest.raises(AppcError) as caught:
        App.from_value({"exec": [1]}, "apps.web")
    assert str(caught.value) == "apps.web.exec[0]: expected string, got number"
    with pytest.raises(AppcError) as caught:
        Volume.from_value({"name": "a", "kind": "none"}, "volume")
    assert str(caught.value).startswith("volume.kind: ")


@pytest.mark.parametrize(
    "name", ["supplementaryGIDs", "supplementaryGids", "SUPPLEMENTARYGIDS", "\u017fupplementarygids"]
)
def test_member_names_match_without_case(name: str) -> None:
    app = App.from_value(decode.document(f'{{"user":"0","group":"0","{name}":[7]}}'))
    assert app.supplementary_gids == [7]


def test_unknown_members_are_dropped() -> None:
    point = MountPoint.from_value(decode.document('{"name":"a","path":"/p","colour":{"x":[1e99]}}'))
    assert point.to_value() == {"name": "a", "path": "/p"}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"path":"1","path":"2"}', "2"),
        ('{"path":"1","Path":"2"}', "2"),
        ('{"Path":"1","path":"2"}', "2"),
        ('{"path":"1","PATH":"2","path":"3"}', "3"),
        ('{"path":"1","path":null}', ""),
    ],
)
def test_the_last_duplicate_wins(text: str, path: str) -> None:
    assert MountPoint.from_value(decode.document(text)).path == path


def test_every_duplicate_is_checked() -> None:
    with pytest.raises(AppcError, match="path: expected string, got number"):
        MountPoint.from_value(decode.document('{"path":1,"path":"2"}'))


def test_null_is_the_zero_value() -> None:
    app = App.from_value(
        decode.document(
            '{"user":"0","group":"0","exec":null,"ports":null,"workingDirectory":null,"userLabels":null}'
        )
    )
    assert (app.exec, app.ports, app.working_directory, app.user_labels) == ([], [], "", {})
    assert app.to_value()["exec"] is None


@pytest.mark.parametrize(
    ("decoder", "good", "bad"),
    [
        (decode.integer, [0, -1, 2**63 - 1, -(2**63), None], [2**63, "1", True, 1.5, []]),
        (decode.unsigned, [0, 2**64 - 1, None], [-1, 2**64, "1", False, {}]),
        (decode.boolean, [True, False, None], [0, "true", []]),
        (decode.string, ["", "x", None], [0, True, [], {}]),
    ],
)
def test_plain_types(decoder: Any, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert decoder(value) == (value if value is not None else decoder(None))
    for value in bad:
        with pytest.raises(AppcError):
            decoder(value)


def test_string_maps_are_sorted() -> None:
    assert list(decode.string_map({"b": "1", "a": None}).items()) == [("a", ""), ("b", "1")]
    assert decode.string_map(None) == {}


def test_plain_turns_pairs_into_dicts() -> None:
    assert decode.plain(decode.document('{"a":[{"b":1}],"a":2}')) == {"a": 2}
