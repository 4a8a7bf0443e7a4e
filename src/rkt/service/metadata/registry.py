"""What the service knows about pods, in memory and in files that outlive it.

DIRECTORY/        0700, flock'd by the service that uses it
    key           0600, 64 random bytes: the key of all signatures
    pods/UUID     0600, JSON: one registration

It is below /run: registrations and signatures are about pods, and no pod outlives a boot.  Of a token only
the SHA-256 is kept, in memory as well: who can read the files cannot ask in a pod's name, and how long a
look-up takes tells nothing.  Each file is replaced as a whole; one that cannot be understood is dropped.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from rkt.appc import annotations as notes
from rkt.appc import gojson
from rkt.appc.errors import AppcError
from rkt.appc.image import ImageManifest
from rkt.appc.pod import PodManifest
from rkt.errors import RktError, one_line
from rkt.linux.files import make_directory, write_atomic
from rkt.linux.lock import Lock
from rkt.pod import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.appc.annotations import Annotation
    from rkt.appc.pod import RuntimeApp

DIRECTORY = "/run/rkt/metadata-svc"
_KEY_BYTES = 64
_PODS = "pods"
_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700


class Registration:
    """One pod: what was sent by ``PUT``, and the answers made of it.

    ``token`` is the SHA-256 of the token in hex, ``apps`` has the image manifests as they were sent.
    """

    __slots__ = ("_served", "apps", "data_dir", "manifest", "text", "token", "uuid")

    def __init__(self, uuid: str, *, token: str, data_dir: str, text: str) -> None:
        self.uuid = uuid
        self.token = token
        self.data_dir = data_dir
        self.text = text
        self.manifest = PodManifest.decode(text)
        self.apps: dict[str, str] = {}
        self._served = ""

    def add(self, app: str, text: str) -> None:
        """Take the image manifest of an app; AppcError when it is none."""
        ImageManifest.decode(text)
        self.apps[app] = text
        self._served = ""

    def app(self, name: str) -> RuntimeApp | None:
        return self.manifest.app(name)

    @property
    def pod_manifest(self) -> str:
        """The reified pod manifest: every app has its ``app`` section, the image's unless it was replaced."""
        if not self._served:
            for app in self.manifest.apps:
                if app.app is None and app.name in self.apps:
                    app.app = ImageManifest.decode(self.apps[app.name]).app
            self._served = self.manifest.encode()
        return self._served

    def app_annotations(self, app: RuntimeApp) -> list[Annotation]:
        """Those of the image, replaced in place by those the pod gives the app, which else are appended."""
        merged: list[Annotation] = []
        if app.name in self.apps:
            merged = list(ImageManifest.decode(self.apps[app.name]).annotations)
        for annotation in app.annotations:
            notes.put(merged, annotation.name, annotation.value)
        return merged

    def encode(self) -> str:
        return gojson.dumps(
            {"token": self.token, "dir": self.data_dir, "manifest": self.text, "apps": dict(self.apps)}
        )

    @classmethod
    def decode(cls, uuid: str, data: bytes) -> Registration:
        """Read a file; RktError when it is none of ours."""
        value = gojson.loads(data)
        if not isinstance(value, dict) or not isinstance(value.get("apps"), dict):
            raise RktError("not a registration")
        token, data_dir, text = (value.get(name) for name in ("token", "dir", "manifest"))
        if not isinstance(token, str) or not isinstance(data_dir, str) or not isinstance(text, str):
            raise RktError("not a registration")
        made = cls(uuid, token=token, data_dir=data_dir, text=text)
        for name, manifest in value["apps"].items():
            if made.app(name) is None or not isinstance(manifest, str):
                raise RktError("not a registration")
            made.add(name, manifest)
        return made


