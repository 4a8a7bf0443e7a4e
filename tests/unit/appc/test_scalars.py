"""Names, versions, digests, UUIDs, dates, addresses and kinds."""

from __future__ import annotations

import pytest

from rkt.appc import address, date, digest, identifiers, kind, url, uuid, version
from rkt.appc.errors import AppcError


@pytest.mark.parametrize("text", ["a--b", "a//b", "a/-b", "0", "a.b_c~d/e-f"])
def test_identifiers_are_as_lax_as_the_reference(text: str) -> None:
    assert identifiers.check_identifier(text) == text


@pytest.mark.parametrize("text", ["a/", "~a", "a b", "ä", "a\n", "A"])
def test_bad_identifiers(text: str) -> None:
    with pytest.raises(AppcError):
        identifiers.check_identifier(text)


def test_messages_of_names() -> None:
    with pytest.raises(AppcError) as caught:
        identifiers.check_identifier("not a name!")
    assert str(caught.value) == (
        'ACIdentifier must contain only lower case alphanumeric characters plus "-._~/"'
    )


@pytest.mark.parametrize(
    ("text", "name"), [("/var/tmp", "var-tmp"), ("6379/tcp", "6379-tcp"), ("a--b", "a--b"), ("İx", "ix")]
)
def test_sanitise_names(text: str, name: str) -> None:
    assert identifiers.sanitize_name(text) == name


def test_nothing_to_make_a_name_of() -> None:
    with pytest.raises(AppcError):
        identifiers.sanitize_name("é")


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("01.2.3", "1.2.3"),
        ("1.2.3-", "1.2.3"),
        ("1.2.3+", "1.2.3"),
        ("1.2.3-a..b", "1.2.3-a..b"),
        ("1.2.3+a-b", "1.2.3+a-b"),
        ("0.0.0-alpha", "0.0.0-alpha"),
        ("9223372036854775807.0.0", "9223372036854775807.0.0"),
    ],
)
def test_versions(text: str, printed: str) -> None:
    assert version.normalise(text) == printed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v1.2.3",
        "1.2",
        "1.2.3.4",
        " 1.2.3",
        "1.2.3 ",
        "1.-2.3",
        "+1.2.3",
        "9223372036854775808.0.0",
        "0.0.0",
        "0.0.0-",
        "1.2.³",
    ],
)
def test_bad_versions(text: str) -> None:
    with pytest.raises(AppcError):
        version.normalise(text)


def test_digests() -> None:
    assert digest.check("sha512-zz") == "sha512-zz"
    for text in ("sha512-a-b", "SHA512-a", "sha512", "sha256-ab", ""):
        with pytest.raises(AppcError):
            digest.check(text)


def test_uuids() -> None:
    made = uuid.generate()
    assert uuid.parse(made.upper().replace("-", "")) == made
    assert made[14] == "4"
    assert made[19] in "89ab"
    assert uuid.generate() != made
    assert uuid.parse("-6733c088a5074694aabfedbe4fc5266f-") == "6733c088-a507-4694-aabf-edbe4fc5266f"
    with pytest.raises(AppcError):
        uuid.decode("0" * 32)
    with pytest.raises(AppcError):
        uuid.decode(None)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("2004-05-14T23:11:14+00:00", "2004-05-14T23:11:14Z"),
        ("2004-05-14T3:11:14.123456789012Z", "2004-05-14T03:11:14Z"),
        ("2004-05-14T03:11:14,5-08:30", "2004-05-14T03:11:14-08:30"),
        ("2004-02-29T00:00:00+25:00", "2004-02-29T00:00:00+25:00"),
        ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
    ],
)
def test_dates(text: str, printed: str) -> None:
    assert str(date.parse(text)) == printed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2004-05-14",
        "2004-05-14 23:11:14Z",
        "2004-05-14t23:11:14Z",
        "2004-05-14T23:11:14z",
        "2004-05-14T23:11:14",
        "2004-05-14T23:11:14+0400",
        "2004-05-14T23:11:60Z",
        "2004-05-14T24:11:00Z",
        "2004-02-30T23:11:00Z",
        "2003-02-29T23:11:00Z",
        "1900-02-29T23:11:00Z",
        "2004-13-01T23:11:00Z",
        "2004-5-14T23:11:14Z",
        "2004-05-14T23:1:14Z",
        "2004-05-14T23:11:14.Z",
        "2004-05-14T23:11:14Zx",
        "２004-05-14T23:11:14Z",
    ],
)
def test_bad_dates(text: str) -> None:
    with pytest.raises(AppcError):
        date.parse(text)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("HTTP://Example.com/a", "http://Example.com/a"),
        ("http://", "http:"),
        ("http:", "http:"),
        ("http:opaque?q", "http:opaque?q"),
        ("http:/path", "http:/path"),
        ("http:///path", "http:///path"),
        ("https://u:p%40@h:8080/x?y=z#f", "https://u:p%40@h:8080/x?y=z#f"),
        ("https://[::1]:80/", "https://[::1]:80/"),
        ("https://[fe80::1%25eth0]/", "https://[fe80::1%25eth0]/"),
        ("http://h:/", "http://h:/"),
        ("http://h/a b", "http://h/a%20b"),
        ("http://h/%41%2f", "http://h/%41%2f"),
        ("http://h/ä?ö#ü", "http://h/%C3%A4?ö#%C3%BC"),
        ("http://h/x?", "http://h/x?"),
        ("http://h/x#", "http://h/x"),
        ("http://ä.example/", "http://%C3%A4.example/"),
        ("http://h?a?b", "http://h?a?b"),
        ("http://h/[x]!'()*", "http://h/[x]!'()*"),
        ("http://h/<x>", "http://h/%3Cx%3E"),
    ],
)
def test_urls_print_as_go_prints_them(text: str, printed: str) -> None:
    assert url.parse(text) == printed
    assert url.parse(printed) == printed
    assert url.check(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "://x",
        "//h/x",
        "ftp://x",
        "1http://x",
        "http://h/%zz",
        "http://h/%4",
        "http://h x/",
        "http://h:x/",
        "http://[::1/",
        "http://[::1]x/",
        "http://h%41/",
        "http://a^b/",
        "http://u^@h/",
        "http://h/#%x",
        "http://h/\n",
        "http://h/\x7f",
    ],
)
def test_bad_urls(text: str) -> None:
    with pytest.raises(AppcError):
        url.parse(text)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("::", "::"),
        ("1::", "1::"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("::1.2.3.4", "::102:304"),
        ("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"),
        ("1:2:3:4:5:6::", "1:2:3:4:5:6::"),
    ],
)
def test_addresses(text: str, printed: str) -> None:
    assert address.parse(text) == printed


@pytest.mark.parametrize(
    "text", ["", "1.2.3", "01.2.3.4", "1.2.3.256", "::g", "fe80::1%eth0", "1.2.3.4\0", " ::1"]
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(AppcError):
        address.parse(text)


def test_kinds() -> None:
    with pytest.raises(AppcError, match="must be set"):
        kind.check("")
    with pytest.raises(AppcError, match="bad ACKind"):
        kind.check("imagemanifest")
