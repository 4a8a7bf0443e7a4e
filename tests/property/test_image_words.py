"""Words of users, headers of servers and addresses on pages: read, or refused with an error of ours."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from rkt.errors import RktError
from rkt.image import download, http, proxies, reference, remote

PIECES = st.sampled_from(
    [
        *(
            "sha512-",
            "docker://",
            "docker:",
            "oci:",
            "docker-archive:",
            "cimd:",
            "appc:",
            "aci-archive:",
            "v=0:",
        ),
        *("https://", "http://", "file://", "file:///", "ftp://", "example.com", "/", ".", "..", "./", ":"),
        *(",", "=", "@", "?", "#", "%2F", "%zz", "[", "]", "::1", ".aci", "version", "latest", "0" * 64),
        *(" ", "\n", "\0", "\x1b[2J", "é", "\ud800", "a" * 300, "sha256:", "*", "-", "\\"),
    ]
)
WORDS = st.lists(PIECES | st.text(max_size=4), max_size=8).map("".join)


@given(WORDS)
@example("cimd:docker:v=0:")
@example("file:")
@example("http://[/x.aci")
def test_references(word: str) -> None:
    for ids in (True, False):
        try:
            found = reference.parse(word, ids=ids)
        except RktError:
            continue
        assert found.text == word
        if found.kind == reference.HTTP:
            try:
                http.split(found.location)
            except RktError:
                continue
            assert remote.signature_url(found.location).partition("?")[0].endswith(".aci.asc")
        if found.kind == reference.ID:
            assert ids
        if found.kind == reference.FILE:
            assert found.location.startswith("/")


@given(WORDS)
def test_urls(word: str) -> None:
    """What passes is an address of https or http with a host, and nothing that ends a line."""
    for text in (word, "https://" + word):
        try:
            parts = http.split(text)
        except RktError:
            continue
        assert parts.scheme in ("http", "https")
        assert parts.hostname
        assert "@" not in parts.netloc
        assert not set(text) & set(" \r\n\0\x1b\udcff")


@given(WORDS, WORDS)
def test_shown_urls_hold_no_secrets(before: str, after: str) -> None:
    assert "s3cret" not in http.shown(f"https://user:s3cret@example.com/?{before}s3cret#{after}s3cret")


@given(st.text(alphabet="bytes 0123456789-/*x,=", max_size=24))
def test_ranges(text: str) -> None:
    first, last, total = download.content_range(text)
    assert (first, last) == (-1, -1) or min(first, last) >= 0
    assert total is None or total >= 0


@given(st.text(max_size=30), st.text(max_size=30))
def test_headers_and_exceptions(header: str, host: str) -> None:
    assert download.max_age(header) >= 0
    environment = {"HTTPS_PROXY": "p:1", "NO_PROXY": header}
    assert proxies.proxy_for("https", host, 443, environment) in ("", "http://p:1")
