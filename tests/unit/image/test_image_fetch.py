"""Fetching from files and the store, and above all what is refused.  Needs gpg and root."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from rkt.errors import RktError, one_line
from rkt.image import source
from rkt.image.fetch import Fetcher, host_labels
from rkt.image.reference import parse
from rkt.store.store import Store
from rkt.trust import openpgp
from rkt.trust.keystore import Keystore
from support import aci
from support.signing import HOUR, Signer


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    made = Signer(os.fspath(tmp_path_factory.mktemp("gpg") / "home"))
    made.key("alice")
    made.key("mallory")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test leaves the machine: nobody listens where all requests are sent."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")


class Place:
    """A store, a key store and image files."""

    def __init__(self, directory: str, signer: Signer) -> None:
        self.directory = directory
        self.signer = signer
        self.store = Store(os.path.join(directory, "data"))
        self.keystore = Keystore(os.path.join(directory, "system"), os.path.join(directory, "local"))
        self.said: list[str] = []

    def fetcher(self, **options: object) -> Fetcher:
        return Fetcher(self.store, self.keystore, notify=self.said.append, **options)  # type: ignore[arg-type]

    def image(self, name: str = "example.com/app", **members: object) -> str:
        path = os.path.join(self.directory, name.replace("/", "-") + ".aci")
        return aci.build(
            path, aci.manifest(name, **members), [aci.Entry("f", os.urandom(50_000))], compression="gzip"
        )

    def trust(self, name: str, prefix: str) -> None:
        for key in openpgp.parse_keys(self.signer.export(name)):
            self.keystore.add(key, prefix)

    def refused(self, path: str, signature: str | None = None) -> str:
        """The message with which an image is refused, having left nothing."""
        with pytest.raises((RktError, OSError)) as caught:
            self.fetcher().fetch(parse(path), signature)
        assert self.store.images() == []
        if os.path.isdir(self.store.places.temporary):
            assert os.listdir(self.store.places.temporary) == []
        return one_line(caught.value)


@pytest.fixture
def place(tmp_path: os.PathLike[str], signer: Signer) -> Iterator[Place]:
    made = Place(os.fspath(tmp_path), signer)
    with made.store:
        yield made


@pytest.mark.promise("P3")
class TestSignatures:
    def test_trusted_image_is_taken(self, place: Place) -> None:
        place.trust("alice", "example.com")
        path = place.image()
        place.signer.sign(path, "alice")
        key = place.fetcher().fetch(path)
        assert [info.key for info in place.store.images()] == [key]
        assert place.said == ["signature verified:\n  alice <alice@example.com>"]

    def test_binary_signature_and_other_place(self, place: Place) -> None:
        place.trust("alice", "")
        path = place.image()
        signature = place.signer.sign(path, "alice", armor=False)
        os.rename(signature, path + ".elsewhere")
        place.fetcher().fetch(path, path + ".elsewhere")

    def test_missing_signature(self, place: Place) -> None:
        path = place.image()
        assert place.refused(path) == f"open {path}.asc: no such file or directory"

    def test_unknown_key_is_refused_before_the_image_is_read(self, place: Place) -> None:
        path = place.image()
        place.signer.sign(path, "alice")
        message = f'image "{path}" verification failed: openpgp: signature made by unknown entity'
        assert place.refused(path) == message
        assert not os.path.exists(place.store.places.data)

    @pytest.mark.attack(31)
    def test_key_trusted_for_another_name(self, place: Place) -> None:
        place.trust("alice", "example.org")
        path = place.image()
        place.signer.sign(path, "alice")
        assert place.refused(path) == (
            f'image "{path}" verification failed: openpgp: signature made by unknown entity '
            '(its key is not trusted for "example.com/app")'
        )

    def test_key_that_was_masked(self, place: Place) -> None:
        vendor = Keystore("/nonexistent", os.path.join(place.directory, "system"))
        key = openpgp.parse_keys(place.signer.export("alice"))[0]
        vendor.add(key, "example.com")
        path = place.image()
        place.signer.sign(path, "alice")
        mask = os.path.join(place.directory, "local/trustedkeys/root.d", key.fingerprint)
        os.makedirs(os.path.dirname(mask))
        with open(mask, "w"):
            pass
        # The system's prefix comes after the local root: only the local prefix takes it away.
        place.fetcher().fetch(path)
        place.store.remove(place.store.lookup("example.com/app"))
        mask = os.path.join(place.directory, "local/trustedkeys/prefix.d/example.com", key.fingerprint)
        os.makedirs(os.path.dirname(mask))
        with open(mask, "w"):
            pass
        assert "unknown entity" in place.refused(path)

    def test_changed_image(self, place: Place) -> None:
        place.trust("alice", "example.com")
        path = place.image()
        place.signer.sign(path, "alice")
        place.image()
        assert place.refused(path) == f'image "{path}" verification failed: openpgp: signature is bad'

    @pytest.mark.attack(31)
    def test_signature_of_another_image(self, place: Place) -> None:
        place.trust("alice", "example.com")
        other = place.signer.sign(place.image("example.com/other"), "alice")
        path = place.image()
        assert "signature is bad" in place.refused(path, other)

    def test_bytes_behind_the_signed_ones(self, place: Place) -> None:
        place.trust("alice", "example.com")
        path = os.path.join(place.directory, "plain.aci")
        aci.build(path, aci.manifest("example.com/app"))
        place.signer.sign(path, "alice")
        with open(path, "ab") as file:
            file.write(bytes(10240))
        assert "signature is bad" in place.refused(path)

    @pytest.mark.attack(33)
    def test_every_truncation(self, place: Place) -> None:
        place.trust("alice", "example.com")
        path = place.image()
        signature = place.signer.sign(path, "alice")
        with open(path, "rb") as file:
            data = file.read()
        for length in range(0, len(data), 4096):
            with open(path, "wb") as file:
                file.write(data[:length])
            assert place.refused(path, signature).startswith(f'image "{path}" ')

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("expired", "key has expired"),
            ("revoked", "key has been revoked"),
            ("sha1", "made with SHA-1"),
            ("mallory", "unknown entity"),
        ],
    )
    @pytest.mark.attack(31)
    def test_keys_and_signatures_that_do_not_count(self, place: Place, name: str, reason: str) -> None:
        signer = place.signer
        path = place.image()
        if name == "expired":
            signer.key(name, expires="seconds=60", ago=HOUR)
            signer.sign(path, name, ago=HOUR - 30)
        elif name == "revoked":
            fingerprint = signer.key(name)
            signer.sign(path, name)
            signer.revoke(fingerprint)
        elif name == "sha1":
            signer.key(name)
            signer.sign(path, name, options=("--digest-algo", "SHA1"))
        else:
            signer.sign(path, name)
        place.trust("alice", "example.com")
        if name != "mallory":
            place.trust(name, "example.com")
        assert reason in place.refused(path)

    @pytest.mark.attack(31)
    def test_subkey_counts_as_its_key(self, place: Place) -> None:
        place.signer.subkey(place.signer.key("withsub"))
        place.trust("withsub", "example.com/app")
        path = place.image()
        place.signer.sign(path, "withsub")
        place.fetcher().fetch(path)

    def test_copy_of_the_key_for_the_name_decides(self, place: Place) -> None:
        signer = place.signer
        fingerprint = signer.key("copies")
        path = place.image()
        signer.sign(path, "copies")
        place.trust("copies", "other.example")
        signer.revoke(fingerprint)
        place.trust("copies", "example.com")
        # An unrevoked copy for another name is of no use.
        assert "key has been revoked" in place.refused(path)

    def test_swapped_file_is_not_imported(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        place.trust("alice", "example.com")
        path = place.image()
        place.signer.sign(path, "alice")
        with open(path, "rb") as file:
            signed = file.read()
        evil = place.image("example.com/evil")
        opened = source.open_file

        def swap(name: str) -> int:
            fd = opened(name)
            if name == path:
                os.rename(evil, path)
            return fd

        monkeypatch.setattr(source, "open_file", swap)
        key = place.fetcher().fetch(path)
        assert place.store.manifest(key).name == "example.com/app"
        assert len(signed) > 0

    def test_signatures_are_not_looked_at_if_the_caller_says_so(self, place: Place) -> None:
        place.fetcher(insecure=["image"]).fetch(place.image())
        assert place.said == []

    def test_not_a_signature(self, place: Place) -> None:
        place.trust("alice", "")
        path = place.image()
        with open(path + ".asc", "w") as file:
            file.write("hello\n")
        reason = "openpgp: expected a pgp signature, found nothing of the kind"
        assert place.refused(path) == f'image "{path}" verification failed: {reason}'


class TestFiles:
    def test_missing_image(self, place: Place) -> None:
        with pytest.raises(RktError) as caught:
            place.fetcher(insecure=["image"]).fetch("/nonexistent.aci")
        assert one_line(caught.value) == "open /nonexistent.aci: no such file or directory"

    def test_fifo_does_not_block(self, place: Place) -> None:
        path = os.path.join(place.directory, "fifo.aci")
        os.mkfifo(path)
        with pytest.raises(RktError, match="is not a regular file"):
            place.fetcher(insecure=["image"]).fetch(path)

    def test_error_names_the_file(self, place: Place) -> None:
        path = os.path.join(place.directory, "text.aci")
        with open(path, "w") as file:
            file.write("hello")
        with pytest.raises(RktError) as caught:
            place.fetcher(insecure=["image"]).fetch(path)
        assert one_line(caught.value) == f'image "{path}" cannot be imported: the file is no archive'

    def test_debug_says_where_from(self, place: Place) -> None:
        path = place.image()
        place.fetcher(insecure=["image"], debug=True).fetch(path)
        place.fetcher(debug=True).fetch("example.com/app:1")
        assert place.said == [
            f"using image from file {path}",
            "using image from local store for image name example.com/app:1",
        ]


class TestNamesAndIds:
    def test_policies(self, place: Place) -> None:
        key = place.fetcher(insecure=["image"]).fetch(place.image())
        assert place.fetcher(pull_policy="new").fetch("example.com/app") == key
        assert place.fetcher(pull_policy="never").fetch("example.com/app") == key
        assert place.fetcher(pull_policy="never").fetch("example.com/app:1") == key
        with pytest.raises(RktError, match="discovery failed"):
            place.fetcher(pull_policy="update").fetch("example.com/app")
        with pytest.raises(RktError, match="not in the local store"):
            place.fetcher(pull_policy="never").fetch("example.com/none")
        with pytest.raises(RktError, match="discovery failed"):
            place.fetcher(pull_policy="new").fetch("example.com/app:2")

    def test_name_means_an_image_for_this_machine(self, place: Place) -> None:
        foreign = [{"name": "os", "value": "freebsd"}, {"name": "arch", "value": "amd64"}]
        place.fetcher(insecure=["image"]).fetch(place.image(labels=foreign))
        with pytest.raises(RktError):
            place.fetcher().fetch("example.com/app")
        assert place.fetcher().fetch("example.com/app,os=freebsd,arch=amd64")
        assert host_labels()["os"] == "linux"

    def test_id_of_the_store(self, place: Place) -> None:
        key = place.fetcher(insecure=["image"]).fetch(place.image())
        assert place.fetcher(pull_policy="update").fetch(key[:12]) == key

    def test_missing_dependency_is_refused(self, place: Place) -> None:
        path = place.image(dependencies=[{"imageName": "example.com/base"}])
        with pytest.raises(RktError, match='dependency "example.com/base" cannot be fetched'):
            place.fetcher(insecure=["image"]).fetch(path)
        place.fetcher(insecure=["image"]).fetch(place.image("example.com/base"))
        place.fetcher(insecure=["image"]).fetch(path)

    def test_trees_are_made_when_asked_for(self, place: Place) -> None:
        key = place.fetcher(insecure=["image"], render=False).fetch(place.image())
        assert place.store.trees.ids() == []
        place.fetcher(render=True).fetch(key)
        assert place.store.trees.ids() == [place.store.tree_id(key)]
