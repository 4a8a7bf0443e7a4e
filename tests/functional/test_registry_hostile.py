"""Registries that lie, break off or lead elsewhere, and images made to harm: refused, with nothing left."""

from __future__ import annotations

import base64
import glob
import gzip
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from functional import container_images as images
from support import oci, peak, web
from support.driver import Rkt
from support.waiting import PATIENCE, until

INSECURE = "--insecure-options=image"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[web.Site]:
    with web.Site(os.fspath(tmp_path_factory.mktemp("web"))) as made:
        yield made


@pytest.fixture(autouse=True)
def home(rkt: Rkt, site: web.Site) -> str:
    path = os.path.join(rkt.base, "home")
    os.makedirs(path)
    rkt.environment["HOME"] = path
    rkt.environment["SSL_CERT_FILE"] = site.authority
    site.pages.clear()
    site.requests.clear()
    return path


def serve(site: web.Site, stored: list[oci.Layer], **changes: Any) -> str:
    """Serve an image as ``team/app:v1``; the word for it.  ``changes`` replace members of its manifest."""
    config = oci.encode(
        {
            "os": "linux",
            "architecture": "amd64",
            "config": {"Cmd": ["x"]},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in stored]},
        }
    )
    value = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": oci.digest(config),
            "size": len(config),
        },
        "layers": [layer.descriptor for layer in stored],
        **changes,
    }
    for blob in (config, *(layer.blob for layer in stored)):
        site.pages[f"/v2/team/app/blobs/{oci.digest(blob)}"] = web.Page(blob)
    document(site, "v1", value)
    return f"docker://127.0.0.1:{site.https_port}/team/app:v1"


def document(site: web.Site, tag: str, value: Any, media_type: str = MANIFEST) -> bytes:
    data = value if isinstance(value, bytes) else oci.encode(value)
    page = web.Page(data, headers={"Content-Type": media_type})
    site.pages[f"/v2/team/app/manifests/{tag}"] = page
    site.pages[f"/v2/team/app/manifests/{oci.digest(data)}"] = page
    return data


def blob(site: web.Site, layer: oci.Layer) -> web.Page:
    return site.pages[f"/v2/team/app/blobs/{layer.descriptor['digest']}"]


def simple() -> oci.Layer:
    return oci.Layer(oci.tar([oci.file("a", os.urandom(300_000))]))


def refused(rkt: Rkt, word: str, *options: str) -> str:
    done = rkt(INSECURE, "fetch", *options, word)
    assert done.code == 254, done
    assert "Traceback" not in done.err
    assert rkt.ok("image", "list", "--no-legend").out.strip() == ""
    for path in ("cas/tmp", "cas/unpacked/tmp", "cas/tree"):
        tmp = os.path.join(rkt.dir, path)
        assert not os.path.isdir(tmp) or os.listdir(tmp) == []
    return done.err


