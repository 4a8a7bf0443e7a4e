"""Images from registries: Debian's docker-registry, filled by skopeo and podman, asked by bin/rkt."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from functional import container_images as images
from functional.container_images import INSECURE
from support import oci
from support.driver import Rkt
from support.registry import PASSWORD, USER, Registry, run

PLAIN = "--insecure-options=image,http"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(os.fspath(tmp_path_factory.mktemp("registry"))) as made:
        yield made


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """TLS with an authority of its own, and a password."""
    with Registry(os.fspath(tmp_path_factory.mktemp("locked")), tls=True, password=True) as made:
        yield made


@pytest.fixture
def layout(tmp_path: os.PathLike[str]) -> oci.Layout:
    return oci.Layout(os.path.join(tmp_path, "layout"))


@pytest.fixture(autouse=True)
def home(rkt: Rkt) -> str:
    """No settings of the machine's root user."""
    path = os.path.join(rkt.base, "home")
    os.makedirs(path)
    rkt.environment["HOME"] = path
    return path


def write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


class TestPlain:
    def test_tree_equals_umocis(self, rkt: Rkt, registry: Registry, layout: oci.Layout) -> None:
        layout.image("v1", [images.base_layer(), images.change_layer()], config=images.CONFIG)
        registry.push(f"oci:{layout.path}:v1", "team/app:v1")
        key = rkt.ok(PLAIN, "fetch", "--full", f"docker://{registry.host}/team/app:v1").out.strip()
        target = os.path.join(rkt.base, "rendered")
        rkt.ok("image", "render", "--rootfs-only", key, target)
        theirs = images.umoci(layout.path, "v1", os.path.join(rkt.base, "umoci"))
        assert oci.difference(oci.describe(theirs), oci.describe(target)) == {}
        listed = rkt.ok("image", "list", "--no-legend", "--fields=name,verified").out
        assert listed == f"{registry.host.replace(':', '_')}/team/app:v1\tnone\n"

    def test_schema_2_gives_the_same_tree(self, rkt: Rkt, registry: Registry, layout: oci.Layout) -> None:
        layout.image("v1", [images.base_layer(), images.change_layer()], config=images.CONFIG)
        registry.push(f"oci:{layout.path}:v1", "team/docker:v1", "--format=v2s2")
        key = rkt.ok(PLAIN, "fetch", "--full", f"docker://{registry.host}/team/docker:v1").out.strip()
        target = os.path.join(rkt.base, "rendered")
        rkt.ok("image", "render", "--rootfs-only", key, target)
        theirs = images.umoci(layout.path, "v1", os.path.join(rkt.base, "umoci"))
        assert oci.difference(oci.describe(theirs), oci.describe(target)) == {}

    def test_http_is_refused_unless_allowed(self, rkt: Rkt, registry: Registry, layout: oci.Layout) -> None:
        layout.image("v1", [images.small_layer()])
        registry.push(f"oci:{layout.path}:v1", "team/plain:v1")
        word = f"docker://{registry.host}/team/plain:v1"
        assert rkt(INSECURE, "fetch", word).code == 254
        write(
            os.path.join(rkt.environment["HOME"], ".config/containers/registries.conf"),
            f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n',
        )
        rkt.ok(INSECURE, "fetch", word)

    def test_index_of_several_platforms(self, rkt: Rkt, registry: Registry, layout: oci.Layout) -> None:
        manifests = [
            layout.image(
                "", [oci.Layer(oci.tar([oci.file(arch)]))], platform={"os": "linux", "architecture": arch}
            )
            for arch in ("arm64", "amd64", "ppc64le")
        ]
        index = layout.images("v1", manifests)
        for name, options in (("oci", ()), ("docker", ("--format=v2s2",))):
            registry.push(f"oci:{layout.path}:v1", f"multi/{name}:v1", "--all", *options)
            key = rkt.ok(PLAIN, "fetch", "--full", f"docker://{registry.host}/multi/{name}:v1").out.strip()
            target = os.path.join(rkt.base, name)
            rkt.ok("image", "render", "--rootfs-only", key, target)
            assert os.listdir(target) == ["amd64"]
        rkt.ok("--insecure-options=http", "fetch", f"docker://{registry.host}/multi/oci@{index['digest']}")

    def test_image_built_and_pushed_by_podman(self, rkt: Rkt, registry: Registry) -> None:
        context = os.path.join(rkt.base, "context")
        os.mkdir(context)
        shutil.copy(shutil.which("busybox") or "/bin/busybox", os.path.join(context, "busybox"))
        write(
            os.path.join(context, "Containerfile"),
            "FROM scratch\n"
            "COPY busybox /bin/busybox\n"
            'RUN ["/bin/busybox", "sh", "-c", "busybox --install -s /bin; mkdir -p /a/b; echo 1 >/a/b/c"]\n'
            "RUN rm -r /a/b && ln /bin/busybox /bin/linked && mkdir /a/b && echo 2 >/a/b/d\n"
            "RUN truncate -s 1M /sparse; chown 5:6 /sparse; rm /bin/linked; touch /bin/last\n"
            'ENTRYPOINT ["/bin/echo", "from", "podman"]\n',
        )
        podman = tempfile.mkdtemp(prefix="podman-")  # it wants a short path
        store = ["podman", "--root", f"{podman}/root", "--runroot", f"{podman}/run"]
        store += ["--storage-driver=vfs"]
        name = f"{registry.host}/podman/app:1"
        try:
            run([*store, "build", "-q", "--isolation=chroot", "--network=host", "-t", name, context])
            run([*store, "push", "-q", "--tls-verify=false", name])
            key = rkt.ok(PLAIN, "fetch", "--full", f"docker://{name}").out.strip()
            target = os.path.join(rkt.base, "rendered")
            rkt.ok("image", "render", "--rootfs-only", key, target)
            mounted = run([*store, "image", "mount", name]).strip()
            differences = oci.difference(oci.describe(mounted), oci.describe(target))
            # podman makes what it mounts things on itself
            assert {path: both for path, both in differences.items() if path != "."} == {}
            run([*store, "image", "unmount", name])
        finally:
            run([*store, "rmi", "-f", "--all"])
            shutil.rmtree(podman)

    def test_second_image_downloads_only_what_is_new(
        self, rkt: Rkt, registry: Registry, layout: oci.Layout
    ) -> None:
        shared, one, two = images.base_layer(), images.small_layer(), oci.Layer(oci.tar([oci.file("two")]))
        layout.image("one", [shared, one])
        layout.image("two", [shared, two])
        for name in ("one", "two"):
            registry.push(f"oci:{layout.path}:{name}", f"shared/{name}:v1")
            rkt.ok(PLAIN, "fetch", f"docker://{registry.host}/shared/{name}:v1")
        digest = str(shared.descriptor["digest"])
        fetched = [line for line in registry.requests(digest) if "rkt/" in line]
        assert len(fetched) == 1
        expected = sorted(layer.diff_id for layer in (shared, one, two))
        assert images.unpacked_layers(rkt) == expected
        rkt.ok("image", "gc", "--grace-period=1h")
        assert images.unpacked_layers(rkt) == expected
        rkt.ok("image", "gc", "--grace-period=0s")
        assert images.unpacked_layers(rkt) == []

    def test_damaged_layer_is_fetched_again(self, rkt: Rkt, registry: Registry, layout: oci.Layout) -> None:
        layer = images.small_layer()
        layout.image("one", [layer])
        layout.image("two", [layer, oci.Layer(oci.tar([oci.file("two")]))])
        for name in ("one", "two"):
            registry.push(f"oci:{layout.path}:{name}", f"damaged/{name}:v1")
        rkt.ok(PLAIN, "fetch", f"docker://{registry.host}/damaged/one:v1")
        path = os.path.join(images.unpacked_layer(rkt, layer), "1")
        with open(path, "r+b") as file:
            file.write(b"???")
        rkt.ok(PLAIN, "fetch", f"docker://{registry.host}/damaged/two:v1")
        with open(path, "rb") as file:
            assert file.read() == b"127.0.0.1 localhost\n"


