"""Any stage1 image that follows the interface, of any version, runs under our stage0."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from functional import pod_images
from support import aci
from support.driver import Result, Rkt

pytestmark = pytest.mark.promise("P11")

INSECURE = "--insecure-options=image"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> str:
    return pod_images.app(os.fspath(tmp_path_factory.mktemp("images") / "app.aci"), "exit 3")


class Ran:
    """A pod that was run under a stage1 of the given version."""

    def __init__(self, rkt: Rkt, app: str, *words: str, version: str | None = "6", **options: object) -> None:
        scripts = options.pop("scripts", {})
        image = pod_images.stage1(f"{rkt.base}/stage1.aci", version=version, **scripts)  # type: ignore[arg-type]
        self.result: Result = rkt(INSECURE, "run", f"--stage1-path={image}", app, *words, **options)
        listed = rkt.ok("list", "--full", "--no-legend").lines
        self.uuid = listed[0].split("\t")[0]
        self.rkt = rkt
        self.directory = pod_images.pod_directory(rkt.dir, self.uuid)

    def lines(self, name: str) -> list[str]:
        return pod_images.lines(self.rkt.dir, self.uuid, name)


FLAGS = [
    "--net=none",
    "--hostname=h",
    "--dns=1.1.1.1",
    "--hosts-entry=host",
    "--ipc=private",
    "--interactive",
]
PASSED = [
    (1, "--net=none"),
    (1, "--interactive"),
    (1, "--local-config={config}"),
    (2, "--hostname=h"),
    (4, "--dns-conf-mode=resolv=stage0,hosts=host"),
    (6, "--ipc=private"),
]
WARNINGS = [
    (2, "stage0: warning: --hostname option is not supported by stage1"),
    (4, "stage0: warning: --dns-conf-mode option not supported by stage1"),
    (6, "stage0: warning: --ipc option is not supported by stage1"),
]


@pytest.mark.parametrize("version", [None, "1", "2", "3", "4", "5", "6", "7"])
def test_each_version_gets_the_flags_it_knows(rkt: Rkt, app: str, version: str | None) -> None:
    ran = Ran(rkt, app, *FLAGS, version=version)
    number = int(version or "1")
    assert ran.result.code == 3
    expected = [flag.format(config=rkt.config) for since, flag in PASSED if since <= number]
    assert ran.lines("run-arguments") == [*expected, ran.uuid]
    warnings = [line for line in ran.result.err.splitlines() if line.startswith("stage0:")]
    assert warnings == [text for since, text in WARNINGS if since > number]


@pytest.mark.parametrize("version", ["2", "3"])
def test_switches_for_insecure_pods(rkt: Rkt, app: str, version: str) -> None:
    image = pod_images.stage1(f"{rkt.base}/stage1.aci", version=version)
    words = ["--insecure-options=image,all-run", "run", f"--stage1-path={image}", app]
    assert rkt(*words).code == 3
    uuid = rkt.ok("list", "--full", "--no-legend").out.split("\t")[0]
    flags = pod_images.lines(rkt.dir, uuid, "run-arguments")
    expected = ["--disable-capabilities-restriction", "--disable-paths", "--disable-seccomp"]
    assert [flag for flag in flags if flag.startswith("--disable")] == (expected if version == "3" else [])


def test_environment_directory_and_program(rkt: Rkt, app: str) -> None:
    ran = Ran(rkt, app, env={"SOME_VARIABLE": "kept", "NOTIFY_SOCKET": "/run/x"})
    environment = ran.lines("run-environment")
    assert "SOME_VARIABLE=kept" in environment
    assert "NOTIFY_SOCKET=/run/x" in environment
    assert "RKT_SELINUX_CONTEXT=" in environment
    assert "RKT_SELINUX_MOUNT_CONTEXT=" in environment
    assert ran.lines("run-directory") == [ran.directory]
    assert ran.lines("run-program") == [f"{ran.directory}/stage1/rootfs/run"]


def test_the_lock_and_nothing_else_is_inherited(rkt: Rkt, app: str) -> None:
    """The lock's fd by its number; no fd of the store, the index or a blob."""
    ran = Ran(rkt, app)
    number = next(line for line in ran.lines("run-environment") if line.startswith("RKT_LOCK_FD="))
    fds = dict(
        line.split()[-3::2]
        for line in ran.lines("run-fds")
        if " -> " in line and "/fd" not in line.split()[-1]
    )
    assert fds.pop(number.partition("=")[2]) == ran.directory
    for name in ("0", "1", "2"):
        fds.pop(name)
    ours = {fd: target for fd, target in fds.items() if rkt.base in target}
    # The shell has its script open, and where the list of fds goes.
    assert {os.path.basename(target) for target in ours.values()} <= {"run", "run-fds"}


