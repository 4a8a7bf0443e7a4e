"""From the flags of run, prepare and run-prepared to the records of stage0."""

from __future__ import annotations

import os

from rkt.errors import Interrupted, RktError, one_line
from rkt.stage0.records import AppRequest, PrepareRequest, RunRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.cli.call import Call, ImageWords
    from rkt.image.fetch import Fetcher
    from rkt.pod.pod import Pod
    from rkt.store.store import Store

_STAGE1_FLAGS = ("path", "url", "name", "hash", "from-dir")
_ISOLATOR_FLAGS = ("memory", "cpu", "cpu-shares", "oom-score-adj", "caps-retain", "caps-remove", "seccomp")
_IPC_MODES = ("", "auto", "private", "parent")


def check(call: Call) -> None:
    """Refuse flags that do not go together, before anything is fetched."""
    flags = call.flags
    if flags["pod-manifest"]:
        if (
            call.images
            or any(flags.given(name) for name in ("volume", "mount", "port", "inherit-env"))
            or any(flags.given(name) for name in ("set-env", "set-env-file"))
            or call.pull_policy() in ("update", "never")
        ):
            raise RktError("conflicting flags set with --pod-manifest (see --help)")
    elif not call.images:
        raise RktError("must provide at least one image or specify the pod manifest")
    for image in call.images:
        if image.flags["caps-retain"] is not None and image.flags["caps-remove"] is not None:
            raise RktError("cannot use both --caps-retain and --caps-remove on the same image")
    if flags["private-users"] and not os.path.exists("/proc/self/uid_map"):
        raise RktError("--private-users is not supported, kernel compiled without user namespace support")


def check_running(call: Call) -> None:
    """Refuse what ``run`` cannot be given."""
    flags = call.flags
    networks = {network.partition(":")[0] for network in flags["net"]}
    for special in ("none", "host"):
        if flags["port"] and special in networks:
            raise RktError(f"--port flag does not work with '{special}' networking")
    if flags["interactive"] and len(call.images) > 1:
        raise RktError("interactive option only supports one image")


def prepare_request(call: Call, store: Store, overlay: bool) -> PrepareRequest:
    """Get all images, the stage1 first, and say what the pod is made of."""
    from rkt.cli.fetching import fetcher
    from rkt.stage0.stage1 import Choice, Selector

    def images_for(*, trusted: bool = False) -> Fetcher:
        # What is unpacked while it is fetched is not read again; the pod has the rest rendered.
        return fetcher(call, store, trusted=trusted, render=None if overlay else False, finish=False)

    selector = Selector(store, call.config(), lambda trusted: images_for(trusted=trusted))
    choice = Choice()
    for kind in _STAGE1_FLAGS:
        if call.flags.given(f"stage1-{kind}"):
            choice = Choice(kind, call.flags[f"stage1-{kind}"])
    request = PrepareRequest(selector.select(choice))
    request.overlay = overlay
    request.private_users = call.flags["private-users"]
    request.strict_isolators = call.flags["strict-isolators"]
    if call.flags["pod-manifest"]:
        request.pod_manifest = _read_manifest(call.flags["pod-manifest"])
        return request
    with images_for() as images:
        for image in call.images:
            key = images.fetch(image.image, image.flags["signature"] or None)
            request.apps.append(_app_request(key, image))
    request.volumes = call.flags["volume"]
    request.ports = call.flags["port"]
    request.environment = {**call.flags["set-env-file"], **call.flags["set-env"]}
    if call.flags["inherit-env"]:
        request.inherited = _inherited(call)
    return request


