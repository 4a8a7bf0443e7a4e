"""What rkt 1.30 printed for calls that fail early: exit code, stream and text, command by command."""

from __future__ import annotations

import os

import pytest

from support.driver import Rkt

USAGE = "usage"


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        ("run", 254, "", ["run: must provide at least one image or specify the pod manifest"]),
        ("status", 254, USAGE, []),
        ("status zz", 254, "", ['status: problem retrieving pod: no matches found for "zz"']),
        (
            "stop 00000000",
            254,
            "",
            [
                'stop: cannot get pod: no matches found for "00000000"',
                "stop: failed to stop 1 pod(s)",
            ],
        ),
        ("rm", 254, USAGE, []),
        ("enter abcd", 254, "", ['enter: problem retrieving pod: no matches found for "abcd"']),
        ("cat-manifest abcd", 254, "", ['cat-manifest: problem retrieving pod: no matches found for "abcd"']),
        (
            "image cat-manifest nosuch",
            254,
            "",
            ['cat-manifest: cannot find aci satisfying name: "nosuch" and labels: [] in the local store'],
        ),
        (
            "image rm nosuch",
            0,
            "",
            ['rm: cannot find aci satisfying name: "nosuch" and labels: [] in the local store'],
        ),
        (
            "image export nosuch x.aci",
            254,
            "",
            ['export: cannot find aci satisfying name: "nosuch" and labels: [] in the local store'],
        ),
        ("gc extra", 0, "", []),
        ("trust", 254, USAGE, []),
        ("fetch", 254, "", ["fetch: must provide at least one image"]),
        ("fetch /none.aci", 254, "", ["fetch: open /none.aci.asc: no such file or directory"]),
        (
            "--insecure-options=image run /none.aci",
            254,
            "",
            ["run: open /none.aci: no such file or directory"],
        ),
        (
            "--insecure-options=image prepare --pod-manifest=/none x",
            254,
            "",
            ["prepare: conflicting flags set with --pod-manifest (see --help)"],
        ),
        ("run-prepared abcd", 254, "", ['run-prepared: problem retrieving pod: no matches found for "abcd"']),
        ("completion zsh", 254, "", ["completion: 'zsh' shell is not supported"]),
        ("export abcd x.aci", 254, "", ['export: problem retrieving pod: no matches found for "abcd"']),
        (
            "status --uuid-file=/none",
            1,
            "",
            ["status: unable to resolve UUID from file: open /none: no such file or directory"],
        ),
        ("image list", 0, "ID\tNAME\tSIZE\tIMPORT TIME\tLAST USED\n", []),
        ("list", 0, "UUID\tAPP\tIMAGE NAME\tSTATE\tCREATED\tSTARTED\tNETWORKS\n", []),
        ("list --no-legend", 0, "\n", []),
        ("list --format=json", 0, "null\n", []),
    ],
)
def test_early_failures(rkt: Rkt, words: str, code: int, out: str, err: list[str]) -> None:
    result = rkt(*words.split())
    assert result.code == code
    if out == USAGE:
        assert result.out == rkt.ok("help", words.split(maxsplit=1)[0]).out
    else:
        assert result.out == out
    assert result.err.splitlines() == err


def test_a_name_that_is_none(rkt: Rkt) -> None:
    result = rkt("fetch", "not a name!")
    assert (result.code, result.out) == (254, "")
    assert result.err == (
        'fetch: invalid appc image string "not a name!": '
        'ACIdentifier must contain only lower case alphanumeric characters plus "-._~/"\n'
    )


def test_a_pull_policy_nobody_knows(rkt: Rkt, box: str) -> None:
    """rkt 1.30 took it for the default and went on."""
    result = rkt("fetch", "--pull-policy=bogus", box)
    assert (result.code, result.out) == (254, "")
    assert result.err == 'fetch: invalid pull policy "bogus": it is one of never, new, update\n'


def test_calls_that_fail_leave_nothing(rkt: Rkt) -> None:
    for words in (["bogus"], ["list", "--bogus"], ["run"], ["status"], ["run", "x", "--exec"], ["fetch"]):
        assert rkt(*words).code == 254
    assert not os.path.exists(rkt.dir)
