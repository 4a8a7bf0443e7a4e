"""The interface between rkt and a stage1 image (docs/stage1-contract.md).

A stage1's manifest maps operations to programs in its own root file system by annotations.  Its version,
1 to 6, says which flags its ``run`` understands; newer flags are left out, with a warning where the
user asked for one.
"""

from __future__ import annotations

import os

from rkt.appc import gojson
from rkt.errors import RktError
from rkt.pod import layout, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.pod.pod import Pod
    from rkt.stage0.records import RunRequest

PREFIX = "coreos.com/rkt/stage1/"
VERSION = PREFIX + "interface-version"
MUTABLE = PREFIX + "mutable"
EXTENSIONS = PREFIX + "extensions"
STRICT_ISOLATORS = "strict-isolators"
"""The extension of a stage1 that heeds RKT_STRICT_ISOLATORS."""

# The version from which on ``run`` has a flag.
_HOSTNAME = 2
_INSECURE = 3
_DNS = 4
_MUTABLE = 5
_GC_CONFIG = 5
_IPC = 6


class Stage1:
    """The stage1 of one pod: its annotations and where its root file system is."""

    __slots__ = ("annotations", "pod", "version")

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.annotations = _annotations(pod)
        text = self.annotations.get(VERSION, "1")
        if not (text.isascii() and text.isdigit()):
            raise RktError(f'stage1 of pod {pod.uuid} has the invalid interface version "{text}"')
        self.version = int(text)

    @property
    def supports_gc_config(self) -> bool:
        """Whether its ``gc`` takes ``--local-config``."""
        return self.version >= _GC_CONFIG

    def entry_point(self, operation: str) -> str:
        """The path of an operation's program inside the stage1's root, RktError when it has none."""
        path = self.annotations.get(PREFIX + operation, "")
        if not path:
            raise RktError(missing(operation))
        return path

    def program(self, operation: str, *, root: str = "") -> str:
        """The path on the host of an operation's program, resolved inside the stage1's root.

        ``root`` is that root, by default where the running pod has it.  A link in the image that is
        absolute, or climbs, is followed inside the image.
        """
        from rkt.linux import paths

        entry = self.entry_point(operation)
        top = root or os.path.join(self.pod.path, layout.STAGE1_ROOT)
        try:
            root_fd = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fd = paths.open_in_root(root_fd, entry, os.O_PATH)
            finally:
                os.close(root_fd)
        except OSError as error:
            raise RktError(f'cannot find the stage1 entry point "{operation}"') from error
        try:
            return os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)

    def nearest_program(self, operation: str) -> str:
        """The path of a program: the pod's own, or the one in the store where the pod's is not mounted."""
        try:
            return self.program(operation)
        except RktError:
            return self.program(operation, root=self.tree_root())

    def tree_root(self) -> str:
        """The root file system to call programs from that need no pod around them.

        With an overlay it is the rendered image in the store: the pod's own mount may be in another
        mount namespace.  A copied stage1, or one whose tree is gone, is used where it is.
        """
        pod = self.pod
        if pod.uses_overlay:
            tree = status.stage1_tree(pod)
            root = os.path.join(pod.data_dir, "cas", "tree", tree, "rootfs")
            if tree and os.path.isdir(root):
                return root
        return os.path.join(pod.path, layout.STAGE1_ROOT)


def check_strict(extensions: str) -> None:
    """RktError for a stage1 that would take ``--strict-isolators`` for nothing; its words of EXTENSIONS."""
    if STRICT_ISOLATORS not in extensions.split(","):
        raise RktError("--strict-isolators is not supported by stage1")


def missing(operation: str) -> str:
    """What to say of a stage1 that has no program for an operation."""
    return f'stage1 has no entry point "{operation}"'


def _annotations(pod: Pod) -> dict[str, str]:
    try:
        manifest = gojson.loads(pod.read(layout.STAGE1_MANIFEST))
        entries = manifest.get("annotations") or []
        return {str(entry["name"]): str(entry["value"]) for entry in entries}
    except (OSError, RktError, AttributeError, KeyError, TypeError) as error:
        raise RktError(f"cannot read the stage1 manifest of pod {pod.uuid}") from error


def run_arguments(
    stage1: Stage1,
    request: RunRequest,
    *,
    private_users: str,
    token: str,
    notify: Callable[[str], None],
) -> list[str]:
    """The flags of ``run`` in the order stage1 images know, the UUID last.

    ``private_users`` is ``SHIFT:COUNT`` or empty, ``token`` the one of the metadata service or empty.
    """
    flags: list[str] = []
    if request.debug:
        flags.append("--debug")
    flags.append(f"--net={request.networks}")
    if request.interactive:
        flags.append("--interactive")
    if private_users:
        flags.append(f"--private-users={private_users}")
    if token:
        flags.append(f"--mds-token={token}")
    if request.local_config:
        flags.append(f"--local-config={request.local_config}")
    if request.hostname:
        if stage1.version >= _HOSTNAME:
            flags.append(f"--hostname={request.hostname}")
        else:
            notify("warning: --hostname option is not supported by stage1")
    dns = request.dns
    if (dns.resolv, dns.hosts) != ("default", "default"):
        if stage1.version >= _DNS:
            flags.append(f"--dns-conf-mode=resolv={dns.resolv},hosts={dns.hosts}")
        else:
            notify("warning: --dns-conf-mode option not supported by stage1")
    flags += _insecure_arguments(stage1, request, notify)
    if _is_mutable(stage1.pod):
        if stage1.version < _MUTABLE:
            raise RktError("stage1 does not support mutable pods")
        flags.append("--mutable")
    if request.ipc:
        if stage1.version >= _IPC:
            flags.append(f"--ipc={request.ipc}")
        else:
            notify("warning: --ipc option is not supported by stage1")
    flags.append(stage1.pod.uuid)
    return flags


def _insecure_arguments(stage1: Stage1, request: RunRequest, notify: Callable[[str], None]) -> list[str]:
    """Protections that are off; an older stage1 keeps them on, which is said only with ``--debug``."""
    flags = [
        flag
        for name, flag in (
            ("capabilities", "--disable-capabilities-restriction"),
            ("paths", "--disable-paths"),
            ("seccomp", "--disable-seccomp"),
        )
        if name in request.insecure
    ]
    if flags and stage1.version < _INSECURE:
        if request.debug:
            notify("warning: --insecure-options for running pods are not supported by stage1")
        return []
    return flags


def _is_mutable(pod: Pod) -> bool:
    for entry in pod.manifest.get("annotations") or []:
        if entry.get("name") == MUTABLE:
            return entry.get("value") in ("1", "t", "T", "true", "TRUE", "True")
    return False
