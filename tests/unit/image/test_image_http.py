"""The client for http: what it sends where, and what it makes of bad answers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from rkt.config.kinds import AWS, Basic, OAuth
from rkt.errors import RktError
from rkt.image import credentials, download, http, partial, proxies
from rkt.image.connections import is_link_local
from rkt.image.http import Access, Client, HttpError, TransferError
from rkt.image.remote import signature_url
from support.web import Page, Site, redirect


@pytest.fixture
def site(tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with Site(os.path.join(os.fspath(tmp_path), "web")) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


class TestProxies:
    @pytest.mark.parametrize(
        ("exceptions", "host", "direct"),
        [
            ("", "example.com", False),
            ("*", "example.com", True),
            ("example.com", "example.com", True),
            ("example.com", "www.example.com", True),
            ("example.com", "notexample.com", False),
            (".example.com", "example.com", False),
            (".example.com", "www.example.com", True),
            ("*.example.com", "www.example.com", True),
            ("EXAMPLE.com", "Example.COM", True),
            ("example.com:443", "example.com", True),
            ("example.com:444", "example.com", False),
            ("a, b ,example.com", "example.com", True),
            ("10.0.0.0/8", "10.1.2.3", True),
            ("10.0.0.0/8", "11.1.2.3", False),
            ("10.0.0.0/8", "example.com", False),
            ("10.1.2.3", "10.1.2.3", True),
            ("[fd00::1]:443", "fd00::1", True),
            ("fd00::/8", "fd00::1", True),
            ("nonsense/99", "example.com", False),
        ],
    )
    def test_exceptions(self, exceptions: str, host: str, direct: bool) -> None:
        environment = {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": exceptions}
        found = proxies.proxy_for("https", host, 443, environment)
        assert found == ("" if direct else "http://proxy:3128")

    def test_spellings(self) -> None:
        assert proxies.proxy_for("http", "a.b", 80, {"http_proxy": "p:1"}) == "http://p:1"
        assert proxies.proxy_for("http", "a.b", 80, {"HTTPS_PROXY": "p:1"}) == ""
        both = {"HTTP_PROXY": "one:1", "http_proxy": "two:2"}
        assert proxies.proxy_for("http", "a.b", 80, both) == "http://one:1"

    def test_program_behind_a_web_server(self) -> None:
        """HTTP_PROXY is what a client of that server put into its header Proxy (CVE-2016-5385)."""
        assert proxies.proxy_for("http", "a.b", 80, {"HTTP_PROXY": "evil:1", "REQUEST_METHOD": "GET"}) == ""

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
    def test_the_machine_itself(self, host: str) -> None:
        assert proxies.proxy_for("https", host, 443, {"HTTPS_PROXY": "p:1"}) == ""


@pytest.mark.promise("P3")
class TestCredentials:
    def test_by_host_and_port(self) -> None:
        table = {"a.test": Basic("u", "p"), "b.test:8443": OAuth("t"), "c.test:443": OAuth("c")}
        assert credentials.headers(table, "GET", "https://a.test/x") == {"Authorization": "Basic dTpw"}
        assert credentials.headers(table, "GET", "https://A.test:443/x") == {"Authorization": "Basic dTpw"}
        assert credentials.headers(table, "GET", "https://b.test:8443/") == {"Authorization": "Bearer t"}
        assert credentials.headers(table, "GET", "https://c.test/") == {"Authorization": "Bearer c"}
        for url in ("https://a.test:8443/", "https://b.test/", "https://x.a.test/", "https://a.test.evil/"):
            assert credentials.headers(table, "GET", url) == {}

    def test_aws_example(self) -> None:
        """The list of a bucket in "Examples: Signature Calculations" of the S3 API reference."""
        key = AWS("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
        headers = credentials.sign(
            key, "GET", "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J", now=1369353600
        )
        assert headers["X-Amz-Date"] == "20130524T000000Z"
        assert headers["Authorization"].endswith(
            "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        )

    @pytest.mark.parametrize(
        ("host", "region"),
        [
            ("s3.amazonaws.com", "us-east-1"),
            ("bucket.s3.amazonaws.com", "us-east-1"),
            ("s3-eu-west-1.amazonaws.com", "eu-west-1"),
            ("bucket.s3-eu-west-1.amazonaws.com", "eu-west-1"),
            ("bucket.s3.eu-central-1.amazonaws.com", "eu-central-1"),
            ("s3.dualstack.eu-west-3.amazonaws.com", "eu-west-3"),
            ("s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            ("s3-external-1.amazonaws.com", "us-east-1"),
            ("storage.example.com:9000", "us-east-1"),
        ],
    )
    def test_region_of_a_host(self, host: str, region: str) -> None:
        assert credentials.guess_region(host) == region

    def test_header_of_the_caller_stays_with_its_host(self, site: Site) -> None:
        site.pages["example.com/a"] = redirect("https://other.test/a")
        site.pages["other.test/a"] = redirect("https://example.com/b")
        site.pages["example.com/b"] = Page(b"end")
        sent = {"Authorization": "Bearer secret", "Cookie": "c=1", "Accept": "x/y"}
        with Client(Access()) as client:
            page = client.get("https://example.com/a", limit=10, headers=sent)
        assert (page.body, page.url) == (b"end", "https://example.com/b")
        got = [(one.host, one.header("Authorization"), one.header("Cookie")) for one in site.requests]
        # once lost, it does not come back: the last redirect was chosen by somebody else
        assert got == [
            ("example.com", "Bearer secret", "c=1"),
            ("other.test", "", ""),
            ("example.com", "", ""),
        ]
        assert {one.header("Accept") for one in site.requests} == {"x/y"}


class TestClient:
    def test_documents(self, site: Site) -> None:
        site.pages["/a"] = Page(b"x" * 100)
        with Client(Access()) as client:
            assert client.get(f"{site.url}/a", limit=100).body == b"x" * 100
            with pytest.raises(HttpError, match="larger than 99 bytes"):
                client.get(f"{site.url}/a", limit=99)
            assert client.get(f"{site.url}/none", limit=100).status == 404

    def test_broken_body(self, site: Site) -> None:
        site.pages["/a"] = Page(b"x" * 100, cuts=[10])
        with Client(Access()) as client, pytest.raises(TransferError, match="10 bytes came, 90 are missing"):
            client.get(f"{site.url}/a", limit=100)

    def test_threads_share_a_client(self, site: Site) -> None:
        site.pages["/a"] = Page(b"x" * 100_000)
        got: list[int] = []
        with Client(Access()) as client:

            def get() -> None:
                got.append(len(client.get(f"{site.url}/a", limit=1 << 20).body))

            threads = [threading.Thread(target=get) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert got == [100_000] * 8

    def test_only_get_and_head_are_redirected(self, site: Site) -> None:
        site.pages["/a"] = redirect("/b", 307)
        site.pages["/b"] = Page(b"end")
        with Client(Access()) as client:
            for method, status in (("HEAD", 200), ("POST", 307)):
                with client.request(method, f"{site.url}/a") as response:
                    assert response.status == status

    @pytest.mark.parametrize(
        "url",
        ["ftp://a/b", "https://", "https://a b/", "https://a/\x1b[2J", "https://a:x/", "file:///a", "a"],
    )
    def test_what_is_no_url(self, url: str) -> None:
        with Client(Access()) as client, pytest.raises(HttpError):
            client.get(url, limit=1)

    @pytest.mark.parametrize("address", ["169.254.1.1", "fe80::1", "fe80::1%eth0", "::ffff:169.254.1.1"])
    def test_link_local(self, address: str) -> None:
        assert is_link_local(address)
        assert not is_link_local("10.0.0.1")
        assert not is_link_local("example.com")

    @pytest.mark.promise("P3")
    def test_name_that_leads_to_a_link_local_address(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the name resolves to counts, and nothing is sent there."""
        from rkt.image import connections

        monkeypatch.setattr(connections, "is_link_local", lambda host: host in ("169.254.1.1", "127.0.0.1"))
        site.pages["/a"] = Page(b"secret")
        with Client(Access()) as client:
            url = f"https://localhost:{site.https_port}/a"
            assert client.get(url, limit=10).body == b"secret"
            with pytest.raises(RktError, match="link-local address 127.0.0.1 of localhost"):
                client.get(url, limit=10, guarded=True)
        assert len(site.requests) == 1


