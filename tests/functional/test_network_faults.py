"""What can go wrong with a network: the pod does not start, the message says who and why, nothing stays."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from network_host import UUID, Host
from network_site import Site, stage1_host  # noqa: F401

from support.driver import Rkt
from support.processes import is_left, own_sleep
from support.waiting import PATIENCE, until

OTHER = "aaaaaaaa-4b5a-4978-8695-a4b3c2d1e0f1"
PTP = {"type": "ptp", "ipMasq": True, "ipam": {"type": "host-local", "subnet": "10.80.0.0/24"}}
TINY = {"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.80.1.0/30"}}


@pytest.fixture
def host(tmp_path: os.PathLike[str]) -> Iterator[Host]:
    made = Host(os.fspath(tmp_path))
    before = made.state()
    try:
        yield made
        assert made.state() == before
    finally:
        made.close()


@pytest.fixture
def site(host: Host, stage1_host: str) -> Site:  # noqa: F811
    return Site(host, Rkt(host.directory), stage1_host)


def plugin(site: Site, name: str, script: str) -> None:
    site.host.plugin(name, f'cat >/dev/null; [ "$CNI_COMMAND" = ADD ] || exit 0\n{script}')


ERROR_OBJECT = '{"cniVersion":"0.4.0","code":11,"msg":"no link today","details":"try tomorrow"}'
# name: (script of the plugin "bad", what the message says)
PLUGINS = {
    "crashes": ("kill -SEGV $$", "bad failed at ADD (signal 11)"),
    "garbage": ("echo garbage", "bad answered ADD with something that is not JSON: garbage"),
    "error object": (
        f"echo '{ERROR_OBJECT}'; exit 1",
        "bad failed at ADD (exit code 1): no link today; try tomorrow",
    ),
    "words": ("echo out of cheese >&2; exit 3", "bad failed at ADD (exit code 3): out of cheese"),
    "list": ("echo '[1]'", "bad answered ADD with a result that is wrong: the result is not an object"),
    "error object and success": (
        f"echo '{ERROR_OBJECT}'",
        "bad answered ADD with a result that is wrong: it says no link today; try tomorrow",
    ),
    "megabytes": (
        "head -c 9000000 /dev/zero | tr '\\0' x",
        "bad failed at ADD: bad wrote more than 4194304 bytes",
    ),
    "megabytes of error": (
        "head -c 9000000 /dev/zero | tr '\\0' x >&2; exit 1",
        "bad failed at ADD: bad wrote more than 4194304 bytes",
    ),
    "deep": (
        "printf '%200000s' | tr ' ' '['",
        "bad answered ADD with something that is not JSON: [[[[",
    ),
    "control characters": (
        r"printf '\033[2J\r\nboo' >&2; exit 1",
        "bad failed at ADD (exit code 1): ?[2J boo",
    ),
    "address": (
        """echo '{"ips":[{"address":"10.0.0.1 -j ACCEPT/8"}]}'""",
        "bad answered ADD with a result that is wrong",
    ),
}
FILES: dict[str, tuple[dict[str, Any], str]] = {
    "broken": ({"10-n.conf": '{"name": "n", '}, "error loading network configuration {d}/10-n.conf: "),
    "twice": (
        {"10-n.conf": {"name": "n", **PTP}, "20-n.conf": {"name": "n", **PTP}},
        'error loading network configuration {d}/20-n.conf: network "n" is configured by 10-n.conf too',
    ),
    "missing plugin": (
        {"10-n.conf": {"name": "n", "type": "absent"}},
        'error adding network "n": could not find plugin "absent" in {d}:',
    ),
    "missing address management": (
        {"10-n.conf": {"name": "n", "type": "ptp", "ipam": {"type": "absent"}}},
        'error adding network "n": plugin /usr/lib/cni/ptp failed at ADD',
    ),
    "no name": ({"10-n.conf": {**PTP}}, "error loading network configuration {d}/10-n.conf: name: expected"),
    "name of a path": (
        {"10-n.conf": {"name": "../n", **PTP}},
        "error loading network configuration {d}/10-n.conf: name: '../n' is not the name of a network",
    ),
    "no plugins": (
        {"10-n.conflist": {"name": "n", "plugins": []}},
        "error loading network configuration {d}/10-n.conflist: plugins: expected a list with at least",
    ),
    "plugin without type": (
        {"10-n.conflist": {"name": "n", "plugins": [{}]}},
        "error loading network configuration {d}/10-n.conflist: type: expected a string",
    ),
    "plugin of a path": (
        {"10-n.conf": {"name": "n", "type": "../../bin/sh"}},
        'error loading network configuration {d}/10-n.conf: type: "../../bin/sh" is not the file name of',
    ),
    "unknown version": (
        {"10-n.conf": {"cniVersion": "9.9.9", "name": "n", **PTP}},
        'error adding network "n": plugin /usr/lib/cni/ptp failed at ADD (exit code 1): incompatible CNI',
    ),
    "no such master": (
        {"10-n.conf": {"name": "n", "type": "macvlan", "master": "nosuch0", "ipam": PTP["ipam"]}},
        'error adding network "n": plugin /usr/lib/cni/macvlan failed at ADD',
    ),
}


def refused(site: Site, image: str, message: str, *words: str, net: str = "default,n") -> None:
    """Nothing is different after a pod that could not start, before any gc."""
    before = site.host.state()
    result = site.run(f"--net={net}", *words, image)
    assert result.code == 254, result
    assert message in result.err, result
    assert "error undoing" not in result.err
    assert site.host.state() == before
    assert site("list", "--no-legend").out.strip() == ""


@pytest.mark.promise("P7")
@pytest.mark.promise("P9")
@pytest.mark.parametrize("fault", PLUGINS)
@pytest.mark.attack(34)
def test_plugins(site: Site, box: str, fault: str) -> None:
    script, message = PLUGINS[fault]
    plugin(site, "bad", script)
    site.host.network("zz-n.conf", {"name": "n", "type": "bad"})
    refused(
        site, box, f'stage1: failed to setup network: error adding network "n": plugin {site.host.config}'
    )
    refused(site, box, message)


def wrong_architecture(path: str) -> None:
    """A program of this machine, said to be for another (e_machine 0xF3F3)."""
    with open("/bin/true", "rb") as file:
        data = bytearray(file.read())
    data[18:20] = b"\xf3\xf3"
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o755)


def not_executable(path: str) -> None:
    with open(path, "w") as file:
        file.write("#!/bin/sh\n")


def no_interpreter(path: str) -> None:
    with open(path, "w") as file:
        file.write("#!/no/such/interpreter\n")
    os.chmod(path, 0o755)


def empty(path: str) -> None:
    with open(path, "w"):
        pass
    os.chmod(path, 0o755)


@pytest.mark.promise("P7")
@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (wrong_architecture, "plugin {p} failed at ADD: exec {p}: exec format error"),
        (empty, "plugin {p} failed at ADD: exec {p}: exec format error"),
        (no_interpreter, "plugin {p} failed at ADD: exec {p}: no such file or directory"),
        (not_executable, 'plugin "bad" cannot be used: {p} is not executable'),
    ],
)
@pytest.mark.attack(34)
def test_programs_that_cannot_be_started(
    site: Site, box: str, make: Callable[[str], None], message: str
) -> None:
    path = f"{site.host.config}/net.d/bad"
    make(path)
    site.host.network("zz-n.conf", {"name": "n", "type": "bad"})
    refused(site, box, 'error adding network "n": ' + message.format(p=path))
    os.unlink(path)
    site.collect()


@pytest.mark.promise("P7")
@pytest.mark.promise("P9")
@pytest.mark.parametrize("fault", FILES)
def test_configurations(site: Site, box: str, fault: str) -> None:
    files, message = FILES[fault]
    for name, value in files.items():
        site.host.network(name, value)
    refused(site, box, message.format(d=f"{site.host.config}/net.d"))


@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    "make",
    [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/full", path)],
    ids=["fifo", "directory", "device"],
)
def test_a_configuration_that_is_no_file(site: Site, box: str, make: Callable[[str], None]) -> None:
    """It is not waited for, and it stops only who may have asked for it."""
    path = f"{site.host.config}/net.d/10-n.conf"
    make(path)
    said = f"error loading network configuration {path}: not a regular file"
    refused(site, box, f"stage1: failed to setup network: {said}")
    result = site.run("--net=default", box)
    assert (result.code, f"networking: warning: {said}\n" in result.err) == (0, True), result
    site.collect()


@pytest.mark.promise("P9")
def test_a_firewall_that_fails(site: Site, box: str) -> None:
    """Network and cause are named, and what could not be undone is said once."""
    broken = os.path.join(site.host.directory, "broken")
    with open(broken, "w") as file:
        file.write("#!/bin/sh\necho no such table >&2; exit 3\n")
    os.chmod(broken, 0o755)
    site.host.ok("mount", "--bind", broken, "/usr/sbin/xtables-nft-multi")
    result = site.run("--net=default,default-restricted", box)
    site.host.ok("umount", "/usr/sbin/xtables-nft-multi")
    assert result.code == 254
    assert result.err.splitlines()[-3:] == [
        (
            "networking: error undoing the network setup: error removing forwarded ports and masquerading: "
            "iptables exited 3: no such table"
        ),
        (
            'stage1: failed to setup network: error translating addresses of network "default": '
            "iptables-restore exited 3: no such table"
        ),
        "stage1: command: /usr/sbin/iptables-restore --wait --noflush",
    ]
    assert result.err.count("error undoing") == 1
    site.collect()
    assert site("list", "--no-legend").out.strip() == ""


_BETWEEN = """#!/bin/sh
/usr/sbin/{program} "$@" || exit
case "$*" in *" nat -S") ;; *) exit 0 ;; esac
# The first time only.
mkdir {directory}/changed 2>/dev/null || exit 0
/usr/sbin/{program} -t nat -S | sed -n 's/^-A \\(PREROUTING .*\\)/-t nat -D \\1/p' | xargs /usr/sbin/{program}
"""


@pytest.mark.promise("P7")
@pytest.mark.attack(34)
@pytest.mark.parametrize("program", ["iptables", "ip6tables"])
def test_rules_that_somebody_changes_while_they_are_taken_away(host: Host, program: str) -> None:
    """A rule of the pod is listed, and gone before it is taken away: the others go all the same."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": "10.90.0.0/24"}], [{"subnet": "fd00:90::/64"}]]}
    host.network(
        "10-n.conf", {"cniVersion": "1.0.0", "name": "n", "type": "ptp", "ipMasq": True, "ipam": ipam}
    )
    assert "error" not in host.setup("n", ports=[("tcp", "", 8080, 80)])[0]
    path = os.path.join(host.directory, program)
    with open(path, "w") as file:
        file.write(_BETWEEN.format(program=program, directory=host.directory))
    os.chmod(path, 0o755)
    path = f"{host.directory}:/usr/sbin:/usr/bin"
    assert host.teardown(env={**os.environ, "PATH": path}) == []
    assert os.path.exists(f"{host.directory}/changed")


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ("default:x", 'network "default" provided with invalid arguments: [x]'),
        ("default:IP=1:2=3", 'network "default" provided with invalid arguments: [IP=1 2=3]'),
        ("default,default", 'found duplicate netname "default"'),
        ("default,,n", "netname must not be empty"),
        ("host:IP=1.2.3.4", 'arguments are not supported by special netname "host"'),
        ("nosuch", "networks not found: nosuch"),
        ("default:IP=here", 'error adding network "default": plugin /usr/lib/cni/ptp failed at ADD'),
        ("default:NOSUCH=1", 'error adding network "default": plugin /usr/lib/cni/ptp failed at ADD'),
        ("default:IP=10.1.1.1", 'error adding network "default": plugin /usr/lib/cni/ptp failed at ADD'),
    ],
)
def test_selections_and_arguments(site: Site, box: str, net: str, message: str) -> None:
    refused(site, box, message, net=net)


