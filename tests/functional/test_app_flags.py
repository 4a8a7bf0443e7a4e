"""Flags about an app, and pod manifests instead of flags: what the app sees, what the pod's manifest says."""

from __future__ import annotations

import json
import os
from typing import Any

import pod_manifests as manifests
import pytest
from flavors import Flavor

from support import aci, driver

pytest_plugins = ("flavor_fixtures",)


@pytest.fixture
def image(tmp_path: os.PathLike[str]) -> str:
    """An app of user web in /usr that shows who and where it is."""
    script = "id -u; id -g; id -G; pwd; echo $0 $@"
    app = aci.app("/bin/sh", "-c", script, "first", user="web", group="www", workingDirectory="/usr")
    owned = aci.Entry("owned", b"", uid=77, gid=78)
    return aci.busybox(os.path.join(tmp_path, "app.aci"), "example.com/app", app=app, entries=[owned])


def manifest(rkt: driver.Rkt) -> Any:
    """The manifest of the only pod."""
    uuid = rkt.ok("list", "--full", "--no-legend").lines[0].split("\t")[0]
    return json.loads(rkt.ok("cat-manifest", uuid).out)


@pytest.mark.parametrize(
    ("flags", "lines"),
    [
        ([], ["1000", "1001", "1001", "/usr", "first"]),
        (["--", "more", "words"], ["1000", "1001", "1001", "/usr", "first more words"]),
        (["--user=root", "--group=root"], ["0", "0", "0", "/usr", "first"]),
        (["--user=4711"], ["4711", "1001", "1001", "/usr", "first"]),
        (["--user=/owned", "--group=/owned"], ["77", "78", "78", "/usr", "first"]),
        (["--group=extra"], ["1000", "1002", "1002", "/usr", "first"]),
        (["--supplementary-gids=1002,4000"], ["1000", "1001", "1001 1002 4000", "/usr", "first"]),
        (["--working-dir=/var"], ["1000", "1001", "1001", "/var", "first"]),
    ],
)
def test_who_and_where(flavor: Flavor, image: str, flags: list[str], lines: list[str]) -> None:
    result = flavor(image, *flags)
    assert (result.code, flavor.lines(result)) == (0, lines), result


def test_exec_replaces_the_whole_command(flavor: Flavor, image: str) -> None:
    assert flavor.lines(flavor(image, "--exec=/bin/echo", "--", "a", "b")) == ["a b"]
    assert flavor.lines(flavor(image, "--exec=pwd")) == ["/usr"]


def test_the_name(rkt: driver.Rkt, flavor: Flavor, image: str) -> None:
    result = flavor(image, "--name=other", "--exec=/bin/sh", "--", "-c", "echo $AC_APP_NAME")
    assert flavor.lines(result) == ["other"]
    assert [app["name"] for app in manifest(rkt)["apps"]] == ["other"]


def test_a_read_only_root(flavor: Flavor, image: str) -> None:
    """Only mounts stay writable; false is the default."""
    script = "touch /x && echo wrote root; touch /v/x && echo wrote volume"
    words = (
        "--user=root",
        "--group=root",
        "--mount=volume=v,target=/v",
        "--exec=/bin/sh",
        "--",
        "-c",
        script,
    )
    pod = "--volume=v,kind=empty"
    assert "wrote root" in flavor(pod, image, *words).out
    result = flavor(pod, image, "--readonly-rootfs=true", *words)
    assert "wrote root" not in result.out
    assert "wrote volume" in result.out
    assert "Read-only file system" in result.out + result.err


def test_what_only_the_manifest_keeps(rkt: driver.Rkt, flavor: Flavor, image: str) -> None:
    flags = ["--annotation=example.com/note=x", "--user-annotation=Any Key=y", "--user-label=Label=z"]
    assert flavor(image, *flags, "--exec=/bin/true").code == 0
    (app,) = manifest(rkt)["apps"]
    assert {"name": "example.com/note", "value": "x"} in app["annotations"]
    assert app["app"]["userAnnotations"] == {"Any Key": "y"}
    assert app["app"]["userLabels"] == {"Label": "z"}


def test_flags_belong_to_the_image_before_them(rkt: driver.Rkt, flavor: Flavor, image: str) -> None:
    if flavor.name == "fly":
        return  # it has one app
    one = (image, "--name=one", "--user=1", "--exec=/bin/sh", "--", "-c", "echo one $(id -u)", "---")
    two = (image, "--name=two", "--exec=/bin/sh", "--", "-c", "echo two $(id -u)")
    assert sorted(flavor.lines(flavor(*one, *two))) == ["one 1", "two 1000"]


