"""Trusting keys and fetching what they signed, as users do it.  Needs root, gpg and gpgv."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from rkt.trust import openpgp
from support import aci
from support.driver import Rkt
from support.signing import HOUR, Signer

NAME = "example.com/app"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    made = Signer(os.fspath(tmp_path_factory.mktemp("gpg") / "home"))
    for name in ("alice", "bob"):
        made.key(name)
    yield made
    made.close()


@pytest.fixture
def key(signer: Signer, tmp_path: os.PathLike[str]) -> str:
    """The path of alice's public key."""
    return signer.export_to(os.path.join(os.fspath(tmp_path), "alice.asc"), "alice")


@pytest.fixture
def image(signer: Signer, tmp_path: os.PathLike[str]) -> str:
    """The path of an image alice signed."""
    path = os.path.join(os.fspath(tmp_path), "app.aci")
    aci.build(path, aci.manifest(NAME), [aci.Entry("f", b"x" * 20_000)], compression="gzip")
    signer.sign(path, "alice")
    return path


def fingerprint(path: str) -> str:
    with open(path, "rb") as file:
        return openpgp.parse_keys(file.read())[0].fingerprint


class TestTrust:
    def test_review_shows_the_key_and_asks(self, rkt: Rkt, key: str) -> None:
        code, out, err = rkt.on_terminal("yes\n", "trust", "--prefix=example.com/app", key)
        path = os.path.join(rkt.config, "trustedkeys/prefix.d/example.com/app", fingerprint(key))
        assert code == 0
        assert out == (
            f'Trusting "{key}" for prefix "example.com/app" after fingerprint review.\n'
            f'Added key for prefix "example.com/app" at "{path}"\n'
        )
        shown = openpgp.format_fingerprint(fingerprint(key))
        assert err.splitlines() == [
            'pubkey: prefix: "example.com/app"',
            f'pubkey: key: "{key}"',
            f"pubkey: gpg key fingerprint is: {shown}",
            "pubkey: \talice <alice@example.com>",
            "pubkey: Are you sure you want to trust this key (yes/no)?",
        ]
        assert os.path.exists(path)

    @pytest.mark.parametrize("answer", ["no\n", "y\n", "YES\n", "\n", "\x04"])
    def test_anything_but_yes_is_no(self, rkt: Rkt, key: str, answer: str) -> None:
        code, out, err = rkt.on_terminal(answer, "trust", "--root", key)
        assert (code, out) == (0, "")
        assert err.splitlines()[-1] == f'pubkey: not trusting "{key}"'
        assert not os.path.exists(os.path.join(rkt.config, "trustedkeys"))

    def test_without_a_terminal_nobody_can_be_asked(self, rkt: Rkt, key: str) -> None:
        result = rkt("trust", "--prefix=example.com", key, input="yes\n")
        assert (result.code, result.out) == (254, "")
        assert result.err.splitlines()[-4:] == [
            'pubkey: To trust the key for "example.com", do one of the following:',
            "pubkey:  - call rkt with --trust-keys-from-https",
            'pubkey:  - run: rkt trust --prefix "example.com"',
            "trust: error reviewing key: unable to ask user to review fingerprint due to lack of tty",
        ]
        assert not os.path.exists(os.path.join(rkt.config, "trustedkeys"))

    def test_without_review(self, rkt: Rkt, key: str) -> None:
        result = rkt.ok("trust", "--root", "--skip-fingerprint-review", key)
        path = os.path.join(rkt.config, "trustedkeys/root.d", fingerprint(key))
        assert result.lines == [
            f'Trusting "{key}" for prefix "" without fingerprint review.',
            f'Added root key at "{path}"',
        ]

    def test_words_that_do_not_go_together(self, rkt: Rkt, key: str) -> None:
        result = rkt("trust")
        assert result.code == 254
        assert "USAGE:" in result.out
        result = rkt("trust", key)
        assert result.code == 254
        assert result.err.splitlines() == [
            "trust: aborting due to implicit unbounded trust (root domain)",
            "trust: Please provide a specific domain prefix to trust:",
            'trust:     rkt trust --prefix "example.com/foo" [PUBKEY]',
            "trust: Otherwise, trust at the root domain (not recommended) must be explicitly requested:",
            "trust:     rkt trust --root PUBKEY",
        ]
        for words, message in (
            (["--root", "--prefix=a", key], "--root and --prefix usage mutually exclusive"),
            (["--prefix=https://a", key], "--prefix must not contain a URL scheme, omit https://"),
            (["--insecure-options=image", "--prefix=a", key], "could not get the keystore"),
            (["--prefix=A", "--skip-fingerprint-review", key], "ACIdentifier must"),
            (["--prefix=a/../b", "--skip-fingerprint-review", key], "not the beginning of an image name"),
            (
                ["--prefix=a", "https://example.com/key"],
                "error accessing the key https://example.com/key: cannot",
            ),
            (["--prefix=a"], "error determining key location"),
            (["--prefix=a", "/nonexistent"], "open /nonexistent: no such file or directory"),
            (["--prefix=a", "/etc/passwd"], "error reading the key /etc/passwd: openpgp: expected"),
        ):
            result = rkt("trust", *words)
            assert (result.code, result.out) == (254, ""), words
            assert message in result.err
        assert not os.path.exists(os.path.join(rkt.config, "trustedkeys"))


