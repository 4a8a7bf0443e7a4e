"""Where the variables of an app come from, and which wins: driven through run, prepare and enter."""

from __future__ import annotations

import os

import pytest
from flavors import Flavor

from support import aci, driver

pytest_plugins = ("flavor_fixtures",)

SHOW = ("--exec=/bin/sh", "--", "-c", "env; echo end")


def variables(lines: list[str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.fixture
def image(tmp_path: os.PathLike[str]) -> str:
    """An app whose image sets every variable from IMAGE on."""
    names = ("IMAGE", "ENVIRONMENT", "FILE", "SET")
    app = aci.app("/bin/env", environment=[{"name": name, "value": "image"} for name in names])
    return aci.busybox(os.path.join(tmp_path, "image.aci"), app=app)


@pytest.fixture
def file(tmp_path: os.PathLike[str]) -> str:
    path = os.path.join(tmp_path, "variables")
    with open(path, "w") as made:
        made.write("# a comment\n; another\n\nFILE=file\nSET=file\nWITH=a = b # c\n")
    return path


CALLER = dict.fromkeys(("INHERITED", "IMAGE", "ENVIRONMENT", "FILE", "SET"), "inherited")
PRECEDENCE = {
    "INHERITED": "inherited",
    "IMAGE": "image",
    "ENVIRONMENT": "environment",
    "FILE": "file",
    "SET": "set",
    "WITH": "a = b # c",
}


def flags(path: str) -> list[str]:
    return ["--inherit-env", f"--set-env-file={path}", "--set-env=SET=set"]


APP_FLAGS = [f"--environment={name}=environment" for name in ("ENVIRONMENT", "FILE", "SET")]


def test_precedence(rkt: driver.Rkt, flavor: Flavor, image: str, file: str) -> None:
    """inherited < image < --environment < --set-env-file < --set-env, for run and for prepare."""
    result = flavor(*flags(file), image, *APP_FLAGS, env=CALLER)
    found = variables(flavor.lines(result))
    assert {name: found.get(name) for name in PRECEDENCE} == PRECEDENCE, result
    uuid = rkt.ok(*flavor.words(*flags(file), image, *APP_FLAGS, verb="prepare"), env=CALLER).out.strip()
    found = variables(flavor.lines(rkt("run-prepared", "--net=none", uuid)))
    assert {name: found.get(name) for name in PRECEDENCE} == PRECEDENCE


def test_nothing_is_inherited_unless_asked_for(flavor: Flavor, image: str) -> None:
    found = variables(flavor.lines(flavor(image, env=CALLER)))
    assert "INHERITED" not in found
    assert found["IMAGE"] == "image"


def test_each_app_has_its_own(flavor: Flavor, image: str) -> None:
    if flavor.name == "fly":
        return  # it has one app
    one = (image, "--name=one", "--environment=X=1", "--exec=/bin/sh", "--", "-c", "echo one $X $Y", "---")
    two = (image, "--name=two", "--environment=Y=2", "--exec=/bin/sh", "--", "-c", "echo two $X $Y")
    result = flavor("--set-env=Z=3", *one, *two)
    assert sorted(flavor.lines(result)) == ["one 1", "two 2"]


def test_what_every_app_has(flavor: Flavor, box: str) -> None:
    found = variables(flavor.lines(flavor(box, "--name=web", *SHOW)))
    assert {
        name: found.get(name) for name in ("AC_APP_NAME", "USER", "LOGNAME", "HOME", "SHELL", "container")
    } == {
        "AC_APP_NAME": "web",
        "USER": "root",
        "LOGNAME": "root",
        "HOME": "/root",
        "SHELL": "/bin/sh",
        "container": "rkt",
    }
    assert found["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert "AC_METADATA_URL" not in found


def test_what_an_app_can_and_cannot_override(flavor: Flavor, box: str) -> None:
    words = (box, "--environment=PATH=/bin", "--environment=HOME=/srv", "--environment=AC_APP_NAME=other")
    found = variables(flavor.lines(flavor(*words, *SHOW)))
    assert (found["PATH"], found["HOME"], found["AC_APP_NAME"]) == ("/bin", "/srv", "box")


def test_several_files(flavor: Flavor, box: str, tmp_path: os.PathLike[str]) -> None:
    paths = []
    for name in ("one", "two"):
        paths.append(os.path.join(tmp_path, name))
        with open(paths[-1], "w") as made:
            made.write(f"{name.upper()}={name}\n")
    found = variables(flavor.lines(flavor(*(f"--set-env-file={path}" for path in paths), box, *SHOW)))
    assert (found["ONE"], found["TWO"]) == ("one", "two")


@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=1\nA=2\n", 'variable "A" already set (file'),
        ("word\n", "must be specified as name=value (file"),
        ("=value\n", "=value"),
        ("1A=x\n", "1A"),
        ("A B=x\n", "A B"),
    ],
)
def test_files_that_are_refused(
    rkt: driver.Rkt, flavor: Flavor, box: str, tmp_path: os.PathLike[str], text: str, message: str
) -> None:
    path = os.path.join(tmp_path, "variables")
    with open(path, "w") as made:
        made.write(text)
    result = flavor(f"--set-env-file={path}", box)
    assert result.code == 254, result
    assert message in result.err
    assert rkt.ok("list", "--no-legend").out.strip() == ""


@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--environment=A=1", "--environment=A=2"], "A"),
        (["--environment=word"], "word"),
        (["--environment=1A=x"], "1A"),
        (["--set-env=A"], "A"),
        (["--set-env-file=/nonexistent"], "/nonexistent"),
    ],
)
def test_flags_that_are_refused(flavor: Flavor, box: str, words: list[str], message: str) -> None:
    result = flavor(box, *words)
    assert result.code == 254, result
    assert message in result.err.splitlines()[0]
