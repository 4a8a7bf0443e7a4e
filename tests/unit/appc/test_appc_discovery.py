"""Discovery: names, pages, templates and the walk."""

from __future__ import annotations

import pytest

from rkt.appc import discovery
from rkt.appc.discovery import ImageName, extract_meta
from rkt.appc.errors import AppcError
from rkt.appc.image import ImageManifest
from rkt.appc.labels import Label

TAG = '<meta name="ac-discovery" content="example.com https://x/{name}-{version}.{ext}">'


def test_names() -> None:
    name = ImageName.parse("a.example/b:1,z=2=3,c=")
    assert (name.name, name.labels) == ("a.example/b", {"version": "1", "z": "2=3", "c": ""})
    assert str(name) == "a.example/b,c=,version=1,z=2=3"
    assert ImageName.parse("example.com:5000/a").labels == {"version": "5000/a"}


@pytest.mark.parametrize(
    "text", ["", "A", "a,", "a,b", "a,name=b", "a,B=c", "a:1:2", "a,b=c:1", "a:1,version=2"]
)
def test_bad_names(text: str) -> None:
    with pytest.raises(AppcError):
        ImageName.parse(text)


@pytest.mark.parametrize(
    "page",
    [
        '<![ x ]><![CDATA[ > <meta name="ac-discovery" content="p https://x">',
        '<META NAME="ac-discovery" CONTENT="p https://x">',
        "<meta name='ac-discovery' content=' p   https://x '/>",
        'junk < <meta content="p https://x" name=ac-discovery> <<',
        '<title>t</title><body><p><meta name="ac-discovery" content="p https&#58;//x">',
    ],
)
def test_tags_are_found(page: str) -> None:
    assert [(meta.prefix, meta.address) for meta in extract_meta(page)] == [("p", "https://x")]


@pytest.mark.parametrize(
    "page",
    [
        "",
        '<!-- <meta name="ac-discovery" content="p https://x"> -->',
        '<script><meta name="ac-discovery" content="p https://x"></script>',
        '<textarea><meta name="ac-discovery" content="p https://x"></textarea>',
        '<title><meta name="ac-discovery" content="p https://x">',
        '<meta name="ac-discovery" content="https://x">',
        '<meta name="ac-discovery">',
        '<meta name="go-import" content="p https://x">',
        "\0\x01<meta",
        '<!-- <meta name="ac-discovery" content="p https://x">',
        '<![if <meta name="ac-discovery" content="p',
    ],
)
def test_no_tags(page: str) -> None:
    assert extract_meta(page) == []


@pytest.mark.promise("P4")
@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece", ["<!--", "<a ", "<![", "</a", "&#", "<meta content=", "<a a='", "<title>", "<?"]
)
def test_a_hostile_page_costs_no_more_than_a_long_one(piece: str) -> None:
    extract_meta(piece * 20_000)


def test_a_tag_after_text_elements_counts() -> None:
    page = f"<title>x</title><script>1<2</script><textarea>y</textarea>{TAG}"
    assert len(extract_meta(page)) == 1


def test_templates() -> None:
    assert discovery.fill("{a}{b}{a}", {"a": "1"}) == ("1{b}1", False)
    assert discovery.fill("x{\n}", {}) == ("x{\n}", True)
    name = ImageName("example.com/a", {"version": ""})
    found = discovery.endpoints(name, extract_meta(TAG))
    assert [(one.aci, one.asc) for one in found] == [
        ("https://x/example.com/a-latest.aci", "https://x/example.com/a-latest.aci.asc")
    ]
    assert name.labels == {"version": ""}
    assert discovery.endpoints(ImageName("other.example/a"), extract_meta(TAG)) == []


def test_prefixes() -> None:
    assert list(discovery.prefixes("h/a/b")) == ["h/a/b", "h/a", "h"]
    assert discovery.address_of("h/a", "http", 8080) == "http://h:8080/a?ac-discovery=1"
    assert discovery.address_of("h") == "https://h?ac-discovery=1"


def test_the_walk_tells_what_failed() -> None:
    asked = []

    def get(address: str) -> tuple[int, str]:
        asked.append(address)
        if address.startswith("https://h/a/b"):
            raise TimeoutError(110, "timed out")
        return (404, "") if "/a" in address else (200, "nothing")

    found, attempts = discovery.find_endpoints(ImageName("h/a/b"), get, insecure_http=True)
    assert found == []
    assert [attempt.prefix for attempt in attempts] == ["h/a/b", "h/a", "h"]
    assert "http://h/a/b?ac-discovery=1: expected status 200, got 404" in attempts[0].reason
    assert "https://h?ac-discovery=1 has no usable" in attempts[2].reason
    assert asked[:2] == ["https://h/a/b?ac-discovery=1", "http://h/a/b?ac-discovery=1"]
    assert asked[-1] == "https://h?ac-discovery=1"


def test_keys_and_templates_may_come_from_different_levels() -> None:
    keys = '<meta name="ac-discovery-pubkeys" content="example.com https://k">'

    def get(address: str) -> tuple[int, str]:
        return 200, (keys if "/a" in address else TAG)

    name = ImageName("example.com/a")
    endpoints, attempts = discovery.find_endpoints(name, get)
    assert len(endpoints) == 1
    assert [attempt.prefix for attempt in attempts] == ["example.com/a"]
    assert discovery.find_public_keys(name, get) == (["https://k"], [])


def test_what_came_is_what_was_asked_for() -> None:
    manifest = ImageManifest("a", labels=[Label("version", "1"), Label("more", "x")])
    discovery.check_found(ImageName("a", {"version": "1"}), manifest)
    for name in (ImageName("b"), ImageName("a", {"version": "2"}), ImageName("a", {"os": "linux"})):
        with pytest.raises(AppcError):
            discovery.check_found(name, manifest)