@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    "flag",
    [
        *("exec=/x", "name=x", "user=x", "group=x", "supplementary-gids=1", "working-dir=/x"),
        *(
            "readonly-rootfs=true",
            "environment=A=1",
            "annotation=a=1",
            "user-annotation=a=1",
            "user-label=a=1",
        ),
        *("memory=16M", "cpu=1", "cpu-shares=5", "caps-retain=CAP_KILL", "caps-remove=CAP_KILL"),
        *("seccomp=mode=remove,reboot", "oom-score-adj=5"),
    ],
)
def test_a_flag_without_an_image(rkt: driver.Rkt, box: str, flag: str) -> None:
    result = rkt("--insecure-options=image", "run", f"--{flag}", box)
    assert result.code == 254, result
    assert "must follow an image" in result.err


# -- pod manifests ---------------------------------------------------------------------------------------


@pytest.fixture
def key(rkt: driver.Rkt, image: str) -> str:
    return manifests.fetch(rkt, image)


def test_an_app_section_replaces_the_images_whole(rkt: driver.Rkt, flavor: Flavor, key: str) -> None:
    entry = manifests.app("box", key, "/bin/sh", "-c", "id -u; pwd")
    assert flavor.lines(flavor(manifests.write(rkt, entry))) == ["0", "/"]


def test_without_an_app_section_it_is_the_images(rkt: driver.Rkt, flavor: Flavor, key: str) -> None:
    entry = {"name": "box", "image": {"id": key}}
    result = flavor(manifests.write(rkt, entry))
    assert flavor.lines(result) == ["1000", "1001", "1001", "/usr", "first"]


def test_images_by_name_and_by_a_short_id(rkt: driver.Rkt, flavor: Flavor, key: str) -> None:
    for reference in ({"name": "example.com/app"}, {"id": key[:20]}):
        pod = manifests.write(rkt, {"name": "box", "image": reference})
        assert flavor(pod).code == 0
        assert manifest(rkt)["apps"][0]["image"]["id"] == key
        rkt.clean()


def test_volumes_mounts_and_a_read_only_root(rkt: driver.Rkt, flavor: Flavor, key: str) -> None:
    """A volume of the pod, one that only the app has, a mount point that is matched by its name."""
    script = "touch /one/x /two/x /three/x && echo wrote; touch /x || echo kept; stat -c %a /two"
    entry = manifests.app(
        "box",
        key,
        *("/bin/sh", "-c", script),
        mounts=[
            {"volume": "one", "path": "/one"},
            {"volume": "two", "path": "/two", "appVolume": {"name": "two", "kind": "empty", "mode": "0700"}},
        ],
        app={"mountPoints": [{"name": "three", "path": "/three"}]},
        readOnlyRootFS=True,
    )
    volumes = [{"name": name, "kind": "empty"} for name in ("one", "three")]
    lines = flavor.lines(flavor(manifests.write(rkt, entry, volumes=volumes)))
    assert [line for line in lines if "touch:" not in line] == ["wrote", "kept", "700"]


def test_everything_of_a_manifest_is_kept(rkt: driver.Rkt, flavor: Flavor, key: str) -> None:
    entry = manifests.app("box", key, "/bin/true", annotations=[{"name": "example.com/a", "value": "1"}])
    pod = manifests.write(
        rkt,
        entry,
        annotations=[{"name": "example.com/p", "value": "2"}],
        userAnnotations={"K": "3"},
        userLabels={"L": "4"},
    )
    assert flavor(pod).code == 0
    found = manifest(rkt)
    assert found["apps"][0]["annotations"] == [{"name": "example.com/a", "value": "1"}]
    assert found["annotations"] == [{"name": "example.com/p", "value": "2"}]
    assert (found["userAnnotations"], found["userLabels"]) == ({"K": "3"}, {"L": "4"})


@pytest.mark.promise("P9")
@pytest.mark.parametrize("verb", ["run", "prepare"])
@pytest.mark.parametrize(
    "words",
    [
        ["{box}"],
        ["--volume=v,kind=empty"],
        ["--volume=v,kind=empty", "--mount=volume=v,target=/v"],
        ["--port=web:80"],
        ["--inherit-env"],
        ["--set-env=A=1"],
        ["--set-env-file=/dev/null"],
        ["--pull-policy=update"],
        ["--pull-policy=never"],
    ],
    ids=lambda words: words[-1].partition("=")[0].strip("-{}"),
)
def test_what_does_not_go_with_a_manifest(
    rkt: driver.Rkt, box: str, key: str, verb: str, words: list[str]
) -> None:
    pod = manifests.write(rkt, manifests.app("box", key, "/bin/true"))
    given = [word.format(box=box) for word in words]
    result = rkt("--insecure-options=image", verb, pod, *given)
    assert result.code == 254, result
    assert "conflicting flags set with --pod-manifest (see --help)" in result.err
    assert rkt.ok("list", "--no-legend").out.strip() == ""


