"""Configured networks: which exist, in which order a pod gets them, and what each hands to its plugins.

Files are looked for in ``net.d`` of the user's, the local and the system configuration directory, then in
the stage1 image's ``etc/rkt/net.d``; the built-in two come last.  ``*.conf`` holds one CNI network
configuration, ``*.conflist`` a list of plugins.  Networks are told apart by the *name* inside: an earlier
place hides a later one, two of one name in one place are an error.  Pods get their networks in the order
of file names, whatever directory they are in.
"""

from __future__ import annotations

import os
import stat

from rkt.appc import gojson
from rkt.errors import Interrupted, RktError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

STAGE1_DIRECTORY = "etc/rkt/net.d"
LOCAL_DIRECTORY = "net.d"
SUFFIXES = (".conf", ".conflist")
SIZE_LIMIT = 1 << 20
# Versions of the CNI specification that rkt knows, oldest first; one that is written alone in a file is the
# plugins' affair.
VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0")

# Verbatim rkt's two networks: file name and content.
BUILTIN = (
    (
        "99-default.conf",
        """{
	"cniVersion": "0.1.0",
	"name": "default",
	"type": "ptp",
	"ipMasq": true,
	"ipam": {
		"type": "host-local",
		"subnet": "172.16.28.0/24",
		"routes": [
			{ "dst": "0.0.0.0/0" }
		]
	}
}
""",
    ),
    (
        "99-default-restricted.conf",
        """{
	"cniVersion": "0.1.0",
	"name": "default-restricted",
	"type": "ptp",
	"ipMasq": false,
	"ipam": {
		"type": "host-local",
		"subnet": "172.31.0.0/16"
	}
}
""",
    ),
)


class NetworkConfig:
    """One configured network.

    ``path`` names the source for messages, ``file_name`` orders and names the pod's copy, ``text`` is
    the file as it is, ``plugins`` the decoded configuration of each plugin, first to last,
    ``disable_check`` whether the plugins are never to be asked for CHECK.
    """

    __slots__ = ("cni_version", "disable_check", "file_name", "is_list", "name", "path", "plugins", "text")

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.file_name = os.path.basename(path)
        self.text = text
        value = _object(gojson.loads(text), "the configuration")
        self.name = _string(value, "name")
        if "/" in self.name or not self.name.isprintable() or self.name in (".", ".."):
            raise RktError(f"name: {self.name!r} is not the name of a network")
        self.cni_version = _version(value)
        self.disable_check = value.get("disableCheck") is True
        self.is_list = "plugins" in value
        if self.is_list:
            members = value["plugins"]
            if not isinstance(members, list) or not members:
                raise RktError("plugins: expected a list with at least one plugin")
            self.plugins = [_object(member, f"plugins[{n}]") for n, member in enumerate(members)]
        else:
            self.plugins = [value]
        for plugin in self.plugins:
            plugin_type = _string(plugin, "type")
            if "/" in plugin_type or plugin_type in (".", ".."):
                raise RktError(f'type: "{plugin_type}" is not the file name of a plugin')
            if not isinstance(plugin.get("capabilities") or {}, dict):
                raise RktError("capabilities: expected an object")

    @property
    def masquerades(self) -> bool:
        """Whether traffic out of the network takes the host's address (``ipMasq``)."""
        return any(plugin.get("ipMasq") is True for plugin in self.plugins)

    def takes(self, capability: str) -> bool:
        """Whether a plugin says that it takes a capability (``portMappings``, ``ips``, ``bandwidth``...)."""
        return any((plugin.get("capabilities") or {}).get(capability) is True for plugin in self.plugins)

    def is_at_least(self, *version: int) -> bool:
        """Whether it is written for this version of the CNI specification or a later one."""
        numbers = [int(part) if part.isdecimal() else 0 for part in self.cni_version.split(".")]
        return numbers >= list(version)


