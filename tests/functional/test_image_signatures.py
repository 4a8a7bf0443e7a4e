"""How an image was verified: kept with it, shown, and exported so that it verifies again."""

from __future__ import annotations

import base64
import glob
import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from functional import fetching, pod_images
from functional.fetching import INSECURE, NAME
from support import aci, cosign, oci
from support.driver import Result, Rkt
from support.registry import Registry
from support.signing import Signer
from support.web import Page, Site, tagged

pytestmark = pytest.mark.promise("P3")

COMPRESSIONS = ["none", "gzip", "bzip2", "xz", "zstd"]


class Signed:
    """A signed image in a file of its own, in the store under its name."""

    def __init__(self, rkt: Rkt, signer: Signer, compression: str = "gzip", name: str = NAME) -> None:
        self.path = os.path.join(rkt.base, "signed.aci")
        content = [aci.Entry("f", os.urandom(100_000))]
        aci.build(self.path, aci.manifest(name), content, compression=compression)
        signer.sign(self.path, "alice")
        self.fingerprint = signer.fingerprints("alice")[0]
        fetching.trust(rkt, signer, prefix=name)
        self.key = rkt.ok("fetch", "--full", self.path).out.strip()

    @property
    def data(self) -> bytes:
        return read(self.path)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def export(rkt: Rkt, *options: str, name: str = NAME, to: str = "out.aci") -> tuple[str, Result]:
    path = os.path.join(rkt.base, to)
    return path, rkt("image", "export", *options, name, path)


def is_verified_elsewhere(rkt: Rkt, path: str) -> bool:
    """Whether rkt takes a file into another store, with the same keys and no relaxation."""
    done = rkt("fetch", f"--dir={rkt.base}/elsewhere", path)
    assert done.code in (0, 254), done
    return done.code == 0


class TestExport:
    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_as_it_was_signed(self, rkt: Rkt, signer: Signer, compression: str) -> None:
        """Whatever the compression, the file that was signed comes back, and gpg and rkt verify it."""
        signed = Signed(rkt, signer, compression)
        path, done = export(rkt, "--as-signed")
        assert done.code == 0, done
        assert read(path) == signed.data
        assert (
            done.err == f"export: wrote {path}.asc: the signature of key {signed.fingerprint} over {path}\n"
        )
        signer.gpg("--verify", f"{path}.asc", path)
        assert read(f"{path}.asc").startswith(b"-----BEGIN PGP SIGNATURE-----\n")
        assert is_verified_elsewhere(rkt, path)

    def test_of_an_image_that_was_not_compressed(self, rkt: Rkt, signer: Signer) -> None:
        signed = Signed(rkt, signer, "none")
        path, done = export(rkt)
        assert done.code == 0, done
        assert read(path) == signed.data
        signer.gpg("--verify", f"{path}.asc", path)
        assert is_verified_elsewhere(rkt, path)
        assert not os.path.exists(os.path.join(rkt.dir, "cas/signed/sha512", signed.key[7:9]))

    def test_of_another_form_than_was_signed(self, rkt: Rkt, signer: Signer) -> None:
        """No signature beside a file that it does not verify; the user is told how to get both."""
        signed = Signed(rkt, signer, "gzip")
        path, done = export(rkt)
        assert done.code == 0, done
        assert not os.path.lexists(f"{path}.asc")
        assert f"the signature of key {signed.fingerprint} is over the compressed file" in done.err
        assert "--as-signed writes both" in done.err
        assert not is_verified_elsewhere(rkt, path)

    def test_of_an_unsigned_image(self, rkt: Rkt) -> None:
        image = aci.build(os.path.join(rkt.base, "plain.aci"), aci.manifest(NAME))
        rkt.ok(INSECURE, "fetch", image)
        path, done = export(rkt)
        assert (done.code, done.out, done.err) == (0, "", "")
        assert read(path) == read(image)
        assert not os.path.exists(f"{path}.asc")
        path, done = export(rkt, "--as-signed", to="other.aci")
        assert done.code == 254
        assert "was not verified by a signature of its file" in done.err
        assert not os.path.exists(path)

    def test_the_signature_of_another_file_is_never_left_beside_it(self, rkt: Rkt, signer: Signer) -> None:
        Signed(rkt, signer, "none")
        path, done = export(rkt)
        assert done.code == 0, done
        path, done = export(rkt)
        assert (done.code, done.err) == (254, f"export: output ACI file exists (try --overwrite): {path}\n")
        os.unlink(path)
        path, done = export(rkt)
        assert (done.code, done.err) == (
            254,
            f"export: output ACI file exists (try --overwrite): {path}.asc\n",
        )
        path, done = export(rkt, "--overwrite")
        assert done.code == 0, done
        assert is_verified_elsewhere(rkt, path)
        other = aci.build(os.path.join(rkt.base, "plain.aci"), aci.manifest("example.com/unsigned"))
        rkt.ok(INSECURE, "fetch", other)
        path, done = export(rkt, "--overwrite", name="example.com/unsigned")
        assert (done.code, done.err) == (
            0,
            f"export: {path}.asc was there before and is no signature of {path}\n",
        )

    @pytest.mark.parametrize("compression", ["none", "gzip"])
    def test_of_a_damaged_store(self, rkt: Rkt, signer: Signer, compression: str) -> None:
        """A file that is not any more what was signed is not written, and neither is its signature."""
        signed = Signed(rkt, signer, compression)
        place = "blob" if compression == "none" else "signed"
        stored = os.path.join(rkt.dir, "cas", place, "sha512", signed.key[7:9], signed.key)
        with open(stored, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)[0]
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last ^ 1]))
        _, done = export(rkt, "--as-signed")
        assert done.code == 254
        assert f'the file of image "{signed.key}" in the store is damaged' in done.err
        assert glob.glob(f"{rkt.base}/*out.aci*", include_hidden=True) == []
        os.unlink(stored)
        _path, done = export(rkt, "--as-signed")
        assert done.code == 254
        assert "store" in done.err

    def test_names_without_the_ending_of_images(self, rkt: Rkt, signer: Signer) -> None:
        Signed(rkt, signer, "none")
        path, done = export(rkt, to="out")
        assert done.code == 0, done
        signer.gpg("--verify", f"{path}.asc", path)

    def test_into_a_pipe(self, rkt: Rkt, signer: Signer) -> None:
        """Only the image, as before."""
        signed = Signed(rkt, signer, "none")
        argv = rkt.argv("image", "export", "--overwrite", NAME, "/dev/stdout")
        done = subprocess.run(argv, capture_output=True, check=True, env=rkt.environment)
        assert done.stdout == signed.data