class TestHeaders:
    @pytest.mark.parametrize(
        ("text", "age"),
        [
            ("", 0),
            ("max-age=60", 60),
            ("public, MAX-AGE=60", 60),
            ('max-age="60"', 60),
            ("max-age=60, no-cache", 0),
            ("no-store,max-age=60", 0),
            ("max-age=-1", 0),
            ("max-age=99999999999999999999", 1 << 31),
            ("s-maxage=60", 0),
        ],
    )
    def test_cache_control(self, text: str, age: int) -> None:
        assert download.max_age(text) == age

    @pytest.mark.parametrize(
        ("text", "parsed"),
        [
            ("bytes 0-9/10", (0, 9, 10)),
            ("BYTES 0-9/*", (0, 9, None)),
            ("bytes */10", (-1, -1, None)),
            ("bytes 0-9", (-1, -1, None)),
            ("items 0-9/10", (-1, -1, None)),
            ("bytes 0-9/x", (-1, -1, None)),
            ("bytes -9/10", (-1, -1, None)),
            ("bytes \u0660-9/10", (-1, -1, None)),
            ("", (-1, -1, None)),
        ],
    )
    def test_content_range(self, text: str, parsed: tuple[int, int, int | None]) -> None:
        assert download.content_range(text) == parsed

    def test_shown_urls_hold_no_secrets(self) -> None:
        assert http.shown("https://u:p@a.test:1/x?token=1#f") == "https://a.test:1/x"

    def test_signature_beside_the_image(self) -> None:
        assert signature_url("https://a.test/x.aci") == "https://a.test/x.aci.asc"
        assert signature_url("https://a.test/x.aci?a=b/c") == "https://a.test/x.aci.asc?a=b/c"


