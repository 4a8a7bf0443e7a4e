"""The option table holds together."""

from __future__ import annotations

import importlib.util

import pytest

from rkt.cli import call, options, values, values_appc
from rkt.cli.completion import script
from rkt.cli.grammar import UnknownCommandError, parse
from rkt.cli.help import usage
from rkt.cli.options import Option

FAMILIES = ("app", "images", "pods", "run", "service", "tool")


def tables() -> dict[str, options.Command]:
    made: dict[str, options.Command] = {}
    for family in FAMILIES:
        table = importlib.import_module(f"rkt.cli.options_{family}").TABLE
        assert not made.keys() & table.keys()
        made.update(table)
    return made


def test_every_listed_command_has_its_module_and_its_table() -> None:
    for entry in options.COMMANDS:
        if entry.module:
            assert importlib.util.find_spec(f"rkt.cli.{entry.module}") is not None, entry.path
            command = options.load(entry)
            assert (command.path, command.summary) == (entry.path, entry.summary)
            assert command.description


def test_the_index_is_sorted_and_groups_come_before_their_commands() -> None:
    paths = [entry.path for entry in options.COMMANDS]
    assert paths == sorted(paths)
    for path in paths:
        group = path.rpartition(" ")[0]
        assert not group or group in paths


@pytest.mark.parametrize("path", sorted(tables()))
def test_options(path: str) -> None:
    command = tables()[path]
    names = [option.name for option in (*options.GLOBALS, *command.options)]
    assert len(names) == len(set(names))
    for option in command.options:
        check(option, names)


def check(option: Option, names: list[str]) -> None:
    assert option.kind in values.CONVERTERS or option.kind in values_appc.CONVERTERS, option.name
    assert option.scope in {"command", "app", "either"}
    assert not option.alias or (option.alias in names and option.deprecated)
    assert option.help or option.deprecated
    assert not option.help.endswith("."), option.name
    if option.default:
        values.convert(option, option.default, None)
    if option.kind in call.LISTS | call.MAPS:
        # What is there by default and what is made of the first value are of one type.
        assert type(call.default(option)) in {list, dict}


def test_globals() -> None:
    for option in options.GLOBALS:
        assert option.scope == "global"
        assert option.kind in values.CONVERTERS


def test_all_commands_of_rkt_have_a_table() -> None:
    expected = {
        *("api-service", "attach", "cat-manifest", "completion", "config", "enter", "export", "fetch", "gc"),
        *(
            "help",
            "list",
            "logs",
            "metadata-service",
            "prepare",
            "rm",
            "run",
            "run-prepared",
            "status",
            "stop",
        ),
        *("trust", "version"),
        *(f"app {name}" for name in ("add", "exec", "list", "rm", "sandbox", "start", "status", "stop")),
        *(
            f"image {name}"
            for name in ("cat-manifest", "export", "extract", "fetch", "gc", "list", "render", "rm", "verify")
        ),
    }
    ours = {"logs"}  # which rkt 1.30 had not
    assert set(tables()) == expected | ours


def test_who_needs_root() -> None:
    root = {path for path, command in tables().items() if command.root}
    assert root == {"run", "prepare", "run-prepared", "enter", "app exec", "attach", "gc", "rm"}


def test_where_flags_end_at_the_first_word() -> None:
    plain = {path for path, command in tables().items() if not command.interspersed}
    assert plain == {"run", "prepare", "fetch", "image fetch", "enter", "app add", "app exec"}


@pytest.mark.parametrize(
    ("value", "on"), [("1", True), ("true", True), ("TRUE", True), ("yes", False), ("", False)]
)
def test_experiments(monkeypatch: pytest.MonkeyPatch, value: str, on: bool) -> None:
    monkeypatch.setenv("RKT_EXPERIMENT_ATTACH", value)
    assert options.experiment("attach") is on
    (run,) = (entry for entry in options.COMMANDS if entry.path == "run")
    assert ("stdin" in {option.name for option in options.load(run).options}) is on


class TestHiddenGroup:
    """A group that exists only with an experiment, like the commands that change running pods."""

    @pytest.fixture(autouse=True)
    def commands(self, monkeypatch: pytest.MonkeyPatch) -> None:
        group = options.Entry("app", "", "app", "Work with apps", hidden=True, experiment="app")
        member = options.Entry("app list", "version", "app", "List apps", experiment="app")
        monkeypatch.setattr(options, "COMMANDS", (group, member, *options.COMMANDS))

    def test_does_not_exist_without_the_experiment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RKT_EXPERIMENT_APP", raising=False)
        with pytest.raises(UnknownCommandError, match='unknown command "app" for "rkt"'):
            parse(["app", "list"])

    def test_works_but_is_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RKT_EXPERIMENT_APP", "true")
        assert parse(["app", "li", "uuid", "--no-legend"]).flags["no-legend"] is True
        assert "app list" not in usage(options.ROOT)
        assert "\tlist\t" in usage(parse(["app"]).command)
        assert "app list" not in script()
