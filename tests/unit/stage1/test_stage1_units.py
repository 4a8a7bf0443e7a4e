"""Unit files: what comes from manifests stays a value, and systemd accepts the rest."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkt.errors import RktError
from rkt.stage1.systemd import login, units


def app_unit(**members: object) -> units.AppUnit:
    unit = units.AppUnit("web", "example.com/web", ["/bin/web", "-x"])
    for name, value in members.items():
        setattr(unit, name, value)
    return unit


@pytest.mark.promise("P4")
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
@pytest.mark.attack(13)
def test_quoted_words_stay_on_their_line(word: str) -> None:
    text = units.quote(word)
    assert "\n" not in text and "\r" not in text
    assert text[0] == text[-1] == '"'
    assert text.replace("%%", "").count("%") == 0
    # undo the escapes: the word comes back
    body, found = text[1:-1], []
    position = 0
    while position < len(body):
        if body[position] == "\\" and body[position + 1] == "x":
            found.append(chr(int(body[position + 2 : position + 4], 16)))
            position += 4
        elif body[position] in "\\%":
            found.append(body[position + 1])
            position += 2
        else:
            found.append(body[position])
            position += 1
    assert "".join(found) == word


@pytest.mark.promise("P4")
@pytest.mark.parametrize(
    "directory", ["/a\nExecStartPre=/bin/evil", "/a\r", "/a\\", "/a ", "/a\0", "/" + "x" * (1 << 20)]
)
def test_values_no_unit_can_hold_are_refused(directory: str) -> None:
    with pytest.raises(RktError):
        app_unit(working_directory=directory).files()


def test_app_names_never_meet_systemds_own() -> None:
    assert units.unit_name("web") == "web.service"
    assert units.unit_name("systemd-journald") != "systemd-journald.service"
    own = {*units.static_units(), *login.units(), *units.pod_units(["web"], interactive=False)}
    assert not own & {f"{name}.service" for name in ("exit", "halt", "default", "rkt", "console")}
    assert not own & {units.unit_name(name) for name in ("dbus", "container-getty", "container-shell")}


@pytest.mark.promise("P5")
def test_confinement_is_written_down() -> None:
    text = app_unit(
        uid=7,
        gid=8,
        groups=[9, 10],
        capabilities=["CAP_CHOWN"],
        system_calls="~mount",
        system_call_errno="EPERM",
        no_new_privileges=True,
        hidden_paths=["/proc/kcore"],
    ).files()["web.service"]
    for line in (
        "User=7",
        "Group=8",
        "SupplementaryGroups=9 10",
        "CapabilityBoundingSet=CAP_CHOWN",
        "SystemCallFilter=~mount",
        "SystemCallErrorNumber=EPERM",
        "NoNewPrivileges=yes",
        'InaccessiblePaths=-+"/proc/kcore"',
        'ExecStart=:"/bin/web" "-x"',
        "RootDirectory=/opt/stage2/web/rootfs",
    ):
        assert line in text.splitlines()
    assert "CapabilityBoundingSet=\n" in app_unit(capabilities=[]).files()["web.service"]
    assert "CapabilityBoundingSet" not in app_unit().files()["web.service"]


@pytest.mark.attack(13)
def test_systemd_verifies_all_units(tmp_path: object) -> None:
    """systemd's own reading of them, with everything that can be set set."""
    directory = os.path.join(str(tmp_path), "units")
    os.mkdir(directory)
    unit = app_unit(
        argv=["/bin/true", "%n", "$HOME", "a b", '"', "\\", "\n", ";", ""],
        image="example.com/50%/web",
        capabilities=["CAP_CHOWN"],
        groups=[0],
        notify=True,
        pre_start=["/bin/true"],
        post_stop=["/bin/true"],
        system_calls="~mount umount2",
        hidden_paths=["/proc/kcore"],
        resources=[("MemoryMax", "4096"), ("CPUQuota", "1%"), ("CPUWeight", "2"), ("OOMScoreAdjust", "-5")],
    )
    pod = {**units.static_units(), **login.units(), **units.pod_units(["web"], interactive=False)}
    files = {**pod, **unit.files()}
    for name, text in files.items():
        os.makedirs(os.path.dirname(os.path.join(directory, name)), exist_ok=True)
        with open(os.path.join(directory, name), "w") as file:
            # the one program that is in stage1 only
            file.write(text.replace("/rkt/app-exit", "/bin/true"))
    analyze = shutil.which("systemd-analyze")
    assert analyze is not None
    # A template is read with a name in it, what is in a directory with the unit it belongs to.
    machined = "container-shell@1.service"
    with open(os.path.join(directory, machined), "w") as file:
        file.write("[Service]\nExecStart=/bin/sh\nPAMName=login\n")
    names = [os.path.join(directory, name.replace("@.", "@1.")) for name in files if "/" not in name]
    names.append(os.path.join(directory, machined))
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--generators=no", *names],
        env={"SYSTEMD_UNIT_PATH": directory, "PATH": os.environ["PATH"], "SYSTEMD_LOG_LEVEL": "warning"},
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if directory in line]
    assert ours == []
    assert done.returncode == 0, done.stderr
