"""What the manifest promises, read from /proc and the control groups for every process of a pod.

One pod of apps with different isolators; each of its processes is found by its control group, belongs to one
row of the table, and is compared with it.  A process that no row expects fails the test.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pod_manifests as manifests
import pytest
from flavors import Flavor
from systemd_pod import Running, leftovers, pods

from rkt.linux import cgroup
from rkt.linux.capabilities import NUMBERS
from support import driver
from support.processes import find_all
from support.waiting import PATIENCE, until

pytest_plugins = ("flavor_fixtures",)

DEFAULT = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FSETID FOWNER KILL MKNOD NET_RAW NET_BIND_SERVICE SETUID SETGID SETPCAP "
    "SETFCAP SYS_CHROOT"
).split()
# What systemd needs, and what any of its apps has.
SUPERVISOR = [*DEFAULT, "SYS_ADMIN", "SYS_PTRACE", "SYS_RESOURCE", "SYS_TTY_CONFIG", "NET_ADMIN"]
# Around the whole pod: terminals, and what a pod may call.
AROUND = 2
WEB = ["1000", "1001"]


def mask(names: list[str]) -> int:
    return sum(1 << NUMBERS["CAP_" + name] for name in names)


class Row:
    """What the processes of one kind are to be; None where the manifest says nothing about it.

    ``ids`` are user and group, ``groups`` the supplementary ones; ``filtered`` tells of a filter of the app's
    own within the one around the pod.
    """

    def __init__(self, *capabilities: str, **members: Any) -> None:
        self.bounding = mask(list(capabilities))
        self.ids: list[str] = members.pop("ids", ["0", "0"])
        self.groups: list[str] = members.pop("groups", [])
        self.no_new_privileges: bool = members.pop("no_new_privileges", False)
        self.filtered: bool = members.pop("filtered", True)
        self.memory: int | None = members.pop("memory", None)
        self.cpu: int | None = members.pop("cpu", None)
        self.iops: int | None = members.pop("iops", None)
        self.oom_score_adj: int | None = members.pop("oom_score_adj", None)
        assert not members, members

    def but(self, **members: Any) -> Row:
        """The same row with some other members."""
        made = Row()
        made.__dict__.update(self.__dict__, **members)
        return made


# In version 1 systemd does not know this limit, and makes the group of a handler that comes last anew.
LEGACY = cgroup.hierarchy_of("blkio") is not None
KILL_ONLY = Row("KILL", no_new_privileges=True, memory=64 << 20, cpu=50_000, iops=300, oom_score_adj=200)
ROWS = {
    "init.scope": Row(*SUPERVISOR, filtered=False),
    "systemd-journald.service": Row(*SUPERVISOR, filtered=False, no_new_privileges=True),
    "plain.service": Row(*DEFAULT),
    "user.service": KILL_ONLY.but(ids=WEB, groups=["1002", "5000"]),
    "user_pre-start.service": KILL_ONLY,
    "user_post-stop.service": KILL_ONLY.but(iops=None) if LEGACY else KILL_ONLY,
    "rkt_enter_user.service": KILL_ONLY,
    "open.service": Row(*DEFAULT, "NET_ADMIN", filtered=False),
    "tight.service": Row(*(name for name in DEFAULT if name != "CHOWN"), memory=48 << 20),
}
"""By the unit whose control group a process is in; what is entered is root there."""
ENTERED = {"plain": ROWS["plain.service"], "user": KILL_ONLY, "open": ROWS["open.service"]}


def resource(name: str, limit: str) -> dict[str, Any]:
    return manifests.resource(name, limit)


def capabilities(kind: str, *names: str) -> dict[str, Any]:
    return {"name": f"os/linux/capabilities-{kind}-set", "value": {"set": ["CAP_" + name for name in names]}}


def pod(rkt: driver.Rkt, image: str) -> str:
    """Each app has a child besides its main process; ``user`` has handlers that take their time."""
    children = ("/bin/sh", "-c", "sleep 2001 & sleep 2002; wait")
    wait = "touch /{0}; until [ -e /go-on ]; do sleep 0.05; done; sleep 0.1"
    user = [
        capabilities("retain", "KILL"),
        {"name": "os/linux/no-new-privileges", "value": True},
        {"name": "os/linux/oom-score-adj", "value": 200},
        *(resource("memory", "64Mi"), resource("cpu", "500m"), resource("block-iops", "300")),
    ]
    calls = {"set": ["reboot", "@systemd/clock"], "errno": "EPERM"}
    handlers = [
        {"name": "pre-start", "exec": ["/bin/sh", "-c", wait.format("before")]},
        {"name": "post-stop", "exec": ["/bin/sh", "-c", wait.format("after")]},
    ]
    return manifests.write(
        rkt,
        manifests.app("plain", image, *children),
        manifests.app(
            "user",
            image,
            *("/bin/sh", "-c", "trap 'exit 0' TERM; touch /dev/shm/trapped; while :; do sleep 0.1; done"),
            isolators=user,
            user="web",
            group="www",
            app={"supplementaryGIDs": [1002, 5000], "eventHandlers": handlers},
        ),
        manifests.app(
            "open",
            image,
            *children,
            isolators=[
                capabilities("retain", *DEFAULT, "NET_ADMIN"),
                {"name": "os/linux/seccomp-retain-set", "value": {"set": ["@appc.io/all"]}},
            ],
        ),
        manifests.app(
            "tight",
            image,
            *children,
            isolators=[
                capabilities("remove", "CHOWN"),
                {"name": "os/linux/seccomp-remove-set", "value": calls},
                resource("memory", "48Mi"),
            ],
        ),
    )


class Facts:
    """A process as /proc and its control groups show it to the host; ProcessLookupError when it has ended."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            with open(f"/proc/{pid}/status") as file:
                self.status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
            with open(f"/proc/{pid}/cmdline") as file:
                self.command = file.read().rstrip("\0").replace("\0", " ")
            self.maps = tuple(self._read(name) for name in ("uid_map", "gid_map"))
            self.limits, self.oom_score_adj = self._read("limits"), self._read("oom_score_adj").strip()
            self.keyrings = self._read("attr/current") if os.path.exists("/sys/fs/selinux") else ""
            self.cgroup = cgroup.own(pid)
            self.namespaces = {
                name: os.readlink(f"/proc/{pid}/ns/{name}") for name in os.listdir("/proc/self/ns")
            }
        except FileNotFoundError as error:
            raise ProcessLookupError(pid) from error

    def _read(self, name: str) -> str:
        with open(f"/proc/{self.pid}/{name}") as file:
            return file.read()

    @property
    def is_becoming(self) -> bool:
        """Whether it is about to execute: systemd with a name in parentheses, or rkt's ``enter``."""
        return self.command.startswith("(") or not self.command or "/enter --pid=" in self.command

    @property
    def unit(self) -> str:
        """The last part of the path in the hierarchy by which systemd knows its units."""
        path = self.cgroup.get("name=systemd", "/")
        return os.path.basename(path if path != "/" else self.cgroup[cgroup.UNIFIED])

    def control(self, legacy: str, unified: str, *controllers: str) -> str:
        for name in controllers:
            hierarchy = cgroup.hierarchy_of(name)
            if hierarchy is not None:
                path = self.cgroup[cgroup.UNIFIED if hierarchy.unified else name]
                return cgroup.read_value(hierarchy.directory(path), unified if hierarchy.unified else legacy)
        raise AssertionError(f"this machine has none of {controllers}")

    def __repr__(self) -> str:
        return f"{self.unit}: {self.command}"


