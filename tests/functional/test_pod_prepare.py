"""prepare, run-prepared, list, status, cat-manifest: the real program with a small stage1."""

from __future__ import annotations

import concurrent.futures
import glob
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator

import pytest

from functional import pod_images
from support import aci, machine
from support.driver import Result, Rkt

INSECURE = "--insecure-options=image"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = os.fspath(tmp_path_factory.mktemp("images"))
    return {
        "stage1": pod_images.stage1(f"{directory}/stage1.aci"),
        "app": pod_images.app(f"{directory}/app.aci", "exit 3"),
        "sleep": pod_images.app(f"{directory}/sleep.aci", "exec sleep 60", "example.com/sleep"),
        "www": aci.busybox(
            f"{directory}/www.aci",
            "example.com/www",
            app=aci.app(
                "/bin/sleep",
                "30",
                environment=[{"name": "A", "value": "1"}],
                mountPoints=[{"name": "data", "path": "/data"}],
                ports=[{"name": "http", "protocol": "tcp", "port": 80, "count": 1, "socketActivated": False}],
            ),
        ),
    }


@pytest.fixture
def stage1(images: dict[str, str]) -> str:
    return f"--stage1-path={images['stage1']}"


def prepare(rkt: Rkt, *words: str) -> str:
    uuid = rkt.ok(INSECURE, "prepare", *words).out.strip()
    assert len(uuid) == 36
    return uuid


def state_of(rkt: Rkt) -> dict[str, set[str]]:
    """The pods, images and trees of the data directory, files not finished, mounts."""
    found: dict[str, set[str]] = {}
    for top in ("pods/*/*", "cas/blob/*/*/*", "cas/imageManifest/*/*/*", "cas/tree/*", "cas/tmp/*", "tmp/*"):
        found[top] = set(glob.glob(os.path.join(rkt.dir, top), include_hidden=True))
    found["mounts"] = {mount for mount in machine.Snapshot().mounts if mount.startswith(rkt.base)}
    return found


def test_prepare_prints_the_uuid_and_nothing_else(rkt: Rkt, images: dict[str, str], stage1: str) -> None:
    result = rkt.ok(INSECURE, "prepare", "--quiet", stage1, images["app"])
    assert len(result.out) == 37
    assert result.err == ""


