"""The commands that make and run pods, and the options they share: per app, per pod, stage1."""

from __future__ import annotations

from rkt.cli.options import Command, Option
from rkt.cli.options_images import MAX_IMAGE_SIZE, NO_STORE, POLICY, SIGNATURE, STORE_ONLY

IN, OUT = ("null", "stream", "tty"), ("log", "null", "stream", "tty")
ATTACH = "attach"

APP = (
    Option("annotation", "annotations", "", "NAME=VALUE: annotation of the preceding app", scope="app"),
    Option("environment", "pairs", "", "NAME=VALUE: environment variable of the preceding app", scope="app"),
    Option(
        "exec",
        "string",
        "",
        "program of the preceding image to run instead of its own",
        scope="app",
        once=True,
    ),
    Option(
        "group", "string", "", "group of the preceding app: name, number or path in the image", scope="app"
    ),
    Option("mount", "mount", "", "volume=NAME,target=PATH: where the app sees a volume", scope="either"),
    Option(
        "name", "name", "", "name of the preceding app, by default made from the image's name", scope="app"
    ),
    Option("readonly-rootfs", "bool", "false", "mount the root of the preceding app read-only", scope="app"),
    Option(
        "stderr",
        "one-of",
        "",
        "log, null, stream or tty",
        scope="app",
        choices=OUT,
        hidden=True,
        experiment=ATTACH,
    ),
    Option(
        "stdin", "one-of", "", "null, stream or tty", scope="app", choices=IN, hidden=True, experiment=ATTACH
    ),
    Option(
        "stdout",
        "one-of",
        "",
        "log, null, stream or tty",
        scope="app",
        choices=OUT,
        hidden=True,
        experiment=ATTACH,
    ),
    Option(
        "supplementary-gids",
        "identifiers",
        "",
        "comma-separated further group ids of the preceding app",
        scope="app",
    ),
    Option("user", "string", "", "user of the preceding app: name, number or path in the image", scope="app"),
    Option("user-annotation", "settings", "", "KEY=VALUE: free annotation of the preceding app", scope="app"),
    Option("user-label", "settings", "", "KEY=VALUE: free label of the preceding app", scope="app"),
    Option("working-dir", "absolute-path", "", "working directory of the preceding app", scope="app"),
)

ISOLATORS = (
    Option(
        "caps-remove", "caps-remove", "", "comma-separated capabilities the preceding app loses", scope="app"
    ),
    Option(
        "caps-retain", "caps-retain", "", "comma-separated capabilities the preceding app has", scope="app"
    ),
    Option("cpu", "cpu", "", "processor limit of the preceding app: 500m, 2", scope="app"),
    Option("cpu-shares", "cpu-shares", "", "processor weight of the preceding app, 2 to 262144", scope="app"),
    Option("memory", "memory", "", "memory limit of the preceding app: 16Mi, 50M, 1G", scope="app"),
    Option(
        "oom-score-adj",
        "oom-score-adj",
        "",
        "the kernel's out-of-memory score adjustment, -1000 to 1000",
        scope="app",
    ),
    Option(
        "seccomp",
        "seccomp",
        "",
        "mode=retain|remove[,errno=NAME],SYSCALL,...: system calls of the preceding app",
        scope="app",
    ),
)

OLD_ISOLATORS = (
    Option(
        "cap-remove",
        "caps-remove",
        "",
        "",
        scope="app",
        alias="caps-remove",
        deprecated="use --caps-remove instead",
    ),
    Option(
        "cap-retain",
        "caps-retain",
        "",
        "",
        scope="app",
        alias="caps-retain",
        deprecated="use --caps-retain instead",
    ),
)

STAGE1 = (
    Option("stage1-from-dir", "string", "", "stage1: a file of the stage1 images directory", group="stage1"),
    Option("stage1-hash", "string", "", "stage1: ID of an image in the store", group="stage1"),
    Option("stage1-name", "string", "", "stage1: name of an image", group="stage1"),
    Option("stage1-path", "string", "", "stage1: path of an image", group="stage1", completes="file"),
    Option("stage1-url", "string", "", "stage1: URL of an image", group="stage1"),
)

