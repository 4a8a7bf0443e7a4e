"""What a user gets wrong: one line that names the thing, 254, and everything as it was before."""

from __future__ import annotations

import os
from collections.abc import Callable

import pod_manifests as manifests
import pytest

from support import aci, driver, machine

FLAVORS = ("host", "fly")


def _stage1(flavor: str) -> str:
    return f"--stage1-path={driver.STAGE1}/stage1-{flavor}.aci"


def _files(rkt: driver.Rkt) -> set[str]:
    """Every path of the data directory but locks, which are made when first used and stay."""
    found = set()
    for path in machine.tree(rkt.dir):
        relative = os.path.relpath(path, rkt.dir)
        if not relative.startswith(("cas/imagelocks/", "cas/treestorelocks/", "locks")):
            found.add(relative)
    return found


@pytest.fixture
def unchanged(rkt: driver.Rkt, box: str, clean_machine: None) -> Callable[..., driver.Result]:
    """Runs a command that must fail: exit code, output, and store, pods and machine as before."""
    rkt.ok("--insecure-options=image", "fetch", box)
    for flavor in FLAVORS:
        # Both flavors are in the store and rendered, as where rkt was used before.
        rkt.ok("--insecure-options=image", "run", "--net=none", _stage1(flavor), box)
    rkt.ok("gc", "--grace-period=0s")

    def run(*words: str, naming: str, hint: str = "", **options: object) -> driver.Result:
        before, files = machine.Snapshot(), _files(rkt)
        result = rkt(*words, **options)
        assert result.code == 254, result
        assert result.out == "", result
        said = [line for line in result.err.splitlines() if not line.startswith("networking: ")]
        if hint:
            assert hint in said.pop(), result
        assert len(said) == 1, result
        assert naming in said[0], result
        assert _files(rkt) == files
        assert before.lasting_difference() == {}
        return result

    return run


@pytest.mark.promise("P9")
@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize(
    ("words", "naming"),
    [
        (["--exec=nosuch"], '"nosuch"'),
        (["--user=nobodyhere"], '"nobodyhere"'),
        (["--group=nogroup"], '"nogroup"'),
        (["--user=/no/such/file"], "/no/such/file"),
        (["--volume=v,kind=host,source=/nonexistent", "--mount=volume=v,target=/v"], "/nonexistent"),
        (["--mount=volume=v,target=/v"], 'volume "v" not found'),
        (["--volume=v,kind=host,source=/dev/nodevice", "--mount=volume=v,target=/v"], "/dev/nodevice"),
        (["--name=Not_A_Name"], "Not_A_Name"),
    ],
)
def test_run_of_a_good_image(
    unchanged: Callable[..., driver.Result], box: str, flavor: str, words: list[str], naming: str
) -> None:
    unchanged("--insecure-options=image", "run", "--net=none", _stage1(flavor), box, *words, naming=naming)


LIMITS = (
    (["--caps-retain=CAP_FLY"], '"CAP_FLY"'),
    (["--caps-retain=CAP_KILL", "--caps-remove=CAP_CHOWN"], "both --caps-retain and --caps-remove"),
    (["--seccomp=mode=remove,levitate"], '"levitate"'),
    (["--seccomp=mode=remove,errno=EFLY,chmod"], '"EFLY"'),
    (["--memory=0"], "memory limit of 0 bytes"),
    (["--cpu=0"], "resource/cpu"),
    (["--cpu-shares=1"], "between 2 and 262144"),
    (["--oom-score-adj=1001"], "between -1000 and 1000"),
    (["--supplementary-gids=-1"], "-1 is no group id"),
    (["--bogus"], "--bogus"),
)


@pytest.mark.promise("P9")
@pytest.mark.parametrize("flavor", FLAVORS)
def test_limits_that_cannot_be(unchanged: Callable[..., driver.Result], box: str, flavor: str) -> None:
    for words, naming in LIMITS:
        unchanged(
            "--insecure-options=image", "run", "--net=none", _stage1(flavor), box, *words, naming=naming
        )


def _isolated(*isolators: tuple[str, object]) -> dict[str, object]:
    return {"isolators": [{"name": name, "value": value} for name, value in isolators]}


def _handler(name: str, program: str) -> dict[str, object]:
    return {"eventHandlers": [{"name": name, "exec": [program]}]}


RETAIN = ("os/linux/seccomp-retain-set", {"set": ["read"]})
REMOVE = ("os/linux/seccomp-remove-set", {"set": ["chmod"]})
APPS: tuple[tuple[dict[str, object], str], ...] = (
    (_isolated(("example.com/unknown", {})), '"example.com/unknown"'),
    (_isolated(("resource/memory", {"limit": "-1"})), "resource/memory"),
    (_isolated(("resource/memory", {"limit": "1e99"})), "resource/memory"),
    (_isolated(RETAIN, REMOVE), "incompatible types"),
    (_handler("pre-start", "/bin/nosuch"), "event handler pre-start"),
    (_handler("post-stop", "nosuch"), '"nosuch"'),
    (_handler("mid-way", "/bin/true"), '"mid-way"'),
    ({"workingDirectory": "/bin/sh"}, "/bin/sh"),
    ({"user": "nobodyhere"}, '"nobodyhere"'),
    ({"supplementaryGIDs": [-5]}, "-5"),
)


