"""The tables of the tools: every command can be carried out, found and described."""

from __future__ import annotations

import pytest

from rkt.cli.grammar import HelpRequest, UsageError
from rkt.cli.tools import acbuild, acbuild_steps, actool, docker2aci, manual
from rkt.cli.tools.program import MisuseError, Program, parse, usage

PROGRAMS = (actool.PROGRAM, acbuild.PROGRAM, docker2aci.PROGRAM)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_every_command_has_a_function_and_a_description(program: Program) -> None:
    for command in program.commands.values():
        module, _, function = command.module.rpartition(".")
        found = __import__(f"rkt.cli.tools.{module}", fromlist=(function,))
        assert callable(getattr(found, function))
        assert command.summary
        text = usage(program, command)
        for option in command.options:
            assert option.hidden or f"--{option.name}" in text
        assert manual.page(program, program.name, command).startswith(".TH ")


def test_every_step_of_acbuild_is_carried_out() -> None:
    elsewhere = {"script", "layer", "set-tag"}
    assert set(acbuild.PROGRAM.commands) - elsewhere == {*acbuild_steps.PLAIN, *acbuild_steps.STEPS}


@pytest.mark.parametrize(
    ("words", "path", "args"),
    [
        (["label", "add", "a", "b"], "label add", ["a", "b"]),
        (["lab", "rm", "a"], "label remove", ["a"]),
        (["--work-path", "label", "env", "add", "a", "b"], "environment add", ["a", "b"]),
        (["volume", "--read-only", "add", "a", "/b"], "mount add", ["a", "/b"]),
        (["run", "--engine", "chroot", "--", "a", "--b", "--"], "run", ["a", "--b", "--"]),
        (["set-wd", "/x"], "set-working-directory", ["/x"]),
        (["copy", "a", "b"], "copy", ["a", "b"]),
    ],
)
def test_words_of_acbuild(words: list[str], path: str, args: list[str]) -> None:
    call = parse(acbuild.PROGRAM, words)
    assert (call.command.path, call.args) == (path, args)


def test_flags_with_one_dash() -> None:
    call = parse(actool.PROGRAM, ["-debug", "build", "-overwrite", "a", "b"])
    assert (call.flags["overwrite"], call.globals.debug, call.args) == (True, True, ["a", "b"])
    assert parse(docker2aci.PROGRAM, ["-image", "x", "y"]).flags["image"] == "x"
    assert parse(docker2aci.PROGRAM, ["-compression=none", "-"]).args == ["-"]
    for word in ("-h", "-help", "--help"):
        with pytest.raises(HelpRequest):
            parse(docker2aci.PROGRAM, [word])
    with pytest.raises(UsageError, match="unknown shorthand flag"):
        parse(acbuild.PROGRAM, ["begin", "-x"])


def test_unknown_words() -> None:
    with pytest.raises(MisuseError, match='unknown command "x" for "acbuild label"'):
        parse(acbuild.PROGRAM, ["label", "x"])
    with pytest.raises(MisuseError, match="ambiguous command"):
        parse(acbuild.PROGRAM, ["set-"])
