"""The commands of docs/images-and-trust.md as they stand there, against servers on this machine.

Replaced are the names of hosts that are out of reach, of files in /tmp, and the word UUID.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from support import aci, cosign, oci
from support.driver import RKT, ROOT, Rkt
from support.registry import Registry, run
from support.signing import Signer
from support.web import Page, Site, tagged

SECTIONS = (
    "Run an image from Docker Hub",
    "Run what somebody has signed",
    "Ask how an image was verified",
    "Make and sign one",
    "Hand an image on with its signature",
)


def commands(section: str) -> str:
    """The indented lines of a section."""
    with open(os.path.join(ROOT, "docs", "images-and-trust.md")) as file:
        text = file.read()
    assert f"\n## {section}\n" in text, section
    body = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = [line.removeprefix("    ") for line in body.splitlines() if line.startswith("    ")]
    assert lines, section
    return "\n".join(lines) + "\n"


class Reader:
    """Somebody who reads the page and types what it says."""

    def __init__(self, rkt: Rkt, replaced: dict[str, str]) -> None:
        self.rkt = rkt
        self.replaced = replaced
        self.programs = os.path.join(rkt.base, "programs")
        os.mkdir(self.programs)
        path = os.path.join(self.programs, "rkt")
        flags = " ".join(rkt.argv()[1:])
        with open(path, "w") as file:
            file.write(f'#!/bin/sh\nexec {RKT} {flags} "$@"\n')
        os.chmod(path, 0o755)

    def types(self, section: str, **more: str) -> str:
        script = commands(section)
        for old, new in {**self.replaced, **more}.items():
            script = script.replace(old, new)
        environment = {**self.rkt.environment, "PATH": f"{self.programs}:{self.rkt.environment['PATH']}"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.rkt.base,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout


def push(rkt: Rkt, registry: Registry, name: str, *words: str) -> str:
    """A container image that runs ``words``; its digest."""
    path = os.path.join(rkt.base, "layout-" + name.replace("/", "-").replace(":", "-"))
    layout = oci.Layout(path)
    config = {"Entrypoint": list(words)} if words else {"Cmd": ["/bin/sh"]}
    digest = str(layout.image("1", [oci.busybox_layer()], config=config)["digest"])
    registry.push(f"oci:{path}:1", name)
    return digest


@pytest.mark.promise("P3")
def test_the_page(rkt: Rkt, site: Site, clean_machine: None) -> None:
    signer = Signer(os.path.join(rkt.base, "gpg"))
    signer.key("alice")
    rkt.environment.update(site.environment, HOME=rkt.base, GNUPGHOME=signer.home)
    with Registry(os.path.join(rkt.base, "registry"), tls=True) as registry:
        authorities = os.path.join(rkt.base, "authorities.pem")
        run(["sh", "-c", f"cat {site.authority} {registry.authority} > {authorities}"])
        rkt.environment["SSL_CERT_FILE"] = authorities
        push(rkt, registry, "library/busybox:stable")
        digest = push(rkt, registry, "team/hello:1", "/bin/echo", "hello from the team")
        key = cosign.Key()
        said = cosign.payload(f"{registry.host}/team/hello", digest)
        cosign.attach(registry, "team/hello", digest, [(said, key.sign(said))])
        with open(os.path.join(rkt.base, "cosign.pub"), "wb") as file:
            file.write(key.pem)
        signer.export_to(os.path.join(rkt.base, "key.asc"), "alice")
        serve(rkt, site, signer)
        hosts = {"docker.io": registry.host, "registry.example.com": registry.host}
        reader = Reader(rkt, {**hosts, "/tmp/": f"{rkt.base}/tmp/"})
        os.mkdir(os.path.join(rkt.base, "tmp"))
        assert "hello" in reader.types(SECTIONS[0])
        shown = reader.types(SECTIONS[1])
        assert "hello from the team" in shown and "hello from the box" in shown
        pods = rkt.ok("list", "--full", "--no-legend").lines
        uuid = next(line.split("\t")[0] for line in pods if "example.com/box" in line)
        shown = reader.types(SECTIONS[2], UUID=uuid)
        for how in ("digest", "sigstore", "openpgp"):
            assert how in shown
        assert f"verified-box=openpgp {signer.fingerprints('alice')[0]}" in shown
    reader.types(SECTIONS[3])
    reader.types(SECTIONS[4])
    rkt.ok("fetch", os.path.join(rkt.base, "box.aci"))
    signer.close()
    rkt.clean()


def serve(rkt: Rkt, site: Site, signer: Signer) -> None:
    """The image example.com/box:1, signed by alice, where discovery finds it."""
    path = os.path.join(rkt.base, "served.aci")
    aci.busybox(path, compression="gzip", app=aci.app("/bin/echo", "hello from the box"))
    signer.sign(path, "alice")
    tag = '<meta name="ac-discovery" content="example.com https://cdn.test/{name}-{version}.{ext}">'
    site.pages["example.com/box?ac-discovery=1"] = Page(tag.encode())
    for ending in ("", ".asc"):
        with open(path + ending, "rb") as file:
            site.pages[f"cdn.test/example.com/box-1.aci{ending}"] = tagged(file.read())
