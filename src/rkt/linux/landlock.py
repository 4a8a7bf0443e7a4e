"""Landlock (landlock(7)): a process gives up, for good, all files but those below some directories.

Governed are opening, creating, removing, linking and renaming; what mode, owner, times and attributes a file
has is not, nor is what was open before.  Network ports, abstract sockets and signals to others are given up
as far as the kernel knows how (ABI 4 and 6).
"""

from __future__ import annotations

import os

from rkt.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MINIMUM_ABI = 2
"""Linux 5.19: before, a hard link from one directory to another is refused whatever the rules say."""

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_RULE_PATH_BENEATH = 1
_EXECUTE = 1 << 0
_IOCTL_DEVICE = 1 << 15
# How many rights on files an ABI knows: 13 and then REFER, TRUNCATE, IOCTL_DEV.
_RIGHTS = {2: 14, 3: 15, 4: 15}
_RIGHTS_NOW = 16
_NET_ABI, _SCOPE_ABI = 4, 6
_NET = 0x3  # BIND_TCP, CONNECT_TCP
_SCOPED = 0x3  # ABSTRACT_UNIX_SOCKET, SIGNAL


def abi() -> int:
    """The version of the interface; 0 where the kernel has none, or it is off."""
    return max(0, libc.landlock_create_ruleset(_CREATE_RULESET, None, 0, _VERSION))


def restrict(directories: Iterable[int]) -> bool:
    """From now on this thread reads and writes files below the ``directories`` (fds) only, executes none.

    Needs no_new_privs.  False when the kernel's interface is older than ``MINIMUM_ABI``: nothing is done.
    """
    version = abi()
    if version < MINIMUM_ABI:
        return False
    handled = (1 << _RIGHTS.get(version, _RIGHTS_NOW)) - 1
    net = _NET if version >= _NET_ABI else 0
    scoped = _SCOPED if version >= _SCOPE_ABI else 0
    # An older kernel takes a longer structure whose unknown members are 0.
    attributes = libc.LandlockRuleset(handled, net, scoped)
    size = libc.sizeof(attributes)
    ruleset = libc.landlock_create_ruleset(_CREATE_RULESET, libc.byref(attributes), size, 0)
    libc.check(ruleset, "landlock_create_ruleset")
    try:
        allowed = handled & ~(_EXECUTE | _IOCTL_DEVICE)
        for directory in directories:
            rule = libc.LandlockPath(allowed, directory)
            result = libc.landlock_add_rule(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, libc.byref(rule), 0)
            libc.check(result, "landlock_add_rule")
        libc.check(libc.landlock_restrict_self(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)
    return True
