"""What a caller asks for: plain records, filled by the command line (or by a service)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.isolators import Isolator
    from rkt.appc.port import ExposedPort
    from rkt.appc.volume import Mount, Volume


class AppRequest:
    """One app of a new pod: an image of the store and what the caller changes in its manifest.

    ``key`` is the image's full key.  Empty strings and None mean "as the image says".  ``isolators``
    replace the image's of the same name, those about capabilities and system calls all of their kind.
    ``streams`` tells by name (``stdin``) where a standard stream leads (``null``, ``log``, ...).
    """

    __slots__ = (
        "annotations",
        "args",
        "environment",
        "executable",
        "group",
        "isolators",
        "key",
        "mounts",
        "name",
        "read_only_root_fs",
        "streams",
        "supplementary_gids",
        "user",
        "user_annotations",
        "user_labels",
        "working_directory",
    )

    def __init__(self, key: str) -> None:
        self.key = key
        self.name = ""
        self.executable = ""
        self.args: list[str] = []
        self.user = ""
        self.group = ""
        self.supplementary_gids: list[int] | None = None
        self.working_directory = ""
        self.environment: dict[str, str] = {}
        self.annotations: dict[str, str] = {}
        self.user_annotations: dict[str, str] = {}
        self.user_labels: dict[str, str] = {}
        self.isolators: list[Isolator] = []
        self.mounts: list[Mount] = []
        self.read_only_root_fs = False
        self.streams: dict[str, str] = {}


class PrepareRequest:
    """A new pod.

    Either ``apps`` or ``pod_manifest`` (the text of a manifest) says what is in it.  ``inherited`` is the
    environment that fills what the image leaves open, ``environment`` the one that overrides all.
    ``stage1`` is the key of the stage1 image.  ``private_users``: give the pod a range of user IDs.
    ``strict_isolators``: whoever runs the pod is to have all its isolators enforced, or no pod.
    """

    __slots__ = (
        "apps",
        "environment",
        "inherited",
        "overlay",
        "pod_manifest",
        "ports",
        "private_users",
        "stage1",
        "strict_isolators",
        "volumes",
    )

    def __init__(self, stage1: str) -> None:
        self.stage1 = stage1
        self.apps: list[AppRequest] = []
        self.pod_manifest: bytes | None = None
        self.volumes: list[Volume] = []
        self.ports: list[ExposedPort] = []
        self.inherited: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.overlay = True
        self.private_users = False
        self.strict_isolators = False


class Dns:
    """Where /etc/resolv.conf and /etc/hosts of the apps come from.

    ``resolv``: "default" (image or network plug-in), "host", "none" or "stage0" (from the values here).
    ``hosts``: "default", "host" or "stage0" (``entries``: address -> names).
    """

    __slots__ = ("domain", "entries", "hosts", "options", "resolv", "search", "servers")

    def __init__(self) -> None:
        self.resolv = "default"
        self.hosts = "default"
        self.servers: list[str] = []
        self.search: list[str] = []
        self.options: list[str] = []
        self.domain = ""
        self.entries: dict[str, list[str]] = {}


class RunRequest:
    """How to run a prepared pod; all of it is handed to the stage1 as flags.

    ``networks`` is the text of ``--net``.  ``insecure`` holds "capabilities", "paths" and "seccomp" where
    these protections are off.  ``ipc`` is empty for the stage1's own choice.  ``fresh``: the pod was made
    for this run, and nothing of it is to stay when the stage1 cannot start it.  ``local_config`` is handed
    over as a flag, ``system_config``, ``user_config`` (configured networks) and ``strict_isolators`` in the
    environment, as no version of the stage1 interface has a flag for them.
    """

    __slots__ = (
        "debug",
        "dns",
        "fresh",
        "hostname",
        "insecure",
        "interactive",
        "ipc",
        "local_config",
        "metadata",
        "networks",
        "strict_isolators",
        "system_config",
        "user_config",
    )

    def __init__(self) -> None:
        self.debug = False
        self.system_config = ""
        self.user_config = ""
        self.fresh = False
        self.strict_isolators = False
        self.dns = Dns()
        self.hostname = ""
        self.insecure: frozenset[str] = frozenset()
        self.interactive = False
        self.ipc = ""
        self.local_config = ""
        self.metadata = False
        self.networks = "default"
