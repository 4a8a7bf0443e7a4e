"""A pod on disk: where its files are, which state it is in, what it says about itself.

A pod is a directory and a lock on it, nothing else: its state is derived from the directory it lies in
and from whether somebody holds the lock.  There is no daemon, no database and no lock for all pods.
"""

from __future__ import annotations

from rkt.pod.lookup import find, names, walk
from rkt.pod.pod import Pod, create

__all__ = ["Pod", "create", "find", "names", "walk"]