@pytest.mark.promise("P9")
def test_arguments_that_a_plugin_does_not_know(site: Site, box: str) -> None:
    value = {"type": "macvlan", "master": "up0", "ipam": PTP["ipam"]}
    site.host.network("10-n.conf", {"cniVersion": "1.0.0", "name": "n", **value})
    said = 'stage1: failed to setup network: error adding network "n": plugin /usr/lib/cni/macvlan failed at '
    said += 'ADD (exit code 1): ARGS: unknown args ["IP=10.80.0.9"]\n'
    said += "stage1: IgnoreUnknown=1 among the arguments lets each plugin take those it knows\n"
    refused(site, box, said, net="n:IP=10.80.0.9")
    result = site.run("--net=n:IP=10.80.0.9;IgnoreUnknown=1", box, "--exec=/bin/ip", "--", "-4", "address")
    assert "10.80.0.9/24" in result.out, result
    site.collect()


@pytest.mark.promise("P7")
@pytest.mark.attack(34)
def test_a_hanging_plugin_is_killed_with_what_it_has_started(host: Host) -> None:
    """Also what has left its process group."""
    sleep = own_sleep()
    host.plugin("bad", f'[ "$CNI_COMMAND" = ADD ] || exit 0\nsetsid {sleep} & {sleep} & wait')
    host.network("zz-n.conf", {"name": "n", "type": "bad"})
    done, _ = host.setup("default,n", limit=6)
    assert done["error"].startswith(
        f'error adding network "n": plugin {host.config}/net.d/bad failed at ADD: '
    )
    assert done["error"].endswith("killed, as it had not ended after 6 seconds")
    assert not is_left(sleep)


