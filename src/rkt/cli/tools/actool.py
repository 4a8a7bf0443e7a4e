"""The table of actool, the reference tool of the appc specification."""

from __future__ import annotations

from rkt.cli.options import Option
from rkt.cli.tools.program import CONFIGURATION, Program, command

_OVERWRITE = Option("overwrite", "bool", "false", "overwrite the target file if it exists")
_NO_COMPRESSION = Option("no-compression", "bool", "false", "do not compress the image")

PROGRAM = Program(
    "actool",
    "builds and checks application container images",
    (
        command(
            "build",
            "actool_commands.build",
            "[flags] DIRECTORY OUTPUT.aci",
            "Build an image from an image layout",
            _OVERWRITE,
            _NO_COMPRESSION,
            Option("owner-root", "bool", "false", "everything in the image belongs to root"),
            Option(
                "deterministic",
                "bool",
                "false",
                "the same files give the same image: everything belongs to root, and no time is later than "
                "$SOURCE_DATE_EPOCH, or 1970 without it",
            ),
            description="The directory holds a manifest and a rootfs, and nothing else; both are checked "
            "first. The image is compressed by gzip.",
        ),
        command(
            "cat-manifest",
            "actool_commands.cat_manifest",
            "[--pretty-print] IMAGE.aci",
            "Print the manifest of an image",
            Option("pretty-print", "bool", "false", "print with indentation"),
        ),
        command(
            "discover",
            "actool_commands.discover",
            "[flags] NAME...",
            "Print where images can be downloaded from",
            Option("insecure", "bool", "false", "allow discovery over http"),
            Option("json", "bool", "false", "print JSON"),
            Option("port", "int", "0", "port to connect to instead of that of the scheme"),
            *CONFIGURATION,
            description="A name is NAME[:VERSION][,LABEL=VALUE...]; os and arch are those of this machine "
            "unless given.",
        ),
        command("help", "actool_commands.show_help", "[COMMAND]", "Print help about a command"),
        command(
            "patch-manifest",
            "actool_commands.patch_manifest",
            "[flags] INPUT.aci [OUTPUT.aci]",
            "Copy an image with another manifest",
            _OVERWRITE,
            _NO_COMPRESSION,
            Option("replace", "bool", "false", "replace the input file"),
            Option("manifest", "string", "", "manifest that replaces that of the image"),
            Option("name", "string", "", "name of the image"),
            Option("exec", "string", "", "command of the app, its words separated by blanks"),
            Option("user", "string", "", "user of the app"),
            Option("group", "string", "", "group of the app"),
            Option("supplementary-groups", "string", "", "supplementary groups: GID,..."),
            Option("capability", "string", "", "capabilities to retain: CAP_NAME,..."),
            Option("revoke-capability", "string", "", "capabilities to remove: CAP_NAME,..."),
            Option("mounts", "string", "", "mount points: NAME,path=PATH[,readOnly=true][:NAME,...]"),
            Option("ports", "string", "", "ports: NAME,protocol=tcp,port=NUMBER[,count=N][:NAME,...]"),
            Option("isolators", "string", "", "isolators: resource/cpu,request=50m,limit=100m[:NAME,...]"),
            Option("seccomp-mode", "string", "", "system call filter: retain|remove[,errno=NAME]"),
            Option("seccomp-set", "string", "", "system calls of the filter: NAME,..."),
        ),
        command(
            "validate",
            "actool_commands.validate",
            "[--type=appimage|layout|manifest] FILE...",
            "Check images, layouts or manifests",
            Option(
                "type", "string", "", "what the files are: appimage, layout or manifest; else by their look"
            ),
            description="Says nothing about what is valid, unless with --debug.",
        ),
        command("version", "actool_commands.version", "", "Print the version"),
    ),
    options=(Option("debug", "bool", "false", "print more about what happens to stderr", scope="global"),),
    single_dash=True,
    misuse=2,
)
