"""The configuration: JSON files in three layers, a later one overriding an earlier one entry by entry.

::

    /usr/lib/rkt (system)  <  /etc/rkt (local)  <  --user-config (user)
        auth.d/*.json      kinds auth, dockerAuth
        paths.d/*.json     kind paths
        stage1.d/*.json    kind stage1

An entry is a host, a registry or a single field.  Within one layer an entry may be there only once.
``rkt.config.files`` finds and reads the files, ``rkt.config.document`` checks what each is,
``rkt.config.kinds`` knows what is in them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rkt.config.kinds import Basic, Credentials, Paths, Stage1


class Config:
    """What is configured: ``auth`` by ``host[:port]``, ``docker_auth`` by registry, ``paths`` and
    ``stage1``.
    """

    __slots__ = ("auth", "docker_auth", "paths", "stage1")

    def __init__(self) -> None:
        from rkt.config.kinds import Paths, Stage1

        self.auth: dict[str, Credentials] = {}
        self.docker_auth: dict[str, Basic] = {}
        self.paths: Paths = Paths()
        self.stage1: Stage1 = Stage1()

    def override(self, upper: Config) -> None:
        """Takes over what the next layer says.  The name and the version of a stage1 belong together."""
        self.auth.update(upper.auth)
        self.docker_auth.update(upper.docker_auth)
        self.paths.override(upper.paths)
        self.stage1.override(upper.stage1)

    def dump(self) -> dict[str, Any]:
        """The configuration as ``rkt config`` prints it; credentials are in clear."""
        header = {"rktVersion": "v1"}
        entries: list[dict[str, Any]] = [
            {
                **header,
                "rktKind": "auth",
                "domains": [host],
                "type": credentials.kind,
                "credentials": credentials.to_value(),
            }
            for host, credentials in sorted(self.auth.items())
        ]
        entries += [
            {**header, "rktKind": "dockerAuth", "registries": [registry], "credentials": basic.to_value()}
            for registry, basic in sorted(self.docker_auth.items())
        ]
        entries.append({**header, "rktKind": "paths", **self.paths.to_value()})
        entries.append({**header, "rktKind": "stage1", **self.stage1.to_value()})
        return {"stage0": entries}


def load(system: str, local: str, user: str = "", notify: Callable[[str], None] | None = None) -> Config:
    """The configuration of all layers; ``user`` may be empty, a directory may be missing.

    ``notify`` gets a line about each file that looks like configuration and is passed over.
    Raises RktError that names the file, and OSError for one that cannot be read.
    """
    from rkt.config.files import DIRECTORIES, documents
    from rkt.config.kinds import READERS

    config = Config()
    for directory in (system, local, user):
        if directory:
            layer = Config()
            for name in DIRECTORIES:
                for document in documents(directory, name, notify):
                    document.read(READERS[document.kind], layer)
            config.override(layer)
    return config
