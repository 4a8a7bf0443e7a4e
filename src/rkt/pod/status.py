"""What a pod says about itself: times, process, networks, exit codes, and its JSON form.

Everything is read from files through the pod's open directory.  Nothing is loaded that touches the
kernel's newer calls: ``list`` of a thousand pods must stay cheap and must never wait.
"""

from __future__ import annotations

import os
import stat

from rkt.errors import RktError
from rkt.pod import layout, state
from rkt.pod.pod import read_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.pod.pod import Pod

_STATUS_LIMIT = 64
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_APP_STATES = {
    state.EMBRYO: "unknown",
    state.PREPARING: "unknown",
    state.ABORTED_PREPARE: "unknown",
    state.PREPARED: "created",
    state.RUNNING: "running",
}


def created_ns(pod: Pod) -> int | None:
    """When the pod was created, in nanoseconds; None when nothing tells."""
    return _first_mtime(pod, layout.CREATED, layout.MANIFEST)


def started_ns(pod: Pod) -> int | None:
    """When the stage1 said that it has a process, in nanoseconds; None before."""
    return _first_mtime(pod, layout.PID, layout.PARENT_PID)


def _first_mtime(pod: Pod, *names: str) -> int | None:
    for name in names:
        try:
            return os.stat(name, dir_fd=pod.fd, follow_symlinks=False).st_mtime_ns
        except FileNotFoundError:
            continue
    return None


def marked_ns(pod: Pod) -> int | None:
    """When gc has marked an exited pod: the change time of its directory, set by the rename."""
    if pod.directory != layout.EXITED_GARBAGE_DIRECTORY:
        return None
    return os.fstat(pod.fd).st_ctime_ns


def pid(pod: Pod) -> int | None:
    """The number in ``pid``, else the one in ``ppid`` as it is; None when there is no such file yet."""
    for name in (layout.PID, layout.PARENT_PID):
        text = pod.read_text(name)
        if text.isascii() and text.isdigit():
            return int(text)
    return None


def networks(pod: Pod) -> list[dict[str, Any]]:
    """The networks a running or exited pod has joined, as its stage1 wrote them; empty otherwise."""
    if pod.state not in (state.RUNNING, state.EXITED):
        return []
    from rkt.appc import gojson

    try:
        value = gojson.loads(pod.read(layout.NETWORKS))
    except FileNotFoundError:
        return []
    except RktError as error:
        raise RktError(f"pod {pod.uuid} has invalid network information") from error
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def format_networks(entries: list[dict[str, Any]]) -> str:
    """``default:ip4=172.16.28.2, other:ip4=10.1.1.2``; a network with IPv6 has another one with ``ip6=``.

    As in rkt 1.30, a network that gave no address has an empty ``ip4=``.
    """
    words = []
    for entry in entries:
        name, ip4, ip6 = (str(entry.get(key) or "") for key in ("netName", "ip", "ip6"))
        if ip4 or not ip6:
            words.append(f"{name}:ip4={ip4}")
        if ip6:
            words.append(f"{name}:ip6={ip6}")
    return ", ".join(words)


def apps(pod: Pod) -> list[dict[str, Any]]:
    """The apps of the pod manifest as plain JSON values; empty before there is one."""
    entries = pod.manifest.get("apps") or []
    return [entry for entry in entries if isinstance(entry, dict)]


def image_of(pod: Pod, app: dict[str, Any]) -> tuple[str, str]:
    """Name with version, and ID, of an app's image: ``example.com/www:1`` or ``--`` when unreadable."""
    image = app.get("image") or {}
    key = str(image.get("id") or "")
    name, labels = image.get("name"), image.get("labels")
    if not name:
        from rkt.appc import gojson

        try:
            manifest = gojson.loads(pod.read(layout.app_manifest(str(app.get("name", "")))))
        except (OSError, RktError):
            return "--", key
        name, labels = manifest.get("name"), manifest.get("labels")
        if not name:
            return "--", key
    for label in labels or []:
        if label.get("name") == "version" and label.get("value"):
            return f"{name}:{label['value']}", key
    return str(name), key


def verification(pod: Pod, app: str) -> tuple[str, str]:
    """How an app's image had been verified when the pod was prepared: method and digest or key.

    The methods are those of the store (``rkt image list --fields=verified``); ``unknown`` without a record.
    """
    text = "" if "/" in app else pod.read_text(layout.app_verified(app))
    method, _, detail = text.partition(" ")
    return method or "unknown", detail


