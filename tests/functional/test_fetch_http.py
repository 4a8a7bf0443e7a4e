"""Fetching over https as users do it: what is asked of the server, and what is in the store afterwards."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import tempfile
import threading

import pytest

from functional.fetching import INSECURE, NAME, image, images, signature, temporary, trust
from support.driver import Rkt
from support.signing import Signer
from support.waiting import PATIENCE, until
from support.web import Page, Site, redirect, tagged


class TestUrl:
    def test_image_of_a_url(self, client: Rkt, site: Site, data: bytes) -> None:
        site.pages["/app.aci"] = tagged(data)
        result = client.ok(INSECURE, "fetch", f"{site.url}/app.aci")
        assert result.lines[0].startswith("sha512-")
        assert result.err == f'image: remote fetching from URL "{site.url}/app.aci"\n'
        assert site.asked("/app.aci")[0].header("User-Agent") == "rkt/1.30.0"
        assert site.asked("/app.aci")[0].header("Authorization") == ""
        assert temporary(client) == []
        assert len(images(client)) == 1

    def test_same_key_as_from_the_file(
        self, client: Rkt, site: Site, tmp_path: os.PathLike[str], data: bytes
    ) -> None:
        path = os.path.join(os.fspath(tmp_path), "made.aci")
        site.pages["/app.aci"] = Page(data)
        keys = client.ok(INSECURE, "fetch", "--full", path, f"{site.url}/app.aci").lines
        assert keys[0] == keys[1]
        assert len(keys[0]) == len("sha512-") + 64

    @pytest.mark.promise("P3")
    def test_signed_image(self, client: Rkt, site: Site, signer: Signer, data: bytes) -> None:
        trust(client, signer)
        site.pages["/app.aci"] = Page(data)
        site.pages["/app.aci.asc"] = Page(signature(signer, client.base, data))
        result = client.ok("fetch", f"{site.url}/app.aci")
        assert "image: signature verified:\nimage:   alice <alice@example.com>\n" in result.err
        assert [one.path for one in site.requests] == ["/app.aci.asc", "/app.aci"]

    @pytest.mark.promise("P3")
    def test_query_stays_with_the_signature(
        self, client: Rkt, site: Site, signer: Signer, data: bytes
    ) -> None:
        trust(client, signer)
        site.pages["/app.aci?a=b"] = Page(data)
        site.pages["/app.aci.asc?a=b"] = Page(signature(signer, client.base, data))
        client.ok("fetch", f"{site.url}/app.aci?a=b")

    @pytest.mark.promise("P3")
    def test_unknown_key_is_refused_before_the_image_is_asked_for(
        self, client: Rkt, site: Site, signer: Signer, data: bytes
    ) -> None:
        trust(client, signer)
        site.pages["/app.aci"] = Page(data)
        site.pages["/app.aci.asc"] = Page(signature(signer, client.base, data, "mallory"))
        result = client("fetch", f"{site.url}/app.aci")
        assert (result.code, result.out) == (254, "")
        assert result.err.endswith("verification failed: openpgp: signature made by unknown entity\n")
        assert site.asked("/app.aci") == []
        assert (images(client), temporary(client)) == ([], [])

    @pytest.mark.promise("P3")
    def test_image_that_was_changed_on_the_way(
        self, client: Rkt, site: Site, signer: Signer, data: bytes, tmp_path: os.PathLike[str]
    ) -> None:
        trust(client, signer)
        site.pages["/app.aci.asc"] = Page(signature(signer, client.base, data))
        site.pages["/app.aci"] = tagged(image(os.fspath(tmp_path)))
        result = client("fetch", f"{site.url}/app.aci")
        assert result.code == 254
        assert "openpgp: signature is bad" in result.err
        assert (images(client), temporary(client)) == ([], [])

    @pytest.mark.promise("P3")
    def test_local_signature_is_used_instead(
        self, client: Rkt, site: Site, signer: Signer, data: bytes
    ) -> None:
        trust(client, signer)
        path = os.path.join(client.base, "local.asc")
        with open(path, "wb") as file:
            file.write(signature(signer, client.base, data))
        site.pages["/app.aci"] = Page(data)
        client.ok("fetch", f"{site.url}/app.aci", f"--signature={path}")
        assert site.asked("/app.aci.asc") == []
        result = client("fetch", f"{site.url}/app.aci", "--signature=/none.asc")
        assert result.err.endswith("fetch: open /none.asc: no such file or directory\n")

    @pytest.mark.promise("P3")
    def test_deferred_signature(self, client: Rkt, site: Site, signer: Signer, data: bytes) -> None:
        """A server that signs on the fly says 202 until it has seen the image."""
        trust(client, signer)
        site.pages["/app.aci"] = Page(data)
        site.pages["/app.aci.asc"] = Page(signature(signer, client.base, data), statuses=[202])
        client.ok("fetch", f"{site.url}/app.aci")
        assert [one.path for one in site.requests] == ["/app.aci.asc", "/app.aci", "/app.aci.asc"]
        site.pages["/late.aci"] = Page(data)
        site.pages["/late.aci.asc"] = Page(status=202)
        result = client("fetch", f"{site.url}/late.aci")
        assert result.code == 254
        assert "error downloading the signature file" in result.err
        site.pages["/bad.aci"] = Page(data)
        site.pages["/bad.aci.asc"] = Page(signature(signer, client.base, b"another"), statuses=[202])
        result = client("fetch", f"{site.url}/bad.aci")
        assert "openpgp: signature is bad" in result.err
        assert temporary(client) == []

    @pytest.mark.promise("P3")
    def test_copy_that_was_not_verified_does_not_count(
        self, client: Rkt, site: Site, signer: Signer, data: bytes
    ) -> None:
        trust(client, signer)
        site.pages["/app.aci"] = tagged(data, headers={"Cache-Control": "max-age=1000"})
        site.pages["/app.aci.asc"] = Page(signature(signer, client.base, data, "mallory"))
        client.ok(INSECURE, "fetch", f"{site.url}/app.aci")
        for policy in ("new", "update", "never"):
            assert client("fetch", f"--pull-policy={policy}", f"{site.url}/app.aci").code == 254
        site.pages["/app.aci.asc"] = Page(signature(signer, client.base, data))
        client.ok("fetch", f"{site.url}/app.aci")
        client.ok("fetch", "--pull-policy=never", f"{site.url}/app.aci")

    def test_errors_say_what_where_and_why(self, client: Rkt, site: Site, data: bytes) -> None:
        site.pages["/text.aci"] = Page(b"<html>not an image</html>")
        site.pages["/locked.aci"] = Page(status=401)
        for words, message in (
            ([INSECURE, f"{site.url}/none.aci"], "error downloading ACI: bad HTTP status code: 404"),
            ([INSECURE, f"{site.url}/locked.aci"], "error downloading ACI: bad HTTP status code: 401"),
            ([f"{site.url}/none.aci"], "error downloading the signature file: bad HTTP status code: 404"),
            ([INSECURE, f"{site.url}/text.aci"], f'image "{site.url}/text.aci" cannot be imported: '),
            (
                [INSECURE, "https://127.0.0.1:1/a.aci"],
                "cannot get https://127.0.0.1:1/a.aci: connection refused",
            ),
            ([INSECURE, "https://u:secret@127.0.0.1/a.aci"], "holds credentials"),
            ([INSECURE, "https://[/a.aci"], "no valid URL"),
            ([INSECURE, "https://a:99999/a.aci"], "no valid URL"),
            ([INSECURE, "https://a/\udcff.aci"], "no valid URL"),
            ([INSECURE, "https://127.0.0.1/a"], 'invalid image string "https://127.0.0.1/a"'),
        ):
            result = client(*words[:-1], "fetch", words[-1])
            assert (result.code, result.out) == (254, ""), words
            assert message in result.err
            assert "secret@" not in result.err.replace(words[-1], "") or "invalid" in result.err
        assert temporary(client) == []

    def test_several_images_are_printed_in_order(
        self, client: Rkt, site: Site, tmp_path: os.PathLike[str]
    ) -> None:
        for number in range(3):
            site.pages[f"/{number}.aci"] = Page(
                image(os.fspath(tmp_path), f"example.com/{number}", size=1000)
            )
        urls = [f"{site.url}/{number}.aci" for number in range(3)]
        keys = client.ok(INSECURE, "fetch", "--full", *urls).lines
        for number, key in enumerate(keys):
            assert f"example.com/{number}" in client.ok("image", "cat-manifest", key).out


class TestPolicies:
    def test_matrix(self, client: Rkt, site: Site, data: bytes) -> None:
        url = f"{site.url}/app.aci"
        site.pages["/app.aci"] = tagged(data)

        def fetch(policy: str) -> int:
            before = len(site.requests)
            client.ok(INSECURE, "fetch", f"--pull-policy={policy}", url)
            return len(site.requests) - before

        result = client(INSECURE, "fetch", "--pull-policy=never", url)
        assert result.code == 254
        assert "not in the local store" in result.err
        assert site.requests == []
        assert fetch("new") == 1
        assert fetch("new") == 0
        assert fetch("never") == 0
        assert fetch("update") == 1
        assert site.requests[-1].header("If-None-Match") == site.pages["/app.aci"].etag
        assert site.requests[-1].sent == 0
        client.ok("image", "rm", client.ok(INSECURE, "fetch", "--pull-policy=never", url).lines[0])
        assert fetch("new") == 1
        assert site.requests[-1].header("If-None-Match") == ""

    def test_debug_says_which_copy_is_used(self, client: Rkt, site: Site, data: bytes) -> None:
        url = f"{site.url}/app.aci"
        site.pages["/app.aci"] = Page(data)
        client.ok(INSECURE, "fetch", url)
        result = client.ok("--debug", INSECURE, "fetch", "--pull-policy=new", url)
        assert f"image: using image from local store for url {url}\n" in result.err

    def test_max_age(self, client: Rkt, site: Site, data: bytes) -> None:
        url = f"{site.url}/app.aci"
        site.pages["/app.aci"] = tagged(data, headers={"Cache-Control": "public, max-age=1000"})
        client.ok(INSECURE, "fetch", url)
        result = client.ok(INSECURE, "fetch", url)
        assert f"image: image for {url} isn't expired, not fetching.\n" in result.err
        assert len(site.requests) == 1

    @pytest.mark.parametrize("header", ["no-cache, max-age=1000", "max-age=0", "no-store"])
    def test_what_must_not_be_kept_is_asked_for_again(
        self, client: Rkt, site: Site, data: bytes, header: str
    ) -> None:
        site.pages["/app.aci"] = tagged(data, headers={"Cache-Control": header})
        client.ok(INSECURE, "fetch", f"{site.url}/app.aci")
        client.ok(INSECURE, "fetch", f"{site.url}/app.aci")
        assert [one.sent for one in site.requests] == [len(data), 0]

    def test_new_content_is_fetched(
        self, client: Rkt, site: Site, data: bytes, tmp_path: os.PathLike[str]
    ) -> None:
        site.pages["/app.aci"] = tagged(data)
        first = client.ok(INSECURE, "fetch", f"{site.url}/app.aci").out
        site.pages["/app.aci"] = tagged(image(os.fspath(tmp_path)))
        assert client.ok(INSECURE, "fetch", f"{site.url}/app.aci").out != first


@pytest.mark.promise("P6")
class TestResume:
    def test_connection_that_breaks_again_and_again(self, client: Rkt, site: Site, data: bytes) -> None:
        site.pages["/app.aci"] = tagged(data, cuts=[1, 70_000, 3, 100_000])
        client.ok(INSECURE, "fetch", f"{site.url}/app.aci")
        asked = site.asked("/app.aci")
        assert len(asked) == 5
        assert asked[1].header("Range") == "bytes=0-"
        assert asked[2].header("Range") == "bytes=69999-"
        assert asked[2].header("If-Range") == site.pages["/app.aci"].etag
        # each attempt repeats one byte and no more
        assert sum(one.sent for one in asked) == len(data) + 4

    def test_last_modified_will_do(self, client: Rkt, site: Site, data: bytes) -> None:
        date = "Mon, 23 Nov 2026 10:00:00 GMT"
        site.pages["/app.aci"] = Page(data, last_modified=date, cuts=[1000])
        client.ok(INSECURE, "fetch", f"{site.url}/app.aci")
        assert site.asked("/app.aci")[1].header("If-Range") == date

    @pytest.mark.parametrize("etag", ["", 'W/"weak"'])
    def test_without_a_validator_nothing_is_resumed(
        self, client: Rkt, site: Site, data: bytes, etag: str
    ) -> None:
        site.pages["/app.aci"] = Page(data, etag=etag, cuts=[1000])
        result = client(INSECURE, "fetch", f"{site.url}/app.aci")
        assert result.code == 254
        assert f"broke off: 1000 bytes came, {len(data) - 1000} are missing" in result.err
        assert (images(client), temporary(client)) == ([], [])
        client.ok(INSECURE, "fetch", f"{site.url}/app.aci")
        assert site.asked("/app.aci")[1].header("Range") == ""

    @pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGKILL])
    @pytest.mark.attack(33)
    def test_next_fetch_goes_on_after_a_killed_one(
        self, client: Rkt, site: Site, data: bytes, way: signal.Signals
    ) -> None:
        hold = threading.Event()
        site.pages["/app.aci"] = tagged(data, hold=hold)
        process = client.start(INSECURE, "fetch", f"{site.url}/app.aci")
        half = len(data) // 2
        until(lambda: any(self._size(client, name) == half for name in temporary(client)))
        process.send_signal(way)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == (130 if way == signal.SIGINT else -9)
        assert images(client) == []
        hold.set()
        site.pages["/app.aci"] = tagged(data)
        client.ok(INSECURE, "fetch", f"{site.url}/app.aci")
        assert site.asked("/app.aci")[1].header("Range") == f"bytes={half - 1}-"
        client.ok("image", "gc")
        assert temporary(client) == []

    @staticmethod
    def _size(client: Rkt, name: str) -> int:
        try:
            return os.stat(os.path.join(client.dir, "cas", "tmp", name)).st_size
        except FileNotFoundError:
            return -1

    def interrupted(self, client: Rkt, site: Site, data: bytes, count: int) -> None:
        """Leave a partial file of ``count`` bytes."""
        site.pages["/app.aci"] = tagged(data, cuts=[count, 1, 1, 1, 1])
        assert client(INSECURE, "fetch", f"{site.url}/app.aci").code == 254
        assert len(temporary(client)) == 2
        site.requests.clear()

    def test_file_that_was_replaced_is_begun_anew(
        self, client: Rkt, site: Site, data: bytes, tmp_path: os.PathLike[str]
    ) -> None:
        self.interrupted(client, site, data, 5000)
        other = image(os.fspath(tmp_path))
        site.pages["/app.aci"] = tagged(other)
        client.ok(INSECURE, "fetch", f"{site.url}/app.aci")
        assert site.requests[0].header("Range") != ""
        assert [one.sent for one in site.requests] == [len(other)]

    @pytest.mark.attack(33)
    def test_file_replaced_in_the_middle_of_a_download(
        self, client: Rkt, site: Site, data: bytes, tmp_path: os.PathLike[str]
    ) -> None:
        """What was handed to the store already is dropped."""
        other = image(os.fspath(tmp_path), size=500_000)
        page = tagged(data, cuts=[200_000])
        site.pages["/app.aci"] = page
        page.ranges = False
        serve = page.body

        class Replaced(Page):
            @property  # type: ignore[override]
            def etag(self) -> str:
                return '"one"' if len(site.requests) < 2 else '"two"'

            @etag.setter
            def etag(self, value: str) -> None:
                pass

            @property  # type: ignore[override]
            def body(self) -> bytes:
                return serve if len(site.requests) < 2 else other

            @body.setter
            def body(self, value: bytes) -> None:
                pass

        site.pages["/app.aci"] = Replaced(cuts=[200_000])
        result = client.ok(INSECURE, "fetch", "--full", f"{site.url}/app.aci")
        assert "was replaced while it was being downloaded, beginning anew" in result.err
        site.pages["/plain.aci"] = Page(other)
        assert client.ok(INSECURE, "fetch", "--full", f"{site.url}/plain.aci").out == result.out

    def test_server_that_forgot_ranges(self, client: Rkt, site: Site, data: bytes) -> None:
        self.interrupted(client, site, data, 5000)
        site.pages["/app.aci"] = tagged(data, ranges=False)
        client.ok(INSECURE, "fetch", f"{site.url}/app.aci")

    @pytest.mark.parametrize(
        "wrong", ["bytes 0-9/10", "bytes 7000-9000/20000", "bytes */7", "nonsense", "bytes 4999-1/2"]
    )
    @pytest.mark.attack(33)
    def test_wrong_range_is_refused(self, client: Rkt, site: Site, data: bytes, wrong: str) -> None:
        self.interrupted(client, site, data, 5000)
        site.pages["/app.aci"] = tagged(data, wrong_range=wrong)
        result = client(INSECURE, "fetch", f"{site.url}/app.aci")
        assert result.code == 254
        assert f'answers with the wrong range "{wrong}"' in result.err
        assert (images(client), temporary(client)) == ([], [])
        client.ok(INSECURE, "fetch", f"{site.url}/app.aci")

    @pytest.mark.attack(33)
    def test_range_of_another_file_is_refused(
        self, client: Rkt, site: Site, data: bytes, tmp_path: os.PathLike[str]
    ) -> None:
        """The same validator, other bytes: the one byte that is asked for twice gives it away."""
        self.interrupted(client, site, data, 5000)
        size = next(self._size(client, one) for one in temporary(client) if not one.endswith(".etag"))
        other = bytes(byte ^ 0xFF for byte in data)
        site.pages["/app.aci"] = Page(other, etag=tagged(data).etag)
        result = client(INSECURE, "fetch", f"{site.url}/app.aci")
        assert size >= 5000
        assert "wrong range" in result.err

    def test_partial_file_of_another_boot_or_without_its_sidecar(
        self, client: Rkt, site: Site, data: bytes
    ) -> None:
        for spoil in ("boot", "gone", "garbage"):
            self.interrupted(client, site, data, 5000)
            sidecar = next(one for one in temporary(client) if one.endswith(".etag"))
            path = os.path.join(client.dir, "cas", "tmp", sidecar)
            if spoil == "gone":
                os.unlink(path)
            else:
                with open(path, "w") as file:
                    file.write(f"{tagged(data).etag}\nother\n" if spoil == "boot" else "x" * 100_000)
            site.pages["/app.aci"] = tagged(data)
            client.ok(INSECURE, "fetch", f"{site.url}/app.aci")
            assert site.requests[0].header("Range") == ""
            client.ok("image", "rm", NAME)

    def test_partial_file_of_somebody_else_is_not_continued(
        self, client: Rkt, site: Site, data: bytes
    ) -> None:
        """A member of the group can leave a file, but not what root imports from it."""
        self.interrupted(client, site, data, 5000)
        for name in temporary(client):
            os.chown(os.path.join(client.dir, "cas", "tmp", name), 65534, -1)
        site.pages["/app.aci"] = tagged(data)
        client.ok(INSECURE, "fetch", f"{site.url}/app.aci")
        assert site.requests[0].header("Range") == ""

    @pytest.mark.attack(33)
    def test_cut_at_any_byte_never_gives_an_image(
        self, client: Rkt, site: Site, tmp_path: os.PathLike[str]
    ) -> None:
        """Where the end of the connection is the only end there is, the archive itself tells."""
        data = image(os.fspath(tmp_path), size=2000)
        for cut in (0, 1, 17, len(data) // 2, len(data) - 9, len(data) - 1):
            site.pages["/app.aci"] = Page(data[:cut])
            result = client(INSECURE, "fetch", f"{site.url}/app.aci")
            assert (result.code, result.out) == (254, ""), cut
        assert (images(client), temporary(client)) == ([], [])

    def test_more_than_announced_is_refused(self, client: Rkt, site: Site, data: bytes) -> None:
        site.pages["/app.aci"] = tagged(data, length=len(data) - 100)
        assert client(INSECURE, "fetch", f"{site.url}/app.aci").code == 254
        assert images(client) == []

    @staticmethod
    def until_it_waits(process: subprocess.Popen[str]) -> None:
        """Until it has said that another fetches the same."""
        assert process.stderr is not None
        while "waiting for another fetch of" not in (line := process.stderr.readline()):
            assert line, "it has ended"

    def test_two_at_once_do_the_work_once(self, client: Rkt, site: Site, data: bytes) -> None:
        hold = threading.Event()
        site.pages["/app.aci"] = tagged(data, hold=hold)
        running = [client.start(INSECURE, "fetch", f"{site.url}/app.aci")]
        site.wait_for("/app.aci")
        running += [client.start(INSECURE, "fetch", f"{site.url}/app.aci") for _ in range(3)]
        for process in running[1:]:
            self.until_it_waits(process)
        hold.set()
        results = [process.communicate(timeout=PATIENCE) for process in running]
        assert [process.returncode for process in running] == [0] * 4
        assert len({out for out, _ in results}) == 1
        assert len(site.requests) == 1
        assert temporary(client) == []

    def test_the_one_that_waits_takes_over(self, client: Rkt, site: Site, data: bytes) -> None:
        hold = threading.Event()
        site.pages["/app.aci"] = tagged(data, hold=hold)
        first = client.start(INSECURE, "fetch", f"{site.url}/app.aci")
        site.wait_for("/app.aci")
        second = client.start(INSECURE, "fetch", f"{site.url}/app.aci")
        self.until_it_waits(second)
        first.kill()
        first.communicate()
        hold.set()
        out, err = second.communicate(timeout=PATIENCE)
        assert second.returncode == 0, err
        assert out.startswith("sha512-")
        assert len(site.requests) == 2


class TestServers:
    """TLS, redirects, proxies and credentials."""

    def configure(
        self, rkt: Rkt, host: str, kind: str, credentials: dict[str, str], layer: str = "config"
    ) -> None:
        directory = os.path.join(rkt.base, layer, "auth.d")
        os.makedirs(directory, exist_ok=True)
        value = {
            "rktKind": "auth",
            "rktVersion": "v1",
            "domains": [host],
            "type": kind,
            "credentials": credentials,
        }
        with open(os.path.join(directory, f"{host.replace(':', '-')}.json"), "w") as file:
            json.dump(value, file)

    @pytest.mark.promise("P3")
    def test_certificate_nobody_vouches_for(self, client: Rkt, site: Site, data: bytes) -> None:
        site.pages["/app.aci"] = Page(data)
        url = f"{site.url}/app.aci"
        result = client(INSECURE, "fetch", url, env={"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"})
        assert result.code == 254
        assert "its certificate is not trusted" in result.err
        assert site.requests == []
        strange = {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
        client.ok("--insecure-options=image,tls", "fetch", url, env=strange)

    @pytest.mark.promise("P3")
    def test_certificate_for_another_name(self, client: Rkt, site: Site, data: bytes) -> None:
        site.pages["/app.aci"] = Page(data)
        result = client(INSECURE, "fetch", "https://unknown.test/app.aci")
        assert result.code == 254
        assert "its certificate is not trusted" in result.err

    @pytest.mark.promise("P3")
    def test_http_has_to_be_allowed(self, client: Rkt, site: Site, data: bytes) -> None:
        site.pages["/app.aci"] = Page(data)
        result = client(INSECURE, "fetch", f"{site.plain_url}/app.aci")
        assert result.code == 254
        assert "http is not allowed" in result.err
        assert "--insecure-options=http" in result.err
        assert site.requests == []
        client.ok("--insecure-options=image,http", "fetch", f"{site.plain_url}/app.aci")

    @pytest.mark.promise("P3")
    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("http://example.com/real.aci", "http is not allowed"),
            ("file:///etc/passwd", "neither https nor http"),
            ("ftp://example.com/a", "neither https nor http"),
            ("https://169.254.169.254/latest/meta-data", "link-local"),
            ("https://[fe80::1]/x", "link-local"),
            ("https://[::ffff:169.254.169.254]/x", "link-local"),
            ("https://u:p@example.com/real.aci", "holds credentials"),
            ("https://[bad/", "refusing the redirect"),
            ("", "says not where to"),
        ],
    )
    @pytest.mark.attack(32)
    def test_redirects_that_are_refused(
        self, client: Rkt, site: Site, data: bytes, target: str, message: str
    ) -> None:
        site.pages["/app.aci"] = redirect(target)
        site.pages["/real.aci"] = Page(data)
        result = client(INSECURE, "fetch", f"{site.url}/app.aci")
        assert (result.code, result.out) == (254, "")
        assert message in result.err
        assert len(site.requests) == 1
        assert (images(client), temporary(client)) == ([], [])

    def test_redirects_are_followed(self, client: Rkt, site: Site, data: bytes) -> None:
        site.pages["/app.aci"] = redirect("/next.aci")
        site.pages["/next.aci"] = redirect("https://cdn.test/real.aci?x=secret", 307)
        site.pages["cdn.test/real.aci?x=secret"] = tagged(data, cuts=[1000])
        result = client.ok("--debug", INSECURE, "fetch", f"{site.url}/app.aci")
        assert "secret" not in result.err
        # the connection broke: the way is found again from its beginning
        assert len(site.asked("/app.aci")) == 2

    def test_redirects_without_end(self, client: Rkt, site: Site) -> None:
        site.pages["/app.aci"] = redirect("/app.aci")
        result = client(INSECURE, "fetch", f"{site.url}/app.aci")
        assert "stopped after 10 redirects" in result.err
        assert len(site.requests) == 11

    @pytest.mark.promise("P3")
    @pytest.mark.attack(32)
    def test_credentials_go_to_their_host_only(self, client: Rkt, site: Site, data: bytes) -> None:
        basic = "Basic " + base64.b64encode(b"me:secret").decode()
        self.configure(client, "example.com", "basic", {"user": "me", "password": "secret"})
        self.configure(client, "cdn.test", "oauth", {"token": "t0ken"})
        site.pages["example.com/app.aci"] = redirect("https://other.test/app.aci")
        site.pages["other.test/app.aci"] = redirect("https://cdn.test/app.aci")
        site.pages["cdn.test/app.aci"] = Page(data, needs="Bearer t0ken")
        client.ok(INSECURE, "fetch", "https://example.com/app.aci")
        sent = [(one.host, one.header("Authorization")) for one in site.requests]
        assert sent == [("example.com", basic), ("other.test", ""), ("cdn.test", "Bearer t0ken")]

    @pytest.mark.promise("P3")
    @pytest.mark.attack(32)
    def test_credentials_never_leave_without_tls(self, client: Rkt, site: Site, data: bytes) -> None:
        self.configure(client, "example.com", "oauth", {"token": "t0ken"})
        site.pages["/app.aci"] = Page(data)
        client.ok("--insecure-options=image,http", "fetch", "http://example.com/app.aci")
        assert [one.header("Authorization") for one in site.requests] == [""]

    def test_upper_layer_has_the_last_word(self, client: Rkt, site: Site, data: bytes) -> None:
        host = f"127.0.0.1:{site.https_port}"
        self.configure(client, host, "oauth", {"token": "system"}, layer="system")
        site.pages["/app.aci"] = Page(data, needs="Bearer system")
        client.ok(INSECURE, "fetch", f"{site.url}/app.aci")
        self.configure(client, host, "oauth", {"token": "local"})
        result = client(INSECURE, "fetch", f"{site.url}/app.aci")
        assert "bad HTTP status code: 401" in result.err

    def test_aws_signature(self, client: Rkt, site: Site, data: bytes) -> None:
        self.configure(
            client,
            "example.com",
            "aws",
            {"accessKeyID": "AKID", "secretAccessKey": "SECRET", "awsRegion": "eu-1"},
        )
        site.pages["/app.aci"] = Page(data)
        client.ok(INSECURE, "fetch", "https://example.com/app.aci")
        asked = site.requests[0]
        assert asked.header("Authorization").startswith("AWS4-HMAC-SHA256 Credential=AKID/")
        assert f"{asked.header('X-Amz-Date')[:8]}/eu-1/s3/aws4_request" in asked.header("Authorization")

    def test_proxy_is_used_where_the_environment_says_so(self, client: Rkt, site: Site, data: bytes) -> None:
        site.pages["/app.aci"] = Page(data)
        client.ok(INSECURE, "fetch", "https://example.com/app.aci")
        assert site.connects == ["example.com:443"]
        result = client(
            INSECURE,
            "fetch",
            "https://example.com/app.aci",
            env={"NO_PROXY": "other,.example.com,example.com"},
        )
        assert result.code == 254
        assert site.connects == ["example.com:443"]

    def test_proxy_that_is_none(self, client: Rkt, site: Site) -> None:
        for proxy, message in (
            ("socks5://127.0.0.1:1", "it is no http proxy"),
            ("http://[:1", "it is no URL"),
            ("http://u:secret@127.0.0.1:1", "connection refused (through the proxy 127.0.0.1)"),
        ):
            result = client(INSECURE, "fetch", "https://example.com/app.aci", env={"HTTPS_PROXY": proxy})
            assert result.code == 254
            assert message in result.err
            assert "secret" not in result.err

    def test_busy_server_is_asked_again(self, client: Rkt, site: Site, data: bytes) -> None:
        site.pages["/app.aci"] = Page(data, statuses=[503, 429])
        client.ok(INSECURE, "fetch", f"{site.url}/app.aci")
        site.pages["/app.aci"] = Page(data, statuses=[503] * 3)
        result = client(INSECURE, "fetch", f"{site.url}/app.aci")
        assert "bad HTTP status code: 503" in result.err

    def test_slow_sender(self, client: Rkt, site: Site, tmp_path: os.PathLike[str]) -> None:
        site.pages["/app.aci"] = Page(image(os.fspath(tmp_path), size=20_000), rate=20_000)
        client.ok(INSECURE, "fetch", f"{site.url}/app.aci")

    def test_body_that_is_read_over_one_connection_many_times(
        self, client: Rkt, site: Site, data: bytes
    ) -> None:
        """Connections are kept: three images, one handshake through the proxy."""
        for name in "abc":
            site.pages[f"/{name}.aci"] = Page(data)
        client.ok(INSECURE, "fetch", *(f"https://example.com/{name}.aci" for name in "abc"))
        assert len(site.requests) == 3
        assert len(site.connects) == 1


def test_pod_of_an_image_from_a_server(client: Rkt, site: Site, signer: Signer, data: bytes) -> None:
    """What ``fetch`` can do, the commands that make pods can too."""
    trust(client, signer)
    site.pages["/app.aci"] = Page(data)
    site.pages["/app.aci.asc"] = Page(signature(signer, client.base, data))
    uuid = client.ok("prepare", f"{site.url}/app.aci", "--exec=/bin/true").out.strip()
    assert NAME in client.ok("cat-manifest", uuid).out
    # for these the store's copy is the default
    client.ok("prepare", f"{site.url}/app.aci", "--exec=/bin/true")
    assert len(site.asked("/app.aci")) == 1


def test_user_without_privileges(client: Rkt, site: Site, data: bytes) -> None:
    """Fetching needs a store one may write to, and no more."""
    parent = client.base
    while parent != tempfile.gettempdir():
        os.chmod(parent, 0o755)
        parent = os.path.dirname(parent)
    os.makedirs(client.dir)
    os.chown(client.dir, 54321, 54321)
    os.chmod(os.path.dirname(site.authority), 0o755)
    site.pages["/app.aci"] = tagged(data, cuts=[70_000])
    identity = {"user": 54321, "group": 54321, "extra_groups": [], "cwd": "/"}
    result = client(INSECURE, "fetch", f"{site.url}/app.aci", **identity)
    assert result.code == 0, result
    assert temporary(client) == []


@pytest.mark.promise("P4")
def test_names_from_a_server_do_not_steer_the_terminal(
    client: Rkt, site: Site, tmp_path: os.PathLike[str]
) -> None:
    labels = [
        {"name": "version", "value": "1\x1b[2J\x9b2J"},
        {"name": "os", "value": "linux"},
        {"name": "arch", "value": "amd64"},
    ]
    template = "https://cdn.test/{name}.{ext}"
    page = f'<meta name="ac-discovery" content="example.com {template}">'
    site.pages["example.com/app?ac-discovery=1"] = Page(page.encode())
    site.pages["cdn.test/example.com/app.aci"] = Page(image(os.fspath(tmp_path), labels=labels))
    result = client(INSECURE, "fetch", f"{NAME}:2")
    assert result.code == 254
    assert '"2" expected for the label "version" but "1\ufffd[2J\ufffd2J" found' in result.err


def test_progress_on_a_terminal(client: Rkt, site: Site, data: bytes) -> None:
    site.pages["/app.aci"] = tagged(data, rate=600_000)
    command = " ".join(client.argv(INSECURE, "fetch", f"{site.url}/app.aci"))
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        capture_output=True,
        text=True,
        env={**client.environment, "TERM": "xterm"},
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert "app.aci" in done.stdout
    assert "B/s" in done.stdout
