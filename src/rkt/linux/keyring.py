"""The session keyring (keyrings(7)): a pod must not inherit the caller's keys."""

from __future__ import annotations

import errno
import os

from rkt.linux import libc

# Not one number on all architectures: the call is older than the common numbering.
_KEYCTL_NUMBERS = {
    "x86_64": 250,
    "aarch64": 219,
    "riscv64": 219,
    "i686": 288,
    "armv7l": 311,
    "ppc64le": 271,
    "s390x": 280,
}
_JOIN_SESSION_KEYRING = 1
_CHOWN = 4
_SETPERM = 5
_SESSION_KEYRING = -3
_POSSESSOR_ONLY = 0x3F000000


def join_session_keyring(name: str | None = None, *, owner: tuple[int, int] = (0, 0)) -> None:
    """Give this process a new session keyring, anonymous or called ``name``, that only its heirs can see.

    It belongs to ``owner`` (user and group): a key of a user that a user namespace does not have does not
    exist there.  A kernel without keyrings has no keys to hide: ENOSYS is no error.
    """
    number = _KEYCTL_NUMBERS.get(os.uname().machine)
    if number is None:
        return
    try:
        libc.check(libc.keyctl(number, _JOIN_SESSION_KEYRING, libc.encode(name)), "keyctl join session")
        permissions = libc.keyctl_numbers(number, _SETPERM, _SESSION_KEYRING, _POSSESSOR_ONLY, 0)
        libc.check(permissions, "keyctl setperm")
        if owner != (0, 0):
            libc.check(libc.keyctl_numbers(number, _CHOWN, _SESSION_KEYRING, *owner), "keyctl chown")
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
