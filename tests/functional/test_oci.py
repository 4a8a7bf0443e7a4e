"""Images from OCI layouts: what is rendered is what umoci makes of them, file by file with metadata."""

from __future__ import annotations

import json
import os
import shutil
import tarfile

import pytest

from functional import container_images as images
from functional.container_images import INSECURE
from support import oci
from support.driver import Rkt
from support.registry import run


@pytest.fixture
def layout(tmp_path: os.PathLike[str]) -> oci.Layout:
    return oci.Layout(os.path.join(tmp_path, "layout"))


def manifest_of(rkt: Rkt, key: str) -> dict[str, object]:
    made: dict[str, object] = json.loads(rkt.ok("image", "cat-manifest", key).out)
    return made


def fetch(rkt: Rkt, reference: str) -> str:
    return rkt.ok(INSECURE, "fetch", "--full", reference).out.strip()


class TestTrees:
    def test_tree_equals_umocis(self, rkt: Rkt, layout: oci.Layout) -> None:
        layout.image("v1", [images.base_layer(), images.change_layer()], config=images.CONFIG)
        theirs = images.umoci(layout.path, "v1", os.path.join(rkt.base, "umoci"))
        ours = images.tree_of(rkt, f"oci:{layout.path}:v1")
        assert oci.difference(oci.describe(theirs), oci.describe(ours)) == {}

    def test_three_layers_that_undo_each_other(self, rkt: Rkt, layout: oci.Layout) -> None:
        third = oci.Layer(
            oci.tar(
                [
                    oci.directory("./"),
                    oci.directory("gone"),
                    oci.file("gone/again", b"back"),
                    oci.link("opaque/again", "gone/again"),
                    oci.whiteout("etc/b"),
                    oci.whiteout("abs"),
                ]
            )
        )
        layers = [images.base_layer(), images.change_layer(), third]
        layout.image("v1", layers, config=images.CONFIG)
        theirs = images.umoci(layout.path, "v1", os.path.join(rkt.base, "umoci"))
        ours = images.tree_of(rkt, f"oci:{layout.path}:v1")
        # umoci leaves the time of unpacking on a directory whose content a later layer changed silently.
        assert (
            oci.difference(
                oci.describe(theirs, directory_times=False), oci.describe(ours, directory_times=False)
            )
            == {}
        )

    def test_zstd_and_plain_layers(self, rkt: Rkt, layout: oci.Layout) -> None:
        base, change = images.base_layer("zstd"), images.change_layer("")
        layout.image("new", [base, change], config=images.CONFIG)
        again = oci.Layout(os.path.join(rkt.base, "gzip"))
        # umoci of Debian 12 knows gzip only: the same archives, compressed otherwise.
        import zstandard

        archives = [zstandard.ZstdDecompressor().decompressobj().decompress(base.blob), change.blob]
        again.image("old", [oci.Layer(archive) for archive in archives], config=images.CONFIG)
        theirs = images.umoci(again.path, "old", os.path.join(rkt.base, "umoci"))
        ours = images.tree_of(rkt, f"oci:{layout.path}:new")
        assert oci.difference(oci.describe(theirs), oci.describe(ours)) == {}

    def test_sparse_file_keeps_its_holes(self, rkt: Rkt, layout: oci.Layout) -> None:
        source = os.path.join(rkt.base, "sparse")
        os.mkdir(source)
        with open(os.path.join(source, "holes"), "wb") as file:
            file.truncate(64 << 20)
            file.seek(8 << 20)
            file.write(b"island")
        archive = os.path.join(rkt.base, "sparse.tar")
        for format in ("posix", "gnu"):
            run(["tar", "-C", source, f"--format={format}", "--sparse", "-cf", archive, "holes"])
            with open(archive, "rb") as file:
                layer = oci.Layer(file.read())
            layout.image(format, [layer])
            ours = images.tree_of(rkt, f"oci:{layout.path}:{format}")
            # umoci knows the newer format only; the file is the same.
            theirs = images.umoci(layout.path, "posix", os.path.join(rkt.base, f"umoci-{format}"))
            made, expected = oci.describe(ours)["holes"], oci.describe(theirs)["holes"]
            if format == "gnu":  # has whole seconds
                made, expected = made[:3] + made[4:], expected[:3] + expected[4:]
            assert made == expected
            assert os.stat(os.path.join(ours, "holes")).st_blocks * 512 < 1 << 20

    def test_chunked_zstd_with_frames_to_skip(self, rkt: Rkt, layout: oci.Layout) -> None:
        import zstandard

        archive = oci.tar([oci.file("a", b"a" * 5000)])
        layer = oci.Layer(archive, "zstd")
        compress = zstandard.ZstdCompressor().compress
        frames = compress(archive[:1024]) + compress(archive[1024:])
        layer.blob = frames + bytes.fromhex("502a4d18") + (7).to_bytes(4, "little") + b"toc-toc"
        layer.descriptor |= {"digest": oci.digest(layer.blob), "size": len(layer.blob)}
        layout.image("v1", [layer])
        tree = images.tree_of(rkt, f"oci:{layout.path}:v1")
        with open(os.path.join(tree, "a"), "rb") as file:
            assert file.read() == b"a" * 5000


