"""Reading OpenPGP data that gpg made, and refusing what is not quite that."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from rkt.errors import RktError
from rkt.trust import openpgp
from support.signing import Signer


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    made = Signer(os.fspath(tmp_path_factory.mktemp("gpg") / "home"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def alice(signer: Signer) -> str:
    fingerprint = signer.key("alice")
    signer.subkey(fingerprint)
    return fingerprint


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("documents") / "document"
    path.write_bytes(b"what is signed\n")
    return os.fspath(path)


@pytest.mark.parametrize("armor", [True, False])
def test_key_has_fingerprints_and_identities_as_gpg_lists_them(
    signer: Signer, alice: str, armor: bool
) -> None:
    (key,) = openpgp.parse_keys(signer.export("alice", armor=armor))
    assert [key.fingerprint, *key.subkeys] == signer.fingerprints("alice")
    assert key.fingerprint == alice
    assert key.identities == ["alice <alice@example.com>"]
    assert key.data == signer.export("alice", armor=False)


def test_several_keys_of_one_file_are_kept_apart(signer: Signer, alice: str) -> None:
    other = signer.key("second")
    both = signer.gpg("--armor", "--export", alice, other)
    keys = openpgp.parse_keys(both)
    assert {key.fingerprint for key in keys} == {alice, other}
    for key in keys:
        assert openpgp.parse_keys(key.data)[0].fingerprint == key.fingerprint


def test_signature_names_its_issuer(signer: Signer, alice: str, document: str) -> None:
    with open(signer.sign(document, "alice"), "rb") as file:
        signature = openpgp.parse_signature(file.read())
    (key,) = openpgp.parse_keys(signer.export("alice"))
    # gpg signs with the newest key able to, here the subkey.
    assert signature.issuer_fingerprint == key.subkeys[0]
    assert key.issued(signature)
    signer.key("stranger")
    assert not openpgp.parse_keys(signer.export("stranger"))[0].issued(signature)


def test_armor_round_trip_is_what_gpg_reads(signer: Signer, alice: str) -> None:
    binary = signer.export("alice", armor=False)
    text = openpgp.armor(binary, openpgp.PUBLIC_KEY)
    assert openpgp.dearmor(text, openpgp.PUBLIC_KEY) == binary
    assert signer.gpg("--dearmor", input=text) == binary


def test_checksum_of_armor_is_checked(signer: Signer, alice: str) -> None:
    text = signer.export("alice").decode()
    lines = text.splitlines()
    checksum = next(line for line in lines if line.startswith("=") and len(line) == 5)
    with pytest.raises(RktError, match="checksum of the pgp public key block does not match"):
        openpgp.parse_keys(text.replace(checksum, "=AAAA").encode())
    damaged = text.replace(lines[4], lines[4][::-1])
    with pytest.raises(RktError, match="openpgp: "):
        openpgp.parse_keys(damaged.encode())


def test_armor_without_checksum_and_with_headers_is_read(signer: Signer, alice: str) -> None:
    lines = signer.export("alice").decode().splitlines()
    lines = [line for line in lines if not (line.startswith("=") and len(line) == 5)]
    lines.insert(1, "Comment: hello")
    (key,) = openpgp.parse_keys("\r\n".join(["some words before", *lines, ""]).encode())
    assert key.fingerprint == alice


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "found an empty file"),
        (b"no key at all", "found nothing of the kind"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n", "is cut off"),
        (b"\xff\xff\xff", "ends in the middle"),
        (b"\x9b" + bytes(20), "indeterminate length"),
        (b"\xc6\xe0" + bytes(20), "partial length"),
        (b"\xc6\x01\x03", "keys of version 3"),
        (b"\xc6\x01\x06", "keys of version 6"),
        (b"\xcd\x01a", "does not begin with a public key"),
    ],
)
def test_what_is_no_key_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(RktError, match=reason):
        openpgp.parse_keys(data)


def test_secret_keys_are_refused(signer: Signer, alice: str) -> None:
    binary = signer.gpg("--export-secret-keys", alice)
    with pytest.raises(RktError, match="secret key"):
        openpgp.parse_keys(binary)
    with pytest.raises(RktError, match="expected a pgp public key block, found begin pgp private key block"):
        openpgp.parse_keys(signer.gpg("--armor", "--export-secret-keys", alice))


def test_every_truncation_of_a_key_is_refused_or_read_as_fewer_packets(signer: Signer, alice: str) -> None:
    binary = signer.export("alice", armor=False)
    for length in range(len(binary)):
        try:
            keys = openpgp.parse_keys(binary[:length])
        except RktError:
            continue
        assert [key.fingerprint for key in keys] == [alice]


def test_two_armored_blocks_are_refused(signer: Signer, alice: str) -> None:
    text = signer.export("alice")
    with pytest.raises(RktError, match="more than one armored block"):
        openpgp.parse_keys(text + text)


def test_two_signatures_are_refused(signer: Signer, alice: str, document: str) -> None:
    with open(signer.sign(document, "alice", armor=False), "rb") as file:
        data = file.read()
    with pytest.raises(RktError, match="more than one signature"):
        openpgp.parse_signature(data + data)
    with pytest.raises(RktError, match="data ends in the middle"):
        openpgp.parse_signature(data[:-1])


def test_signature_over_text_is_refused(signer: Signer, alice: str, document: str) -> None:
    path = signer.sign(document, "alice", options=("--textmode",))
    with open(path, "rb") as file, pytest.raises(RktError, match="type 0x01"):
        openpgp.parse_signature(file.read())


def test_user_id_cannot_draw_on_the_terminal() -> None:
    body = "eve\x1b[2J\u202e".encode()
    assert openpgp._printable(body) == "eve\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"


def test_fingerprint_is_shown_in_groups() -> None:
    shown = openpgp.format_fingerprint("7b616323315505306c2d4e3217ee9aed21f53bb7")
    assert shown == "7B61 6323 3155 0530 6C2D  4E32 17EE 9AED 21F5 3BB7"