def test_what_rkt_printed(rkt: Rkt, images: dict[str, str], stage1: str) -> None:
    uuid = prepare(rkt, stage1, images["www"], "--name=web", "--volume=data,kind=empty,mode=0700")
    manifest = rkt.ok("cat-manifest", uuid).out
    assert manifest.startswith(
        '{\n\t"acVersion": "1.30.0",\n\t"acKind": "PodManifest",\n\t"apps": [\n\t\t{\n'
    )
    assert manifest.endswith(
        '\t"isolators": null,\n\t"annotations": [\n\t\t{\n\t\t\t"name": "coreos.com/rkt/stage1/mutable",\n'
        '\t\t\t"value": "false"\n\t\t}\n\t],\n\t"ports": []\n}\n'
    )
    with open(os.path.join(pod_images.pod_directory(rkt.dir, uuid), "pod")) as file:
        assert file.read() == rkt.ok("cat-manifest", "--pretty-print=false", uuid).out.strip()
    listed = rkt.ok("list").lines
    *cells, created, started, network = listed[1].split("\t")[:7]
    assert [*cells, started, network] == [uuid[:8], "web", "example.com/www:1", "prepared", "", ""]
    assert re.fullmatch(r"now|\d+ seconds? ago", created)
    # A column is as wide as its widest cell, in steps of eight.
    gap = "\t" * (1 + len(created) // 8)
    assert listed[0] == f"UUID\t\tAPP\tIMAGE NAME\t\tSTATE\t\tCREATED{gap}STARTED\tNETWORKS"
    full = rkt.ok("list", "--full", "--no-legend").out
    assert full.startswith(f"{uuid}\tweb\texample.com/www:1\tsha512-")
    assert rkt.ok("status", uuid[:8].upper()).lines[0] == "state=prepared"
    value = json.loads(rkt.ok("status", "--format=json", uuid).out)
    assert list(value) == ["name", "state", "app_names", "apps", "created_at"]
    assert value["apps"][0]["state"] == "created"
    assert json.loads(rkt.ok("list", "--format=json").out) == [value]
    assert rkt.ok("list", "--format=json-pretty").out.startswith('[\n\t{\n\t\t"name": "')


def test_an_empty_list(rkt: Rkt) -> None:
    assert rkt.ok("list").out == "UUID\tAPP\tIMAGE NAME\tSTATE\tCREATED\tSTARTED\tNETWORKS\n"
    assert rkt.ok("list", "--no-legend").out == "\n"
    assert rkt.ok("list", "--format=json").out == "null\n"


MODES = {
    ".": 0o40750,
    "appsinfo": 0o40750,
    "appsinfo/one": 0o40750,
    "appsinfo/one/manifest": 0o100640,
    "appsinfo/one/treeStoreID": 0o100640,
    "appsinfo/one/verified": 0o100640,
    "overlay-prepared": 0o100644,
    "pod": 0o100640,
    "pod-created": 0o100640,
    "pod.lck": 0o100600,
    "stage1": 0o40750,
    "stage1/manifest": 0o100640,
    "stage1TreeStoreID": 0o100640,
}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_directory_of_a_prepared_pod(rkt: Rkt, images: dict[str, str], stage1: str, umask: int) -> None:
    uuid = rkt.ok(INSECURE, "prepare", stage1, images["app"], "--name=one", umask=umask).out.strip()
    directory = pod_images.pod_directory(rkt.dir, uuid)
    found = {}
    for parent, directories, names in os.walk(directory):
        for name in (*directories, *names):
            path = os.path.join(parent, name)
            found[os.path.relpath(path, directory)] = os.lstat(path).st_mode & ~stat.S_ISGID
    found["."] = os.stat(directory).st_mode & ~stat.S_ISGID
    assert found == MODES


def test_the_directory_of_a_running_pod(rkt: Rkt, images: dict[str, str], stage1: str) -> None:
    assert rkt(INSECURE, "run", stage1, images["app"], "--name=one").code == 3
    uuid = rkt.ok("list", "--full", "--no-legend").out.split("\t")[0]
    directory = pod_images.pod_directory(rkt.dir, uuid)

    def mode(name: str) -> str:
        return f"{stat.S_IMODE(os.lstat(os.path.join(directory, name)).st_mode) & ~stat.S_ISGID:o}"

    app = pod_images.lines(rkt.dir, uuid, "appsinfo/one/treeStoreID")[0]
    own = pod_images.lines(rkt.dir, uuid, "stage1TreeStoreID")[0]
    modes = {
        "overlay": "750",
        f"overlay/{app}": "750",
        f"overlay/{app}/upper": "755",
        f"overlay/{app}/work": "750",
        f"overlay/{app}/upper/one": "755",
        f"overlay/{app}/work/one": "750",
        f"overlay/{own}/upper": "755",
        f"overlay/{own}/work": "750",
        f"overlay/{own}/upper/opt/stage2": "755",
        f"overlay/{own}/upper/opt/stage2/one": "750",
        f"overlay/{own}/upper/opt/stage2/one/manifest": "644",
        f"overlay/{own}/upper/opt/stage2/one/rootfs": "755",
        f"overlay/{own}/upper/rkt/status": "755",
        "stage1/rootfs": "755",
    }
    assert {name: mode(name) for name in modes} == modes
    assert os.readlink(os.path.join(directory, f"overlay/{app}/upper/one/etc/mtab")) == "../proc/self/mounts"
    with open(os.path.join(directory, f"overlay/{own}/upper/opt/stage2/one/manifest")) as file:
        assert json.load(file)["name"] == "example.com/box"


BAD = [
    (["/nonexistent.aci"], "open /nonexistent.aci: no such file or directory"),
    (["{notes}"], "not"),
    (["{app}", "{app}"], "error setting up stage0: multiple apps with name box"),
    (["{app}", "--port=nosuch:80"], 'port name "nosuch" could not be found in any apps'),
    (["{app}", "--mount=volume=v,target=/x"], 'dangling mount point "/x": volume "v" not found'),
    (["{nolabels}"], "error setting up stage0: missing os label in the image manifest"),
    (["{noapp}"], "has no app section and --exec argument is not provided"),
    ([], "must provide at least one image or specify the pod manifest"),
    (["--pod-manifest=/nonexistent"], "open /nonexistent: no such file or directory"),
    (["--pod-manifest=/nonexistent", "x"], "conflicting flags set with --pod-manifest (see --help)"),
    (["--pod-manifest={empty}"], "pod must contain at least one application"),
    (["--stage1-path=/nonexistent.aci", "{app}"], "error getting stage1 image: open /nonexistent.aci"),
    (["--stage1-path={app}", "{app}"], 'stage1 has no entry point "run"'),
    (["--stage1-hash=sha512-0000", "{app}"], "error getting stage1 image: no image IDs found"),
    (["--stage1-from-dir=nosuch.aci", "{app}"], "error getting stage1 image: open "),
    (["--stage1-from-dir=../x.aci", "{app}"], "is not the name of a file in the stage1 images directory"),
    (["{app}", "--caps-retain=CAP_KILL", "--caps-remove=CAP_KILL"], "cannot use both --caps-retain and"),
]


@pytest.mark.promise("P9")
@pytest.mark.parametrize("command", ["prepare", "run"])
@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_input_leaves_everything_as_it_was(
    rkt: Rkt, images: dict[str, str], tmp_path: os.PathLike[str], command: str, words: list[str], message: str
) -> None:
    files = {
        "notes": f"{tmp_path}/notes.aci",
        "empty": f"{tmp_path}/empty.json",
        "nolabels": aci.busybox(f"{tmp_path}/nolabels.aci", labels=[]),
        "noapp": aci.busybox(f"{tmp_path}/noapp.aci", app=None),
        **images,
    }
    with open(files["notes"], "w") as notes:
        notes.write("these are notes and no archive\n" * 100)
    with open(files["empty"], "w") as empty:
        empty.write('{"acVersion":"0.8.11","acKind":"PodManifest","apps":[]}')
    rkt.ok(INSECURE, "fetch", images["stage1"])
    rkt.ok(INSECURE, "fetch", images["app"])
    for name in ("nolabels", "noapp"):
        rkt.ok(INSECURE, "fetch", files[name])
    before = state_of(rkt)
    filled = [word.format(**files) for word in words]
    chosen = (
        [] if any(word.startswith("--stage1") for word in words) else [f"--stage1-path={images['stage1']}"]
    )
    result = rkt(INSECURE, command, *chosen, *filled)
    assert result.code == 254
    assert message in result.err
    assert result.err.startswith(f"{command}: ")
    assert len(result.err.splitlines()) == 1 + ("image stage1" in result.err)
    assert state_of(rkt) == before


@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port=http:80", "--net=none"], "--port flag does not work with 'none' networking"),
        (["--port=http:80", "--net=host"], "--port flag does not work with 'host'"),
        (["--dns=x"], "error with dns flags: Invalid IP passed to --dns: x"),
        (["--hosts-entry=x"], "error with dns flags: Did not understand --hosts-entry x"),
        (["--ipc=x"], "--ipc"),
        (["--interactive", "{app}"], "interactive option only supports one image"),
        (["--mds-register", "--net=none"], "--mds-register does not work with 'none' networking"),
        (["--mds-register"], "could not reach the metadata service."),
        (["--uuid-file-save=/nonexistent/x"], "error saving pod UUID to file: "),
    ],
)
def test_bad_flags_of_run(
    rkt: Rkt, images: dict[str, str], stage1: str, words: list[str], message: str
) -> None:
    rkt.ok(INSECURE, "fetch", images["stage1"])
    rkt.ok(INSECURE, "fetch", images["www"])
    before = state_of(rkt)
    result = rkt(INSECURE, "run", stage1, images["www"], *(word.format(**images) for word in words))
    assert result.code == 254
    assert message in result.err
    assert state_of(rkt) == {**before, "cas/tree/*": state_of(rkt)["cas/tree/*"]}


