"""Words from users and servers: image references, discovery pages, header fields."""

from __future__ import annotations

from fuzz.target import Target, attempt, text_of
from rkt.appc import discovery, labels
from rkt.appc.discovery import ImageName
from rkt.image import download, http, remote
from rkt.image import reference as references
from rkt.image.oci import authentication, local, names
from rkt.store.store import is_id

_HOST = {"os": "linux", "arch": "amd64"}
_AMPLIFIED = 1 << 17


def reference(data: bytes) -> None:
    """A word means one thing, the same one however it is written back."""
    text = text_of(data)
    if "\0" in text:
        # execve(2) lets no such word through.
        return
    for ids in (True, False):
        found = attempt(lambda ids=ids: references.parse(text, ids=ids))
        if found is None:
            continue
        assert found.text == text
        if found.kind == references.ID:
            assert ids and is_id(text)
        elif found.kind == references.FILE:
            assert found.location.startswith("/") and found.location.endswith(references.EXTENSION)
        elif found.kind == references.NAME:
            again = ImageName.parse(str(found.name))
            assert (again.name, again.labels) == (found.name.name, found.name.labels)
        elif found.kind == references.HTTP:
            _url(found.location)
        elif found.kind == references.DOCKER:
            container(found.location.encode("utf-8", "surrogateescape"))
        else:
            attempt(lambda found=found: local.Place(text, found.location))


def _url(url: str) -> None:
    if attempt(lambda: http.split(url)) is not None:
        signature = remote.signature_url(url)
        assert attempt(lambda: http.split(signature)) is not None, signature
        assert http.split(signature).netloc == http.split(url).netloc


def container(data: bytes) -> None:
    """The name of a container image; also as what keys are trusted for."""
    text = text_of(data)
    found = attempt(lambda: names.parse(text))
    if found is not None:
        again = names.parse(str(found))
        assert (again.name, again.tag, again.digest) == (found.name, found.tag, found.digest)
        assert bool(found.tag) != bool(found.digest)
        for component in (*found.repository.split("/"), found.tag):
            assert component not in (".", "..")
        name = names.trust_name(found.name)
        assert ".." not in name.split("/") and not name.startswith("/")
    attempt(lambda: names.trust_name(text))


def appc_name(data: bytes) -> None:
    found = ImageName.parse(text_of(data))
    assert ImageName.parse(str(found)).labels == found.labels
    labels.from_map(found.labels)
    addresses = [discovery.address_of(prefix) for prefix in discovery.prefixes(found.name)]
    assert all(address.startswith("https://") for address in addresses)


def page(data: bytes) -> None:
    """A page of any server."""
    text = data.decode("utf-8", "replace")
    image = ImageName("example.com/a/b", {**_HOST, "version": "1"})
    tags = discovery.extract_meta(text)
    for tag in tags:
        assert tag.name.startswith("ac-") and tag.prefix and tag.address
    for endpoint in discovery.endpoints(image, tags):
        assert "{name}" not in endpoint.aci and "{ext}" not in endpoint.asc
    discovery.public_keys(image, tags)


def repeated_page(data: bytes) -> None:
    """The same piece again and again: what takes longer than in proportion runs into the limit of time."""
    text = data.decode("utf-8", "replace")
    if text:
        discovery.extract_meta(text * (_AMPLIFIED // len(text)))


def headers(data: bytes) -> None:
    """Header fields of answers."""
    text = data.decode("latin-1")
    first, last, total = download.content_range(text)
    assert (first, last) == (-1, -1) or (first >= 0 and last >= 0)
    assert total is None or total >= 0
    assert 0 <= download.max_age(text) <= 1 << 31
    kind, parameters = authentication.parse_challenge(text)
    assert kind == kind.lower()
    assert sum(map(len, parameters.values())) <= len(text)
    attempt(lambda: http.split(text))
    assert http.shown(text).isprintable() or not text.isprintable()


_REFERENCES = [
    "example.com/a:1,os=linux,arch=amd64",
    "./a.aci",
    "/x/a.aci",
    "file:///x/a%20b.aci",
    "https://example.com/a.aci?x=1#y",
    "docker://registry.example.com:5000/a/b:tag",
    "docker:a@sha256:" + "ab" * 32,
    "oci:/path:name",
    "oci:path@sha256:" + "ab" * 32,
    "docker-archive:file.tar:a:1",
    "cimd:appc:v=0:example.com/a?version=1&os=linux",
    "cimd:aci-archive:v=0:https%3A%2F%2Fexample.com%2Fa.aci",
    "cimd:docker:v=0:a:1",
    "sha512-abcdef",
    "my-app:v1",
]
_PAGES = [
    (
        b'<!doctype html><html><head><meta name="ac-discovery" content="example.com https://example.com/'
        b'{name}-{version}-{os}-{arch}.{ext}"><META NAME=ac-discovery-pubkeys CONTENT="example.com https://k"/>'
        b"</head><!-- x --><script><meta></script><![CDATA[ x ]]><?x ?></html>"
    ),
    b"<meta name='ac-discovery' content='example.com&#47;a https://e/{name}'>",
]
_FIELDS = [
    b"bytes 1-2/3",
    b'max-age=5, no-cache="x"',
    b'Bearer realm="https://a/token",service="b",scope="c"',
    b"https://user:pass@example.com:443/x?y#z",
]

TARGETS = [
    Target("reference", reference, lambda: [one.encode() for one in _REFERENCES], longest=600),
    Target(
        "container-name",
        container,
        lambda: [b"a", b"localhost/a:1", b"[::1]:5/a", b"a.b/c/d_e__f--g"],
        longest=600,
    ),
    Target("appc-name", appc_name, lambda: [b"a.b/c:1,x=y", b"a,version=2"], longest=600),
    Target(
        "discovery-page",
        page,
        lambda: _PAGES,
        words=[b"<!--", b"-->", b"<![", b"<meta ", b"content=", b"</"],
        runs=3000,
    ),
    Target(
        "discovery-page-repeated",
        repeated_page,
        lambda: [b"<a ", b"<!--x", b"<meta name='ac-", b"</a", b"<![x", b"&#1;", b"<script>", b"<a b='"],
        words=[b"<!--", b"<![CDATA[", b"</", b"<?"],
        longest=40,
        runs=30,
    ),
    Target("headers", headers, lambda: _FIELDS, longest=1000),
]
