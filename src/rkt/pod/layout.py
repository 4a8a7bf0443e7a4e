"""Names of the directories and files of pods (docs/on-disk-format.md).

DATA/pods/STATE/UUID/            0750, flock'd by the pod's processes
    pod                          pod manifest
    pod.lck                      lock for editing the manifest of a mutable pod
    pod-created                  empty; its mtime is when the pod was created
    appsinfo/APP/manifest        image manifest of an app
    appsinfo/APP/treeStoreID     rendered image of an app (overlay only)
    appsinfo/APP/verified        how the app's image was verified when the pod was prepared: METHOD [DETAIL]
    stage1/manifest              image manifest of the stage1
    stage1/rootfs/               the stage1: an overlay's mount point, or a copy
    stage1TreeStoreID            rendered image of the stage1
    overlay-prepared             empty; the pod uses overlays
    overlay/TREE/{upper,work}    the writable layers, below them one directory per app
    private-users-prepared       SHIFT:COUNT of the user namespace
    strict-isolators             empty; the pod runs with all its isolators enforced, or not at all
pid, ppid, net-info.json, ... are written by the stage1 (docs/stage1-contract.md)
"""

from __future__ import annotations

PODS = "pods"
EMBRYO_DIRECTORY = "embryo"
PREPARE_DIRECTORY = "prepare"
PREPARED_DIRECTORY = "prepared"
RUN_DIRECTORY = "run"
EXITED_GARBAGE_DIRECTORY = "exited-garbage"
GARBAGE_DIRECTORY = "garbage"

# Pods only ever move forward in this order, which is why looking in this order cannot miss one.
DIRECTORIES = (
    EMBRYO_DIRECTORY,
    PREPARE_DIRECTORY,
    PREPARED_DIRECTORY,
    RUN_DIRECTORY,
    EXITED_GARBAGE_DIRECTORY,
    GARBAGE_DIRECTORY,
)
# Those a user can name and sees in a list: the first is not yet a pod, the last is no longer one.
LISTED_DIRECTORIES = DIRECTORIES[1:-1]

MANIFEST = "pod"
MANIFEST_LOCK = "pod.lck"
CREATED = "pod-created"
APPS = "appsinfo"
STAGE1_MANIFEST = "stage1/manifest"
STAGE1_ROOT = "stage1/rootfs"
STAGE1_TREE = "stage1TreeStoreID"
STAGE2 = "opt/stage2"
OVERLAY_PREPARED = "overlay-prepared"
OVERLAY = "overlay"
PRIVATE_USERS = "private-users-prepared"
STRICT_ISOLATORS = "strict-isolators"
PID = "pid"
PARENT_PID = "ppid"
NETWORKS = "net-info.json"
CGROUPS = "cgroups"
CGROUP_PREFIX = "machine-rkt"
METADATA_REGISTERED = "mds-registered"
JOURNAL = "var/log/journal"
STATUS = "rkt/status"
SUPERVISOR_STATUS = "rkt/supervisor-status"

DIRECTORY_MODE = 0o750
FILE_MODE = 0o640

_DASHES = (8, 13, 18, 23)
_DIGITS = frozenset("0123456789abcdef")


def is_uuid(name: str) -> bool:
    """Whether a directory entry is a pod's: 36 lower case characters in groups of 8-4-4-4-12."""
    return (
        len(name) == 36
        and all(name[position] == "-" for position in _DASHES)
        and _DIGITS.issuperset(name.replace("-", ""))
        and name.count("-") == len(_DASHES)
    )


def app_manifest(app: str) -> str:
    return f"{APPS}/{app}/manifest"


def app_tree(app: str) -> str:
    return f"{APPS}/{app}/treeStoreID"


def app_verified(app: str) -> str:
    return f"{APPS}/{app}/verified"
