"""What an app of the systemd flavor gets, on the real kernel."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator

import pytest
from systemd_pod import leftovers, lines, pod_directory, pods, run, shell

from support import aci, driver


@pytest.fixture(autouse=True)
def _clean(rkt: driver.Rkt) -> Iterator[None]:
    """Every pod of a test is collected at its end, and nothing of it is left."""
    yield
    uuids = pods(rkt)
    rkt.clean()
    assert leftovers(rkt, uuids) == []


def test_identity(rkt: driver.Rkt, box: str) -> None:
    assert lines(shell(rkt, box, "id -u; id -g; id -G")) == ["0", "0", "0"]
    words = (box, "--user=web", "--group=www", "--supplementary-gids=1002,4000", "--exec=/bin/sh")
    result = run(rkt, *words, "--", "-c", "id -u; id -g; id -G; grep NoNewPrivs /proc/self/status")
    assert lines(result) == ["1000", "1001", "1001 1002 4000", "NoNewPrivs:\t1"]
    result = run(rkt, box, "--user=4711", "--group=/etc/passwd", "--exec=/bin/sh", "--", "-c", "id -u; id -g")
    assert lines(result) == ["4711", "0"]


def test_environment_reaches_the_app_unchanged(rkt: driver.Rkt, tmp_path: object) -> None:
    values = {
        "PLAIN": "a/b:c",
        "BLANKS": "  two  words",  # journald takes blanks off the end of a line
        "QUOTES": "\"double\" 'single' `back`",
        "SPECIAL": "%n %% $HOME ${HOME} $$ \\n \\ ; # =",
        "LINES": "one\ntwo\n",
        "EMPTY": "",
        "UNICODE": "grüße",
        "TRAILING": "end\\",
    }
    app = aci.app(
        "/bin/sh",
        "-c",
        # the zero bytes of environ as line ends that no value has
        "cat /proc/self/environ | tr '\\000\\n' '\\n\\001'",
        environment=[{"name": name, "value": value} for name, value in values.items()],
    )
    image = aci.busybox(f"{tmp_path}/environment.aci", app=app)
    found = dict(line.split("=", 1) for line in lines(run(rkt, image)) if "=" in line)
    assert {name: found[name].replace("\1", "\n") for name in values} == values
    assert found["AC_APP_NAME"] == "box"
    assert found["container"] == "rkt"
    assert found["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def test_arguments_reach_the_app_unchanged(rkt: driver.Rkt, box: str) -> None:
    words = ["%n", "$HOME", "${HOME}", "a b", "", '"', "'", "\\", "\\n", ";", "tab\t", "%%", "@x", "-", "ü"]
    script = 'for word in "$@"; do printf "<%s>\\n" "$word"; done'
    result = run(rkt, box, "--exec=/bin/sh", "--", "-c", script, "sh", *words)
    assert lines(result) == [f"<{word}>" for word in words]
    result = run(rkt, box, "--exec=/bin/sh", "--", "-c", script, "sh", "two\nlines")
    assert lines(result) == ["<two", "lines>"]


def test_working_directory_and_program_search(rkt: driver.Rkt, box: str) -> None:
    assert lines(run(rkt, box, "--working-dir=/tmp", "--exec=pwd")) == ["/tmp"]


def test_host_names(rkt: driver.Rkt, box: str) -> None:
    script = "hostname; cat /etc/hostname; grep -c localhost /etc/hosts"
    first, second, hosts = lines(shell(rkt, box, script))
    assert re.fullmatch(r"rkt-[0-9a-f-]{36}", first)
    assert (second, hosts) == (first, "2")
    assert lines(shell(rkt, box, "hostname; cat /etc/hostname", "--hostname=other"))[:2] == ["other", "other"]


def test_read_only_root(rkt: driver.Rkt, box: str, tmp_path: object) -> None:
    os.mkdir(f"{tmp_path}/volume")
    script = "touch /x /tmp/x; touch /data/x /dev/shm/x && echo volume"
    result = run(
        rkt,
        f"--volume=data,kind=host,source={tmp_path}/volume",
        *(box, "--readonly-rootfs=true", "--mount=volume=data,target=/data", "--exec=/bin/sh"),
        *("--", "-c", script),
    )
    assert lines(result) == [
        "touch: /x: Read-only file system",
        "touch: /tmp/x: Read-only file system",
        "volume",
    ]
    assert os.listdir(f"{tmp_path}/volume") == ["x"]


def test_event_handlers_run_around_the_app(rkt: driver.Rkt, tmp_path: object) -> None:
    app = aci.app(
        *("/bin/sh", "-c", "echo main $(id -u)"),
        user="web",
        group="www",
        eventHandlers=[
            {"name": "pre-start", "exec": ["/bin/sh", "-c", "echo before $(id -u)"]},
            {"name": "post-stop", "exec": ["/bin/sh", "-c", "echo after $(id -u)"]},
        ],
    )
    image = aci.busybox(f"{tmp_path}/handlers.aci", app=app)
    assert lines(run(rkt, image)) == ["before 0", "main 1000", "after 0"]


def test_pod_files(rkt: driver.Rkt, box: str) -> None:
    """What the transcript of rkt 1.30 shows of an exited pod's directory."""
    shell(rkt, box, "exit 0")
    directory = pod_directory(rkt)
    uuid = os.path.basename(directory)
    assert os.readlink(f"{directory}/flavor") == "host"
    with open(f"{directory}/ppid") as file:
        assert re.fullmatch(r"\d+\n", file.read())
    with open(f"{directory}/subcgroup") as file:
        assert file.read() == "/machine-rkt" + "".join(f"\\x2d{part}" for part in uuid.split("-")) + ".scope"
    root = f"{directory}/stage1/rootfs"
    with open(f"{root}/etc/machine-id") as file:
        assert file.read().strip() == uuid.replace("-", "")
    assert os.readlink(f"{root}/rkt/supervisor-status") == "ready"
    with open(f"{root}/rkt/env/box") as file:
        assert "AC_APP_NAME=box\n" in file.read()
    journals = os.path.join(root, "var/log/journal", uuid.replace("-", ""))
    found = subprocess.run(
        ["journalctl", f"--directory={journals}", "-o", "cat"], capture_output=True, check=False
    )
    assert found.returncode == 0
