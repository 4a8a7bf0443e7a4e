"""The metadata service and real pods: a client written from the specification, restarts, and bad company.

Everything runs on a host of its own (``network_host``): the service's port and socket are fixed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from network_host import Host, python
from network_site import Site, stage1_host  # noqa: F401

from support import aci
from support.driver import ROOT, Rkt
from support.waiting import PATIENCE, until

STATE = "/run/rkt/metadata-svc"
SOCKET = "/run/rkt/metadata-svc.sock"

# -- the validator of the specification, as shell scripts ------------------------------------------------

_COMMON = """
fail() { echo "==> $*" >&2; failed=1; }
finish() { if [ -n "$failed" ]; then echo "$1 FAIL"; exit 1; fi; echo "$1 OK"; }
await() {
    i=0
    while [ ! -e "$1" ]; do
        i=$((i+1)); [ $i -lt 600 ] || { fail "$1 did not appear"; return; }
        sleep 0.1
    done
}
"""

_PRESTART = """
for file in /prestart /main /poststop; do [ ! -e $file ] || fail "$file exists unexpectedly"; done
touch /prestart
finish prestart
"""

_MAIN = """
[ -e /prestart ] || fail "/prestart is missing"
touch /main
[ ! -e /poststop ] || fail "/poststop exists unexpectedly"
[ "$PATH" = /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin ] || fail "PATH is $PATH"
[ "$(pwd)" = /opt/acvalidator ] || fail "cwd is $(pwd)"
[ "$IN_ACE_VALIDATOR" = correct ] || fail "IN_ACE_VALIDATOR is $IN_ACE_VALIDATOR"
grep -q ' /db rw' /proc/self/mountinfo || fail "/db is no mount point"
[ "$AC_APP_NAME" = ace-validator-main ] || fail "AC_APP_NAME is $AC_APP_NAME"
base=$AC_METADATA_URL/acMetadata/v1
ask() {  # path, content type, further options of wget
    path=$1 type=$2; shift 2
    wget -S -O /tmp/body --header "Metadata-Flavor: AppContainer" "$@" $base$path 2>/tmp/head ||
        fail "$path: $(cat /tmp/head)"
    grep -qix " *Content-Type: $type" /tmp/head || fail "$path: $(grep -i content-type /tmp/head)"
}
text="text/plain; charset=us-ascii"
ask /pod/manifest application/json
grep -q '"acKind":"PodManifest"' /tmp/body || fail "the pod manifest is $(cat /tmp/body)"
cp /tmp/body /tmp/manifest
ask /pod/uuid "$text"
uuid=$(cat /tmp/body)
echo "$uuid" | grep -qE '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' || fail "the UUID is $uuid"
[ $(wc -c < /tmp/body) = 36 ] || fail "the UUID has $(wc -c < /tmp/body) bytes"
ask /pod/annotations application/json
grep -qF "\\"annotations\\":$(cat /tmp/body)," /tmp/manifest || fail "the manifest has not $(cat /tmp/body)"
for app in ace-validator-main ace-validator-sidekick; do
    ask /apps/$app/image/id "$text"
    grep -qF "\\"id\\":\\"$(cat /tmp/body)\\"" /tmp/manifest || fail "the image of $app is $(cat /tmp/body)"
    ask /apps/$app/image/manifest application/json
    grep -qF "coreos.com/$app" /tmp/body || fail "the image manifest of $app is $(cat /tmp/body)"
    ask /apps/$app/annotations application/json
    if [ $app = ace-validator-main ]; then
        for name in created authors homepage documentation example.com/more; do
            grep -qF "\\"name\\":\\"$name\\"" /tmp/body || fail "$app has no annotation $name"
        done
    fi
done
ask /pod/hmac/sign "$text" --post-data "content=$uuid"
signature=$(sed 's/+/%2B/g; s/=/%3D/g' /tmp/body)
ask /pod/hmac/verify "$text" --post-data "content=$uuid&uuid=$uuid&signature=$signature"
wrong="content=x&uuid=$uuid&signature=$signature"
! wget -q -O /dev/null --post-data "$wrong" $base/pod/hmac/verify 2>/tmp/head ||
    fail "a wrong signature is right"