@pytest.mark.promise("P9")
@pytest.mark.parametrize("flavor", FLAVORS)
def test_manifests_that_cannot_be(
    rkt: driver.Rkt, unchanged: Callable[..., driver.Result], box: str, flavor: str
) -> None:
    key = manifests.fetch(rkt, box)
    for app, naming in APPS:
        pod = manifests.write(rkt, manifests.app("box", key, "/bin/true", app=app))
        unchanged("run", "--net=none", _stage1(flavor), pod, naming=naming)
    # Refused before the stage1 has loaded all of itself, which is gone with the pod.
    mutable = [{"name": "coreos.com/rkt/stage1/mutable", "value": "true"}]
    pod = manifests.write(rkt, manifests.app("box", key, "/bin/true"), annotations=mutable)
    unchanged("run", "--net=none", _stage1(flavor), pod, naming="mutable")


@pytest.mark.promise("P9")
def test_sockets_and_kernel_parameters_that_cannot_be(
    rkt: driver.Rkt, unchanged: Callable[..., driver.Result], box: str
) -> None:
    key = manifests.fetch(rkt, box)
    port = {"name": "web", "protocol": "tcp", "port": 80, "socketActivated": True}
    entry = manifests.app("box", key, "/bin/true", app={"ports": [port]})
    words = ("run", "--net=none", _stage1("host"))
    unchanged(
        *words, manifests.write(rkt, entry), naming='port "web" is socket-activated', hint="ListenStream=80"
    )
    entry = manifests.app("box", key, "/bin/true")
    for name, value, naming in (
        ("kernel.hostname", "x", '"kernel.hostname"'),
        ("kernel.panic", "1", '"kernel.panic"'),
        ("net.ipv4.nosuch", "1", '"net.ipv4.nosuch"'),
        ("net.ipv4.ip_forward", "maybe", '"maybe"'),
    ):
        pod = manifests.write(rkt, entry, isolators=[{"name": "os/unix/sysctl", "value": {name: value}}])
        unchanged(*words, pod, naming=naming)


@pytest.mark.promise("P9")
def test_working_directory_that_does_not_exist(unchanged: Callable[..., driver.Result], box: str) -> None:
    unchanged(
        "--insecure-options=image",
        "run",
        "--net=none",
        _stage1("fly"),
        box,
        "--working-dir=/nowhere",
        naming="/nowhere",
    )


@pytest.mark.promise("P9")
def test_unknown_network_leaves_nothing(unchanged: Callable[..., driver.Result], box: str) -> None:
    unchanged("--insecure-options=image", "run", "--net=default,nosuch", box, naming="nosuch")


@pytest.mark.promise("P9")
@pytest.mark.parametrize("name", ["a_b", "-a", "a..b", "x" * 65])
def test_host_names_that_cannot_be_set(rkt: driver.Rkt, box: str, name: str) -> None:
    result = rkt("--insecure-options=image", "run", "--net=none", f"--hostname={name}", box)
    assert result.code == 254, result
    assert f'"{name}" is no host name' in result.err, result
    assert not os.path.exists(rkt.dir)


@pytest.mark.promise("P9")
def test_missing_image_and_stage1(unchanged: Callable[..., driver.Result], box: str) -> None:
    unchanged("--insecure-options=image", "run", "/nonexistent.aci", naming="/nonexistent.aci")
    unchanged(
        "--insecure-options=image", "run", "--stage1-path=/nonexistent.aci", box, naming="/nonexistent.aci"
    )
    unchanged("--insecure-options=image", "run", "--stage1-hash=sha512-0123", box, naming="sha512-0123")


@pytest.mark.promise("P3")
def test_images_that_are_none(unchanged: Callable[..., driver.Result], tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "bad.aci")

    def refused(content: bytes, naming: str = "bad.aci") -> None:
        with open(path, "wb") as file:
            file.write(content)
        unchanged("--insecure-options=image", "fetch", path, naming=naming)

    refused(b"")
    refused(b"no archive at all\n")
    refused(os.urandom(5000))
    nameless = aci.manifest("example.com/x")
    del nameless["name"]
    refused(aci.tar_bytes(nameless, []), "name")
    refused(aci.tar_bytes(b"{", []))
    refused(aci.tar_bytes(aci.manifest("example.com/x"), [aci.Entry("../../evil")]))


@pytest.mark.promise("P3")
def test_without_signature(unchanged: Callable[..., driver.Result], box: str) -> None:
    unchanged("fetch", box, naming=f"open {box}.asc: no such file or directory")
    unchanged("run", "--net=none", box, naming=f"open {box}.asc: no such file or directory")


@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    "words", [["status", "abcd"], ["enter", "abcd"], ["cat-manifest", "abcd"], ["run-prepared", "abcd"]]
)
def test_unknown_pod(unchanged: Callable[..., driver.Result], words: list[str]) -> None:
    unchanged(*words, naming='no matches found for "abcd"')


@pytest.mark.promise("P9")
def test_without_root(rkt: driver.Rkt, box: str) -> None:
    for words in (["run", box], ["prepare", box], ["gc"], ["rm", "abcd"], ["enter", "abcd"]):
        result = rkt(*words, user=65534, group=65534, extra_groups=[], cwd="/")
        assert (result.code, result.out) == (254, ""), result
        assert "cannot run as unprivileged user" in result.err, result


@pytest.mark.promise("P9")
def test_data_directory_that_cannot_be_written(rkt: driver.Rkt, box: str) -> None:
    rkt.dir = "/proc/rkt"
    result = rkt("--insecure-options=image", "run", "--net=none", box)
    assert result.code == 254, result
    assert "/proc/rkt" in result.err, result
    rkt.dir = os.path.join(rkt.base, "data")


@pytest.mark.promise("P9")
def test_a_prepared_pod_that_cannot_start_stays_for_gc(rkt: driver.Rkt, box: str) -> None:
    uuid = rkt.ok("--insecure-options=image", "prepare", box, "--user=nobodyhere").out.strip()
    result = rkt("run-prepared", "--net=none", uuid)
    assert result.code == 254, result
    assert "state=exited\n" in rkt.ok("status", uuid).out