class TestCompressedLayers:
    """Whoever may not render keeps layers as they were downloaded."""

    @pytest.fixture
    def user(self, rkt: Rkt, home: str) -> dict[str, Any]:
        """A user who has a store of its own."""
        images.readable(rkt.base)
        for path in (rkt.base, home):
            os.chown(path, 54321, 54321)
        return {
            "user": 54321,
            "group": 54321,
            "extra_groups": [],
        }

    def kept(self, rkt: Rkt) -> list[str]:
        layers = os.path.join(rkt.dir, "cas/layers/sha256")
        return sorted(name for _, _, names in os.walk(layers) for name in names)

    def test_second_image_downloads_only_what_is_new(
        self, rkt: Rkt, registry: Registry, layout: oci.Layout, user: dict[str, Any]
    ) -> None:
        shared, one, two = images.base_layer(), images.small_layer(), oci.Layer(oci.tar([oci.file("two")]))
        layout.image("one", [shared, one])
        layout.image("two", [shared, two])
        for name in ("one", "two"):
            registry.push(f"oci:{layout.path}:{name}", f"user/{name}:v1")
            rkt.ok(PLAIN, "fetch", f"docker://{registry.host}/user/{name}:v1", **user)
        digests = [str(layer.descriptor["digest"]) for layer in (shared, one, two)]
        assert len([line for line in registry.requests(digests[0]) if "rkt/" in line]) == 1
        assert self.kept(rkt) == sorted(digest.partition(":")[2] for digest in digests)
        rkt.ok("image", "gc", "--grace-period=1h")
        assert len(self.kept(rkt)) == 3
        rkt.ok("image", "gc", "--grace-period=0s")
        assert self.kept(rkt) == []

    def test_damaged_layer_is_fetched_again(
        self, rkt: Rkt, registry: Registry, layout: oci.Layout, user: dict[str, Any]
    ) -> None:
        layer = images.small_layer()
        layout.image("one", [layer])
        layout.image("two", [layer, oci.Layer(oci.tar([oci.file("two")]))])
        for name in ("one", "two"):
            registry.push(f"oci:{layout.path}:{name}", f"ruined/{name}:v1")
        rkt.ok(PLAIN, "fetch", f"docker://{registry.host}/ruined/one:v1", **user)
        digits = str(layer.descriptor["digest"]).partition(":")[2]
        path = os.path.join(rkt.dir, "cas/layers/sha256", digits[:2], digits)
        with open(path, "r+b") as file:
            file.seek(20)
            file.write(b"????")
        rkt.ok(PLAIN, "fetch", f"docker://{registry.host}/ruined/two:v1", **user)
        with open(path, "rb") as file:
            assert oci.digest(file.read()) == layer.descriptor["digest"]


