"""The grammar of command lines: pflag's rules, cobra's commands, rkt's images."""

from __future__ import annotations

import pytest

from rkt.cli.call import Call
from rkt.cli.grammar import HelpRequest, UnknownCommandError, UsageError, parse, parse_images
from rkt.errors import RktError, one_line


def call(*words: str) -> Call:
    return parse(words)


def images(*words: str) -> Call:
    made = parse(words)
    parse_images(made)
    return made


def usage_error(*words: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(words)
    return str(caught.value)


def image_error(*words: str) -> str:
    with pytest.raises(RktError) as caught:
        images(*words)
    assert not isinstance(caught.value, UsageError)
    return one_line(caught.value)


class TestCommand:
    @pytest.mark.parametrize(
        ("words", "path"),
        [
            (["list"], "list"),
            (["li"], "list"),
            (["vers"], "version"),
            (["run"], "run"),  # also the beginning of run-prepared
            (["run-"], "run-prepared"),
            (["image", "list"], "image list"),
            (["im", "cat"], "image cat-manifest"),
            (["image", "extr"], "image extract"),
            (["image", "fetch"], "image fetch"),
            (["--dir=/x", "list"], "list"),
            (["--dir", "/x", "list"], "list"),
            (["--debug", "image", "--dir", "/x", "list"], "image list"),
            (["--full=true", "list"], "list"),
        ],
    )
    def test_is_found_by_unique_prefix_with_flags_before(self, words: list[str], path: str) -> None:
        assert call(*words).command.path == path

    @pytest.mark.parametrize("words", [["st"], ["image", "ex"], ["r"]])
    def test_an_ambiguous_prefix_is_unknown(self, words: list[str]) -> None:
        with pytest.raises(UnknownCommandError, match="unknown command"):
            parse(words)

    def test_unknown_command_names_what_it_was_looked_for_in(self) -> None:
        with pytest.raises(UnknownCommandError) as caught:
            parse(["nosuch"])
        assert str(caught.value) == 'unknown command "nosuch" for "rkt"'
        assert caught.value.within == "rkt"
        with pytest.raises(UnknownCommandError, match='unknown command "bogus" for "rkt image"'):
            parse(["image", "bogus"])

    def test_suggestions(self) -> None:
        with pytest.raises(UnknownCommandError) as caught:
            parse(["lst"])
        assert str(caught.value) == 'unknown command "lst" for "rkt"\n\nDid you mean this?\n\tlist\n'

    def test_the_value_of_a_flag_is_no_command(self) -> None:
        made = call("--dir", "list", "version")
        assert made.command.path == "version"
        assert made.globals.dir_flag.endswith("/list")

    @pytest.mark.parametrize("words", [[], ["--debug"], ["image"], ["--", "list"]])
    def test_without_a_command_there_is_no_module(self, words: list[str]) -> None:
        assert call(*words).command.module == ""

    def test_commands_that_have_not_landed_do_not_exist(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RKT_EXPERIMENT_APP", raising=False)
        with pytest.raises(UnknownCommandError, match='unknown command "app" for "rkt"'):
            parse(["app", "list"])


class TestFlags:
    def test_values_after_equals_or_in_the_next_word(self) -> None:
        assert call("gc", "--grace-period=1s").flags["grace-period"] == 10**9
        assert call("gc", "--grace-period", "1s").flags["grace-period"] == 10**9

    def test_defaults_are_typed(self) -> None:
        flags = call("gc").flags
        assert flags["grace-period"] == 30 * 60 * 10**9
        assert flags["expire-prepared"] == 24 * 3600 * 10**9
        assert flags["mark-only"] is False
        assert not flags.given("grace-period")

    def test_a_bool_takes_its_value_only_after_equals(self) -> None:
        made = call("list", "--full", "false")
        assert made.flags["full"] is True
        assert made.args == ["false"]
        assert call("list", "--full=false").flags["full"] is False
        assert call("list", "--full=T").flags["full"] is True

    def test_flags_with_a_bare_value(self) -> None:
        assert call("status", "--wait", "x").flags["wait"] == -1
        assert call("status", "--wait=2s", "x").flags["wait"] == 2 * 10**9
        assert call("status", "x").flags["wait"] == 0
        assert call("run", "--net").flags["net"] == ["default"]
        assert call("run").flags["net"] == ["default"]
        assert call("run", "--net=a,b:X=1;Y=2", "--net=host").flags["net"] == ["a", "b:X=1;Y=2", "host"]

    def test_globals_before_and_after(self) -> None:
        before, after = call("--dir=/a", "--debug", "list"), call("list", "--dir=/a", "--debug")
        assert before.globals.dir_flag == after.globals.dir_flag == "/a"
        assert before.globals.debug is after.globals.debug is True

    def test_two_dashes_end_flags(self) -> None:
        assert call("rm", "a", "--", "--b", "--").args == ["a", "--b", "--"]

    def test_flags_between_words(self) -> None:
        made = call("rm", "a", "--uuid-file=f", "b")
        assert made.args == ["a", "b"]
        assert made.flags["uuid-file"] == "f"

    def test_words_after_the_first_belong_to_the_program_of_enter(self) -> None:
        made = call("enter", "--app=x", "uuid", "ls", "--help", "-l", "--", "--app=y")
        assert made.args == ["uuid", "ls", "--help", "-l", "--", "--app=y"]
        assert made.flags["app"] == "x"

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["list", "--bogus"], "unknown flag: --bogus"),
            (["list", "--bogus=1"], "unknown flag: --bogus"),
            (["--bogus"], "unknown flag: --bogus"),
            (["list", "-x"], "unknown shorthand flag: 'x' in -x"),
            (["list", "---"], "bad flag syntax: ---"),
            (["list", "--=1"], "bad flag syntax: --=1"),
            (["list", "--format"], "flag needs an argument: --format"),
            (
                ["list", "--format=bogus"],
                'invalid argument "bogus" for --format=bogus: Invalid format option: bogus',
            ),
            (
                ["image", "list", "--fields", "bogus"],
                'invalid argument "bogus" for --fields: unknown option "bogus"',
            ),
            (
                ["run", "--insecure-options=bogus", "x"],
                'invalid argument "bogus" for --insecure-options=bogus: unknown option "bogus"',
            ),
            (
                ["run", "--exec=/bin/x", "image"],
                'invalid argument "/bin/x" for --exec=/bin/x: --exec must follow an image',
            ),
            (["list", "--dir="], 'invalid argument "" for --dir=: "" is not a valid directory'),
            (
                ["run", "--stage1-path=a", "--stage1-name=b"],
                (
                    'invalid argument "b" for --stage1-name=b: '
                    "flags --stage1-name and --stage1-path are mutually exclusive"
                ),
            ),
            (
                ["run", "--stage1-path=a", "--stage1-path=a"],
                'invalid argument "a" for --stage1-path=a: --stage1-path already used',
            ),
            (
                ["run", "--set-env=A=1", "--set-env=A=2"],
                'invalid argument "A=2" for --set-env=A=2: key "A" already set',
            ),
            (
                ["run", "--net=a", "--net=a"],
                'invalid argument "a" for --net=a: found duplicate netname "a"',
            ),
        ],
    )
    def test_faults(self, words: list[str], message: str) -> None:
        assert usage_error(*words) == message

    @pytest.mark.parametrize(
        ("words", "path"),
        [
            (["--help"], ""),
            (["-h"], ""),
            (["list", "--help"], "list"),
            (["--help", "list"], "list"),
            (["image", "-h"], "image"),
            (["run", "--help", "x"], "run"),
        ],
    )
    def test_help(self, words: list[str], path: str) -> None:
        with pytest.raises(HelpRequest) as caught:
            parse(words)
        assert caught.value.command.path == path

    def test_deprecated_spellings_work_and_say_so(self, capsys: pytest.CaptureFixture[str]) -> None:
        made = call("run", "--store-only", "x")
        assert made.pull_policy() == "never"
        assert capsys.readouterr().err == (
            "Flag --store-only has been deprecated, please use --pull-policy=never\n"
        )
        assert images("run", "x", "--cap-retain=CAP_KILL").images[0].flags.given("caps-retain")
        assert capsys.readouterr().err == "Flag --cap-retain has been deprecated, use --caps-retain instead\n"

    def test_pull_policy(self) -> None:
        assert call("run").pull_policy() == "new"
        assert call("fetch").pull_policy() == "update"
        assert call("fetch", "--pull-policy=never").pull_policy() == "never"
        assert call("prepare", "--no-store").pull_policy() == "update"
        with pytest.raises(RktError, match="both --store-only and --no-store specified"):
            call("run", "--store-only", "--no-store").pull_policy()

    def test_attach_flags_need_the_experiment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RKT_EXPERIMENT_ATTACH", raising=False)
        assert usage_error("run", "--stdin=tty") == "unknown flag: --stdin"
        monkeypatch.setenv("RKT_EXPERIMENT_ATTACH", "true")
        assert images("run", "x", "--stdin=tty").images[0].flags["stdin"] == "tty"
        assert "invalid stdout mode" in image_error("run", "x", "--stdout=loud")
        monkeypatch.delenv("RKT_EXPERIMENT_ATTACH")
        assert usage_error("run", "--stdin=tty") == "unknown flag: --stdin"


