"""The session keyring (keyrings(7)): a pod must not inherit the caller's keys."""

from __future__ import annotations

import os

from rkt.linux import libc

# Not one number on all architectures: the call is older than the common numbering.
_KEYCTL_NUMBERS = {"x86_64": 250, "aarch64": 219}
_KEYCTL_JOIN_SESSION_KEYRING = 1


def join_session_keyring(name: str | None = None) -> None:
    """Give this process a new session keyring, anonymous or called ``name``.

    A kernel without keyrings has no keys to hide: ENOSYS is no error.
    """
    number = _KEYCTL_NUMBERS.get(os.uname().machine)
    if number is None:
        return
    try:
        libc.check(libc.keyctl(number, _KEYCTL_JOIN_SESSION_KEYRING, libc.encode(name)), "keyctl")
    except OSError as error:
        if error.errno != 38:
            raise
