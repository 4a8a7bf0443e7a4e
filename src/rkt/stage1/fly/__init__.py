"""The fly flavor: one app in a mount namespace with a root of its own, for agents of the host.

There is no network, PID, UTS or IPC namespace: the app sees the host's, and its /dev, /proc and /sys.
Interface version 5: ``run``, ``enter``, ``gc``, ``stop``.

Who waits
    ``run`` stays as the app's parent.  It cannot execute the app in its own place, as rkt 1.30 did: the
    pod's lock is an open fd of the pod's directory, and an app that held it would hold a door to the
    host's file system.  So the waiting process keeps the lock, passes signals on, ends what the app
    leaves behind, and writes the exit code that rkt 1.30 did not record.  It lives exactly as long as
    the command ``rkt run`` does.  Killed, it takes the app with it (PR_SET_PDEATHSIG).

What confines the app
    Capabilities, seccomp and no_new_privs as for the other flavors, a root that the app cannot leave
    (pivot_root, nothing of the host's tree left mounted beside /dev, /proc and /sys), and the same
    read-only and hidden paths.  An app with access to the host's device nodes, or to processes of the
    same user, is trusted by whoever chose this flavor.
"""

from __future__ import annotations
