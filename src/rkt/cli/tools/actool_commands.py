"""The commands of actool."""

from __future__ import annotations

import os

from rkt.errors import RktError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.discovery import Endpoint, ImageName
    from rkt.build.patches import Patch
    from rkt.cli.tools.program import ToolCall
    from rkt.store.pack import ImageFile

_EXTENSION = ".aci"


def build(call: ToolCall) -> int:
    if len(call.args) != 2:
        raise RktError("must provide directory and output file")
    directory, output = call.args
    _check_extension(output)
    from rkt.build.layout import LayoutDirectory
    from rkt.store.pack import Rules

    try:
        layout = LayoutDirectory(directory)
    except (RktError, OSError) as error:
        raise RktError("layout failed validation") from error
    rules = Rules(owner_root=call.flags["owner-root"])
    if call.flags["deterministic"]:
        rules = Rules(owner_root=True, latest=_epoch())
    with layout, _target(call, output, "target file exists (try --overwrite)") as image:
        call.debug(f"image ID: {layout.write(image, rules)}")
    return 0


def _epoch() -> int:
    """The time of reproducible builds (reproducible-builds.org, SOURCE_DATE_EPOCH) in nanoseconds."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise RktError(f'SOURCE_DATE_EPOCH is no number of seconds: "{text}"')
    return int(text) * 1_000_000_000


def _check_extension(path: str) -> None:
    extension = os.path.splitext(path)[1]
    if extension != _EXTENSION:
        raise RktError(f"extension must be {_EXTENSION} (given {extension})")


def _target(call: ToolCall, path: str, exists: str, *, overwrite: bool = False) -> ImageFile:
    from rkt.store.pack import ImageFile

    return ImageFile(
        path,
        overwrite=overwrite or call.flags["overwrite"],
        exists=exists,
        compress=not call.flags["no-compression"],
    )


def cat_manifest(call: ToolCall) -> int:
    if len(call.args) != 1:
        raise RktError("must provide one file")
    from rkt.appc.image import ImageManifest
    from rkt.build import images

    data = images.read_manifest(call.args[0])
    manifest = ImageManifest.decode(data)
    if call.flags["pretty-print"]:
        call.print(manifest.encode("    "))
    else:
        call.print(data.decode("utf-8", "surrogateescape"))
    return 0


def patch_manifest(call: ToolCall) -> int:
    flags = call.flags
    if flags["replace"] and flags["overwrite"]:
        raise RktError("cannot use both --replace and --overwrite")
    if flags["replace"] and len(call.args) != 1:
        raise RktError("must provide one file")
    if not flags["replace"] and len(call.args) != 2:
        raise RktError("must provide input and output files (or use --replace)")
    source, target = call.args[0], call.args[-1]
    if not flags["replace"]:
        _check_extension(target)
    from rkt.appc.image import ImageManifest
    from rkt.build import images

    patch = _patch(call)
    if flags["manifest"] and not patch.is_empty():
        raise RktError("--manifest is incompatible with other manifest editing options")
    given = b""
    if flags["manifest"]:
        with open(flags["manifest"], "rb") as file:
            given = file.read()

    def change(data: bytes) -> str:
        manifest = ImageManifest.decode(given or data)
        patch.apply(manifest)
        return manifest.encode()

    with _target(call, target, "output file exists (try --overwrite)", overwrite=flags["replace"]) as image:
        call.debug(f"image ID: {images.rewrite(source, image, change)}")
    return 0


def _patch(call: ToolCall) -> Patch:
    from rkt.build.patches import Patch

    flags = call.flags
    return Patch(
        name=flags["name"],
        exec=flags["exec"],
        user=flags["user"],
        group=flags["group"],
        supplementary_groups=flags["supplementary-groups"],
        capabilities=flags["capability"],
        revoked=flags["revoke-capability"],
        mounts=flags["mounts"],
        ports=flags["ports"],
        isolators=flags["isolators"],
        seccomp_mode=flags["seccomp-mode"],
        seccomp_set=flags["seccomp-set"],
    )


def validate(call: ToolCall) -> int:
    from rkt.build import images

    if not call.args:
        raise RktError("must pass one or more files")
    kind = call.flags["type"]
    if kind not in ("", images.IMAGE, images.LAYOUT, images.MANIFEST):
        raise RktError(f'unknown type "{kind}": it is appimage, layout or manifest')
    status = 0
    for path in call.args:
        try:
            call.debug(f"{path}: {_check(path, kind)}")
        except _InvalidError as error:
            call.say(f"{path}: {one_line(error)}")
            status = 1
    return status


class _InvalidError(RktError):
    """A file that is not what it should be; the next one is looked at all the same."""

    __slots__ = ()


def _check(path: str, kind: str) -> str:
    """What a file is.  Raises _InvalidError, RktError for one that cannot be looked at."""
    from rkt.build import images
    from rkt.build.layout import LayoutDirectory
    from rkt.image import source

    try:
        found = kind or images.detect(path)
    except OSError as error:
        raise RktError(f"unable to access {path}") from error
    if os.path.isdir(path) and found != images.LAYOUT:
        raise RktError(f"{path} is a directory (wrong --type?)")
    if not found:
        raise RktError(f"{path}: unable to detect file type (try --type)")
    if found == images.LAYOUT:
        try:
            with LayoutDirectory(path):
                return "valid image layout"
        except (RktError, OSError) as error:
            raise _InvalidError("invalid image layout") from error
    if found == images.IMAGE:
        try:
            images.check_image(path)
        except RktError as error:
            raise _InvalidError("error validating") from error
        return "valid app container image"
    with open(source.open_file(path), "rb") as file:
        data = file.read()
    try:
        return f"valid {images.check_manifest(data)}"
    except RktError as error:
        raise _InvalidError("invalid manifest") from error


def discover(call: ToolCall) -> int:
    if not call.args:
        raise RktError("at least one name required")
    from rkt.appc import discovery
    from rkt.image.discovery import PAGE_LIMIT
    from rkt.image.http import Access, Client

    insecure: bool = call.flags["insecure"]
    port: int = call.flags["port"]
    with Client(Access(["http"] if insecure else [], call.config().auth), call.debug) as client:

        def get(address: str) -> tuple[int, str]:
            page = client.get(address, limit=PAGE_LIMIT)
            return page.status, page.text()

        for word in call.args:
            name = _with_defaults(discovery.ImageName.parse(word))
            endpoints, attempts = discovery.find_endpoints(name, get, insecure_http=insecure, port=port)
            for attempt in attempts:
                call.debug(f"discover walk: prefix: {attempt.prefix} error: {attempt.reason}")
            if not endpoints:
                raise RktError(f'discovery of "{word}" failed: {attempts[-1].reason}')
            keys, _ = discovery.find_public_keys(name, get, insecure_http=insecure, port=port)
            _print_found(call, endpoints, keys)
    return 0


def _with_defaults(name: ImageName) -> ImageName:
    """The name with the labels os and arch; unlike rkt, actool has Go's words for them."""
    from rkt.appc import discovery, labels
    from rkt.image.fetch import host_labels

    host = host_labels()
    system, arch, _ = labels.to_go(host["os"], host["arch"])
    return discovery.ImageName(
        name.name, {"os": system or host["os"], "arch": arch or host["arch"], **name.labels}
    )


def _print_found(call: ToolCall, endpoints: list[Endpoint], keys: list[str]) -> None:
    if call.flags["json"]:
        from rkt.appc import gojson

        found = [{"ACI": one.aci, "ASC": one.asc} for one in endpoints]
        call.print(gojson.dumps({"ACIEndpoints": found, "PublicKeys": keys}))
        return
    for one in endpoints:
        call.print(f"ACI: {one.aci}, ASC: {one.asc}")
    if keys:
        call.print("PubKeys: " + ",".join(keys))


def version(call: ToolCall) -> int:
    from rkt.appc import VERSION

    call.print(f"actool version {VERSION}")
    return 0


def show_help(call: ToolCall) -> int:
    from rkt.cli.tools.program import find_command, usage

    found, _ = find_command(call.program, call.args)
    call.print(usage(call.program, found))
    return 0
