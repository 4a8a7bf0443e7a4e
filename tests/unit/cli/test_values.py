"""Typed values of options."""

from __future__ import annotations

import os

import pytest

from rkt.cli import values
from rkt.cli.options import Option
from rkt.cli.values import absolute_directory, convert, parse_bool, parse_duration, parse_int, wait
from rkt.errors import RktError, one_line


def option(kind: str, name: str = "x", **settings: object) -> Option:
    return Option(name, kind, "", "", **settings)  # type: ignore[arg-type]


def fault(kind: str, text: str, before: object = None, **settings: object) -> str:
    with pytest.raises(RktError) as caught:
        convert(option(kind, **settings), text, before)
    return one_line(caught.value)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("0s", 0),
        ("30m0s", 1800 * 10**9),
        ("24h", 86400 * 10**9),
        ("1h2m3.5s", 3723_500_000_000),
        ("1.5h", 5400 * 10**9),
        (".5s", 500_000_000),
        ("5.s", 5 * 10**9),
        ("-1m", -60 * 10**9),
        ("+1m", 60 * 10**9),
        ("100ms10us5ns", 100_010_005),
        ("1µs", 1000),
        ("0.0000000001s", 0),
        ("2562047h", 2562047 * 3600 * 10**9),
    ],
)
def test_duration(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        ("s", 'time: invalid duration "s"'),
        (".s", 'time: invalid duration ".s"'),
        ("1.2.3s", 'time: invalid duration "1.2.3s"'),
        ("3", 'time: missing unit in duration "3"'),
        ("1 s", 'time: unknown unit " s" in duration "1 s"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("2562048h", 'time: invalid duration "2562048h"'),
        ("9" * 5000 + "s", f'time: invalid duration "{"9" * 5000}s"'),
        ("1s\u0661m", 'time: unknown unit "s\u0661m" in duration "1s\u0661m"'),
    ],
)
def test_bad_duration(text: str, message: str) -> None:
    with pytest.raises(RktError) as caught:
        parse_duration(text)
    assert str(caught.value) == message


def test_bool() -> None:
    assert [parse_bool(text) for text in ("1", "t", "T", "TRUE", "true", "True")] == [True] * 6
    assert [parse_bool(text) for text in ("0", "f", "F", "FALSE", "false", "False")] == [False] * 6
    for text in ("", "yes", "tRUE", "2"):
        with pytest.raises(RktError, match=r"strconv\.ParseBool: parsing .*: invalid syntax"):
            parse_bool(text)


def test_int() -> None:
    assert parse_int("+18112") == 18112
    assert parse_int("-0") == 0
    assert parse_int("000000000000000000000000000000012") == 12
    for text in ("", "-", "1_0", " 1", "0x1", "\u0661"):
        with pytest.raises(RktError, match="invalid syntax"):
            parse_int(text)
    for text in ("9223372036854775808", "-9223372036854775809", "9" * 10000):
        with pytest.raises(RktError, match="value out of range"):
            parse_int(text)


def test_wait() -> None:
    assert [wait(text) for text in ("", "true", "1", "-5s")] == [values.FOREVER] * 4
    assert [wait(text) for text in ("false", "0", "0s")] == [0, 0, 0]
    assert wait("1m") == 60 * 10**9


def test_directory() -> None:
    assert absolute_directory("/a/../b/") == "/b"
    assert absolute_directory("//a") == "/a"
    assert absolute_directory("x") == os.path.join(os.getcwd(), "x")
    with pytest.raises(RktError, match='"" is not a valid directory'):
        absolute_directory("")


def test_lists_grow() -> None:
    assert convert(option("list"), "a,b", ["x"]) == ["x", "a,b"]
    assert convert(option("words"), "a,b", ["x"]) == ["x", "a", "b"]


def test_pairs() -> None:
    assert convert(option("pairs"), "A=b=c", {"Z": "1"}) == {"Z": "1", "A": "b=c"}
    assert convert(option("pairs"), "A=", None) == {"A": ""}
    assert fault("pairs", "A") == "must be specified as key=value"
    assert fault("pairs", "A=2", {"A": "1"}) == 'key "A" already set'
    assert convert(option("settings"), "A=2", {"A": "1"}) == {"A": "2"}


def test_environment_file(tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "env")
    with open(path, "wb") as file:
        file.write(b"# comment\n; another\n\nA=1\r\nB=x=y\nC=\nD=\xff\n")
    expected = {"A": "1", "B": "x=y", "C": "", "D": "\udcff"}
    assert convert(option("environment-file"), path, None) == expected
    assert fault("environment-file", path, {"B": "1"}) == (
        f'environment variable "B" already set (file "{path}", line 5)'
    )
    with open(path, "w") as file:
        file.write("A\n")
    message = f'environment variable must be specified as name=value (file "{path}", line 1)'
    assert fault("environment-file", path) == message
    with pytest.raises(OSError, match="No such file"):
        convert(option("environment-file"), path + "x", None)


def test_choices() -> None:
    kinds = {"choices": ("a", "b")}
    assert convert(option("choices", **kinds), "B,a", ["a"]) == ["b", "a"]
    assert convert(option("choices", **kinds), "", None) == []
    assert fault("choices", "a,a", **kinds) == 'duplicated option "a"'
    assert fault("choices", "a,", **kinds) == 'unknown option ""'


