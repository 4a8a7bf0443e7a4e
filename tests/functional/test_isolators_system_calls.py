"""The system calls an app can make: what the kernel answers to each, asked by a program inside."""

from __future__ import annotations

import os

import pytest
from flavors import Flavor

from support import aci

pytest_plugins = ("flavor_fixtures",)

CALLS = """
answer = {
    "unshare": call(272, 0x10000000),
    "mount": call(165, None, None, None, 0, None),
    "bpf": call(321, 0, None, 0),
    "ptrace": call(101, 0, 0, 0, 0),
    "keyctl": call(250, 0, -3, 0),
    "swapoff": call(168, b"/nosuch"),
    "clone of a user namespace": call(56, 0x10000000 | 17, None, None, None, None),
    "clone of a mount namespace": call(56, 0x00020000 | 17, None, None, None, None),
    "clone3": call(435, None, 0),
    "io_uring_setup": call(425, 1, None),
    "no such call": call(9999),
    "getpid": call(39),
    "rseq is known": call(334, None, 0, 0, 0),
    "x32 getpid": call(0x40000000 | 39),
}
"""
PRIVILEGED = ("unshare", "mount", "bpf", "ptrace", "keyctl", "swapoff")
NAMESPACES = ("clone of a user namespace", "clone of a mount namespace")
UNKNOWN = ("clone3", "io_uring_setup", "no such call", "x32 getpid")


@pytest.mark.promise("P5")
@pytest.mark.parametrize("identity", [(), ("--user=web", "--group=www")], ids=["root", "user"])
def test_default_filter(flavor: Flavor, identity: tuple[str, ...]) -> None:
    """What is privileged fails with EPERM, what the list does not know with ENOSYS; nothing is killed."""
    found = flavor.probe(CALLS, *identity)
    expected = dict.fromkeys((*PRIVILEGED, *NAMESPACES), "EPERM") | dict.fromkeys(UNKNOWN, "ENOSYS")
    if flavor.name == "host":
        # The filter around the pod does not know these at all, and it is asked too.
        for name in ("bpf", "keyctl", "swapoff"):
            assert found[name] in ("EPERM", "ENOSYS"), found
            expected[name] = found[name]
    assert found == {**expected, "getpid": "done", "rseq is known": "EINVAL"}


@pytest.mark.promise("P5")
def test_a_capability_does_not_open_the_default_filter(flavor: Flavor) -> None:
    found = flavor.probe(CALLS, "--caps-retain=CAP_SYS_ADMIN,CAP_SYS_PTRACE")
    assert (found["mount"], found["unshare"], found["ptrace"]) == ("EPERM", "EPERM", "EPERM")


@pytest.mark.promise("P5")
def test_programs_with_threads_run_under_the_default_filter(flavor: Flavor) -> None:
    code = "import threading\nt = threading.Thread(target=os.getpid); t.start(); t.join(); answer = 'joined'"
    assert flavor.probe(code) == "joined"
    assert flavor.probe(code, "--seccomp=mode=retain,errno=EPERM,@docker/default-whitelist") == "joined"


MKDIR = "answer = call(83, b'/tmp/x', 0o700)"


@pytest.mark.promise("P5")
@pytest.mark.parametrize(
    ("flag", "answer"),
    [
        ("mode=remove,errno=ENOTSUP,mkdir", "ENOTSUP"),
        ("mode=remove,errno=EACCES,mkdir,rmdir", "EACCES"),
        ("mode=remove,@rkt/default-blacklist", "done"),
        ("mode=remove,@docker/default-blacklist", "done"),
        ("mode=retain,@appc.io/all", "done"),
        ("mode=retain,errno=EACCES,@docker/default-whitelist", "done"),
        ("mode=retain,errno=EACCES,@rkt/default-whitelist", "done"),
        ("mode=remove,@appc.io/empty", "done"),
        ("mode=remove,errno=EPERM,@systemd/mount,@nosuch/wildcard", "done"),
    ],
)
def test_seccomp_isolators(flavor: Flavor, flag: str, answer: str) -> None:
    assert flavor.probe(MKDIR, f"--seccomp={flag}") == answer


@pytest.mark.promise("P5")
@pytest.mark.parametrize(
    "flag",
    ["mode=remove,mkdir,mkdirat", "mode=remove,@systemd/process,mkdir,mkdirat"],
    ids=["name", "wildcard"],
)
def test_without_an_error_the_call_ends_the_process(flavor: Flavor, box: str, flag: str) -> None:
    """By SIGSYS, the appc specification says: status 31 under systemd, the signal itself under fly."""
    result = flavor(box, "--exec=/bin/mkdir", f"--seccomp={flag}", "--", "/tmp/x")
    assert result.code == (31 if flavor.name == "host" else -31), result


@pytest.mark.promise("P5")
def test_a_retain_set_is_all_there_is(flavor: Flavor, box: str) -> None:
    """What a static program needs to start and print, and what every program needs is in any set."""
    few = (
        "@systemd/default-whitelist,write,writev,ioctl,readlink,prctl,getcwd,rt_sigprocmask,rt_sigaction,stat"
    )
    result = flavor(box, "--exec=/bin/echo", f"--seccomp=mode=retain,errno=EPERM,{few}", "--", "through")
    assert flavor.lines(result) == ["through"], result
    result = flavor(box, "--exec=/bin/mkdir", f"--seccomp=mode=retain,errno=EPERM,{few}", "--", "/tmp/x")
    assert result.code == 1, result
    assert "Operation not permitted" in result.out + result.err


@pytest.mark.promise("P5")
def test_sets_of_an_image_are_replaced_by_the_flag(flavor: Flavor, tmp_path: os.PathLike[str]) -> None:
    isolator = {"name": "os/linux/seccomp-retain-set", "value": {"set": ["read"], "errno": "EPERM"}}
    app = aci.app("/bin/mkdir", "/tmp/x", isolators=[isolator])
    image = aci.busybox(os.path.join(tmp_path, "image.aci"), app=app)
    assert flavor(image).code != 0
    assert flavor(image, "--seccomp=mode=remove,errno=EPERM,rmdir").code == 0


@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("mode=remove,errno=ENOSUCH,mkdir", 'unknown error name "ENOSUCH"'),
        ("mode=retain,nosuchcall", 'unknown system call "nosuchcall"'),
        ("mode=remove,execve", '"execve" is in the remove set'),
    ],
)
def test_sets_that_cannot_be(flavor: Flavor, box: str, flag: str, message: str) -> None:
    result = flavor(box, f"--seccomp={flag}")
    assert result.code == 254, result
    assert message in result.err