class TestPartial:
    def test_only_what_is_old_and_left_alone_is_collected(self, tmp_path: os.PathLike[str]) -> None:
        directory = os.fspath(tmp_path)
        urls = {name: partial.path_of(directory, name) for name in ("old", "new", "busy")}
        for name in ("old", "new"):
            made = partial.acquire(urls[name], lambda: None)
            assert made is not None
            made.restart('"v"')
            made.append(b"data")
            made.close()
        os.utime(urls["old"], (0, 0))
        busy = partial.acquire(urls["busy"], lambda: None)
        assert busy is not None
        os.utime(urls["busy"], (0, 0))
        with open(os.path.join(directory, "import-1"), "w"):
            pass
        assert partial.collect(directory, 10**12) == [urls["old"]]
        with busy:
            kept = [urls["new"], urls["new"] + ".etag", urls["busy"]]
            assert sorted(os.listdir(directory)) == sorted(["import-1", *map(os.path.basename, kept)])
        assert partial.collect(os.path.join(directory, "none"), 0) == []

    def test_what_came_is_found_again(self, tmp_path: os.PathLike[str]) -> None:
        path = partial.path_of(os.fspath(tmp_path), "https://a.test/x")
        assert os.path.basename(path).startswith("sha512-")
        first = partial.acquire(path, lambda: None)
        assert first is not None
        with first:
            first.restart('"v"')
            first.append(b"abc")
        second = partial.acquire(path, lambda: None)
        assert second is not None
        with second:
            assert (second.size, second.validator, second.read(10, 1)) == (3, '"v"', b"bc")
            second.discard()
        assert os.listdir(tmp_path) == []
