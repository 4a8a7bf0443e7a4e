"""Event handlers of apps: what runs when, as whom and how confined, and what fails the pod."""

from __future__ import annotations

import os
import signal
import time

import pytest
from flavors import Flavor

from support import aci, driver
from support.waiting import PATIENCE

pytest_plugins = ("flavor_fixtures",)

FACTS = "echo {0} $(id -u):$(id -g) $(pwd) $WORD $AC_APP_NAME $(grep -c . /proc/self/status)"


def handler(name: str, *command: str) -> dict[str, object]:
    return {"name": name, "exec": list(command)}


def shell(name: str, script: str) -> dict[str, object]:
    return handler(name, "/bin/sh", "-c", script)


def image(path: os.PathLike[str], main: str, *handlers: dict[str, object], **members: object) -> str:
    app = aci.app("/bin/sh", "-c", main, eventHandlers=list(handlers), **members)
    return aci.busybox(os.path.join(path, "app.aci"), "example.com/app", app=app)


def status(rkt: driver.Rkt) -> list[str]:
    uuid = rkt.ok("list", "--full", "--no-legend").lines[0].split("\t")[0]
    return [line for line in rkt.ok("status", uuid).lines if line.startswith("app-")]


@pytest.mark.promise("P5")
def test_the_order_and_the_users(flavor: Flavor, tmp_path: os.PathLike[str]) -> None:
    """Handlers are root, in the directory and environment of the app, and see the files of each other."""
    look = "echo {} $(id -u):$(id -g) $(pwd) $WORD $AC_APP_NAME >>/var/seen; chmod 666 /var/seen".format
    made = image(
        tmp_path,
        "echo main $(id -u):$(id -g) $(pwd) $WORD $AC_APP_NAME >>/var/seen",
        shell("pre-start", look("before")),
        shell("post-stop", f"{look('after')}; cat /var/seen"),
        user="web",
        group="www",
        workingDirectory="/usr",
        environment=[{"name": "WORD", "value": "given"}],
    )
    result = flavor(made)
    assert result.code == 0, result
    assert flavor.lines(result) == [
        "before 0:0 /usr given app",
        "main 1000:1001 /usr given app",
        "after 0:0 /usr given app",
    ]


@pytest.mark.promise("P5")
def test_the_app_begins_when_the_first_handler_has_ended(flavor: Flavor, tmp_path: os.PathLike[str]) -> None:
    made = image(
        tmp_path,
        "cat /tmp/made; rm /tmp/made; echo main",
        shell("pre-start", "sleep 0.5; echo whole >/tmp/made"),
        shell("post-stop", "ls /tmp; echo after"),
    )
    assert flavor.lines(flavor(made)) == ["whole", "main", "after"]


@pytest.mark.promise("P5")
def test_handlers_are_confined_as_the_app_is(flavor: Flavor, tmp_path: os.PathLike[str]) -> None:
    facts = "grep -E '^(CapBnd|CapEff|Seccomp|NoNewPrivs):' /proc/self/status"
    made = image(
        tmp_path,
        "true",
        shell("pre-start", facts),
        shell("post-stop", facts),
        isolators=[
            {"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_CHOWN", "CAP_KILL"]}},
            {"name": "os/linux/no-new-privileges", "value": True},
        ],
    )
    words = [line.split() for line in flavor.lines(flavor(made))]
    assert words == 2 * [
        ["CapEff:", f"{1 << 0 | 1 << 5:016x}"],
        ["CapBnd:", f"{1 << 0 | 1 << 5:016x}"],
        ["NoNewPrivs:", "1"],
        ["Seccomp:", "2"],
    ]


@pytest.mark.promise("P9")
def test_a_handler_that_fails_before_keeps_the_app_from_starting(
    rkt: driver.Rkt, flavor: Flavor, tmp_path: os.PathLike[str]
) -> None:
    made = image(
        tmp_path,
        "echo main",
        shell("pre-start", "echo before; exit 3"),
        shell("post-stop", "echo after"),
    )
    result = flavor(made)
    assert (result.code, flavor.lines(result)) == (3, ["before", "after"]), result
    assert status(rkt) == []


