"""The pod an entry point was started for: its directory, manifest and apps.

Layout: facts of rkt 1.30 on pod directories.  stage0 has prepared everything; nothing here is written.
"""

from __future__ import annotations

import os

from rkt.appc import uuid as appc_uuid
from rkt.appc.image import ImageManifest
from rkt.appc.pod import PodManifest
from rkt.errors import RktError
from rkt.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.appc.app import App as AppSection
    from rkt.appc.pod import RuntimeApp

_MANIFEST_LIMIT = 16 << 20
STAGE2 = "opt/stage2"


class App:
    """One app: its entry of the pod manifest, its image's manifest and the ``app`` section in force."""

    __slots__ = ("app", "image", "name", "runtime")

    def __init__(self, runtime: RuntimeApp, image: ImageManifest, app: AppSection) -> None:
        self.name = runtime.name
        self.runtime, self.image, self.app = runtime, image, app

    @property
    def variables(self) -> list[tuple[str, str]]:
        """The environment of the manifest, as pairs."""
        return [(entry.name, entry.value) for entry in self.app.environment]


class Pod:
    """A pod's ``directory`` (absolute), ``uuid`` (36 characters), ``manifest`` and ``apps``."""

    __slots__ = ("apps", "directory", "manifest", "uuid")

    def __init__(self, directory: str, uuid: str, manifest: PodManifest, apps: list[App]) -> None:
        self.directory, self.uuid, self.manifest, self.apps = directory, uuid, manifest, apps

    @property
    def stage1_root(self) -> str:
        """The root file system of stage1."""
        return os.path.join(self.directory, "stage1", "rootfs")

    def app_root(self, app: str) -> str:
        """The root file system of an app."""
        return os.path.join(self.stage1_root, STAGE2, app, "rootfs")

    @property
    def machine_id(self) -> str:
        """The pod's machine-id: the UUID without dashes."""
        return self.uuid.replace("-", "")


def load(directory: str, uuid: str) -> Pod:
    """Read the pod whose directory is ``directory``; RktError names the file that is at fault."""
    uuid = appc_uuid.parse(uuid)
    directory = os.path.abspath(directory)
    root_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        manifest = PodManifest.decode(_read(root_fd, directory, "pod"))
        apps = []
        for runtime in manifest.apps:
            path = f"appsinfo/{runtime.name}/manifest"
            image = ImageManifest.decode(_read(root_fd, directory, path))
            section = runtime.app if runtime.app is not None else image.app
            if section is None:
                raise RktError(f'app "{runtime.name}" has neither an app section in the pod nor in its image')
            apps.append(App(runtime, image, section))
    finally:
        os.close(root_fd)
    return Pod(directory, uuid, manifest, apps)


def _read(root_fd: int, directory: str, path: str) -> bytes:
    try:
        return paths.read_file(root_fd, path, limit=_MANIFEST_LIMIT)
    except OSError as error:
        raise RktError(f"unable to read {os.path.join(directory, path)}") from error