@pytest.mark.promise("P7")
@pytest.mark.attack(34)
def test_an_address_pool_that_is_exhausted(host: Host, site: Site, box: str) -> None:
    host.network("10-n.conf", {"name": "n", **TINY})
    assert "error" not in host.setup("n")[0]
    before = host.state()
    said = 'error adding network "n": plugin /usr/lib/cni/ptp failed at ADD (exit code 1): '
    refused(site, box, f"stage1: failed to setup network: {said}")
    refused(site, box, "no IP addresses available in range set")
    done, _ = host.setup("default,n", uuid=OTHER)
    assert 'error adding network "n": plugin /usr/lib/cni/ptp failed at ADD' in done["error"]
    assert "no IP addresses available in range set" in done["error"]
    assert done["said"] == []
    assert host.state() == before
    assert host.teardown() == []
    assert "error" not in host.setup("n", uuid=OTHER)[0]  # the lease was returned
    assert host.teardown(OTHER) == []


@pytest.mark.attack(34)
def test_the_same_host_port_twice(site: Site, tmp_path: os.PathLike[str]) -> None:
    from support import aci

    ports = [{"name": name, "protocol": "tcp", "port": port} for name, port in (("a", 80), ("b", 81))]
    image = aci.busybox(os.path.join(tmp_path, "two.aci"), app=aci.app("/bin/true", ports=ports))
    before = site.host.state()
    for command in (["run", f"--stage1-path={site.stage1}"], ["prepare", f"--stage1-path={site.stage1}"]):
        result = site(*command, "--port=a:8080", "--port=b:8080", image)
        assert result.code == 254
        assert "port tcp-0.0.0.0:8080 already mapped to pod port 80" in result.err
        result = site(*command, "--port=nosuch:8080", image)
        assert 'port name "nosuch" could not be found in any apps' in result.err
        assert site("list", "--no-legend").out.strip() == ""
    assert site.host.state() == before