def test_a_run_that_failed_by_its_stage1_leaves_nothing(
    rkt: Rkt, images: dict[str, str], tmp_path: os.PathLike[str]
) -> None:
    broken = pod_images.stage1(f"{tmp_path}/broken.aci", run="#!/nonexistent/interpreter\n")
    result = rkt(INSECURE, "run", f"--stage1-path={broken}", images["app"])
    assert result.code == 254
    assert result.err.startswith("run: error executing stage1 entrypoint: ")
    assert state_of(rkt)["pods/*/*"] == state_of(rkt)["mounts"] == set()


def test_a_prepared_pod_whose_start_failed_can_be_tried_again(
    rkt: Rkt, images: dict[str, str], tmp_path: os.PathLike[str]
) -> None:
    needs = f"{tmp_path}/interpreter"
    broken = pod_images.stage1(f"{tmp_path}/broken.aci", run=f"#!{needs}\n")
    uuid = prepare(rkt, f"--stage1-path={broken}", images["app"])
    before = state_of(rkt)
    result = rkt("run-prepared", uuid)
    assert (result.code, result.out) == (254, "")
    assert rkt.ok("status", uuid).lines[0] == "state=prepared"
    assert state_of(rkt) == before
    with open(needs, "w") as file:
        file.write("#!/bin/sh\nexit 5\n")
    os.chmod(needs, 0o755)
    os.rename(needs, needs + ".script")
    os.symlink("/bin/false", needs)
    assert rkt("run-prepared", uuid).code == 1
    assert rkt.ok("status", uuid).lines[0] == "state=exited"


