"""The command table: which commands exist, and the records their options are written in.

``COMMANDS`` is the index: one line a command, cheap enough for every start.  The full tables live in one
module per family (``rkt.cli.options_<family>``) and are imported only for the command at hand, for help on
it, and for the completion script.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Option:
    """One flag.

    ``kind`` names the converter in ``rkt.cli.values``; ``default`` is the default as text, as help prints it.
    ``scope``: "command"; "global" for every command; "app" binds to the preceding image; "either" is for all
    apps before the first image and for the preceding image after it.
    ``bare`` is the value of a flag written without one (``--net``); a bool has "true".
    ``alias`` is the current spelling of a deprecated flag, ``deprecated`` what to say about it.
    Flags of one ``group`` exclude each other.  ``once``: a second occurrence (for the same image) is an
    error. ``experiment``: exists only with ``RKT_EXPERIMENT_<NAME>``.  ``completes``: what its value is, for
    completion.
    """

    __slots__ = (
        "alias",
        "bare",
        "choices",
        "completes",
        "default",
        "deprecated",
        "experiment",
        "group",
        "help",
        "hidden",
        "kind",
        "name",
        "once",
        "scope",
    )

    def __init__(
        self,
        name: str,
        kind: str,
        default: str,
        help: str,
        *,
        scope: str = "command",
        bare: str = "",
        choices: tuple[str, ...] = (),
        hidden: bool = False,
        deprecated: str = "",
        alias: str = "",
        group: str = "",
        once: bool = False,
        experiment: str = "",
        completes: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.help = help
        self.scope = scope
        self.bare = bare or ("true" if kind == "bool" else "")
        self.choices = choices
        self.hidden = hidden
        self.deprecated = deprecated
        self.alias = alias
        self.group = group
        self.once = once
        self.experiment = experiment
        self.completes = completes

    @property
    def shown(self) -> bool:
        """Does help list it?"""
        return not self.hidden and not self.deprecated


class Command:
    """One command with everything the parser, help and completion need.

    ``path`` ("image list"), ``module`` and ``summary`` come from the index.  ``usage`` is what follows the
    path in a usage line.  ``interspersed``: flags may follow positional words.  ``images``: the words after
    the first ``leading`` positional ones are images with their own flags and arguments.
    ``image_arguments``: may these be followed by ``-- ARG...``?  ``root``: refuses to run as another user.
    ``completes``: what its words are.
    """

    __slots__ = (
        "completes",
        "description",
        "image_arguments",
        "images",
        "interspersed",
        "leading",
        "module",
        "options",
        "path",
        "root",
        "summary",
        "usage",
    )

    def __init__(
        self,
        usage: str = "",
        description: str = "",
        options: Sequence[Option] = (),
        *,
        root: bool = False,
        interspersed: bool = True,
        images: bool = False,
        image_arguments: bool = True,
        leading: int = 0,
        completes: str = "",
    ) -> None:
        self.path = ""
        self.module = ""
        self.summary = ""
        self.usage = usage
        self.description = description
        self.options: tuple[Option, ...] = tuple(options)
        self.root = root
        self.interspersed = interspersed
        self.images = images
        self.image_arguments = image_arguments
        self.leading = leading
        self.completes = completes

    @property
    def name(self) -> str:
        """The last word: the prefix of the command's messages."""
        return self.path.rpartition(" ")[2] or "rkt"


class Entry:
    """A line of the index.  A group of commands (``image``) has no module."""

    __slots__ = ("experiment", "family", "hidden", "module", "path", "summary")

    def __init__(
        self, path: str, module: str, family: str, summary: str, *, hidden: bool = False, experiment: str = ""
    ) -> None:
        self.path = path
        self.module = module
        self.family = family
        self.summary = summary
        self.hidden = hidden
        self.experiment = experiment


