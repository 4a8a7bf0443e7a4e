"""Pods of the systemd flavor with user IDs of their own: ``--private-users``."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from systemd_pod import Running, leftovers, lines, pod_directory, pods, shell, statuses

from support import aci, driver, processes
from support.waiting import until

MODES = pytest.mark.parametrize("mode", [[], ["--no-overlay"]], ids=["overlay", "copy"])


@pytest.fixture(autouse=True)
def _clean(rkt: driver.Rkt) -> Iterator[None]:
    """Every pod of a test is collected at its end, and nothing of it is left."""
    yield
    uuids = pods(rkt)
    rkt.clean()
    assert leftovers(rkt, uuids) == []


@pytest.fixture
def owned(tmp_path: os.PathLike[str]) -> str:
    """An image whose files belong to several users, one of them set-user-ID."""
    return aci.busybox(
        os.path.join(os.fspath(tmp_path), "owned.aci"),
        "example.com/owned",
        entries=[
            aci.Entry("srv/page", b"hello\n", uid=1000, gid=1001, mode=0o640),
            aci.Entry("srv/last", b"", uid=65535, gid=65535),
            aci.Entry("srv/setuid", b"#!/bin/sh\n", mode=0o4755),
        ],
        app=aci.app("/bin/sh"),
    )


def _range(rkt: driver.Rkt, uuid: str = "") -> tuple[int, int]:
    directory = os.path.join(rkt.dir, "pods", "run", uuid) if uuid else pod_directory(rkt)
    with open(os.path.join(directory, "private-users-prepared")) as file:
        first, _, count = file.read().strip().partition(":")
    return int(first), int(count)


def _read(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/{name}") as file:
        return file.read()


@pytest.mark.promise("P5", "P8")
def test_every_process_has_ids_of_the_range_only(rkt: driver.Rkt, box: str) -> None:
    """pid 1, the journal, the apps, and commands entered beside a running app and after its end."""
    words = [box, "--name=one", "--exec=/bin/sleep", "--", "1000", "---"]
    words += [box, "--name=two", "--user=1000", "--group=1001", "--exec=/bin/sleep", "--", "1001", "---"]
    words += [box, "--name=ended", "--exec=/bin/true"]
    with Running(rkt, "--private-users", *words) as pod:
        first, count = _range(rkt, pod.uuid)
        ended = os.path.join(pod.directory, "stage1/rootfs/rkt/status/ended")
        until(lambda: os.path.exists(ended))
        entered = [
            rkt.start("enter", f"--app={app}", pod.uuid, "/bin/sleep", seconds)
            for app, seconds in (("one", "1002"), ("ended", "1003"))
        ]
        try:
            wanted = {f"/bin/sleep {seconds}" for seconds in range(1000, 1004)}
            tops = [pod.supervisor, *(process.pid for process in entered)]
            processes.find_all(wanted, *tops)
            found = processes.commands(*tops)
            namespace = os.readlink(f"/proc/{pod.first}/ns/user")
            assert namespace != os.readlink("/proc/self/ns/user")
            for command, pid in found.items():
                assert _read(pid, "uid_map").split() == ["0", str(first), str(count)], command
                assert _read(pid, "gid_map").split() == ["0", str(first), str(count)], command
                assert os.readlink(f"/proc/{pid}/ns/user") == namespace, command
                for line in _read(pid, "status").splitlines():
                    name, _, values = line.partition(":\t")
                    if name in ("Uid", "Gid"):
                        ids = {int(word) - first for word in values.split()}
                        own = {"Uid": 1000, "Gid": 1001}[name] if command == "/bin/sleep 1001" else 0
                        assert ids == {own}, (command, line)
        finally:
            for process in entered:
                driver.end(process)


@pytest.mark.promise("P8")
@MODES
def test_files_of_the_image_have_their_owners(rkt: driver.Rkt, owned: str, mode: list[str]) -> None:
    script = "cd /srv; stat -c '%u:%g %a %n' page last setuid /etc/passwd /dev/null; cat page; exit 5"
    result = shell(rkt, owned, script, "--private-users", *mode)
    assert result.code == 5, result
    assert lines(result) == [
        "1000:1001 640 page",
        "65535:65535 644 last",
        "0:0 4755 setuid",
        "0:0 644 /etc/passwd",
        "0:0 666 /dev/null",
        "hello",
    ]
    assert statuses(rkt) == {"owned": "5"}


@pytest.mark.promise("P8")
def test_no_file_is_copied_or_chowned(rkt: driver.Rkt, owned: str) -> None:
    """The pod's layer has the directories and files that a pod adds, and no file of the image."""
    result = shell(rkt, owned, "cat /srv/page; touch /new", "--private-users")
    assert result.code == 0, result
    first, count = _range(rkt)
    overlays = os.path.join(pod_directory(rkt), "overlay")
    files = []
    for directory, names, others in os.walk(overlays):
        for name in names + others:
            status = os.lstat(os.path.join(directory, name))
            part = os.path.relpath(os.path.join(directory, name), overlays).split("/")
            if len(part) > 3 and part[1] == "upper":
                assert first <= status.st_uid < first + count, part
                assert first <= status.st_gid < first + count, part
            if part[1:3] == ["upper", "owned"] and name in others:
                files.append("/".join(part[3:]))
    assert sorted(files) == ["etc/hostname", "etc/hosts", "etc/mtab", "new", "run/systemd/notify"]
    store = os.path.join(rkt.dir, "cas", "tree")
    owners = {
        os.lstat(os.path.join(store, tree, "rootfs/srv", name)).st_uid
        for tree in os.listdir(store)
        if os.path.isdir(os.path.join(store, tree, "rootfs/srv"))
        for name in ("page", "last", "setuid")
    }
    assert owners == {0, 1000, 65535}