@pytest.mark.promise("P9")
def test_a_handler_that_fails_after_does_not_change_the_code(
    rkt: driver.Rkt, flavor: Flavor, tmp_path: os.PathLike[str]
) -> None:
    for code in (0, 6):
        result = flavor(image(tmp_path, f"exit {code}", shell("post-stop", "echo after; exit 4")))
        assert (result.code, flavor.lines(result)) == (code, ["after"]), result
        assert status(rkt) == [f"app-app={code}"]
        rkt.clean()


@pytest.mark.promise("P9")
@pytest.mark.parametrize("name", ["pre-start", "post-stop"])
@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("/bin/nosuch", 'Unable to open "/bin/nosuch": No such file or directory'),
        ("nosuch", 'unable to find "nosuch"'),
        ("/etc/passwd", 'Unable to execute "/etc/passwd": Permission denied, it has no execute permission'),
        ("/bin/script", 'its interpreter is missing: Unable to open "/bin/no-interpreter"'),
        ("/proc/self/exe", "leads into /proc"),
    ],
)
def test_a_handler_that_cannot_be_executed(
    rkt: driver.Rkt, flavor: Flavor, tmp_path: os.PathLike[str], name: str, program: str, message: str
) -> None:
    """One line and 254 before anything of the app has run; nothing is left."""
    app = aci.app("/bin/sh", "-c", "echo main", eventHandlers=[handler(name, program)])
    script = aci.Entry("bin/script", b"#!/bin/no-interpreter\n", mode=0o755)
    made = aci.busybox(os.path.join(tmp_path, "app.aci"), "example.com/app", app=app, entries=[script])
    result = flavor(made)
    assert (result.code, result.out) == (254, ""), result
    (line,) = [line for line in result.err.splitlines() if not line.startswith(("image:", "networking:"))]
    assert message in line
    assert rkt.ok("list", "--no-legend").out.strip() == ""


@pytest.mark.promise("P1")
def test_stop_lets_the_last_handler_run(rkt: driver.Rkt, flavor: Flavor, tmp_path: os.PathLike[str]) -> None:
    made = image(
        tmp_path,
        "trap 'echo asked; exit 0' TERM; touch /var/trapped; while :; do sleep 0.1; done",
        shell("post-stop", "sleep 0.3; echo after"),
    )
    uuid, process = start(rkt, flavor, made, "/var/trapped")
    rkt.ok("stop", uuid)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    # The shell says so of the sleep it was waiting for.
    said = [line for line in flavor.lines(driver.Result([], 0, out, "")) if line != "Terminated"]
    assert said == ["asked", "after"]


@pytest.mark.promise("P1")
def test_a_pod_can_be_stopped_while_its_first_handler_runs(
    rkt: driver.Rkt, flavor: Flavor, tmp_path: os.PathLike[str]
) -> None:
    made = image(tmp_path, "echo main", shell("pre-start", "touch /var/begun; exec sleep 1000"))
    uuid, process = start(rkt, flavor, made, "/var/begun")
    rkt.ok("stop", uuid)
    out, _ = process.communicate(timeout=PATIENCE)
    assert "main" not in out
    rkt.wait_for(uuid, "exited")


def start(rkt: driver.Rkt, flavor: Flavor, made: str, sign: str) -> tuple[str, object]:
    """Start a pod; returns its UUID and process once the app has made the file ``sign``."""
    path = os.path.join(rkt.base, "uuid")
    process = rkt.start(*flavor.words(f"--uuid-file-save={path}", made))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if os.path.exists(path):
            with open(path) as file:
                uuid = file.read()
            if os.path.exists(f"{rkt.dir}/pods/run/{uuid}/stage1/rootfs/opt/stage2/app/rootfs{sign}"):
                return uuid, process
        assert process.poll() is None, driver.end(process)
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    raise AssertionError(driver.end(process))


def test_a_handler_without_a_program_is_none(flavor: Flavor, tmp_path: os.PathLike[str]) -> None:
    result = flavor(image(tmp_path, "echo main", {"name": "pre-start"}))
    assert (result.code, flavor.lines(result)) == (0, ["main"])
