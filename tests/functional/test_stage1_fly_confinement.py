"""What the kernel enforces for an app under fly, looked at from inside by a program that tries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from fly_pod import Run, only_pod, shell, volume

from support import aci, driver
from support.driver import Rkt

pytest_plugins = ("fly_fixtures",)

Probe = Callable[..., Any]

DEFAULT = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FSETID FOWNER KILL MKNOD NET_RAW NET_BIND_SERVICE SETUID SETGID SETPCAP "
    "SETFCAP SYS_CHROOT"
).split()
NUMBERS = {"CHOWN": 0, "KILL": 5, "NET_RAW": 13, "SYS_ADMIN": 21}


@pytest.fixture(scope="session")
def probe_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image that can run the host's Python from a volume at /usr."""
    path = os.path.join(tmp_path_factory.mktemp("images"), "probe.aci")
    entries = [aci.symlink(name, f"usr/{name}") for name in ("lib", "lib64")]
    return aci.busybox(path, "example.com/probe", entries=entries)


@pytest.fixture
def probe(fly: Run, probe_image: str) -> Probe:
    """Runs Python code as the app; ``answer`` in it is printed as JSON and returned."""

    def run(code: str, *flags: str, pod: tuple[str, ...] = (), **options: Any) -> Any:
        text = (
            "import ctypes, errno, json, os, sys\nlibc = ctypes.CDLL(None, use_errno=True)\n"
            "def call(*arguments):\n"
            "    ctypes.set_errno(0)\n"
            "    result = libc.syscall(*arguments)\n"
            "    return errno.errorcode[ctypes.get_errno()] if result < 0 else 'done'\n"
            f"{code}\nprint(json.dumps(answer))\n"
        )
        result = fly(
            volume("usr", "/usr", "readOnly=true"),
            *pod,
            probe_image,
            "--mount=volume=usr,target=/usr",
            "--exec=/usr/bin/python3",
            *flags,
            "--",
            "-IS",
            "-c",
            text,
            **options,
        )
        assert result.code == 0, result
        return json.loads(result.out)

    return run


STATUS = "answer = dict(line.strip('\\n').split(':\\t', 1) for line in open('/proc/self/status'))"


def mask(names: list[str]) -> str:
    from rkt.linux.capabilities import NUMBERS as ALL

    return f"{sum(1 << ALL['CAP_' + name] for name in names):016x}"


@pytest.mark.promise("P5")
def test_default_confinement_of_root(probe: Probe) -> None:
    status = probe(STATUS)
    expected = mask(DEFAULT)
    assert {status[name] for name in ("CapBnd", "CapPrm", "CapEff")} == {expected}
    assert {status[name] for name in ("CapInh", "CapAmb")} == {mask([])}
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "0")