@pytest.mark.promise("P8")
@MODES
def test_set_user_id_of_the_image_is_none_of_the_host(rkt: driver.Rkt, owned: str, mode: list[str]) -> None:
    """Also of what the pod writes: nothing below the pod's directory is set-user-ID for a user of ours."""
    script = "cp /bin/busybox /own; chmod 4755 /own /vol /vol; cp /own /vol/own; chmod 4755 /vol/own"
    volume = ["--volume=vol,kind=empty", "--mount=volume=vol,target=/vol"]
    result = shell(rkt, owned, script, "--private-users", *mode, *volume)
    assert result.code == 0, result
    first, count = _range(rkt)
    found = []
    for directory, _, names in os.walk(pod_directory(rkt)):
        for name in names:
            status = os.lstat(os.path.join(directory, name))
            if stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_ISUID | stat.S_ISGID):
                found.append(name)
                assert first <= status.st_uid < first + count
                assert first <= status.st_gid < first + count
    assert {"own", "setuid"} <= set(found)


@pytest.mark.promise("P8")
@MODES
def test_volumes_of_the_host_keep_its_owners(rkt: driver.Rkt, box: str, tmp_path, mode: list[str]) -> None:
    """Inside as outside, for what is there and for what the apps write; read-only ones too."""
    for name in ("rw", "ro"):
        os.mkdir(tmp_path / name)
        (tmp_path / name / "file").write_text("x")
        os.chown(tmp_path / name / "file", 1000, 1001)
        os.chown(tmp_path / name, 1000, 1001)
    words = []
    for name, read_only in (("rw", "false"), ("ro", "true")):
        words.append(f"--volume={name},kind=host,source={tmp_path}/{name},readOnly={read_only}")
        words.append(f"--mount=volume={name},target=/data/{name}")
    script = (
        "cd /data; stat -c %u:%g:%n ro rw ro/file rw/file; echo y >rw/new; echo y >>rw/file; id -u;"
        "echo y >ro/file || echo refused"
    )
    user = ["--user=1000", "--group=1001"]
    words += ["--private-users", *mode, box, *user, "--exec=/bin/sh", "--", "-c", script]
    result = rkt("--insecure-options=image", "run", "--net=none", *words)
    assert result.code == 0, result
    assert [line for line in lines(result) if "nonexistent" not in line and "create" not in line] == [
        *(f"1000:1001:{name}" for name in ("ro", "rw", "ro/file", "rw/file")),
        "1000",
        "refused",
    ]
    status = os.stat(tmp_path / "rw" / "new")
    assert (status.st_uid, status.st_gid) == (1000, 1001)
    assert (tmp_path / "rw" / "file").read_text() == "xy\n"


@pytest.mark.promise("P8")
def test_a_volume_that_cannot_be_mapped_is_given_as_it_is(rkt: driver.Rkt, box: str) -> None:
    """procfs and sysfs know no id-mapped mounts: the pod says so and sees nobody's files."""
    volume = ["--volume=sys,kind=host,source=/sys/kernel,readOnly=true", "--mount=volume=sys,target=/s"]
    result = shell(rkt, box, "stat -c %u:%g /s", "--private-users", *volume)
    assert result.code == 0, result
    assert lines(result) == ["65534:65534"]
    assert 'warning: volume "sys": the file system of /sys/kernel, or one below it' in result.err


@pytest.mark.promise("P8")
def test_empty_volumes_belong_to_the_pod(rkt: driver.Rkt, box: str) -> None:
    volume = ["--volume=e,kind=empty,mode=0750,uid=1000,gid=1001", "--mount=volume=e,target=/e"]
    result = shell(rkt, box, "stat -c %u:%g:%a /e", "--private-users", *volume)
    assert lines(result) == ["1000:1001:750"], result
    first, _ = _range(rkt)
    status = os.stat(os.path.join(pod_directory(rkt), "sharedVolumes/e"))
    assert (status.st_uid - first, status.st_gid - first) == (1000, 1001)


