"""docs/systemd.md, as it stands, on a host where rkt was installed; and what is installed beside it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from host_images import Images
from host_pods import SECONDS, assert_as_before, rkt, snapshot

from support import driver, hosts
from support.signing import Signer

PAGE = os.path.join(driver.ROOT, "docs", "systemd.md")
UNITS = "/etc/systemd/system/"
SHIPPED = sorted(os.listdir(os.path.join(driver.ROOT, "share", "systemd")))


class Section:
    """A section of the page: its units by path, and its commands in order."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.units: dict[str, str] = {}
        self.commands: list[str] = []


def read_page() -> list[Section]:
    """Indented lines: ``# PATH`` begins a unit that ends with the block or the next one, ``$`` a command."""
    sections: list[Section] = []
    unit = ""
    with open(PAGE) as file:
        lines = file.read().splitlines()
    for line in lines:
        text = line[4:] if line.startswith("    ") else ""
        if line.startswith("#"):
            sections.append(Section(line.strip("# ")))
            unit = ""
        elif text.startswith("# " + UNITS):
            unit = text[2:]
            sections[-1].units[unit] = ""
        elif text.startswith("$ "):
            sections[-1].commands.append(text[2:])
            unit = ""
        elif unit and (text or not line):
            sections[-1].units[unit] += text + "\n"
        else:
            unit = ""
    return sections


PAGE_SECTIONS = read_page()


@pytest.fixture(scope="module")
def installed(systemd_host: hosts.Host, tmp_path_factory: pytest.TempPathFactory) -> hosts.Host:
    """The host after ``make install``, which puts everything below a directory first, as a package does."""
    directory = os.fspath(tmp_path_factory.mktemp("install"))
    install = [os.path.join(driver.ROOT, "tools", "install"), f"{directory}/tree", "/usr"]
    subprocess.run(install, check=True, capture_output=True)
    subprocess.run(["tar", "-cf", f"{directory}/tar", "-C", f"{directory}/tree", "."], check=True)
    systemd_host.put(f"{directory}/tar", "/run/install.tar")
    systemd_host.ok(["tar", "-xf", "/run/install.tar", "-C", "/", "--keep-directory-symlink"])
    systemd_host.ok(["rm", "/run/install.tar"])
    return systemd_host


@pytest.fixture(scope="module")
def documented(installed: hosts.Host, tmp_path_factory: pytest.TempPathFactory) -> hosts.Host:
    """The host with all units of the page, and the images they name, signed by a key that is trusted."""
    directory = os.fspath(tmp_path_factory.mktemp("documented"))
    signer = Signer(f"{directory}/gpg")
    try:
        signer.key("alice")
        key = installed.put(signer.export_to(f"{directory}/key", "alice"), "/run/key")
        trust = ["trust", "--prefix=example.com", "--skip-fingerprint-review", key]
        installed.ok(["/usr/bin/rkt", *trust])
        for path in Images(directory).documented():
            name = os.path.basename(path)
            installed.put(signer.sign(path, "alice"), f"/var/lib/images/{name}.asc")
            installed.ok(["/usr/bin/rkt", "fetch", installed.put(path, f"/var/lib/images/{name}")])
    finally:
        signer.close()
    for section in PAGE_SECTIONS:
        for path, text in section.units.items():
            installed.write(path, text.encode())
    installed.ok(["systemctl", "daemon-reload"])
    return installed


@pytest.fixture
def clean(documented: hosts.Host) -> Iterator[hosts.Host]:
    """Nothing of a pod is left when the units of a section have ended."""
    before = snapshot(documented)
    yield documented
    units = [os.path.basename(path) for section in PAGE_SECTIONS for path in section.units]
    documented.ok(["systemctl", "stop", *units, *SHIPPED], SECONDS)
    assert documented.run(["systemctl", "--failed", "--quiet", "--no-legend"]).out == ""
    for _ in range(2):
        assert rkt(documented, "gc", "--grace-period=0s").code == 0
    assert_as_before(documented, before)


def test_all_units_are_understood_by_systemd(documented: hosts.Host) -> None:
    """Those of the page and those of share/systemd; a warning is a failure too."""
    paths = [path for section in PAGE_SECTIONS for path in section.units]
    paths += [f"/usr/lib/systemd/system/{name}" for name in SHIPPED]
    checked = documented.run(["systemd-analyze", "verify", "--man=no", *paths])
    assert (checked.code, checked.out, checked.err) == (0, "", "")