class TestLies:
    """Attack 8: digests, sizes and kinds that do not fit."""

    @pytest.mark.attack(8)
    def test_other_bytes_of_the_same_size(self, rkt: Rkt, site: web.Site) -> None:
        layer = simple()
        word = serve(site, [layer])
        blob(site, layer).body = gzip.compress(b"x" * 10)[:10].ljust(len(layer.blob), b"\0")
        refused(rkt, word)
        assert images.unpacked_layers(rkt) == []

    @pytest.mark.attack(8)
    def test_longer_and_shorter(self, rkt: Rkt, site: web.Site) -> None:
        layer = simple()
        word = serve(site, [layer])
        whole = layer.blob
        blob(site, layer).body = whole + b"x"
        assert "bytes instead of" in refused(rkt, word)
        blob(site, layer).body = whole[:-1]
        assert "bytes instead of" in refused(rkt, word)

    @pytest.mark.attack(8)
    def test_endless(self, rkt: Rkt, site: web.Site) -> None:
        layer = simple()
        size = layer.descriptor["size"]
        word = serve(site, [layer], layers=[{**layer.descriptor, "size": 10}])
        assert f"{size} bytes instead of 10" in refused(rkt, word)

    @pytest.mark.attack(8)
    def test_content_that_is_not_the_configurations(self, rkt: Rkt, site: web.Site) -> None:
        layer = simple()
        layer.diff_id = oci.digest(b"something else")
        assert "the content of layer" in refused(rkt, serve(site, [layer]))

    @pytest.mark.attack(8)
    def test_manifest_by_digest(self, rkt: Rkt, site: web.Site) -> None:
        word = serve(site, [simple()]).removesuffix(":v1")
        wanted = oci.digest(b"wanted")
        site.pages[f"/v2/team/app/manifests/{wanted}"] = site.pages["/v2/team/app/manifests/v1"]
        assert "has the digest" in refused(rkt, f"{word}@{wanted}")

    @pytest.mark.attack(8)
    def test_index_that_gives_another_manifest(self, rkt: Rkt, site: web.Site) -> None:
        word = serve(site, [simple()])
        wanted = oci.digest(b"wanted")
        platform = {"os": "linux", "architecture": "amd64"}
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{"mediaType": MANIFEST, "digest": wanted, "size": 6, "platform": platform}],
        }
        site.pages[f"/v2/team/app/manifests/{wanted}"] = site.pages["/v2/team/app/manifests/v1"]
        document(site, "v1", index, str(index["mediaType"]))
        assert "has the digest" in refused(rkt, word)

    @pytest.mark.attack(8)
    def test_kinds_mixed_up(self, rkt: Rkt, site: web.Site) -> None:
        word = serve(site, [simple()])
        page = site.pages["/v2/team/app/manifests/v1"]
        page.headers = {"Content-Type": "application/vnd.oci.image.index.v1+json"}
        assert "is not the" in refused(rkt, word)

    def test_schema_1(self, rkt: Rkt, site: web.Site) -> None:
        word = serve(site, [simple()])
        value = {"schemaVersion": 1, "name": "team/app", "fsLayers": [], "history": []}
        document(site, "v1", value, "application/vnd.docker.distribution.manifest.v1+prettyjws")
        said = refused(rkt, word)
        assert "is of schema 1" in said and "skopeo copy" in said

    @pytest.mark.parametrize(
        "data",
        [
            b'{"a":' * 200_000,
            b"[" * 200_000,
            b'{"schemaVersion":2,"size":' + b"9" * 100_000 + b"}",
            b"\xef\xbb\xbf{}",
            b"\0" * 100,
            b"<html>",
            b"",
        ],
    )
    @pytest.mark.attack(7)
    def test_json_bombs(self, rkt: Rkt, site: web.Site, data: bytes) -> None:
        word = serve(site, [simple()])
        document(site, "v1", data)
        refused(rkt, word)

    @pytest.mark.attack(8)
    def test_other_algorithm(self, rkt: Rkt, site: web.Site) -> None:
        layer = simple()
        word = serve(site, [layer], layers=[{**layer.descriptor, "digest": "md5:" + "0" * 32}])
        assert "not of a supported kind" in refused(rkt, word)

    @pytest.mark.attack(8)
    def test_link_from_the_manifest_is_not_followed(self, rkt: Rkt, site: web.Site) -> None:
        layer = simple()
        foreign = {
            **layer.descriptor,
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "urls": [f"{site.url}/elsewhere"],
        }
        assert "is not distributed" in refused(rkt, serve(site, [layer], layers=[foreign]))
        assert site.asked("/elsewhere") == []