def possible() -> int:
    """The bounding set of this process: no pod of this user namespace has more."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd"))


def compare(facts: Facts, row: Row, first_id: int) -> None:
    """A process with its row; ``first_id`` is what user 0 of the pod is on the host."""
    status = facts.status
    # A new user namespace begins with every capability; over the network, which is not its own, it has none.
    bounding = row.bounding & (~mask(["NET_BIND_SERVICE"]) if first_id else possible())
    ids = [str(int(number) + first_id) for number in row.ids]
    assert status["Uid"].split() == [ids[0]] * 4, facts
    assert status["Gid"].split() == [ids[1]] * 4, facts
    # systemd lists a user's group among the supplementary ones too.
    groups = set(status["Groups"].split()) - {ids[1]}
    assert groups == {str(int(number) + first_id) for number in row.groups}, facts
    assert int(status["CapBnd"], 16) == bounding, facts
    held = bounding if row.ids[0] == "0" else 0
    assert (int(status["CapPrm"], 16), int(status["CapEff"], 16)) == (held, held), facts
    # Process 1 gives none of what systemd-nspawn lets it inherit to those it starts.
    assert int(status["CapInh"], 16) == (bounding if facts.unit == "init.scope" else 0), facts
    assert int(status["CapAmb"], 16) == 0, facts
    assert status["NoNewPrivs"] == str(int(row.no_new_privileges or (row.filtered and row.ids[0] != "0"))), (
        facts
    )
    assert status["Seccomp"] == "2", facts
    assert (int(status["Seccomp_filters"]) > AROUND) is row.filtered, facts
    if row.memory is not None:
        assert facts.control("memory.limit_in_bytes", "memory.max", "memory") == str(row.memory), facts
    if row.cpu is not None:
        assert facts.control("cpu.cfs_quota_us", "cpu.max", "cpu").split()[0] == str(row.cpu), facts
    if row.iops is not None:
        text = facts.control("blkio.throttle.read_iops_device", "io.max", "blkio", "io")
        assert str(row.iops) in text.replace("=", " ").split(), facts
    if row.oom_score_adj is not None:
        assert facts.oom_score_adj == str(row.oom_score_adj), facts


def processes(running: Running) -> list[Facts]:
    """Every process in the pod's control groups but its supervisor, which is outside of the pod."""
    found = []
    with open(os.path.join(running.directory, "subcgroup")) as file:
        name = os.path.basename(file.read().strip())
    for hierarchy in cgroup.hierarchies():
        own = cgroup.own(running.supervisor)[hierarchy.controllers[0]]
        path = own[: own.index(name) + len(name)] if name in own else ""
        for pid in cgroup.processes(path, mounted=[hierarchy]) if path else ():
            if pid != running.supervisor and pid not in {facts.pid for facts in found}:
                try:
                    found.append(Facts(pid))
                except ProcessLookupError:
                    continue
    return found


