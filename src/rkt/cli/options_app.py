"""The commands that change the apps of a running pod (experiment "app")."""

from __future__ import annotations

from rkt.cli.options import Command, Option
from rkt.cli.options_pods import FORMAT
from rkt.cli.options_run import APP, ISOLATORS, NETWORK, STAGE1, UUID_FILE_SAVE

NAME = Option("app", "string", "", "name of the app")

TABLE = {
    "app add": Command(
        "UUID IMAGE [-- ARG...]",
        "Adds an app, from an image of the store, to a running pod.",
        (
            *APP,
            *ISOLATORS,
            Option(
                "mnt-volume",
                "app-volume",
                "",
                "NAME,kind=...,target=PATH: a volume for this app only, and where it sees it",
                scope="app",
            ),
        ),
        interspersed=False,
        images=True,
        leading=1,
        completes="running pod",
    ),
    "app exec": Command(
        "[--app=APPNAME] UUID [CMD [ARGS ...]]",
        "Runs a command inside an app of a running pod.",
        (NAME,),
        root=True,
        interspersed=False,
        completes="running pod",
    ),
    "app list": Command(
        "UUID",
        "Prints the apps of a pod.",
        (Option("no-legend", "bool", "false", "leave out the line of headers"),),
        completes="pod",
    ),
    "app rm": Command("UUID --app=APPNAME", "Removes an app from a pod.", (NAME,), completes="running pod"),
    "app sandbox": Command(
        "",
        "Runs a pod without apps, to which apps can be added.",
        (
            Option("annotation", "annotations", "", "NAME=VALUE: annotation of the pod"),
            *NETWORK,
            Option("no-overlay", "bool", "false", "copy the root file systems instead of overlaying them"),
            Option(
                "port",
                "sandbox-port",
                "",
                "NAME:PROTOCOL:PODPORT:HOSTIP:HOSTPORT: port to publish on the host",
            ),
            Option("user-annotation", "pairs", "", "KEY=VALUE: free annotation of the pod"),
            Option("user-label", "pairs", "", "KEY=VALUE: free label of the pod"),
            UUID_FILE_SAVE,
            *STAGE1,
        ),
    ),
    "app start": Command("UUID --app=APPNAME", "Starts an app of a pod.", (NAME,), completes="running pod"),
    "app status": Command(
        "UUID --app=APPNAME", "Prints the state of an app.", (NAME, FORMAT), completes="pod"
    ),
    "app stop": Command("UUID --app=APPNAME", "Stops an app of a pod.", (NAME,), completes="running pod"),
}
