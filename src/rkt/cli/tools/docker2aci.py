"""docker2aci: its table, and the one thing it does."""

from __future__ import annotations

import sys

from rkt.cli.options import Option
from rkt.cli.tools.program import CONFIGURATION, Program, command
from rkt.errors import Context, RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.image import ImageManifest
    from rkt.cli.tools.program import ToolCall

PROGRAM = Program(
    "docker2aci",
    "converts container images into application container images",
    (
        command(
            "",
            "docker2aci.convert",
            "[flags] FILE | docker://[REGISTRY/]NAME[:TAG|@DIGEST]",
            "Convert container images into application container images",
            Option("compression", "string", "gzip", "compression of the images: gzip or none"),
            Option("debug", "bool", "false", "print more about what happens to stderr"),
            Option("experimental-oci", "bool", "false", "accepted for compatibility", hidden=True),
            Option("image", "string", "", "image of the file to be converted: NAME[:TAG]"),
            Option("insecure-allow-http", "bool", "false", "allow unencrypted connections"),
            Option("insecure-skip-verify", "bool", "false", "do not check the certificates of registries"),
            Option("nosquash", "bool", "false", "make an image of each layer"),
            Option("version", "bool", "false", "print the version"),
            *CONFIGURATION,
            description="FILE is an archive of docker save, or an OCI layout (a directory, or an archive of "
            "one). The images are put into the current directory.",
        ),
    ),
    single_dash=True,
    misuse=2,
)


def convert(call: ToolCall) -> int:
    flags = call.flags
    if flags["version"]:
        return _version(call)
    if len(call.args) != 1:
        from rkt.cli.tools.program import usage

        sys.stderr.write(usage(call.program, call.command))
        return call.program.misuse
    if flags["compression"] not in ("gzip", "none"):
        raise RktError(f"unknown compression method: {flags['compression']}")
    if flags["image"] and call.args[0].startswith("docker://"):
        raise RktError("flag -image works only with files")
    from rkt.build.docker2aci import Converter

    insecure = [
        name
        for name, flag in (("tls", "insecure-skip-verify"), ("http", "insecure-allow-http"))
        if flags[flag]
    ]
    converter = Converter(
        squash=not flags["nosquash"],
        compress=flags["compression"] == "gzip",
        insecure=insecure,
        config=call.config,
        notify=call.debug,
    )
    try:
        made = converter.convert(call.args[0], flags["image"])
    except (RktError, OSError) as error:
        raise Context("conversion error") from error
    _print_app(call, made.manifest)
    call.print("\nGenerated ACI(s):\n" + "\n".join(made.paths))
    return 0


def _print_app(call: ToolCall, manifest: ImageManifest) -> None:
    from rkt.cli.output import quote

    app = manifest.app
    if app is None:
        return
    if app.mount_points:
        call.print("\nConverted volumes:")
    for point in app.mount_points:
        read_only = "true" if point.read_only else "false"
        call.print(f"\tname: {quote(point.name)}, path: {quote(point.path)}, readOnly: {read_only}")
    if app.ports:
        call.print("\nConverted ports:")
    for port in app.ports:
        activated = "true" if port.socket_activated else "false"
        call.print(
            f"\tname: {quote(port.name)}, protocol: {quote(port.protocol)}, port: {port.port}, "
            f"count: {port.count}, socketActivated: {activated}"
        )


def _version(call: ToolCall) -> int:
    from rkt import VERSION
    from rkt.appc import VERSION as SPECIFICATION

    call.print(f"docker2aci version {VERSION}\nappc version {SPECIFICATION}")
    return 0
