"""Image and pod manifests: reading, printing in the reference's form, merging, last resort."""

from __future__ import annotations

import pytest

from rkt.appc import VERSION, lastditch
from rkt.appc.app import App, EventHandler
from rkt.appc.errors import AppcError
from rkt.appc.image import Dependency, ImageManifest
from rkt.appc.labels import Label
from rkt.appc.pod import PodManifest, RuntimeApp, RuntimeImage
from rkt.appc.volume import Volume

ID = "sha512-8c5fe47b33fb6a86fc48a0fbb5de31400486b8286c730f46e622bab85929ea0f"
# As rkt 1.30 wrote them.
POD = (
    '{"acVersion":"1.30.0","acKind":"PodManifest","apps":[{"name":"one","image":{"name":"bar.example/box","id":"'
    + ID
    + '","labels":[{"name":"version","value":"1"},{"name":"os","value":"linux"},'
    '{"name":"arch","value":"amd64"}]},"app":{"exec":["/bin/sleep","6"],"user":"0","group":"0"}}],"volumes":null,"isolators":null,'
    '"annotations":[{"name":"coreos.com/rkt/stage1/mutable","value":"false"}],"ports":[]}'
)
IMAGE = (
    '{"acKind":"ImageManifest","acVersion":"0.8.11","name":"bar.example/box","labels":[{"name":"version",'
    '"value":"1"},{"name":"os","value":"linux"},{"name":"arch","value":"amd64"}],"app":{"exec":'
    '["/bin/busybox","true"],"user":"0","group":"0"}}'
)
FULL_APP = (
    '{"exec":["/a"],"eventHandlers":[{"name":"pre-start","exec":null},{"name":"post-stop","exec":["/b"]}],'
    '"user":"u","group":"g","supplementaryGIDs":[1,-2],"workingDirectory":"/w","environment":[{"name":"A",'
    '"value":"\\u003c"}],"mountPoints":[{"name":"m","path":"/p","readOnly":true}],"ports":[{"name":"p",'
    '"protocol":"tcp","port":80,"count":2,"socketActivated":true}],"isolators":[{"name":"resource/memory",'
    '"value":{"limit":"1G"}}],"userAnnotations":{"a!":"b"},"userLabels":{"c?":"d"}}'
)


def test_what_rkt_wrote_prints_the_same() -> None:
    assert PodManifest.decode(POD).encode() == POD
    assert ImageManifest.decode(IMAGE.encode()).encode() == IMAGE


def test_every_member_of_an_app_in_order() -> None:
    text = IMAGE[: IMAGE.index('"app"')] + f'"app":{FULL_APP}' + "}"
    assert ImageManifest.decode(text).encode() == text


def test_every_member_of_an_image_in_order() -> None:
    text = (
        '{"acKind":"ImageManifest","acVersion":"0.8.11","name":"a","annotations":[{"name":"authors","value":"x"}],'
        '"dependencies":[{"imageName":"b","imageID":"sha512-1","labels":[{"name":"v","value":""}],"size":3}],'
        '"pathWhitelist":["/a"]}'
    )
    assert ImageManifest.decode(text).encode() == text


def test_indent() -> None:
    assert ImageManifest("a").encode("\t") == (
        '{\n\t"acKind": "ImageManifest",\n\t"acVersion": "0.8.11",\n\t"name": "a"\n}'
    )


def test_null_and_empty_lists_of_pods_stay_apart() -> None:
    manifest = PodManifest(ports=[])
    assert manifest.encode() == (
        f'{{"acVersion":"{VERSION}","acKind":"PodManifest","apps":null,"volumes":null,"isolators":null,'
        '"annotations":null,"ports":[]}'
    )
    manifest.volumes.append(Volume("a", "empty"))
    assert '"volumes":[{"name":"a","kind":"empty","mode":"0755","uid":0,"gid":0}]' in manifest.encode()
    assert PodManifest.decode(manifest.encode()).encode() == manifest.encode()


def test_a_blank_manifest_takes_members() -> None:
    manifest = ImageManifest()
    manifest.merge({"name": "example.com/test"})
    assert manifest.to_value() == {
        "acKind": "ImageManifest",
        "acVersion": VERSION,
        "name": "example.com/test",
    }
    pod = PodManifest()
    pod.merge({})
    assert pod.ac_version == VERSION


def test_a_pod_without_version_reads_but_does_not_print() -> None:
    manifest = PodManifest.decode('{"acKind":"PodManifest"}')
    assert manifest.apps == []
    with pytest.raises(AppcError, match="acVersion: "):
        manifest.encode()


def test_duplicates_are_refused_when_printed_too() -> None:
    image = RuntimeImage(ID)
    with pytest.raises(AppcError, match='duplicate apps of name "a"'):
        PodManifest(apps=[RuntimeApp("a", image), RuntimeApp("a", image)]).encode()
    with pytest.raises(AppcError, match='duplicate volumes of name "v"'):
        PodManifest(volumes=[Volume("v", "empty"), Volume("v", "empty")]).encode()


@pytest.mark.parametrize(
    ("manifest", "path"),
    [
        (ImageManifest("a", app=App(user="0")), "app.group: "),
        (ImageManifest("a", labels=[Label("B", "")]), "labels[0]: "),
        (ImageManifest("A"), "name: "),
        (ImageManifest("a", ac_version="1"), "acVersion: "),
        (ImageManifest("a", dependencies=[Dependency("b", image_id="x")]), "dependencies[0].imageID: "),
        (PodManifest(apps=[RuntimeApp("a")]), "apps[0].image.id: "),
        (
            PodManifest(
                apps=[
                    RuntimeApp(
                        "a",
                        RuntimeImage(ID),
                        app=App(user="0", group="0", event_handlers=[EventHandler("x")]),
                    )
                ]
            ),
            "apps[0].app.eventHandlers[0].name: ",
        ),
    ],
)
def test_nothing_bad_is_printed(manifest: ImageManifest | PodManifest, path: str) -> None:
    with pytest.raises(AppcError) as caught:
        manifest.encode()
    assert str(caught.value).startswith(path)


def test_look_up() -> None:
    manifest = PodManifest.decode(POD)
    assert manifest.app("one") is manifest.apps[0]
    assert manifest.app("two") is None
    assert manifest.annotation("coreos.com/rkt/stage1/mutable") == "false"
    assert ImageManifest.decode(IMAGE).label("os") == "linux"
    assert ImageManifest.decode(IMAGE).annotation("x") is None


def test_the_last_resort_takes_almost_anything() -> None:
    pod = lastditch.PodManifest.decode(
        '{"acKind":"PodManifest","apps":[{"name":"?"},null,{"name":"?","image":{"id":"!"}}]}'
    )
    assert [(app.name, app.image.id) for app in pod.apps] == [("?", ""), ("", ""), ("?", "!")]
    assert lastditch.ImageManifest.decode('{"acKind":"ImageManifest","name":"A!"}').name == "A!"
    for text in ('{"acKind":"PodManifest"}', '{"acKind":"ImageManifest","name":1}', "{"):
        with pytest.raises(AppcError):
            lastditch.ImageManifest.decode(text)
