"""Modes of the standard streams, log files for Kubernetes, and what units make of them."""

from __future__ import annotations

import os
import re

import pytest

from rkt.errors import RktError
from rkt.stage0 import attach
from rkt.stage1.common import kubernetes, streams
from rkt.stage1.common.pod import App, Pod
from rkt.stage1.systemd import attachments, units


class Noted:
    """What has annotations: a pod manifest or an app of it."""

    def __init__(self, **notes: str) -> None:
        self.notes = notes

    def annotation(self, name: str) -> str | None:
        return self.notes.get(name.rpartition("/")[2])


def app(**notes: str) -> App:
    return App(type("Runtime", (Noted,), {"name": "web"})(**notes), None, None)  # type: ignore[arg-type]


def pod(**notes: str) -> Pod:
    return Pod("/pod", "uuid", Noted(**notes), [])  # type: ignore[arg-type]


def test_modes() -> None:
    assert streams.modes(app()) == {"stdin": "null", "stdout": "log", "stderr": "log"}
    found = streams.modes(app(stdin="tty", stdout="stream", stderr="null"))
    assert found == {"stdin": "tty", "stdout": "stream", "stderr": "null"}
    assert set(streams.modes(app(stdin="interactive"), interactive=True).values()) == {"interactive"}
    assert streams.silenced(app(stdin="null", stderr="null"), interactive=False) == ["stdin", "stderr"]


@pytest.mark.parametrize(
    ("notes", "interactive", "message"),
    [
        ({"stdin": "log"}, False, 'stdin cannot be "log"'),
        ({"stdout": "bogus"}, False, 'stdout cannot be "bogus"'),
        ({"stderr": ""}, False, 'stderr cannot be ""'),
        ({"stdin": "interactive"}, False, "the pod was not started with --interactive"),
        ({"stdout": "stream"}, True, "with --interactive the app has the terminal of rkt"),
    ],
)
def test_modes_that_there_are_none_of(notes: dict[str, str], interactive: bool, message: str) -> None:
    with pytest.raises(RktError, match=re.escape(message)):
        streams.modes(app(**notes), interactive=interactive)


@pytest.mark.parametrize("monitored", [True, False])
def test_units_of_apps_to_attach_to(monitored: bool) -> None:
    unit = units.AppUnit("web", "example.com/web", ["/bin/web"])
    unit.streams = {"stdin": "tty", "stdout": "stream", "stderr": "log"}
    unit.pre_start, unit.monitored = ["/bin/before"], monitored
    files = unit.files()
    service = files["web.service"].splitlines()
    assert "StandardInput=tty" in service
    assert "TTYPath=/rkt/iottymux/web/stage2-pts" in service
    assert "StandardOutput=file:/rkt/iottymux/web/stage2-stdout" in service
    assert "StandardError=journal+console" in service
    # A handler that opened the FIFO would be taken for the app.
    assert "iottymux" not in files["web_pre-start.service"]
    told = files["web_failed.service"] if monitored else files["web.service"]
    assert "/rkt/iottymux/web/ended" in told
    assert attachments.endpoints(unit.streams) == ["stdout", "tty"]


def test_modes_of_attach_are_flags_of_the_stage1() -> None:
    assert attach.arguments("list") == ["--action=list"]
    assert attach.arguments("auto") == attach.arguments("") == ["--action=auto-attach"]
    given = attach.arguments("stdin,stderr")
    assert given == [
        *("--action=custom-attach", "--tty-in=false", "--tty-out=false"),
        *("--stdin=true", "--stdout=false", "--stderr=true"),
    ]
    assert attach.arguments("tty")[1:3] == ["--tty-in=true", "--tty-out=true"]
    assert attach.arguments("tty-out")[1:3] == ["--tty-in=false", "--tty-out=true"]
    for mode in ("bogus", "stdin,", "tty,stdout", "list,stdin"):
        with pytest.raises(RktError, match="invalid attach mode"):
            attach.arguments(mode)


