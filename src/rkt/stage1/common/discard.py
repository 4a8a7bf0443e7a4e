"""A pod that could not be started leaves nothing, like any other command that failed.

``rkt run`` makes a pod for this one start and says so in the environment; a pod that was prepared before
stays, exited, as does one that is registered somewhere this code does not know of.
"""

from __future__ import annotations

import os

from rkt.linux import files, mountinfo

VARIABLE = "RKT_DISCARD_ON_FAILURE"
"""Set to 1 by stage0 when the pod was made by the same command that starts it."""

_REGISTERED = "mds-registered"


def wanted() -> bool:
    """Whether the pod is to be removed on failure; the variable goes no further."""
    return os.environ.pop(VARIABLE, "") == "1"


def discard(directory: str) -> None:
    """Remove the pod's directory ``DATA/pods/run/UUID``, in the mount namespace stage0 worked in.

    The caller holds the pod's lock and has taken down what is outside the directory.  The rename comes
    first: whatever happens then, the pod is garbage that any gc removes.  OSError says what stays.
    """
    directory = os.path.abspath(directory)
    states, uuid = os.path.dirname(os.path.dirname(directory)), os.path.basename(directory)
    if os.path.exists(os.path.join(directory, _REGISTERED)):
        return
    garbage = os.path.join(states, "garbage", uuid)
    # The working directory is inside, and so is the program of this process: nothing is imported later.
    from rkt.linux import mount, paths  # noqa: F401

    os.chdir("/")
    os.rename(directory, garbage)
    mountinfo.unmount_below(garbage)
    files.remove_tree(garbage, missing_ok=True)
