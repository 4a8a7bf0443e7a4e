"""What a signature of a container image says, and the OpenPGP kind of it.

The payload is the JSON document of containers/image ("Simple signing", signature format): ``critical`` with
the manifest's digest, the reference it was signed as and a type, and nothing else in it, for what is critical
has to be understood; ``optional`` is not looked at.  The OpenPGP kind is a signed message around it
(RFC 4880, section 11.3), which gpgv verifies and unwraps in one run, so that what is read is what was signed.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import process
from rkt.trust import verification

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rkt.trust.openpgp import Key

ATOMIC = "atomic container signature"
COSIGN = "cosign container image signature"
MAX_PAYLOAD = 1 << 20
MAX_MESSAGE = 1 << 20
_SECONDS = 30.0


class Payload:
    """``digest`` of the manifest that was signed, and the ``reference`` it was signed as."""

    __slots__ = ("digest", "reference")

    def __init__(self, digest: str, reference: str) -> None:
        self.digest = digest
        self.reference = reference


def parse(data: bytes, kind: str) -> Payload:
    """Read a payload of the type ``kind``.  Raises RktError for anything that is not understood."""
    from rkt.appc import gojson

    if len(data) > MAX_PAYLOAD:
        raise RktError("the payload of the signature is too large")
    try:
        top = _members(gojson.loads_pairs(data), "payload", ("critical", "optional"))
    except RecursionError:
        raise RktError("the payload of the signature is nested too deeply") from None
    critical = _members(top.get("critical"), "critical", ("type", "image", "identity"))
    image = _members(critical.get("image"), "image", ("docker-manifest-digest",))
    identity = _members(critical.get("identity"), "identity", ("docker-reference",))
    if critical.get("type") != kind:
        raise RktError("the signature is of another type")
    digest, reference = image.get("docker-manifest-digest"), identity.get("docker-reference")
    if not isinstance(digest, str) or not isinstance(reference, str):
        raise RktError("the signature does not say which image it is of")
    return Payload(digest, reference)


def verify(message: bytes, keys: Iterable[Key]) -> tuple[Key, Payload]:
    """The key that made a signed message, and what it says.  Raises RktError unless it is one of these."""
    if len(message) > MAX_MESSAGE:
        raise RktError("openpgp: signature is too large")
    failure = RktError("openpgp: signature made by unknown entity")
    for key in keys:
        try:
            return key, parse(_unwrap(message, key), ATOMIC)
        except RktError as error:
            # Of several reasons, the one that is not about another key says more.
            if "unknown entity" in failure.message:
                failure = error
    raise failure


def _unwrap(message: bytes, key: Key) -> bytes:
    """The text of a signed message, once gpgv has found exactly one good signature of the key on it."""
    fds = [
        verification.memory_file("keyring", key.data),
        verification.memory_file("message", message),
        os.memfd_create("status", os.MFD_CLOEXEC),
    ]
    keyring, signed, status = fds
    try:
        argv = [*verification.command(keyring, status), "--output", "-", f"/proc/self/fd/{signed}"]
        done = process.run(
            argv,
            env=process.CLEAN_ENVIRONMENT,
            pass_fds=(keyring, signed, status),
            timeout=_SECONDS,
            check=False,
        )
        lines = os.pread(status, 1 << 20, 0).decode("utf-8", "replace")
        verification.check_status(lines, key)
        if sum(line.startswith("[GNUPG:] PLAINTEXT ") for line in lines.splitlines()) != 1:
            raise RktError("openpgp: the message does not hold exactly one text")
        return done.stdout
    finally:
        for fd in fds:
            os.close(fd)


def _members(value: object, what: str, known: tuple[str, ...]) -> dict[str, object]:
    """The members of an object, each known and given once."""
    from rkt.appc import gojson

    if not isinstance(value, gojson.Pairs):
        raise RktError(f"the signature's {what} is no object")
    made: dict[str, object] = {}
    for name, item in value:
        if name in made or name not in known:
            raise RktError(f'the signature has the member "{name[:100]}", which is not understood')
        made[name] = item
    return made