@pytest.mark.promise("P5")
def test_default_confinement_of_a_user(probe: Probe) -> None:
    status = probe(STATUS, "--user=web", "--group=www")
    assert status["CapBnd"] == mask(DEFAULT)
    assert {status[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {mask([])}
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert status["Uid"].split() == ["1000"] * 4
    assert status["Gid"].split() == ["1001"] * 4
    assert status["Groups"].split() == []


@pytest.mark.promise("P5")
def test_capability_isolators(probe: Probe) -> None:
    assert probe(STATUS, "--caps-retain=CAP_CHOWN,CAP_SYS_ADMIN")["CapEff"] == mask(["CHOWN", "SYS_ADMIN"])
    rest = [name for name in DEFAULT if name not in ("NET_RAW", "KILL")]
    assert probe(STATUS, "--caps-remove=CAP_NET_RAW,CAP_KILL")["CapEff"] == mask(rest)


@pytest.mark.promise("P5")
def test_insecure_options_switch_each_off(probe: Probe) -> None:
    with open("/proc/self/status") as file:
        full = next(line.split()[1] for line in file if line.startswith("CapBnd"))
    status = probe(STATUS, insecure="image,capabilities")
    assert (status["CapEff"], status["Seccomp"]) == (full, "2")
    status = probe(STATUS, insecure="image,seccomp")
    assert (status["CapEff"], status["Seccomp"]) == (mask(DEFAULT), "0")


@pytest.mark.promise("P5")
def test_no_new_privileges_isolator(fly: Run, tmp_path: os.PathLike[str]) -> None:
    image = aci.busybox(
        os.path.join(tmp_path, "nnp.aci"),
        app=aci.app(
            "/bin/grep",
            "NoNewPrivs",
            "/proc/self/status",
            isolators=[{"name": "os/linux/no-new-privileges", "value": True}],
        ),
    )
    assert fly(image).out.split() == ["NoNewPrivs:", "1"]


@pytest.mark.promise("P5")
def test_oom_score_adj_isolator(fly: Run, tmp_path: os.PathLike[str]) -> None:
    isolator = {"name": "os/linux/oom-score-adj", "value": 321}
    image = aci.busybox(
        os.path.join(tmp_path, "oom.aci"),
        app=aci.app("/bin/cat", "/proc/self/oom_score_adj", isolators=[isolator]),
    )
    assert fly(image).out == "321\n"


@pytest.mark.promise("P4")
def test_nothing_can_be_typed_into_a_terminal(probe: Probe) -> None:
    code = """
master, slave = os.openpty()
def request(number):
    ctypes.set_errno(0)
    byte = ctypes.create_string_buffer(b"x")
    return errno.errorcode[ctypes.get_errno()] if libc.syscall(16, slave, number, byte) < 0 else "done"
answer = [request(n) for n in (0x5412, 0x1_0000_5412, 0x541C, 0x5413)]
"""
    assert probe(code) == ["EPERM", "EPERM", "EPERM", "done"]


@pytest.mark.promise("P4")
def test_path_protection(fly: Run, probe: Probe) -> None:
    code = """
def attempt(path):
    try:
        os.close(os.open(path, os.O_WRONLY))
        return "writable"
    except OSError as exc:
        return errno.errorcode[exc.errno]
paths = ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/panic_on_oom", "/sys/kernel/profiling"]
answer = {"write": [attempt(path) for path in paths], "hidden": {}}
for path in ("/sys/fs", "/sys/firmware", "/sys/module", "/sys/power"):
    answer["hidden"][path] = os.listdir(path) if os.path.isdir(path) else None
answer["kallsyms"] = open("/proc/kallsyms").read()
"""
    found = probe(code)
    assert set(found["write"]) <= {"EROFS", "ENOENT"}
    assert "EROFS" in found["write"]
    assert all(not names for names in found["hidden"].values())
    assert found["kallsyms"] == ""
    found = probe(code, insecure="image,paths")
    assert "writable" in found["write"]
    assert found["hidden"]["/sys/fs"]


@pytest.mark.promise("P4")
def test_nothing_of_the_callers_is_inherited(
    rkt: Rkt, fly: Run, box: str, tmp_path: os.PathLike[str]
) -> None:
    """Files, environment, directory and session: least of all the fd that locks the pod's directory."""
    leak = os.open("/etc", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        result = fly(
            box,
            *shell("ls -l /proc/$$/fd; readlink /proc/self/cwd; tty; cut -d' ' -f6 /proc/$$/stat; echo $$"),
            pass_fds=(leak,),
        )
    finally:
        os.close(leak)
    lines = result.lines
    assert [line.split(" -> ")[0].split()[-1] for line in lines if " -> " in line] == ["0", "1", "2"], result
    assert lines[-4:-2] == ["/", "not a tty"]
    assert lines[-2] == lines[-1]  # the app leads its own session


@pytest.mark.promise("P4")
def test_session_keyring_is_new(probe: Probe) -> None:
    """KEYCTL_GET_KEYRING_ID of the session keyring, with the filter off that refuses the call."""
    code = "import ctypes; print(ctypes.CDLL(None).syscall(250, 0, -3, 0))"
    own = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    inside = probe("answer = libc.syscall(250, 0, -3, 0)", insecure="image,seccomp")
    assert inside > 0
    assert inside != int(own)


@pytest.mark.promise("P4")
def test_the_hosts_tree_is_out_of_reach(probe: Probe, tmp_path: os.PathLike[str]) -> None:
    """By a second chroot, by the roots of host processes, by what is mounted."""
    secret = os.path.join(tmp_path, "secret")
    with open(secret, "w") as file:
        file.write("secret")
    code = f"""
def attempt(path):
    try:
        return open(path).read()
    except OSError as exc:
        return errno.errorcode[exc.errno]
os.mkdir("/tmp/inner")
above = os.open("/", os.O_RDONLY)
os.chroot("/tmp/inner")
os.fchdir(above)
for _ in range(50):
    os.chdir("..")
os.chroot(".")
os.chdir("/")
answer = {{
    "chroot": attempt({secret!r}),
    "is the image": os.path.exists("/etc/passwd") and os.path.exists("/bin/busybox"),
    "pid 1": attempt("/proc/1/root" + {secret!r}),
    "parent": attempt("/proc/" + str(os.getppid()) + "/root" + {secret!r}),
    "parent's fds": attempt("/proc/" + str(os.getppid()) + "/fd/0"),
    "parent's cwd": attempt("/proc/" + str(os.getppid()) + "/cwd/pod"),
    "old root": sorted({{line.split()[4] for line in open("/proc/self/mountinfo")
                         if line.split()[4].split("/")[1] not in ("", "dev", "proc", "sys", "tmp", "usr")}}),
}}
"""
    assert probe(code) == {
        "chroot": "ENOENT",
        "is the image": True,
        "pid 1": "EACCES",
        "parent": "EACCES",
        "parent's fds": "EACCES",
        "parent's cwd": "EACCES",
        "old root": [],
    }


@pytest.mark.promise("P4")
@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
def test_an_image_whose_directories_are_links(fly: Run, tmp_path: os.PathLike[str], name: str) -> None:
    """Confined, or refused: with a link for /proc, the app's /proc would be somewhere else."""
    entries = [entry for entry in aci.busybox_entries() if entry.name != name]
    entries.append(aci.symlink(name, "/etc"))
    image = aci.build(os.path.join(tmp_path, "links.aci"), aci.manifest("example.com/links"), entries)
    result = fly(image)
    assert result.code == 254
    assert f"/{name} of the image is not a directory" in result.err


@pytest.mark.promise("P4")
@pytest.mark.parametrize("directory", ["/link", "/proc/self/fd/3", "/proc/1/cwd"])
@pytest.mark.attack(11)
def test_working_directory_stays_inside(fly: Run, tmp_path: os.PathLike[str], directory: str) -> None:
    entries = [aci.symlink("link", "../../../../etc")]
    image = aci.busybox(os.path.join(tmp_path, "cwd.aci"), entries=entries)
    result = fly(image, *shell("pwd -P; cat group", f"--working-dir={directory}"))
    if directory == "/link":
        assert result.out.startswith("/etc\nroot:x:0:\nwww:x:1001:"), result
    else:
        assert result.code == 254
        assert f'unable to use the working directory "{directory}"' in result.err


@pytest.mark.promise("P4")
@pytest.mark.parametrize("target", ["/etc/shadow", "/proc/1/root/etc/passwd"])
@pytest.mark.attack(9)
def test_user_database_that_is_a_link_to_the_host(fly: Run, tmp_path: os.PathLike[str], target: str) -> None:
    entries = [entry for entry in aci.busybox_entries() if entry.name != "etc/passwd"]
    entries.append(aci.symlink("etc/passwd", target))
    image = aci.build(os.path.join(tmp_path, "passwd.aci"), aci.manifest("example.com/p"), entries)
    result = fly(image, "--user=daemon")
    assert result.code == 254
    assert 'user "daemon"' in result.err


@pytest.mark.promise("P4")
def test_the_interpreter_cannot_be_overwritten_through_proc(rkt: Rkt, fly: Run, probe: Probe) -> None:
    """/proc/PID/exe of the waiting process, and of enter until it executes, is the host's Python."""
    code = """
import glob
answer = []
for path in glob.glob("/proc/[0-9]*/exe"):
    pid = path.split("/")[2]
    try:
        target = os.readlink(path)
    except OSError:
        continue
    if pid != str(os.getpid()) and "python3" in target:
        try:
            os.close(os.open(path, os.O_WRONLY))
            answer.append(pid)
        except OSError:
            pass
"""
    assert probe(code) == []
    assert only_pod(rkt)


@pytest.mark.promise("P4")
def test_no_module_of_the_image_is_imported(rkt: Rkt, fly: Run, tmp_path: os.PathLike[str]) -> None:
    """The image has a standard library of its own, where the interpreter would look for what it lacks."""
    out = os.path.join(tmp_path, "out")
    os.mkdir(out)
    evil = b"open('/out/executed', 'a').write(__name__)\nraise ImportError\n"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    names = (
        "encodings/ascii",
        "encodings/idna",
        "encodings/latin_1",
        "traceback",
        "linecache",
        "signal",
        "re",
    )
    entries = [aci.Entry(f"usr/lib/{version}/{name}.py", evil) for name in names]
    image = aci.busybox(os.path.join(tmp_path, "evil.aci"), entries=entries)
    mounted = [volume("out", out), image, "--mount=volume=out,target=/out"]
    assert fly(*mounted, *shell("exit 3", "--oom-score-adj=100")).code == 3
    assert fly(*mounted, "--exec=/bin/nosuch").code == 254
    assert fly(*mounted, "--exec=/bin/true", "--working-dir=/nosuch").code == 254
    assert fly(*mounted, "--exec=/usr").code == 254
    assert os.listdir(out) == []


def test_imports_fail_once_sealed() -> None:
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from rkt.stage1.fly.application import seal_imports
seal_imports()
for attempt in (lambda: __import__("json"), lambda: b"x".decode("cp437")):
    try:
        attempt()
    except (ImportError, LookupError):
        continue
    sys.exit(1)
"""
    source = os.path.join(driver.ROOT, "src")
    done = subprocess.run(["/usr/bin/python3", "-IS", "-c", code, source], check=False)
    assert done.returncode == 0
