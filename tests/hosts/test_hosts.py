"""The test hosts are what the tests on them rely on, and leave nothing on the machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from support import hosts
from support.driver import ROOT
from support.waiting import until

BOX = "/var/lib/rkt/box"


@pytest.fixture(scope="module")
def box(host: hosts.Host) -> str:
    """The path in the host of a root file system around static busybox."""
    host.ok(["mkdir", "-p", *(f"{BOX}/{name}" for name in ("bin", "etc", "usr", "proc", "sys", "dev"))])
    host.ok(["cp", "/bin/busybox", f"{BOX}/bin/busybox"])
    return BOX


def nspawn(box: str, *words: str) -> list[str]:
    """nspawn looks for systemd in the box and, finding none, mounts a version 1 hierarchy on any host."""
    unified = 'test -e /sys/fs/cgroup/cgroup.procs && export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1; exec "$@"'
    return [
        "sh",
        "-c",
        unified,
        "sh",
        "systemd-nspawn",
        "--quiet",
        "--settings=no",
        f"--directory={box}",
        *words,
    ]


def sh(script: str) -> list[str]:
    return ["/bin/busybox", "sh", "-c", script]


def test_systemd_is_process_1_and_all_units_started(host: hosts.Host) -> None:
    assert host.ok(["cat", "/proc/1/comm"]).out == "systemd\n"
    state = host.run(["systemctl", "is-system-running"])
    assert state.out == "running\n", host.run(["systemctl", "--failed", "--no-pager"])


def test_machined_answers(host: hosts.Host) -> None:
    listed = host.ok(
        "busctl call org.freedesktop.machine1 /org/freedesktop/machine1 org.freedesktop.machine1.Manager "
        "ListMachines".split()
    )
    assert '".host"' in listed.out


def test_journald_keeps_what_a_service_prints(host: hosts.Host) -> None:
    host.ok(["systemd-run", "--quiet", "--wait", "--unit=says-hello", "echo", "hello from a service"])
    host.ok(["journalctl", "--sync"])
    assert "hello from a service" in host.ok(["journalctl", "--unit=says-hello", "--output=cat"]).out


def test_commands_are_those_of_a_login_session(host: hosts.Host) -> None:
    groups = host.ok(["cat", "/proc/self/cgroup"]).lines
    paths = {line.split(":", 2)[2] for line in groups if line.startswith("0:") or "name=systemd" in line}
    assert paths == {"/user.slice/user-0.slice/session-1.scope"}


def test_the_systemd_host_has_the_hierarchies_of_the_machine(systemd_host: hosts.Host) -> None:
    def mounted(lines: list[str]) -> set[str]:
        found = [line.split() for line in lines]
        return {
            fields[fields.index("-") + 1] + fields[4]
            for fields in found
            if fields[fields.index("-") + 1].startswith("cgroup")
        }

    with open("/proc/self/mountinfo") as file:
        here = mounted(file.read().splitlines())
    assert mounted(systemd_host.ok(["cat", "/proc/self/mountinfo"]).lines) == here


def test_the_virtual_machine_has_the_unified_hierarchy(virtual_machine: hosts.Host) -> None:
    assert virtual_machine.ok(["stat", "-f", "-c", "%T", "/sys/fs/cgroup"]).out == "cgroup2fs\n"
    controllers = virtual_machine.read("/sys/fs/cgroup/cgroup.controllers").decode().split()
    assert {"memory", "pids", "cpu", "cpuset", "io"} <= set(controllers)


@pytest.mark.parametrize(
    ("limit", "unified", "legacy"),
    [
        ("MemoryMax=32M", ("memory.max", "33554432"), ("memory/memory.limit_in_bytes", "33554432")),
        ("TasksMax=9", ("pids.max", "9"), ("pids/pids.max", "9")),
        ("CPUQuota=50%", ("cpu.max", "50000 100000"), ("cpu/cpu.cfs_quota_us", "50000")),
    ],
)
def test_a_limit_of_a_service_reaches_the_kernel(
    host: hosts.Host, limit: str, unified: tuple[str, str], legacy: tuple[str, str]
) -> None:
    unit = "limited-" + limit.partition("=")[0]
    host.ok(["systemd-run", "--quiet", f"--unit={unit}", f"--property={limit}", "sleep", "1000"])
    name, value = unified if isinstance(host, hosts.VirtualMachine) else legacy
    controller, _, file = name.rpartition("/")
    path = os.path.join("/sys/fs/cgroup", controller, "system.slice", unit + ".service", file)
    assert host.read(path).decode().strip() == value
    host.ok(["systemctl", "stop", unit])


def test_a_container_runs_inside_and_its_status_comes_out(host: hosts.Host, box: str) -> None:
    done = host.run(
        nspawn(box, "--machine=inner", *sh("echo $$; cat /proc/self/mounts | busybox wc -l; exit 7"))
    )
    assert (done.code, done.lines[0]) == (7, "1"), done
    assert "inner" not in host.ok(["machinectl", "list", "--no-legend"]).out


def test_a_running_container_is_a_machine(host: hosts.Host, box: str) -> None:
    running = host.spawn(nspawn(box, "--machine=inner", *sh("/bin/busybox sleep 1000")))
    while "inner" not in host.ok(["machinectl", "list", "--no-legend"]).out:
        assert running.running(), running.wait(0)
    assert "machine-inner.scope" in host.ok(["systemctl", "list-units", "--no-legend", "*.scope"]).out
    host.ok(["machinectl", "terminate", "inner"])
    running.wait()


def test_a_container_in_a_user_namespace_gets_proc_and_sysfs(host: hosts.Host, box: str) -> None:
    """The kernel refuses both where the host's own are partly covered."""
    words = ["--private-users=655360:65536", "--private-users-ownership=map", "--private-network"]
    done = host.ok(nspawn(box, *words, *sh("/bin/busybox cat /proc/self/uid_map")))
    assert done.out.split() == ["0", "655360", "65536"]


