"""actool discover, and acbuild on images that come from the network, against a web site of the tests' own."""

from __future__ import annotations

import json
import os

import pytest

from functional.fetching import NAME, image, signature, trust
from support import aci
from support.driver import Rkt
from support.signing import Signer
from support.tools import Tool
from support.web import Page, Site

TEMPLATE = "https://cdn.test/{os}/{arch}/{name}-{version}.{ext}"


def page(template: str = TEMPLATE, key: str = "") -> Page:
    tags = f'<meta name="ac-discovery" content="example.com {template}">'
    if key:
        tags += f'<meta name="ac-discovery-pubkeys" content="example.com {key}">'
    return Page(f"<html><head>{tags}</head></html>".encode())


@pytest.fixture
def actool(tmp_path: os.PathLike[str], site: Site) -> Tool:
    tool = Tool("actool", os.fspath(tmp_path))
    tool.environment.update(site.environment)
    return tool


@pytest.fixture
def acbuild(tmp_path: os.PathLike[str], client: Rkt, site: Site) -> Tool:
    directory = os.path.join(tmp_path, "work")
    os.mkdir(directory)
    tool = Tool("acbuild", directory)
    tool.environment.update(site.environment)
    return tool


class TestDiscover:
    def test_endpoints_and_keys(self, actool: Tool, site: Site) -> None:
        site.pages["example.com/?ac-discovery=1"] = page(key="https://example.com/keys.asc")
        site.pages["example.com?ac-discovery=1"] = site.pages["example.com/?ac-discovery=1"]
        said = actool.ok("discover", "example.com/team/app:1.0")
        base = "https://cdn.test/linux/amd64/example.com/team/app-1.0"
        assert said.out == f"ACI: {base}.aci, ASC: {base}.aci.asc\nPubKeys: https://example.com/keys.asc\n"
        assert [one.path.partition("?")[0] for one in site.requests[:3]] == ["/team/app", "/team", "/"] or (
            [one.path for one in site.requests[:2]] == ["/team/app?ac-discovery=1", "/team?ac-discovery=1"]
        )

    def test_labels_and_json(self, actool: Tool, site: Site) -> None:
        site.pages["/app?ac-discovery=1"] = page()
        said = actool.ok("discover", "--json", "example.com/app,os=freebsd,arch=i386", "example.com/app")
        first, second = (json.loads(line) for line in said.lines)
        base = "https://cdn.test/freebsd/i386/example.com/app-latest"
        assert first == {"ACIEndpoints": [{"ACI": f"{base}.aci", "ASC": f"{base}.aci.asc"}], "PublicKeys": []}
        assert "linux/amd64" in second["ACIEndpoints"][0]["ACI"]

    def test_what_fails(self, actool: Tool, site: Site) -> None:
        nothing = actool("--debug", "discover", "example.com/app")
        assert nothing.code == 1
        assert "discover walk: prefix: example.com/app error:" in nothing.err
        assert 'discovery of "example.com/app" failed' in nothing.err
        assert actool("discover").err == "discover: at least one name required\n"
        assert actool("discover", "Bad Name").code == 1
        assert not any(one.scheme == "http" for one in site.requests)

    def test_plain_http_has_to_be_allowed(self, actool: Tool, site: Site) -> None:
        words = ("discover", f"--port={site.http_port}", "localhost/app")
        site.pages["/app?ac-discovery=1"] = Page(
            b'<meta name="ac-discovery" content="localhost http://localhost/{name}.{ext}">'
        )
        assert actool(*words).code == 1
        assert actool.ok("discover", "-insecure", *words[1:]).out.startswith("ACI: http://localhost/")


class TestBuilding:
    def serve(self, site: Site, data: bytes, asc: bytes = b"") -> None:
        site.pages["example.com/app?ac-discovery=1"] = page()
        site.pages["cdn.test/linux/amd64/example.com/app-1.aci"] = Page(data)
        if asc:
            site.pages["cdn.test/linux/amd64/example.com/app-1.aci.asc"] = Page(asc)

    @pytest.mark.promise("P3")
    def test_what_nobody_signed_has_to_be_asked_for(self, acbuild: Tool, site: Site, data: bytes) -> None:
        self.serve(site, data)
        refused = acbuild("begin", f"{NAME}:1")
        assert refused.code == 1
        assert not os.path.exists(f"{acbuild.directory}/.acbuild")
        acbuild.ok("begin", "--insecure", f"{NAME}:1")
        assert os.path.exists(f"{acbuild.directory}/.acbuild/currentaci/rootfs/f")
        assert sorted(os.listdir(f"{acbuild.directory}/.acbuild")) == ["build-mode", "currentaci"]

    def test_a_signed_image(
        self, acbuild: Tool, client: Rkt, site: Site, signer: Signer, tmp_path: os.PathLike[str]
    ) -> None:
        data = image(os.fspath(tmp_path))
        self.serve(site, data, signature(signer, os.fspath(tmp_path), data))
        trust(client, signer)
        acbuild.ok(
            "begin", f"--local-config={client.config}", f"--system-config={client.system}", f"{NAME}:1"
        )
        assert json.loads(acbuild.ok("cat-manifest").out)["name"] == NAME

    def test_a_dependency_is_fetched_once_for_a_build(
        self, acbuild: Tool, site: Site, tmp_path: os.PathLike[str]
    ) -> None:
        path = aci.busybox(os.path.join(tmp_path, "base.aci"), NAME)
        with open(path, "rb") as file:
            self.serve(site, file.read())
        acbuild.ok("begin")
        acbuild.ok("dependency", "add", f"{NAME}:1")
        assert acbuild("run", "--", "true").code == 1
        assert acbuild.ok("run", "--insecure", "--", "echo", "one").out == "one\n"
        assert acbuild.ok("run", "--insecure", "--engine=chroot", "--", "echo", "two").out == "two\n"
        assert len(site.asked("/linux/amd64/example.com/app-1.aci")) <= 2
        acbuild.ok("end")
        assert os.listdir(acbuild.directory) == []
