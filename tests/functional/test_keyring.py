"""Kernel keyrings: a pod has a session keyring of its own, and sees nothing of the caller's."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

import pytest
from flavors import Flavor

from support.driver import Rkt, end

pytest_plugins = ("flavor_fixtures",)

# keyctl(2) on x86_64 and its operations
_ADD_KEY, _KEYCTL = 248, 250
_JOIN, _SETPERM, _SESSION = 1, 5, -3
# may be seen by who possesses it, by nobody else, not even its owner
_POSSESSOR_ONLY = 0x3F000000
_SECRET = b"rkt-test-secret"

_libc = ctypes.CDLL(None, use_errno=True)


def _take_a_key() -> None:
    """In the caller, before it becomes rkt: a session keyring with a key that no other process can see."""
    session = _libc.syscall(_KEYCTL, _JOIN, b"rkt-test-session")
    key = _libc.syscall(_ADD_KEY, b"user", _SECRET, b"x", 1, _SESSION)
    for made in (session, key):
        if made < 0 or _libc.syscall(_KEYCTL, _SETPERM, made, _POSSESSOR_ONLY) < 0:
            os._exit(99)


KEYS = "cat /proc/keys; echo end of keys"


def _session(lines: list[str]) -> list[str]:
    """The identifiers of session keyrings among lines of /proc/keys that only their possessor can see."""
    found = [line.split() for line in lines if " keyring " in line]
    return [words[0] for words in found if words[4] == f"{_POSSESSOR_ONLY:08x}" and "_ses" in words[8]]


@pytest.mark.promise("P4")
def test_the_callers_keys_can_be_seen_by_the_test() -> None:
    """The test tests something: a process that inherits the keyring finds the key."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _take_a_key()
        os.dup2(writer, 1)
        os.execv("/bin/cat", ["cat", "/proc/keys"])
    os.close(writer)
    with open(reader, "rb") as file:
        assert _SECRET in file.read()
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.promise("P4")
@pytest.mark.parametrize("insecure", ["image", "image,paths", "image,seccomp,paths,capabilities"])
def test_nothing_of_the_callers_keyring_is_in_a_pod(flavor: Flavor, box: str, insecure: str) -> None:
    result = flavor.shell(box, KEYS, insecure=insecure, preexec_fn=_take_a_key)
    assert result.code == 0, result
    assert _SECRET.decode() not in result.out
    assert "rkt-test-session" not in result.out
    if insecure == "image":
        assert flavor.lines(result) == ["end of keys"]
    else:
        assert "keyring" in result.out, "the test tests nothing"


@pytest.mark.promise("P4")
def test_each_pod_has_a_session_keyring_of_its_own(flavor: Flavor, box: str) -> None:
    def own() -> str:
        found = _session(flavor.lines(flavor.shell(box, KEYS, insecure="image,paths")))
        assert len(found) == 1, found
        return found[0]

    assert own() != own()


@pytest.mark.promise("P4")
def test_a_pod_with_user_ids_of_its_own_has_one_too(flavor: Flavor, box: str) -> None:
    if flavor.name == "fly":
        # It refuses the flag.
        assert flavor.shell(box, KEYS, "--private-users").code == 254
        return
    words = ("--private-users", box, "--exec=/bin/sh", "--", "-c", KEYS)
    result = flavor(*words, insecure="image,paths", preexec_fn=_take_a_key)
    assert _SECRET.decode() not in result.out
    assert len(_session(flavor.lines(result))) == 1, result


@pytest.mark.promise("P4")
def test_a_command_that_is_entered_has_not_the_callers(
    rkt: Rkt, flavor: Flavor, box: str, running: Callable[..., str]
) -> None:
    uuid = running(flavor, box, insecure="image,paths")
    result = rkt("enter", uuid, "/bin/sh", "-c", KEYS, preexec_fn=_take_a_key)
    assert result.code == 0, result
    assert _SECRET.decode() not in result.out
    assert "keyring" in result.out, "the test tests nothing"


@pytest.fixture
def running(rkt: Rkt):
    """Starts a pod that sleeps; its UUID once it is ready.  Ended at the end of the test."""
    started = []

    def start(flavor: Flavor, image: str, **options: str) -> str:
        path = os.path.join(rkt.base, "uuid")
        words = flavor.words(f"--uuid-file-save={path}", image, "--exec=/bin/sleep", "--", "1000", **options)
        started.append(rkt.start(*words))
        while not os.path.exists(path):
            assert started[-1].poll() is None
        with open(path) as file:
            uuid = file.read()
        rkt.ok("status", "--wait-ready=30s", uuid)
        return uuid

    yield start
    for process in started:
        end(process)