class TestManifest:
    def test_rules_of_conversion(self, rkt: Rkt, layout: oci.Layout) -> None:
        descriptor = layout.image(
            "registry.example.com/team/app:v1",
            [images.small_layer()],
            config=images.CONFIG,
            author="A. U. Thor",
            comment="made by hand",
        )
        key = fetch(rkt, f"oci:{layout.path}")
        manifest = manifest_of(rkt, key)
        assert manifest["name"] == "registry.example.com/team/app"
        assert manifest["labels"] == [
            {"name": "version", "value": "v1"},
            {"name": "os", "value": "linux"},
            {"name": "arch", "value": "amd64"},
        ]
        assert manifest["app"] == {
            "exec": ["/bin/busybox", "sh", "-c", "echo hello"],
            "user": "7",
            "group": "8",
            "workingDirectory": "/tmp",
            "environment": [{"name": "PATH", "value": "/bin"}, {"name": "A", "value": "b=c"}],
            "mountPoints": [{"name": "volume-data-x", "path": "/data/x"}],
            "ports": [
                {"name": "53-udp", "protocol": "udp", "port": 53, "count": 1, "socketActivated": False},
                {"name": "80-tcp", "protocol": "tcp", "port": 80, "count": 1, "socketActivated": False},
            ],
        }
        notes = {one["name"]: one["value"] for one in manifest["annotations"]}  # type: ignore[attr-defined]
        assert notes["author"] == "A. U. Thor"
        assert notes["created"] == "2020-09-13T12:26:40Z"
        assert notes["docker-comment"] == "made by hand"
        assert notes["appc.io/docker/registryurl"] == "registry.example.com"
        assert notes["appc.io/docker/repository"] == "team/app"
        assert notes["appc.io/docker/tag"] == "v1"
        assert notes["appc.io/docker/entrypoint"] == '["/bin/busybox"]'
        assert notes["appc.io/docker/cmd"] == '["sh","-c","echo hello"]'
        assert notes["appc.io/docker/manifesthash"] == descriptor["digest"]

    def test_key_depends_on_nothing_else(self, rkt: Rkt, layout: oci.Layout) -> None:
        layers = [images.base_layer(), images.change_layer()]
        layout.image("v1", layers, config=images.CONFIG)
        key = fetch(rkt, f"oci:{layout.path}:v1")
        rkt.ok("image", "rm", key)
        elsewhere = os.path.join(rkt.base, "elsewhere/layout")
        shutil.copytree(layout.path, elsewhere)
        assert fetch(rkt, f"oci:{elsewhere}:v1") == key

    def test_platform_of_this_machine_is_chosen(self, rkt: Rkt, layout: oci.Layout) -> None:
        layers = {arch: oci.Layer(oci.tar([oci.file(arch)])) for arch in ("arm64", "amd64", "s390x")}
        manifests = [
            layout.image("", [layer], platform={"os": "linux", "architecture": arch})
            for arch, layer in layers.items()
        ]
        layout.images("v1", manifests)
        assert os.listdir(images.tree_of(rkt, f"oci:{layout.path}:v1")) == ["amd64"]
        layout.images("other", [manifests[0], manifests[2]])
        refused = rkt(INSECURE, "fetch", f"oci:{layout.path}:other")
        assert refused.code == 254
        assert "there is no image for linux/amd64, only for linux/arm64, linux/s390x" in refused.err


