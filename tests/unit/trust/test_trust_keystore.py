"""Which keys are trusted for which name."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from rkt.errors import RktError
from rkt.trust import openpgp
from rkt.trust.keystore import Keystore
from rkt.trust.openpgp import Key
from support.signing import Signer


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Key]]:
    signer = Signer(os.fspath(tmp_path_factory.mktemp("gpg") / "home"))
    for name in ("one", "two"):
        signer.key(name)
    yield [openpgp.parse_keys(signer.export(name))[0] for name in ("one", "two")]
    signer.close()


class Layers:
    def __init__(self, directory: str) -> None:
        self.system = os.path.join(directory, "system")
        self.local = os.path.join(directory, "local")
        self.store = Keystore(self.system, self.local)
        self.vendor = Keystore("/nonexistent", self.system)

    def names(self, name: str) -> list[str]:
        return [key.identities[0].split()[0] for key in self.store.keys_for(name)]

    def mask(self, *words: str) -> None:
        path = os.path.join(self.local, "trustedkeys", *words)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w"):
            pass


@pytest.fixture
def layers(tmp_path: os.PathLike[str]) -> Layers:
    return Layers(os.fspath(tmp_path))


def test_nothing_is_trusted_at_first(layers: Layers) -> None:
    assert layers.store.keys_for("example.com/app") == []


def test_prefix_covers_whole_components(layers: Layers, keys: list[Key]) -> None:
    layers.store.add(keys[0], "example.com/foo")
    assert layers.names("example.com/foo") == ["one"]
    assert layers.names("example.com/foo/bar") == ["one"]
    assert layers.names("example.com/foobar") == []
    assert layers.names("example.com/fo") == []
    assert layers.names("example.com") == []
    assert layers.names("other.com/example.com/foo") == []


def test_files_are_named_by_fingerprint_and_readable(layers: Layers, keys: list[Key]) -> None:
    path = layers.store.add(keys[0], "example.com/foo")
    assert path == os.path.join(
        layers.local, "trustedkeys", "prefix.d", "example.com", "foo", keys[0].fingerprint
    )
    assert os.stat(path).st_mode & 0o7777 == 0o644
    assert os.stat(os.path.dirname(path)).st_mode & 0o7777 == 0o755
    with open(path, "rb") as file:
        assert file.read().startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    assert layers.store.contains("example.com/foo", keys[0].fingerprint)
    assert not layers.store.contains("", keys[0].fingerprint)


def test_root_key_is_trusted_for_everything(layers: Layers, keys: list[Key]) -> None:
    path = layers.store.add(keys[0], "")
    assert path == os.path.join(layers.local, "trustedkeys", "root.d", keys[0].fingerprint)
    assert layers.names("anything") == ["one"]


def test_empty_local_file_takes_a_key_of_the_system_away(layers: Layers, keys: list[Key]) -> None:
    layers.vendor.add(keys[0], "")
    layers.vendor.add(keys[1], "example.com")
    assert layers.names("example.com/app") == ["one", "two"]
    layers.mask("root.d", keys[0].fingerprint)
    assert layers.names("example.com/app") == ["two"]
    layers.mask("prefix.d", "example.com", keys[1].fingerprint)
    assert layers.names("example.com/app") == []
    assert layers.names("example.org/app") == []


def test_mask_of_one_prefix_leaves_others(layers: Layers, keys: list[Key]) -> None:
    layers.vendor.add(keys[0], "")
    layers.mask("prefix.d", "example.com", "secret", keys[0].fingerprint)
    assert layers.names("example.com/secret/app") == []
    assert layers.names("example.com/open") == ["one"]


@pytest.mark.promise("P3")
def test_name_of_an_image_leads_nowhere_else(layers: Layers, keys: list[Key], tmp_path: object) -> None:
    layers.store.add(keys[0], "evil.com")
    planted = os.path.join(os.fspath(tmp_path), "planted")  # type: ignore[arg-type]
    os.makedirs(planted)
    with open(os.path.join(planted, keys[1].fingerprint), "wb") as file:
        file.write(keys[1].data)
    assert layers.names("x/../../../../planted") == []
    assert layers.names("../evil.com") == []
    assert layers.names("evil.com/../good.com") == ["one"]


@pytest.mark.parametrize("prefix", ["a/../b", "../b", "a//b", "/a", "A", "a b", "example.com/foo/*"])
def test_prefix_has_to_be_the_beginning_of_a_name(layers: Layers, keys: list[Key], prefix: str) -> None:
    with pytest.raises(RktError):
        layers.store.add(keys[0], prefix)
    assert not os.path.exists(layers.local)


def test_file_with_another_key_is_an_error_that_names_it(layers: Layers, keys: list[Key]) -> None:
    path = layers.store.add(keys[0], "example.com")
    os.rename(path, os.path.join(os.path.dirname(path), keys[1].fingerprint))
    with pytest.raises(RktError, match=f"{keys[1].fingerprint} cannot be used"):
        layers.store.keys_for("example.com/app")
    assert layers.store.keys_for("example.org/app") == []


def test_foreign_files_are_left_alone(layers: Layers, keys: list[Key]) -> None:
    path = layers.store.add(keys[0], "example.com")
    with open(os.path.join(os.path.dirname(path), "README"), "w") as file:
        file.write("not a key")
    assert layers.names("example.com") == ["one"]