def read(path: str) -> NetworkConfig:
    """The configuration in one file; RktError names it."""
    try:
        return NetworkConfig(path, _content(path).decode())
    except Interrupted:
        raise
    except FileNotFoundError as exc:
        raise RktError(f"error loading network configuration {path}") from exc
    except UnicodeDecodeError:
        raise RktError(f"error loading network configuration {path}: not text in UTF-8") from None
    except (OSError, RktError) as exc:
        # One sentence, because only the outermost and the innermost cause are shown.
        raise RktError(f"error loading network configuration {path}: {one_line(exc)}") from None


def _content(path: str) -> bytes:
    """What is in a regular file; a FIFO is not waited for."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise RktError("not a regular file")
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        data = file.read(SIZE_LIMIT + 1)
    if len(data) > SIZE_LIMIT:
        raise RktError("larger than a megabyte")
    return data


class Configuration:
    """All networks, in the order pods get them; ``faults`` are the files that could not be read."""

    __slots__ = ("faults", "networks")

    def __init__(self, networks: list[NetworkConfig], faults: list[RktError]) -> None:
        self.networks = networks
        self.faults = faults


def load(directories: list[str], stage1_root: str) -> Configuration:
    """Every network that is configured on this machine and in this stage1.

    ``directories`` are configuration directories, the one that hides all others first.
    """
    found: dict[str, NetworkConfig] = {}
    faults: list[RktError] = []
    places = [os.path.join(directory, LOCAL_DIRECTORY) for directory in directories]
    for directory in (*places, os.path.join(stage1_root, STAGE1_DIRECTORY)):
        here: dict[str, NetworkConfig] = {}
        for name in _file_names(directory):
            try:
                config = read(os.path.join(directory, name))
                if config.name in here:
                    raise _duplicate(here[config.name], config)
            except Interrupted:
                raise
            except RktError as exc:
                faults.append(exc)
            else:
                here[config.name] = config
        for name, config in here.items():
            found.setdefault(name, config)
    for name, text in BUILTIN:
        config = NetworkConfig(name, text)
        found.setdefault(config.name, config)
    return Configuration(sorted(found.values(), key=lambda config: config.file_name), faults)


def _duplicate(first: NetworkConfig, second: NetworkConfig) -> RktError:
    error = Duplicate(
        f"error loading network configuration {second.path}: "
        f'network "{second.name}" is configured by {first.file_name} too'
    )
    error.network = second.name
    return error


class Duplicate(RktError):
    """A file that configures ``network``, which another file of the same directory configures already."""

    network = ""


def select(
    networks: list[tuple[str, str]],
    configuration: Configuration,
    notify: Callable[[str], None],
) -> list[tuple[NetworkConfig, str]]:
    """The configured networks that a selection asks for, each with its arguments.

    A file that cannot be read stops only a pod that may have asked for it; others are told of it.
    """
    arguments = dict(networks)
    everything = "all" in arguments
    chosen = [
        (config, arguments.get(config.name, ""))
        for config in configuration.networks
        if everything or config.name in arguments
    ]
    present = {config.name for config, _ in chosen}
    missing = [name for name, _ in networks if name != "all" and name not in present]
    for fault in configuration.faults:
        mine = fault.network in arguments if isinstance(fault, Duplicate) else bool(missing)
        if everything or mine:
            raise fault
    for fault in configuration.faults:
        notify(f"warning: {one_line(fault)}")
    if missing:
        raise RktError(f"networks not found: {', '.join(missing)}")
    return chosen


def _file_names(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in names if name.endswith(SUFFIXES))


def _version(value: dict[str, Any]) -> str:
    """The version plugins are asked in: of a choice (``cniVersions``) the latest that rkt knows."""
    choice = value.get("cniVersions") or []
    if not isinstance(choice, list):
        raise RktError("cniVersions: expected a list")
    alone = _string(value, "cniVersion", "")
    known = [version for version in VERSIONS if version in (alone, *choice)]
    if not choice:
        return alone
    if not known:
        raise RktError(f"cniVersions: rkt knows none of them, only {', '.join(VERSIONS)}")
    return known[-1]


def _object(value: object, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RktError(f"{path}: expected an object")
    return value


def _string(value: dict[str, Any], name: str, default: str | None = None) -> str:
    member = value.get(name, default)
    if not isinstance(member, str) or (default is None and not member):
        raise RktError(f"{name}: expected a string")
    return member
