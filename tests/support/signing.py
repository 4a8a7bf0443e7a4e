"""Keys and signatures made by gpg, in a home directory of their own."""

from __future__ import annotations

import os
import subprocess
import time

from support.waiting import PATIENCE

HOUR = 3600
# A clock that is set back while the tests run makes nothing come from the future.
KEY_AGE, SIGNATURE_AGE = 2 * HOUR, HOUR // 2


class Signer:
    """A gpg home directory; ``close`` ends the agent gpg starts for it."""

    def __init__(self, directory: str) -> None:
        self.home = directory
        os.makedirs(directory, mode=0o700, exist_ok=True)

    def gpg(self, *words: str, input: bytes | None = None, ago: int = 0) -> bytes:
        """Run gpg, as if ``ago`` seconds earlier; returns its output."""
        command = ["gpg", "--homedir", self.home, "--batch", "--quiet", "--yes", "--no-tty"]
        command += ["--pinentry-mode", "loopback", "--passphrase", ""]
        if ago:
            moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(time.time() - ago))
            command += ["--faked-system-time", moment]
        done = subprocess.run(
            [*command, *words], input=input, capture_output=True, check=False, timeout=PATIENCE
        )
        assert done.returncode == 0, (words, done.stderr.decode())
        return done.stdout

    def key(
        self, name: str, *, expires: str = "never", ago: int = KEY_AGE, options: tuple[str, ...] = ()
    ) -> str:
        """Make a signing key for ``name <name@example.com>``; returns its fingerprint, lower case."""
        identity = f"{name} <{name}@example.com>"
        self.gpg(*options, "--quick-generate-key", identity, "ed25519", "sign", expires, ago=ago)
        return self.fingerprints(name)[0]

    def fingerprints(self, name: str) -> list[str]:
        """Of the primary key, then of its subkeys."""
        lines = self.gpg(
            "--with-colons", "--fingerprint", "--fingerprint", "--list-keys", f"{name}@example.com"
        )
        return [line.split(":")[9].lower() for line in lines.decode().splitlines() if line.startswith("fpr:")]

    def subkey(self, fingerprint: str) -> None:
        """Give a key a subkey for signing; gpg signs with that from then on."""
        self.gpg("--quick-add-key", fingerprint, "ed25519", "sign", "never", ago=HOUR)

    def revoke(self, fingerprint: str) -> None:
        path = os.path.join(self.home, "openpgp-revocs.d", fingerprint.upper() + ".rev")
        with open(path) as file:
            text = file.read().replace(":-----BEGIN", "-----BEGIN")
        self.gpg("--import", input=text.encode())

    def export(self, name: str, *, armor: bool = True) -> bytes:
        words = ["--armor"] if armor else []
        return self.gpg(*words, "--export", f"{name}@example.com")

    def export_to(self, path: str, name: str) -> str:
        with open(path, "wb") as file:
            file.write(self.export(name))
        return path

    def sign(
        self,
        path: str,
        name: str,
        *,
        armor: bool = True,
        ago: int = SIGNATURE_AGE,
        options: tuple[str, ...] = (),
    ) -> str:
        """Write the detached signature ``path.asc`` and return its path."""
        words = ["--armor"] if armor else []
        self.gpg(
            *words, *options, "-u", f"{name}@example.com", "-o", path + ".asc", "--detach-sign", path, ago=ago
        )
        return path + ".asc"

    def close(self) -> None:
        subprocess.run(
            ["gpgconf", "--homedir", self.home, "--kill", "gpg-agent"],
            check=False,
            capture_output=True,
            timeout=PATIENCE,
        )
