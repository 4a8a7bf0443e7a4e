"""A host of its own for network tests: network and mount namespaces with an empty /run and no leases.

Nothing a test does there touches the machine's interfaces, rules or leases, and closing it takes
everything away.  The code under test runs in fresh interpreters, as stage1's entry points do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from support.waiting import PATIENCE, until

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "src")
UUID = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f1"

# The outside world is a third namespace with one address and no route to any pod: an answer comes back
# only to the address of the host.
_PREPARE = """
set -e
umount -q -R -l /run/netns || true
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/cni
mkdir -p /run/netns
ip link set lo up
ip netns add world
ip link add up0 type veth peer name up0 netns world
ip address add 203.0.113.2/24 dev up0
ip address add 2001:db8::2/64 dev up0 nodad
ip link set up0 up
ip -n world link set lo up
ip -n world link set up0 up
ip -n world address add 203.0.113.1/24 dev up0
ip -n world address add 2001:db8::1/64 dev up0 nodad
iptables -t nat -S >/dev/null
ip6tables -t nat -S >/dev/null
echo ready
exec sleep 1000
"""

_SETUP = """
import os, sys, gc
gc.disable()
sys.path.insert(0, {source!r})
from rkt.errors import RktError, one_line
from rkt.network import lifecycle
from rkt.network.forwarding import ForwardedPort
from rkt.network.selection import parse_networks
from rkt.appc import gojson
import fcntl
spec = gojson.loads(sys.argv[1])
lock = os.open(spec["pod"], os.O_RDONLY)
fcntl.flock(lock, fcntl.LOCK_EX)
os.set_inheritable(lock, True)
said = []
before = os.readlink("/proc/self/ns/net")
try:
    done = lifecycle.setup(lifecycle.NetworkRequest(
        spec["uuid"], spec["pod"], parse_networks(spec["net"]), local_config=spec["config"],
        ports=[ForwardedPort(*port[:4], count=(port[4:] or [1])[0]) for port in spec["ports"]],
        notify=said.append, time_limit=spec["limit"], **spec["more"]))
except RktError as exc:
    same = os.readlink("/proc/self/ns/net") == before
    print(gojson.dumps({{"error": one_line(exc), "said": said, "same": same}}))
    sys.exit(1)
print(gojson.dumps({{"netns": done.netns, "networks": [n.to_value() for n in done.networks],
    "dns": None if done.dns is None else done.dns.nameservers, "host_ip": done.host_ip, "said": said,
    "moved": os.readlink("/proc/self/ns/net") != before}}))
sys.stdout.flush()
if spec["command"]:
    os.execvp(spec["command"][0], spec["command"])
