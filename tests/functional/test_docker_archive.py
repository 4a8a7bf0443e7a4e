"""What ``docker save`` writes, of every age: by skopeo, and by hand where no tool does any more."""

from __future__ import annotations

import io
import json
import os
import tarfile

import pytest

from functional import container_images as images
from functional.container_images import INSECURE
from support import oci
from support.driver import Rkt
from support.registry import run


def archive(path: str, members: dict[str, bytes], links: dict[str, str] | None = None) -> str:
    with tarfile.open(path, "w") as made:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            made.addfile(info)
    return path


def files(tree: str) -> set[str]:
    return {
        os.path.relpath(os.path.join(where, name), tree)
        for where, _, names in os.walk(tree)
        for name in names
    }


class TestTools:
    @pytest.mark.parametrize("compressed", [False, True])
    def test_skopeos_archive_gives_umocis_tree(self, rkt: Rkt, compressed: bool) -> None:
        layout = oci.Layout(os.path.join(rkt.base, "layout"))
        layout.image("v1", [images.base_layer(), images.change_layer()], config=images.CONFIG)
        path = os.path.join(rkt.base, "saved.tar")
        run(
            [
                "skopeo",
                "copy",
                "-q",
                "--insecure-policy",
                f"oci:{layout.path}:v1",
                f"docker-archive:{path}:team/app:v1",
            ]
        )
        if compressed:
            run(["gzip", path])
            path += ".gz"
        ours = images.tree_of(rkt, f"docker-archive:{path}")
        theirs = images.umoci(layout.path, "v1", os.path.join(rkt.base, "umoci"))
        assert oci.difference(oci.describe(theirs), oci.describe(ours)) == {}
        names = rkt.ok("image", "list", "--no-legend", "--fields=name,verified").out
        assert names == "registry-1.docker.io/team/app:v1\tnone\n"

    def test_image_id_is_enough(self, rkt: Rkt) -> None:
        layout = oci.Layout(os.path.join(rkt.base, "layout"))
        layout.image("v1", [images.small_layer()])
        path = os.path.join(rkt.base, "saved.tar")
        run(
            [
                "skopeo",
                "copy",
                "-q",
                "--insecure-policy",
                f"oci:{layout.path}:v1",
                f"docker-archive:{path}:team/app:v1",
            ]
        )
        with tarfile.open(path) as saved:
            listed = json.load(saved.extractfile("manifest.json"))  # type: ignore[arg-type]
        digest = "sha256:" + listed[0]["Config"].removesuffix(".json")
        refused = rkt("fetch", f"docker-archive:{path}")
        assert refused.code == 254 and "verified by its digest only" in refused.err
        rkt.ok("fetch", f"docker-archive:{path}@{digest}")
        wrong = rkt("fetch", f"docker-archive:{path}@{oci.digest(b'x')}")
        assert wrong.code == 254 and "has no image" in wrong.err


def config(layers: list[bytes], **members: object) -> bytes:
    value = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Cmd": ["x"]},
        "rootfs": {"type": "layers", "diff_ids": [oci.digest(layer) for layer in layers]},
        **members,
    }
    return oci.encode(value)


