"""The pod manifest that is made of images and flags, compared with rkt 1.30's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rkt.appc import isolators
from rkt.appc.image import ImageManifest
from rkt.appc.pod import PodManifest
from rkt.appc.port import ExposedPort
from rkt.appc.volume import Mount, Volume
from rkt.errors import RktError, one_line
from rkt.stage0 import manifest
from rkt.stage0.records import AppRequest, PrepareRequest

KEY = "sha512-50b571af4fea6b712a1af7b4cdefd7539d965e26aff00d58797ceece9ff69cf4"
LABELS = [
    {"name": "version", "value": "1"},
    {"name": "os", "value": "linux"},
    {"name": "arch", "value": "amd64"},
]
APP: dict[str, Any] = {
    "exec": ["/bin/sleep", "30"],
    "user": "0",
    "group": "0",
    "environment": [{"name": "A", "value": "1"}],
    "mountPoints": [{"name": "data", "path": "/data"}],
    "ports": [{"name": "http", "protocol": "tcp", "port": 80, "count": 1, "socketActivated": False}],
}


def image(**members: Any) -> ImageManifest:
    value = {
        "acKind": "ImageManifest",
        "acVersion": "0.8.11",
        "name": "example.com/www",
        "labels": LABELS,
        "app": APP,
    }
    value.update(members)
    return ImageManifest.decode(json.dumps({name: item for name, item in value.items() if item is not None}))


def request(*apps: AppRequest) -> PrepareRequest:
    made = PrepareRequest("sha512-" + "0" * 64)
    made.apps = list(apps) or [AppRequest(KEY)]
    return made


def app(**changes: Any) -> AppRequest:
    made = AppRequest(KEY)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def generate(made: PrepareRequest, **members: Any) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(manifest.generate(made, {KEY: image(**members)}).encode())
    return result


def test_the_bytes_are_those_of_rkt() -> None:
    made = request(app(name="web"))
    made.volumes = [Volume.from_flag("data,kind=empty,mode=0700")]
    text = manifest.generate(made, {KEY: image()}).encode()
    # Recorded from rkt 1.30: prepare example.com-www.aci --name=web --volume=data,kind=empty,mode=0700
    assert text == (
        '{"acVersion":"1.30.0","acKind":"PodManifest","apps":[{"name":"web","image":{"name":"example.com/www","id":"'
        + KEY
        + '","labels":[{"name":"version","value":"1"},{"name":"os","value":"linux"},'
        '{"name":"arch","value":"amd64"}]},'
        '"app":{"exec":["/bin/sleep","30"],"user":"0","group":"0","environment":[{"name":"A","value":"1"}],'
        '"mountPoints":[{"name":"data","path":"/data"}],"ports":[{"name":"http","protocol":"tcp","port":80,"count":1,'
        '"socketActivated":false}]}}],"volumes":[{"name":"data","kind":"empty","mode":"0700","uid":0,"gid":0}],'
        '"isolators":null,"annotations":[{"name":"coreos.com/rkt/stage1/mutable","value":"false"}],"ports":[]}'
    )


def test_without_volumes() -> None:
    value = generate(request())
    assert value["volumes"] is None
    assert value["ports"] == []
    assert value["apps"][0]["name"] == "www"


def test_the_caller_overrides_the_image() -> None:
    value = generate(
        request(
            app(
                executable="/bin/x",
                args=["-a", "b"],
                user="web",
                group="/etc/owner",
                supplementary_gids=[5, 6],
                working_directory="/srv",
                annotations={"a": "1"},
                user_annotations={"k": "v"},
                user_labels={"l": "w"},
                mounts=[Mount("data", "/srv/data")],
                read_only_root_fs=True,
            )
        )
    )["apps"][0]
    assert value["app"]["exec"] == ["/bin/x", "-a", "b"]
    assert (value["app"]["user"], value["app"]["group"]) == ("web", "/etc/owner")
    assert value["app"]["supplementaryGIDs"] == [5, 6]
    assert value["app"]["workingDirectory"] == "/srv"
    assert value["app"]["userAnnotations"] == {"k": "v"}
    assert value["app"]["userLabels"] == {"l": "w"}
    assert value["annotations"] == [{"name": "a", "value": "1"}]
    assert value["mounts"] == [{"volume": "data", "path": "/srv/data"}]
    assert value["readOnlyRootFS"] is True
    assert list(value) == ["name", "image", "app", "readOnlyRootFS", "mounts", "annotations"]


def test_arguments_follow_the_images_own() -> None:
    value = generate(request(app(args=["5"])))
    assert value["apps"][0]["app"]["exec"] == ["/bin/sleep", "30", "5"]


def test_precedence_of_the_environment() -> None:
    made = request(app(environment={"C": "app", "D": "app"}))
    made.inherited = {"A": "parent", "B": "parent", "C": "parent"}
    made.environment = {"D": "pod"}
    value = generate(made)["apps"][0]["app"]["environment"]
    assert {entry["name"]: entry["value"] for entry in value} == {
        "A": "1",
        "B": "parent",
        "C": "app",
        "D": "pod",
    }
    assert value[0] == {"name": "A", "value": "1"}


def test_variables_that_no_app_can_have_are_not_inherited() -> None:
    kept, refused = manifest.inheritable({"A": "1", "BASH_FUNC_x%%": "()", "": "x", "1": "y"})
    assert kept == {"A": "1"}
    assert sorted(refused) == ["", "1", "BASH_FUNC_x%%"]


CAPABILITIES = {"name": "os/linux/capabilities-remove-set", "value": {"set": ["CAP_KILL"]}}
MEMORY = {"name": "resource/memory", "value": {"limit": "1G"}}


def test_isolators_of_the_caller_replace_those_of_the_image() -> None:
    value = generate(
        request(
            app(
                isolators=[
                    isolators.memory_from_flag("16Mi"),
                    isolators.capabilities_from_flag("CAP_CHOWN", retain=True),
                ]
            )
        ),
        app={**APP, "isolators": [CAPABILITIES, MEMORY, {"name": "os/linux/cpu-shares", "value": 512}]},
    )["apps"][0]["app"]["isolators"]
    assert [entry["name"] for entry in value] == [
        "os/linux/cpu-shares",
        "resource/memory",
        "os/linux/capabilities-retain-set",
    ]
    assert value[1]["value"]["limit"] == "16Mi"
    assert value[2]["value"] == {"set": ["CAP_CHOWN"]}


def test_an_image_without_an_app_needs_a_program() -> None:
    with pytest.raises(RktError, match="has no app section and --exec argument is not provided"):
        generate(request(), app=None)
    value = generate(request(app(executable="/bin/x")), app=None)["apps"][0]["app"]
    assert value == {"exec": ["/bin/x"], "user": "0", "group": "0"}


def test_names_of_apps() -> None:
    assert manifest.app_name(AppRequest(KEY), image(name="example.com/a/b_c.d")) == "b-c-d"
    with pytest.raises(RktError, match="multiple apps with name www"):
        generate(request(AppRequest(KEY), AppRequest(KEY)))
    with pytest.raises(RktError, match="invalid app name format"):
        manifest.app_name(app(name="Bad_"), image())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([{"name": "arch", "value": "amd64"}], "missing os label in the image manifest"),
        ([{"name": "os", "value": "linux"}], "missing arch label in the image manifest"),
        ([{"name": "os", "value": "freebsd"}, {"name": "arch", "value": "amd64"}], 'bad os "freebsd"'),
        ([{"name": "os", "value": "linux"}, {"name": "arch", "value": "s390x"}], 'bad arch "s390x"'),
    ],
)
def test_images_for_no_system_or_another_are_refused(labels: list[dict[str, str]], message: str) -> None:
    with pytest.raises(RktError, match=message):
        generate(request(), labels=labels)


def test_an_image_of_another_architecture_is_accepted() -> None:
    generate(request(), labels=[{"name": "os", "value": "linux"}, {"name": "arch", "value": "aarch64"}])


def test_ports_are_checked() -> None:
    made = request()
    made.ports = [ExposedPort("http", 8080)]
    assert generate(made)["ports"] == [{"name": "http", "hostPort": 8080}]
    made.ports = [ExposedPort("https", 8080)]
    with pytest.raises(RktError, match='port name "https" could not be found in any apps'):
        generate(made)


class TestCompletion:
    """A manifest the user wrote."""

    def complete(self, value: Any) -> tuple[PodManifest, list[str]]:
        def find(wanted: dict[str, Any]) -> str:
            if wanted.get("id", KEY) != KEY:
                raise RktError(f'image "{wanted["id"]}" is not in the store')
            return KEY

        return manifest.complete(json.dumps(value).encode(), find, lambda _: image())

    def pod(self, *apps: dict[str, Any], **members: Any) -> dict[str, Any]:
        return {"acVersion": "0.8.11", "acKind": "PodManifest", "apps": list(apps), **members}

    def test_apps_are_pinned_and_complete(self) -> None:
        made, keys = self.complete(self.pod({"name": "a", "image": {"name": "example.com/www"}}))
        value = made.to_value()
        assert keys == [KEY]
        assert value["acVersion"] == "0.8.11"
        assert value["apps"][0]["image"] == {"name": "example.com/www", "id": KEY, "labels": LABELS}
        assert value["apps"][0]["app"]["exec"] == ["/bin/sleep", "30"]

    def test_the_app_section_replaces_the_images(self) -> None:
        own = {"exec": ["/bin/own"], "user": "1", "group": "1"}
        made, _ = self.complete(self.pod({"name": "a", "image": {"id": KEY}, "app": own}))
        assert made.to_value()["apps"][0]["app"] == own

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ([], "invalid pod manifest: expected object"),
            ({"acKind": "ImageManifest"}, "invalid pod manifest"),
            ({"acKind": "PodManifest", "apps": []}, "pod must contain at least one application"),
            ({"acKind": "PodManifest", "apps": [{"name": "a"}]}, 'no image ID for app "a"'),
            ({"acKind": "PodManifest", "apps": [{"image": {"id": KEY}}]}, "app without a name"),
            (
                {"acKind": "PodManifest", "apps": [{"name": "a", "image": {"id": "sha512-" + "1" * 64}}]},
                "error getting the image manifest from store: image",
            ),
            (
                {"acKind": "PodManifest", "apps": [{"name": 1}]},
                r"invalid pod manifest: apps\[0\].name: expected string, got number",
            ),
        ],
    )
    def test_faults_are_named(self, value: Any, message: str) -> None:
        with pytest.raises(RktError) as caught:
            self.complete(value)
        import re

        assert re.search(message, one_line(caught.value))