"""

_TEARDOWN = """
import os, sys
sys.path.insert(0, {source!r})
from rkt.errors import one_line
from rkt.network import lifecycle
from rkt.appc import gojson
pod, uuid, config, limit = sys.argv[1:]
faults = lifecycle.teardown(pod, uuid, config, time_limit=float(limit))
print(gojson.dumps([one_line(fault) for fault in faults]))
"""


_CHECK = """
import os, sys
sys.path.insert(0, {source!r})
from rkt.errors import one_line
from rkt.network.check import check
from rkt.appc import gojson
pod, uuid, config, limit = sys.argv[1:]
found = check(pod, uuid, config, time_limit=float(limit))
print(gojson.dumps([one_line(fault) for _, fault in found if fault]))
"""


class Host:
    """The namespaces, kept by one sleeping process."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.config = os.path.join(directory, "config")
        self.pods = os.path.join(directory, "pods", "run")
        os.makedirs(os.path.join(self.config, "net.d"))
        os.makedirs(self.pods)
        os.makedirs("/var/lib/cni", exist_ok=True)
        self.keeper = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _PREPARE],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.keeper.stdout is not None
        assert self.keeper.stdout.readline() == "ready\n"

    def close(self) -> None:
        self.keeper.kill()
        self.keeper.wait()
        assert self.keeper.stdout is not None
        self.keeper.stdout.close()

    def command(self, *argv: str) -> list[str]:
        return ["nsenter", f"--target={self.keeper.pid}", "--net", "--mount", *argv]

    def run(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        options.setdefault("timeout", PATIENCE)
        return subprocess.run(self.command(*argv), capture_output=True, text=True, check=False, **options)

    def ok(self, *argv: str, **options: Any) -> str:
        done = self.run(*argv, **options)
        assert done.returncode == 0, (argv, done.stdout, done.stderr)
        return done.stdout

    def world(self, *argv: str) -> list[str]:
        return self.command("ip", "netns", "exec", "world", *argv)

    def network(self, name: str, value: Any) -> None:
        """Configure a network: a file of net.d."""
        with open(os.path.join(self.config, "net.d", name), "w") as file:
            file.write(value if isinstance(value, str) else json.dumps(value))

    def plugin(self, name: str, script: str) -> None:
        """Put a plugin of our own into net.d."""
        path = os.path.join(self.config, "net.d", name)
        with open(path, "w") as file:
            file.write("#!/bin/sh\n" + script + "\n")
        os.chmod(path, 0o755)

    def pod(self, uuid: str = UUID) -> str:
        """The directory of a pod, made when missing."""
        path = os.path.join(self.pods, uuid)
        os.makedirs(path, exist_ok=True)
        return path

    def setup_argv(
        self,
        net: str,
        *command: str,
        ports: Any = (),
        uuid: str = UUID,
        limit: float = 60,
        code: str = _SETUP,
        pod: str = "",
        **more: Any,
    ) -> list[str]:
        specification = {
            "uuid": uuid,
            "pod": pod or self.pod(uuid),
            "net": net,
            "config": self.config,
            "ports": ports,
            "command": command,
            "limit": limit,
            "more": more,
        }
        source = code.format(source=os.path.abspath(SOURCE))
        return self.command("/usr/bin/python3", "-IS", "-c", source, json.dumps(specification))

    def setup(self, net: str, *command: str, **options: Any) -> tuple[dict[str, Any], str]:
        """Set a pod's network up; what came of it, and what ``command`` printed inside."""
        done = subprocess.run(
            self.setup_argv(net, *command, **options),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.stdout, done.stderr
        first, _, rest = done.stdout.partition("\n")
        return json.loads(first), rest

    def start(self, net: str, *command: str, **options: Any) -> tuple[dict[str, Any], subprocess.Popen[str]]:
        """The same, with ``command`` left running in the pod's namespace and the pod's lock held."""
        process = subprocess.Popen(
            self.setup_argv(net, *command, **options),
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        return json.loads(process.stdout.readline()), process

    def without_iptables(self) -> None:
        """From now on this host has nftables only: nothing can execute iptables."""
        for name in ("xtables-nft-multi", "xtables-legacy-multi"):
            self.ok("mount", "--bind", "/dev/null", f"/usr/sbin/{name}")

    def wait_until_listening(self, port: int, *, world: bool = False, kind: str = "tcp") -> None:
        """Return when somebody listens on a port of the host or of the world."""
        words = ["ss", "--numeric", "--listening", "--no-header", f"--{kind}", f"sport = :{port}"]
        argv = self.world(*words) if world else self.command(*words)
        until(lambda: bool(subprocess.run(argv, capture_output=True, check=True).stdout))

    def fetch(self, address: str, port: int, *, world: bool = False) -> str:
        """What a server answers to the host or to the world; empty if there is none."""
        argv = python(FETCH.format(address=address, port=port))
        words = self.world(*argv) if world else self.command(*argv)
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
        return done.stdout.strip()

    def limits(self) -> list[int]:
        """The rates that interfaces of this host are limited to, in bytes per second."""
        listed = json.loads(self.ok("tc", "-j", "qdisc"))
        return [item["options"]["rate"] for item in listed if item["kind"] == "tbf"]

    def check(self, uuid: str = UUID) -> list[str]:
        """Ask the plugins of a pod whether all is as they made it."""
        return self.teardown(uuid, code=_CHECK)

    def teardown(
        self, uuid: str = UUID, limit: float = 60, code: str = _TEARDOWN, pod: str = "", **options: Any
    ) -> list[str]:
        source = code.format(source=os.path.abspath(SOURCE))
        argv = ["/usr/bin/python3", "-IS", "-c", source, pod or self.pod(uuid), uuid, self.config, str(limit)]
        return json.loads(self.ok(*argv, **options))  # type: ignore[no-any-return]

    def state(self) -> dict[str, list[str]]:
        """What a pod could leave behind on this host."""
        saved = [self.run(f"{program}-save").stdout for program in ("iptables", "ip6tables")]
        rules = [
            line for text in saved for line in text.splitlines() if line.startswith(("-", ":RKT", ":CNI"))
        ]
        rules += [line for line in self.ok("nft", "list", "tables").splitlines() if " inet " in line]
        leases = self.ok("find", "/var/lib/cni", "-name", "[0-9]*").split()
        return {
            "rules": sorted(line.split(" [")[0] for line in rules),
            "links": sorted(link["ifname"] for link in json.loads(self.ok("ip", "-j", "link"))),
            "namespaces": sorted(self.ok("ls", "/run/netns").split()),
            "leases": sorted(leases),
            "claims": sorted(self.run("ls", "/run/rkt/ports").stdout.split()),
        }


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


# Answers on both families, on ``count`` ports from ``port`` on, with its word, the port and who has asked.
SERVE = """
import select, socket
servers = [socket.create_server(("::", {port} + n), family=socket.AF_INET6, dualstack_ipv6=True)
    for n in range({count})]
print("listening", flush=True)
while True:
    for server in select.select(servers, [], [])[0]:
        connection, peer = server.accept()
        connection.sendall(f"{word} {{server.getsockname()[1]}} {{peer[0].removeprefix('::ffff:')}}".encode())
        connection.close()
"""


def serve(word: str, port: int, count: int = 1) -> list[str]:
    return python(SERVE.format(word=word, port=port, count=count))


FETCH = """
import socket, sys
connection = socket.create_connection(({address!r}, {port}), timeout=60)
print(connection.recv(100).decode())
"""