class Registry:
    """All registrations of one service, and the key it signs with; ``close`` it."""

    __slots__ = ("_by_token", "_directory", "_lock", "_notify", "key", "pods")

    def __init__(self, directory: str, notify: Callable[[str], None]) -> None:
        """Take the directory, and read what an earlier service left there.

        ``notify`` is told what was dropped.  RktError when another service uses the directory.
        """
        self._directory = directory
        self._notify = notify
        self.pods: dict[str, Registration] = {}
        self._by_token: dict[str, Registration] = {}
        make_directory(os.path.dirname(directory), 0o755, parents=True)
        make_directory(directory, _DIRECTORY_MODE)
        self._lock = Lock.open(directory)
        try:
            if not self._lock.try_exclusive():
                raise RktError(f"another metadata service is running, it uses {directory}")
            make_directory(os.path.join(directory, _PODS), _DIRECTORY_MODE)
            self.key = self._read_key()
            self._read_pods()
            self.drop_stale()
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        self._lock.close()

    def by_token(self, token: str) -> Registration | None:
        return self._by_token.get(digest(token))

    def register(self, uuid: str, token: str, text: str, data_dir: str) -> None:
        """Know a pod from now on, with no app yet; what was known under its UUID is replaced.

        AppcError for a manifest that is none, RktError when another pod has the token.
        """
        made = Registration(uuid, token=digest(token), data_dir=data_dir, text=text)
        other = self._by_token.get(made.token)
        if other is not None and other.uuid != uuid:
            raise RktError("the token belongs to another pod")
        self._write(made)
        self._forget(uuid)
        self._remember(made)

    def add_app(self, registration: Registration, app: str, text: str) -> None:
        """Take the image manifest of one of the pod's apps; AppcError when it is none."""
        registration.add(app, text)
        self._write(registration)

    def remove(self, uuid: str) -> bool:
        """Forget a pod; False when it was not known."""
        known = self._forget(uuid)
        try:
            os.unlink(self._path(uuid))
        except FileNotFoundError:
            pass
        return known

    def drop_stale(self) -> None:
        """Forget the pods that are gone: nobody told the service, it was not there when they went."""
        for registration in list(self.pods.values()):
            if _is_gone(registration):
                self.remove(registration.uuid)
                self._notify(f"pod {registration.uuid} is gone, its registration is dropped")

    def signature(self, uuid: str, content: bytes) -> bytes:
        """HMAC-SHA512 over the 16 bytes of the UUID and the content (facts of the reference)."""
        return hmac.digest(self.key, bytes.fromhex(uuid.replace("-", "")) + content, "sha512")

    def _remember(self, registration: Registration) -> None:
        self.pods[registration.uuid] = registration
        self._by_token[registration.token] = registration

    def _forget(self, uuid: str) -> bool:
        known = self.pods.pop(uuid, None)
        if known is not None:
            del self._by_token[known.token]
        return known is not None

    def _path(self, uuid: str) -> str:
        return os.path.join(self._directory, _PODS, uuid)

    def _write(self, registration: Registration) -> None:
        write_atomic(self._path(registration.uuid), registration.encode(), _FILE_MODE)

    def _read_key(self) -> bytes:
        path = os.path.join(self._directory, "key")
        try:
            with open(path, "rb") as file:
                key = file.read(_KEY_BYTES + 1)
            if len(key) == _KEY_BYTES:
                return key
            self._notify(f"{path} is damaged, signatures made before are void")
        except FileNotFoundError:
            pass
        key = os.urandom(_KEY_BYTES)
        write_atomic(path, key, _FILE_MODE)
        return key

    def _read_pods(self) -> None:
        for name in os.listdir(os.path.join(self._directory, _PODS)):
            path = self._path(name)
            if not layout.is_uuid(name):
                os.unlink(path)  # what a crash has left of a file that was being replaced
                continue
            try:
                with open(path, "rb") as file:
                    self._remember(Registration.decode(name, file.read()))
            except (RktError, AppcError) as error:
                self._notify(f"{path} is damaged, it is dropped: {one_line(error)}")
                os.unlink(path)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _is_gone(registration: Registration) -> bool:
    """Whether the pod's data directory has it no more; one that cannot be read says nothing."""
    pods = os.path.join(registration.data_dir, layout.PODS)
    try:
        os.stat(pods)
    except OSError:
        return False
    # Pods move forward through these directories, so this order cannot miss one.
    for state in layout.DIRECTORIES:
        try:
            os.stat(os.path.join(pods, state, registration.uuid))
            return False
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
