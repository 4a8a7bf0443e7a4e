"""What rkt says of isolators: enforced, changed or ignored, and what --strict-isolators makes of it."""

from __future__ import annotations

import os

import pod_manifests as manifests
import pytest
from flavors import Flavor

from functional import pod_images
from support import driver

pytest_plugins = ("flavor_fixtures",)

STRICT = "--strict-isolators"
SLEEP = ("/bin/sleep", "1000")


def said(result: driver.Result) -> list[str]:
    """Lines about isolators on standard error."""
    return [line for line in result.err.splitlines() if " isolator " in line]


@pytest.fixture
def image(rkt: driver.Rkt, box: str) -> str:
    return manifests.fetch(rkt, box)


@pytest.mark.promise("P5")
def test_what_is_enforced_is_told_with_debug_only(flavor: Flavor, box: str) -> None:
    words = (box, "--caps-retain=CAP_CHOWN", "--seccomp=mode=remove,errno=EPERM,reboot", "--oom-score-adj=5")
    quiet = flavor(*words)
    assert (quiet.code, said(quiet)) == (0, []), quiet
    loud = flavor.rkt("--debug", *flavor.words(*words))
    assert said(loud) == [
        f'stage1: app "box": isolator os/linux/{name} is enforced'
        for name in ("oom-score-adj", "capabilities-retain-set", "seccomp-remove-set")
    ], loud
    assert flavor(STRICT, *words).code == 0


@pytest.mark.promise("P5")
def test_isolators_a_pod_does_not_have(rkt: driver.Rkt, flavor: Flavor, image: str) -> None:
    """An unknown one is kept and told of; one of apps has no effect for a pod."""
    pod = manifests.write(
        rkt,
        manifests.app("box", image, "/bin/true"),
        isolators=[
            {"name": "example.com/odd", "value": {"anything": [1]}},
            {"name": "os/linux/no-new-privileges", "value": True},
        ],
    )
    result = flavor(pod)
    assert result.code == 0, result
    assert said(result) == [
        "stage1: warning: pod: isolator example.com/odd is ignored: rkt does not know it",
        (
            "stage1: warning: pod: isolator os/linux/no-new-privileges is ignored: "
            "it is one of apps, not of pods"
        ),
    ]
    uuid = rkt.ok("list", "--full", "--no-legend").lines[0].split("\t")[0]
    assert "example.com/odd" in rkt.ok("cat-manifest", uuid).out


@pytest.mark.promise("P9")
def test_an_unknown_isolator_of_an_app_is_refused(rkt: driver.Rkt, flavor: Flavor, image: str) -> None:
    odd = [{"name": "example.com/odd", "value": 1}]
    result = flavor(manifests.write(rkt, manifests.app("box", image, "/bin/true", isolators=odd)))
    assert result.code == 254
    assert 'invalid isolator "example.com/odd"' in result.err


@pytest.mark.promise("P5")
def test_fly_has_no_control_groups(rkt: driver.Rkt, flavor: Flavor, box: str) -> None:
    if flavor.name != "fly":
        assert said(flavor(box, "--memory=64M", "--cpu=1", "--cpu-shares=512")) == []
        return
    result = flavor(box, "--memory=64M", "--cpu=1", "--cpu-shares=512")
    assert result.code == 0
    assert said(result) == [
        f'stage1: warning: app "box": isolator {name} is ignored: flavor fly has no control group of its own'
        for name in ("resource/memory", "resource/cpu", "os/linux/cpu-shares")
    ]
    refused = flavor(STRICT, box, "--memory=64M", "--cpu=1")
    assert refused.code == 254
    assert said(refused) == [
        (
            'stage1: app "box": isolator resource/memory is ignored: '
            "flavor fly has no control group of its own (and 1 more), which --strict-isolators does not allow"
        )
    ]


@pytest.mark.promise("P5")
def test_limits_beyond_the_machine_are_none(flavor: Flavor, box: str) -> None:
    if flavor.name == "fly":
        return
    result = flavor(box, "--memory=1000Ti", "--cpu=100k")
    assert result.code == 0, result
    memory, processors = sorted(said(result), key=lambda line: "cpu" in line)
    assert "isolator resource/memory is ignored: this machine has " in memory
    assert "isolator resource/cpu is ignored: this machine has " in processors
    assert flavor(STRICT, box, "--memory=1000Ti").code == 254


@pytest.mark.promise("P5")
def test_requests_are_not_reserved(rkt: driver.Rkt, flavor: Flavor, image: str) -> None:
    if flavor.name == "fly":
        return
    wanted = [
        manifests.resource("memory", "64Mi", request="32Mi"),
        manifests.resource("cpu", request="500m"),
    ]
    result = flavor(manifests.write(rkt, manifests.app("box", image, "/bin/true", isolators=wanted)))
    assert said(result) == [
        (
            'stage1: warning: app "box": isolator resource/memory is changed: '
            "its limit is enforced, nothing is reserved for its request"
        ),
        (
            'stage1: warning: app "box": isolator resource/cpu is ignored: '
            "it has no limit, and nothing is reserved for a request"
        ),
    ], result


@pytest.mark.promise("P5")
def test_an_oom_score_that_cannot_be_lowered(flavor: Flavor, box: str) -> None:
    """Without CAP_SYS_RESOURCE: told, not promised.  With it the score is the app's."""
    result = flavor.shell(box, "cat /proc/self/oom_score_adj", "--oom-score-adj=-500")
    with open("/proc/self/status") as file:
        capable = next(int(line.split()[1], 16) >> 24 & 1 for line in file if line.startswith("CapEff"))
    score = flavor.lines(result)
    if capable:
        assert (score, said(result)) == (["-500"], [])
        return
    assert int(score[0]) >= 0
    assert said(result) == [
        (
            'stage1: warning: app "box": isolator os/linux/oom-score-adj is ignored: '
            "rkt was started without CAP_SYS_RESOURCE, which lowering it takes"
        )
    ]
    assert flavor(STRICT, box, "--oom-score-adj=-500").code == 254


