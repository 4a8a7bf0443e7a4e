"""Signed container images: public keys as cosign uses them, and OpenPGP signatures made by skopeo."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from support import oci
from support.cosign import Key, attach, payload
from support.driver import Rkt
from support.registry import Registry, run
from support.signing import Signer

HTTP = "--insecure-options=http"

pytestmark = pytest.mark.promise("P3")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(os.fspath(tmp_path_factory.mktemp("registry"))) as made:
        yield made


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    made = Signer(os.fspath(tmp_path_factory.mktemp("gpg") / "home"))
    made.key("alice")
    made.key("mallory")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def home(rkt: Rkt) -> str:
    path = os.path.join(rkt.base, "home")
    os.makedirs(path)
    rkt.environment["HOME"] = path
    return path


@pytest.fixture
def image(rkt: Rkt, registry: Registry, request: pytest.FixtureRequest) -> tuple[str, str]:
    """The repository of an image of its own, with the tag v1, and its digest."""
    repository = "signed/" + os.path.basename(rkt.base).replace("_", "-").strip("-").lower()
    layout = oci.Layout(os.path.join(rkt.base, "layout"))
    layer = oci.Layer(oci.tar([oci.file("name", repository.encode())]))
    digest = str(layout.image("v1", [layer])["digest"])
    registry.push(f"oci:{layout.path}:v1", f"{repository}:v1")
    return repository, digest


def trust(rkt: Rkt, prefix: str, data: bytes) -> str:
    path = os.path.join(rkt.base, "key.pub")
    with open(path, "wb") as file:
        file.write(data)
    return rkt.ok("trust", f"--prefix={prefix}", "--skip-fingerprint-review", path).out


class TestSigstore:
    @pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
    def test_signed_image_is_taken(
        self, rkt: Rkt, registry: Registry, image: tuple[str, str], kind: str
    ) -> None:
        repository, digest = image
        key = Key(kind)
        said = trust(rkt, f"{registry.host}/signed", key.pem)
        assert f"{registry.host.replace(':', '_')}/signed" in said
        data = payload(f"{registry.host}/{repository}", digest)
        attach(registry, repository, digest, [(data, key.sign(data))])
        done = rkt.ok(HTTP, "fetch", f"docker://{registry.host}/{repository}:v1")
        assert "signature verified:" in done.err
        assert rkt.ok("image", "list", "--no-legend", "--fields=verified").out == "sigstore\n"

    def refused(self, rkt: Rkt, registry: Registry, repository: str) -> str:
        done = rkt(HTTP, "fetch", f"docker://{registry.host}/{repository}:v1")
        assert done.code == 254, done
        assert rkt.ok("image", "list", "--no-legend").out.strip() == ""
        assert not os.path.exists(os.path.join(rkt.dir, "cas/layers/sha256"))
        return done.err

    def test_no_signature(self, rkt: Rkt, registry: Registry, image: tuple[str, str]) -> None:
        trust(rkt, registry.host, Key().pem)
        assert "no signature of a key trusted for" in self.refused(rkt, registry, image[0])

    @pytest.mark.attack(31)
    def test_other_key(self, rkt: Rkt, registry: Registry, image: tuple[str, str]) -> None:
        repository, digest = image
        trust(rkt, registry.host, Key().pem)
        data = payload(f"{registry.host}/{repository}", digest)
        attach(registry, repository, digest, [(data, Key().sign(data))])
        assert "signature made by none of the trusted keys" in self.refused(rkt, registry, repository)

    def test_key_for_another_prefix(self, rkt: Rkt, registry: Registry, image: tuple[str, str]) -> None:
        repository, digest = image
        key = Key()
        trust(rkt, f"{registry.host}/sign", key.pem)
        data = payload(f"{registry.host}/{repository}", digest)
        attach(registry, repository, digest, [(data, key.sign(data))])
        assert "no key is trusted for" in self.refused(rkt, registry, repository)

    @pytest.mark.parametrize("change", ["digest", "name", "tag", "type", "member", "bytes"])
    def test_signature_of_something_else(
        self, rkt: Rkt, registry: Registry, image: tuple[str, str], change: str
    ) -> None:
        repository, digest = image
        key = Key()
        trust(rkt, registry.host, key.pem)
        reference = f"{registry.host}/{repository}"
        critical: dict[str, Any] = {}
        signed = digest
        if change == "digest":
            signed = oci.digest(b"another image")
        elif change == "name":
            reference += "/other"
        elif change == "tag":
            reference += ":v2"
        elif change == "type":
            critical = {"type": "atomic container signature"}
        elif change == "member":
            critical = {"unknown": 1}
        data = payload(reference, signed, **critical)
        signature = key.sign(data)
        if change == "bytes":
            data = data.replace(b"null", b"true")
        attach(registry, repository, digest, [(data, signature)])
        expected = {
            "digest": "of another image",
            "name": "of an image called",
            "tag": "of an image called",
            "type": "of another type",
            "member": "which is not understood",
            "bytes": "none of the trusted keys",
        }
        assert expected[change] in self.refused(rkt, registry, repository)

    def test_one_good_signature_among_others_is_enough(
        self, rkt: Rkt, registry: Registry, image: tuple[str, str]
    ) -> None:
        repository, digest = image
        key, other = Key(), Key()
        trust(rkt, registry.host, key.pem)
        data = payload(f"{registry.host}/{repository}:v1", digest)
        signatures = [(data, other.sign(data)), (data, "no base64"), (data, key.sign(data))]
        attach(registry, repository, digest, signatures)
        rkt.ok(HTTP, "fetch", f"docker://{registry.host}/{repository}:v1")

    def test_keys_that_are_none(self, rkt: Rkt) -> None:
        private = Key().private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        weak = rsa.generate_private_key(65537, 1024).public_key()
        pem = weak.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        for data in (private, pem, Key().pem[:60], Key().pem + Key().pem):
            path = os.path.join(rkt.base, "key.pub")
            with open(path, "wb") as file:
                file.write(data)
            assert rkt("trust", "--prefix=a.example", "--skip-fingerprint-review", path).code == 254
        assert not os.path.exists(os.path.join(rkt.config, "trustedkeys/prefix.d/a.example"))


class TestSimpleSigning:
    def sign(
        self, rkt: Rkt, registry: Registry, signer: Signer, repository: str, name: str, home: str
    ) -> str:
        """Sign by skopeo, into a look-aside directory that both it and rkt are told of."""
        place = os.path.join(rkt.base, "lookaside")
        settings = os.path.join(home, ".config/containers/registries.d")
        os.makedirs(settings)
        with open(os.path.join(settings, "tests.yaml"), "w") as file:
            file.write(f"# made by a test\ndocker:\n    {registry.host}:\n        sigstore: file://{place}\n")
        fingerprint = signer.fingerprints(name)[0]
        where = f"docker://{registry.host}/{repository}:v1"
        command = [
            "skopeo",
            "--insecure-policy",
            "--registries.d",
            settings,
            "copy",
            "-q",
            f"--sign-by={fingerprint}",
        ]
        command += ["--src-tls-verify=false", "--dest-tls-verify=false", where, where]
        run(command, env={**os.environ, "GNUPGHOME": signer.home})
        return place

    def test_signed_image_is_taken(
        self, rkt: Rkt, registry: Registry, signer: Signer, image: tuple[str, str], home: str
    ) -> None:
        self.sign(rkt, registry, signer, image[0], "alice", home)
        trust(rkt, f"{registry.host}/signed", signer.export("alice"))
        done = rkt.ok(HTTP, "fetch", f"docker://{registry.host}/{image[0]}:v1")
        assert "alice <alice@example.com>" in done.err
        assert rkt.ok("image", "list", "--no-legend", "--fields=verified").out == "openpgp\n"

    def test_other_key_and_other_tag(
        self, rkt: Rkt, registry: Registry, signer: Signer, image: tuple[str, str], home: str
    ) -> None:
        self.sign(rkt, registry, signer, image[0], "mallory", home)
        trust(rkt, f"{registry.host}/signed", signer.export("alice"))
        refused = rkt(HTTP, "fetch", f"docker://{registry.host}/{image[0]}:v1")
        assert refused.code == 254 and "signature made by unknown entity" in refused.err
        trust(rkt, f"{registry.host}/signed", signer.export("mallory"))
        where = f"{registry.host}/{image[0]}"
        run(["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false",
             f"docker://{where}:v1", f"docker://{where}:v2"])  # fmt: skip
        refused = rkt(HTTP, "fetch", f"docker://{where}:v2")
        assert refused.code == 254 and f'an image called "{where}:v1"' in refused.err
        rkt.ok(HTTP, "fetch", f"docker://{where}:v1")

    def test_damaged_signature(
        self, rkt: Rkt, registry: Registry, signer: Signer, image: tuple[str, str], home: str
    ) -> None:
        place = self.sign(rkt, registry, signer, image[0], "alice", home)
        trust(rkt, f"{registry.host}/signed", signer.export("alice"))
        path = next(os.path.join(where, name) for where, _, names in os.walk(place) for name in names)
        with open(path, "rb") as file:
            data = file.read()
        for damaged in (
            b"",
            data[: len(data) // 2],
            data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
        ):
            with open(path, "wb") as file:
                file.write(damaged)
            assert rkt(HTTP, "fetch", f"docker://{registry.host}/{image[0]}:v1").code == 254
        assert rkt.ok("image", "list", "--no-legend").out.strip() == ""