class TestPolicies:
    def test_pull_policies(self, rkt: Rkt, registry: Registry, layout: oci.Layout) -> None:
        word = f"docker://{registry.host}/policy/app:v1"
        assert rkt(PLAIN, "fetch", "--pull-policy=never", word).code == 254
        layout.image("a", [images.small_layer()])
        registry.push(f"oci:{layout.path}:a", "policy/app:v1")
        first = rkt.ok(PLAIN, "fetch", "--full", word).out
        assert rkt.ok(PLAIN, "fetch", "--full", "--pull-policy=never", word).out == first
        layout.image("b", [oci.Layer(oci.tar([oci.file("new")]))])
        registry.push(f"oci:{layout.path}:b", "policy/app:v1")
        assert rkt.ok(PLAIN, "fetch", "--full", "--pull-policy=new", word).out == first
        second = rkt.ok(PLAIN, "fetch", "--full", "--pull-policy=update", word).out
        assert second != first
        before = len(registry.requests("blobs"))
        assert rkt.ok(PLAIN, "fetch", "--full", "--pull-policy=update", word).out == second
        assert len(registry.requests("blobs")) == before

    def test_missing_image(self, rkt: Rkt, registry: Registry) -> None:
        refused = rkt(PLAIN, "fetch", f"docker://{registry.host}/no/such:v1")
        assert refused.code == 254
        assert refused.err.strip().endswith(f'image "{registry.host}/no/such:v1" not found')


@pytest.mark.promise("P3")
class TestVerification:
    def test_unsigned_and_unpinned_is_refused(self, rkt: Rkt, registry: Registry, layout: oci.Layout) -> None:
        layout.image("v1", [images.small_layer()])
        registry.push(f"oci:{layout.path}:v1", "team/unsigned:v1")
        refused = rkt("--insecure-options=http", "fetch", f"docker://{registry.host}/team/unsigned:v1")
        assert refused.code == 254
        assert "no key is trusted for" in refused.err
        # One that was fetched without verification does not pass later, when one is wanted.
        rkt.ok(PLAIN, "fetch", f"docker://{registry.host}/team/unsigned:v1")
        again = rkt(
            "--insecure-options=http",
            "fetch",
            "--pull-policy=new",
            f"docker://{registry.host}/team/unsigned:v1",
        )
        assert again.code == 254

    def test_digest_is_enough(self, rkt: Rkt, registry: Registry, layout: oci.Layout) -> None:
        digest = layout.image("v1", [images.small_layer()])["digest"]
        registry.push(f"oci:{layout.path}:v1", "team/pinned:v1")
        refused = rkt("fetch", f"docker://{registry.host}/team/pinned@{digest}").err.splitlines()
        assert refused[0].endswith(f"/manifests/{digest}: the server does not speak TLS")
        assert refused[1:] == ["fetch: http can be allowed with --insecure-options=http"]
        rkt.ok("--insecure-options=http", "fetch", f"docker://{registry.host}/team/pinned@{digest}")
        assert rkt.ok("image", "list", "--no-legend", "--fields=verified").out == "digest\n"


