"""Images and keys found by name: the pages of web sites, what they may lead to, and who is asked."""

from __future__ import annotations

import os

import pytest

from functional.fetching import INSECURE, NAME, image, images, signature, temporary, trust
from support import aci
from support.driver import Rkt
from support.signing import Signer
from support.web import Page, Site, redirect, tagged

QUERY = "?ac-discovery=1"
TEMPLATE = "https://cdn.test/{os}/{arch}/{name}-{version}.{ext}"
LABELS = [{"name": "os", "value": "linux"}, {"name": "arch", "value": "amd64"}]


def meta(prefix: str = "example.com", template: str = TEMPLATE, key: str = "") -> Page:
    tags = f'<meta name="ac-discovery" content="{prefix} {template}">' if template else ""
    if key:
        tags += f'<meta name="ac-discovery-pubkeys" content="{prefix} {key}">'
    return Page(f"<html><head>{tags}</head><body>hello</body></html>".encode())


def serve(site: Site, name: str, data: bytes, version: str = "1", asc: bytes = b"") -> None:
    site.pages[f"cdn.test/linux/amd64/{name}-{version}.aci"] = tagged(data)
    if asc:
        site.pages[f"cdn.test/linux/amd64/{name}-{version}.aci.asc"] = Page(asc)


def fingerprints(rkt: Rkt) -> list[str]:
    """The trusted keys, as paths below the local key store."""
    base = os.path.join(rkt.config, "trustedkeys")
    return sorted(
        os.path.relpath(os.path.join(parent, name), base)
        for parent, _, names in os.walk(base)
        for name in names
    )


