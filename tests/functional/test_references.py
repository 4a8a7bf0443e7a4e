"""One image under every word that a user has for it, and what a pod keeps of an image that is removed."""

from __future__ import annotations

import json
import os
from urllib.parse import quote

import pytest
from systemd_pod import run

from functional import fetching
from functional.fetching import INSECURE
from support import aci, oci
from support.driver import Rkt
from support.registry import Registry
from support.registry import run as run_peer
from support.web import Page, Site, tagged

NAME = "example.com/app"
HTTP = "--insecure-options=image,http"


def test_files_and_urls(client: Rkt, site: Site, data: bytes) -> None:
    """A path, a file URL, an address, and what the distribution strings make of them."""
    path = os.path.join(client.base, "an app.aci")
    with open(path, "wb") as file:
        file.write(data)
    site.pages["/app.aci"] = tagged(data)
    url = f"{site.url}/app.aci"
    words = [path, f"file://{quote(path)}", url]
    words += [f"cimd:aci-archive:v=0:{quote(word, safe='')}" for word in words[1:]]
    keys = client.ok(INSECURE, "fetch", "--full", *words).lines
    assert len(keys) == len(words) and len(set(keys)) == 1
    relative = client.ok(INSECURE, "fetch", "--full", "./an app.aci", "an app.aci", cwd=client.base)
    assert set(relative.lines) == set(keys)


def test_names(client: Rkt, site: Site, data: bytes) -> None:
    tag = f'<meta name="ac-discovery" content="{NAME} https://cdn.test/{{name}}-{{version}}.{{ext}}">'
    site.pages[f"{NAME}?ac-discovery=1"] = Page(tag.encode())
    site.pages[f"cdn.test/{NAME}-1.aci"] = tagged(data)
    words = [
        f"{NAME}:1",
        f"{NAME},version=1",
        f"{NAME}:1,os=linux",
        f"cimd:appc:v=0:{NAME}?version=1&os=linux",
    ]
    keys = client.ok(INSECURE, "fetch", "--full", *words).lines
    assert len(keys) == len(words) and len(set(keys)) == 1


def test_container_images(rkt: Rkt) -> None:
    layout = oci.Layout(os.path.join(rkt.base, "layout"))
    digest = str(layout.image("1", [oci.Layer(oci.tar([oci.file("f", b"1")]))])["digest"])
    with Registry(os.path.join(rkt.base, "registry")) as registry:
        registry.push(f"oci:{layout.path}:1", "team/app:1")
        name = f"{registry.host}/team/app"
        words = [f"docker://{name}:1", f"docker:{name}:1", f"cimd:docker:v=0:{name}:1"]
        keys = rkt.ok(HTTP, "fetch", "--full", *words).lines
        pinned = [f"docker://{name}@{digest}", f"docker://{name}:2@{digest}"]
        by_digest = rkt.ok("--insecure-options=http", "fetch", "--full", *pinned).lines
    assert len(keys) == len(words) and len(set(keys)) == 1
    assert len(set(by_digest)) == 1


def test_ids(rkt: Rkt, box: str) -> None:
    """Whole, shortened, longer than a key as other tools print them, and one that fits two images."""
    key = rkt.ok(INSECURE, "fetch", "--full", box).out.strip()
    for word in (key, key[:19], key[:9], key + "0" * 64):
        result = run(rkt, "--stage1-from-dir=stage1-fly.aci", word, "--exec=/bin/true")
        assert result.code == 0, (word, result)
    number = 0
    found: dict[str, str] = {key[7:9]: key}
    while True:
        path = aci.build(os.path.join(rkt.base, "n.aci"), aci.manifest(f"example.com/n{number}"))
        other = rkt.ok(INSECURE, "fetch", "--full", path).out.strip()
        if other[7:9] in found:
            break
        found[other[7:9]] = other
        number += 1
    result = run(rkt, other[:9], "--exec=/bin/true")
    assert result.code == 254 and f'ambiguous image ID: "{other[:9]}"' in result.err, result
    result = rkt(INSECURE, "fetch", key)
    assert result.code == 254, "fetch takes an ID for a name"


@pytest.mark.promise("P6")
def test_removing_an_image_spares_its_pods(rkt: Rkt, box: str) -> None:
    """A pod that was prepared runs, and its image can be exported from it, after the image is gone."""
    words = ["--stage1-from-dir=stage1-fly.aci", box, "--exec=/bin/sh", "--", "-c", "echo alive"]
    uuid = rkt.ok(INSECURE, "prepare", *words).out.strip()
    rkt.ok("image", "rm", "example.com/box")
    rkt.ok("image", "gc", "--grace-period=0s")
    assert [line for line in fetching.images(rkt) if "example.com/box" in line] == []
    result = rkt("run-prepared", "--net=none", uuid)
    assert (result.code, result.out) == (0, "alive\n"), result
    out = os.path.join(rkt.base, "exported.aci")
    rkt.ok("export", uuid, out)
    assert rkt.ok(INSECURE, "fetch", out).code == 0


@pytest.mark.parametrize("form", ["zstd", "zstd:chunked"])
def test_layers_that_skopeo_compressed(rkt: Rkt, form: str) -> None:
    """The same tree as from gzip, whatever the layers are packed with."""
    layout = oci.Layout(os.path.join(rkt.base, "layout"))
    content = [
        oci.directory("d"),
        oci.file("d/f", b"text " * 50_000),
        oci.link("d/g", "d/f"),
        oci.symlink("l", "d"),
    ]
    # As Go ends an archive: skopeo's chunked form loses what tarfile fills up, and its digest is another one.
    archive = oci.tar(content).rstrip(b"\0")
    archive += bytes(-len(archive) % 512 + 1024)
    layout.image("1", [oci.Layer(archive, "none")])
    trees = []
    magics = set()
    for kind in ("gzip", form):
        # A registry each: skopeo takes a layer that is there already, however it is packed.
        with Registry(os.path.join(rkt.base, f"registry-{kind[:4]}")) as registry:
            registry.push(f"oci:{layout.path}:1", "team/app:1", f"--dest-compress-format={kind}")
            name = f"docker://{registry.host}/team/app:1"
            key = rkt.ok(HTTP, "fetch", "--full", name).out.strip()
            digest = json.loads(run_peer(["skopeo", "inspect", "--tls-verify=false", name]))["Layers"][0]
            with open(registry.stored(digest), "rb") as file:
                magics.add(file.read(4))
        trees.append(os.path.join(rkt.base, f"tree-{kind[:4]}"))
        rkt.ok("image", "render", "--rootfs-only", key, trees[-1])
    assert b"\x28\xb5\x2f\xfd" in magics and len(magics) == 2
    assert oci.difference(oci.describe(trees[0]), oci.describe(trees[1])) == {}
