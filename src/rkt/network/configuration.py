"""Configured networks: which exist, in which order a pod gets them, and what each hands to its plugins.

Files are looked for in ``<local configuration>/net.d``, then in the stage1 image's ``etc/rkt/net.d``;
the built-in two come last.  ``*.conf`` holds one CNI network configuration, ``*.conflist`` a list of
plugins.  Networks are told apart by the *name* inside: an earlier place hides a later one.  Pods get
their networks in the order of file names, whatever directory they are in.
"""

from __future__ import annotations

import os

from rkt.appc import gojson
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

STAGE1_DIRECTORY = "etc/rkt/net.d"
LOCAL_DIRECTORY = "net.d"
SUFFIXES = (".conf", ".conflist")
SIZE_LIMIT = 1 << 20

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
    the file as it is, ``plugins`` the decoded configuration of each plugin, first to last.
    """

    __slots__ = ("cni_version", "file_name", "is_list", "name", "path", "plugins", "text")

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.file_name = os.path.basename(path)
        self.text = text
        value = _object(gojson.loads(text), "the configuration")
        self.name = _string(value, "name")
        self.cni_version = _string(value, "cniVersion", "")
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

    @property
    def masquerades(self) -> bool:
        """Whether traffic out of the network takes the host's address (``ipMasq``)."""
        return any(plugin.get("ipMasq") is True for plugin in self.plugins)

    def plugin_input(self, index: int, previous: Any = None) -> str:
        """What plugin ``index`` reads: its configuration, in a list with name, version and the
        previous plugin's result added (CNI specification, "Deriving execution configuration")."""
        if not self.is_list and previous is None:
            return self.text
        value = dict(self.plugins[index])
        value["name"] = self.name
        if self.cni_version:
            value["cniVersion"] = self.cni_version
        if previous is not None:
            value["prevResult"] = previous
        return gojson.dumps(value)


def read(path: str) -> NetworkConfig:
    """The configuration in one file; RktError names it."""
    try:
        with open(path, "rb") as file:
            data = file.read(SIZE_LIMIT + 1)
        if len(data) > SIZE_LIMIT:
            raise RktError("larger than a megabyte")
        return NetworkConfig(path, data.decode())
    except (OSError, UnicodeDecodeError, RktError) as exc:
        raise RktError(f"error loading network configuration {path}") from exc


class Configuration:
    """All networks, in the order pods get them; ``faults`` are the files that could not be read."""

    __slots__ = ("faults", "networks")

    def __init__(self, networks: list[NetworkConfig], faults: list[RktError]) -> None:
        self.networks = networks
        self.faults = faults


def load(local_config: str, stage1_root: str) -> Configuration:
    """Every network that is configured on this machine and in this stage1."""
    found: dict[str, NetworkConfig] = {}
    faults: list[RktError] = []
    places = (os.path.join(local_config, LOCAL_DIRECTORY), os.path.join(stage1_root, STAGE1_DIRECTORY))
    for directory in places:
        for name in _file_names(directory):
            try:
                config = read(os.path.join(directory, name))
            except RktError as exc:
                faults.append(exc)
            else:
                found.setdefault(config.name, config)
    for name, text in BUILTIN:
        config = NetworkConfig(name, text)
        found.setdefault(config.name, config)
    return Configuration(sorted(found.values(), key=lambda config: config.file_name), faults)


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
    if configuration.faults and (everything or missing):
        raise configuration.faults[0]
    for fault in configuration.faults:
        notify(f"warning: {fault}: {fault.__cause__}")
    if missing:
        raise RktError(f"networks not found: {', '.join(missing)}")
    return chosen


def _file_names(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in names if name.endswith(SUFFIXES))


def _object(value: object, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RktError(f"{path}: expected an object")
    return value


def _string(value: dict[str, Any], name: str, default: str | None = None) -> str:
    member = value.get(name, default)
    if not isinstance(member, str) or (default is None and not member):
        raise RktError(f"{name}: expected a string")
    return member
