"""The table of acbuild, which builds images in steps."""

from __future__ import annotations

from rkt.cli.options import Command, Option
from rkt.cli.tools.program import CONFIGURATION, Program, command

_EXECUTE = "acbuild_calls.execute"
_STORE = Option(
    "store",
    "directory",
    "",
    "data directory of rkt whose store is used; the build has its own without it",
    completes="directory",
)
_PRETTY = Option("pretty-print", "bool", "false", "print with indentation")


def _step(path: str, usage: str, summary: str, *options: Option, description: str = "") -> Command:
    return command(path, _EXECUTE, usage, summary, *options, description=description)


PROGRAM = Program(
    "acbuild",
    "builds application container images in steps",
    (
        _step("annotation add", "NAME VALUE", "Add an annotation"),
        _step("annotation remove", "NAME", "Remove an annotation"),
        _step(
            "begin",
            "[flags] [START]",
            "Begin a build",
            Option("build-mode", "string", "appc", "kind of image to build: appc"),
            Option("insecure", "bool", "false", "fetch over http, and what nobody signed"),
            _STORE,
            description="START is a directory, an archive of a root file system or an image; if its path "
            'begins with ".", "~" or "/", else the name of an image to be fetched: an appc name, '
            "docker://NAME. Without it the image is empty.",
        ),
        _step("cat-manifest", "[--pretty-print]", "Print the manifest", _PRETTY),
        _step(
            "copy",
            "SOURCE PATH",
            "Copy a file or directory into the image",
            description="PATH is that of the copy. A directory is copied with all in it; what is in a "
            "directory of that name already stays.",
        ),
        _step(
            "copy-to-dir", "SOURCE... DIRECTORY", "Copy files or directories into a directory of the image"
        ),
        _step(
            "dependency add",
            "NAME[:VERSION][,LABEL=VALUE...]",
            "Add a dependency",
            Option("image-id", "string", "", "ID of the image"),
            Option("label", "list", "", "label LABEL=VALUE of the image; may be repeated"),
            Option("size", "string", "", "size of the image in bytes"),
        ),
        _step("dependency remove", "NAME", "Remove a dependency"),
        _step("end", "", "End the build and drop what it has made"),
        _step("environment add", "NAME VALUE", "Add an environment variable"),
        _step("environment remove", "NAME", "Remove an environment variable"),
        _step("gen-man-pages", "DIRECTORY", "Write manual pages into a directory"),
        _step("help", "[COMMAND]", "Print help about a command"),
        _step("isolator add", "NAME FILE|-", "Add an isolator, its value JSON from a file or standard input"),
        _step("isolator remove", "NAME", "Remove an isolator"),
        _step("label add", "NAME VALUE", "Add a label"),
        _step("label remove", "NAME", "Remove a label"),
        _step("layer", "", "Begin a new layer (for OCI images only)"),
        _step(
            "mount add",
            "NAME PATH",
            "Add a mount point",
            Option("read-only", "bool", "false", "the app only reads there"),
        ),
        _step("mount remove", "NAME|PATH", "Remove a mount point"),
        _step(
            "port add",
            "NAME PROTOCOL PORT",
            "Add a port",
            Option("count", "string", "1", "number of ports from PORT on"),
            Option("socket-activated", "bool", "false", "the app is given the socket when it starts"),
        ),
        _step("port remove", "NAME|PORT", "Remove a port"),
        _step("replace-manifest", "FILE", "Replace the manifest by another"),
        _step(
            "run",
            "[flags] -- COMMAND [ARGUMENT...]",
            "Run a command in the image and keep what it changes",
            Option(
                "engine", "string", "systemd-nspawn", "what confines the command: systemd-nspawn or chroot"
            ),
            Option("insecure", "bool", "false", "fetch dependencies over http, and what nobody signed"),
            _STORE,
            Option("working-dir", "string", "", "working directory of the command"),
            description="Exits with the exit code of the command. The network is the host's.",
        ),
        _step(
            "script",
            "FILE",
            "Run the commands of a file",
            description="One command a line, without the word acbuild, in a build of its own.",
        ),
        _step("set-event-handler", "pre-start|post-stop -- COMMAND [ARGUMENT...]", "Set an event handler"),
        _step("set-exec", "-- COMMAND [ARGUMENT...]", "Set the command of the app"),
        _step("set-group", "GROUP", "Set the group of the app"),
        _step("set-name", "NAME", "Set the name of the image"),
        _step("set-supp-groups", "GID...", "Set the supplementary groups of the app"),
        _step("set-tag", "TAG", "Set the tag of the image (for OCI images only)"),
        _step("set-user", "USER", "Set the user of the app"),
        _step("set-working-directory", "DIRECTORY", "Set the working directory of the app"),
        _step("version", "", "Print the version"),
        _step(
            "write",
            "[--overwrite] FILE",
            "Write the image to a file and print its ID",
            Option("overwrite", "bool", "false", "replace the file if it exists"),
            Option("insecure", "bool", "false", "fetch dependencies over http, and what nobody signed"),
            _STORE,
        ),
    ),
    options=(
        Option("debug", "bool", "false", "print more about what happens to stderr", scope="global"),
        Option("modify-appc", "string", "", "image file to be changed by this one command", scope="global"),
        Option("modify-oci", "string", "", "accepted for compatibility", scope="global", hidden=True),
        Option(
            "modify", "string", "", "", scope="global", alias="modify-appc", deprecated="use --modify-appc"
        ),
        Option("no-history", "bool", "false", "add no annotation that tells the command", scope="global"),
        Option("work-path", "string", ".", "directory of the build", scope="global", completes="directory"),
        *CONFIGURATION,
    ),
    aliases={
        "rm": "remove",
        "volume": "mount",
        "set-eh": "set-event-handler",
        "set-wd": "set-working-directory",
    },
)
