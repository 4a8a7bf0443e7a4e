from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rkt.errors import RktError
from rkt.linux import listening


def environment(**given: str) -> dict[str, str]:
    return {"LISTEN_PID": str(os.getpid()), **given}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"LISTEN_FDS": "0"}, {}),
        ({"LISTEN_FDS": "2"}, {3: "", 4: ""}),
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"}, {3: "a", 4: "b"}),
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b:c"}, {3: "", 4: ""}),
        ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": ""}, {3: ""}),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {}),
        ({"LISTEN_FDS": "1", "LISTEN_PID": ""}, {}),
    ],
)
def test_descriptors(given, expected):
    assert listening.descriptors(environment(**given)) == expected


@pytest.mark.parametrize("count", ["", "-1", "x", "1 ", "²", "999999999999"])
def test_a_count_that_is_none(count):
    with pytest.raises(RktError, match="invalid LISTEN_FDS"):
        listening.descriptors(environment(LISTEN_FDS=count))


def test_a_child_gets_what_is_inheritable():
    reader, writer = os.pipe()
    try:
        listening.set_inheritable([writer], True)
        script = [sys.executable, "-c", f"import os; os.write({writer}, b'x')"]
        assert subprocess.run(script, close_fds=False, check=False).returncode == 0
        listening.set_inheritable([writer], False)
        assert subprocess.run(script, close_fds=False, check=False, stderr=subprocess.DEVNULL).returncode == 1
        assert os.read(reader, 10) == b"x"
    finally:
        os.close(reader)
        os.close(writer)
    with pytest.raises(RktError, match=f"file descriptor {reader} from systemd is not open"):
        listening.set_inheritable([reader], True)