def test_run_prepared_refuses_what_is_not_prepared(rkt: Rkt, images: dict[str, str], stage1: str) -> None:
    uuid = prepare(rkt, stage1, images["app"])
    assert rkt("run-prepared", uuid).code == 3
    result = rkt("run-prepared", uuid)
    assert (result.code, result.err) == (254, f'run-prepared: pod "{uuid}" is not prepared\n')
    assert rkt("run-prepared", "zz").err == (
        'run-prepared: problem retrieving pod: no matches found for "zz"\n'
    )
    two = prepare(rkt, stage1, images["app"], "--name=a", images["app"], "--name=b")
    assert "interactive option only supports" in rkt("run-prepared", "--interactive", two).err


@pytest.mark.promise("P2")
def test_of_many_that_run_one_prepared_pod_exactly_one_wins(
    rkt: Rkt, images: dict[str, str], stage1: str
) -> None:
    for _ in range(3):
        uuid = prepare(rkt, stage1, images["app"])
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            results = list(pool.map(lambda _: rkt("run-prepared", uuid), range(6)))  # noqa: B023
        assert sorted(result.code for result in results) == [3, 254, 254, 254, 254, 254]
        for result in results:
            if result.code == 254:
                assert result.err == f'run-prepared: pod "{uuid}" is not prepared\n'


