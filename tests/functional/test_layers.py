"""Layers that are unpacked once: shared by images and trees, the same image with or without them."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import Any

import pytest

from functional import container_images as images
from functional.container_images import INSECURE
from functional.flavors import NAMES
from support import driver, oci
from support.driver import Rkt


@pytest.fixture
def layout(tmp_path: os.PathLike[str]) -> oci.Layout:
    return oci.Layout(os.path.join(tmp_path, "layout"))


@pytest.fixture
def word(layout: oci.Layout) -> str:
    """An image of three layers with all kinds of files."""
    layout.image("v1", [images.base_layer(), images.change_layer(), sparse_layer()], config=images.CONFIG)
    return f"oci:{layout.path}:v1"


def sparse_layer() -> oci.Layer:
    """A file with holes (PAX format 1.0), one of several pieces, in a directory nobody describes."""
    table = b"3\n0\n3\n1048576\n4\n2097152\n0\n".ljust(512, b"\0")
    info, _ = oci.file("srv/deep/holes")
    info.size = len(table) + 7
    info.pax_headers |= {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "srv/deep/holes",
        "GNU.sparse.realsize": "2097152",
    }
    return oci.Layer(oci.tar([(info, table + b"onetwo!")]), "zstd")


def fetch(rkt: Rkt, word: str, **options: Any) -> str:
    return rkt.ok(INSECURE, "fetch", "--full", word, **options).out.strip()


def rootfs(rkt: Rkt, key: str) -> str:
    """The only tree of an image."""
    trees = os.path.join(rkt.dir, "cas/tree")
    for name in os.listdir(trees):
        with open(os.path.join(trees, name, "image")) as file:
            if file.read() == key:
                return os.path.join(trees, name, "rootfs")
    raise AssertionError(f"{key} has no tree")


def export(rkt: Rkt, key: str) -> str:
    """The digest of an exported image."""
    path = os.path.join(rkt.base, "exported.aci")
    rkt.ok("image", "export", "--overwrite", key, path)
    with open(path, "rb") as file:
        return "sha512-" + hashlib.file_digest(file, "sha512").hexdigest()[:64]


def tree_hash(rkt: Rkt) -> str:
    """The checksum kept with the only tree that is no stage1's."""
    trees = os.path.join(rkt.dir, "cas/tree")
    (found,) = [name for name in os.listdir(trees) if not os.path.exists(f"{trees}/{name}/rootfs/rkt")]
    with open(os.path.join(trees, found, "hash")) as file:
        return file.read()


@pytest.mark.parametrize("options", [[], ["--no-overlay"]])
def test_a_pod_shares_layers_too(rkt: Rkt, word: str, options: list[str]) -> None:
    """An image that comes with a pod is taken apart by workers, as one that was fetched; no file is kept."""
    stage1 = f"--stage1-path={driver.STAGE1}/stage1-fly.aci"
    rkt.ok(INSECURE, "prepare", *options, stage1, word)
    assert len(images.unpacked_layers(rkt)) == 3
    blobs = [name for _, _, names in os.walk(os.path.join(rkt.dir, "cas/blob")) for name in names]
    listed = rkt.ok("image", "list", "--full", "--fields=id,name", "--no-legend").lines
    (own,) = [line for line in listed if "layout" in line]
    assert len(blobs) == 1 and blobs[0] not in own
    assert fetch(rkt, word) in own


def prepare(rkt: Rkt, key: str) -> None:
    """Whoever wants to run an image needs its tree."""
    rkt.ok(INSECURE, "prepare", f"--stage1-path={driver.STAGE1}/stage1-fly.aci", key, "--exec=/x")


def as_user(rkt: Rkt, word: str) -> dict[str, Any]:
    """Give another user, who can render nothing, a store of its own; how to run as this one."""
    images.readable(word.split(":")[1])
    images.readable(rkt.base)
    directory = os.path.join(rkt.base, "user")
    os.mkdir(directory)
    os.chown(directory, 54321, 54321)
    rkt.dir = os.path.join(directory, "data")
    return {"user": 54321, "group": 54321, "extra_groups": []}