def test_fds_of_the_caller_reach_the_stage1(rkt: Rkt, app: str) -> None:
    """Socket activation: LISTEN_FDS start at 3."""
    image = pod_images.stage1(f"{rkt.base}/stage1.aci")
    words = rkt.argv(INSECURE, "run", f"--stage1-path={image}", app)
    shell = ["sh", "-c", 'exec "$@" 3</etc/passwd', "sh", *words]
    done = subprocess.run(shell, env={**rkt.environment, "LISTEN_FDS": "1"}, check=False)
    assert done.returncode == 3
    uuid = rkt.ok("list", "--full", "--no-legend").out.split("\t")[0]
    assert any(line.endswith(" 3 -> /etc/passwd") for line in pod_images.lines(rkt.dir, uuid, "run-fds"))
    assert "LISTEN_FDS=1" in pod_images.lines(rkt.dir, uuid, "run-environment")


def test_signals_have_their_usual_effect(rkt: Rkt, app: str) -> None:
    """The interpreter ignores SIGPIPE and SIGXFSZ; what runs in a pod must not."""
    script = "#!/bin/sh\ngrep SigIgn /proc/self/status > signals; exit 0\n"
    ran = Ran(rkt, app, scripts={"run": script})
    assert ran.result.code == 0
    assert int(ran.lines("signals")[0].split()[1], 16) & (1 << 12 | 1 << 24) == 0


def test_exit_code_and_status(rkt: Rkt, app: str) -> None:
    ran = Ran(rkt, app)
    status = rkt.ok("status", ran.uuid).lines
    assert [line.partition("=")[0] for line in status] == [
        *("state", "created", "started", "networks", "pid", "exited", "app-box"),
    ]
    assert status[0] == "state=exited"
    assert status[-2:] == ["exited=true", "app-box=3"]


@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 42", 42), ("exit 255", 255), ("kill -TERM $$", -15)]
)
def test_the_exit_code_is_the_stage1s(rkt: Rkt, app: str, script: str, code: int) -> None:
    assert Ran(rkt, app, scripts={"run": f"#!/bin/sh\n{script}\n"}).result.code == code


def test_what_attach_is_given(rkt: Rkt, tmp_path: os.PathLike[str]) -> None:
    """Another program than rkt's own: the flags, an environment of three variables, the pod's directory."""
    rkt.environment["RKT_EXPERIMENT_ATTACH"] = "true"
    attach = '#!/bin/sh\nprintf "%s\\n" "$@"\n/usr/bin/env\ncat\nexit 9\n'
    stage1 = pod_images.stage1(os.path.join(tmp_path, "stage1.aci"), attach=attach)
    image = pod_images.app(os.path.join(tmp_path, "app.aci"), "while :; do sleep 1; done")
    process = rkt.start(INSECURE, "run", f"--stage1-path={stage1}", image)
    while not (running := rkt.ok("list", "--full", "--no-legend").lines) or "running" not in running[0]:
        assert process.poll() is None
    uuid = running[0].split("\t")[0]
    result = rkt("attach", "--mode=stdin,stderr", uuid, input="typed\n")
    assert result.code == 9
    flags, values = result.lines[:8], dict(line.split("=", 1) for line in result.lines[8:-1])
    assert flags == [
        *("--action=custom-attach", "--tty-in=false", "--tty-out=false"),
        *("--stdin=true", "--stdout=false", "--stderr=true", "--app=box", "--debug=false"),
    ]
    assert result.lines[-1] == "typed"
    directory = pod_images.pod_directory(rkt.dir, uuid)
    (pid,) = pod_images.lines(rkt.dir, uuid, "pid")
    assert (values["PATH"], values["RKT_STAGE1_ENTERPID"]) == (rkt.environment["PATH"], pid)
    assert os.access(values["RKT_STAGE1_ENTERCMD"], os.X_OK)
    assert values["RKT_STAGE1_ENTERCMD"].endswith("/enter")
    # What the shell itself adds says where it was started.
    assert values.keys() - {"PATH", "PWD", "OLDPWD", "SHLVL", "_"} == {
        *("RKT_STAGE1_ENTERCMD", "RKT_STAGE1_ENTERPID"),
    }
    assert values["PWD"] == directory
    rkt.ok("stop", "--force", uuid)
    process.communicate(timeout=20)


