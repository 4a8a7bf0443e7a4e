"""Volumes under both flavors: what can be one, where it can be, who may write, what stays out of reach."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator

import pod_manifests as manifests
import pytest
from flavors import Flavor

from support import aci, driver, machine

pytest_plugins = ("flavor_fixtures",)


def host(source: str, *options: str, name: str = "v") -> str:
    return ",".join((f"--volume={name},kind=host,source={source}", *options))


def mount(target: str, name: str = "v") -> str:
    return f"--mount=volume={name},target={target}"


@pytest.fixture
def source(tmp_path: os.PathLike[str]) -> str:
    """A directory of the host with a file."""
    path = os.path.join(tmp_path, "source")
    os.mkdir(path)
    with open(f"{path}/file", "w") as file:
        file.write("host\n")
    return path


def visible(flavor: Flavor, result: driver.Result) -> list[str]:
    """What the app wrote to its two streams, which fly keeps apart."""
    return [*flavor.lines(result), *(line for line in result.err.splitlines() if ": " in line)]


# -- what can be a volume --------------------------------------------------------------------------------


def test_files_and_directories(flavor: Flavor, box: str, source: str) -> None:
    result = flavor.shell(
        box,
        "cat /d/file /f && echo new >/d/new && echo more >>/f",
        *(mount("/d"), mount("/f", "w")),
        pod=(host(source), host(f"{source}/file", name="w")),
    )
    assert flavor.lines(result) == ["host", "host"], result
    with open(f"{source}/file") as file:
        assert file.read() == "host\nmore\n"
    assert os.path.exists(f"{source}/new")


def test_a_socket(flavor: Flavor, source: str) -> None:
    """A service of the host answers through it."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(f"{source}/service")
    server.listen()

    def serve() -> None:
        connection, _ = server.accept()
        connection.sendall(b"from the host")
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    code = (
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('/run/service')\n"
        "answer = s.recv(100).decode()"
    )
    words = {"pod": (host(f"{source}/service", name="s"),)}
    assert flavor.probe(code, mount("/run/service", "s"), **words) == "from the host"
    thread.join(10)
    server.close()


def test_a_fifo(flavor: Flavor, box: str, source: str) -> None:
    os.mkfifo(f"{source}/fifo")
    holder = os.open(f"{source}/fifo", os.O_RDWR | os.O_NONBLOCK)
    try:
        result = flavor.shell(box, "echo through >/pipe", mount("/pipe"), pod=(host(f"{source}/fifo"),))
        assert result.code == 0, result
        assert os.read(holder, 100) == b"through\n"
    finally:
        os.close(holder)


@pytest.mark.promise("P5")
def test_a_device(rkt: driver.Rkt, flavor: Flavor, box: str) -> None:
    """Only the device that is a volume can be opened, and no more than it is to be; under fly all can."""
    script = "true <{0} && echo read; (true >>{0}) 2>/dev/null && echo wrote".format
    device = "/dev/loop-control"
    result = flavor.shell(box, script("/control"), mount("/control"), pod=(host(device),))
    assert flavor.lines(result) == ["read", "wrote"], result
    result = flavor.shell(box, script("/control"), mount("/control"), pod=(host(device, "readOnly=true"),))
    if flavor.name == "host":
        assert flavor.lines(result) == ["read"], result
        # By a node in a directory that is a volume, or that the app makes itself.
        result = flavor.shell(box, script("/devices/loop-control"), mount("/devices"), pod=(host("/dev"),))
        assert "read" not in flavor.lines(result)


