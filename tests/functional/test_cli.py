"""The program as a shell sees it: streams, exit codes, messages."""

from __future__ import annotations

import os
import subprocess

import pytest

from support.driver import RKT, Rkt

BARE = {"PATH": "/usr/bin:/bin"}


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of bash in which ``rkt`` is the program."""
    return subprocess.run(
        ["/bin/bash", "-c", command.replace("rkt", RKT, 1)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        stdin=subprocess.DEVNULL,
        env={**BARE, **environment},
    )


def test_version_is_five_lines_in_a_fixed_order(rkt: Rkt) -> None:
    result = rkt.ok("version")
    keys = [line.partition(": ")[0] for line in result.lines]
    assert keys == ["rkt Version", "appc Version", "Go Version", "Go OS/Arch", "Features"]
    assert result.lines[0] == "rkt Version: 1.30.0"
    assert result.lines[1] == "appc Version: 0.8.11"
    assert result.lines[3].startswith("Go OS/Arch: linux/")
    assert result.lines[4] == "Features: -TPM +SDJOURNAL"
    assert result.err == ""
    assert rkt.ok("vers").out == result.out


def test_without_a_command(rkt: Rkt) -> None:
    result = rkt()
    assert result.code == 2
    assert result.err == "rkt: missing command\n"
    assert result.out.startswith("NAME:\n\trkt - ")


@pytest.mark.parametrize("words", [["help", "run"], ["run", "--help"], ["run", "-h"], ["--help", "run"]])
def test_help(rkt: Rkt, words: list[str]) -> None:
    result = rkt.ok(*words)
    assert result.err == ""
    for section in ("NAME:", "USAGE:", "DESCRIPTION:", "OPTIONS:", "GLOBAL OPTIONS:"):
        assert f"{section}\n" in result.out


def test_help_of_a_group(rkt: Rkt) -> None:
    assert rkt.ok("image").out == rkt.ok("help", "image").out == rkt.ok("image", "--help").out


def test_help_about_nothing_known(rkt: Rkt) -> None:
    result = rkt("help", "bogus")
    assert (result.code, result.out) == (254, "")
    assert 'unknown command "bogus" for "rkt"' in result.err


def test_unknown_command(rkt: Rkt) -> None:
    result = rkt("nosuch")
    assert (result.code, result.out) == (254, "")
    assert result.err == 'Error: unknown command "nosuch" for "rkt"\nRun \'rkt --help\' for usage.\n'
    result = rkt("image", "bogus")
    assert (result.code, result.out) == (254, "")
    assert result.err.endswith("Run 'rkt image --help' for usage.\n")


def test_mistyped_command(rkt: Rkt) -> None:
    assert rkt("lst").err == (
        'Error: unknown command "lst" for "rkt"\n\nDid you mean this?\n\tlist\n\n'
        "Run 'rkt --help' for usage.\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "--bogus"], "unknown flag: --bogus"),
        (
            ["list", "--format=bogus"],
            'invalid argument "bogus" for --format=bogus: Invalid format option: bogus',
        ),
        (
            ["image", "list", "--fields=bogus"],
            'invalid argument "bogus" for --fields=bogus: unknown option "bogus"',
        ),
        (
            ["run", "--insecure-options=bogus", "x"],
            'invalid argument "bogus" for --insecure-options=bogus: unknown option "bogus"',
        ),
        (
            ["run", "--volume=v,kind=x", "x"],
            (
                'invalid argument "v,kind=x" for --volume=v,kind=x: '
                'invalid value in --volume flag "v,kind=x": kind: '
                'unrecognized volume kind: should be one of "empty", "host"'
            ),
        ),
        (
            ["run", "--exec=/bin/x", "x"],
            'invalid argument "/bin/x" for --exec=/bin/x: --exec must follow an image',
        ),
    ],
)
def test_malformed_flags_print_usage(rkt: Rkt, words: list[str], message: str) -> None:
    result = rkt(*words)
    assert result.code == 254
    assert result.err == f"Error: {message}\n\n"
    assert result.out == rkt.ok("help", *(["image", "list"] if words[0] == "image" else words[:1])).out


def test_completion_of_another_shell(rkt: Rkt) -> None:
    result = rkt("completion", "zsh")
    assert (result.code, result.out) == (254, "")
    assert result.err == "completion: 'zsh' shell is not supported\n"
    assert rkt("completion").code == 254


def test_config_of_nothing(rkt: Rkt) -> None:
    result = rkt.ok("config")
    assert result.out.startswith(
        '{\n\t"stage0": [\n\t\t{\n\t\t\t"rktVersion": "v1",\n\t\t\t"rktKind": "paths",\n'
    )
    plain = rkt.ok("config", "--pretty-print=false").out
    assert plain == (
        '{"stage0":[{"rktVersion":"v1","rktKind":"paths","data":"","stage1-images":""},'
        '{"rktVersion":"v1","rktKind":"stage1","name":"","version":"","location":""}]}\n'
    )


def test_config_that_cannot_be_read(rkt: Rkt) -> None:
    path = os.path.join(rkt.config, "paths.d", "a.json")
    os.mkdir(os.path.dirname(path))
    with open(path, "w") as file:
        file.write('{"rktKind": "paths", "rktVersion": "v1", "data": "relative"}')
    result = rkt("config")
    assert (result.code, result.out) == (254, "")
    message = f'failed to parse "{path}": data directory must be an absolute path'
    assert result.err == f"config: cannot get configuration: {message}\n"
    assert rkt("config", "--debug").err == f"config: cannot get configuration\nconfig:   └─{message}\n"


class TestStreams:
    """Nothing that happens to stdout or stderr may be lost or do harm."""

    def test_a_full_disk_is_a_failure(self) -> None:
        result = shell("rkt version >/dev/full")
        assert result.returncode == 254
        assert result.stderr == "version: cannot write to standard output: no space left on device\n"

    @pytest.mark.parametrize("words", ["help", "bogus", "list --bogus", ""])
    def test_help_on_a_full_disk_fails_too(self, words: str) -> None:
        assert shell(f"rkt {words} >/dev/full").returncode in ({2, 254} if not words else {254})

    def test_a_closed_stdout_is_a_failure(self) -> None:
        result = shell("rkt version >&-")
        assert result.returncode == 254
        assert result.stderr == "version: cannot write to standard output: bad file descriptor\n"

    def test_a_reader_that_went_away_ends_the_program_quietly(self) -> None:
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run([RKT, "help"], stdout=write, stderr=subprocess.PIPE, env=BARE, check=False)
        os.close(write)
        assert (done.returncode, done.stderr) == (141, b"")

    def test_a_closed_stderr_does_no_harm(self) -> None:
        result = shell("rkt bogus 2>&-")
        assert (result.returncode, result.stdout, result.stderr) == (254, "", "")

    def test_all_streams_closed(self) -> None:
        assert shell("rkt bogus <&- >&- 2>&-").returncode == 254

    def test_files_never_take_the_place_of_a_closed_stream(self, tmp_path: os.PathLike[str]) -> None:
        path = os.path.join(tmp_path, "config", "paths.d", "a.json")
        os.makedirs(os.path.dirname(path))
        with open(path, "w") as file:
            file.write("not JSON")
        result = shell(f"rkt config --local-config={tmp_path}/config <&- 2>&-")
        assert result.returncode == 254
        with open(path) as file:
            assert file.read() == "not JSON"

    @pytest.mark.parametrize("locale", ["C", "C.UTF-8", "de_DE.ISO-8859-1", "POSIX"])
    def test_text_is_utf8_in_every_locale(self, locale: str) -> None:
        result = subprocess.run(
            [RKT, "ünknown", "\udcff"], capture_output=True, check=False, env={**BARE, "LC_ALL": locale}
        )
        assert 'unknown command "ünknown"'.encode() in result.stderr

    def test_bytes_that_are_no_text(self) -> None:
        result = subprocess.run([os.fsencode(RKT), b"\xff\xfe"], capture_output=True, check=False, env=BARE)
        assert result.returncode == 254
        assert b'unknown command "\\xff\\xfe"' in result.stderr


class TestUnprivileged:
    """Without root: what refuses and what works."""

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [RKT, *words],
            capture_output=True,
            text=True,
            check=False,
            env=BARE,
            user=65534,
            group=65534,
            extra_groups=[],
        )

    @pytest.mark.parametrize(
        "words",
        [
            ["run", "x"],
            ["prepare", "x"],
            ["run-prepared", "x"],
            ["enter", "x"],
            ["gc"],
            ["rm", "x"],
            ["run", "--", "bad", "words", "--exec"],
        ],
    )
    def test_refused(self, words: list[str]) -> None:
        result = self.run(*words)
        assert (result.returncode, result.stdout) == (254, "")
        assert result.stderr == f"{words[0]}: cannot run as unprivileged user\n"

    @pytest.mark.parametrize("words", [["version"], ["help", "run"], ["run", "--help"], ["config"]])
    def test_allowed(self, words: list[str]) -> None:
        result = self.run(*words)
        assert (result.returncode, result.stderr) == (0, "")

    def test_flags_are_checked_first(self) -> None:
        assert self.run("run", "--bogus").stderr == "Error: unknown flag: --bogus\n\n"


class TestDataDirectory:
    """``--dir``, the ``paths`` configuration, relative paths and links."""

    def directory(self, words: list[str], **options: object) -> str:
        """What the program takes for its data directory, seen through its own Globals."""
        code = (
            "import sys; sys.path.insert(0, 'src');"
            "from rkt.cli.grammar import parse; print(parse(sys.argv[1:]).globals.dir)"
        )
        root = os.path.dirname(os.path.dirname(RKT))
        command = ["/usr/bin/python3", "-IS", "-c", code.replace("'src'", repr(f"{root}/src")), *words]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            **options,  # type: ignore[call-overload]
        ).stdout.rstrip("\n")

    def test_order(self, rkt: Rkt) -> None:
        config = [f"--local-config={rkt.config}", f"--system-config={rkt.system}"]
        assert self.directory([*config, "list"]) == "/var/lib/rkt"
        os.mkdir(f"{rkt.config}/paths.d")
        with open(f"{rkt.config}/paths.d/a.json", "w") as file:
            file.write('{"rktKind": "paths", "rktVersion": "v1", "data": "/configured"}')
        assert self.directory([*config, "list"]) == "/configured"
        assert self.directory([*config, "list", "--dir=/flag"]) == "/flag"

    def test_relative_paths_and_links(self, tmp_path: os.PathLike[str]) -> None:
        os.mkdir(os.path.join(tmp_path, "real"))
        os.symlink("real", os.path.join(tmp_path, "link"))
        expected = os.path.join(os.path.realpath(tmp_path), "real")
        assert self.directory(["--dir=link", "list"], cwd=tmp_path) == expected
        assert self.directory(["--dir=link/../real/sub", "list"], cwd=tmp_path) == f"{expected}/sub"