grep -q "403 Forbidden" /tmp/head || fail "a wrong signature gives $(cat /tmp/head)"
await /db/sidekick
touch /db/main
finish main
"""

_SIDEKICK = """
touch /db/sidekick
await /db/main
finish sidekick
"""

_POSTSTOP = """
for file in /prestart /main; do [ -e $file ] || fail "$file is missing"; done
touch /poststop
finish poststop
"""

_MODES = {"prestart": _PRESTART, "main": _MAIN, "sidekick": _SIDEKICK, "poststop": _POSTSTOP}
_VALIDATOR = ["#!/bin/sh", _COMMON, "case $1 in"]
_VALIDATOR += [f"{mode}) {script};;" for mode, script in _MODES.items()]
_VALIDATOR += ["*) exit 64;;", "esac"]

_MAIN_APP = aci.app(
    *("/ace-validator", "main"),
    workingDirectory="/opt/acvalidator",
    environment=[{"name": "IN_ACE_VALIDATOR", "value": "correct"}],
    mountPoints=[{"name": "database", "path": "/db", "readOnly": False}],
    ports=[{"name": "www", "protocol": "tcp", "port": 80}],
    isolators=[{"name": "resource/memory", "value": {"limit": "1G"}}],
    eventHandlers=[
        {"name": "pre-start", "exec": ["/ace-validator", "prestart"]},
        {"name": "post-stop", "exec": ["/ace-validator", "poststop"]},
    ],
)
_NOTES = [
    {"name": "created", "value": "2014-10-27T19:32:27.67021798Z"},
    {"name": "authors", "value": "Carly Container <carly@example.com>"},
    {"name": "homepage", "value": "https://example.com"},
    {"name": "documentation", "value": "https://example.com/docs"},
    {"name": "example.com/more", "value": "<&>"},
]


def _validators(directory: str) -> list[str]:
    entries = [
        aci.Entry("ace-validator", "\n".join(_VALIDATOR).encode(), mode=0o755),
        aci.symlink("bin/cp", "busybox"),
        aci.directory("opt"),
        aci.directory("opt/acvalidator"),
        aci.directory("db"),
    ]
    sidekick = aci.app(
        "/ace-validator", "sidekick", mountPoints=[{"name": "database", "path": "/db", "readOnly": False}]
    )
    made = []
    for name, app, notes in (("main", _MAIN_APP, _NOTES), ("sidekick", sidekick, [])):
        made.append(
            aci.busybox(
                os.path.join(directory, f"ace-validator-{name}.aci"),
                f"coreos.com/ace-validator-{name}",
                entries=entries,
                app=app,
                annotations=notes,
            )
        )
    return made


# -- the service -----------------------------------------------------------------------------------------


class Service:
    """``rkt metadata-service`` on the site's host; ``with`` ends it."""

    def __init__(self, site: Site, *words: str) -> None:
        self.site, self.words = site, words
        self.log = os.path.join(site.host.directory, "metadata.log")

    def __enter__(self) -> Service:
        argv = self.site.host.command(*self.site.program.argv("metadata-service", *self.words))
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(argv, stderr=log, stdin=subprocess.DEVNULL)
        until(self._is_running, "the service does not run")
        return self

    def _is_running(self) -> bool:
        assert self.process.poll() is None, self.lines()
        return self.lines()[-1:] == ["metadata-service: metadata service running..."]

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.code = self.process.wait(PATIENCE)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def worked(self) -> float:
        """Seconds of processors that it has had."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            user, system = file.read().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def lines(self) -> list[str]:
        try:
            with open(self.log) as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []


@pytest.fixture
def site(tmp_path: os.PathLike[str], stage1_host: str) -> Iterator[Site]:  # noqa: F811
    base = os.fspath(tmp_path)
    host = Host(base)
    made = Site(host, Rkt(base), stage1_host)
    try:
        yield made
        made.collect()
    finally:
        host.close()


def _script(text: str) -> tuple[str, ...]:
    return ("--exec=/bin/sh", "--", "-c", text)


def _said(output: str) -> list[str]:
    return [re.sub(r"^\[ *\d+\.\d+\] [a-z0-9-]+\[\d+\]: ", "", line) for line in output.splitlines()]


_ASK = "wget -q -O - $AC_METADATA_URL/acMetadata/v1"


# -- pods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["default", "host"])
def test_client_from_the_specification(site: Site, tmp_path: os.PathLike[str], network: str) -> None:
    images = _validators(os.fspath(tmp_path))
    with Service(site) as service:
        result = site.run("--mds-register", f"--net={network}", "--volume=database,kind=empty", *images)
    assert result.code == 0, result
    found = [line for line in _said(result.out) if line.endswith((" OK", " FAIL")) or line.startswith("==>")]
    assert sorted(found) == ["main OK", "poststop OK", "prestart OK", "sidekick OK"], result
    assert service.code == 0
    assert service.lines()[0] == "metadata-service: metadata service starting..."
    assert service.lines()[-1] == "metadata-service: metadata service exiting..."


@pytest.mark.parametrize(
    ("network", "address"),
    [("default", r"172\.16\.28\.1"), ("host", r"127\.0\.0\.1"), ("six", r"\[fd00:91::1\]")],
)
def test_url_of_an_app(site: Site, box: str, network: str, address: str) -> None:
    ipam = {"type": "host-local", "ranges": [[{"subnet": "fd00:91::/64"}]]}
    value = {"cniVersion": "1.0.0", "name": "six", "type": "ptp", "ipam": ipam}
    site.host.network("10-six.conf", value)
    with Service(site) as service:
        result = site.run("--mds-register", f"--net={network}", box, *_script(f"env; {_ASK}/pod/uuid"))
        assert result.code == 0, result
        said = _said(result.out)
        urls = [line for line in said if line.startswith("AC_METADATA_URL=")]
        assert re.fullmatch(rf"AC_METADATA_URL=http://{address}:18112/[0-9a-f]{{32}}", urls[0])
        uuid = site("list", "--full", "--no-legend").out.split("\t")[0]
        assert uuid in said
        token = urls[0].rpartition("/")[2]
        log = "\n".join(service.lines())
        assert f"GET /{token[:8]}.../acMetadata/v1/pod/uuid - 200" in log
        assert token not in log
        # the registration ends with the pod
        assert site.host.ok("ls", f"{STATE}/pods").split() == [uuid]
        site.collect()
        assert f"metadata-service: DELETE /pods/{uuid} - 200" in service.lines()
        assert site.host.ok("ls", f"{STATE}/pods") == ""


def test_without_registration_there_is_no_url(site: Site, box: str) -> None:
    with Service(site):
        result = site.run("--net=host", box, *_script("env"))
    assert "AC_METADATA_URL" not in result.out


def test_no_service(site: Site, box: str) -> None:
    result = site.run("--mds-register", "--net=host", box)
    assert result.code == 254
    assert "could not reach the metadata service." in result.err
    assert "--mds-register=false" in result.err
    site.host.ok("mkdir", "-p", os.path.dirname(SOCKET))
    site.host.ok("touch", SOCKET)
    result = site.run("--mds-register", "--net=host", box)
    assert (result.code, f"could not reach the metadata service. {SOCKET} is not a socket" in result.err) == (
        254,
        True,
    )
    site.host.ok("rm", SOCKET)
    # a socket nobody listens on: tried three times
    site.host.ok(*python(f"import socket; socket.socket(socket.AF_UNIX).bind({SOCKET!r})"))
    begin = time.monotonic()
    result = site.run("--mds-register", "--net=host", box)
    assert (result.code, "failed to register the pod: " in result.err) == (254, True), result
    assert time.monotonic() - begin > 2
    assert site("list", "--no-legend").out.strip() == ""
    result = site.run("--mds-register", "--net=none", box)
    assert (result.code, "--mds-register does not work with 'none' networking" in result.err) == (254, True)


@pytest.mark.promise("P6")
def test_restarts_while_a_pod_runs(site: Site, box: str) -> None:
    """Stopped, then killed: the pod's token stays good, and so does what was signed before."""
    loop = f"""
    uuid=$({_ASK}/pod/uuid)
    signature=$({_ASK}/pod/hmac/sign --post-data content=x | sed 's/+/%2B/g; s/=/%3D/g')
    echo signed; n=0
    while [ $n -lt 3 ]; do
        [ -e /tmp/go$n ] || {{ sleep 0.1; continue; }}
        {_ASK}/pod/hmac/verify --post-data "content=x&uuid=$uuid&signature=$signature" && echo verified $n
        n=$((n+1))
    done
    """
    with Service(site) as service:
        pod = site.start("--mds-register", "--net=host", box, *_script(loop))
        assert pod.stdout is not None
        lines: list[str] = []

        def read_until(text: str) -> None:
            assert pod.stdout is not None
            while not lines or not lines[-1].endswith(text):
                line = pod.stdout.readline()
                assert line, lines
                lines.append(line.rstrip("\n"))

        def go(number: int) -> None:
            uuid = site("list", "--full", "--no-legend").out.split("\t")[0]
            root = f"{site.program.dir}/pods/run/{uuid}/stage1/rootfs/opt/stage2/box/rootfs"
            site.host.ok("touch", f"{root}/tmp/go{number}")

        read_until("signed")
        go(0)
        read_until("verified 0")
    assert service.code == 0
    assert site.host.run("test", "-e", SOCKET).returncode != 0
    with Service(site) as service:
        go(1)
        read_until("verified 1")
        service.kill()
    with Service(site):
        go(2)
        read_until("verified 2")
        assert pod.wait(PATIENCE) == 0
        pod.stdout.close()