@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ("kind=host,source=/dev/nosuch", "/dev/nosuch"),
        ("kind=host,source=/nonexistent/place", "/nonexistent/place"),
        ("kind=host,source=relative", "absolute"),
        ("kind=host", "source"),
        ("kind=other,source=/tmp", "kind"),
        ("kind=empty,source=/tmp", "source"),
        ("kind=host,source=/tmp,mode=0700", "mode"),
        ("kind=empty,mode=999", '"999" is no file mode'),
        ("kind=empty,mode=77777", '"77777" is no file mode'),
        ("kind=empty,uid=-1", "outside the range of ids"),
        ("kind=empty,uid=4294967295", "outside the range of ids"),
        ("kind=empty,bogus=1", "bogus"),
    ],
)
def test_volumes_that_cannot_be(rkt: driver.Rkt, flavor: Flavor, box: str, volume: str, message: str) -> None:
    result = flavor(f"--volume=v,{volume}", box, mount("/v"))
    assert result.code == 254, result
    assert message in result.err
    assert rkt.ok("list", "--no-legend").out.strip() == ""
    assert not os.path.exists("/nonexistent")


def test_what_nobody_mounts_is_not_looked_at(flavor: Flavor, box: str) -> None:
    assert flavor(host("/nonexistent"), box).code == 0


# -- who may write ---------------------------------------------------------------------------------------


@pytest.mark.promise("P5")
@pytest.mark.parametrize(
    ("volume", "point", "writable"),
    [
        (None, False, True),
        (None, True, False),
        ("true", False, False),
        ("true", True, False),
        # what the volume says wins over what the mount point says
        ("false", True, True),
    ],
)
@pytest.mark.parametrize("kind", ["empty", "host"])
def test_read_only(
    flavor: Flavor,
    tmp_path: os.PathLike[str],
    source: str,
    kind: str,
    volume: str | None,
    point: bool,
    writable: bool,
) -> None:
    app = aci.app(
        *("/bin/sh", "-c", "touch /data/x && echo wrote; exit 0"),
        mountPoints=[{"name": "data", "path": "/data", "readOnly": point}],
    )
    image = aci.busybox(os.path.join(tmp_path, "app.aci"), app=app)
    options = [f"readOnly={volume}"] if volume else []
    words = [f"--volume=data,kind={kind}", *([f"source={source}"] if kind == "host" else []), *options]
    result = flavor(",".join(words), image)
    assert ("wrote" in result.out) is writable, result


def test_one_volume_in_two_apps(flavor: Flavor, box: str) -> None:
    """With its mode and owner; what one writes the other sees, where both have it and each its own way."""
    if flavor.name == "fly":
        return  # it has one app
    result = flavor(
        "--volume=e,kind=empty,mode=2770,uid=1000,gid=1001",
        *(box, "--name=a", mount("/data", "e"), "--exec=/bin/sh", "--", "-c"),
        *("stat -c '%a %u %g' /data; echo from a >/data/made; mv /data/made /data/file", "---"),
        *(box, "--name=b", mount("/elsewhere", "e"), "--exec=/bin/sh", "--", "-c"),
        "until [ -s /elsewhere/file ]; do sleep 0.05; done; cat /elsewhere/file",
    )
    assert sorted(flavor.lines(result)) == ["2770 1000 1001", "from a"]


@pytest.mark.parametrize("mode", ["0755", "0700", "1777", "0000", "4755"])
def test_modes_of_empty_volumes(flavor: Flavor, box: str, mode: str) -> None:
    """As they are given, whatever the umask of the caller."""
    before = os.umask(0o077)
    try:
        script = "stat -c '%a %u:%g' /e"
        result = flavor.shell(
            box, script, mount("/e", "e"), pod=(f"--volume=e,kind=empty,mode={mode},uid=7,gid=8",)
        )
    finally:
        os.umask(before)
    assert flavor.lines(result) == [f"{int(mode, 8):o} 7:8"], result


# -- where a volume can be -------------------------------------------------------------------------------


def test_one_inside_another(flavor: Flavor, box: str, source: str, tmp_path: os.PathLike[str]) -> None:
    """The outer one first, however they are given."""
    inner = os.path.join(tmp_path, "inner")
    os.mkdir(inner)
    pod = (host(inner, name="i"), host(source, name="o"))
    script = "cat /a/file; echo x >/a/b/made"
    result = flavor.shell(box, script, mount("/a/b", "i"), mount("/a", "o"), pod=pod)
    assert flavor.lines(result) == ["host"], result
    assert os.listdir(inner) == ["made"]
    assert sorted(os.listdir(source)) == ["b", "file"]


