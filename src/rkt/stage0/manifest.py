"""The pod manifest of a request: image manifests, what the caller changed, and the checks that need no file.

Pure: JSON values in, a ``PodManifest`` out.  The order of everything printed is that of rkt 1.30, whose
manifests other programs compare byte for byte.
"""

from __future__ import annotations

from rkt.appc import environment, identifiers, labels
from rkt.appc.errors import AppcError
from rkt.appc.pod import PodManifest
from rkt.errors import RktError
from rkt.stage0.interface import MUTABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rkt.appc.image import ImageManifest
    from rkt.appc.isolators import Isolator
    from rkt.stage0.records import AppRequest, PrepareRequest

RKT_VERSION = "1.30.0"
# What a pod can be made of: the architectures rkt accepts, which are fewer than the specification's.
ARCHITECTURES = ("amd64", "i386", "aarch64", "aarch64_be", "armv6l", "armv7l", "armv7b", "ppc64le")

_CAPABILITIES = "os/linux/capabilities-"
_SECCOMP = "os/linux/seccomp-"
_STREAMS = "coreos.com/rkt/stage2/"


def check_image(manifest: ImageManifest) -> None:
    """Refuse an image that says not, or says wrongly, which system its programs are for."""
    system = labels.get(manifest.labels, "os")
    arch = labels.get(manifest.labels, "arch")
    if system is None:
        raise RktError("missing os label in the image manifest")
    if arch is None:
        raise RktError("missing arch label in the image manifest")
    if system != "linux":
        raise RktError(f'bad os "{system}" (must be one of: [linux])')
    if arch not in ARCHITECTURES:
        raise RktError(f'bad arch "{arch}" for linux (must be one of: [{" ".join(ARCHITECTURES)}])')


def app_name(request: AppRequest, image: ImageManifest) -> str:
    """The name asked for, else the last part of the image's name made an AC name."""
    if request.name:
        try:
            return identifiers.check_name(request.name)
        except AppcError as error:
            raise RktError("invalid app name format") from error
    try:
        return identifiers.sanitize_name(image.name.rpartition("/")[2])
    except AppcError as error:
        raise RktError("error converting image name to app name") from error


def generate(request: PrepareRequest, images: dict[str, ImageManifest]) -> PodManifest:
    """The manifest of a pod made of images; ``images`` maps the keys of the request to manifests."""
    apps: list[dict[str, Any]] = []
    names: set[str] = set()
    for app in request.apps:
        image = images[app.key]
        check_image(image)
        name = app_name(app, image)
        if name in names:
            raise RktError(f"multiple apps with name {name}")
        names.add(name)
        if image.app is None and not app.executable:
            raise RktError(f"image {app.key} has no app section and --exec argument is not provided")
        apps.append(_runtime_app(request, app, image, name=name))
    value = {
        "acVersion": RKT_VERSION,
        "acKind": "PodManifest",
        "apps": apps,
        "volumes": [volume.to_value() for volume in request.volumes] or None,
        "annotations": [{"name": MUTABLE, "value": "false"}],
        "ports": [port.to_value() for port in request.ports],
    }
    return _checked(value)


def _runtime_app(
    request: PrepareRequest, app: AppRequest, image: ImageManifest, *, name: str
) -> dict[str, Any]:
    value: dict[str, Any] = {
        "name": name,
        "image": image_reference(app.key, image),
        "app": _app(request, app, image),
        "readOnlyRootFS": app.read_only_root_fs,
        "mounts": [mount.to_value() for mount in app.mounts],
    }
    streams = {_STREAMS + stream: mode for stream, mode in app.streams.items()}
    if app.annotations or streams:
        value["annotations"] = _named({**app.annotations, **streams})
    return value


def image_reference(key: str, image: ImageManifest) -> dict[str, Any]:
    """Which image an app is made of: the ``image`` member of a pod manifest."""
    return {"name": image.name, "id": key, "labels": [label.to_value() for label in image.labels]}


