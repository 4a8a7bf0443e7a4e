"""The paths of the service: what apps may ask over TCP, and what rkt says about pods over the unix socket.

Names, content types and status codes are those of the appc specification and of rkt 1.30.  No part of a
request ever becomes a path of the file system.
"""

from __future__ import annotations

import base64
import binascii
import hmac

from rkt.appc import gojson, uuid
from rkt.appc.errors import AppcError
from rkt.appc.identifiers import check_name
from rkt.errors import RktError, describe, one_line
from rkt.service.metadata.http import HttpError, Response, text, unescape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.appc.annotations import Annotation
    from rkt.appc.pod import RuntimeApp
    from rkt.service.metadata.http import Request
    from rkt.service.metadata.registry import Registration, Registry

DATA_DIRECTORY = "rkt-data-directory"
"""The header that tells where the pod is, percent-encoded; without it, in the service's data directory."""

_JSON = "application/json"
_PREFIX = ["acMetadata", "v1"]
_SHORTEST_TOKEN = 32  # 128 bits in hex (the specification's minimum)
_LONGEST_TOKEN = 256
_TOKEN_LETTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_")


class Answers:
    """Makes the response to a request; ``data_dir`` is where pods are that do not say it."""

    __slots__ = ("_data_dir", "_registry")

    def __init__(self, registry: Registry, data_dir: str) -> None:
        self._registry = registry
        self._data_dir = data_dir

    # The unix socket.

    def registration(self, request: Request) -> Response:
        """``PUT /pods/UUID?token=T``, ``PUT /pods/UUID/APP``, ``DELETE /pods/UUID``."""
        segments = request.segments
        if segments[0] != "pods" or len(segments) not in (2, 3):
            raise HttpError(404)
        try:
            pod = uuid.parse(segments[1])
        except AppcError:
            raise HttpError(400, "invalid pod UUID") from None
        if request.method == "DELETE" and len(segments) == 2:
            if not self._registry.remove(pod):
                raise HttpError(404, "unknown pod")
            return Response(200)
        if request.method != "PUT":
            return Response(405, allow="PUT, DELETE" if len(segments) == 2 else "PUT")
        try:
            if len(segments) == 2:
                self._register(pod, request)
            else:
                self._add_app(pod, segments[2], request)
        except AppcError as error:
            raise HttpError(400, one_line(error)) from None
        except RktError as error:
            raise HttpError(409, one_line(error)) from None
        except OSError as error:
            raise HttpError(500, f"the registration cannot be kept: {describe(error)}") from None
        return Response(200)

    def _register(self, pod: str, request: Request) -> None:
        token = text(request.query.get("token", b""))
        if not _SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN or not _TOKEN_LETTERS.issuperset(token):
            raise HttpError(400, "missing or invalid token")
        data_dir = text(unescape(request.headers.get(DATA_DIRECTORY, "").encode())) or self._data_dir
        self._registry.register(pod, token, text(request.body), data_dir)

    def _add_app(self, pod: str, name: str, request: Request) -> None:
        registration = self._registry.pods.get(pod)
        if registration is None:
            raise HttpError(404, "unknown pod")
        self._registry.add_app(registration, _app(registration, name).name, text(request.body))

    # TCP.

    def metadata(self, request: Request) -> Response:
        """``/TOKEN/acMetadata/v1/...``: the token says which pod, before all else."""
        token, *path = request.segments
        if path[:2] != _PREFIX:
            raise HttpError(404)
        registration = self._registry.by_token(token)
        if registration is None:
            raise HttpError(401, "unknown token")
        path = path[2:]
        if path[:2] == ["pod", "hmac"] and path[2:] in (["sign"], ["verify"]):
            if request.method != "POST":
                return Response(405, allow="POST")
            if path[2] == "sign":
                return self._sign(registration, request.form())
            return self._verify(request.form())
        response = self._about(registration, path)
        if request.method not in ("GET", "HEAD"):
            return Response(405, allow="GET, HEAD")
        return response

    def _about(self, registration: Registration, path: list[str]) -> Response:
        if path[:1] == ["pod"]:
            return _about_pod(registration, path[1:])
        if path[:1] == ["apps"] and len(path) > 2:
            return _about_app(registration, _app(registration, path[1]), path[2:])
        raise HttpError(404)

    def _sign(self, registration: Registration, form: dict[str, bytes]) -> Response:
        signature = self._registry.signature(registration.uuid, _field(form, "content"))
        return Response(200, base64.b64encode(signature))

    def _verify(self, form: dict[str, bytes]) -> Response:
        """Any pod may ask about the signature of any other: that is what it is for."""
        try:
            pod = uuid.parse(text(_field(form, "uuid")))
        except AppcError:
            raise HttpError(400, "invalid uuid") from None
        content = _field(form, "content")
        try:
            signature = base64.b64decode(_field(form, "signature"), validate=True)
        except binascii.Error:
            raise HttpError(400, "invalid signature") from None
        if not hmac.compare_digest(signature, self._registry.signature(pod, content)):
            raise HttpError(403)
        return Response(200)


def _about_pod(registration: Registration, path: list[str]) -> Response:
    if path == ["uuid"]:
        return _text(registration.uuid)
    if path == ["manifest"]:
        return Response(200, registration.pod_manifest.encode(), _JSON)
    if path[:1] == ["annotations"]:
        # The list as it is in the manifest, which may be null.
        listed = registration.manifest.to_value()["annotations"]
        return _annotations(listed, registration.manifest.annotations, path[1:])
    raise HttpError(404)


def _about_app(registration: Registration, app: RuntimeApp, path: list[str]) -> Response:
    if path == ["image", "id"]:
        return _text(app.image.id)
    if path == ["image", "manifest"]:
        if app.name not in registration.apps:
            raise HttpError(404, "unknown image manifest")
        return Response(200, registration.apps[app.name].encode(), _JSON)
    if path[:1] == ["annotations"]:
        merged = registration.app_annotations(app)
        return _annotations([note.to_value() for note in merged], merged, path[1:])
    raise HttpError(404)


def _annotations(listed: Any, annotations: list[Annotation], name: list[str]) -> Response:
    """All of them, or the value of one; a name may have slashes."""
    if not name:
        return Response(200, gojson.dumps(listed).encode(), _JSON)
    for annotation in annotations:
        if annotation.name == "/".join(name):
            return _text(annotation.value)
    raise HttpError(404, "unknown annotation")


def _app(registration: Registration, name: str) -> RuntimeApp:
    try:
        check_name(name)
    except AppcError:
        raise HttpError(400, "invalid app name") from None
    app = registration.app(name)
    if app is None:
        raise HttpError(404, "unknown app")
    return app


def _field(form: dict[str, bytes], name: str) -> bytes:
    try:
        return form[name]
    except KeyError:
        raise HttpError(400, f"missing form field {name}") from None


def _text(value: str) -> Response:
    """Text without a newline; ASCII is called so, as the specification has it."""
    charset = "us-ascii" if value.isascii() else "utf-8"
    return Response(200, value.encode(), f"text/plain; charset={charset}")
