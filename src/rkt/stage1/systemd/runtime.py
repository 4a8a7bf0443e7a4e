"""``runtime-config``: how a pod was started, for the entry points that come later (facts of rkt 1.30)."""

from __future__ import annotations

import os

from rkt.appc import gojson
from rkt.errors import RktError
from rkt.stage1.common import status
from rkt.stage1.common.relaxed import Relaxed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.stage1.common.flags import RunFlags

_NAME = "runtime-config"


def save(directory: str, flags: RunFlags, networks: list[tuple[str, str]]) -> None:
    """Write the file into the pod's directory."""
    value = {
        "MetadataServiceURL": "",
        "PrivateUsers": flags.private_users,
        "MDSToken": flags.mds_token,
        "Hostname": flags.hostname,
        "Debug": flags.debug,
        "Mutable": flags.mutable,
        "ResolvConfMode": flags.resolv,
        "EtcHostsMode": flags.hosts,
        "NetList": dict(networks),
        "Interactive": flags.interactive,
        "InsecureOptions": {
            "DisablePaths": flags.disable_paths,
            "DisableCapabilities": flags.disable_capabilities,
            "DisableSeccomp": flags.disable_seccomp,
        },
        "IPCMode": flags.ipc,
    }
    status.write(directory, _NAME, gojson.dumps(value))


def load(directory: str) -> tuple[Relaxed, bool]:
    """What was switched off, and whether the pod has user IDs of its own; RktError for a file not ours."""
    path = os.path.join(directory, _NAME)
    with open(path, "rb") as file:
        value = gojson.loads(file.read())
    options = value.get("InsecureOptions") if isinstance(value, dict) else None
    if not isinstance(options, dict):
        raise RktError(f"{path} does not say how the pod was started")
    relaxed = Relaxed(
        capabilities=options.get("DisableCapabilities") is True,
        paths=options.get("DisablePaths") is True,
        seccomp=options.get("DisableSeccomp") is True,
    )
    return relaxed, bool(value.get("PrivateUsers"))