class TestImages:
    def test_template_is_filled(self, client: Rkt, site: Site, data: bytes) -> None:
        site.pages[f"example.com/app{QUERY}"] = meta()
        serve(site, NAME, data)
        client.ok(INSECURE, "fetch", f"{NAME}:1")
        assert [(one.host, one.path) for one in site.requests] == [
            ("example.com", "/app?ac-discovery=1"),
            ("cdn.test", "/linux/amd64/example.com/app-1.aci"),
        ]
        assert NAME in client.ok("image", "list").out

    def test_missing_version_is_the_latest(self, client: Rkt, site: Site, data: bytes) -> None:
        site.pages[f"example.com/app{QUERY}"] = meta()
        serve(site, NAME, data, "latest")
        key = client.ok(INSECURE, "fetch", "--full", NAME).out
        assert client.ok(INSECURE, "fetch", "--full", "--pull-policy=never", NAME).out == key

    def test_walk_up_to_the_host(self, client: Rkt, site: Site, tmp_path: os.PathLike[str]) -> None:
        name = "example.com/a/b/c"
        site.pages[f"example.com/a/b{QUERY}"] = Page(b"<html>no tags</html>")
        site.pages[f"example.com/{QUERY}"] = meta()
        serve(site, name, image(os.fspath(tmp_path), name))
        client.ok(INSECURE, "fetch", f"{name}:1")
        pages = [one.path for one in site.requests if one.host == "example.com"]
        assert pages == [f"/a/b/c{QUERY}", f"/a/b{QUERY}", f"/a{QUERY}", f"/{QUERY}"]

    def test_labels_of_the_name_are_used(self, client: Rkt, site: Site, tmp_path: os.PathLike[str]) -> None:
        labels = [
            {"name": "version", "value": "2"},
            {"name": "os", "value": "linux"},
            {"name": "arch", "value": "amd64"},
            {"name": "channel", "value": "beta"},
        ]
        template = "https://cdn.test/{channel}/{os}/{arch}/{name}-{version}.{ext}"
        site.pages[f"example.com/app{QUERY}"] = meta(template=template)
        site.pages["cdn.test/beta/linux/amd64/example.com/app-2.aci"] = Page(
            image(os.fspath(tmp_path), labels=labels)
        )
        client.ok(INSECURE, "fetch", f"{NAME}:2,channel=beta")
        result = client(INSECURE, "fetch", f"{NAME}:2")
        no_tag = f"https://example.com/app{QUERY} has no usable discovery tag for this image"
        assert (result.code, result.err) == (254, f"fetch: discovery failed: {no_tag}\n")

    def test_policies(self, client: Rkt, site: Site, data: bytes) -> None:
        site.pages[f"example.com/app{QUERY}"] = meta()
        serve(site, NAME, data)
        name = f"{NAME}:1"

        def fetch(policy: str) -> int:
            before = len(site.requests)
            client.ok(INSECURE, "fetch", f"--pull-policy={policy}", name)
            return len(site.requests) - before

        result = client(INSECURE, "fetch", "--pull-policy=never", name)
        assert result.err == f'fetch: unable to fetch image "{name}": it is not in the local store\n'
        assert fetch("new") == 2
        assert fetch("new") == 0
        assert fetch("never") == 0
        assert fetch("update") == 2
        assert site.requests[-1].sent == 0
        site.pages.clear()
        assert client(INSECURE, "fetch", "--pull-policy=update", name).code == 254

    def test_debug_says_what_is_searched_and_why_it_failed(self, client: Rkt, site: Site) -> None:
        result = client("--debug", INSECURE, "fetch", NAME)
        assert result.code == 254
        assert f"image: searching for app image {NAME}\n" in result.err
        assert f'image: "{NAME}": https://{NAME}{QUERY}: expected status 200, got 404\n' in result.err

    @pytest.mark.promise("P3")
    def test_image_with_another_name_is_refused(
        self, client: Rkt, site: Site, tmp_path: os.PathLike[str]
    ) -> None:
        site.pages[f"example.com/app{QUERY}"] = meta()
        serve(site, NAME, image(os.fspath(tmp_path), "example.com/other"))
        result = client(INSECURE, "fetch", f"{NAME}:1")
        assert result.code == 254
        assert '"example.com/app" expected but "example.com/other" found' in result.err
        assert (images(client), temporary(client)) == ([], [])

    @pytest.mark.promise("P3")
    def test_image_without_the_labels_asked_for_is_refused(
        self, client: Rkt, site: Site, data: bytes, tmp_path: os.PathLike[str]
    ) -> None:
        site.pages[f"example.com/app{QUERY}"] = meta()
        serve(site, NAME, data, "2")
        result = client(INSECURE, "fetch", f"{NAME}:2")
        assert '"2" expected for the label "version" but "1" found' in result.err
        serve(site, NAME, image(os.fspath(tmp_path), labels=LABELS[:1]), "latest")
        result = client(INSECURE, "fetch", NAME)
        assert 'requested label "arch" not provided' in result.err
        assert images(client) == []

    @pytest.mark.promise("P3")
    def test_signed_image(self, client: Rkt, site: Site, signer: Signer, data: bytes) -> None:
        trust(client, signer)
        site.pages[f"example.com/app{QUERY}"] = meta()
        serve(site, NAME, data, asc=signature(signer, client.base, data))
        assert "signature verified:" in client.ok("fetch", f"{NAME}:1").err

    @pytest.mark.promise("P3")
    @pytest.mark.parametrize(
        ("template", "message"),
        [
            ("http://cdn.test/{name}.{ext}", "http is not allowed"),
            ("https://169.254.169.254/{name}.{ext}", "link-local"),
            ("file:///etc/{name}.{ext}", "file:///etc/example.com/app.aci is no https address"),
            ("hdfs://cdn.test/{name}.{ext}", "discovery failed: hdfs://cdn.test/"),
            ("https://cdn.test/{unknown}.{ext}", "discovery failed"),
        ],
    )
    @pytest.mark.attack(32)
    def test_templates_that_lead_astray(self, client: Rkt, site: Site, template: str, message: str) -> None:
        site.pages[f"example.com/app{QUERY}"] = meta(template=template)
        result = client(INSECURE, "fetch", f"{NAME}:1")
        assert (result.code, result.out) == (254, "")
        assert message in result.err
        assert {one.host for one in site.requests} == {"example.com"}

    @pytest.mark.promise("P3")
    @pytest.mark.attack(32)
    def test_tag_for_another_prefix(self, client: Rkt, site: Site) -> None:
        site.pages[f"example.com/app{QUERY}"] = meta(prefix="example.com/other")
        no_tag = f"https://example.com/app{QUERY} has no usable discovery tag for this image"
        assert client(INSECURE, "fetch", NAME).err == f"fetch: discovery failed: {no_tag}\n"

    @pytest.mark.promise("P3")
    @pytest.mark.attack(32)
    def test_plain_http_only_where_it_is_allowed(self, client: Rkt, site: Site, data: bytes) -> None:
        name = "unknown.test/app"
        site.pages[f"unknown.test/app{QUERY}"] = meta("unknown.test", "http://unknown.test/app.{ext}")
        result = client(INSECURE, "fetch", name)
        assert result.err.startswith("fetch: discovery failed: cannot get https://unknown.test: ")
        assert result.err.count("\n") == 1
        assert site.requests == []
        result = client("--insecure-options=image,http", "fetch", name)
        assert [one.scheme for one in site.requests] == ["http", "http"]
        assert "bad HTTP status code: 404" in result.err

    @pytest.mark.promise("P3")
    @pytest.mark.attack(32)
    def test_page_that_redirects_to_http(self, client: Rkt, site: Site) -> None:
        site.pages[f"example.com/app{QUERY}"] = redirect("http://example.com/real")
        site.pages["example.com/real"] = meta()
        result = client(INSECURE, "fetch", NAME)
        assert result.err.startswith("fetch: discovery failed: ")
        assert {one.scheme for one in site.requests} == {"https"}

    @pytest.mark.attack(32)
    def test_page_without_end_is_cut_short(self, client: Rkt, site: Site) -> None:
        site.pages[f"example.com/{QUERY}"] = Page(b"<!--" + b" " * (5 << 20))
        result = client(INSECURE, "fetch", "example.com")
        assert result.err.startswith("fetch: discovery failed: ")
        assert "is larger than 4194304 bytes" in result.err


