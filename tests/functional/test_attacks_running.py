"""What an image may try when it is run: its environment, and settings it brings for what runs it."""

from __future__ import annotations

import os

import pytest
from systemd_pod import lines, run

from support import aci, oci
from support.driver import Rkt

pytestmark = pytest.mark.promise("P4")

SECRET = "of-the-host-only"
STAGES = ["host", "fly"]


@pytest.mark.attack(10)
@pytest.mark.parametrize("stage1", STAGES)
def test_environment_of_the_host_stays_outside(rkt: Rkt, stage1: str) -> None:
    """Entries without a value, patterns and references: none brings a value of the caller's into the app."""
    layout = oci.Layout(os.path.join(rkt.base, "layout"))
    environment = [
        "SECRET",
        "SECRET*",
        "*",
        "=x",
        "",
        "S${SECRET}=1",
        "A=$SECRET",
        "B=%s",
        "C=${SECRET}",
        "D=`id`",
    ]
    layout.image("1", [oci.busybox_layer()], config={"Env": environment, "Entrypoint": ["/bin/env"]})
    result = run(
        rkt,
        f"--stage1-from-dir=stage1-{stage1}.aci",
        f"oci:{layout.path}:1",
        env={"SECRET": SECRET, "LISTEN_FDS": "1", "LD_PRELOAD": ""},
    )
    if result.code == 254:
        # A name that is none is refused, and with it the image.
        assert "environment" in result.err and SECRET not in result.err, result
        environment = [entry for entry in environment if entry.partition("=")[0].isalpha()]
        layout.image("2", [oci.busybox_layer()], config={"Env": environment, "Entrypoint": ["/bin/env"]})
        result = run(
            rkt, f"--stage1-from-dir=stage1-{stage1}.aci", f"oci:{layout.path}:2", env={"SECRET": SECRET}
        )
    assert result.code == 0, result
    assert SECRET not in result.out
    assert {"A=$SECRET", "B=%s", "C=${SECRET}", "D=`id`"} <= set(lines(result))


@pytest.mark.attack(10)
def test_environment_that_is_no_name_is_refused_in_an_image(rkt: Rkt) -> None:
    for name in ("", "A=B", "A*", "A\nB", "1A"):
        app = aci.app("/bin/env", environment=[{"name": name, "value": "x"}])
        image = aci.busybox(os.path.join(rkt.base, "env.aci"), app=app)
        result = run(rkt, image, env={"SECRET": SECRET})
        assert result.code == 254, result
        assert result.out == ""


@pytest.mark.attack(14)
def test_settings_in_an_image_are_never_read(rkt: Rkt) -> None:
    """Neither of systemd-nspawn, wherever it would look, nor of the systemd of the pod."""
    settings = f"[Exec]\nEnvironment=EVIL=1\nCapability=all\n[Files]\nBind={rkt.base}:/evil\n".encode()
    unit = b"[Service]\nEnvironment=EVIL=1\nExecStart=\nExecStart=/bin/sh -c 'echo evil'\n"
    directories = ["etc/systemd", "etc/systemd/nspawn", "etc/systemd/system", "rkt", "rkt/units", "evil"]
    directories += ["etc/systemd/system/box.service.d", "run/systemd", "run/systemd/nspawn"]
    entries = [aci.directory(name) for name in directories]
    for place in ("", "etc/systemd/nspawn/", "run/systemd/nspawn/"):
        entries += [aci.Entry(f"{place}{name}.nspawn", settings) for name in ("rootfs", "box", "rkt", "*")]
    for path in (
        "etc/systemd/system/box.service.d/x.conf",
        "rkt/units/box.service",
        "etc/systemd/system.conf",
    ):
        entries.append(aci.Entry(path, unit))
    entries.append(aci.Entry("etc/environment", b"EVIL=1\n"))
    image = aci.busybox(os.path.join(rkt.base, "box.aci"), entries=entries)
    result = run(rkt, image, "--exec=/bin/sh", "--", "-c", "env; ls /evil")
    assert result.code == 0, result
    assert "EVIL=1" not in lines(result)
    assert "evil" not in lines(result)
    assert set(os.listdir(rkt.base)).isdisjoint(lines(result))


@pytest.mark.attack(9)
@pytest.mark.parametrize("stage1", STAGES)
def test_user_database_of_a_gigabyte(rkt: Rkt, stage1: str) -> None:
    """A file of holes: looking a user up in it is refused at once."""
    size = 1 << 30
    body = f"1\n{size}\n0\n".encode().ljust(512, b"\0")
    sparse = {"major": "1", "minor": "0", "name": "rootfs/etc/passwd", "realsize": str(size)}
    pax = {f"GNU.sparse.{name}": value for name, value in sparse.items()}
    entries = [entry for entry in aci.busybox_entries() if entry.name != "etc/passwd"]
    entries.append(aci.Entry("etc/passwd", body, pax=pax))
    image = aci.build(os.path.join(rkt.base, "big.aci"), aci.manifest("example.com/big"), entries)
    result = run(rkt, f"--stage1-from-dir=stage1-{stage1}.aci", image, "--user=daemon", timeout=30)
    assert result.code == 254, result
    assert 'user "daemon"' in result.err
    stored = os.path.join(rkt.dir, "cas/tree")
    (passwd,) = [f"{top}/passwd" for top, _, names in os.walk(stored) if "passwd" in names]
    assert os.stat(passwd).st_size == size


@pytest.mark.attack(13)
def test_names_and_values_mean_nothing_to_whom_they_pass(rkt: Rkt) -> None:
    """Quotes, percent signs, dollars and newlines arrive as they are, wherever a manifest has them."""
    odd = "a\"b'c\\d%n%i$HOME${HOME}`id`;#\t[Service]\nExecStartPre=+/bin/touch /evil"
    app = aci.app(
        "/bin/sh",
        "-c",
        'printf "%s|" "$ODD" "$0" "$1"; ls / | grep evil',
        odd,
        odd,
        environment=[{"name": "ODD", "value": odd}],
        userAnnotations={odd: odd},
        userLabels={odd: odd},
    )
    labels = [*aci.LABELS, {"name": "note", "value": odd}]
    notes = [{"name": "note", "value": odd}]
    image = aci.busybox(os.path.join(rkt.base, "odd.aci"), app=app, labels=labels, annotations=notes)
    result = run(rkt, "--stage1-from-dir=stage1-fly.aci", image)
    assert result.out == f"{odd}|" * 3, result
    result = run(rkt, image)
    assert result.code == 1 and "\n".join(lines(result)) == f"{odd}|" * 3, result
    assert not os.path.exists("/evil")