@pytest.mark.promise("P2")
def test_list_does_not_wait_for_a_pod_being_prepared(rkt: Rkt, images: dict[str, str], stage1: str) -> None:
    """The pod's directory is locked by this test, as its maker would."""
    import fcntl

    uuid = prepare(rkt, stage1, images["app"])
    path = pod_images.pod_directory(rkt.dir, uuid)
    moved = path.replace("/prepared/", "/prepare/")
    os.rename(path, moved)
    fd = os.open(moved, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert "preparing" in rkt.ok("list", timeout=60).out
    assert json.loads(rkt.ok("list", "--format=json", timeout=60).out)[0]["state"] == "preparing"
    result = rkt("rm", uuid, timeout=60)
    assert result.err.startswith(f'rm: pod "{uuid}" is currently being prepared\n')
    os.close(fd)
    result = rkt.ok("rm", uuid)
    assert result.err == f'rm: moving failed prepare "{uuid}" to garbage\n'
    assert result.out == f'"{uuid}"\n'


def test_pods_that_cannot_be_read_are_reported_after_the_others(
    rkt: Rkt, images: dict[str, str], stage1: str
) -> None:
    good, bad = (prepare(rkt, stage1, images["app"]) for _ in range(2))
    with open(os.path.join(pod_images.pod_directory(rkt.dir, bad), "pod"), "w") as file:
        file.write("{")
    result = rkt("list")
    assert result.code == 0
    assert good[:8] in result.out
    assert bad[:8] not in result.out
    assert result.err.splitlines()[:2] == [
        "list: 1 error(s) encountered when listing pods:",
        "list: ----------------------------------------",
    ]
    assert f"pod {bad} has an invalid manifest" in result.err
    assert result.err.endswith("list: misc:\nlist:   rkt's appc version: 0.8.11\nlist: \n")
    assert rkt.ok("rm", bad).out == f'"{bad}"\n'


def test_foreign_things_among_the_pods_do_no_harm(rkt: Rkt, images: dict[str, str], stage1: str) -> None:
    uuid = prepare(rkt, stage1, images["app"])
    run = os.path.join(rkt.dir, "pods", "run")
    os.mkdir(os.path.join(run, "lost+found"))
    os.symlink("/etc", os.path.join(run, "00000000-0000-4000-8000-000000000000"))
    with open(os.path.join(run, "11111111-0000-4000-8000-000000000000"), "w"):
        pass
    result = rkt("list", "--no-legend")
    assert result.code == 0
    assert [line[:8] for line in result.lines] == [uuid[:8]]
    assert "2 error(s) encountered when listing pods" in result.err
    rkt("gc", "--grace-period=0s", "--expire-prepared=0s")
    assert sorted(os.listdir(run)) == [
        "00000000-0000-4000-8000-000000000000",
        "11111111-0000-4000-8000-000000000000",
        "lost+found",
    ]
    assert os.path.exists("/etc/passwd")
    for name in os.listdir(run)[:]:
        path = os.path.join(run, name)
        if os.path.isdir(path) and not os.path.islink(path):
            os.rmdir(path)
        else:
            os.unlink(path)


@pytest.mark.promise("P2")
def test_a_thousand_pods(rkt: Rkt, images: dict[str, str], stage1: str) -> None:
    uuid = prepare(rkt, stage1, images["app"])
    source = pod_images.pod_directory(rkt.dir, uuid)
    run = os.path.join(rkt.dir, "pods", "run")
    names = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(1000)]
    for name in names:
        shutil.copytree(source, os.path.join(run, name), symlinks=True)
    result = rkt.ok("list", "--no-legend")
    assert len(result.lines) == 1001
    assert result.lines == sorted(result.lines)
    for name in names:
        shutil.rmtree(os.path.join(run, name))