class TestKeys:
    """Keys found on the way to an image, and by ``rkt trust``."""

    @pytest.fixture
    def ready(self, site: Site, signer: Signer, client: Rkt, data: bytes) -> Site:
        site.pages[f"example.com/app{QUERY}"] = meta(key="https://keys.test/alice.pub")
        site.pages["keys.test/alice.pub"] = Page(signer.export("alice"))
        serve(site, NAME, data, asc=signature(signer, client.base, data))
        return site

    @pytest.mark.promise("P3")
    def test_key_is_asked_about_on_a_terminal(self, client: Rkt, ready: Site) -> None:
        code, out, err = client.on_terminal("yes\n", "fetch", f"{NAME}:1")
        assert code == 0, err
        assert len(out.splitlines()) == 1
        assert "gpg key fingerprint is:" in err
        assert "Are you sure you want to trust this key (yes/no)?" in err
        assert f'Trusting "https://keys.test/alice.pub" for prefix "{NAME}" after fingerprint review.' in err
        assert [os.path.dirname(path) for path in fingerprints(client)] == [f"prefix.d/{NAME}"]
        code, _, err = client.on_terminal("", "fetch", f"{NAME}:1")
        assert (code, f'keys already exist for prefix "{NAME}", not fetching again' in err) == (0, True)

    @pytest.mark.promise("P3")
    def test_any_other_answer_is_no(self, client: Rkt, ready: Site) -> None:
        code, out, err = client.on_terminal("y\n", "fetch", f"{NAME}:1")
        assert (code, out) == (254, "")
        assert 'not trusting "https://keys.test/alice.pub"' in err
        assert "openpgp: signature made by unknown entity" in err
        assert fingerprints(client) == []
        assert ready.asked("/linux/amd64/example.com/app-1.aci") == []

    @pytest.mark.promise("P3")
    def test_nobody_to_ask(self, client: Rkt, ready: Site) -> None:
        result = client("fetch", f"{NAME}:1")
        assert result.code == 254
        assert "call rkt with --trust-keys-from-https" in result.err
        assert fingerprints(client) == []

    @pytest.mark.promise("P3")
    def test_trust_keys_from_https(self, client: Rkt, ready: Site) -> None:
        result = client.ok("--trust-keys-from-https", "fetch", f"{NAME}:1")
        assert "without fingerprint review" in result.err
        assert len(fingerprints(client)) == 1

    @pytest.mark.promise("P3")
    @pytest.mark.attack(31)
    def test_key_over_http(self, client: Rkt, ready: Site) -> None:
        """Even where http will do for keys, such a key is not one from https."""
        ready.pages[f"example.com/app{QUERY}"] = meta(key="http://keys.test/alice.pub")
        for options in ([], ["--insecure-options=pubkey"]):
            result = client("--trust-keys-from-https", *options, "fetch", f"{NAME}:1")
            assert result.code == 254
            assert fingerprints(client) == []
        asked = ready.asked("/alice.pub")
        assert [one.scheme for one in asked] == ["http"]
        code, _, err = client.on_terminal("yes\n", "--insecure-options=pubkey", "fetch", f"{NAME}:1")
        assert code == 0, err

    @pytest.mark.promise("P3")
    @pytest.mark.attack(31)
    def test_key_that_redirects_to_http(self, client: Rkt, ready: Site) -> None:
        ready.pages["keys.test/alice.pub"] = redirect("http://keys.test/real.pub")
        result = client("--trust-keys-from-https", "fetch", f"{NAME}:1")
        assert result.code == 254
        assert fingerprints(client) == []
        assert ready.asked("/real.pub") == []

    @pytest.mark.promise("P3")
    def test_insecure_image_asks_for_no_keys(self, client: Rkt, ready: Site) -> None:
        client.ok(INSECURE, "fetch", f"{NAME}:1")
        assert ready.asked("/alice.pub") == []

    @pytest.mark.promise("P3")
    def test_trust_by_prefix(self, client: Rkt, ready: Site) -> None:
        result = client.ok("trust", f"--prefix={NAME}", "--skip-fingerprint-review")
        assert result.lines[0] == (
            f'Trusting "https://keys.test/alice.pub" for prefix "{NAME}" without fingerprint review.'
        )
        assert result.lines[1].startswith(f'Added key for prefix "{NAME}" at "{client.config}/trustedkeys/')
        client.ok("fetch", f"{NAME}:1")

    @pytest.mark.promise("P3")
    def test_trust_by_url(self, client: Rkt, ready: Site) -> None:
        url = f"{ready.url}/alice.pub"
        ready.pages["/alice.pub"] = ready.pages["keys.test/alice.pub"]
        assert client("trust", f"--prefix={NAME}", url).code == 254
        assert fingerprints(client) == []
        client.ok("--trust-keys-from-https", "trust", f"--prefix={NAME}", url)
        client.ok("trust", "--root", "--skip-fingerprint-review", url)
        assert {path.split("/")[0] for path in fingerprints(client)} == {"prefix.d", "root.d"}
        result = client("trust", "--root", "--skip-fingerprint-review", f"{ready.url}/none.pub")
        assert (
            result.err == f"trust: error accessing the key {ready.url}/none.pub: bad HTTP status code: 404\n"
        )

    @pytest.mark.promise("P3")
    def test_trust_over_http_has_to_be_allowed(self, client: Rkt, ready: Site) -> None:
        url = f"{ready.plain_url}/alice.pub"
        ready.pages["/alice.pub"] = ready.pages["keys.test/alice.pub"]
        words = ["trust", "--root", "--skip-fingerprint-review"]
        result = client(*words, url)
        assert result.code == 254
        assert "http is not allowed" in result.err
        result = client("--trust-keys-from-https", "trust", "--root", "--insecure-allow-http", url)
        assert (result.code, fingerprints(client)) == (254, [])
        client.ok(*words, "--insecure-allow-http", url)

    @pytest.mark.promise("P3")
    @pytest.mark.parametrize("key", ["/etc/passwd", "file:///etc/passwd", "https://169.254.169.254/k"])
    @pytest.mark.attack(32)
    def test_page_names_no_local_file(self, client: Rkt, ready: Site, key: str) -> None:
        ready.pages[f"example.com/app{QUERY}"] = meta(key=key)
        result = client("trust", f"--prefix={NAME}", "--skip-fingerprint-review")
        assert result.code == 254
        assert f"error accessing the key {key}" in result.err

    def test_no_page(self, client: Rkt, site: Site) -> None:
        result = client("trust", f"--prefix={NAME}")
        assert result.code == 254
        failed = f"discovery failed: https://example.com{QUERY}: expected status 200, got 404"
        assert result.err == f"trust: error determining key location: {failed}\n"