NETWORK = (
    Option(
        "net",
        "networks",
        "default",
        "networks of the pod: none, host, default, default-restricted, all or names of configured ones; "
        "NAME[:ARGS][,NAME[:ARGS]...]",
        bare="default",
    ),
    Option(
        "dns",
        "list",
        "",
        "name servers of the pod; host: those of the host; none: not even those of its network",
    ),
    Option("dns-domain", "string", "", "DNS domain of the pod"),
    Option("dns-opt", "list", "", "DNS options of the pod"),
    Option("dns-search", "list", "", "DNS search domains of the pod"),
    Option("hostname", "hostname", "", "host name of the pod; rkt-UUID by default"),
    Option("hosts-entry", "list", "", "IP=HOST: line of the pod's /etc/hosts; host: the file of the host"),
)

RUNNING = (
    Option("interactive", "bool", "false", "connect the one app of the pod to this terminal"),
    Option("ipc", "string", "", "IPC namespace of the pod: auto, private or parent"),
    Option("mds-register", "bool", "false", "register the pod with the metadata service"),
)

PREPARING = (
    Option("inherit-env", "bool", "false", "give the apps every environment variable they do not set"),
    MAX_IMAGE_SIZE,
    Option("no-overlay", "bool", "false", "copy the root file systems instead of overlaying them"),
    Option(
        "pod-manifest", "string", "", "file with a pod manifest to use instead of images", completes="file"
    ),
    Option("port", "port", "", "NAME:[HOSTIP:]HOSTPORT: port of an app to publish on the host"),
    Option("private-users", "bool", "false", "run the pod in a user namespace of its own"),
    Option("pull-policy", "string", "new", POLICY, completes="policy"),
    NO_STORE,
    STORE_ONLY,
    Option("set-env", "pairs", "", "NAME=VALUE: environment variable of all apps; overrides --environment"),
    Option("set-env-file", "environment-file", "", "file of NAME=VALUE lines for all apps", completes="file"),
    SIGNATURE,
    Option("volume", "volume", "", "NAME,kind=host,source=PATH or NAME,kind=empty: volume of the pod"),
)

STRICT_ISOLATORS = Option(
    "strict-isolators",
    "bool",
    "false",
    "refuse to run the pod if an isolator cannot be enforced as it was asked for",
)
UUID_FILE_SAVE = Option(
    "uuid-file-save", "string", "", "write the UUID of the pod to this file", completes="file"
)

IMAGES = (
    "An IMAGE is a name, an image ID, a file or a URL. Flags about an app follow its image; flags about the "
    "pod may stand anywhere. --mount before the first image is for all apps, after an image for that app, "
    "which wins if both have the same target.\n\n"
    'Words after "--" are arguments of the preceding image\'s program; a lone "---" ends them, so that more '
    "images and flags may follow."
)

TABLE = {
    "run": Command(
        "[--volume=NAME,kind=host,...] [--mount volume=NAME,target=PATH] IMAGE [-- ARG...] [---] ...",
        "Makes a pod of images and runs it. rkt itself becomes the pod: the exit code is that of the first "
        "app that "
        "failed, and what ends this process ends the pod.\n\n" + IMAGES,
        (
            *(*APP, *ISOLATORS, *OLD_ISOLATORS, *PREPARING, *NETWORK, *RUNNING),
            STRICT_ISOLATORS,
            UUID_FILE_SAVE,
            *STAGE1,
        ),
        root=True,
        interspersed=False,
        images=True,
        completes="image or file",
    ),
    "prepare": Command(
        "[--volume=NAME,kind=host,...] [--mount volume=NAME,target=PATH] [--quiet] IMAGE [-- ARG...] [---] "
        "...",
        "Makes a pod of images without running it and prints its UUID for run-prepared.\n\n" + IMAGES,
        (
            *APP,
            *ISOLATORS,
            *OLD_ISOLATORS,
            *PREPARING,
            Option("quiet", "bool", "false", "print nothing on stdout but the UUID"),
            STRICT_ISOLATORS,
            *STAGE1,
        ),
        root=True,
        interspersed=False,
        images=True,
        completes="image or file",
    ),
    "run-prepared": Command(
        "UUID",
        "Runs a pod that was made by prepare.",
        (*NETWORK, *RUNNING, STRICT_ISOLATORS),
        root=True,
        completes="prepared pod",
    ),
}