class TestSameImage:
    def test_key_is_that_of_the_whole_archive(self, rkt: Rkt, word: str) -> None:
        key = fetch(rkt, word)
        blobs = os.path.join(rkt.dir, "cas/blob")
        assert [name for _, _, names in os.walk(blobs) for name in names] == []
        assert export(rkt, key) == key
        tree, checksum = rootfs(rkt, key), tree_hash(rkt)
        user = as_user(rkt, word)
        assert fetch(rkt, word, **user) == key
        assert [name for _, _, names in os.walk(f"{rkt.dir}/cas/blob") for name in names] == [key]
        # Unpacked from that file, the tree has the same checksum as made of layers.
        prepare(rkt, key)
        assert tree_hash(rkt) == checksum
        assert oci.difference(oci.describe(rootfs(rkt, key)), oci.describe(tree)) == {}

    def test_tree_equals_umocis(self, rkt: Rkt, word: str, layout: oci.Layout) -> None:
        key = fetch(rkt, word)
        # umoci knows no zstd
        layers = [images.base_layer(), images.change_layer()]
        layout.image("v2", layers, config=images.CONFIG)
        theirs = images.umoci(layout.path, "v2", os.path.join(rkt.base, "umoci"))
        ours = rootfs(rkt, fetch(rkt, f"oci:{layout.path}:v2"))
        assert oci.difference(oci.describe(theirs), oci.describe(ours)) == {}
        holes = os.stat(os.path.join(rootfs(rkt, key), "srv/deep/holes"))
        assert holes.st_size == 2 << 20 and holes.st_blocks * 512 < 1 << 20

    def test_extract_and_render(self, rkt: Rkt, word: str) -> None:
        key = fetch(rkt, word)
        for verb in ("extract", "render"):
            target = os.path.join(rkt.base, verb)
            rkt.ok("image", verb, "--rootfs-only", key, target)
            assert oci.difference(oci.describe(rootfs(rkt, key)), oci.describe(target)) == {}

    def test_tree_is_made_again(self, rkt: Rkt, word: str) -> None:
        key = fetch(rkt, word)
        before = oci.describe(rootfs(rkt, key))
        rkt.ok("image", "gc", "--grace-period=1h")
        assert os.listdir(os.path.join(rkt.dir, "cas/tree")) == []
        prepare(rkt, key)
        assert oci.difference(before, oci.describe(rootfs(rkt, key))) == {}
        assert "successfully verified checksum" in rkt.ok("image", "verify", key).out

    def test_index_is_rebuilt(self, rkt: Rkt, word: str) -> None:
        key = fetch(rkt, word)
        listed = rkt.ok("image", "list", "--no-legend", "--fields=id,name,size").out
        os.unlink(os.path.join(rkt.dir, "cas/db/index.sqlite3"))
        assert rkt.ok("image", "list", "--no-legend", "--fields=id,name,size").out == listed
        manifest = rkt.ok("image", "cat-manifest", key).out
        os.unlink(os.path.join(rkt.dir, "cas/db/index.sqlite3"))
        shutil.rmtree(os.path.join(rkt.dir, "cas/imageManifest/sha512"))
        os.mkdir(os.path.join(rkt.dir, "cas/imageManifest/sha512"))
        assert rkt.ok("image", "list", "--no-legend", "--fields=id,name,size").out == listed
        assert rkt.ok("image", "cat-manifest", key).out == manifest

    @pytest.mark.parametrize("flavor", NAMES)
    def test_it_runs(self, rkt: Rkt, layout: oci.Layout, flavor: str) -> None:
        with open("/bin/busybox", "rb") as file:
            program = file.read()
        layer = oci.Layer(
            oci.tar([oci.file("bin/busybox", program, mode=0o755), oci.file("data/x", b"old\n")])
        )
        layout.image("v1", [layer], config={"Cmd": ["/bin/busybox", "true"]})
        key = fetch(rkt, f"oci:{layout.path}:v1")
        script = "/bin/busybox echo new > /data/x && /bin/busybox cat /data/x"
        done = rkt.ok(
            INSECURE,
            *("run", "--net=none", f"--stage1-path={driver.STAGE1}/stage1-{flavor}.aci", key),
            *("--exec=/bin/busybox", "--", "sh", "-c", script),
        )
        assert "new" in done.out
        # What a pod writes stays with the pod.
        with open(os.path.join(images.unpacked_layer(rkt, layer), "1")) as kept:
            assert kept.read() == "old\n"
        assert "successfully verified checksum" in rkt.ok("image", "verify", key).out