@pytest.mark.promise("P7")
@pytest.mark.parametrize(
    "section", [entry for entry in PAGE_SECTIONS if entry.commands], ids=lambda section: section.title
)
def test_the_commands_of_a_section_do_what_they_say(clean: hosts.Host, section: Section) -> None:
    """In order, each with success; units are active from ``start`` to ``stop``."""
    for command in section.commands:
        done = clean.run(["bash", "-ec", command], SECONDS)
        assert done.code == 0, done
        words = command.split()
        if words[0] == "curl":
            assert done.out in ("hello\n", "lazy 0/1 lazy.socket\n"), done
        if words[:2] == ["systemctl", "start"]:
            for unit in words[2:]:
                assert clean.ok(["systemctl", "is-active", unit]).out == "active\n"


def test_every_unit_of_the_page_is_started_by_a_command_of_it() -> None:
    commands = " ".join(command for section in PAGE_SECTIONS for command in section.commands).split()
    started = {"front.service": "front.socket", "back.service": "front.socket", "lazy.service": "lazy.socket"}
    for section in PAGE_SECTIONS:
        for path in section.units:
            name = os.path.basename(path)
            wanted = started.get(name, name).removesuffix(".service")
            if name == "first.service":
                wanted = "second"
            assert wanted in commands, name


def test_the_data_directory_has_its_modes_and_groups(documented: hosts.Host) -> None:
    """As the table of tmpfiles.d says; members of group rkt may list, others may not."""
    with open(os.path.join(driver.ROOT, "share", "tmpfiles.d", "rkt.conf")) as file:
        table = [line.split() for line in file if not line.startswith("#")]
    documented.ok(["systemd-sysusers"])
    documented.ok(["systemd-tmpfiles", "--create", "rkt.conf"])
    for _, path, mode, user, group in table:
        found = documented.ok(["stat", "-c", "%a %U %G", path]).out
        assert found == f"{mode.lstrip('0')} {user} {group}\n", path
    listing = ["/usr/bin/rkt", "list", "--no-legend"]
    as_member = ["setpriv", "--reuid=65534", "--regid=65534"]
    group = documented.ok(["getent", "group", "rkt"]).out.split(":")[2]
    assert documented.run([*as_member, f"--groups={group}", *listing]).code == 0
    assert documented.run([*as_member, "--clear-groups", *listing]).err != ""


def test_the_timer_collects_what_ended_long_ago(clean: hosts.Host) -> None:
    """At once when it is started, and again twelve hours later.

    The timer does not stay: it would collect again at the next daemon-reload, under the pods of other tests.
    """
    words = ["/usr/bin/rkt", "run", "--net=none", "--uuid-file-save=/run/old.uuid", "example.com/batch:1"]
    clean.ok([*words, "--exec=/bin/true"], SECONDS)
    uuid = clean.read("/run/old.uuid").decode()
    clean.ok(["systemctl", "restart", "rkt-gc.timer"])
    clean.ok(["systemctl", "start", "rkt-gc.service"], SECONDS)
    # Marked, and not removed before its time.
    assert rkt(clean, "status", uuid).out.splitlines()[0] == "state=exited garbage"
    shown = clean.ok(["systemctl", "show", "--property=NextElapseUSecMonotonic", "rkt-gc.timer"]).out
    assert shown.strip() not in ("NextElapseUSecMonotonic=", "NextElapseUSecMonotonic=infinity")


def test_the_metadata_socket_starts_the_service_for_the_first_pod(documented: hosts.Host) -> None:
    """The app asks for its own UUID; the service has no more privileges than its unit says."""
    documented.ok(["systemctl", "restart", "rkt-metadata.socket"])
    assert documented.run(["systemctl", "is-active", "rkt-metadata.service"]).out == "inactive\n"
    script = 'wget -qO- "$AC_METADATA_URL/acMetadata/v1/pod/uuid"'
    words = ["run", "--mds-register", "--uuid-file-save=/run/asks.uuid", "example.com/batch:1"]
    done = documented.run(["/usr/bin/rkt", *words, "--exec=/bin/sh", "--", "-c", script], SECONDS)
    uuid = documented.read("/run/asks.uuid").decode()
    assert done.code == 0, done
    assert uuid in done.out
    assert documented.ok(["systemctl", "is-active", "rkt-metadata.service"]).out == "active\n"
    assert rkt(documented, "rm", uuid).code == 0
    documented.ok(["systemctl", "stop", "rkt-metadata.service", "rkt-metadata.socket"])
    assert documented.run(["test", "-e", "/run/rkt/metadata-svc.sock"]).code == 1