class TestPlaces:
    def test_archive_of_a_layout(self, rkt: Rkt, layout: oci.Layout) -> None:
        layout.image("v1", [images.small_layer()], config=images.CONFIG)
        archive = os.path.join(rkt.base, "layout.tar.gz")
        with tarfile.open(archive, "w:gz") as file:
            for name in ("oci-layout", "index.json", "blobs"):
                file.add(os.path.join(layout.path, name), name)
        key = fetch(rkt, f"oci:{archive}:v1")
        run(
            [
                "skopeo",
                "copy",
                "-q",
                "--insecure-policy",
                f"oci:{layout.path}:v1",
                f"oci-archive:{rkt.base}/oci.tar:v1",
            ]
        )
        assert fetch(rkt, f"oci:{rkt.base}/oci.tar:v1").startswith("sha512-")
        rkt.ok("image", "rm", key)
        assert fetch(rkt, f"oci:{layout.path}:v1") == key

    def test_digest_is_enough(self, rkt: Rkt, layout: oci.Layout) -> None:
        descriptor = layout.image("v1", [images.small_layer()], config=images.CONFIG)
        rkt.ok("fetch", f"oci:{layout.path}@{descriptor['digest']}")
        listed = rkt.ok("image", "list", "--fields=name,verified", "--no-legend")
        assert listed.out == f"layout:{descriptor['digest']}\tdigest\n"

    def test_unsigned_and_unpinned_is_refused(self, rkt: Rkt, layout: oci.Layout) -> None:
        layout.image("v1", [images.small_layer()])
        refused = rkt("fetch", f"oci:{layout.path}:v1")
        assert refused.code == 254
        assert "verified by its digest only" in refused.err
        assert rkt.ok("image", "list", "--no-legend").out.strip() == ""

    def test_several_images_want_a_name(self, rkt: Rkt, layout: oci.Layout) -> None:
        layout.image("v1", [images.small_layer()])
        layout.image("v2", [images.base_layer()])
        refused = rkt(INSECURE, "fetch", f"oci:{layout.path}")
        assert refused.code == 254 and "name one of them: v1, v2" in refused.err
        assert rkt(INSECURE, "fetch", f"oci:{layout.path}:v3").code == 254

    def test_it_runs(self, rkt: Rkt, layout: oci.Layout) -> None:
        busybox = shutil.which("busybox") or "/bin/busybox"
        with open(busybox, "rb") as file:
            program = file.read()
        members = [
            oci.directory("bin"),
            oci.file("bin/busybox", program, mode=0o755),
            oci.directory("tmp", mode=0o1777),
            oci.directory("etc"),
        ]
        config = {name: value for name, value in images.CONFIG.items() if name != "Volumes"}
        layout.image("v1", [oci.Layer(oci.tar(members))], config=config)
        done = rkt.ok(
            INSECURE,
            "run",
            "--net=none",
            f"--stage1-path={os.path.join(os.path.dirname(__file__), '../../build/stage1/stage1-fly.aci')}",
            f"oci:{layout.path}:v1",
        )
        assert "hello" in done.out
