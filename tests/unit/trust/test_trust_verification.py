"""What gpgv says is believed only when it says exactly the right thing."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from rkt.errors import RktError
from rkt.trust import openpgp, verification
from rkt.trust.openpgp import Key
from rkt.trust.verification import Verification
from support.signing import HOUR, Signer

FINGERPRINT = "7B616323315505306C2D4E3217EE9AED21F53BB7"
GOOD = "[GNUPG:] GOODSIG 17EE9AED21F53BB7 good <good@example.com>\n"
VALID = f"[GNUPG:] VALIDSIG {FINGERPRINT} 2026-11-23 1795464015 0 4 0 1 10 00 {FINGERPRINT}\n"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    made = Signer(os.fspath(tmp_path_factory.mktemp("gpg") / "home"))
    yield made
    made.close()


@pytest.fixture
def document(tmp_path: os.PathLike[str]) -> str:
    path = os.path.join(os.fspath(tmp_path), "document")
    with open(path, "wb") as file:
        file.write(os.urandom(3 << 20))
    return path


def verify(document: str, signature_path: str, key: Key, *, change: bool = False) -> None:
    with open(signature_path, "rb") as file:
        signature = openpgp.parse_signature(file.read())
    with Verification(signature, key) as checking, open(document, "rb") as file:
        while data := file.read(1 << 20):
            checking.feed(data)
        if change:
            checking.feed(b"\0")
        checking.finish()


def key_of(signer: Signer, name: str) -> Key:
    return openpgp.parse_keys(signer.export(name))[0]


@pytest.mark.promise("P3")
class TestRealSignatures:
    def test_good_one_is_accepted(self, signer: Signer, document: str) -> None:
        signer.key("good")
        verify(document, signer.sign(document, "good"), key_of(signer, "good"))

    def test_changed_document_is_refused(self, signer: Signer, document: str) -> None:
        signer.key("changed")
        path = signer.sign(document, "changed")
        with pytest.raises(RktError, match="signature is bad"):
            verify(document, path, key_of(signer, "changed"), change=True)

    def test_subkey_counts_as_its_key(self, signer: Signer, document: str) -> None:
        signer.subkey(signer.key("subkey"))
        verify(document, signer.sign(document, "subkey"), key_of(signer, "subkey"))

    def test_other_key_is_refused(self, signer: Signer, document: str) -> None:
        signer.key("maker")
        signer.key("other")
        path = signer.sign(document, "maker")
        with pytest.raises(RktError, match="unknown entity"):
            verify(document, path, key_of(signer, "other"))

    @pytest.mark.attack(31)
    def test_expired_key_is_refused(self, signer: Signer, document: str) -> None:
        signer.key("expired", expires="seconds=60", ago=HOUR)
        path = signer.sign(document, "expired", ago=HOUR - 30)
        with pytest.raises(RktError, match="key has expired"):
            verify(document, path, key_of(signer, "expired"))

    def test_expired_signature_is_refused(self, signer: Signer, document: str) -> None:
        signer.key("lasting", ago=HOUR)
        path = signer.sign(document, "lasting", ago=HOUR - 30, options=("--default-sig-expire", "seconds=60"))
        with pytest.raises(RktError, match="signature has expired"):
            verify(document, path, key_of(signer, "lasting"))

    @pytest.mark.attack(31)
    def test_revoked_key_is_refused(self, signer: Signer, document: str) -> None:
        fingerprint = signer.key("revoked")
        path = signer.sign(document, "revoked")
        signer.revoke(fingerprint)
        with pytest.raises(RktError, match="key has been revoked"):
            verify(document, path, key_of(signer, "revoked"))

    @pytest.mark.attack(31)
    def test_sha1_signature_is_refused(self, signer: Signer, document: str) -> None:
        signer.key("weak")
        path = signer.sign(document, "weak", options=("--digest-algo", "SHA1"))
        with pytest.raises(RktError, match="made with SHA-1, which is not accepted"):
            verify(document, path, key_of(signer, "weak"))

    def test_key_bound_by_sha1_is_refused_even_if_it_says_it_never_expires(
        self, signer: Signer, document: str
    ) -> None:
        signer.key("sha1-bound", options=("--cert-digest-algo", "SHA1"))
        path = signer.sign(document, "sha1-bound")
        with pytest.raises(RktError, match="key is not usable"):
            verify(document, path, key_of(signer, "sha1-bound"))

    def test_without_gpgv_nothing_is_accepted(
        self, signer: Signer, document: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        signer.key("nobody")
        path = signer.sign(document, "nobody")
        monkeypatch.setattr(verification, "PROGRAM", "gpgv-that-is-not-there")
        with pytest.raises(RktError, match="gpgv-that-is-not-there is not installed"):
            verify(document, path, key_of(signer, "nobody"))

    def test_program_is_ended_when_nobody_asks_for_the_result(self, signer: Signer, document: str) -> None:
        signer.key("unasked")
        with open(signer.sign(document, "unasked"), "rb") as file:
            signature = openpgp.parse_signature(file.read())
        before = set(os.listdir("/proc/self/fd"))
        with Verification(signature, key_of(signer, "unasked")) as checking:
            checking.feed(b"x" * 100)
            pid = checking._pid
        assert not os.path.exists(f"/proc/{pid}")
        assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.promise("P3")
class TestStatusLines:
    key = Key(FINGERPRINT.lower(), [], [], b"")

    def test_good(self) -> None:
        verification.check_status(GOOD + VALID, self.key)

    @pytest.mark.parametrize(
        "status",
        [
            "",
            GOOD,
            VALID,
            GOOD + GOOD + VALID,
            GOOD + VALID + VALID,
            GOOD + VALID + "[GNUPG:] BADSIG 17EE9AED21F53BB7 x\n",
            GOOD + VALID + "[GNUPG:] ERRSIG 17EE9AED21F53BB7 1 10 00 1795464036 9 -\n",
            GOOD + VALID + "[GNUPG:] ERRSIG\n",
            "[GNUPG:] EXPSIG 17EE9AED21F53BB7 x\n" + VALID,
            "[GNUPG:] EXPKEYSIG 17EE9AED21F53BB7 x\n" + VALID,
            "[GNUPG:] REVKEYSIG 17EE9AED21F53BB7 x\n" + VALID,
            GOOD + VALID.replace(" 10 00 ", " 2 00 "),
            GOOD + VALID.replace(" 10 00 ", " 1 00 "),
            GOOD + VALID.replace(" 10 00 ", " 3 00 "),
            GOOD + VALID.replace(" 10 00 ", " x 00 "),
            GOOD + VALID.replace(f"00 {FINGERPRINT}", f"00 {FINGERPRINT[::-1]}"),
            GOOD + VALID.replace(f" 00 {FINGERPRINT}", " 00"),
            GOOD.replace("[GNUPG:]", "gpgv:") + VALID,
        ],
    )
    def test_anything_else_is_refused(self, status: str) -> None:
        with pytest.raises(RktError, match=r"^openpgp: "):
            verification.check_status(status, self.key)

    def test_user_id_cannot_pass_for_a_status_line(self) -> None:
        # gpgv escapes newlines of user IDs; words of one are never looked at.
        status = "[GNUPG:] BADSIG 17EE9AED21F53BB7 [GNUPG:] GOODSIG x\n" + GOOD + VALID
        with pytest.raises(RktError, match="signature is bad"):
            verification.check_status(status, self.key)