@pytest.mark.promise("P9")
def test_two_on_one_place(flavor: Flavor, box: str, source: str) -> None:
    pod = ("--volume=e,kind=empty", host(source))
    result = flavor(*pod, box, mount("/same/", "e"), mount("//same/./"))
    assert result.code == 254, result
    assert "two volumes are mounted on /same" in result.err


@pytest.mark.promise("P4")
def test_a_target_behind_links(flavor: Flavor, tmp_path: os.PathLike[str], source: str) -> None:
    """Absolute, climbing and chained links lead where they lead inside the image."""
    entries = [
        aci.symlink("absolute", "/srv"),
        aci.symlink("climbing", "../../../../../srv"),
        aci.symlink("chained", "absolute/deep"),
        aci.directory("srv"),
    ]
    image = aci.busybox(os.path.join(tmp_path, "links.aci"), entries=entries)
    for target, real in (("/absolute/a", "/srv/a"), ("/climbing/b", "/srv/b"), ("/chained/c", "/srv/deep/c")):
        result = flavor.shell(image, f"cat {real}/file", mount(target), pod=(host(source),))
        assert flavor.lines(result) == ["host"], result
    assert not os.path.exists("/srv/deep")


@pytest.mark.promise("P5")
def test_proc_is_the_kernels(flavor: Flavor, tmp_path: os.PathLike[str], source: str) -> None:
    """Under systemd it is mounted last: a volume there would be lost, and is refused."""
    image = aci.busybox(os.path.join(tmp_path, "links.aci"), entries=[aci.symlink("link", "/proc")])
    for target in ("/proc", "/proc/x", "/link/x", "/./proc//x"):
        result = flavor.shell(image, "cat /proc/self/comm", mount(target), pod=(host(source),))
        if flavor.name == "host":
            assert result.code == 254, result
            assert 'volume "v" cannot be mounted on ' in result.err
        else:
            # Below the host's own procfs nothing can be made.
            assert result.code == 254 or flavor.lines(result) == ["cat"] or target == "/proc", result


def test_shared_memory_can_be_a_volume(flavor: Flavor, box: str, source: str) -> None:
    result = flavor.shell(box, "cat /dev/shm/file; ls -d /dev/null", mount("/dev/shm"), pod=(host(source),))
    assert flavor.lines(result) == ["host", "/dev/null"], result


@pytest.mark.parametrize("target", ["/run", "/dev", "/etc", "/tmp", "/sys", "/var"])
def test_a_volume_over_a_system_directory(flavor: Flavor, box: str, source: str, target: str) -> None:
    result = flavor.shell(box, f"cat {target}/file; cat /proc/self/comm", mount(target), pod=(host(source),))
    assert result.code == 0, result
    assert flavor.lines(result) == ["host", "cat"]


@pytest.mark.promise("P9")
@pytest.mark.parametrize("target", ["/run", "/dev"])
def test_what_a_pod_needs_cannot_be_made_in_a_read_only_volume(
    flavor: Flavor, box: str, source: str, target: str
) -> None:
    if flavor.name == "fly":
        return  # it makes nothing there
    words = (host(source, "readOnly=true"), box, mount(target))
    result = flavor(*words)
    assert result.code == 254, result
    assert f'volume "v" cannot be mounted on {target}: {target}/' in result.err
    os.makedirs(f"{source}/systemd/journal")
    os.makedirs(f"{source}/systemd/incoming")
    os.makedirs(f"{source}/pts")
    os.makedirs(f"{source}/shm")
    for name in ("systemd/notify", "console"):
        with open(f"{source}/{name}", "w"):
            pass
    assert flavor(*words).code == 0


# -- implicit volumes ------------------------------------------------------------------------------------