def settled(running: Running, wanted: Callable[[list[Facts]], bool]) -> list[Facts]:
    """The processes, once they are those waited for, and what systemd has begun to start is started."""
    deadline = time.monotonic() + PATIENCE
    found: list[Facts] = []
    while time.monotonic() < deadline:
        found = processes(running)
        if wanted(found) and not any(facts.is_becoming for facts in found):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def has(command: str, *units: str) -> Callable[[list[Facts]], bool]:
    """Whether these units have processes, and one of them this command."""

    def check(found: list[Facts]) -> bool:
        known = {facts.unit for facts in found}
        return any(command in facts.command for facts in found) and known == {*ALWAYS, *units}

    return check


ALWAYS = {"init.scope", "systemd-journald.service"}
APPS = ("plain.service", "open.service", "tight.service")


@pytest.fixture(autouse=True)
def _clean(rkt: driver.Rkt) -> Iterator[None]:
    yield
    uuids = pods(rkt)
    rkt.clean()
    assert leftovers(rkt, uuids) == []


def _hostile_caller() -> None:
    """What a pod is not to take from whoever starts it."""
    os.setgroups([4242, 4243])
    os.umask(0o777)
    os.nice(3)


@pytest.mark.promise("P5")
@pytest.mark.parametrize("users", [[], ["--private-users"]], ids=["host-ids", "own-ids"])
def test_every_process_of_a_pod(rkt: driver.Rkt, box: str, users: list[str]) -> None:
    words = (*users, pod(rkt, manifests.fetch(rkt, box)))
    running = Running(rkt, *words, ready=False, preexec_fn=_hostile_caller)
    with running:
        running.wait_for("/before", app="user")
        found = settled(running, has("sleep", *APPS, "user_pre-start.service"))
        first_id = _first_id(found, users)
        for facts in found:
            compare(facts, ROWS[facts.unit], first_id)
        for unit in APPS:
            assert len([facts for facts in found if facts.unit == unit]) == 3, found

        _touch(running, "user", "/go-on")
        found = settled(running, has("trap", *APPS, "user.service"))
        _one_set_of_namespaces(found)
        entered = _enter_all(rkt, running)
        try:
            found = settled(running, lambda found: len(_sleepers(found)) == len(ENTERED))
            for facts in found:
                own = facts.command.startswith("/bin/sleep 3000")
                compare(
                    facts, ENTERED[facts.unit.removesuffix(".service")] if own else ROWS[facts.unit], first_id
                )
            _same_limits_in_each_app(found)
        finally:
            for process in entered:
                driver.end(process)

        # The app ends, the handler after it runs, and a command beside the app that has ended.
        _remove(running, "user", "/go-on")
        main = next(facts for facts in found if facts.unit == "user.service" and "trap" in facts.command)
        os.kill(main.pid, 15)
        running.wait_for("/after", app="user")
        late = rkt.start("enter", "--app=user", running.uuid, "/bin/sleep", "3000")
        try:
            wanted = (*APPS, "user_post-stop.service", "rkt_enter_user.service")
            found = settled(running, has("/bin/sleep 3000", *wanted))
            for facts in found:
                compare(facts, ROWS[facts.unit], first_id)
        finally:
            driver.end(late)
        _touch(running, "user", "/go-on")
    told = [line.partition(": isolator ")[2] for line in running.result.err.splitlines()]
    assert [line.partition(":")[0] for line in told if line] == [
        *(["os/linux/capabilities-retain-set is changed"] if users else []),
        *(["resource/block-iops is changed"] if LEGACY else []),
    ][::-1], told


