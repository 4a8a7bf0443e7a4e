"""The completion script in a real bash."""

from __future__ import annotations

import os
import subprocess

import pytest

from support.driver import RKT, Rkt


def complete(line: str, directory: str, program: str = RKT, setup: str = "") -> list[str]:
    """What bash offers after the words of the line; the last word is the one that is being typed.

    The words are split as bash splits them with its own COMP_WORDBREAKS: ``--dir=x`` is three words.
    """
    words: list[str] = []
    for word in line.split(" "):
        head, equals, tail = word.partition("=")
        words += [head, "=", tail] if equals else [word]
    if words[-1] == "" and len(words) > 1 and words[-2] == "=":
        words.pop()
    listed = " ".join(f"'{word}'" for word in ["rkt", *words])
    script = f"""
    set -u
    {setup}
    . <({RKT} completion bash)
    rkt() {{ {program} "$@"; }}
    COMP_WORDS=({listed})
    COMP_CWORD={len(words)}
    _rkt
    printf '%s\\n' "${{COMPREPLY[@]-}}"
    """
    done = subprocess.run(
        ["/bin/bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=directory,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.stderr == ""
    return sorted(done.stdout.split())


@pytest.fixture
def directory(tmp_path: os.PathLike[str]) -> str:
    for name in ("image.aci", "other.aci"):
        with open(os.path.join(tmp_path, name), "w"):
            pass
    os.mkdir(os.path.join(tmp_path, "folder"))
    return os.fspath(tmp_path)


def test_the_script_is_sound(rkt: Rkt) -> None:
    result = rkt.ok("completion", "bash")
    assert result.err == ""
    subprocess.run(["/bin/bash", "-n"], input=result.out, text=True, check=True)
    loaded = subprocess.run(
        ["/bin/bash", "--norc", "-euc", f". <({RKT} completion bash); complete -p rkt"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert (loaded.stdout, loaded.stderr) == ("complete -F _rkt rkt\n", "")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("st", ["status", "stop"]),
        ("image ex", ["export", "extract"]),
        ("help im", ["image"]),
        ("completion ", ["bash"]),
        ("list --f", ["--format", "--full"]),
        ("--debug list --no", ["--no-legend"]),
        ("--dir=/x list --no", ["--no-legend"]),
        ("image list --so", ["--sort"]),
        ("list --format ", ["json", "json-pretty"]),
        ("list --format=", ["json", "json-pretty"]),
        ("list --format=json-", ["json-pretty"]),
        ("--insecure-options=all-", ["all-fetch", "all-run"]),
        ("run --pull-policy ne", ["never", "new"]),
        ("--dir ", ["folder"]),
        ("--dir=fo", ["folder"]),
        ("trust im", ["image.aci"]),
        ("run --pod-manifest ", ["folder", "image.aci", "other.aci"]),
        ("run --exec ", []),
    ],
)
def test_offers(directory: str, line: str, offered: list[str]) -> None:
    assert complete(line, directory) == offered


def fake(directory: str, text: str) -> str:
    """A program that prints a text, in place of one with pods and images."""
    path = os.path.join(directory, "fake")
    with open(path, "w") as file:
        file.write("#!/bin/sh\ncat <<'END'\n" + text + "\nEND\n")
    os.chmod(path, 0o755)
    return path


def test_pods_by_state(directory: str) -> None:
    program = fake(
        directory,
        "43a43d8a\tone\texample.com/box:1\trunning\t4 seconds ago\n"
        "7fe454c8\tweb\texample.com/www:1\tprepared\t4 seconds ago\n"
        "\tsecond\texample.com/www:1\t\t\n"
        "da11d0a3\tx\texample.com/box:1\texited\t4 seconds ago",
    )
    assert complete("status ", directory, program) == ["43a43d8a", "7fe454c8", "da11d0a3"]
    assert complete("enter ", directory, program) == ["43a43d8a"]
    assert complete("run-prepared ", directory, program) == ["7fe454c8"]
    assert complete("rm d", directory, program) == ["da11d0a3"]


@pytest.mark.promise("P4")
def test_names_of_images_are_never_evaluated(directory: str) -> None:
    trap = os.path.join(directory, "trap")
    program = fake(
        directory, f"sha512-1868c83b12d5\texample.com/www:1\nsha512-1868c83b12d6\t$(touch${{IFS}}{trap}):`id`"
    )
    offered = complete("image rm ", directory, program)
    assert offered == ["example.com/www", "sha512-1868c83b12d5", "sha512-1868c83b12d6"]
    assert not os.path.exists(trap)