def test_insecure_options() -> None:
    from rkt.cli.options import GLOBALS

    (insecure,) = (option for option in GLOBALS if option.name == "insecure-options")

    def names(text: str) -> set[str]:
        return set(convert(insecure, text, None))

    fetch = {"image", "tls", "http", "pubkey"}
    run = {"ondisk", "capabilities", "paths", "seccomp"}
    assert names("none") == names("") == set()
    assert names("none,IMAGE") == {"image"}
    assert names("all-fetch") == fetch
    assert names("all-run") == run
    assert names("all") == names("all-run,all-fetch") == fetch | run
    with pytest.raises(RktError, match='duplicated option "image"'):
        names("image,tls,image")
    with pytest.raises(RktError, match='unknown option "magic"'):
        names("magic")


def test_order() -> None:
    assert convert(option("order", choices=("asc", "desc")), "DESC", None) == "desc"
    assert fault("order", "up", choices=("asc", "desc")) == "wrong sort order"


def test_identifiers() -> None:
    assert convert(option("identifiers"), "1,2", [3]) == [3, 1, 2]
    assert fault("identifiers", "1,x", name="supplementary-gids") == "--supplementary-gids must be integers"
    assert fault("identifiers", "-1") == "--x: -1 is no group id"


class TestSpecification:
    """Kinds whose values are types of rkt.appc."""

    def test_volume(self) -> None:
        (volume,) = convert(option("volume"), "data,kind=host,source=/srv,readOnly=true", None)
        assert (volume.name, volume.kind, volume.source, volume.read_only) == ("data", "host", "/srv", True)
        assert fault("volume", "data,kind=host", name="volume") == (
            'invalid value in --volume flag "data,kind=host": source: source for host volume cannot be empty'
        )

    def test_mount(self) -> None:
        (mount,) = convert(option("mount"), "volume=data,target=/data", None)
        assert (mount.volume, mount.path) == ("data", "/data")
        assert fault("mount", "volume=data,where=/data") == 'unknown mount parameter "where"'

    def test_volume_of_one_app(self) -> None:
        (mount,) = convert(option("app-volume"), "data,kind=empty,target=/data,mode=0700", None)
        assert (mount.volume, mount.path, mount.app_volume.mode) == ("data", "/data", "0700")
        assert fault("app-volume", "data,kind=empty") == "missing target= parameter"

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("http:80", ("http", None, 80)),
            ("http:10.0.0.1:80", ("http", "10.0.0.1", 80)),
            ("http:::1:80", ("http", "::1", 80)),
            ("http:[::1]:80", ("http", "::1", 80)),
        ],
    )
    def test_port(self, text: str, expected: tuple[str, str | None, int]) -> None:
        (port,) = convert(option("port"), text, None)
        assert (port.name, port.host_ip, port.host_port) == expected

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("80", '"80" is not in name:[ip:]port format'),
            ("UP:80", '"UP" is not a valid port name: '),
            ("http:1.2.3:80", '"1.2.3" is not a valid IP: '),
            ("http:0", '"0" is not a valid port number'),
            ("http:65536", '"65536" is not a valid port number'),
            ("http:x", '"x" is not a valid port number'),
        ],
    )
    def test_bad_port(self, text: str, message: str) -> None:
        assert fault("port", text).startswith(message)

    def test_port_of_a_sandbox(self) -> None:
        (port,) = convert(option("sandbox-port"), "http:tcp:8080:0.0.0.0:80", None)
        assert (port.host_ip, port.host_port) == ("0.0.0.0", 80)
        assert (port.pod_port.protocol, port.pod_port.port) == ("tcp", 8080)
        assert fault("sandbox-port", "http:tcp:80") == "--x invalid format"
        assert fault("sandbox-port", "http:icmp:80:0.0.0.0:80") == 'invalid protocol "icmp"'

    def test_memory(self) -> None:
        isolator = convert(option("memory"), "16Mi", None)
        assert isolator.name == "resource/memory"
        assert isolator.value.limit.value() == 16 << 20
        assert fault("memory", "16m") == (
            "memory limit of 1 bytes too low. Try a reasonable value, such as --memory=16M"
        )
        assert fault("memory", "lots")

    def test_other_limits(self) -> None:
        assert convert(option("cpu"), "500m", None).value.limit.milli_value() == 500
        assert convert(option("cpu-shares"), "2048", None).value == 2048
        assert convert(option("oom-score-adj"), "-1000", None).value == -1000
        assert fault("cpu-shares", "1")
        assert fault("oom-score-adj", "1001")
        assert convert(option("caps-retain"), "CAP_KILL,CAP_CHOWN", None).value.set == [
            "CAP_KILL",
            "CAP_CHOWN",
        ]
        assert convert(option("seccomp"), "mode=remove,errno=EPERM,chmod", None).value.set == ["chmod"]

    def test_name_and_annotation(self) -> None:
        assert convert(option("name"), "web-1", None) == "web-1"
        assert fault("name", "Web")
        assert convert(option("annotations"), "example.com/x=1", None) == {"example.com/x": "1"}
        assert fault("annotations", "Not A Name=1")


@pytest.mark.parametrize("text", ["/", "/bin"])
def test_absolute_path(text: str) -> None:
    assert convert(option("absolute-path"), text, None) == text
    assert fault("absolute-path", "bin", name="working-dir") == "--working-dir must be an absolute path"
