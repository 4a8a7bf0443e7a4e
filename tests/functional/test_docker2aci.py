"""docker2aci: what it makes of registries, archives and layouts, against what rkt fetches itself."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from functional import container_images as images
from functional.container_images import INSECURE
from support import oci
from support.driver import Rkt
from support.registry import Registry, run
from support.tools import Tool


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(os.fspath(tmp_path_factory.mktemp("registry"))) as made:
        yield made


@pytest.fixture
def docker2aci(tmp_path: os.PathLike[str]) -> Tool:
    directory = os.path.join(tmp_path, "work")
    os.mkdir(directory)
    return Tool("docker2aci", directory)


@pytest.fixture
def layout(docker2aci: Tool) -> oci.Layout:
    return oci.Layout(os.path.join(docker2aci.directory, "layout"))


def manifest(path: str) -> dict[str, Any]:
    with tarfile.open(path) as tar:
        file = tar.extractfile("manifest")
        assert file is not None
        value: dict[str, Any] = json.load(file)
        return value


def plain_layers() -> list[oci.Layer]:
    """Three layers that change, hide, link and replace, with names that a manifest can list."""
    return [
        oci.Layer(
            oci.tar(
                [
                    oci.directory("bin", mode=0o755),
                    oci.file("bin/tool", b"tool" * 1000, mode=0o4755, uid=3),
                    oci.directory("etc", mode=0o750, uid=1, gid=2),
                    oci.file("etc/a", b"a"),
                    oci.file("etc/b", b"b"),
                    oci.directory("gone"),
                    oci.file("gone/1", b"1"),
                    oci.directory("opaque"),
                    oci.file("opaque/1", b"1"),
                    oci.file("becomes-dir", b"x"),
                    oci.directory("becomes-file"),
                    oci.file("becomes-file/x", b"x"),
                ]
            )
        ),
        oci.Layer(
            oci.tar(
                [
                    oci.whiteout("gone"),
                    oci.whiteout("etc/a"),
                    oci.directory("opaque", mode=0o700),
                    oci.file("opaque/new", b"n"),
                    oci.opaque("opaque"),
                    oci.directory("becomes-dir"),
                    oci.file("becomes-dir/x", b"x"),
                    oci.file("becomes-file", b"f"),
                    oci.symlink("link", "etc"),
                ]
            )
        ),
        oci.Layer(oci.tar([oci.file("link/c", b"through"), oci.file("one", b"1"), oci.link("two", "one")])),
    ]


class TestSquashed:
    def test_a_registry_gives_what_rkt_fetches(
        self, docker2aci: Tool, registry: Registry, layout: oci.Layout, rkt: Rkt
    ) -> None:
        layout.image("v1", [images.base_layer(), images.change_layer()], config=images.CONFIG)
        registry.push(f"oci:{layout.path}:v1", "team/app:v1")
        word = f"docker://{registry.host}/team/app:v1"
        refused = docker2aci(word)
        assert (refused.code, "http" in refused.err) == (1, True)
        said = docker2aci.ok("-insecure-allow-http", word).out
        assert said == (
            "\nConverted volumes:\n"
            '\tname: "volume-data-x", path: "/data/x", readOnly: false\n'
            "\nConverted ports:\n"
            '\tname: "53-udp", protocol: "udp", port: 53, count: 1, socketActivated: false\n'
            '\tname: "80-tcp", protocol: "tcp", port: 80, count: 1, socketActivated: false\n'
            "\nGenerated ACI(s):\n"
            "team-app-v1.aci\n"
        )
        out = os.path.join(docker2aci.directory, "team-app-v1.aci")
        with open(out, "rb") as file:
            assert file.read(2) == b"\x1f\x8b"
        Tool("actool", docker2aci.directory).ok("validate", out)
        theirs = rkt.ok("--insecure-options=image,http", "fetch", "--full", word).out
        assert rkt.ok(INSECURE, "fetch", "--full", out).out == theirs

    def test_archives_and_layouts(self, docker2aci: Tool, layout: oci.Layout, rkt: Rkt) -> None:
        layout.image("v1", plain_layers(), config=images.CONFIG)
        archive = os.path.join(docker2aci.directory, "saved.tar")
        run(["skopeo", "copy", "--quiet", f"oci:{layout.path}:v1", f"docker-archive:{archive}:team/app:v1"])
        assert docker2aci.ok("saved.tar").lines[-1] == "team-app-v1.aci"
        assert docker2aci.ok("--compression=none", "layout").lines[-1] == "layout-v1.aci"
        trees = []
        for name in ("team-app-v1.aci", "layout-v1.aci"):
            trees.append(oci.describe(images.tree_of(rkt, os.path.join(docker2aci.directory, name))))
        assert oci.difference(*trees) == {}
        theirs = images.umoci(layout.path, "v1", os.path.join(docker2aci.directory, "umoci"))
        assert oci.difference(trees[0], oci.describe(theirs)) == {}
        with tarfile.open(os.path.join(docker2aci.directory, "layout-v1.aci"), "r:") as tar:
            assert tar.next() is not None

    def test_one_of_several_images(self, docker2aci: Tool, layout: oci.Layout) -> None:
        layout.image("v1", [images.small_layer()])
        layout.image("v2", plain_layers())
        archive = os.path.join(docker2aci.directory, "saved.tar")
        for name in ("v1", "v2"):
            run(
                [
                    "skopeo",
                    "copy",
                    "--quiet",
                    f"oci:{layout.path}:{name}",
                    f"docker-archive:{archive}-{name}:app:{name}",
                ]
            )
        refused = docker2aci("layout")
        assert refused.code == 1
        assert "several images" in refused.err
        assert "v1, v2" in refused.err
        assert docker2aci.ok("-image=v2", "layout").lines[-1] == "layout-v2.aci"
        assert docker2aci.ok("-image", "app:v1", "saved.tar-v1").lines[-1] == "library-app-v1.aci"
        assert "has no image" in docker2aci("-image=app:v3", "saved.tar-v1").err


class TestLayers:
    def test_layers_make_up_the_same_tree(self, docker2aci: Tool, layout: oci.Layout, rkt: Rkt) -> None:
        layout.image("v1", plain_layers(), config=images.CONFIG)
        listed = docker2aci.ok("-nosquash", "layout").out.partition("Generated ACI(s):\n")[2].split()
        assert listed == [f"layout-v1-linux-amd64-{number}.aci" for number in range(3)]
        paths = [os.path.join(docker2aci.directory, name) for name in listed]
        for path in paths:
            key = rkt.ok(INSECURE, "fetch", "--full", path).out.strip()
        rendered = os.path.join(docker2aci.directory, "rendered")
        rkt.ok("image", "render", "--rootfs-only", key, rendered)
        theirs = images.umoci(layout.path, "v1", os.path.join(docker2aci.directory, "umoci"))
        ours, wanted = (oci.describe(tree, directory_times=False) for tree in (rendered, theirs))
        assert oci.difference(ours, wanted) == {}
        bottom, middle, top = (manifest(path) for path in paths)
        assert "app" not in bottom
        assert top["app"]["exec"][0] == "/bin/busybox"
        assert [one["imageName"] for one in top["dependencies"]] == [middle["name"]]
        assert {"/etc", "/etc/b", "/opaque/new", "/becomes-file"} <= set(middle["pathWhitelist"])
        assert not {"/gone", "/gone/1", "/etc/a", "/opaque/1"} & set(middle["pathWhitelist"])
        with tarfile.open(paths[1]) as tar:
            assert not any(".wh." in name for name in tar.getnames())
        with tarfile.open(paths[2]) as tar:
            assert {"rootfs/etc/c", "rootfs/one", "rootfs/two"} <= set(tar.getnames())
            assert "rootfs/bin/tool" not in tar.getnames()

    def test_a_link_to_a_lower_layer_has_the_content(
        self, docker2aci: Tool, layout: oci.Layout, rkt: Rkt
    ) -> None:
        low = oci.Layer(oci.tar([oci.file("low", b"content", uid=4)]))
        high = oci.Layer(oci.tar([oci.link("high", "low"), oci.whiteout("low")]))
        layout.image("v1", [low, high, low])
        for name in docker2aci.ok("-nosquash", "layout").out.partition("ACI(s):\n")[2].split():
            key = rkt.ok(INSECURE, "fetch", "--full", os.path.join(docker2aci.directory, name)).out.strip()
        rendered = os.path.join(docker2aci.directory, "rendered")
        rkt.ok("image", "render", "--rootfs-only", key, rendered)
        assert sorted(os.listdir(rendered)) == ["high", "low"]
        with open(os.path.join(rendered, "high"), "rb") as file:
            assert (file.read(), os.fstat(file.fileno()).st_uid) == (b"content", 4)

    def test_a_name_that_no_manifest_can_list(self, docker2aci: Tool, layout: oci.Layout) -> None:
        layout.image("v1", [images.base_layer()])
        refused = docker2aci("-nosquash", "layout")
        assert (refused.code, "cannot be listed in a manifest" in refused.err) == (1, True)
        assert os.listdir(docker2aci.directory) == ["layout"]


def test_a_blob_with_another_digest_is_refused(docker2aci: Tool, layout: oci.Layout) -> None:
    layer = images.small_layer()
    layout.image("v1", [layer])
    path = os.path.join(layout.path, "blobs", str(layer.descriptor["digest"]).replace(":", "/"))
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    refused = docker2aci("layout")
    assert refused.code == 1
    assert str(layer.descriptor["digest"]) in refused.err or "damaged" in refused.err
    assert os.listdir(docker2aci.directory) == ["layout"]


def test_words(docker2aci: Tool) -> None:
    assert docker2aci.ok("-version").out.startswith("docker2aci version ")
    nothing = docker2aci()
    assert (nothing.code, nothing.out) == (2, "")
    assert "docker://[REGISTRY/]NAME[:TAG|@DIGEST]" in nothing.err
    assert docker2aci("-bogus").code == 2
    assert "unknown compression method: lzma" in docker2aci("-compression=lzma", "x").err
    assert "works only with files" in docker2aci("-image=x", "docker://y").err
    missing = docker2aci("missing.tar")
    assert (missing.code, "missing.tar: no such file or directory" in missing.err) == (1, True)
    assert "invalid docker reference" in docker2aci("docker://Bad:Name:x").err
    assert docker2aci.ok("--help").out.startswith("NAME:\n\tdocker2aci - ")
