"""Running plugins: what they are told, and how each way to fail is told to the user."""

from __future__ import annotations

import json
import os

import pytest

from rkt.errors import RktError, one_line
from rkt.network import plugins
from support import processes
from support.waiting import until

SCRIPTS = {
    "echo": 'read conf; env > "$0.env"; echo "{\\"seen\\": $conf}"',
    "error": 'echo \'{"cniVersion":"0.4.0","code":11,"msg":"no room","details":"at all"}\'; exit 1',
    "words": "echo first >&2; echo second >&2; exit 3",
    "garbage": "echo 'this is not JSON'",
    "silent": "exit 0",
    "mute": "exit 1",
    "crash": "kill -SEGV $$",
    "hang": 'sleep 1000 & echo $! > "$0.child"; wait',
    "flood": "yes",
}


@pytest.fixture
def directory(tmp_path: os.PathLike[str]) -> str:
    for name, text in SCRIPTS.items():
        path = os.path.join(tmp_path, name)
        with open(path, "w") as file:
            file.write("#!/bin/sh\n" + text + "\n")
        os.chmod(path, 0o755)
    return os.fspath(tmp_path)


def run(directory: str, name: str, time_limit: float = 20) -> object:
    invocation = plugins.Invocation(
        "the-pod", "/var/run/netns/cni-x", "eth0", args="A=b", directories=[directory], time_limit=time_limit
    )
    path = plugins.find(name, [directory])
    return plugins.run("ADD", path, '{"name":"n"}\n', invocation=invocation, version="0.4.0")


def test_environment_and_input(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    assert run(directory, "echo") == {"seen": {"name": "n"}}
    with open(os.path.join(directory, "echo.env")) as file:
        given = dict(line.rstrip("\n").split("=", 1) for line in file)
    for name in ("PATH", "PWD", "SHLVL", "_", "OLDPWD"):
        given.pop(name, None)
    assert given == {
        "CNI_VERSION": "0.4.0",
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "the-pod",
        "CNI_NETNS": "/var/run/netns/cni-x",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "A=b",
        "CNI_PATH": directory,
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("error", "failed at ADD (exit code 1): no room; at all"),
        ("words", "failed at ADD (exit code 3): first second"),
        ("garbage", "answered ADD with something that is not JSON: this is not JSON"),
        ("mute", "failed at ADD (exit code 1)"),
        ("crash", "failed at ADD (signal 11)"),
    ],
)
def test_failures_name_plugin_and_cause(directory: str, name: str, words: str) -> None:
    with pytest.raises(RktError) as caught:
        run(directory, name)
    assert str(caught.value) == f"plugin {os.path.join(directory, name)} {words}"


def test_no_answer_is_none(directory: str) -> None:
    assert run(directory, "silent") is None


def test_a_plugin_that_hangs_is_killed_with_its_children(directory: str) -> None:
    with pytest.raises(RktError) as caught:
        run(directory, "hang", time_limit=3)
    path = os.path.join(directory, "hang")
    assert (
        one_line(caught.value) == f"plugin {path} failed at ADD: killed, as it had not ended after 3 seconds"
    )
    with open(os.path.join(directory, "hang.child")) as file:
        child = int(file.read())
    # Of one that nobody has waited for yet the command line is gone already.
    until(lambda: processes.command(child) == "", "the child goes on")


def test_a_plugin_that_never_stops_writing_is_killed(directory: str) -> None:
    with pytest.raises(RktError) as caught:
        run(directory, "flood")
    assert "wrote more than" in one_line(caught.value)


def test_a_missing_plugin_says_where_it_was_looked_for(directory: str) -> None:
    path = os.path.join(directory, "echo")
    os.chmod(path, 0o644)
    for name, message in (
        ("nosuch", f'could not find plugin "nosuch" in {directory}:/nowhere'),
        ("echo", f'plugin "echo" cannot be used: {path} is not executable'),
    ):
        with pytest.raises(RktError) as caught:
            plugins.find(name, [directory, "/nowhere"])
        assert str(caught.value) == message


def test_directories_in_order() -> None:
    assert plugins.directories(["/home/rkt", "/etc/rkt"], "/pod/stage1/rootfs")[:5] == [
        "/home/rkt/net.d",
        "/etc/rkt/net.d",
        "/usr/lib/rkt/plugins/net",
        "/pod/stage1/rootfs/usr/lib/rkt/plugins/net",
        "/usr/lib/cni",
    ]
    assert "/opt/cni/bin" in plugins.directories(["/etc/rkt"], "/x")


def test_output_is_shown_without_control_characters(directory: str) -> None:
    path = os.path.join(directory, "evil")
    with open(path, "w") as file:
        file.write("#!/bin/sh\nprintf '\\033[2Jboo' >&2; exit 1\n")
    os.chmod(path, 0o755)
    with pytest.raises(RktError) as caught:
        run(directory, "evil")
    assert "\033" not in str(caught.value)
    assert json.dumps("boo")[1:-1] in str(caught.value)