def _read_manifest(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(16 << 20)
    except OSError as error:
        raise RktError("cannot read the pod manifest") from error


def _inherited(call: Call) -> dict[str, str]:
    from rkt.stage0.manifest import inheritable

    kept, refused = inheritable(dict(os.environ))
    if refused:
        call.error(f"not inherited, for their names are not allowed in an app: {', '.join(sorted(refused))}")
    return kept


def _app_request(key: str, image: ImageWords) -> AppRequest:
    flags = image.flags
    app = AppRequest(key)
    app.name = flags["name"] or ""
    app.executable = flags["exec"]
    app.args = image.args
    app.user = flags["user"]
    app.group = flags["group"]
    app.supplementary_gids = flags["supplementary-gids"] if flags.given("supplementary-gids") else None
    app.working_directory = flags["working-dir"]
    app.environment = flags["environment"]
    app.annotations = flags["annotation"] or {}
    app.user_annotations = flags["user-annotation"]
    app.user_labels = flags["user-label"]
    app.isolators = [flags[name] for name in _ISOLATOR_FLAGS if flags.given(name)]
    app.mounts = image.mounts
    app.read_only_root_fs = flags["readonly-rootfs"]
    app.streams = {name: flags[name] for name in ("stdin", "stdout", "stderr") if flags.given(name)}
    return app


def run_request(call: Call) -> RunRequest:
    """How the pod is to be run."""
    from rkt.stage0 import dns

    flags = call.flags
    request = RunRequest()
    request.debug = call.globals.debug
    request.dns = dns.parse(
        flags["dns"],
        flags["dns-search"],
        flags["dns-opt"],
        domain=flags["dns-domain"],
        hosts_entries=flags["hosts-entry"],
    )
    request.hostname = flags["hostname"]
    request.insecure = call.globals.insecure
    request.interactive = flags["interactive"]
    if flags["ipc"] not in _IPC_MODES:
        raise RktError(f'invalid value "{flags["ipc"]}" of --ipc: must be auto, private or parent')
    request.ipc = flags["ipc"]
    request.local_config = call.globals.local_config
    request.system_config = call.globals.system_config
    request.user_config = call.globals.user_config
    request.networks = ",".join(flags["net"]) or "default"
    request.strict_isolators = flags["strict-isolators"]
    request.metadata = flags["mds-register"]
    if request.metadata and "none" in [network.partition(":")[0] for network in flags["net"]]:
        raise RktError("--mds-register does not work with 'none' networking")
    return request


def overlay_for(call: Call) -> bool:
    """Whether a new pod uses overlays; says why not when the caller did not ask for that."""
    if call.flags["no-overlay"]:
        return False
    from rkt.stage0 import overlay

    reason = overlay.unusable(call.globals.dir)
    if reason:
        call.error(f'disabling overlay support: "{reason}"')
    return not reason


def catch_signals() -> None:
    """Make SIGTERM and SIGHUP errors like any other, so that a pod being made is taken back.

    Those that are ignored (nohup) stay so.  An exec gives all of them their default effect again.
    """
    import _signal  # type: ignore[import-not-found]

    def interrupt(number: int, _: object) -> None:
        name = {1: "SIGHUP", 15: "SIGTERM"}.get(number, str(number))
        raise Interrupted(f"interrupted by {name}")

    for number in (1, 15):
        if _signal.getsignal(number) == _signal.SIG_DFL:
            _signal.signal(number, interrupt)


def hold_sockets() -> None:
    """Sockets that systemd has passed are the pod's: no program that is started before it gets them."""
    if "LISTEN_FDS" in os.environ:
        from rkt.stage0 import run

        run.keep_sockets(os.environ, inheritable=False)


def new_pod(call: Call, request: PrepareRequest, store: Store) -> Pod:
    """A prepared pod, still locked and in ``prepare``; nothing of it stays on an error."""
    from rkt import pod as pods
    from rkt.stage0 import prepare

    with prepare.lock(call.globals.dir, call.notify(call.command.name)):
        plan = prepare.plan(request, store)
        pod = pods.create(call.globals.dir)
        try:
            prepare.prepare(pod, request, plan, store)
        except BaseException:
            discard(call, pod)
            pod.close()
            raise
    return pod


def discard(call: Call, pod: Pod) -> None:
    """Take back a pod after an error, which is what the user has to know: what stays is only told of."""
    from rkt.stage0 import prepare

    try:
        prepare.discard(pod)
    except (OSError, RktError) as error:
        call.notify(call.command.name)(f'pod "{pod.uuid}" cannot be removed, gc will: {one_line(error)}')