class TestLocked:
    @pytest.fixture
    def word(self, locked: Registry, layout: oci.Layout) -> str:
        layout.image("v1", [images.small_layer()])
        locked.push(f"oci:{layout.path}:v1", "team/app:v1")
        return f"docker://{locked.host}/team/app:v1"

    def certs(self, home: str, locked: Registry) -> None:
        target = os.path.join(home, ".config/containers/certs.d", locked.host)
        os.makedirs(target)
        shutil.copy(locked.authority, os.path.join(target, "ca.crt"))

    def test_without_password(self, rkt: Rkt, locked: Registry, word: str) -> None:
        rkt.environment |= locked.environment
        refused = rkt(INSECURE, "fetch", word)
        assert refused.code == 254
        assert f"registry {locked.host} wants a password" in refused.err

    def test_unknown_authority(self, rkt: Rkt, word: str) -> None:
        refused = rkt(INSECURE, "fetch", word)
        assert refused.code == 254 and "certificate" in refused.err

    def test_configuration_of_rkt_and_certs_d(self, rkt: Rkt, locked: Registry, word: str, home: str) -> None:
        self.certs(home, locked)
        value = {
            "rktKind": "dockerAuth",
            "rktVersion": "v1",
            "registries": [locked.host],
            "credentials": {"user": USER, "password": PASSWORD},
        }
        write(os.path.join(rkt.config, "auth.d/registry.json"), json.dumps(value))
        rkt.ok(INSECURE, "fetch", word)

    @pytest.mark.parametrize("path", [".config/containers/auth.json", ".docker/config.json"])
    def test_files_of_other_tools(self, rkt: Rkt, locked: Registry, word: str, home: str, path: str) -> None:
        self.certs(home, locked)
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        write(os.path.join(home, path), json.dumps({"auths": {locked.host: {"auth": auth}}}))
        rkt.ok(INSECURE, "fetch", word)
        assert PASSWORD not in rkt(INSECURE, "--debug", "fetch", word).err

    def test_wrong_password(self, rkt: Rkt, locked: Registry, word: str, home: str) -> None:
        self.certs(home, locked)
        auth = base64.b64encode(f"{USER}:wrong".encode()).decode()
        write(os.path.join(home, ".docker/config.json"), json.dumps({"auths": {locked.host: {"auth": auth}}}))
        refused = rkt(INSECURE, "fetch", word)
        assert refused.code == 254 and "refuses access to team/app" in refused.err

    def test_credential_helper(self, rkt: Rkt, locked: Registry, word: str, home: str) -> None:
        self.certs(home, locked)
        programs = os.path.join(home, "bin")
        answer = json.dumps({"ServerURL": locked.host, "Username": USER, "Secret": PASSWORD})
        write(
            os.path.join(programs, "docker-credential-tests"),
            f"#!/bin/sh\nread server\n[ \"$1 $server\" = 'get {locked.host}' ] && echo '{answer}'\n",
        )
        os.chmod(os.path.join(programs, "docker-credential-tests"), 0o755)
        rkt.environment["PATH"] = f"{programs}:{rkt.environment['PATH']}"
        write(os.path.join(home, ".docker/config.json"), json.dumps({"credHelpers": {locked.host: "tests"}}))
        rkt.ok(INSECURE, "fetch", word)


class TestRegistriesConf:
    def conf(self, home: str, text: str) -> None:
        write(os.path.join(home, ".config/containers/registries.conf"), text)

    def test_mirror_is_asked_first_and_may_fail(
        self, rkt: Rkt, registry: Registry, layout: oci.Layout, home: str
    ) -> None:
        layout.image("v1", [images.small_layer()])
        registry.push(f"oci:{layout.path}:v1", "mirrored/team/app:v1")
        self.conf(
            home,
            '[[registry]]\nlocation = "registry.example.invalid/team"\n'
            '[[registry.mirror]]\nlocation = "127.0.0.1:1/nobody"\ninsecure = true\n'
            f'[[registry.mirror]]\nlocation = "{registry.host}/mirrored/team"\ninsecure = true\n',
        )
        rkt.ok(INSECURE, "fetch", "docker://registry.example.invalid/team/app:v1")
        names = rkt.ok("image", "list", "--no-legend", "--fields=name").out
        assert names == "registry.example.invalid/team/app:v1\n"

    def test_blocked(self, rkt: Rkt, home: str) -> None:
        self.conf(home, '[[registry]]\nprefix = "*.example.invalid"\nblocked = true\n')
        refused = rkt(INSECURE, "fetch", "docker://registry.example.invalid/team/app:v1")
        assert refused.code == 254 and "is blocked by registries.conf" in refused.err