@pytest.mark.promise("P3")
class TestFetch:
    def test_only_what_a_trusted_key_signed(self, rkt: Rkt, key: str, image: str) -> None:
        result = rkt("fetch", image)
        assert (result.code, result.out) == (254, "")
        unknown = "openpgp: signature made by unknown entity"
        assert result.err == f'fetch: image "{image}" verification failed: {unknown}\n'
        assert not os.path.exists(rkt.dir)
        rkt.ok("trust", "--prefix=example.com/app", "--skip-fingerprint-review", key)
        result = rkt.ok("fetch", image)
        assert result.err == "image: signature verified:\nimage:   alice <alice@example.com>\n"
        assert result.out.startswith("sha512-")

    def test_key_files_that_are_of_no_use_are_told(self, rkt: Rkt, key: str, image: str) -> None:
        rkt.ok("trust", "--prefix=example.com", "--skip-fingerprint-review", key)
        path = os.path.join(rkt.config, "trustedkeys/prefix.d/example.com", fingerprint(key))
        with open(path, "w") as file:
            file.write("no key\n")
        refused = rkt("fetch", image)
        assert (refused.code, refused.out) == (254, "")
        failure, hint = refused.err.splitlines()
        assert failure.endswith("verification failed: openpgp: signature made by unknown entity")
        assert hint.startswith(f"fetch: trusted key {path} cannot be used: ")

    def test_debug_says_what_was_wrong_step_by_step(self, rkt: Rkt, image: str) -> None:
        os.unlink(image + ".asc")
        result = rkt("--debug", "fetch", image)
        assert result.err.splitlines() == [
            f"image: using image from file {image}",
            "fetch: error opening signature file",
            f"fetch:   └─open {image}.asc: no such file or directory",
        ]
        assert rkt("fetch", image).err == f"fetch: open {image}.asc: no such file or directory\n"

    @pytest.mark.attack(31)
    def test_wrong_prefix(self, rkt: Rkt, key: str, image: str) -> None:
        rkt.ok("trust", "--prefix=example.com/ap", "--skip-fingerprint-review", key)
        result = rkt("fetch", image)
        assert result.code == 254
        assert "signature made by unknown entity" in result.err
        assert rkt.ok("image", "list", "--no-legend").out == "\n"

    @pytest.mark.attack(31)
    def test_other_signature_for_the_image(self, rkt: Rkt, signer: Signer, key: str, image: str) -> None:
        rkt.ok("trust", "--root", "--skip-fingerprint-review", key)
        elsewhere = image + ".elsewhere"
        os.rename(image + ".asc", elsewhere)
        signer.sign(image, "bob")
        assert rkt("fetch", image).code == 254
        rkt.ok("fetch", image, f"--signature={elsewhere}")
        result = rkt("fetch", f"--signature={elsewhere}", image)
        assert result.code == 254
        assert "--signature must follow an image" in result.err

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            ("expired", "openpgp: key has expired"),
            ("revoked", "openpgp: key has been revoked"),
            ("sha1", "openpgp: signature made with SHA-1, which is not accepted"),
            ("changed", "openpgp: signature is bad"),
        ],
    )
    @pytest.mark.attack(31)
    def test_reason_of_a_refusal(
        self, rkt: Rkt, signer: Signer, tmp_path: os.PathLike[str], image: str, kind: str, reason: str
    ) -> None:
        if kind == "expired":
            signer.key(kind, expires="seconds=60", ago=HOUR)
            signer.sign(image, kind, ago=HOUR - 30)
        else:
            made = signer.key(kind)
            signer.sign(image, kind, options=("--digest-algo", "SHA1") if kind == "sha1" else ())
            if kind == "revoked":
                signer.revoke(made)
        if kind == "changed":
            aci.build(image, aci.manifest(NAME), [], compression="gzip")
        public = signer.export_to(os.path.join(os.fspath(tmp_path), "key"), kind)
        rkt.ok("trust", "--root", "--skip-fingerprint-review", public)
        result = rkt("fetch", image)
        assert (result.code, result.out) == (254, "")
        assert result.err == f'fetch: image "{image}" verification failed: {reason}\n'
        assert rkt.ok("image", "list", "--no-legend").out == "\n"

    def test_program_that_verifies_is_not_chosen_by_the_environment(
        self, rkt: Rkt, signer: Signer, key: str, image: str, tmp_path: os.PathLike[str]
    ) -> None:
        rkt.ok("trust", "--root", "--skip-fingerprint-review", key)
        aci.build(image, aci.manifest("example.com/evil"), [])
        fake = os.path.join(os.fspath(tmp_path), "gpgv")
        with open(fake, "w") as file:
            file.write("#!/bin/sh\nexit 0\n")
        os.chmod(fake, 0o755)
        result = rkt("fetch", image, env={"PATH": os.fspath(tmp_path) + ":/usr/bin:/bin"})
        assert result.code == 254
        assert "signature is bad" in result.err