def test_a_stage1_of_a_binary(rkt: Rkt, app: str) -> None:
    """An entry point in a directory, reached by links that are absolute inside the image."""
    with open(aci.BUSYBOX, "rb") as file:
        program = file.read()
    annotations = [{"name": pod_images.PREFIX + "run", "value": "/bin/run"}]
    image = aci.build(
        f"{rkt.base}/binary.aci",
        aci.manifest("example.com/stage1-binary", app=None, annotations=annotations),
        [
            aci.directory("usr"),
            aci.directory("usr/lib"),
            aci.Entry("usr/lib/true", program, mode=0o755),
            aci.symlink("bin", "/usr/lib"),
            aci.symlink("usr/lib/run", "/usr/lib/true"),
        ],
    )
    assert rkt(INSECURE, "run", f"--stage1-path={image}", app).code == 0


class TestSelection:
    def name_of(self, rkt: Rkt) -> str:
        uuid = rkt.ok("list", "--full", "--no-legend").out.split("\t")[0]
        return str(json.loads("".join(pod_images.lines(rkt.dir, uuid, "stage1/manifest")))["name"])

    @pytest.mark.parametrize(
        "how", ["path", "relative", "url", "hash", "name", "from-dir", "config", "location"]
    )
    def test_each_way(self, rkt: Rkt, app: str, how: str, tmp_path: os.PathLike[str]) -> None:
        image = pod_images.stage1(f"{tmp_path}/chosen.aci", name="example.com/chosen")
        options: dict[str, str] = {}
        if how in ("hash", "name", "config"):
            key = rkt.ok(INSECURE, "fetch", "--full", image).out.strip()
        if how == "path":
            words = [f"--stage1-path={image}"]
        elif how == "relative":
            words = ["--stage1-path=chosen.aci"]
            options["cwd"] = os.fspath(tmp_path)
        elif how == "url":
            words = [f"--stage1-url=file://{image}"]
        elif how == "hash":
            words = [f"--stage1-hash={key[:20]}"]
        elif how == "name":
            words = ["--stage1-name=example.com/chosen:1"]
        elif how == "from-dir":
            self.configure(rkt, "paths", f'"stage1-images":"{tmp_path}"')
            words = ["--stage1-from-dir=chosen.aci"]
        elif how == "config":
            self.configure(rkt, "stage1", '"name":"example.com/chosen","version":"1"')
            words = []
        else:
            self.configure(rkt, "stage1", f'"location":"{image}"')
            words = []
        result = rkt(INSECURE, "run", *words, app, **options)
        assert result.code == 3, result
        assert self.name_of(rkt) == "example.com/chosen"

    def configure(self, rkt: Rkt, kind: str, members: str) -> None:
        directory = os.path.join(rkt.config, f"{kind}.d")
        os.makedirs(directory)
        with open(os.path.join(directory, "x.json"), "w") as file:
            file.write(f'{{"rktKind":"{kind}","rktVersion":"v1",{members}}}')

    def test_two_ways_at_once(self, rkt: Rkt, app: str) -> None:
        result = rkt(INSECURE, "run", "--stage1-name=a.example/b", "--stage1-path=/x", app)
        assert result.code == 254
        assert "mutually exclusive" in result.err

    @pytest.mark.promise("P9")
    def test_a_name_that_leads_nowhere_is_told(self, rkt: Rkt, app: str) -> None:
        result = rkt(INSECURE, "run", "--stage1-name=nowhere.invalid/stage1", app)
        assert result.code == 254
        last = result.err.splitlines()[-1]
        failed = "run: error getting stage1 image nowhere.invalid/stage1: discovery failed: "
        assert last.startswith(f"{failed}cannot get https://nowhere.invalid: ")

    @pytest.mark.promise("P3")
    def test_a_stage1_from_elsewhere_needs_a_signature(self, rkt: Rkt, app: str) -> None:
        key = rkt.ok(INSECURE, "fetch", app).out.strip()
        image = pod_images.stage1(f"{rkt.base}/stage1.aci")
        result = rkt("run", f"--stage1-path={image}", key)
        assert result.code == 254
        assert result.err == (
            f"run: error getting stage1 image: open {image}.asc: no such file or directory\n"
        )

    @pytest.fixture
    def installed(self, rkt: Rkt) -> tuple[str, str]:
        """The program in a prefix of its own, and where the image that comes with it belongs."""
        prefix = os.path.join(rkt.base, "prefix")
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        shutil.copytree(f"{root}/src/rkt", f"{prefix}/lib/rkt/python/rkt")
        os.makedirs(f"{prefix}/bin")
        os.makedirs(f"{prefix}/lib/rkt/stage1-images")
        shutil.copy(f"{root}/bin/rkt", f"{prefix}/bin/rkt")
        return f"{prefix}/bin/rkt", f"{prefix}/lib/rkt/stage1-images/stage1-host.aci"

    @pytest.mark.promise("P3")
    def test_the_one_that_came_with_the_program_needs_none(
        self, rkt: Rkt, app: str, installed: tuple[str, str]
    ) -> None:
        program, image = installed
        prefix = os.path.dirname(os.path.dirname(program))
        pod_images.stage1(image, name="coreos.com/rkt/stage1-host")
        key = rkt.ok(INSECURE, "fetch", app).out.strip()
        words = [program, *rkt.argv("run", key)[1:]]
        assert self.call(rkt, words) == 3
        assert self.name_of(rkt) == "coreos.com/rkt/stage1-host"
        os.unlink(image)
        done = subprocess.run(words, env=rkt.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 254
        assert done.stderr.startswith(
            f"run: error getting stage1 image: no default stage1 image stage1-host.aci in {prefix}/lib"
        )

    def test_a_link_to_the_program_finds_the_same_images(
        self, rkt: Rkt, app: str, installed: tuple[str, str]
    ) -> None:
        program, image = installed
        pod_images.stage1(image, name="coreos.com/rkt/stage1-host")
        link = os.path.join(rkt.base, "link")
        os.symlink(program, link)
        assert self.call(rkt, [link, *rkt.argv(INSECURE, "run", app)[1:]]) == 3

    def call(self, rkt: Rkt, words: list[str]) -> int:
        return subprocess.run(words, env=rkt.environment, stdin=subprocess.DEVNULL, check=False).returncode

    def test_a_newer_file_replaces_the_imported_one(
        self, rkt: Rkt, app: str, installed: tuple[str, str]
    ) -> None:
        """As after an upgrade that kept the version: the store has the old image of the same name."""
        program, image = installed
        words = [program, *rkt.argv(INSECURE, "run", app)[1:]]
        labels = [{"name": "version", "value": "1.30.0"}, *aci.LABELS[1:]]
        annotations = [{"name": pod_images.PREFIX + "run", "value": "/run"}]
        manifest = aci.manifest(
            "coreos.com/rkt/stage1-host", labels=labels, app=None, annotations=annotations
        )
        for code in (11, 12):
            script = f"#!/bin/sh\nexit {code}\n"
            aci.build(image, manifest, [aci.Entry("run", script.encode(), mode=0o755)])
            assert self.call(rkt, words) == code
            assert self.call(rkt, words) == code
        assert rkt.ok("image", "list", "--no-legend").out.count("stage1-host") == 2
