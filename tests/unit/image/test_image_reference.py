"""What an image word means."""

from __future__ import annotations

import os

import pytest

from rkt.errors import RktError
from rkt.image import reference
from rkt.image.insecure import InsecureOptions
from rkt.image.reference import DOCKER, FILE, HTTP, ID, NAME, parse


@pytest.fixture(autouse=True)
def working_directory(tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    with open("existing.aci", "w"), open("existing", "w"):
        pass
    return os.getcwd()


@pytest.mark.parametrize(
    ("text", "kind", "location"),
    [
        ("sha512-ab", ID, "sha512-ab"),
        ("sha512-" + "ab" * 64, ID, "sha512-" + "ab" * 64),
        ("/images/a.aci", FILE, "/images/a.aci"),
        ("/images/../a.aci", FILE, "/a.aci"),
        ("existing.aci", FILE, "{}/existing.aci"),
        ("nosuch.aci", FILE, "{}/nosuch.aci"),
        ("./nosuch.aci", FILE, "{}/nosuch.aci"),
        ("a/./b.aci", FILE, "{}/a/b.aci"),
        ("file:///images/a%20b.aci", FILE, "/images/a b.aci"),
        ("file://localhost/images/a.aci", FILE, "/images/a.aci"),
        ("https://example.com/a.aci", HTTP, "https://example.com/a.aci"),
        ("HTTPS://example.com/a.aci?x=y#z", HTTP, "HTTPS://example.com/a.aci?x=y#z"),
        ("docker://busybox", DOCKER, "busybox"),
        ("docker:quay.io/a/b:1", DOCKER, "quay.io/a/b:1"),
        ("example.com/app", NAME, "example.com/app"),
        ("example.com/app:1.0", NAME, "example.com/app:1.0"),
        ("app", NAME, "app"),
        ("app:v1", NAME, "app:v1"),
        ("app,os=linux", NAME, "app,os=linux"),
        ("cimd:docker:v=0:busybox", DOCKER, "busybox"),
        ("cimd:aci-archive:v=0:file%3A%2F%2F%2Fimages%2Fa.aci", FILE, "/images/a.aci"),
        ("cimd:aci-archive:v=0:https%3A%2F%2Fexample.com%2Fa.aci", HTTP, "https://example.com/a.aci"),
        ("cimd:appc:v=0:example.com/app?version=1&os=linux", NAME, "example.com/app,version=1,os=linux"),
    ],
)
def test_words(text: str, kind: str, location: str, working_directory: str) -> None:
    parsed = parse(text)
    assert (parsed.kind, parsed.location) == (kind, location.format(working_directory))
    assert parsed.text == text


def test_name_has_labels() -> None:
    name = parse("example.com/app:1,layer=x").name
    assert name is not None
    assert (name.name, name.labels) == ("example.com/app", {"version": "1", "layer": "x"})


def test_fetch_takes_an_id_for_a_name() -> None:
    assert parse("sha512-ab", ids=False).kind == NAME


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("existing", 'invalid image string "existing"'),
        ("/images/a", 'invalid image string "/images/a"'),
        ("https://example.com/a", 'invalid image string "https://example.com/a"'),
        ("https://example.com/?a.aci", 'invalid image string "https://example.com/?a.aci"'),
        ("file:a.aci", 'invalid image string "file:a.aci"'),
        ("file://host/a.aci", "a file has no host"),
        ("not a name!", 'invalid appc image string "not a name!"'),
        ("a:b:c", 'invalid appc image string "a:b:c"'),
        ("", "invalid appc image string"),
        ("cimd:appc", "malformed distribution string"),
        ("cimd:appc:v=1:x", "unsupported version"),
        ("cimd:oci:v=0:x", 'unknown type "oci"'),
        ("cimd:aci-archive:v=0:docker%3Abusybox", "invalid image string"),
    ],
)
def test_bad_words(text: str, message: str) -> None:
    with pytest.raises(RktError) as caught:
        parse(text)
    assert message in str(caught.value)


def test_signature_lies_beside_the_image() -> None:
    assert reference.signature_location("/a/x.aci") == "/a/x.aci.asc"


def test_insecure_options() -> None:
    assert not InsecureOptions().image
    options = InsecureOptions(["image", "tls"])
    assert (options.image, options.tls, options.http, options.seccomp) == (True, True, False, False)
    assert InsecureOptions(["all-fetch"]) == {"image", "tls", "http", "pubkey"}
    assert InsecureOptions(["all-run"]) == {"capabilities", "paths", "seccomp"}
    assert InsecureOptions(["none"]) == set()
    every = InsecureOptions(["all"])
    assert every.image
    assert every.capabilities
    assert every.paths
    assert every.seccomp
    assert every.pubkey