class TestFormats:
    def test_shared_layers_are_links(self, rkt: Rkt) -> None:
        layer = oci.tar([oci.file("a"), oci.file("b")])
        value = [{"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["one/layer.tar", "two/layer.tar"]}]
        members = {
            "c.json": config([layer, layer]),
            "one/layer.tar": layer,
            "manifest.json": oci.encode(value),
        }
        path = archive(os.path.join(rkt.base, "a.tar"), members, {"two/layer.tar": "../one/layer.tar"})
        assert files(images.tree_of(rkt, f"docker-archive:{path}:app:1")) == {"a", "b"}

    def test_several_images_want_a_name(self, rkt: Rkt) -> None:
        layers = [oci.tar([oci.file("one")]), oci.tar([oci.file("two")])]
        value, members = [], {}
        for number, layer in enumerate(layers):
            members |= {f"{number}.json": config([layer]), f"{number}.tar": layer}
            value.append(
                {"Config": f"{number}.json", "RepoTags": [f"app:{number}"], "Layers": [f"{number}.tar"]}
            )
        members["manifest.json"] = oci.encode(value)
        path = archive(os.path.join(rkt.base, "a.tar"), members)
        assert files(images.tree_of(rkt, f"docker-archive:{path}:app:1")) == {"two"}
        refused = rkt(INSECURE, "fetch", f"docker-archive:{path}")
        assert refused.code == 254 and "app:0, app:1" in refused.err

    def old(self, chain: dict[str, str], top: str, layers: dict[str, bytes]) -> dict[str, bytes]:
        """Of before Docker 1.10: ``chain`` gives each layer's parent."""
        members = {"repositories": oci.encode({"example/old": {"v1": top}})}
        for name, parent in chain.items():
            value = {"id": name, "os": "linux", "architecture": "amd64", "config": {"Cmd": ["/old"]}}
            members[f"{name}/json"] = oci.encode({**value, "parent": parent} if parent else value)
            members[f"{name}/layer.tar"] = layers[name]
        return members

    def test_before_docker_1_10(self, rkt: Rkt) -> None:
        layers = {"a" * 64: oci.tar([oci.file("x"), oci.file("y")]), "b" * 64: oci.tar([oci.whiteout("x")])}
        members = self.old({"a" * 64: "", "b" * 64: "a" * 64}, "b" * 64, layers)
        path = archive(os.path.join(rkt.base, "old.tar"), members)
        assert files(images.tree_of(rkt, f"docker-archive:{path}")) == {"y"}
        assert '"/old"' in rkt.ok("image", "cat-manifest", "registry-1.docker.io/example/old:v1").out

    @pytest.mark.parametrize(
        ("chain", "top", "message"),
        [
            ({"a": "b", "b": "a"}, "a", "each other's parents"),
            ({"a": "../../etc"}, "a", "is no ID"),
            ({"a": ""}, "../../../etc", "is no ID"),
            ({"a": "c"}, "a", "has no c/json"),
        ],
    )
    def test_hostile_chains(self, rkt: Rkt, chain: dict[str, str], top: str, message: str) -> None:
        layers = dict.fromkeys(chain, oci.tar([]))
        path = archive(os.path.join(rkt.base, "old.tar"), self.old(chain, top, layers))
        refused = rkt(INSECURE, "fetch", f"docker-archive:{path}")
        assert refused.code == 254 and message in refused.err

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ({"x": b""}, "it has no manifest.json"),
            ({"manifest.json": b"[]"}, "has no images"),
            ({"manifest.json": b"{"}, "cannot be read"),
            ({"manifest.json": b'[{"Config":"../../../etc/passwd","Layers":[]}]'}, "leads out"),
            ({"manifest.json": b'[{"Config":"/etc/passwd","Layers":[]}]'}, "absolute name"),
            ({"manifest.json": b'[{"Config":"none","Layers":[]}]'}, "has no none"),
            ({"manifest.json": b'[{"Config":"c","Layers":["c"]}]', "c": b"{}"}, "has 1 layers"),
        ],
    )
    def test_what_is_no_archive(self, rkt: Rkt, members: dict[str, bytes], message: str) -> None:
        path = archive(os.path.join(rkt.base, "a.tar"), members)
        refused = rkt(INSECURE, "fetch", f"docker-archive:{path}")
        assert refused.code == 254 and message in refused.err, refused

    @pytest.mark.parametrize("data", [b"some text\n" * 100, b"\x1f\x8b\x08 and no more", b"", bytes(700)])
    @pytest.mark.parametrize("kind", ["docker-archive", "oci"])
    def test_what_is_no_archive_at_all(self, rkt: Rkt, kind: str, data: bytes) -> None:
        path = os.path.join(rkt.base, "a.tar")
        with open(path, "wb") as file:
            file.write(data)
        refused = rkt(INSECURE, "fetch", f"{kind}:{path}")
        assert refused.code == 254 and path in refused.err, refused
        assert len(refused.err.splitlines()) == 1

    def test_layer_that_is_not_the_one(self, rkt: Rkt) -> None:
        layer, other = oci.tar([oci.file("a")]), oci.tar([oci.file("b")])
        value = [{"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["l.tar"]}]
        members = {"c.json": config([layer]), "l.tar": other, "manifest.json": oci.encode(value)}
        path = archive(os.path.join(rkt.base, "a.tar"), members)
        refused = rkt(INSECURE, "fetch", f"docker-archive:{path}")
        assert refused.code == 254 and "has the digest" in refused.err
        assert rkt.ok("image", "list", "--no-legend").out.strip() == ""

    def test_member_that_links_to_the_host(self, rkt: Rkt) -> None:
        value = [{"Config": "c.json", "Layers": ["l.tar"]}]
        for target in ("/etc/passwd", "../../../../../../etc/passwd", "c.json"):
            path = archive(
                os.path.join(rkt.base, "a.tar"), {"manifest.json": oci.encode(value)}, {"c.json": target}
            )
            refused = rkt(INSECURE, "fetch", f"docker-archive:{path}")
            assert refused.code == 254 and "has no c.json" in refused.err