class TestPodManifest:
    def run(self, rkt: Rkt, stage1: str, value: object) -> Result:
        path = os.path.join(rkt.base, "manifest.json")
        with open(path, "w") as file:
            json.dump(value, file)
        return rkt(INSECURE, "run", stage1, f"--pod-manifest={path}")

    def test_by_id_and_by_name(self, rkt: Rkt, images: dict[str, str], stage1: str) -> None:
        key = rkt.ok(INSECURE, "fetch", "--full", images["app"]).out.strip()
        result = self.run(
            rkt,
            stage1,
            {
                "acVersion": "0.8.11",
                "acKind": "PodManifest",
                "apps": [
                    {"name": "a", "image": {"id": key}},
                    {"name": "b", "image": {"name": "example.com/box"}},
                ],
            },
        )
        assert result.code == 3
        value = json.loads(rkt.ok("list", "--format=json").out)[0]
        assert [app["exit_code"] for app in value["apps"]] == [3, 3]
        assert [app["image_id"] for app in value["apps"]] == [key, key]

    def test_an_image_that_is_not_there(self, rkt: Rkt, images: dict[str, str], stage1: str) -> None:
        result = self.run(
            rkt,
            stage1,
            {
                "acVersion": "0.8.11",
                "acKind": "PodManifest",
                "apps": [{"name": "b", "image": {"name": "example.com/nosuch"}}],
            },
        )
        assert result.code == 254
        assert "cannot find aci satisfying name" in result.err


class TestCopyMode:
    def test_the_image_is_copied(self, rkt: Rkt, images: dict[str, str], stage1: str) -> None:
        assert rkt(INSECURE, "run", "--no-overlay", stage1, images["app"]).code == 3
        uuid = rkt.ok("list", "--full", "--no-legend").out.split("\t")[0]
        directory = pod_images.pod_directory(rkt.dir, uuid)
        assert not os.path.exists(os.path.join(directory, "overlay-prepared"))
        assert not os.path.exists(os.path.join(directory, "appsinfo/box/treeStoreID"))
        assert os.path.isfile(os.path.join(directory, "stage1/rootfs/opt/stage2/box/rootfs/bin/busybox"))
        assert os.path.isfile(os.path.join(directory, "stage1/rootfs/opt/stage2/box/manifest"))
        assert os.path.islink(os.path.join(directory, "stage1/rootfs/opt/stage2/box/rootfs/etc/mtab"))
        assert "app-box=3\n" in rkt.ok("status", uuid).out
        assert not [mount for mount in machine.Snapshot().mounts if rkt.dir in mount]

    def test_fall_back_where_overlay_is_not_possible(
        self, rkt: Rkt, images: dict[str, str], stage1: str, overlay_directory: str
    ) -> None:
        rkt.dir = overlay_directory
        result = rkt(INSECURE, "run", stage1, images["app"])
        assert result.code == 3
        assert 'run: disabling overlay support: "unsupported filesystem overlayfs"\n' in result.err
        uuid = prepare(rkt, stage1, images["app"])
        with open(os.path.join(pod_images.pod_directory(rkt.dir, uuid), "overlay-prepared"), "w"):
            pass
        assert rkt("run-prepared", uuid).err == (
            "run-prepared: unable to run prepared overlay-enabled pod: overlay not supported: "
            "unsupported filesystem overlayfs\n"
        )

    @pytest.fixture
    def overlay_directory(self, tmp_path: os.PathLike[str]) -> Iterator[str]:
        """A data directory on an overlay, which cannot hold the upper layer of another."""
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(os.path.join(tmp_path, name))
        target = os.path.join(tmp_path, "merged")
        options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", target], check=True)
        yield os.path.join(target, "data")
        subprocess.run(["umount", target], check=True)


@pytest.mark.promise("P9")
def test_no_root(rkt: Rkt, images: dict[str, str]) -> None:
    for words in (["run", "x"], ["prepare", "x"], ["run-prepared", "x"], ["enter", "x"], ["gc"], ["rm", "x"]):
        result = rkt(*words, user=65534)
        assert (result.code, result.err) == (254, f"{words[0]}: cannot run as unprivileged user\n")


@pytest.mark.promise("P9")
def test_a_data_directory_that_cannot_be_written(rkt: Rkt, images: dict[str, str], stage1: str) -> None:
    rkt.dir = "/proc/rkt"
    result = rkt(INSECURE, "prepare", stage1, images["app"])
    assert result.code == 254
    assert result.err == "prepare: mkdir /proc/rkt: no such file or directory\n"