class TestConnections:
    """Attacks 32 and 33: cut downloads, redirects, credentials."""

    @pytest.mark.attack(33)
    def test_download_that_breaks_off_goes_on(self, rkt: Rkt, site: web.Site) -> None:
        layer = simple()
        word = serve(site, [layer])
        blob(site, layer).cuts = [100_000, 50_000, 1]
        rkt.ok(INSECURE, "fetch", word)
        asked = site.asked(f"/v2/team/app/blobs/{layer.descriptor['digest']}")
        assert [one.header("Range") for one in asked] == [
            "",
            "bytes=100000-",
            "bytes=150000-",
            "bytes=150001-",
        ]

    @pytest.mark.attack(33)
    def test_wrong_range(self, rkt: Rkt, site: web.Site) -> None:
        layer = simple()
        word = serve(site, [layer])
        page = blob(site, layer)
        page.cuts, page.wrong_range = [100_000], f"bytes 5-{len(layer.blob) - 1}/{len(layer.blob)}"
        assert "another part" in refused(rkt, word)

    @pytest.mark.attack(33)
    def test_always_cut(self, rkt: Rkt, site: web.Site) -> None:
        layer = simple()
        word = serve(site, [layer])
        blob(site, layer).cuts = [100] * 50
        refused(rkt, word)

    @pytest.mark.attack(32)
    def test_token_stays_with_the_registry(self, rkt: Rkt, site: web.Site, home: str) -> None:
        layer = simple()
        word = serve(site, [layer])
        host = f"127.0.0.1:{site.https_port}"
        challenge = f'Bearer realm="{site.url}/token",service="tests",scope="repository:team/app:pull"'
        digest = layer.descriptor["digest"]
        for path, page in list(site.pages.items()):
            if "/v2/" in path:
                page.needs, page.challenge = "Bearer abc", challenge
        where = f"/v2/team/app/blobs/{digest}"
        elsewhere = f"https://localhost:{site.https_port}/cdn/{digest}"
        site.pages[where] = web.Page(
            status=307, headers={"Location": elsewhere}, needs="Bearer abc", challenge=challenge
        )
        site.pages[f"/cdn/{digest}"] = web.Page(layer.blob)
        query = "service=tests&scope=repository%3Ateam%2Fapp%3Apull"
        password = base64.b64encode(b"alice:secret").decode()
        site.pages[f"/token?{query}"] = web.Page(
            json.dumps({"token": "abc"}).encode(), needs=f"Basic {password}"
        )
        os.makedirs(os.path.join(home, ".docker"))
        with open(os.path.join(home, ".docker/config.json"), "w") as file:
            json.dump({"auths": {host: {"auth": password}}}, file)
        done = rkt.ok(INSECURE, "--debug", "fetch", word)
        assert "secret" not in done.err and "abc" not in done.err
        assert len(site.asked("/token")) == 1
        (asked,) = site.asked(f"/cdn/{digest}")
        assert asked.header("Authorization") == ""
        for one in site.requests:
            if not one.path.startswith("/token"):
                assert one.header("Authorization") in ("", "Bearer abc")

    @pytest.mark.parametrize(
        "realm", ["http://127.0.0.1:{http}/token", "file:///etc/passwd", "https://169.254.169.254/"]
    )
    @pytest.mark.attack(32)
    def test_token_servers_nobody_should_ask(self, rkt: Rkt, site: web.Site, home: str, realm: str) -> None:
        word = serve(site, [simple()])
        for page in site.pages.values():
            page.needs = "Bearer abc"
            page.challenge = f'Bearer realm="{realm.format(http=site.http_port)}",service="x"'
        refused(rkt, word)
        assert site.asked("/token") == []

    @pytest.mark.parametrize(
        "target", ["http://127.0.0.1:{http}/x", "file:///etc/passwd", "https://169.254.169.254/x"]
    )
    @pytest.mark.attack(32)
    def test_redirects_nobody_should_follow(self, rkt: Rkt, site: web.Site, target: str) -> None:
        layer = simple()
        word = serve(site, [layer])
        site.pages[f"/v2/team/app/blobs/{layer.descriptor['digest']}"] = web.redirect(
            target.format(http=site.http_port), 307
        )
        refused(rkt, word)
        assert site.asked("/x") == []


