"""References to images in registries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkt.errors import RktError
from rkt.image.oci import names

LOWER = "abcdefghijklmnopqrstuvwxyz0123456789"
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("busybox", "registry-1.docker.io", "library/busybox", "latest", ""),
        ("busybox:1.36", "registry-1.docker.io", "library/busybox", "1.36", ""),
        ("team/app", "registry-1.docker.io", "team/app", "latest", ""),
        ("docker.io/busybox", "registry-1.docker.io", "library/busybox", "latest", ""),
        ("index.docker.io/team/app:x", "registry-1.docker.io", "team/app", "x", ""),
        ("localhost/app", "localhost", "app", "latest", ""),
        ("localhost:5000/a/b/c:v1", "localhost:5000", "a/b/c", "v1", ""),
        ("quay.io/a__b/c-d.e", "quay.io", "a__b/c-d.e", "latest", ""),
        (f"quay.io/a@{DIGEST}", "quay.io", "a", "", DIGEST),
        (f"quay.io/a:v1@{DIGEST}", "quay.io", "a", "", DIGEST),
        ("[::1]:5000/a:b", "[::1]:5000", "a", "b", ""),
    ],
)
def test_parse(text: str, registry: str, repository: str, tag: str, digest: str) -> None:
    name = names.parse(text)
    assert (name.registry, name.repository, name.tag, name.digest) == (registry, repository, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a/",
        "/a",
        "A",
        "a:",
        "a:-x",
        "a@",
        "a@sha256:00",
        "a@md5:" + "0" * 32,
        "a@" + DIGEST.upper(),
        "a@sha512:" + "a" * 64,
        "a..b",
        "a/../b",
        "a_-b",
        "-a",
        "a-",
        "a b",
        "quay.io:/a",
        "quay.io:0/a",
        "quay.io:99999/a",
        ".io/a",
        "user@quay.io/a",
        "quay.io/a?x=y",
        "quay.io/a#b",
        "quay.io/%2e%2e/a",
        "a:" + "t" * 129,
        "a" * 256,
        "a\nb",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(RktError, match="invalid docker reference"):
        names.parse(text)


@given(st.text(alphabet="abAB01.:/@-_[]?#%\n é", max_size=40))
def test_what_is_read_is_safe_in_urls_and_paths(text: str) -> None:
    try:
        name = names.parse(text)
    except RktError:
        return
    for part in name.repository.split("/"):
        assert part and part not in (".", "..") and not set(part) - set(LOWER + "._-")
    assert not set(name.registry) - set(LOWER + ".:[]-")
    assert names.parse(str(name)).name == name.name


def test_trust_name() -> None:
    assert names.trust_name("localhost:5000/team") == "localhost_5000/team"
    assert names.trust_name("docker.io/library") == "registry-1.docker.io/library"