class TestImages:
    def test_each_image_has_its_flags_and_arguments(self) -> None:
        made = images("run", "--net=none", "A", "--exec=/x", "--", "a", "--b", "---", "B", "--", "b")
        assert [image.image for image in made.images] == ["A", "B"]
        assert made.images[0].flags["exec"] == "/x"
        assert made.images[0].args == ["a", "--b"]
        assert made.images[1].flags["exec"] == ""
        assert made.images[1].args == ["b"]
        assert made.flags["net"] == ["none"]
        assert made.args == []

    def test_flags_of_the_pod_stand_anywhere(self) -> None:
        made = images("run", "A", "--net=host", "--debug", "B", "--set-env=X=1", "--dir=/d")
        assert made.flags["net"] == ["host"]
        assert made.flags["set-env"] == {"X": "1"}
        assert made.globals.debug
        assert made.globals.dir_flag == "/d"

    def test_app_flags_bind_to_the_preceding_image(self) -> None:
        made = images("run", "A", "--name=a", "--user", "1", "B", "--name=b", "--readonly-rootfs")
        assert [image.flags["name"] for image in made.images] == ["a", "b"]
        assert [image.flags["user"] for image in made.images] == ["1", ""]
        assert [image.flags["readonly-rootfs"] for image in made.images] == [False, True]

    def test_stray_terminators_and_empty_words_are_passed_over(self) -> None:
        made = images("run", "A", "---", "", "B", "--", "x", "---", "---")
        assert [image.image for image in made.images] == ["A", "B"]
        assert made.images[1].args == ["x"]

    def test_arguments_may_be_anything_up_to_the_terminator(self) -> None:
        made = images("run", "A", "--", "--", "", "--exec=x", "-h")
        assert made.images[0].args == ["--", "", "--exec=x", "-h"]

    def test_a_lone_dash_is_an_image(self) -> None:
        assert images("run", "-").images[0].image == "-"

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (
                ["run", "--", "a"],
                "error parsing app image arguments: an image is required before any app arguments",
            ),
            (
                ["prepare", "A", "--", "a", "---", "--", "b"],
                "error parsing app image arguments: only one set of app arguments allowed per image",
            ),
            (["fetch", "A", "--", "a"], "unable to parse arguments: app arguments unsupported"),
            (["run", "A", "--bogus"], "error parsing app image arguments: unknown flag: --bogus"),
            (
                ["run", "A", "--exec=x", "--exec=y"],
                (
                    'error parsing app image arguments: invalid argument "y" for --exec=y: '
                    "--exec specified multiple times for the same image"
                ),
            ),
            (
                ["fetch", "A", "--signature=x", "--signature", "y"],
                (
                    'unable to parse arguments: invalid argument "y" for --signature: '
                    "--signature specified multiple times for the same image"
                ),
            ),
            (
                ["run", "A", "--mount", "volume=v,target=/t"],
                'error parsing app image arguments: dangling mount point "/t": volume "v" not found',
            ),
            (
                ["run", "--mount=volume=v,target=/t", "A"],
                'error parsing app image arguments: dangling mount point "/t": volume "v" not found',
            ),
            (
                ["run", "A", "--environment=X"],
                (
                    'error parsing app image arguments: invalid argument "X" for --environment=X: '
                    'invalid format of --environment flag "X"'
                ),
            ),
            (
                ["run", "A", "--caps-retain=CAP_KILL", "--caps-remove=CAP_CHOWN"],
                (
                    "error parsing app image arguments: "
                    "cannot use both --caps-retain and --caps-remove on the same image"
                ),
            ),
        ],
    )
    def test_faults(self, words: list[str], message: str) -> None:
        assert image_error(*words) == message

    def test_every_app_flag_needs_an_image(self) -> None:
        from rkt.cli import options

        for entry in options.available():
            if not entry.module:
                continue
            for option in options.load(entry).options:
                if option.scope == "app":
                    value = "=x" if not option.bare else ""
                    message = usage_error(*entry.path.split(), f"--{option.name}{value}")
                    assert message.endswith(f": --{option.name} must follow an image")

    def test_help_among_the_images(self) -> None:
        with pytest.raises(HelpRequest):
            images("run", "A", "--help")

    def test_mounts_of_an_app_win_over_those_for_all(self) -> None:
        made = images(
            *["run", "--volume=one,kind=empty", "--volume=two,kind=empty"],
            *["--mount=volume=one,target=/a", "--mount=volume=one,target=/b", "--mount=volume=two,target=/b"],
            *["A", "--mount=volume=two,target=/a", "B"],
        )
        first, second = made.images
        assert [(mount.volume, mount.path) for mount in first.mounts] == [("two", "/a"), ("one", "/b")]
        assert [(mount.volume, mount.path) for mount in second.mounts] == [("one", "/a"), ("one", "/b")]

    def test_a_volume_may_be_declared_after_its_mount(self) -> None:
        made = images("run", "A", "--mount=volume=v,target=/t", "--volume=v,kind=host,source=/srv")
        assert made.images[0].mounts[0].path == "/t"
        assert made.flags["volume"][0].source == "/srv"


def test_no_command_line_raises_anything_else() -> None:
    """Short lines of awkward words end in a call or in one of the three expected exceptions."""
    import itertools

    words = [
        "--",
        "---",
        "-",
        "",
        "-h",
        "--=",
        "--x",
        "run",
        "image",
        "list",
        "fetch",
        "--net",
        "--dir",
        "\udcff",
    ]
    for line in itertools.product(words, repeat=3):
        try:
            made = parse(line)
            if made.command.images:
                parse_images(made)
        except (RktError, HelpRequest):
            pass