class TestLayers:
    """Attacks 1 to 6: what is in the layers."""

    @pytest.mark.parametrize(
        "members",
        [
            [oci.file("../escaped")],
            [oci.file("a/../../escaped")],
            [oci.link("a", "../../../../etc/passwd")],
            [oci.link("a", "/etc/passwd")],
            [oci.symlink("a", "/etc"), oci.link("b", "a/passwd")],
            [oci.file(".wh..")],
            [oci.file(".wh...")],
            [oci.file("a/.wh.")],
            [oci.device("a", 0, 0)],
            [oci.file("a"), oci.file("a/b")],
            [oci.file("n" * 5000)],
            [oci.file("d/" * 2500 + "x")],
        ],
    )
    def test_refused(self, rkt: Rkt, site: web.Site, members: list[oci.Member]) -> None:
        refused(rkt, serve(site, [oci.Layer(oci.tar(members))]))
        assert not os.path.exists(os.path.join(rkt.base, "escaped"))

    @pytest.mark.attack(2)
    def test_links_are_confined_across_layers(self, rkt: Rkt, site: web.Site) -> None:
        victim = os.path.join(rkt.base, "victim")
        os.mkdir(victim)
        one = oci.Layer(oci.tar([oci.symlink("out", victim), oci.symlink("up", "../../../../../..")]))
        two = oci.Layer(
            oci.tar(
                [
                    oci.file("out/x", b"1"),
                    oci.file(f"up{victim}/y", b"2"),
                    oci.whiteout("out/kept"),
                    oci.file(f"{victim}/absolute", b"3"),
                ]
            )
        )
        with open(os.path.join(victim, "kept"), "w"):
            pass
        key = rkt.ok(INSECURE, "fetch", "--full", serve(site, [one, two])).out.strip()
        assert os.listdir(victim) == ["kept"]
        target = os.path.join(rkt.base, "rendered")
        rkt.ok("image", "render", "--rootfs-only", key, target)
        assert sorted(os.listdir(target + victim)) == ["absolute", "x", "y"]
        assert os.listdir(victim) == ["kept"]

    @pytest.mark.attack(5)
    def test_attributes_of_overlayfs_are_dropped(self, rkt: Rkt, site: web.Site) -> None:
        xattrs = {
            "trusted.overlay.opaque": b"y",
            "user.overlay.redirect": b"/etc",
            "security.selinux": b"x",
            "user.kept": b"1",
        }
        layer = oci.Layer(oci.tar([oci.directory("d", xattrs=xattrs), oci.file("f", xattrs=xattrs)]))
        key = rkt.ok(INSECURE, "fetch", "--full", serve(site, [layer])).out.strip()
        target = os.path.join(rkt.base, "rendered")
        rkt.ok("image", "render", "--rootfs-only", key, target)
        for name in ("d", "f"):
            assert os.listxattr(os.path.join(target, name)) == ["user.kept"]

    @pytest.mark.parametrize("compression", ["gzip", "zstd"])
    @pytest.mark.attack(6)
    def test_compression_bomb(self, rkt: Rkt, site: web.Site, compression: str) -> None:
        layer = oci.Layer(oci.tar([oci.file("zeros", bytes(200 << 20))]), compression)
        assert len(layer.blob) < 2 << 20
        word = serve(site, [layer])
        refused_ = rkt(INSECURE, "fetch", "--max-image-size=100M", word)
        assert refused_.code == 254 and "larger than 104857600 bytes" in refused_.err, refused_

    @pytest.mark.attack(6)
    def test_sparse_bomb(self, rkt: Rkt, site: web.Site) -> None:
        path = os.path.join(rkt.base, "bomb")
        os.mkdir(path)
        with open(os.path.join(path, "holes"), "wb") as file:
            file.truncate(8 << 40)
        archive = subprocess.run(
            ["tar", "-C", path, "--format=posix", "-S", "-cf", "-", "holes"], capture_output=True, check=True
        ).stdout
        assert "larger than" in refused(rkt, serve(site, [oci.Layer(archive)]))

    @pytest.mark.attack(6)
    def test_many_entries_take_little_memory(self, rkt: Rkt, site: web.Site) -> None:
        one = oci.tar([oci.file("f")])[:512]
        blocks = []
        for number in range(50_000):
            name = f"d{number // 1000}/{number}".encode().ljust(100, b"\0")
            header = name + one[100:148] + b" " * 8 + one[156:]
            blocks.append(header[:148] + b"%06o\0 " % sum(header) + header[156:])
        word = serve(site, [oci.Layer(b"".join(blocks) + bytes(1024))])
        with tempfile.TemporaryFile() as measured:
            argv = peak.measuring(rkt.argv(INSECURE, "fetch", word), measured)
            subprocess.run(argv, env=rkt.environment, pass_fds=[measured.fileno()], check=True)
            # Two KiB for each, and what an image without entries takes.
            assert peak.read(measured) < (50_000 << 11) + (50 << 20)