def test_mount_points_without_a_volume(flavor: Flavor, tmp_path: os.PathLike[str]) -> None:
    """An empty one under systemd, with a warning; fly asks for one."""
    app = aci.app(
        *("/bin/sh", "-c", "stat -c '%a %u:%g' /data; ls /data; touch /data/x && echo wrote"),
        mountPoints=[{"name": "data", "path": "/data"}],
    )
    entries = [aci.directory("data"), aci.Entry("data/of-the-image", b"")]
    image = aci.busybox(os.path.join(tmp_path, "app.aci"), app=app, entries=entries)
    result = flavor(image)
    if flavor.name == "fly":
        assert result.code == 254
        assert 'missing volume for mountpoint "data"' in result.err
        return
    assert flavor.lines(result) == ["755 0:0", "wrote"], result
    assert 'no volume specified for mount point "/data" of app "box"' in result.err


# -- attacks ---------------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: os.PathLike[str]) -> str:
    path = os.path.join(tmp_path, "outside")
    os.makedirs(f"{path}/x")
    return path


class Swapper:
    """Exchanges a directory and a link out of a volume, again and again, as another pod could."""

    def __init__(self, place: str, target: str) -> None:
        code = (
            "import ctypes, sys\nlibc = ctypes.CDLL(None)\na, b = (w.encode() for w in sys.argv[1:3])\n"
            "while True:\n    libc.renameat2(-100, a, -100, b, 2)\n"
        )
        os.mkdir(place)
        os.symlink(target, f"{place}.link")
        self._process = subprocess.Popen(["/usr/bin/python3", "-IS", "-c", code, place, f"{place}.link"])

    def __enter__(self) -> Swapper:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def swapped(source: str, outside: str) -> Iterator[str]:
    """A volume in which ``sub`` is a directory at one moment and a link out of it at the next."""
    with Swapper(f"{source}/sub", outside):
        yield source


@pytest.mark.promise("P4")
def test_a_mount_point_that_is_swapped_for_a_link(
    flavor: Flavor, box: str, swapped: str, outside: str, tmp_path: os.PathLike[str]
) -> None:
    """A second volume inside the first: it lands in the app or nowhere, and makes nothing outside."""
    inner = os.path.join(tmp_path, "inner")
    os.mkdir(inner)
    before = machine.tree(outside)
    seen = set()
    for _ in range(12):
        pod = (host(swapped, name="o"), host(inner, name="i"))
        words = (mount("/a", "o"), mount("/a/sub/x", "i"), mount("/a/sub/made/deep", "e"))
        result = flavor.shell(box, "exit 0", *words, pod=(*pod, "--volume=e,kind=empty"))
        seen.add(result.code)
        assert machine.tree(outside) == before
        with open("/proc/self/mountinfo") as file:
            assert outside not in file.read()
    assert seen <= {0, 254}


@pytest.mark.promise("P4")
def test_a_source_that_is_swapped_for_a_link(flavor: Flavor, box: str, swapped: str, outside: str) -> None:
    """The directory is mounted or the pod refused; what the link leads to is never seen."""
    with open(f"{outside}/secret", "w") as file:
        file.write("secret\n")
    for _ in range(12):
        result = flavor.shell(box, "cat /v/secret", mount("/v"), pod=(host(f"{swapped}/sub"),))
        assert "secret\n" not in result.out, result


@pytest.mark.promise("P4")
def test_a_manifest_cannot_name_a_volume_out_of_the_pod(rkt: driver.Rkt, flavor: Flavor, box: str) -> None:
    key = manifests.fetch(rkt, box)
    for name in ("../../outside", "a/b", ".."):
        entry = manifests.app("box", key, "/bin/true", mounts=[{"volume": "v", "path": "/v"}])
        entry["mounts"][0]["appVolume"] = {"name": name, "kind": "empty"}
        result = flavor(manifests.write(rkt, entry))
        assert result.code == 254, result