def _named(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _app(request: PrepareRequest, app: AppRequest, image: ImageManifest) -> dict[str, Any]:
    """The app section: the image's (or an empty one for root), changed as the caller wants."""
    value: dict[str, Any] = image.app.to_value() if image.app is not None else {"user": "0", "group": "0"}
    if app.executable:
        value["exec"] = [app.executable]
    if app.args:
        value["exec"] = [*(value.get("exec") or []), *app.args]
    for member, changed in (
        ("user", app.user),
        ("group", app.group),
        ("workingDirectory", app.working_directory),
        ("userAnnotations", app.user_annotations),
        ("userLabels", app.user_labels),
    ):
        if changed:
            value[member] = changed
    if app.supplementary_gids is not None:
        value["supplementaryGIDs"] = app.supplementary_gids
    value["environment"] = _environment(value.get("environment") or [], request, app)
    isolators = _isolators(value.get("isolators") or [], app)
    if isolators:
        value["isolators"] = isolators
    else:
        value.pop("isolators", None)
    return value


def _environment(
    variables: list[dict[str, str]], request: PrepareRequest, app: AppRequest
) -> list[dict[str, str]]:
    """Inherited < image < ``--environment`` < ``--set-env-file`` < ``--set-env``; new ones come last."""
    merged = {variable["name"]: variable["value"] for variable in variables}
    for name, value in request.inherited.items():
        merged.setdefault(name, value)
    merged.update(app.environment)
    merged.update(request.environment)
    return _named(merged)


def _isolators(isolators: list[dict[str, Any]], app: AppRequest) -> list[dict[str, Any]]:
    """The image's isolators without those the caller replaces, and the caller's."""
    dropped = {isolator.name for isolator in app.isolators}
    for family in (_CAPABILITIES, _SECCOMP):
        if any(name.startswith(family) for name in dropped):
            dropped |= {isolator["name"] for isolator in isolators if isolator["name"].startswith(family)}
    kept = [isolator for isolator in isolators if isolator["name"] not in dropped]
    return kept + [isolator.to_value() for isolator in app.isolators]


def _checked(value: dict[str, Any]) -> PodManifest:
    """The typed manifest; its port forwards and limits are checked as well."""
    from rkt.network.forwarding import forwarded_ports

    manifest = PodManifest.from_value(value)
    forwarded_ports(manifest)
    _check_limits("pod", manifest.isolators)
    for app in manifest.apps:
        if app.app is not None:
            _check_limits(f'app "{app.name}"', app.app.isolators)
    return manifest


def _check_limits(owner: str, isolators: list[Isolator]) -> None:
    if not isolators:
        return
    from rkt.appc.limits import Limits

    try:
        Limits.of(isolators)
    except AppcError as error:
        raise RktError(f"{owner}: {error.message}") from None


def complete(
    text: bytes, find: Callable[[dict[str, Any]], str], load: Callable[[str], ImageManifest]
) -> tuple[PodManifest, list[str]]:
    """A manifest that the user wrote, and the keys of its images in the order of its apps.

    ``find`` turns an ``image`` member into a key, ``load`` a key into an image manifest.  The result
    names every image by its full key and has the app section of each app: nothing in it can mean
    something else later.
    """
    from rkt.appc import decode

    try:
        value = decode.plain(decode.document(text))
        if not isinstance(value, dict):
            raise AppcError("expected object")
        PodManifest.from_value(value)
    except AppcError as error:
        raise RktError(f"invalid pod manifest: {error.message}") from None
    apps = value.get("apps") or []
    if not apps:
        raise RktError("pod must contain at least one application")
    keys = []
    for app in apps:
        key = _complete_app(app, find, load)
        keys.append(key)
    value.setdefault("acVersion", RKT_VERSION)
    return _checked(value), keys


def _complete_app(
    app: dict[str, Any],
    find: Callable[[dict[str, Any]], str],
    load: Callable[[str], ImageManifest],
) -> str:
    name = app.get("name")
    if not name:
        raise RktError("app without a name in the pod manifest")
    image = app.get("image") or {}
    if not image.get("id") and not image.get("name"):
        raise RktError(f'no image ID for app "{name}"')
    try:
        key = find(image)
        manifest = load(key)
    except RktError as error:
        raise RktError("error getting the image manifest from store") from error
    check_image(manifest)
    app["image"] = image_reference(key, manifest)
    if app.get("app") is None:
        if manifest.app is None:
            raise RktError("no app section in the pod manifest or the image manifest")
        app["app"] = manifest.app.to_value()
    return key


def inheritable(variables: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables an app can be given, and the names of those it cannot: not every name is allowed."""
    kept: dict[str, str] = {}
    refused: list[str] = []
    for name, value in variables.items():
        try:
            environment.check_name(name)
        except AppcError:
            refused.append(name)
            continue
        kept[name] = value
    return kept, refused