def _first_id(found: list[Facts], users: list[str]) -> int:
    """All processes have the same map, which is the pod's; the host's own without --private-users."""
    (maps,) = {facts.maps for facts in found}
    inside, outside, count = (int(word) for word in maps[0].split())
    assert maps[0] == maps[1]
    assert inside == 0
    assert (outside > 0, count) == ((True, 65536) if users else (False, (1 << 32) - 1))
    return outside


def _one_set_of_namespaces(found: list[Facts]) -> None:
    """Of each kind but mount namespaces, which systemd, its own services and each app have for themselves."""
    for kind in found[0].namespaces:
        names = {facts.namespaces[kind] for facts in found}
        host = os.readlink(f"/proc/self/ns/{kind}")
        if kind == "mnt":
            by_unit = {facts.unit: facts.namespaces[kind] for facts in found}
            apps = [by_unit[unit] for unit in (*APPS, "user.service")]
            assert len({*apps, by_unit["init.scope"]}) == len(apps) + 1
            assert host not in names
        elif kind in ("time", "time_for_children") or (kind == "user" and host in names):
            assert names == {host}, kind
        else:
            assert len(names) == 1, kind
            assert host not in names, kind


def _enter_all(rkt: driver.Rkt, running: Running) -> list[Any]:
    return [
        rkt.start("enter", f"--app={app}", running.uuid, "/bin/sleep", "3000", preexec_fn=_hostile_caller)
        for app in ENTERED
    ]


def _sleepers(found: list[Facts]) -> list[Facts]:
    return [facts for facts in found if facts.command == "/bin/sleep 3000"]


def _same_limits_in_each_app(found: list[Facts]) -> None:
    """What is entered has the resource limits and the control groups of the app."""
    for facts in _sleepers(found):
        others = [other for other in found if other.unit == facts.unit]
        assert {other.limits for other in others} == {facts.limits}, facts
        assert all(other.cgroup == facts.cgroup for other in others), facts
        assert all(other.namespaces == facts.namespaces for other in others), facts


def _root(running: Running, app: str) -> str:
    return f"{running.directory}/stage1/rootfs/opt/stage2/{app}/rootfs"


def _touch(running: Running, app: str, path: str) -> None:
    with open(_root(running, app) + path, "w"):
        pass


def _remove(running: Running, app: str, path: str) -> None:
    os.unlink(_root(running, app) + path)


# -- fly -------------------------------------------------------------------------------------------------


@pytest.mark.promise("P5")
def test_every_process_under_fly(rkt: driver.Rkt, box: str, flavor: Flavor) -> None:
    """The app, its child, and a command beside it; the waiting process is rkt's own."""
    if flavor.name != "fly":
        return
    path = os.path.join(rkt.base, "uuid")
    isolators = [
        capabilities("retain", "KILL"),
        {"name": "os/linux/no-new-privileges", "value": True},
        {"name": "os/linux/oom-score-adj", "value": 200},
    ]
    entry = manifests.app(
        *("app", manifests.fetch(rkt, box), "/bin/sh", "-c", "sleep 2003 & sleep 2004; wait"),
        isolators=isolators,
        user="web",
        group="www",
        app={"supplementaryGIDs": [1002, 5000]},
    )
    words = flavor.words(f"--uuid-file-save={path}", manifests.write(rkt, entry))
    process = rkt.start(*words, preexec_fn=_hostile_caller)
    try:
        until(lambda: os.path.exists(path))
        with open(path) as file:
            uuid = file.read()
        rkt.ok("status", "--wait-ready=120s", uuid)
        entered = rkt.start("enter", uuid, "/bin/sleep", "3000", preexec_fn=_hostile_caller)
        commands = {"/bin/sh -c sleep 2003 & sleep 2004; wait", "sleep 2003", "sleep 2004", "/bin/sleep 3000"}
        found = [Facts(pid) for pid in find_all(commands, process.pid, entered.pid).values()]
        row = Row("KILL", no_new_privileges=True, oom_score_adj=200)
        around = [facts.status["Seccomp_filters"] for facts in found]
        assert len(set(around)) == 1
        for facts in found:
            own = facts.command == "/bin/sleep 3000"
            facts.status["Seccomp_filters"] = str(int(facts.status["Seccomp_filters"]) + AROUND)
            compare(facts, row if own else row.but(ids=WEB, groups=["1002", "5000"]), 0)
            assert facts.status["Umask"] == "0022"
        driver.end(entered)
    finally:
        driver.end(process)