class TestDependencies:
    def layer(self, directory: str, name: str, *dependencies: dict[str, object], **members: object) -> bytes:
        return image(directory, name, size=1000, dependencies=list(dependencies), **members)

    @pytest.fixture
    def directory(self, site: Site, tmp_path: os.PathLike[str]) -> str:
        site.pages[f"example.com/{QUERY}"] = meta(template="https://cdn.test/linux/amd64/{name}-1.{ext}")
        return os.fspath(tmp_path)

    def test_chain_is_fetched(self, client: Rkt, site: Site, directory: str) -> None:
        serve(site, "example.com/base", self.layer(directory, "example.com/base"))
        middle = self.layer(directory, "example.com/middle", {"imageName": "example.com/base"})
        serve(site, "example.com/middle", middle)
        serve(site, NAME, self.layer(directory, NAME, {"imageName": "example.com/middle"}))
        client.ok(INSECURE, "fetch", f"{NAME}:1")
        assert len(images(client)) == 3
        assert len(os.listdir(os.path.join(client.dir, "cas", "tree"))) == 1

    @pytest.mark.promise("P3")
    @pytest.mark.attack(15)
    def test_each_needs_its_signature(self, client: Rkt, site: Site, signer: Signer, directory: str) -> None:
        trust(client, signer, prefix="example.com")
        base = self.layer(directory, "example.com/base")
        top = self.layer(directory, NAME, {"imageName": "example.com/base"})
        serve(site, NAME, top, asc=signature(signer, directory, top))
        serve(site, "example.com/base", base, asc=signature(signer, directory, base, "mallory"))
        result = client("fetch", f"{NAME}:1")
        assert result.code == 254
        assert 'dependency "example.com/base" cannot be fetched' in result.err
        assert "signature made by unknown entity" in result.err
        serve(site, "example.com/base", base, asc=signature(signer, directory, base))
        client.ok("fetch", f"{NAME}:1")

    @pytest.mark.promise("P3")
    @pytest.mark.attack(15)
    def test_unverified_copy_in_the_store_does_not_count(
        self, client: Rkt, site: Site, signer: Signer, directory: str
    ) -> None:
        """Somebody fetched an image of the dependency's name without verification, before or after."""
        trust(client, signer, prefix="example.com")
        version = [{"name": "version", "value": "1"}]
        top = self.layer(directory, NAME, {"imageName": "example.com/base", "labels": version})
        serve(site, NAME, top, asc=signature(signer, directory, top))
        fake = os.path.join(directory, "fake.aci")
        aci.build(fake, aci.manifest("example.com/base"), [aci.Entry("evil")])
        key = client.ok(INSECURE, "fetch", "--full", fake).out.strip()
        for policy in ("new", "update"):
            result = client("fetch", f"--pull-policy={policy}", f"{NAME}:1")
            assert result.code == 254, result
            assert 'dependency "example.com/base,version=1" cannot be fetched' in result.err
        base = self.layer(directory, "example.com/base")
        serve(site, "example.com/base", base, asc=signature(signer, directory, base))
        # so that the next fetch takes the copy, which by then is not the newest image of its name
        site.pages["cdn.test/linux/amd64/example.com/base-1.aci"].headers["Cache-Control"] = "max-age=999"
        client.ok("fetch", f"{NAME}:1")
        client.ok("image", "rm", key)
        client.ok(INSECURE, "fetch", fake)
        result = client("fetch", f"{NAME}:1")
        assert result.code == 254, result
        assert f'dependency "example.com/base" is image {key} in the local store, which was not' in result.err
        client.ok(INSECURE, "fetch", f"{NAME}:1")

    @pytest.mark.promise("P3")
    @pytest.mark.attack(15)
    def test_swapped_id_and_size_are_refused(self, client: Rkt, site: Site, directory: str) -> None:
        serve(site, "example.com/base", self.layer(directory, "example.com/base"))
        wanted = {"imageName": "example.com/base", "imageID": "sha512-" + "0" * 128}
        serve(site, NAME, self.layer(directory, NAME, wanted))
        result = client(INSECURE, "fetch", f"{NAME}:1")
        assert result.code == 254
        assert 'dependency "example.com/base" is image sha512-' in result.err
        wanted = {"imageName": "example.com/base", "size": 7}
        serve(site, NAME, self.layer(directory, NAME, wanted))
        result = client(INSECURE, "fetch", f"{NAME}:1")
        assert "instead of 7" in result.err

    @pytest.mark.attack(15)
    def test_loop_is_refused(self, client: Rkt, site: Site, directory: str) -> None:
        serve(site, NAME, self.layer(directory, NAME, {"imageName": "example.com/base"}))
        serve(site, "example.com/base", self.layer(directory, "example.com/base", {"imageName": NAME}))
        result = client(INSECURE, "fetch", f"{NAME}:1")
        assert result.code == 254
        assert "dependency loop" in result.err

    @pytest.mark.attack(15)
    def test_chain_without_end_is_cut(self, client: Rkt, site: Site, directory: str) -> None:
        for number in range(40):
            name = f"example.com/n{number}"
            below = {"imageName": f"example.com/n{number + 1}"}
            serve(site, name, self.layer(directory, name, below))
        result = client(INSECURE, "fetch", "example.com/n0:1")
        assert result.code == 254
        assert "depends on too much" in result.err
        assert len(images(client)) < 40

    def test_dependency_in_the_store_will_do(self, client: Rkt, site: Site, directory: str) -> None:
        path = os.path.join(directory, "base.aci")
        aci.build(path, aci.manifest("local.test/base"), [aci.Entry("f", b"x")])
        key = client.ok(INSECURE, "fetch", "--full", path).out.strip()
        wanted = {"imageName": "local.test/base", "imageID": key}
        serve(site, NAME, self.layer(directory, NAME, wanted))
        client.ok(INSECURE, "fetch", f"{NAME}:1")
        assert {one.host for one in site.requests} == {"example.com", "cdn.test"}