def has_all_entries(index: str) -> bool:
    """Whether a layer is unpacked whose index this is."""
    with open(index, "rb") as file:
        return b'\n["end",' in file.read()


class TestInterruption:
    def test_ctrl_c_ends_at_once_and_leaves_nothing_but_whole_layers(self, rkt: Rkt, site: web.Site) -> None:
        import signal

        small = oci.Layer(oci.tar([oci.file("small")]))
        slow = [simple(), simple()]
        word = serve(site, [small, *slow])
        for layer in slow:
            blob(site, layer).rate = 20_000
        process = rkt.start(INSECURE, "fetch", word)
        for layer in slow:
            site.wait_for(f"/v2/team/app/blobs/{layer.descriptor['digest']}")
        indexes = f"{rkt.dir}/cas/unpacked/tmp/*/index"
        until(lambda: any(has_all_entries(path) for path in glob.glob(indexes)))
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
        assert process.returncode != 0
        assert os.listdir(os.path.join(rkt.dir, "cas/tmp")) == []
        assert os.listdir(os.path.join(rkt.dir, "cas/unpacked/tmp")) == []
        assert images.unpacked_layers(rkt) == [small.diff_id]
        for layer in slow:
            blob(site, layer).rate = 0
        rkt.ok(INSECURE, "fetch", word)
        assert len(site.asked(f"/v2/team/app/blobs/{small.descriptor['digest']}")) == 1

    @pytest.mark.promise("P6")
    def test_what_a_killed_fetch_leaves_is_collected(self, rkt: Rkt, site: web.Site) -> None:
        small, slow = oci.Layer(oci.tar([oci.file("small")])), simple()
        word = serve(site, [small, slow])
        blob(site, slow).rate = 20_000
        process = rkt.start(INSECURE, "fetch", word)
        site.wait_for(f"/v2/team/app/blobs/{slow.descriptor['digest']}")
        under_way = os.path.join(rkt.dir, "cas/unpacked/tmp")
        until(lambda: os.path.isdir(under_way) and os.listdir(under_way))
        assert process.poll() is None
        process.kill()
        process.communicate(timeout=PATIENCE)
        blob(site, slow).rate = 0
        rkt.ok(INSECURE, "fetch", word)
        rkt.ok("image", "gc", "--grace-period=1h")
        assert os.listdir(under_way) == [] and os.listdir(os.path.join(rkt.dir, "cas/tmp")) == []
        assert images.unpacked_layers(rkt) == sorted([small.diff_id, slow.diff_id])

    def test_two_fetchers_download_a_layer_once(self, rkt: Rkt, site: web.Site) -> None:
        layers = [simple(), simple()]
        word = serve(site, layers)
        for layer in layers:
            blob(site, layer).rate = 400_000
        both = [rkt.start(INSECURE, "fetch", word) for _ in range(2)]
        answers = {process.communicate(timeout=PATIENCE)[0] for process in both}
        assert [process.returncode for process in both] == [0, 0] and len(answers) == 1
        for layer in layers:
            assert len(site.asked(f"/v2/team/app/blobs/{layer.descriptor['digest']}")) == 1