@pytest.mark.promise("P8")
def test_ids_outside_the_range_are_refused(rkt: driver.Rkt, box: str) -> None:
    words = ["--private-users", box, "--user=65536", "--exec=/bin/true"]
    result = rkt("--insecure-options=image", "run", "--net=none", *words)
    assert result.code == 254, result
    assert 'user "65536" is outside the pod\'s range of 65536 ids' in result.err


@pytest.mark.promise("P8")
def test_a_user_named_by_a_file_is_its_owner_inside(rkt: driver.Rkt, owned: str) -> None:
    words = ["--private-users", owned, "--user=/srv/page", "--group=/srv/page"]
    result = rkt(
        *("--insecure-options=image", "run", "--net=none", *words),
        *("--exec=/bin/sh", "--", "-c", "id -u; id -g; cat /srv/page"),
    )
    assert lines(result) == ["1000", "1001", "hello"], result


@pytest.mark.promise("P8")
def test_ranges_of_pods_in_parallel_do_not_overlap(rkt: driver.Rkt, box: str) -> None:
    assert rkt("--insecure-options=image", "fetch", box).code == 0

    def one(_: int) -> str:
        return lines(shell(rkt, box, "cat /proc/self/uid_map", "--private-users"))[0]

    with ThreadPoolExecutor(4) as pool:
        maps = [tuple(map(int, text.split())) for text in pool.map(one, range(4))]
    assert len({first for _, first, _ in maps}) == 4
    assert all(inside == 0 and first % 65536 == 0 and count == 65536 for inside, first, count in maps)
    assert {first for _, first, _ in maps} == {_range(rkt, uuid)[0] for uuid in pods(rkt)}


@pytest.mark.promise("P5", "P8")
def test_the_journal_of_the_pod_is_written(rkt: driver.Rkt, box: str) -> None:
    shell(rkt, box, "echo a line for the journal", "--private-users")
    first, _ = _range(rkt)
    upper = os.path.join(pod_directory(rkt), "overlay")
    found = [
        os.path.join(directory, name)
        for directory, _, names in os.walk(upper)
        for name in names
        if name == "system.journal"
    ]
    assert found
    with open(found[0], "rb") as file:
        assert b"a line for the journal" in file.read()
    assert os.stat(found[0]).st_uid == first


@pytest.mark.promise("P8")
@pytest.mark.parametrize("user", ["0", "1000"])
def test_ports_below_1024(rkt: driver.Rkt, box: str, user: str) -> None:
    """The network belongs to the host's root, whatever the capabilities: in it every port is everybody's."""
    script = (
        "mkdir /tmp/www; echo served >/tmp/www/index.html; httpd -p 80 -h /tmp/www || exit 9; "
        "wget -q -O - http://127.0.0.1:80/index.html; cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
    )
    words = ["--private-users", box, f"--user={user}", "--exec=/bin/sh", "--", "-c", script]
    result = rkt("--insecure-options=image", "run", "--net=none", *words)
    assert lines(result) == ["served", "0"], result


@pytest.mark.promise("P4")
@pytest.mark.parametrize("users", [[], ["--private-users"]], ids=["host-ids", "own-ids"])
@pytest.mark.parametrize("user", ["0", "1000"])
def test_each_app_has_terminals_of_its_own(rkt: driver.Rkt, owned: str, users: list[str], user: str) -> None:
    """A new terminal is the first, belongs to who opened it, and is not seen by the app beside it."""
    look = (
        "touch /tmp/there; until [ -e /shared/opened ]; do sleep 0.05; done; ls /dev/pts | xargs echo beside:"
    )
    open_one = "exec 3<>/dev/ptmx; touch /shared/opened; echo own: $(ls -ln /dev/pts/0); ls -n -d /dev/pts"
    both = ["--exec=/bin/sh", f"--user={user}", f"--group={user}", "--mount=volume=shared,target=/shared"]
    done = rkt(
        *("--insecure-options=image", "run", "--net=none", *users),
        "--volume=shared,kind=empty,mode=0777",
        *(owned, "--name=own", *both, "--", "-c", open_one, "---"),
        *(owned, "--name=beside", *both, "--", "-c", look),
    )
    assert done.code == 0, done
    said = sorted(line.partition("]: ")[2].split() for line in done.lines)
    assert said[0] == ["beside:", "ptmx"]
    assert [*said[2][:5], said[2][-1]] == ["own:", "crw--w----", "1", user, "5", "/dev/pts/0"]
    assert said[1][2:4] == ["0", "0"]
