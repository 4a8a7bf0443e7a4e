"""Export: the root file system of an ended pod's app, with its changes, as an image.

The files are an app's, which may have made of them whatever it liked; ``rkt.store.pack`` reads them so that
it does not matter.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import mountinfo, paths
from rkt.pod import layout, state
from rkt.stage0 import overlay, users
from rkt.store import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.pod.pod import Pod

_EXITED = (state.EXITED, state.EXITED_GARBAGE)
_EXISTS = "output ACI file exists (try --overwrite)"


def check(pod: Pod) -> None:
    """RktError unless the pod has ended."""
    if pod.state not in _EXITED:
        raise RktError("pod is not exited. Only exited pods can be exported")


def export(pod: Pod, app: str, output: str, *, overwrite: bool = False) -> None:
    """Write the app's root file system and its image manifest to ``output``, compressed by gzip.

    The file appears complete or not at all.  RktError when it exists (unless ``overwrite``).
    """
    manifest = pod.read(layout.app_manifest(app))
    root = _open_root(pod, app)
    try:
        with pack.ImageFile(output, overwrite=overwrite, exists=_EXISTS) as image:
            shift = users.parse(pod.read_text(layout.PRIVATE_USERS))
            pack.Packer(image.writer, root, pack.Rules(shift=shift)).run()
            image.finish(manifest)
    except OSError as error:
        raise RktError(f"error exporting app {app}") from error
    finally:
        os.close(root)


def _open_root(pod: Pod, app: str) -> int:
    """An fd of the app's root as the app has left it, without what was mounted into it."""
    if pod.uses_overlay:
        tree = pod.read_text(layout.app_tree(app))
        lower = os.path.join(pod.data_dir, "cas", "tree", tree, "rootfs")
        upper = os.path.join(pod.path, layout.OVERLAY, tree, "upper", app)
        if not tree or "/" in tree or not os.path.isdir(lower):
            raise RktError(f'tree "{tree}" of pod {pod.uuid} is not in the store')
        if not os.path.isdir(upper):
            return os.open(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        view = overlay.read_only_view(lower, upper)
        try:
            # An fd of fsmount(2) only names the mount; to list it takes an open directory.
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=view)
        finally:
            os.close(view)
    stage1 = os.path.join(pod.path, layout.STAGE1_ROOT)
    if mountinfo.below(stage1):
        raise RktError(f"pod {pod.uuid} has mounts left over, cannot export it before they are gone")
    root = os.open(stage1, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return paths.open_in_root(root, f"{layout.STAGE2}/{app}/rootfs", os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(root)