class TestStore:
    def test_a_download_is_kept_as_it_came(
        self, client: Rkt, site: Site, signer: Signer, data: bytes
    ) -> None:
        """One that is interrupted and resumed, too."""
        fetching.trust(client, signer)
        site.pages["/app.aci"] = tagged(data, cuts=[len(data) // 2])
        site.pages["/app.aci.asc"] = Page(fetching.signature(signer, client.base, data))
        client.ok("fetch", f"{site.url}/app.aci")
        assert len(site.asked("/app.aci")) == 2
        path, done = export(client, "--as-signed")
        assert done.code == 0, done
        assert read(path) == data
        assert is_verified_elsewhere(client, path)

    def test_unsigned_images_are_not_kept_twice(self, rkt: Rkt) -> None:
        image = aci.build(os.path.join(rkt.base, "plain.aci"), aci.manifest(NAME), compression="gzip")
        rkt.ok(INSECURE, "fetch", image)
        assert glob.glob(f"{rkt.dir}/cas/signed/sha512/*/*") == []

    def test_goes_with_the_image(self, rkt: Rkt, signer: Signer) -> None:
        signed = Signed(rkt, signer)
        assert len(glob.glob(f"{rkt.dir}/cas/signed/sha512/*/*")) == 1
        rkt.ok("image", "rm", signed.key)
        assert glob.glob(f"{rkt.dir}/cas/signed/sha512/*/*") == []

    def test_left_over_by_a_crash(self, rkt: Rkt, signer: Signer) -> None:
        """A file whose image is not there is collected."""
        signed = Signed(rkt, signer)
        orphan = signed.key[:-4] + "0000"
        place = os.path.join(rkt.dir, "cas/signed/sha512", orphan[7:9], orphan)
        with open(place, "wb") as file:
            file.write(b"rest")
        rkt.ok("image", "gc")
        assert not os.path.exists(place)
        assert rkt.ok("image", "list", "--no-legend", "--fields=verified").out == "openpgp\n"

    def test_an_image_stays_verified(self, rkt: Rkt, signer: Signer) -> None:
        """Fetching the very same image without verification takes nothing away from what is known of it."""
        signed = Signed(rkt, signer)
        rkt.ok(INSECURE, "fetch", signed.path)
        shown = rkt.ok("image", "list", "--no-legend", "--full", "--fields=verified")
        assert shown.out == f"openpgp {signed.fingerprint}\n"
        assert export(rkt, "--as-signed")[1].code == 0


class TestShown:
    def test_in_the_list(self, rkt: Rkt, signer: Signer) -> None:
        signed = Signed(rkt, signer)
        plain = aci.build(os.path.join(rkt.base, "plain.aci"), aci.manifest("example.com/plain"))
        rkt.ok(INSECURE, "fetch", plain)
        fields = "--fields=name,verified"
        assert rkt.ok("image", "list", "--no-legend", fields).out == (
            f"{NAME}:1\topenpgp\nexample.com/plain:1\tnone\n"
        )
        assert "VERIFIED" in rkt.ok("image", "list", fields).lines[0]
        listed = json.loads(rkt.ok("image", "list", fields, "--format=json").out)
        assert [(one["verified"], one["verified_by"]) for one in listed] == [
            ("openpgp", signed.fingerprint),
            ("none", ""),
        ]

    def test_nothing_new_where_nobody_asks(self, rkt: Rkt, signer: Signer) -> None:
        Signed(rkt, signer)
        header = rkt.ok("image", "list").lines[0].split("\t")
        assert [word for word in header if word] == ["ID", "NAME", "SIZE", "IMPORT TIME", "LAST USED"]
        (one,) = json.loads(rkt.ok("image", "list", "--format=json").out)
        assert list(one) == ["id", "name", "import_time", "last_used_time", "size"]

    def test_by_a_pod(self, rkt: Rkt, signer: Signer) -> None:
        """A pod remembers how its images had been verified, whatever becomes of them in the store."""
        signed = Signed(rkt, signer)
        plain = aci.build(os.path.join(rkt.base, "plain.aci"), aci.manifest("example.com/plain"))
        rkt.ok(INSECURE, "fetch", plain)
        stage1 = pod_images.stage1(os.path.join(rkt.base, "stage1.aci"))
        words = [f"--stage1-path={stage1}", "--pull-policy=never"]
        uuid = rkt.ok(INSECURE, "prepare", *words, NAME, "example.com/plain").out.strip()
        rkt.ok("image", "rm", NAME, "example.com/plain")
        usual = rkt.ok("status", uuid).lines
        assert rkt.ok("status", "--verified", uuid).lines == [
            *usual,
            f"verified-app=openpgp {signed.fingerprint}",
            "verified-plain=none",
        ]
        usual = json.loads(rkt.ok("status", "--format=json", uuid).out)
        asked = json.loads(rkt.ok("status", "--format=json", "--verified", uuid).out)
        added = [(app.pop("verified"), app.pop("verified_by")) for app in asked["apps"]]
        assert added == [("openpgp", signed.fingerprint), ("none", "")]
        assert asked == usual

    def test_what_came_with_rkt(self, rkt: Rkt, box: str) -> None:
        """The stage1 images are as trusted as the program beside them; one from elsewhere is not."""
        rkt.ok(INSECURE, "prepare", "--stage1-from-dir=stage1-fly.aci", box)
        other = pod_images.stage1(os.path.join(rkt.base, "stage1.aci"))
        rkt.ok(INSECURE, "prepare", f"--stage1-path={other}", box)
        shown = rkt.ok("image", "list", "--no-legend", "--fields=verified", "--sort=importtime").lines
        assert sorted(shown) == ["installed", "none", "none"]

    def test_by_a_pod_of_before(self, rkt: Rkt) -> None:
        """One that has no record of it."""
        plain = aci.build(os.path.join(rkt.base, "plain.aci"), aci.manifest("example.com/plain"))
        stage1 = pod_images.stage1(os.path.join(rkt.base, "stage1.aci"))
        uuid = rkt.ok(INSECURE, "prepare", f"--stage1-path={stage1}", plain).out.strip()
        os.unlink(os.path.join(rkt.dir, "pods/prepared", uuid, "appsinfo/plain/verified"))
        assert rkt.ok("status", "--verified", uuid).lines[-1] == "verified-plain=unknown"


class TestContainerImages:
    """What was signed is a manifest in a registry: that statement is kept, and verified by other programs."""

    @pytest.fixture
    def registry(self, rkt: Rkt) -> Iterator[Registry]:
        rkt.environment["HOME"] = rkt.base
        with Registry(os.path.join(rkt.base, "registry")) as made:
            yield made

    def push(self, rkt: Rkt, registry: Registry) -> str:
        layout = oci.Layout(os.path.join(rkt.base, "layout"))
        digest = str(layout.image("1", [oci.Layer(oci.tar([oci.file("f", b"1")]))])["digest"])
        registry.push(f"oci:{layout.path}:1", "team/app:1")
        return digest

    @pytest.mark.parametrize("kind", ["ec", "rsa"])
    def test_sigstore(self, rkt: Rkt, registry: Registry, kind: str) -> None:
        digest = self.push(rkt, registry)
        key = cosign.Key(kind)
        pem = os.path.join(rkt.base, "cosign.pub")
        with open(pem, "wb") as file:
            file.write(key.pem)
        rkt.ok("trust", f"--prefix={registry.host}", "--skip-fingerprint-review", pem)
        said = cosign.payload(f"{registry.host}/team/app", digest)
        cosign.attach(registry, "team/app", digest, [(said, key.sign(said))])
        rkt.ok("--insecure-options=http", "fetch", f"docker://{registry.host}/team/app:1")
        name = f"{registry.host.replace(':', '_')}/team/app"
        path, done = export(rkt, name=name)
        assert done.code == 0, done
        assert f"wrote {path}.payload and {path}.sig: key " in done.err
        assert f"signed the container manifest {digest}" in done.err
        assert f"the file {path} itself is not signed" in done.err
        assert not os.path.exists(f"{path}.asc")
        with open(f"{path}.bin", "wb") as file:
            file.write(base64.b64decode(read(f"{path}.sig")))
        command = [
            "openssl",
            "dgst",
            "-sha256",
            "-verify",
            pem,
            "-signature",
            f"{path}.bin",
            f"{path}.payload",
        ]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "Verified OK\n"
        assert json.loads(read(f"{path}.payload"))["critical"]["image"]["docker-manifest-digest"] == digest
        asked = rkt("image", "export", "--as-signed", name, f"{path}2")
        assert asked.code == 254 and "was not verified by a signature of its file" in asked.err

    def test_simple_signing(self, rkt: Rkt, registry: Registry, signer: Signer) -> None:
        digest = self.push(rkt, registry)
        settings = os.path.join(rkt.base, ".config/containers/registries.d")
        os.makedirs(settings)
        with open(os.path.join(settings, "tests.yaml"), "w") as file:
            file.write(f"docker:\n    {registry.host}:\n        lookaside: file://{rkt.base}/lookaside\n")
        text = {
            "critical": {
                "type": "atomic container signature",
                "image": {"docker-manifest-digest": digest},
                "identity": {"docker-reference": f"{registry.host}/team/app:1"},
            },
            "optional": {},
        }
        message = signer.gpg("-u", "alice@example.com", "--sign", input=json.dumps(text).encode())
        place = os.path.join(rkt.base, f"lookaside/team/app@{digest.replace(':', '=')}")
        os.makedirs(place)
        with open(os.path.join(place, "signature-1"), "wb") as file:
            file.write(message)
        fetching.trust(rkt, signer, prefix=registry.host)
        rkt.ok("--insecure-options=http", "fetch", f"docker://{registry.host}/team/app:1")
        path, done = export(rkt, name=f"{registry.host.replace(':', '_')}/team/app")
        assert done.code == 0, done
        assert f"wrote {path}.signed: key {signer.fingerprints('alice')[0]} signed the container" in done.err
        assert json.loads(signer.gpg("--decrypt", f"{path}.signed")) == text

    def test_pinned_by_digest(self, rkt: Rkt, registry: Registry) -> None:
        """Nobody signed it: there is nothing to write beside it."""
        digest = self.push(rkt, registry)
        rkt.ok("--insecure-options=http", "fetch", f"docker://{registry.host}/team/app@{digest}")
        path, done = export(rkt, name=f"{registry.host.replace(':', '_')}/team/app")
        assert (done.code, done.err) == (0, ""), done
        shown = rkt.ok("image", "list", "--no-legend", "--full", "--fields=verified").out
        assert shown == f"digest {digest}\n"
        assert os.listdir(os.path.dirname(path)).count("out.aci") == 1