@pytest.mark.promise("P7")
class TestRemovedPlugins:
    """A plugin was uninstalled while a pod had its network."""

    def places(self, host: Host, *names: str) -> str:
        """Only these of the distribution's plugins are there from now on; the others can come back."""
        host.run("umount", "/usr/lib/cni")
        directory = os.path.join(host.directory, "cni")
        os.makedirs(directory, exist_ok=True)
        for name in os.listdir(directory):
            os.unlink(os.path.join(directory, name))
        for name in names:
            host.ok("cp", f"/usr/lib/cni/{name}", directory)
        host.ok("mount", "--bind", directory, "/usr/lib/cni")
        return directory

    @pytest.mark.parametrize("left", [["host-local"], []])
    @pytest.mark.parametrize("masquerade", ["rkt", "plugin"])
    def test_what_standard_plugins_left_is_known(self, host: Host, left: list[str], masquerade: str) -> None:
        host.setup("default")
        if masquerade == "plugin":  # as a pod of rkt 1.30 has it
            comment = ["-m", "comment", "--comment", f'name: "default" id: "{UUID}"']
            host.ok("iptables", "-t", "nat", "-N", "CNI-0123")
            host.ok("iptables", "-t", "nat", "-A", "POSTROUTING", *comment, "-j", "CNI-0123")
            path = f"{host.pod()}/net/record.json"
            with open(path) as file:
                record = json.load(file)
            record["networks"][0]["masquerade"] = False
            with open(path, "w") as file:
                json.dump(record, file)
        assert host.state()["leases"]
        self.places(host, *left)
        assert host.teardown() == []
        host.ok("umount", "/usr/lib/cni")

    def test_an_unknown_plugin_is_waited_for(self, host: Host) -> None:
        host.plugin("own", 'echo "$CNI_COMMAND" >>"' + host.directory + '/calls"; echo "{}"')
        host.network("10-n.conf", {"name": "n", "type": "own"})
        host.setup("default,n")
        path = f"{host.config}/net.d/own"
        os.rename(path, path + ".away")
        for _ in range(2):
            (fault,) = host.teardown()
            assert fault.startswith('error removing network "n": could not find plugin "own" in ')
        assert host.state()["leases"] == []  # of the other network
        os.rename(path + ".away", path)
        assert host.teardown() == []
        with open(f"{host.directory}/calls") as file:
            assert file.read().split() == ["ADD", "DEL"]

    def test_a_network_is_given_up_by_removing_its_copy(self, host: Host) -> None:
        host.plugin("own", 'echo "{}"')
        host.network("10-n.conf", {"name": "n", "type": "own"})
        host.setup("n")
        os.unlink(f"{host.config}/net.d/own")
        assert host.teardown() != []
        os.unlink(f"{host.pod()}/net/10-n.conf")
        assert host.teardown() == []


