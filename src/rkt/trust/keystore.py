"""Trusted keys on disk, by the image names they are trusted for.

Below ``trustedkeys`` of the system's and of the local configuration directory::

    root.d/FINGERPRINT              trusted for every image
    prefix.d/NAME/PREFIX/FINGERPRINT  trusted for NAME/PREFIX and every name below it

A file is named by the 40 hex digits of the key it holds and has to hold that key.  For a name, root keys
of the system come first, then local ones, then the system's prefixes from the host name down, then local
prefixes; of two files for one fingerprint the later one counts, and an empty file takes the key away.
Public keys for container images lie beside them, named by the 64 hex digits of their SHA-256 and ``.pem``,
and follow the same rules.

A prefix covers whole components of a name: ``example.com/fo`` says nothing about ``example.com/foo``.
"""

from __future__ import annotations

import os

from rkt.errors import RktError, one_line
from rkt.linux import files
from rkt.trust import openpgp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rkt.trust.openpgp import Key, Signature
    from rkt.trust.sigstore import PublicKey

DIRECTORY = "trustedkeys"
PEM = ".pem"
_FINGERPRINT_LENGTH = 40
_HEX = frozenset("0123456789abcdef")


class Keystore:
    """The keys of a system and a local configuration directory; new keys go to the local one.

    ``faults``: what was wrong with files that ``candidates`` left out.
    """

    __slots__ = ("_local", "_system", "faults")

    def __init__(self, system_dir: str, local_dir: str) -> None:
        self._system = os.path.join(system_dir, DIRECTORY)
        self._local = os.path.join(local_dir, DIRECTORY)
        self.faults: list[str] = []

    def keys_for(self, name: str) -> list[Key]:
        """The keys trusted for images called ``name``.

        Raises RktError for a key file in the way that cannot be used: leaving it out could hide that it
        was meant to take a key away.
        """
        trusted: dict[str, Key] = {}
        for directory in self._search_path(name):
            for path in _key_files(directory):
                key = _read(path)
                if key is None:
                    trusted.pop(os.path.basename(path), None)
                else:
                    trusted[key.fingerprint] = key
        return list(trusted.values())

    def public_keys_for(self, name: str) -> list[PublicKey]:
        """The public keys (PEM) trusted for container images called ``name``; raises as ``keys_for``."""
        trusted: dict[str, PublicKey] = {}
        for directory in self._search_path(name):
            for path in _public_key_files(directory):
                key = _read_public(path)
                if key is None:
                    trusted.pop(os.path.basename(path).removesuffix(PEM), None)
                else:
                    trusted[key.fingerprint] = key
        return list(trusted.values())

    def candidates(self, signature: Signature) -> list[Key]:
        """The keys, trusted for whatever name, that may have made the signature.

        For looking before an image is read, when its name is not known yet; ``keys_for`` decides.
        """
        found: dict[bytes, Key] = {}
        self.faults = []
        for base in (self._system, self._local):
            for parent, directories, _ in os.walk(base):
                directories.sort()
                for path in _key_files(parent):
                    try:
                        key = _read(path)
                    except (RktError, OSError) as error:
                        # An error when an image it would be trusted for is fetched.
                        self.faults.append(one_line(error))
                        continue
                    if key is not None and key.issued(signature):
                        found[key.data] = key
        return list(found.values())

    def contains(self, prefix: str, fingerprint: str) -> bool:
        """Whether the local layer has the key for exactly this prefix ("" for a root key)."""
        return os.path.exists(os.path.join(self._place(prefix), fingerprint))

    def add(self, key: Key, prefix: str) -> str:
        """Trust a key for ``prefix`` and all names below it, or for all images with the prefix "".

        Returns the path of the file written.  Raises RktError for a prefix that is no image name.
        """
        directory = self._place(prefix)
        files.make_directory(directory, 0o755, parents=True)
        path = os.path.join(directory, key.fingerprint)
        files.write_atomic(path, openpgp.armor(key.data, openpgp.PUBLIC_KEY), 0o644)
        return path

    def add_public(self, key: PublicKey, prefix: str) -> str:
        """As ``add``, for a public key in PEM form."""
        directory = self._place(prefix)
        files.make_directory(directory, 0o755, parents=True)
        path = os.path.join(directory, key.fingerprint + PEM)
        files.write_atomic(path, key.pem, 0o644)
        return path

    def _place(self, prefix: str) -> str:
        check_prefix(prefix)
        if not prefix:
            return os.path.join(self._local, "root.d")
        return os.path.join(self._local, "prefix.d", prefix)

    def _search_path(self, name: str) -> Iterator[str]:
        yield os.path.join(self._system, "root.d")
        yield os.path.join(self._local, "root.d")
        for base in (self._system, self._local):
            directory = os.path.join(base, "prefix.d")
            for component in _components(name):
                directory = os.path.join(directory, component)
                yield directory


def check_prefix(prefix: str) -> None:
    """Raises RktError for what no image name can begin with; "" stands for all names."""
    from rkt.appc import identifiers

    if not prefix:
        return
    try:
        identifiers.check_identifier(prefix)
    except RktError as error:
        raise RktError(f'prefix "{prefix}" is not the beginning of an image name') from error
    if len(_components(prefix)) != prefix.count("/") + 1:
        raise RktError(f'prefix "{prefix}" is not the beginning of an image name')


def _components(name: str) -> list[str]:
    """The components of an image name up to one that would lead elsewhere: a name comes from the image."""
    components = []
    for component in name.split("/"):
        if component in ("", ".", ".."):
            break
        components.append(component)
    return components


def _key_files(directory: str) -> list[str]:
    """Paths in ``directory`` that are named like keys, in a fixed order; none when it does not exist."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [
        os.path.join(directory, name)
        for name in sorted(names)
        if len(name) == _FINGERPRINT_LENGTH and not set(name) - _HEX
    ]


def _public_key_files(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [
        os.path.join(directory, name)
        for name in sorted(names)
        if name.endswith(PEM) and len(name) == 64 + len(PEM) and not set(name.removesuffix(PEM)) - _HEX
    ]


def _read_public(path: str) -> PublicKey | None:
    from rkt.trust import sigstore

    with open(path, "rb") as file:
        data = file.read(sigstore.MAX_KEY_SIZE + 1)
    if not data:
        return None
    try:
        key = sigstore.PublicKey(data)
    except RktError as error:
        raise RktError(f"trusted key {path} cannot be used") from error
    if key.fingerprint + PEM != os.path.basename(path):
        raise RktError(f"trusted key {path} cannot be used: it does not hold the key it is named by")
    return key


def _read(path: str) -> Key | None:
    """The key of a file, None for an empty file."""
    with open(path, "rb") as file:
        data = file.read(openpgp.MAX_KEY_SIZE + 1)
    if not data:
        return None
    try:
        keys = openpgp.parse_keys(data)
    except RktError as error:
        raise RktError(f"trusted key {path} cannot be used") from error
    if len(keys) != 1 or keys[0].fingerprint != os.path.basename(path):
        raise RktError(f"trusted key {path} cannot be used: it does not hold the key it is named by")
    return keys[0]