# -- log files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_136_214_245_120_000_000, "2006-01-02T15:04:05.12Z"),
        (1_136_214_245_000_000_001, "2006-01-02T15:04:05.000000001Z"),
    ],
)
def test_times_of_a_log(nanoseconds: int, text: str) -> None:
    assert kubernetes.timestamp(nanoseconds) == text


def test_lines_of_a_log(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "log")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    out, err = kubernetes.LogStream(fd, "stdout"), kubernetes.LogStream(fd, "stderr")
    out.write(b"one\ntw")
    err.write(b"\n")
    out.write(b"o\r\n" + b"x" * 100_000)
    out.finish()
    out.finish()
    with open(path, "rb") as file:
        lines = [line.partition(b"Z ")[2] for line in file.read().split(b"\n")]
    assert lines == [
        b"stdout one",
        b"stderr ",
        b"stdout two\r",
        *(b"stdout " + b"x" * n for n in (65536, 34464)),
        b"",
    ]


def test_a_full_disk_does_not_end_an_app() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    kubernetes.LogStream(fd, "stdout").write(b"lost\n")
    os.close(fd)


NOTES = {"logmode": "k8s-plain", "kubernetes-log-path": "web_0.log"}


def test_the_log_file(tmp_path: os.PathLike[str]) -> None:
    directory = os.fspath(tmp_path)
    assert kubernetes.open_log(pod(), app()) is None
    fd = kubernetes.open_log(pod(**NOTES, **{"kubernetes-log-dir": directory}), app())
    assert fd is not None
    os.write(fd, b"old")
    os.close(fd)
    # The app's own path wins; the file begins anew.
    os.mkdir(os.path.join(directory, "below"))
    os.rename(os.path.join(directory, "web_0.log"), os.path.join(directory, "below/other.log"))
    noted = app(**{"kubernetes-log-path": "below/other.log"})
    fd = kubernetes.open_log(pod(**NOTES, **{"kubernetes-log-dir": directory}), noted)
    assert fd is not None
    assert os.fstat(fd).st_size == 0
    os.close(fd)


@pytest.mark.promise("P4")
@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({"logmode": "bogus"}, 'unknown log mode "bogus"'),
        ({"kubernetes-log-path": ""}, "needs the annotation"),
        ({"kubernetes-log-dir": "relative"}, "is not absolute"),
        ({"kubernetes-log-dir": "/proc/self/root/tmp"}, "unable to open log file"),
        ({"kubernetes-log-path": "../web.log"}, "is not a path below"),
        ({"kubernetes-log-path": "/etc/passwd"}, "is not a path below"),
        ({"kubernetes-log-path": "below/../../x"}, "is not a path below"),
        ({"kubernetes-log-path": "link"}, "unable to open log file"),
        ({"kubernetes-log-path": "away/victim"}, "unable to open log file"),
        ({"kubernetes-log-path": "."}, "unable to open log file"),
        ({"kubernetes-log-path": "missing/web.log"}, "unable to open log file"),
        ({"kubernetes-log-path": "fifo"}, "unable to open log file"),
        ({"kubernetes-log-path": "device"}, "unable to open log file"),
        ({"kubernetes-log-path": "second"}, "not a regular file with one name"),
    ],
)
def test_log_files_that_lead_elsewhere(
    tmp_path: os.PathLike[str], notes: dict[str, str], message: str
) -> None:
    base = os.fspath(tmp_path)
    victim, directory = os.path.join(base, "victim"), os.path.join(base, "logs")
    os.mkdir(directory)
    with open(victim, "w") as file:
        file.write("precious")
    os.symlink(victim, os.path.join(directory, "link"))
    os.symlink("/dev/null", os.path.join(directory, "device"))
    os.symlink(base, os.path.join(directory, "away"))
    os.link(victim, os.path.join(directory, "second"))
    os.mkfifo(os.path.join(directory, "fifo"))
    noted = pod(**{**NOTES, "kubernetes-log-dir": directory, **notes})
    with pytest.raises(RktError, match=re.escape(message)):
        kubernetes.open_log(noted, app())
    with open(victim) as file:
        assert file.read() == "precious"