@pytest.mark.promise("P5")
def test_switched_off_protections_do_not_enforce(flavor: Flavor, box: str) -> None:
    words = (box, "--caps-retain=CAP_CHOWN", "--seccomp=mode=remove,errno=EPERM,reboot")
    result = flavor(*words, insecure="image,all-run")
    assert [line.partition("is ignored: ")[2] for line in said(result)] == [
        "--insecure-options=capabilities switches it off",
        "--insecure-options=seccomp switches it off",
    ], result


@pytest.mark.promise("P5")
def test_no_new_privileges_false_under_a_filter(rkt: driver.Rkt, flavor: Flavor, image: str) -> None:
    off = [{"name": "os/linux/no-new-privileges", "value": False}]
    entry = manifests.app("box", image, "/bin/true", isolators=off, user="1000", group="1000")
    assert said(flavor(manifests.write(rkt, entry))) == [
        (
            'stage1: warning: app "box": isolator os/linux/no-new-privileges is changed: '
            "a system call filter of a user other than root needs it"
        )
    ]
    assert said(flavor(manifests.write(rkt, entry), insecure="image,seccomp")) == []


@pytest.mark.promise("P5")
def test_groups_of_system_calls_that_rkt_does_not_know(rkt: driver.Rkt, flavor: Flavor, image: str) -> None:
    """They are passed over, and a filter with a hole is told of."""
    words = ["@appc.io/empty", "@systemd/mount", "@systemd/nosuch", "@other/set"]
    for calls, told in ((words, "@systemd/nosuch, @other/set"), (words[:2], "")):
        value = {"set": calls, "errno": "EPERM"}
        isolators = [{"name": "os/linux/seccomp-remove-set", "value": value}]
        entry = manifests.app("box", image, "/bin/true", isolators=isolators)
        result = flavor(manifests.write(rkt, entry))
        assert result.code == 0, result
        expected = (
            'stage1: warning: app "box": isolator os/linux/seccomp-remove-set is changed: '
            f"rkt does not know {told}, and passes over it"
        )
        assert said(result) == ([expected] if told else [])


# -- strict, from prepare to run -------------------------------------------------------------------------


@pytest.mark.promise("P5")
def test_strict_refusal_leaves_nothing(rkt: driver.Rkt, flavor: Flavor, image: str) -> None:
    odd = [{"name": "example.com/odd", "value": 1}]
    pod = manifests.write(rkt, manifests.app("box", image, *SLEEP), isolators=odd)
    result = flavor(STRICT, pod)
    assert result.code == 254, result
    assert said(result) == [
        (
            "stage1: pod: isolator example.com/odd is ignored: rkt does not know it, "
            "which --strict-isolators does not allow"
        )
    ]
    assert rkt.ok("list", "--no-legend").out.strip() == ""


@pytest.mark.promise("P5")
def test_strict_is_kept_by_prepare(rkt: driver.Rkt, flavor: Flavor, image: str) -> None:
    odd = [{"name": "example.com/odd", "value": 1}]
    pod = manifests.write(rkt, manifests.app("box", image, "/bin/true"), isolators=odd)
    for words, code in (([], 0), ([STRICT], 254)):
        uuid = rkt.ok(*flavor.words(pod, *words, verb="prepare")).out.strip()
        result = rkt("run-prepared", "--net=none", uuid)
        assert result.code == code, result
        uuid = rkt.ok(*flavor.words(pod, verb="prepare")).out.strip()
        assert rkt("run-prepared", "--net=none", *words, uuid).code == code


@pytest.mark.promise("P11")
def test_a_stage1_that_does_not_know_strict(rkt: driver.Rkt, tmp_path: os.PathLike[str]) -> None:
    """It would run the pod all the same: neither run, prepare nor run-prepared hand it one."""
    stage1 = pod_images.stage1(os.path.join(tmp_path, "stage1.aci"))
    image = pod_images.app(os.path.join(tmp_path, "app.aci"), "exit 3")
    words = ("--insecure-options=image", "{}", f"--stage1-path={stage1}", image)

    def call(verb: str, *more: str) -> driver.Result:
        return rkt(*(word.format(verb) for word in words), *more)

    for verb in ("run", "prepare"):
        result = call(verb, STRICT)
        assert result.code == 254, result
        assert "--strict-isolators is not supported by stage1" in result.err
        assert len([line for line in result.err.splitlines() if not line.startswith("image:")]) == 1, result
    assert rkt.ok("list", "--no-legend").out.strip() == ""
    uuid = call("prepare").out.strip()
    result = rkt("run-prepared", STRICT, uuid)
    assert (result.code, "not supported by stage1" in result.err) == (254, True), result
    assert "prepared" in rkt.ok("list").out
    assert rkt("run-prepared", uuid).code == 3


def test_the_callers_environment_does_not_decide(rkt: driver.Rkt, flavor: Flavor, image: str) -> None:
    """What rkt tells a stage1 by variables comes from rkt alone."""
    odd = [{"name": "example.com/odd", "value": 1}]
    pod = manifests.write(rkt, manifests.app("box", image, "/bin/false"), isolators=odd)
    uuid = rkt.ok(*flavor.words(pod, verb="prepare")).out.strip()
    environment = {"RKT_STRICT_ISOLATORS": "1", "RKT_DISCARD_ON_FAILURE": "1"}
    assert rkt("run-prepared", "--net=none", uuid, env=environment).code == 1
    assert "app-box=1\n" in rkt.ok("status", uuid).out