def test_overlays_can_be_mounted_where_pods_live(host: hosts.Host) -> None:
    script = """
        mkdir -p /var/lib/rkt/try/lower /var/lib/rkt/try/upper /var/lib/rkt/try/work /var/lib/rkt/try/merged
        cd /var/lib/rkt/try
        echo below > lower/file
        mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged
        echo above > merged/file
        umount merged
        cat lower/file upper/file
        rm -rf /var/lib/rkt/try
    """
    assert host.ok(["sh", "-ec", script]).lines == ["below", "above"]


def test_network_namespaces_bridges_and_firewall_rules(host: hosts.Host) -> None:
    script = """
        ip netns add try
        ip link add tryb type bridge
        ip link add tryv type veth peer name eth0 netns try
        ip link set tryv master tryb up
        ip netns exec try ip link set eth0 up
        iptables -t nat -A POSTROUTING -s 10.99.0.0/16 -j MASQUERADE
        iptables -t nat -S POSTROUTING
        iptables -t nat -D POSTROUTING -s 10.99.0.0/16 -j MASQUERADE
        echo 1 > /proc/sys/net/ipv4/ip_forward
        ip link del tryb
        ip netns del try
    """
    assert "-s 10.99.0.0/16 -j MASQUERADE" in host.ok(["sh", "-ec", script]).out
    assert host.ok(["ip", "-o", "route", "show", "default"]).out.startswith("default via 192.0.2.1")


def test_no_system_call_filter_and_all_capabilities_of_the_machine(systemd_host: hosts.Host) -> None:
    def facts(text: str) -> dict[str, str]:
        return dict(
            line.split(":\t", 1) for line in text.splitlines() if line.startswith(("CapBnd", "Seccomp:"))
        )

    with open("/proc/self/status") as file:
        assert facts(systemd_host.read("/proc/self/status").decode()) == facts(file.read())


def test_files_go_in_and_come_out(host: hosts.Host, tmp_path: os.PathLike[str]) -> None:
    source, back = os.path.join(tmp_path, "source"), os.path.join(tmp_path, "back")
    data = os.urandom(3 << 20)
    with open(source, "wb") as file:
        file.write(data)
    os.chmod(source, 0o750)
    host.put(source, "/var/lib/rkt/put/file")
    assert host.ok(["stat", "-c", "%a %s", "/var/lib/rkt/put/file"]).out == f"750 {len(data)}\n"
    host.get("/var/lib/rkt/put/file", back)
    with open(back, "rb") as file:
        assert file.read() == data
    with pytest.raises(hosts.HostError, match="FileNotFoundError"):
        host.read("/no/such/file")


def test_status_output_input_and_environment_of_a_command(host: hosts.Host) -> None:
    done = host.run(
        ["sh", "-c", 'cat; echo "$WORD" >&2; pwd; exit 3'], input="in\n", env={"WORD": "err"}, cwd="/tmp"
    )
    assert (done.code, done.out, done.err) == (3, "in\n/tmp\n", "err\n")
    assert host.run(["sh", "-c", "kill -KILL $$"]).code == -signal.SIGKILL
    with pytest.raises(TimeoutError, match="still running"):
        host.run(["sleep", "1000"], timeout=0.3)


def test_the_checkout_is_at_its_own_path_and_read_only(host: hosts.Host) -> None:
    assert host.ok(["test", "-x", hosts.RKT])
    assert host.run(["touch", f"{ROOT}/new"]).err.endswith("Read-only file system\n")


LIFE = """
import os, sys, time
sys.path.insert(0, {path!r})
from support import hosts
host = hosts.SystemdHost()
host.start()
print(host._keeper.pid, flush=True)
time.sleep(600)
"""


def host_processes(keeper: int) -> list[int]:
    """Processes of the machine whose ancestor is ``keeper``, with it."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found = [keeper] if keeper in parents else []
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def test_nothing_is_left_when_the_test_run_is_killed() -> None:
    """Processes, mounts, control groups and network links, after SIGKILL of what started the host."""
    groups = host_groups()
    script = LIFE.format(path=os.path.join(ROOT, "tests"))
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout is not None
        keeper = int(run.stdout.readline())
        started = host_processes(keeper)
        assert len(started) > 5
        assert host_groups() > groups
    finally:
        run.kill()
        run.communicate()
    until(lambda: [pid for pid in started if os.path.exists(f"/proc/{pid}")] == [], "processes are left")
    # The keeper removes them last, before it ends itself.
    assert host_groups() == groups
    with open("/proc/self/mountinfo") as file:
        assert "build/hosts" not in file.read()
    assert not {"uplink", "upstream"} & set(os.listdir("/sys/class/net"))


def host_groups() -> set[str]:
    found: set[str] = set()
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        found.update(os.path.join(directory, name) for name in names if name.startswith("testhost-"))
    return found
