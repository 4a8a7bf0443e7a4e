"""The commands about pods that exist."""

from __future__ import annotations

from rkt.cli.options import Command, Option

FORMAT = Option(
    "format",
    "format",
    "",
    "format of the output instead of text: json or json-pretty",
    choices=("json", "json-pretty"),
)
UUID_FILE = Option("uuid-file", "string", "", "read the UUID of the pod from this file", completes="file")
WAIT = "flags take a bool or a duration: true waits without limit, a duration like 10s that long"

TABLE = {
    "cat-manifest": Command(
        "UUID",
        "Prints the manifest of a pod as JSON.",
        (
            Option("pretty-print", "bool", "true", "indent the output"),
            UUID_FILE,
        ),
        completes="pod",
    ),
    "enter": Command(
        "[--app=APPNAME] UUID [CMD [ARGS ...]]",
        "Runs a command inside the root file system and the namespaces of an app of a running pod, "
        "/bin/bash by "
        "default. Words after the UUID belong to the command.",
        (Option("app", "string", "", "name of the app to enter"),),
        root=True,
        interspersed=False,
        completes="running pod",
    ),
    "export": Command(
        "[--app=APPNAME] UUID OUTPUT_ACI_FILE",
        "Writes the root file system of an app of an exited pod, with what the app changed, as an image.",
        (
            Option("app", "string", "", "name of the app to export; needed if the pod has several"),
            Option("overwrite", "bool", "false", "replace an existing file"),
        ),
        completes="exited pod",
    ),
    "gc": Command(
        "[--grace-period=DURATION] [--expire-prepared=DURATION] [--mark-only]",
        "Marks pods that ended, removes those marked longer ago than the grace period, and removes prepared "
        "pods that "
        "were never run.",
        (
            Option("expire-prepared", "duration", "24h0m0s", "age after which a prepared pod is removed"),
            Option("grace-period", "duration", "30m0s", "time between the end of a pod and its removal"),
            Option("mark-only", "bool", "false", "only mark pods that ended, remove nothing"),
        ),
        root=True,
    ),
    "list": Command(
        "",
        "Prints a table of the pods and their apps.",
        (
            FORMAT,
            Option("full", "bool", "false", "print full UUIDs, image IDs and exact times"),
            Option("no-legend", "bool", "false", "leave out the line of headers"),
        ),
    ),
    "logs": Command(
        "[--app=APPNAME] [--follow] [--lines=N] [--since=TIME] UUID",
        "Prints what the apps of a running or exited pod have written, from the journal the pod keeps.",
        (
            Option("app", "string", "", "name of the app, all of them by default"),
            Option("follow", "bool", "false", "print what is written from now on too, until the pod ends"),
            Option("lines", "int", "", "print the last N entries only"),
            Option(
                "since",
                "string",
                "",
                "print what was written since then only: a duration like 10m, a date like "
                "2006-01-02T15:04:05Z, or what journalctl takes",
            ),
            UUID_FILE,
        ),
        completes="pod",
    ),
    "rm": Command(
        "UUID ...",
        "Removes pods that do not run, with everything they hold.",
        (UUID_FILE,),
        root=True,
        completes="ended pod",
    ),
    "status": Command(
        "[--wait=bool|timeout] [--wait-ready=bool|timeout] UUID",
        "Prints the state of a pod, when it was made and started, its process and the exit codes of its "
        "apps.\n\n"
        "The --wait " + WAIT + ".",
        (
            Option(
                "check-network",
                "bool",
                "false",
                "look whether the networks of a running pod are as they were made, and ask their plugins",
            ),
            FORMAT,
            UUID_FILE,
            Option(
                "verified",
                "bool",
                "false",
                "also print how the image of each app had been verified when the pod was prepared: openpgp, "
                "sigstore, digest, installed, none or unknown, with the key or digest",
            ),
            Option("wait", "wait", "false", "wait until the pod has ended, then print", bare="true"),
            Option("wait-ready", "wait", "false", "wait until the pod is ready, then print", bare="true"),
        ),
        completes="pod",
    ),
    "stop": Command(
        "[--force] UUID ...",
        "Asks pods to end, and returns at once.",
        (
            Option("force", "bool", "false", "kill the pod instead of asking it"),
            UUID_FILE,
        ),
        completes="running pod",
    ),
    "attach": Command(
        "[--app=APPNAME] [--mode=MODE] UUID",
        "Connects the standard streams of this command to those of an app of a running pod, which was given "
        "streams to attach to (--stdin=stream, --stdout=stream, --stderr=stream, or tty). What the app "
        "writes from then on is printed, what is typed goes to the app, until the app ends.\n\n"
        "On a terminal, ctrl-] three times leaves an app with a terminal; with streams ctrl-C does. The app "
        "goes on.",
        (
            Option("app", "string", "", "name of the app to attach to; needed if the pod has several"),
            Option(
                "mode",
                "string",
                "auto",
                "auto: all there is; list: print what there is, as JSON; or a comma-separated choice of "
                "stdin, stdout, stderr, or of tty, tty-in, tty-out",
            ),
        ),
        root=True,
        completes="running pod",
    ),
}