@pytest.mark.promise("P7")
def test_pods_collected_while_the_service_was_away_are_forgotten(site: Site, box: str) -> None:
    with Service(site):
        assert site.run("--mds-register", "--net=host", box).code == 0
        assert site.host.ok("ls", f"{STATE}/pods") != ""
    site.collect()
    assert site("list", "--no-legend").out.strip() == ""
    assert site.host.ok("ls", f"{STATE}/pods") != ""
    with Service(site) as service:
        assert site.host.ok("ls", f"{STATE}/pods") == ""
        assert "is gone, its registration is dropped" in "\n".join(service.lines())


_TAKE = """
import socket, sys
server = socket.create_server(("", 18112))
print("listening", flush=True)
sys.stdin.read()
"""


def test_only_one_service(site: Site) -> None:
    with Service(site):
        second = site("metadata-service")
        assert second.code == 254
        assert "another metadata service is running" in second.err
    site.host.ok("mkdir", "-p", "/run/rkt")
    taken = subprocess.Popen(
        site.host.command(*python(_TAKE)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert taken.stdout is not None and taken.stdin is not None
    taken.stdout.readline()
    result = site("metadata-service")
    assert result.code == 254
    assert "cannot listen on port 18112: address already in use" in result.err
    assert site.host.run("test", "-e", SOCKET).returncode != 0
    with Service(site, "--listen-port=18113"):
        pass
    taken.stdin.close()
    taken.wait()
    taken.stdout.close()
    result = site("metadata-service", "--listen-port=0")
    assert (result.code, "invalid port 0" in result.err) == (254, True)


_FIRST = """
import http.client, json, socket, sys
class Local(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])
def ask(connection, *words):
    connection.request(*words)
    answer = connection.getresponse()
    body = answer.read()
    return answer.status, body.decode()
manifest = json.dumps({"acVersion": "0.8.11", "acKind": "PodManifest", "apps": [], "volumes": None,
    "isolators": None, "annotations": None, "ports": None})
uuid, token = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f1", "a" * 32
found = []
def ask_both():
    for address in ("127.0.0.1", "::1"):
        connection = http.client.HTTPConnection(address, 18112, timeout=4)
        found.append(ask(connection, "GET", f"/{token}/acMetadata/v1/pod/uuid"))
ask_both()
# a body in chunks, as rkt 1.30 sends it
chunks = iter([manifest[:9].encode(), manifest[9:].encode()])
found.append(ask(Local("x"), "PUT", f"/pods/{uuid}?token={token}", chunks))
ask_both()
print(json.dumps(found))
"""


def test_first_answers_are_ready_at_once_on_both_families(site: Site) -> None:
    """The validator of the specification waits for 100 ms: a service that runs has loaded all it needs, and
    the five answers together take it less of a processor than that."""
    with Service(site) as service:
        mode = site.host.ok("stat", "-c", "%a %U:%G", SOCKET).strip()
        before = service.worked()
        found: list[Any] = json.loads(site.host.ok(*python(_FIRST), SOCKET))
        took = service.worked() - before
    assert mode == "660 root:root"
    assert [status for status, _ in found] == [401, 401, 200, 200, 200]
    assert found[-1][1] == "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f1"
    assert took < 0.1


def test_sockets_from_systemd(tmp_path: os.PathLike[str], site: Site) -> None:
    """As rkt-metadata.socket passes it: bound, listening, and not removed at the end."""
    path = os.path.join(tmp_path, "local.sock")
    notify = os.path.join(tmp_path, "notify.sock")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        listener.bind(path)
        listener.listen()
        ready.bind(notify)
        ready.settimeout(PATIENCE)
        start = f'exec 3<&{listener.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
        process = subprocess.Popen(
            site.host.command("bash", "-c", start, "bash", *site.program.argv("metadata-service")),
            pass_fds=(listener.fileno(),),
            stderr=subprocess.PIPE,
            text=True,
            env={**site.program.environment, "NOTIFY_SOCKET": notify},
        )
        assert ready.recv(100) == b"READY=1"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            connection.sendall(b"DELETE /pods/0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f1 HTTP/1.1\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 404 ")
        assert site.host.run("test", "-e", SOCKET).returncode != 0
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE)
        assert "DELETE /pods/0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f1 - 404" in said
        assert (process.returncode, os.path.exists(path)) == (0, True)


def test_units_are_understood_by_systemd(tmp_path: os.PathLike[str]) -> None:
    names = ["rkt-metadata.service", "rkt-metadata.socket"]
    for name in names:
        with open(os.path.join(ROOT, "share", "systemd", name)) as file:
            text = file.read().replace("@bindir@", os.path.join(ROOT, "bin"))
        with open(os.path.join(tmp_path, name), "w") as file:
            file.write(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(os.path.join(tmp_path, name) for name in names)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
