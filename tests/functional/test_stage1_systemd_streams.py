"""What programs do that open /dev/stdout or /dev/stderr by name instead of using their descriptors."""

from __future__ import annotations

import pytest
from systemd_pod import lines, run

from support import driver

SCRIPT = "echo one > /dev/stdout; echo two >> /dev/stderr; echo three"


@pytest.mark.parametrize("user", ["0", "1000"])
def test_streams_can_be_opened_by_name(rkt: driver.Rkt, box: str, user: str) -> None:
    result = run(rkt, box, f"--user={user}", "--exec=/bin/sh", "--", "-c", SCRIPT)
    assert result.code == 0, result
    assert sorted(line.strip() for line in lines(result)) == ["one", "three", "two"]


def test_the_console_is_not_readable_by_users(rkt: driver.Rkt, box: str) -> None:
    result = run(rkt, box, "--user=1000", "--exec=/bin/cat", "--", "/dev/console")
    assert result.code == 1, result
    assert "Permission denied" in "".join(lines(result))