def exit_code(pod: Pod, app: str) -> int | None:
    """The exit code the stage1 has recorded for an app; None when there is none.

    The status directory belongs to the stage1's root file system: each part of the path is opened
    without following links.  With an overlay it is read from the writable layer, which works from
    any mount namespace and after a reboot.
    """
    if not app or "/" in app:
        return None
    try:
        text = _read_below(pod, f"{stage1_files(pod)}/{layout.STATUS}/{app}").decode().strip()
        return int(text)
    except (OSError, RktError, ValueError):
        return None


def is_ready(pod: Pod) -> bool:
    """Whether the stage1 has reported that the pod's apps were started (``rkt/supervisor-status``)."""
    directory, name = os.path.split(f"{stage1_files(pod)}/{layout.SUPERVISOR_STATUS}")
    try:
        fd = _open_below(pod, directory, _DIRECTORY)
    except OSError:
        return False
    try:
        return os.readlink(name, dir_fd=fd) == "ready"
    except OSError:
        return False
    finally:
        os.close(fd)


def stage1_files(pod: Pod) -> str:
    """Where the files are that the stage1 has written, below the pod's directory, mounted or not."""
    if pod.uses_overlay:
        return f"{layout.OVERLAY}/{stage1_tree(pod)}/upper"
    return layout.STAGE1_ROOT


def stage1_tree(pod: Pod) -> str:
    """The tree of the pod's stage1 in the store, empty when there is no record of it."""
    tree = pod.read_text(layout.STAGE1_TREE)
    return "" if "/" in tree else tree


def _open_below(pod: Pod, path: str, flags: int) -> int:
    """Open a path below the pod's directory, following no link on the way."""
    *directories, name = path.split("/")
    fd = os.dup(pod.fd)
    try:
        for directory in directories:
            child = os.open(directory, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = child
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    finally:
        os.close(fd)


def _read_below(pod: Pod, path: str) -> bytes:
    fd = _open_below(pod, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        return read_regular(fd, _STATUS_LIMIT, path)
    finally:
        os.close(fd)


def describe(pod: Pod) -> dict[str, Any]:
    """The pod as the JSON object of ``list`` and ``status``: rkt's field order, empty fields left out."""
    created, started, marked = created_ns(pod), started_ns(pod), marked_ns(pod)
    entries = apps(pod)
    value: dict[str, Any] = {"name": pod.uuid, "state": pod.state}
    found = networks(pod)
    if found:
        value["networks"] = found
    if entries:
        value["app_names"] = [str(app.get("name", "")) for app in entries]
        times = (created, started, marked)
        volumes = {volume.get("name"): volume for volume in pod.manifest.get("volumes") or []}
        value["apps"] = [_describe_app(pod, app, volumes, times) for app in entries]
    if created is not None:
        value["created_at"] = created // 1_000_000_000
    if started is not None:
        value["started_at"] = started // 1_000_000_000
    _add_user_values(value, pod.manifest)
    return value


def _describe_app(
    pod: Pod,
    app: dict[str, Any],
    volumes: dict[Any, dict[str, Any]],
    times: tuple[int | None, int | None, int | None],
) -> dict[str, Any]:
    """One app, by the rules for immutable pods: the pod's state is the app's, unless it has an exit code."""
    name = str(app.get("name", ""))
    code = exit_code(pod, name)
    value: dict[str, Any] = {
        "name": name,
        "state": "exited" if code is not None else _APP_STATES.get(pod.state, "exited"),
    }
    for member, moment in zip(("created_at", "started_at", "finished_at"), times, strict=True):
        if moment is not None:
            value[member] = moment
    if code is not None:
        value["exit_code"] = code
    value["image_id"] = str((app.get("image") or {}).get("id") or "")
    mounts = [_describe_mount(mount, volumes) for mount in app.get("mounts") or []]
    if mounts:
        value["mounts"] = mounts
    _add_user_values(value, app.get("app") or {})
    return value


def _describe_mount(mount: dict[str, Any], volumes: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    volume = mount.get("appVolume") or volumes.get(mount.get("volume")) or {}
    return {
        "name": mount.get("volume", ""),
        "container_path": mount.get("path", ""),
        "host_path": volume.get("source", ""),
        "read_only": bool(volume.get("readOnly")),
    }


def _add_user_values(value: dict[str, Any], manifest: dict[str, Any]) -> None:
    for member, source in (("user_annotations", "userAnnotations"), ("user_labels", "userLabels")):
        entries = manifest.get(source)
        if entries:
            value[member] = dict(sorted(entries.items()))
