"""The paths of the metadata service: statuses and exact content types, without a socket."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest

from rkt.service.metadata.answers import Answers
from rkt.service.metadata.http import HttpError, Request, Response
from rkt.service.metadata.registry import Registry

UUID = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f1"
OTHER = "6733c088-a507-4694-aabf-cc5da44fb09f"
TOKEN = "0123456789abcdef0123456789abcdef"
IMAGE_ID = "sha512-" + "ab" * 32
ASCII = "text/plain; charset=us-ascii"

IMAGE = {
    "acKind": "ImageManifest",
    "acVersion": "0.8.11",
    "name": "example.com/web",
    "app": {"exec": ["/bin/web"], "user": "0", "group": "0"},
    "annotations": [{"name": "authors", "value": "A"}, {"name": "example.com/role", "value": "image's"}],
}
POD = {
    "acVersion": "0.8.11",
    "acKind": "PodManifest",
    "apps": [
        {
            "name": "web",
            "image": {"id": IMAGE_ID},
            "annotations": [
                {"name": "example.com/role", "value": "pod's"},
                {"name": "added", "value": "grüße"},
            ],
        }
    ],
    "volumes": None,
    "isolators": None,
    "annotations": [{"name": "example.com/rack/number", "value": "7"}],
    "ports": [],
}


class Service:
    """One registry and its answers; an HttpError is the response it becomes."""

    def __init__(self, directory: str) -> None:
        self.said: list[str] = []
        self.registry = Registry(f"{directory}/state", self.said.append)
        self.answers = Answers(self.registry, f"{directory}/data")

    def local(self, method: str, target: str, body: object = b"", **headers: str) -> Response:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            return self.answers.registration(Request(method, target, headers, data))
        except HttpError as error:
            return Response(error.status, error.reason.encode())

    def ask(self, path: str, method: str = "GET", form: object = None, token: str = TOKEN) -> Response:
        headers = {"content-type": "application/x-www-form-urlencoded"} if form is not None else {}
        body = form if isinstance(form, bytes) else urlencode(form or {}).encode()  # type: ignore[arg-type]
        try:
            target = f"/{token}/acMetadata/v1{path}"
            return self.answers.metadata(Request(method, target, headers, body))
        except HttpError as error:
            return Response(error.status, error.reason.encode())

    def register(self, uuid: str = UUID, token: str = TOKEN, pod: object = POD) -> None:
        assert self.local("PUT", f"/pods/{uuid}?token={token}", pod).status == 200
        assert self.local("PUT", f"/pods/{uuid}/web", IMAGE).status == 200


@pytest.fixture
def service(tmp_path: os.PathLike[str]) -> Iterator[Service]:
    made = Service(os.fspath(tmp_path))
    made.register()
    yield made
    made.registry.close()


# -- what apps ask ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("/pod/uuid", ASCII, UUID.encode()),
        ("/pod/annotations", "application/json", b'[{"name":"example.com/rack/number","value":"7"}]'),
        ("/pod/annotations/example.com/rack/number", ASCII, b"7"),
        ("/pod/annotations/example.com%2Frack%2Fnumber", ASCII, b"7"),
        ("/apps/web/image/id", ASCII, IMAGE_ID.encode()),
        ("/apps/web/image/manifest", "application/json", json.dumps(IMAGE).encode()),
        ("/apps/web/annotations/authors", ASCII, b"A"),
        ("/apps/web/annotations/example.com/role", ASCII, b"pod's"),
        ("/apps/web/annotations/added", "text/plain; charset=utf-8", "grüße".encode()),
    ],
)
def test_answers(service: Service, path: str, content_type: str, body: bytes) -> None:
    found = service.ask(path)
    assert (found.status, found.content_type, found.body) == (200, content_type, body)
    assert service.ask(path, "HEAD").status == 200
    refused = service.ask(path, "PUT")
    assert (refused.status, refused.allow) == (405, "GET, HEAD")


def test_pod_manifest_is_reified(service: Service) -> None:
    found = service.ask("/pod/manifest")
    assert (found.status, found.content_type) == (200, "application/json")
    manifest = json.loads(found.body)
    assert manifest["apps"][0]["app"] == IMAGE["app"]
    assert manifest["annotations"] == POD["annotations"]


def test_app_annotations_are_merged_in_place(service: Service) -> None:
    found = json.loads(service.ask("/apps/web/annotations").body)
    assert [(note["name"], note["value"]) for note in found] == [
        ("authors", "A"),
        ("example.com/role", "pod's"),
        ("added", "grüße"),
    ]
    # and the image's own are as they were
    assert json.loads(service.ask("/apps/web/image/manifest").body) == IMAGE


@pytest.mark.parametrize("listed", [None, []])
def test_pod_annotations_mirror_the_manifest(service: Service, listed: object) -> None:
    service.register(pod={**POD, "annotations": listed})
    manifest = json.loads(service.ask("/pod/manifest").body)
    assert json.loads(service.ask("/pod/annotations").body) == manifest["annotations"] == listed


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/apps/db/image/id", 404),
        ("/apps/db/annotations", 404),
        ("/apps/Web!/image/id", 400),
        ("/apps/../image/id", 400),
        ("/apps/..%2f..%2fetc/image/id", 400),
        ("/apps/%00/image/id", 400),
        ("/apps/%zz/image/id", 400),
        ("/apps/web", 404),
        ("/apps/web/image", 404),
        ("/apps/web/annotations/nosuch", 404),
        ("/pod/annotations/nosuch", 404),
        ("/pod/annotations/", 404),
        ("/pod", 404),
        ("/pod/uuid/", 404),
        ("/pod/hmac", 404),
        ("/pods", 404),
        ("", 404),
        ("/", 404),
    ],
)
def test_what_is_not_there(service: Service, path: str, status: int) -> None:
    assert service.ask(path).status == status


@pytest.mark.parametrize(
    "token", ["", "x", UUID, TOKEN.upper(), TOKEN[:-1], TOKEN + "0", "../" + TOKEN, "%00"]
)
@pytest.mark.parametrize("path", ["/pod/uuid", "/pod/manifest", "/apps/web/image/id", "/nosuch"])
def test_nothing_without_the_token(service: Service, token: str, path: str) -> None:
    assert service.ask(path, token=token).status in (401, 404)
    assert service.ask("/pod/uuid", token=token).body not in (UUID.encode(), b"")


def test_unknown_token(service: Service) -> None:
    assert service.ask("/pod/uuid", token="f" * 32).status == 401


# -- signatures ------------------------------------------------------------------------------------------


def test_signature_is_over_uuid_and_content(service: Service) -> None:
    content = bytes(range(256))
    found = service.ask("/pod/hmac/sign", "POST", ("content=" + quote(content)).encode())
    assert (found.status, found.content_type) == (200, ASCII)
    message = bytes.fromhex(UUID.replace("-", "")) + content
    expected = hmac.new(service.registry.key, message, hashlib.sha512).digest()
    assert base64.b64decode(found.body, validate=True) == expected


def test_verify_between_pods(service: Service) -> None:
    service.register(OTHER, "f" * 32)
    signature = service.ask("/pod/hmac/sign", "POST", {"content": "a b+c"}).body.decode()
    good = {"uuid": UUID, "content": "a b+c", "signature": signature}

    def verify(**changed: str) -> int:
        return service.ask("/pod/hmac/verify", "POST", {**good, **changed}, token="f" * 32).status

    assert verify() == 200
    assert verify(content="a b+d") == 403
    assert verify(uuid=OTHER) == 403
    assert verify(signature=base64.b64encode(b"x" * 64).decode()) == 403
    assert verify(signature="") == 403
    assert verify(signature="no base64!") == 400
    assert verify(uuid="../" + UUID) == 400
    assert verify(uuid="") == 400


@pytest.mark.parametrize("missing", ["uuid", "content", "signature"])
def test_missing_field(service: Service, missing: str) -> None:
    form = {"uuid": UUID, "content": "x", "signature": ""}
    del form[missing]
    assert service.ask("/pod/hmac/verify", "POST", form).status == 400
    assert service.ask("/pod/hmac/sign", "POST", {}).status == 400


def test_form_must_be_one(service: Service) -> None:
    assert service.ask("/pod/hmac/sign", "POST").status == 400
    assert service.ask("/pod/hmac/sign", "POST", b"content=%f").status == 400
    refused = service.ask("/pod/hmac/sign")
    assert (refused.status, refused.allow) == (405, "POST")


# -- registration ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("PUT", f"/pods/{UUID}", POD, 400),
        ("PUT", f"/pods/{UUID}?token=short", POD, 400),
        ("PUT", f"/pods/{UUID}?token={'x' * 300}", POD, 400),
        ("PUT", f"/pods/{UUID}?token=..%2f{TOKEN}", POD, 400),
        ("PUT", f"/pods/{OTHER}?token={TOKEN}", POD, 409),
        ("PUT", f"/pods/..%2f..%2fetc?token={TOKEN}", POD, 400),
        ("PUT", f"/pods/../x?token={TOKEN}", POD, 400),
        ("PUT", f"/pods/{UUID}?token={TOKEN}", b"{", 400),
        ("PUT", f"/pods/{UUID}?token={TOKEN}", b"\xff", 400),
        ("PUT", f"/pods/{UUID}?token={TOKEN}", IMAGE, 400),
        ("PUT", f"/pods/{UUID}/web", POD, 400),
        ("PUT", f"/pods/{UUID}/db", IMAGE, 404),
        ("PUT", f"/pods/{UUID}/..%2fweb", IMAGE, 400),
        ("PUT", f"/pods/{OTHER}/web", IMAGE, 404),
        ("DELETE", f"/pods/{OTHER}", b"", 404),
        ("DELETE", "/pods/..%2f..%2fkey", b"", 400),
        ("DELETE", f"/pods/{UUID}/web", b"", 405),
        ("GET", f"/pods/{UUID}", b"", 405),
        ("GET", f"/{TOKEN}/acMetadata/v1/pod/uuid", b"", 404),
        ("PUT", "/pods", POD, 404),
        ("PUT", "/", POD, 404),
    ],
)
def test_bad_registration_changes_nothing(
    service: Service, method: str, target: str, body: object, status: int
) -> None:
    assert service.local(method, target, body).status == status
    assert list(service.registry.pods) == [UUID]
    assert service.ask("/pod/uuid").body == UUID.encode()
    assert service.ask("/apps/web/image/manifest").status == 200


def test_registration_is_not_reached_over_tcp(service: Service) -> None:
    request = Request("DELETE", f"/pods/{UUID}", {}, b"")
    with pytest.raises(HttpError) as caught:
        service.answers.metadata(request)
    assert caught.value.status == 404


def test_registered_again(service: Service) -> None:
    """stage0 repeats a request whose answer it has not seen."""
    service.register(token="e" * 32)
    assert service.ask("/pod/uuid").status == 401
    assert service.ask("/pod/uuid", token="e" * 32).status == 200


def test_unregistered(service: Service) -> None:
    assert service.local("DELETE", f"/pods/{UUID}").status == 200
    assert service.ask("/pod/uuid").status == 401
    assert service.local("DELETE", f"/pods/{UUID}").status == 404


def test_full_disk_is_told(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/run/rkt")

    monkeypatch.setattr("rkt.service.metadata.registry.write_atomic", full)
    refused = service.local("PUT", f"/pods/{OTHER}?token={'d' * 32}", POD)
    assert (refused.status, b"no space left" in refused.body) == (500, True)
    assert service.ask("/pod/uuid", token="d" * 32).status == 401
