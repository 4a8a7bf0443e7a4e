"""Prepare: from images in the store to a pod's directory that can be run.

Order: what can be refused is refused before anything is written; then the stage1, the images, the
manifest, the marker files, one synchronisation.  Until the pod leaves the directory ``prepare`` all
of it is rubbish that gc collects; on an error it is removed at once.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux.lock import lock_file
from rkt.pod import layout
from rkt.pod.pod import make_directory
from rkt.stage0 import interface, manifest, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rkt.appc.pod import PodManifest
    from rkt.linux.lock import Lock
    from rkt.pod.pod import Pod
    from rkt.stage0.records import PrepareRequest
    from rkt.store.store import Store

_PREPARE_LOCK = "prepareLock"


class Plan:
    """What will be prepared: the pod manifest, and (app, image key) in its order."""

    __slots__ = ("apps", "manifest")

    def __init__(self, pod_manifest: PodManifest, apps: list[tuple[str, str]]) -> None:
        self.manifest = pod_manifest
        self.apps = apps


def lock(data_dir: str, notify: Callable[[str], None]) -> Lock:
    """The shared lock that keeps ``image gc`` away while trees are rendered but belong to no pod yet."""
    directory = os.path.join(data_dir, "locks")
    make_directory(data_dir, layout.DIRECTORY_MODE)
    make_directory(directory, layout.DIRECTORY_MODE)
    return lock_file(
        os.path.join(directory, _PREPARE_LOCK),
        shared=True,
        mode=layout.FILE_MODE,
        waiting=lambda: notify("waiting for image gc to finish"),
    )


def plan(request: PrepareRequest, store: Store) -> Plan:
    """Everything about a request that can be wrong without looking at a root file system."""
    try:
        return _plan(request, store)
    except RktError as error:
        raise RktError("error setting up stage0") from error


def _plan(request: PrepareRequest, store: Store) -> Plan:
    stage1 = store.manifest(request.stage1)
    if not stage1.annotation(interface.PREFIX + "run"):
        raise RktError(interface.missing("run"))
    if request.strict_isolators:
        interface.check_strict(stage1.annotation(interface.EXTENSIONS) or "")
    if request.pod_manifest is None:
        images = {app.key: store.manifest(app.key) for app in request.apps}
        made = manifest.generate(request, images)
        keys = [app.key for app in request.apps]
    else:
        text = request.pod_manifest
        made, keys = manifest.complete(text, lambda image: _find(store, image), store.manifest)
    if made.ports:
        from rkt.network.forwarding import forwarded_ports

        forwarded_ports(made)
    return Plan(made, [(app.name, key) for app, key in zip(made.apps, keys, strict=True)])


def _find(store: Store, image: dict[str, Any]) -> str:
    """The key that an ``image`` member of a manifest means: its ID, else its name and labels."""
    if image.get("id"):
        return store.resolve(str(image["id"]))
    from rkt.appc import labels

    wanted = labels.decode(image.get("labels"))
    key = store.find(str(image["name"]), wanted)
    if key is None:
        words = " ".join(f"{{{label.name} {label.value}}}" for label in wanted)
        sought = f'name: "{image["name"]}" and labels: [{words}]'
        raise RktError(f"cannot find aci satisfying {sought} in the local store")
    return key


def prepare(pod: Pod, request: PrepareRequest, made: Plan, store: Store) -> None:
    """Fill the directory of a pod that is being prepared; the pod is not moved on."""
    try:
        _prepare(pod, request, made, store)
    except RktError as error:
        raise RktError("error setting up stage0") from error


def _prepare(pod: Pod, request: PrepareRequest, made: Plan, store: Store) -> None:
    shift: tuple[int, int] | None = None
    if request.private_users:
        shift = users.reserve(pod)
    pod.make_directory("stage1")
    pod.write(layout.STAGE1_TREE, store.render(request.stage1))
    pod.write(layout.STAGE1_MANIFEST, store.manifest_bytes(request.stage1))
    if not request.overlay:
        store.extract_rendered(request.stage1, os.path.join(pod.path, "stage1"), shift=shift)
    directories = [layout.APPS]
    pod.make_directory(layout.APPS)
    for app, key in made.apps:
        directories.append(f"{layout.APPS}/{app}")
        _prepare_app(pod, app, key, store=store, overlay=request.overlay, shift=shift)
    pod.write(layout.MANIFEST, made.manifest.encode())
    pod.write(layout.MANIFEST_LOCK, b"", 0o600)
    if request.overlay:
        pod.write(layout.OVERLAY_PREPARED, b"", 0o644)
    if request.strict_isolators:
        pod.write(layout.STRICT_ISOLATORS, b"", 0o644)
    pod.synchronise(*directories, "stage1")


def _prepare_app(
    pod: Pod, app: str, key: str, *, store: Store, overlay: bool, shift: tuple[int, int] | None
) -> None:
    directory = f"{layout.APPS}/{app}"
    pod.make_directory(directory)
    pod.write(layout.app_manifest(app), store.manifest_bytes(key))
    verified = store.verification(key)
    if verified is not None:
        # The pod outlives the image in the store, and what the store knows of it.
        pod.write(layout.app_verified(app), " ".join(verified).strip())
    if overlay:
        try:
            pod.write(layout.app_tree(app), store.render(key))
        except RktError as error:
            raise RktError(f"error preparing image {key} for app {app}") from error
        return
    from rkt.linux import paths
    from rkt.stage0.overlay import app_directory

    root = os.open(os.path.join(pod.path, layout.STAGE1_ROOT), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(app_directory(root, app, users.owner(shift)))
        fd = paths.open_in_root(root, f"{layout.STAGE2}/{app}", os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(root)
    try:
        os.rmdir("rootfs", dir_fd=fd)
        # The directory that was opened is extracted into, whatever its name means by now.
        store.extract_rendered(key, f"/proc/self/fd/{fd}", shift=shift)
    except RktError as error:
        raise RktError(f"error preparing image {key} for app {app}") from error
    finally:
        os.close(fd)


def discard(pod: Pod) -> None:
    """Take back a pod that this process has been preparing or starting: nothing of it stays."""
    from rkt.linux.files import remove_tree
    from rkt.linux.mountinfo import unmount_below

    if pod.directory == layout.RUN_DIRECTORY:
        pod.to_exited_garbage()
    pod.to_garbage()
    unmount_below(pod.path)
    remove_tree(pod.path, missing_ok=True)