class TestSharing:
    def test_files_are_the_same_but_those_of_etc_and_var(self, rkt: Rkt, layout: oci.Layout) -> None:
        shared = oci.Layer(
            oci.tar([oci.file("usr/x", b"x"), oci.link("usr/y", "usr/x"), oci.file("etc/crontab", b"c")])
        )
        layout.image("one", [shared])
        layout.image("two", [shared, oci.Layer(oci.tar([oci.file("var/log/two", b"2")]))])
        one, two = (rootfs(rkt, fetch(rkt, f"oci:{layout.path}:{name}")) for name in ("one", "two"))
        assert os.path.samefile(f"{one}/usr/x", f"{two}/usr/x")
        assert os.stat(f"{one}/usr/x").st_nlink == 5
        for path in (f"{one}/etc/crontab", f"{two}/etc/crontab", f"{two}/var/log/two"):
            assert os.stat(path).st_nlink == 1

    def test_layer_that_is_there_twice(self, rkt: Rkt, layout: oci.Layout) -> None:
        """The same layer once more leads elsewhere: these are two files, as they would be unpacked."""
        links = [
            oci.Layer(oci.tar([oci.directory("a"), oci.directory("b"), oci.symlink("to", name)]))
            for name in ("a", "b")
        ]
        again = oci.Layer(oci.tar([oci.file("to/x", b"x")]))
        layout.image("v1", [links[0], again, links[1], again])
        key = fetch(rkt, f"oci:{layout.path}:v1")
        tree = rootfs(rkt, key)
        assert not os.path.samefile(f"{tree}/a/x", f"{tree}/b/x")
        assert [os.stat(f"{tree}/{path}/x").st_nlink for path in "ab"] == [1, 1]
        assert export(rkt, key) == key

    def test_gc_keeps_what_an_image_needs(self, rkt: Rkt, layout: oci.Layout) -> None:
        shared, own = images.base_layer(), images.small_layer()
        layout.image("one", [shared])
        layout.image("two", [shared, own])
        one, two = (fetch(rkt, f"oci:{layout.path}:{name}") for name in ("one", "two"))
        rkt.ok("image", "rm", two)
        assert images.unpacked_layers(rkt) == sorted([shared.diff_id, own.diff_id])
        rkt.ok("image", "gc", "--grace-period=1h")
        assert len(images.unpacked_layers(rkt)) == 2
        # The image is in use, so it stays, and so does what it is made of.
        os.utime(images.unpacked_layer(rkt, shared), (0, 0))
        os.utime(images.unpacked_layer(rkt, own), (0, 0))
        rkt.ok("image", "gc", "--grace-period=1h")
        assert images.unpacked_layers(rkt) == [shared.diff_id]
        assert export(rkt, one) == one
        rkt.ok("image", "rm", one)
        rkt.ok("image", "gc", "--grace-period=0s")
        assert images.unpacked_layers(rkt) == []
        for locks in ("imagelocks", "treestorelocks"):
            assert os.listdir(os.path.join(rkt.dir, "cas", locks)) == []
        assert [name for _, _, names in os.walk(f"{rkt.dir}/cas/recipe") for name in names] == []

    def test_members_of_the_group_are_told(self, rkt: Rkt, word: str) -> None:
        key = fetch(rkt, word)
        directory = rkt.dir
        user = as_user(rkt, word)
        rkt.dir = directory
        for parent, directories, names in os.walk(rkt.dir):
            if "unpacked" in directories:
                directories.remove("unpacked")
            for name in (".", *directories, *names):
                os.chown(os.path.join(parent, name), -1, 54321)
        done = rkt("image", "export", key, os.path.join(rkt.base, "user/out.aci"), **user)
        assert done.code == 254 and "only root may read" in done.err, done
        assert rkt.ok("image", "rm", key, **user).code == 0


class TestDamage:
    def damage(self, rkt: Rkt, layer: oci.Layer, number: int) -> None:
        with open(os.path.join(images.unpacked_layer(rkt, layer), str(number)), "r+b") as file:
            file.write(b"?")

    @pytest.mark.parametrize("what", ["content", "mode", "owner", "missing", "capability", "index"])
    def test_verify_says_so_and_fetching_mends_it(self, rkt: Rkt, layout: oci.Layout, what: str) -> None:
        capability = {"security.capability": oci.CAPABILITY}
        layer = oci.Layer(oci.tar([oci.file("usr/x", b"x", mode=0o755, xattrs=capability)]))
        layout.image("v1", [layer])
        word = f"oci:{layout.path}:v1"
        key = fetch(rkt, word)
        good = oci.describe(rootfs(rkt, key))
        directory = images.unpacked_layer(rkt, layer)
        path = os.path.join(directory, "0")
        if what == "content":
            self.damage(rkt, layer, 0)
        elif what == "mode":
            os.chmod(path, 0o4755)
        elif what == "owner":
            os.chown(path, 7, 7)
        elif what == "missing":
            os.unlink(path)
            os.unlink(os.path.join(rootfs(rkt, key), "usr/x"))
        elif what == "capability":
            os.removexattr(path, "security.capability")
        else:
            with open(os.path.join(directory, "index"), "a") as file:
                file.write("[]\n")
            os.unlink(os.path.join(rootfs(rkt, key), "usr/x"))
        done = rkt("image", "verify", key)
        assert done.code == 254 and f"layer {layer.diff_id} in the store is damaged" in done.err, done
        assert fetch(rkt, word) == key
        assert oci.difference(good, oci.describe(rootfs(rkt, key))) == {}
        assert export(rkt, key) == key

    def test_recipe(self, rkt: Rkt, word: str) -> None:
        key = fetch(rkt, word)
        path = os.path.join(rkt.dir, "cas/recipe/sha512", key[7:9], key)
        with open(path) as file:
            recipe = file.read()
        for other in (
            "",
            "{}",
            recipe.replace("sha256:", "sha256:../../"),
            recipe.replace("layers", "layer"),
        ):
            with open(path, "w") as file:
                file.write(other)
            done = rkt("image", "export", key, os.path.join(rkt.base, "out.aci"))
            assert done.code == 254 and "is damaged" in done.err and "Traceback" not in done.err, done
        with open(path, "w") as file:
            file.write(recipe.replace("example.com", "evil.com").replace("layout", "lay0ut"))
        done = rkt("image", "export", key, os.path.join(rkt.base, "out.aci"))
        assert done.code == 254 and "has another digest" in done.err, done
