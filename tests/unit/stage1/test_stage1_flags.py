"""The command lines of the entry points, as rkt's stage0 of any version gives them."""

from __future__ import annotations

import pytest

from rkt.errors import RktError
from rkt.stage1.common import flags

UUID = "f1bf6e0c-5d2c-4c93-a5ee-5c8a0ab5f8a0"


@pytest.mark.promise("P11")
def test_run_of_interface_6() -> None:
    words = (
        "--debug --net=default,other:IP=1.2.3.4 --interactive --mds-token=0123 --local-config=/c "
        "--hostname=h --dns-conf-mode=resolv=stage0,hosts=host --disable-capabilities-restriction "
        f"--disable-paths --disable-seccomp --mutable --ipc=parent {UUID}"
    )
    parsed = flags.run_flags(words.split())
    assert (parsed.uuid, parsed.debug, parsed.interactive, parsed.mutable) == (UUID, True, True, True)
    assert (parsed.net, parsed.mds_token, parsed.local_config) == ("default,other:IP=1.2.3.4", "0123", "/c")
    assert (parsed.hostname, parsed.resolv, parsed.hosts, parsed.ipc) == ("h", "stage0", "host", "parent")
    assert parsed.disable_capabilities and parsed.disable_paths and parsed.disable_seccomp


@pytest.mark.promise("P11")
def test_run_of_interface_1() -> None:
    parsed = flags.run_flags([f"--net={''}", UUID])
    assert (parsed.net, parsed.resolv, parsed.hosts, parsed.debug) == ("", "default", "default", False)


def test_forms_of_gos_flag_package() -> None:
    values, arguments, given = flags.parse(
        ["-debug", "--net", "a", "--net=b", "-interactive=F", "x", "--y"], flags.RUN
    )
    assert (values["debug"], values["net"], values["interactive"]) == (True, "a,b", False)
    assert arguments == ["x", "--y"]
    assert given == {"debug", "net", "interactive"}
    assert flags.parse(["--pid=4", "--", "--help"], flags.ENTER)[1] == ["--help"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bogus", UUID], "flag provided but not defined: -bogus"),
        (["--debug=maybe", UUID], 'invalid boolean value "maybe" for -debug'),
        (["--net"], "flag needs an argument: -net"),
        (["---debug", UUID], "bad flag syntax: ---debug"),
        ([], "a pod UUID is required"),
        ([UUID, UUID], "only one pod UUID is expected"),
        (["--ipc=shared", UUID], 'invalid value "shared" for -ipc'),
        (["--dns-conf-mode=hosts=none", UUID], 'unknown setting "hosts=none"'),
        (["--dns-conf-mode=resolv", UUID], 'unknown setting "resolv"'),
    ],
)
def test_refused(words: list[str], message: str) -> None:
    with pytest.raises(RktError) as caught:
        flags.run_flags(words)
    assert message in caught.value.message


def test_a_flavor_may_lack_flags() -> None:
    with pytest.raises(RktError, match="not defined: -private-users"):
        flags.run_flags(["--private-users=1:2", UUID], without=("private-users",))