COMMANDS: tuple[Entry, ...] = (
    Entry("attach", "attach", "pods", "Connect to the streams of a running app", experiment="attach"),
    Entry("cat-manifest", "cat_manifest", "pods", "Print the manifest of a pod"),
    Entry("completion", "completion", "tool", "Print a completion script for a shell"),
    Entry("config", "config", "tool", "Print the configuration in force as JSON"),
    Entry("enter", "enter", "pods", "Run a command inside an app of a running pod"),
    Entry("export", "export", "pods", "Write an app of an exited pod as an image"),
    Entry("fetch", "fetch", "images", "Fetch images into the local store"),
    Entry("gc", "gc", "pods", "Collect pods that have ended"),
    Entry("help", "help_command", "tool", "Print help about a command"),
    Entry("image", "", "images", "Work with the local image store"),
    Entry("image cat-manifest", "image_cat_manifest", "images", "Print the manifest of an image"),
    Entry("image export", "image_export", "images", "Write an image of the store to a file"),
    Entry("image extract", "image_extract", "images", "Unpack an image into a directory"),
    Entry("image fetch", "fetch", "images", "Fetch images into the local store", hidden=True),
    Entry("image gc", "image_gc", "images", "Remove what no pod has used for long from the store"),
    Entry("image list", "image_list", "images", "List the images of the local store"),
    Entry("image render", "image_render", "images", "Unpack an image with its dependencies"),
    Entry("image rm", "image_rm", "images", "Remove images from the local store"),
    Entry("image verify", "image_verify", "images", "Compare rendered images with their checksum"),
    Entry("list", "list", "pods", "List pods"),
    Entry("logs", "logs", "pods", "Print what the apps of a pod have written"),
    Entry("metadata-service", "metadata_service", "service", "Tell apps about themselves over HTTP"),
    Entry("prepare", "prepare", "run", "Prepare a pod for a later run-prepared"),
    Entry("rm", "rm", "pods", "Remove pods and what they hold"),
    Entry("run", "run", "run", "Run images in a pod"),
    Entry("run-prepared", "run_prepared", "run", "Run a pod that was prepared"),
    Entry("status", "status", "pods", "Print the state of a pod"),
    Entry("stop", "stop", "pods", "Stop pods"),
    Entry("trust", "trust", "images", "Trust a key for the signatures of images"),
    Entry("version", "version", "tool", "Print the version of rkt"),
)

GLOBALS: tuple[Option, ...] = (
    Option("debug", "bool", "false", "print more about what happens to stderr", scope="global"),
    Option("dir", "directory", "/var/lib/rkt", "data directory", scope="global", completes="directory"),
    Option(
        "insecure-options",
        "insecure",
        "none",
        "comma-separated list of protections to switch off: none, image, tls, ondisk, http, pubkey, "
        "capabilities, paths, seccomp, all-fetch, all-run, all",
        scope="global",
        choices=(
            "none",
            "image",
            "tls",
            "ondisk",
            "http",
            "pubkey",
            "capabilities",
            "paths",
            "seccomp",
            "all-fetch",
            "all-run",
            "all",
        ),
    ),
    Option(
        "local-config",
        "directory",
        "/etc/rkt",
        "directory of the administrator's configuration",
        scope="global",
        completes="directory",
    ),
    Option(
        "system-config",
        "directory",
        "/usr/lib/rkt",
        "directory of the distribution's configuration",
        scope="global",
        completes="directory",
    ),
    Option(
        "trust-keys-from-https",
        "bool",
        "false",
        "trust keys that were discovered over https without asking",
        scope="global",
    ),
    Option(
        "user-config",
        "directory",
        "",
        "directory of the user's configuration",
        scope="global",
        completes="directory",
    ),
    Option("cpuprofile", "string", "", "accepted for compatibility", scope="global", hidden=True),
    Option("memprofile", "string", "", "accepted for compatibility", scope="global", hidden=True),
)

ROOT = Command(
    "[command]",
    "Runs apps, packed as images, in pods. There is no daemon: a pod belongs to what started it.\n\n"
    'Help on a command is printed by "rkt help COMMAND".',
)


def experiment(name: str) -> bool:
    """Is ``RKT_EXPERIMENT_<NAME>`` set to something Go's ParseBool calls true?"""
    return os.environ.get("RKT_EXPERIMENT_" + name.upper(), "") in ("1", "t", "T", "true", "TRUE", "True")


def available() -> Iterator[Entry]:
    """The commands that exist for this call, in the order of the index."""
    for entry in COMMANDS:
        if not entry.experiment or experiment(entry.experiment):
            yield entry


def listed() -> Iterator[Entry]:
    """The commands and groups that help and completion show: not the hidden ones, nor those of a hidden
    group.
    """
    entries = list(available())
    hidden = {entry.path for entry in entries if entry.hidden}
    for entry in entries:
        if not entry.hidden and entry.path.rpartition(" ")[0] not in hidden:
            yield entry


def load(entry: Entry) -> Command:
    """The full description of a command; imports the table of its family."""
    table: dict[str, Command] = __import__("rkt.cli.options_" + entry.family, fromlist=("TABLE",)).TABLE
    written = table[entry.path]
    command = Command(
        written.usage,
        written.description,
        [option for option in written.options if not option.experiment or experiment(option.experiment)],
        root=written.root,
        interspersed=written.interspersed,
        images=written.images,
        image_arguments=written.image_arguments,
        leading=written.leading,
        completes=written.completes,
    )
    command.path = entry.path
    command.module = entry.module
    command.summary = entry.summary
    return command