def test_what_goes_with_a_manifest(rkt: driver.Rkt, flavor: Flavor, key: str) -> None:
    pod = manifests.write(rkt, manifests.app("box", key, "/bin/true"))
    words = ["--pull-policy=new", "--dns=none", "--no-overlay", "--hostname=other"]
    assert flavor(pod, *words).code == 0


@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid pod manifest"),
        ("{", "invalid pod manifest"),
        ("[]", "invalid pod manifest"),
        ('{"acKind":"ImageManifest","acVersion":"0.8.11"}', "invalid pod manifest"),
        ('{"acKind":"PodManifest","acVersion":"0.8.11","apps":[]}', "at least one application"),
        ('{"acKind":"PodManifest","acVersion":"0.8.11","apps":[APP,APP]}', "duplicate apps"),
        ('{"acKind":"PodManifest","acVersion":"0.8.11","apps":[{"name":"x"}]}', "no image ID"),
        ('{"acKind":"PodManifest","acVersion":"0.8.11","apps":[{"image":{"id":"KEY"}}]}', "without a name"),
        (
            '{"acKind":"PodManifest","acVersion":"0.8.11","apps":[APP],"volumes":[VOLUME,VOLUME]}',
            "duplicate volumes",
        ),
    ],
)
def test_manifests_that_are_none(rkt: driver.Rkt, key: str, text: str, message: str) -> None:
    path = os.path.join(rkt.base, "pod.json")
    app, volume = f'{{"name":"x","image":{{"id":"{key}"}}}}', '{"name":"v","kind":"empty"}'
    with open(path, "w") as file:
        file.write(text.replace("APP", app).replace("KEY", key).replace("VOLUME", volume))
    result = rkt("--insecure-options=image", "run", f"--pod-manifest={path}")
    assert result.code == 254, result
    assert message in result.err
    assert len(result.err.splitlines()) == 1
    assert rkt.ok("list", "--no-legend").out.strip() == ""


# -- standard streams ------------------------------------------------------------------------------------

ATTACH = {"RKT_EXPERIMENT_ATTACH": "true"}


@pytest.mark.parametrize(
    ("flags", "printed"),
    [
        (["--stdout=null"], ["err"]),
        (["--stderr=null"], ["out"]),
        (["--stdout=log", "--stderr=log", "--stdin=null"], ["err", "out"]),
    ],
)
def test_standard_streams(
    rkt: driver.Rkt, flavor: Flavor, image: str, flags: list[str], printed: list[str]
) -> None:
    result = flavor.shell(image, "cat; echo out; echo err >&2", *flags, env=ATTACH)
    assert result.code == 0, result
    told = flavor.lines(result) + [line for line in result.err.splitlines() if line in ("out", "err")]
    assert sorted(told) == printed, result
    notes = {note["name"]: note["value"] for note in manifest(rkt)["apps"][0]["annotations"]}
    for flag in flags:
        name, _, mode = flag.removeprefix("--").partition("=")
        assert notes[f"coreos.com/rkt/stage2/{name}"] == mode


def test_standard_input_that_is_nothing(flavor: Flavor, image: str) -> None:
    result = flavor.shell(image, "cat", "--stdin=null", env=ATTACH, input="typed\n")
    assert (result.code, flavor.lines(result)) == (0, []), result


@pytest.mark.promise("P9")
@pytest.mark.parametrize("flag", ["--stdout=stream", "--stdin=stream", "--stderr=tty"])
def test_streams_to_be_attached_to_are_refused_by_fly(
    rkt: driver.Rkt, probe_image: str, image: str, flag: str
) -> None:
    """They are not lost without a word."""
    result = Flavor(rkt, "fly", probe_image)(image, flag, env=ATTACH)
    assert (result.code, result.out) == (254, ""), result
    assert "this stage1 has nothing to attach to" in result.err
    assert len(result.err.splitlines()) == 1, result
    assert rkt.ok("list", "--no-legend").out.strip() == ""
