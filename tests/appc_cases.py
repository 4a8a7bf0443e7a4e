"""One adapter from the shared cases of the specification to the product's own types.

``verdict(kind, input)`` gives ``(valid, value)``: ``value`` is the accepted input as it is printed again
(the ``expect`` of a case), None where the input is refused.  A value that can be read but not be printed
again, as one without a name, gives ``"$marshalError"``.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from typing import Any

from rkt.appc import annotations as annotation_list
from rkt.appc import (
    date,
    decode,
    digest,
    discovery,
    environment,
    flags,
    gojson,
    identifiers,
    kind,
    labels,
    lastditch,
    rendering,
    url,
    uuid,
    version,
)
from rkt.appc import isolators as isolator_list
from rkt.appc.app import App, EventHandler
from rkt.appc.errors import AppcError
from rkt.appc.image import Dependency, ImageManifest
from rkt.appc.isolator_values import CapabilitySet, Resource
from rkt.appc.isolators import Isolator
from rkt.appc.pod import PodManifest, RuntimeApp, RuntimeImage
from rkt.appc.port import ExposedPort, Port
from rkt.appc.quantity import NANO, Quantity
from rkt.appc.volume import Mount, MountPoint, Volume
from rkt.errors import RktError
from rkt.linux import mountinfo
from rkt.store import archive, compression, layout

MARSHAL_ERROR = "$marshalError"


def verdict(kind: str, input: Any) -> tuple[bool, Any]:
    """Whether the product accepts the input, and the value it keeps of it."""
    try:
        return True, _EXAMINERS[kind](input)
    except RktError:
        return False, None


def fault(kind: str, input: Any) -> str:
    """The words with which the product refuses the input."""
    try:
        _EXAMINERS[kind](input)
    except RktError as error:
        return str(error)
    raise AssertionError(f"{kind} {input!r} is not refused")


def _json(decoder: Callable[[Any], Any], encode: Callable[[Any], Any] | None = None) -> Callable[[Any], Any]:
    """Read with ``decoder``, print with ``encode`` (default: as it is) and read the print as plain JSON."""

    def examine(input: Any) -> Any:
        made = decoder(decode.document(input) if isinstance(input, str) else input)
        if encode is None:
            return made
        return _printed(lambda: encode(made))

    return examine


def _printed(encode: Callable[[], Any]) -> Any:
    try:
        return gojson.loads(gojson.dumps(encode()))
    except AppcError:
        return MARSHAL_ERROR


def _record(cls: Any) -> Callable[[Any], Any]:
    return _json(cls.from_value, lambda made: made.to_value())


def _with_text(check: Callable[[str], Any]) -> Callable[[Any], Any]:
    def examine(input: Any) -> Any:
        made = check(input)
        return input if made is None else made

    return examine


def _app(input: str) -> Any:
    app = App.from_value(decode.document(input))
    value = _printed(app.to_value)
    # an app read without an environment has an empty one, which is not printed
    return {"environment": [], **value} if isinstance(value, dict) else value


def _isolator(input: str) -> Any:
    isolator = Isolator.from_value(decode.document(input))
    return _isolator_value(isolator)


def _isolator_value(isolator: Isolator) -> Any:
    value = isolator.value
    if value is None:
        return decode.plain(isolator.raw)
    return value.to_value() if hasattr(value, "to_value") else value


def _isolators_get(input: str) -> Any:
    request = gojson.loads(input)
    isolator = isolator_list.get(isolator_list.decode(request["isolators"]), request["get"])
    made: dict[str, Any] = {"wlimit": 0, "wrequest": 0, "wset": None, "wprivs": False, "wsysctl": None}
    if isolator is None:
        return None
    value = isolator.value
    if isinstance(value, Resource):
        measure = Quantity.milli_value if isolator.name == isolator_list.CPU else Quantity.value
        made["wlimit"] = measure(value.limit) if value.limit else 0
        made["wrequest"] = measure(value.request) if value.request else 0
    elif isinstance(value, CapabilitySet):
        made["wset"] = list(value.set)
    elif isinstance(value, bool):
        made["wprivs"] = value
    elif isinstance(value, dict):
        made["wsysctl"] = value
    return made


def _labels(input: str) -> Any:
    made = labels.decode(decode.document(input))
    system, arch, flavour = labels.to_go(labels.get(made, "os"), labels.get(made, "arch"))
    return {"goOS": system, "goArch": arch, "goArchFlavor": flavour}


def _annotations_get(input: str) -> Any:
    request = gojson.loads(input)
    value = annotation_list.get(annotation_list.decode(request["annotations"]), request["get"])
    if value is None:
        raise AppcError(f'no annotation of name "{request["get"]}"')
    return value


def _annotations_set(input: str) -> Any:
    made: list[annotation_list.Annotation] = []
    for name, value in gojson.loads(input):
        annotation_list.put(made, name, value)
    return annotation_list.encode(made)


def _volume_flag(input: str) -> Any:
    volume = Volume.from_flag(input)
    return {"volume": volume.to_value(), "string": str(volume)}


def _mount_point_flag(input: str) -> Any:
    point = MountPoint.from_flag(input)
    return {"name": point.name, "path": point.path, "readOnly": point.read_only}


def _image_name(name: discovery.ImageName) -> Any:
    return {"name": name.name, "labels": dict(name.labels)}


def _round_trip(input: str) -> Any:
    request = gojson.loads(input)
    name = discovery.ImageName(request["name"], request["labels"])
    return _image_name(discovery.ImageName.parse(str(name)))


def discovered(input: Any) -> dict[str, Any]:
    """What meta discovery finds in the pages of a case."""
    name = discovery.ImageName(input["name"], input["labels"])

    def get(address: str) -> tuple[int, str]:
        path = address.removeprefix("https://").removesuffix("?ac-discovery=1")
        page = input["pages"].get(path[path.find("/") :] if "/" in path else "")
        return (404, "") if page is None else (200, page)

    endpoints, _ = discovery.find_endpoints(name, get)
    keys, _ = discovery.find_public_keys(name, get)
    return {
        "endpoints": [{"ACI": found.aci, "ASC": found.asc} for found in endpoints] or None,
        "publicKeys": keys or None,
        "endpointsOK": bool(endpoints),
        "publicKeysOK": bool(keys),
    }


def _discovery_endpoints(input: Any) -> Any:
    result = discovered(input)
    if not result["endpointsOK"]:
        raise AppcError("discovery failed")
    return result


def _discovery_http(input: Any) -> Any:
    def get(address: str) -> tuple[int, str]:
        if input["httpsOK" if address.startswith("https:") else "httpOK"]:
            return 200, ""
        if input["failWithCode"]:
            return input["failWithCode"], ""
        raise ConnectionRefusedError(111, "connection refused")

    address, _ = discovery.fetch_page(input["name"], get, insecure_http=input["insecure"] in ("http", "both"))
    return {"url": address}


def _image_id(name: str) -> str:
    return f"sha512-{name.encode().hex()}"


def _render(input: Any) -> Any:
    images = {}
    for image in input["images"]:
        manifest = dict(image["manifest"])
        manifest["dependencies"] = [
            {**dependency, "imageID": _image_id(dependency["imageID"][1:])}
            for dependency in manifest.get("dependencies", [])
        ]
        images[_image_id(image["name"])] = (ImageManifest.from_value(manifest), image["entries"])
    if isinstance(input["render"], str):
        layers = rendering.flatten(
            _image_id(input["render"]),
            lambda key: images[key][0],
            lambda dependency: dependency.image_id or _image_id(dependency.image_name),
        )
    else:
        layers = [
            rendering.Layer(
                _image_id(item["name"]), item["level"], images[_image_id(item["name"])][0].path_whitelist
            )
            for item in input["render"]
        ]
    chosen = rendering.select(
        layers, lambda key: ((entry["path"], entry["type"] == "5") for entry in images[key][1])
    )
    made = [{"path": "manifest", "mode": 0o644, "size": 0, "type": "0"}] if "manifest" in chosen[0] else []
    for layer, names in zip(layers, chosen, strict=True):
        made.extend(
            {name: entry[name] for name in ("path", "mode", "size", "type")}
            for entry in images[layer.key][1]
            if entry["path"] in names
        )
    return sorted(made, key=lambda entry: entry["path"])


def _upper_whitelist(input: Any) -> Any:
    layers = [
        rendering.Layer(image["name"], image["level"], image["pathWhitelist"]) for image in input["images"]
    ]
    return list(rendering.upper_whitelist(layers, input["pos"]))


def _mount(input: Any) -> Any:
    found = [mount for mount in mountinfo.parse(input["mountinfo"]) if mount.target == input["mountPoint"]]
    return {"mounted": bool(found), "readOnly": bool(found) and found[-1].read_only}


_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "none": bytes,
}


def _tar(files: dict[str, str], directories: list[str] | None = None) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in directories or []:
            header = tarfile.TarInfo(name)
            header.type = tarfile.DIRTYPE
            header.mode = 0o755
            tar.addfile(header)
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content.encode())
            tar.addfile(header, io.BytesIO(content.encode()))
    return made.getvalue()


def _manifest_of(image: bytes) -> ImageManifest:
    for entry in (reader := archive.Reader(compression.open_reader(io.BytesIO(image)))):
        if entry.name.removeprefix("./") == "manifest":
            return ImageManifest.decode(reader.read())
    raise AppcError("the image has no manifest")


def _aci_manifest(input: Any) -> Any:
    content = _tar({file["path"]: file["content"] for file in input["tar"]})
    manifest = _manifest_of(_COMPRESS[input.get("compression") or "none"](content))
    return {"name": manifest.name}


def _aci_layout(input: Any) -> Any:
    """A directory as an image: its archive must be one, and its manifest must be good."""
    content = _tar(input["files"], input["dirs"])
    reader = archive.Reader(compression.open_reader(io.BytesIO(content)))
    image = layout.ImageLayout()
    for entry in reader:
        image.check_entry(entry, reader)
    return {"name": ImageManifest.decode(image.finish()).name}


_MANIFEST = '{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/app"}'


def _aci_filetype(input: Any) -> Any:
    content = _tar({"manifest": _MANIFEST}, ["rootfs"])
    if "text manifest" in input["of"]:
        reader = archive.Reader(compression.open_reader(io.BytesIO(content)))
        next(entry for entry in reader if entry.name == "manifest")
        return compression.detect(reader.read(512))
    plain = compression.open_reader(io.BytesIO(gzip.compress(content)))
    return compression.detect(plain.read(512))


def _quantity(input: str) -> Any:
    quantity = Quantity.parse(input)
    return {"canonical": quantity.canonical(), "decimal": quantity.decimal(), "format": quantity.format}


def _quantity_round_up(input: Any) -> Any:
    rounded, exact = Quantity.parse(input["in"]).round_up(input["scale"])
    return {"decimal": rounded.decimal(), "exact": exact}


def _quantity_compare(input: Any) -> Any:
    first, second = Quantity.parse(input["x"]), Quantity.parse(input["y"])
    return (first > second) - (first < second)


def _quantity_split(input: str) -> Any:
    from rkt.appc import quantity

    positive, value, whole, fraction, suffix = quantity.split(input)
    return {"positive": positive, "value": value, "num": whole, "denom": fraction, "suffix": suffix}


def _quantity_scaled(input: Any) -> Any:
    return Quantity(
        NANO * 10 ** input["fromScale"] if input["fromScale"] > 0 else NANO // 10 ** -input["fromScale"]
    ).scaled(input["toScale"])


_EXAMINERS: dict[str, Callable[[Any], Any]] = {
    "ACIdentifier": identifiers.check_identifier,
    "ACIdentifier-json": _json(identifiers.decode_identifier),
    "ACIdentifier-sanitize": identifiers.sanitize_identifier,
    "ACName": identifiers.check_name,
    "ACName-json": _json(identifiers.decode_name),
    "ACName-sanitize": identifiers.sanitize_name,
    "ACKind": kind.check,
    "ACKind-json": _json(kind.decode),
    "SemVer": version.normalise,
    "SemVer-json": _json(version.decode),
    "Date": lambda text: str(date.parse(text)),
    "Date-json": _json(lambda value: date.decode(value).words()),
    "Hash": digest.check,
    "Hash-json": _json(digest.decode),
    "UUID": uuid.parse,
    "UUID-json": _json(uuid.decode),
    "URL": url.parse,
    "URL-json": _json(url.decode),
    "Annotations": _json(annotation_list.decode, annotation_list.encode),
    "Annotations-get": _annotations_get,
    "Annotations-set": _annotations_set,
    "Environment": _json(environment.decode, environment.encode),
    "Exec": _json(decode.strings, decode.encoded),
    "EventHandler": _record(EventHandler),
    "Labels": _labels,
    "Labels-json": _json(labels.decode, labels.encode),
    "Labels-from-map": lambda text: labels.encode(labels.from_map(decode.string_map(decode.document(text)))),
    "App": _app,
    "Isolator": _isolator,
    "Isolators": _json(isolator_list.decode, isolator_list.encode),
    "Isolators-get": _isolators_get,
    "Isolators-unrecognized": lambda text: [
        isolator.name for isolator in isolator_list.unrecognized(isolator_list.decode(decode.document(text)))
    ],
    "MountPoint": _record(MountPoint),
    "MountPoint-flag-parse": _mount_point_flag,
    "Volume": _record(Volume),
    "Volume-flag-parse": _volume_flag,
    "Mount": _record(Mount),
    "Mount-flag-parse": lambda text: Mount.from_flag(text).to_value(),
    "Port": _record(Port),
    "Port-flag-parse": lambda text: Port.from_flag(text).to_value(),
    "ExposedPort": _record(ExposedPort),
    "Dependency": _record(Dependency),
    "Dependencies": _json(decode.items(Dependency.from_value), decode.encoded),
    "ImageManifest": _record(ImageManifest),
    "PodManifest": _record(PodManifest),
    "RuntimeApp": _record(RuntimeApp),
    "RuntimeImage": _record(RuntimeImage),
    "QueryString": flags.query_string,
    "LastditchImageManifest": lambda text: lastditch.ImageManifest.decode(text).to_value(),
    "LastditchPodManifest": lambda text: lastditch.PodManifest.decode(text).to_value(),
    "Discovery-parse": lambda text: _image_name(discovery.ImageName.parse(text)),
    "Discovery-app-roundtrip": _round_trip,
    "Discovery-endpoints": _discovery_endpoints,
    "Discovery-http": _discovery_http,
    "Render": _render,
    "Render-upper-whitelist": _upper_whitelist,
    "Mountinfo-parse": _mount,
    "ACI-manifest": _aci_manifest,
    "ACI-filetype": _aci_filetype,
    "ACI-layout": _aci_layout,
    "Quantity": _quantity,
    "Quantity-canonical": lambda text: Quantity.parse(text).canonical(),
    "Quantity-json": _json(lambda value: str(Quantity.from_value(value))),
    "Quantity-roundup": _quantity_round_up,
    "Quantity-cmp": _quantity_compare,
    "Quantity-split": _quantity_split,
    "Quantity-scaled": _quantity_scaled,
}