@pytest.mark.promise("P7")
@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGINT, 130, ""),
        (signal.SIGTERM, 254, "interrupted by SIGTERM"),
        (signal.SIGHUP, 254, "interrupted by SIGHUP"),
    ],
)
def test_interrupted_while_a_plugin_runs(site: Site, box: str, number: int, code: int, words: str) -> None:
    """All is undone before the command ends: the plugin, what was made before it, the pod."""
    host = site.host
    running = os.path.join(host.directory, "running")
    sleep = own_sleep()
    host.plugin("slow", f'[ "$CNI_COMMAND" = ADD ] || exit 0\ntouch {running}; exec {sleep}')
    host.network("zz-slow.conf", {"name": "slow", "type": "slow"})
    before = host.state()
    pod = site.start("--net=default,slow", box)
    until(lambda: os.path.exists(running))
    assert host.state()["leases"] != before["leases"]
    pod.send_signal(number)
    out, _ = pod.communicate(timeout=PATIENCE)
    assert (pod.returncode, "Traceback" in out) == (code, False), out
    assert words in out
    assert host.state() == before
    assert site("list", "--no-legend").out.strip() == ""
    assert not is_left(sleep)


@pytest.mark.promise("P7")
class TestKilled:
    """SIGKILL at any moment of ``run``: the next gc gives everything back."""

    @pytest.mark.parametrize("delay", [0.03, 0.06, 0.09, 0.12, 0.15, 0.18, 0.22, 0.3, 0.5])
    def test_run(self, site: Site, box: str, delay: float) -> None:
        pod = site.start("--net=default,default-restricted", box, "--exec=/bin/sleep", "--", "100")
        time.sleep(delay)
        pod.kill()
        pod.communicate()
        end_pods(site)
        site.collect()
        assert site("list", "--no-legend").out.strip() == ""

    @pytest.mark.attack(34)
    def test_a_failing_del_keeps_the_pod_for_the_next_gc(self, site: Site, box: str) -> None:
        host = site.host
        host.plugin(
            "sticky", f'[ "$CNI_COMMAND" != DEL ] || [ -e {host.directory}/mended ] || exit 7\necho "{{}}"'
        )
        host.network("10-n.conf", {"name": "n", "type": "sticky"})
        assert site.run("--net=n", box).code == 0
        (line,) = site("list", "--full", "--no-legend").out.splitlines()
        uuid = line.split("\t")[0]
        for _ in range(2):
            done = site("gc", "--grace-period=0s")
            assert done.code == 254
            assert 'error removing network "n": plugin ' in done.err
            assert "sticky failed at DEL (exit code 7)" in done.err
            assert "state=exited garbage\n" in site("status", uuid).out
        done = site("rm", uuid)
        assert done.code == 254
        with open(f"{host.directory}/mended", "w"):
            pass
        site.collect()
        assert site("list", "--no-legend").out.strip() == ""

    @pytest.mark.attack(34)
    def test_a_plugin_that_hangs_at_del(self, site: Site, box: str) -> None:
        """It is killed before the gc that asks it is given up, the other networks are taken down, and it is
        asked again by the next gc."""
        host = site.host
        sleep = own_sleep()
        host.plugin(
            "stuck",
            f'[ "$CNI_COMMAND" != DEL ] || [ -e {host.directory}/mended ] || exec {sleep}\necho "{{}}"',
        )
        host.network("zz-n.conf", {"name": "n", "type": "stuck"})
        assert site.run("--net=default,n", box).code == 0
        assert host.state()["leases"]
        done = site("gc", "--grace-period=0s")
        assert done.code == 254
        said = (
            f'gc: error removing network "n": plugin {host.config}/net.d/stuck failed at DEL: killed, as it '
        )
        assert re.search(re.escape(said) + r"had not ended after \d+ seconds\n", done.err), done
        assert (host.state()["leases"], host.state()["namespaces"]) == ([], ["world"])
        assert not is_left(sleep)
        with open(f"{host.directory}/mended", "w"):
            pass
        site.collect()
        assert site("list", "--no-legend").out.strip() == ""

    def test_without_the_tree_of_the_stage1(self, site: Site, box: str) -> None:
        """Nobody can call the stage1's gc any more: stage0 takes the network down itself."""
        before = site.host.state()
        assert site.run("--net=default", box).code == 0
        assert site.host.state() != before
        data = site.program.dir
        (uuid,) = os.listdir(os.path.join(data, "pods", "run"))
        site.host.ok("umount", "-R", os.path.join(data, "pods", "run", uuid, "stage1/rootfs"))
        site.host.ok("rm", "-r", os.path.join(data, "cas", "tree"))
        site.collect()
        assert site.host.state() == before

    @pytest.mark.attack(34)
    def test_a_pod_that_cannot_start_and_cannot_be_undone_stays(self, site: Site, box: str) -> None:
        """Its network came up, what follows fails, and a plugin does not take its part back."""
        host = site.host
        host.plugin(
            "sticky", f'[ "$CNI_COMMAND" != DEL ] || [ -e {host.directory}/mended ] || exit 7\necho "{{}}"'
        )
        host.network("10-n.conf", {"name": "n", "type": "sticky"})
        host.network("20-bad.conf", {"name": "bad", "type": "ptp", "ipam": {"type": "absent"}})
        result = site.run("--net=n,bad", box)
        assert result.code == 254
        assert result.err.count("error undoing") == 1  # once is asked, once is said
        assert 'error undoing the network setup: error removing network "n": plugin ' in result.err
        assert site("gc", "--grace-period=0s").code == 254
        with open(f"{host.directory}/mended", "w"):
            pass
        site.collect()
        assert site("list", "--no-legend").out.strip() == ""


def end_pods(site: Site) -> None:
    """What the killed command has started goes with it, or is stopped: wait until no pod runs."""

    def have_ended() -> bool:
        listed = site("list", "--full", "--no-legend").out.splitlines()
        running = [line.split("\t")[0] for line in listed if "\trunning\t" in line]
        for uuid in running:
            site("stop", "--force", uuid)
        return not running

    until(have_ended)
