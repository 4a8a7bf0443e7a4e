"""A tool as data: its commands with their options, aliases and exit codes; parsing and help from that.

Commands may have two words (``label add``) and be cut to a unique prefix, flags may stand anywhere.  Of tools
that were written with Go's ``flag`` package (``single_dash``) long options may have one dash.
"""

from __future__ import annotations

from rkt import VERSION
from rkt.cli import options
from rkt.cli.call import Call, Flags, Globals
from rkt.cli.grammar import HelpRequest, Parser
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rkt.cli.options import Command, Option


CONFIGURATION = tuple(
    option for option in options.GLOBALS if option.name in ("local-config", "system-config", "user-config")
)
"""Where rkt's configuration is, for tools that fetch: credentials and trusted keys."""


class Program:
    """One tool.

    ``commands`` by path; the path of a tool without commands is "".  ``aliases``: another word for a
    command's word.  ``failure`` is the exit code of anything that goes wrong, ``misuse`` that of a wrong
    command line.
    """

    __slots__ = ("aliases", "commands", "failure", "globals", "misuse", "name", "single_dash", "summary")

    def __init__(
        self,
        name: str,
        summary: str,
        commands: Sequence[Command],
        *,
        options: Sequence[Option] = (),
        aliases: dict[str, str] | None = None,
        single_dash: bool = False,
        failure: int = 1,
        misuse: int = 1,
    ) -> None:
        self.name = name
        self.summary = summary
        self.commands = {command.path: command for command in commands}
        self.globals = tuple(options)
        self.aliases = aliases or {}
        self.single_dash = single_dash
        self.failure = failure
        self.misuse = misuse


def command(
    path: str,
    function: str,
    usage: str,
    summary: str,
    *table: Option,
    description: str = "",
) -> Command:
    """A line of a tool's table; ``function`` is ``module.name`` below ``rkt.cli.tools``."""
    made = options.Command(usage, description, table)
    made.path = path
    made.module = function
    made.summary = summary
    return made


class ToolCall(Call):
    """One call of one command of a tool."""

    __slots__ = ("program",)

    def __init__(self, program: Program, command: Command, flags: Flags, args: list[str]) -> None:
        super().__init__(command, Globals(flags), flags, args)
        self.program = program

    def say(self, text: str) -> None:
        """A line on stderr, as it is."""
        self.err.write(text + "\n")
        self.err.flush()

    def debug(self, text: str) -> None:
        """A line on stderr with ``--debug``."""
        if self.globals.debug:
            self.say(text)

    def usage(self) -> int:
        """Usage on stdout; the exit code of a call with the wrong words."""
        self.print(usage(self.program, self.command))
        return self.program.misuse

    def require(self, *numbers: int) -> None:
        """Raises RktError unless there is one of these numbers of words."""
        if len(self.args) not in numbers:
            raise MisuseError("incorrect number of arguments")


class MisuseError(RktError):
    """A command line that makes no sense."""

    __slots__ = ()


class _SingleDashParser(Parser):
    """Takes ``-overwrite`` for ``--overwrite``."""

    __slots__ = ()

    def parse_flag(self, words: Sequence[str], index: int) -> int:
        word = words[index]
        if not word.startswith("--"):
            word = "-" + word
        if word == "--h":
            raise HelpRequest(self.command)
        return super().parse_flag([*words[:index], word, *words[index + 1 :]], index)


def parse(program: Program, words: Sequence[str]) -> ToolCall:
    """The call that words ask for; that of the command "" when they name no command.

    Raises UsageError, MisuseError for an unknown command, and HelpRequest.
    """
    found, rest = find_command(program, words)
    known = {option.name: option for option in (*program.globals, *found.options)}
    # A command may read the configuration of rkt, which is where rkt's own defaults say.
    flags = Flags({**{option.name: option for option in options.GLOBALS}, **known})
    parser = (_SingleDashParser if program.single_dash else Parser)(found, known, flags)
    return ToolCall(program, found, flags, parser.parse(rest, interspersed=found.interspersed))


def find_command(program: Program, words: Sequence[str]) -> tuple[Command, list[str]]:
    """The command the words name, and the words without its name."""
    rest = list(words)
    path = ""
    while path not in program.commands:
        index = _command_word(program, rest)
        if index is None:
            break
        path = f"{path} {_match(program, rest[index], path)}".lstrip()
        del rest[index]
    found = program.commands.get(path)
    if found is None:
        found = command(path, "", "[command]", program.summary if not path else "")
    return found, rest


def _command_word(program: Program, words: list[str]) -> int | None:
    every = [*program.globals, *(option for one in program.commands.values() for option in one.options)]
    bare = {option.name for option in every if option.bare} | {"help", "h"}
    skip = False
    for index, word in enumerate(words):
        if skip:
            skip = False
        elif word == "--":
            return None
        elif len(word) > 1 and word.startswith("-"):
            skip = "=" not in word and word.lstrip("-") not in bare
        elif word:
            return index
    return None


def _match(program: Program, word: str, path: str) -> str:
    """The word of a command's path that ``word`` means: itself, an alias, or cut short."""
    depth = len(path.split())
    names = set()
    for one in program.commands:
        parts = one.split()
        if parts[:depth] == path.split() and len(parts) > depth:
            names.add(parts[depth])
    spellings = {name: name for name in names}
    spellings.update((alias, name) for alias, name in program.aliases.items() if name in names)
    if word in spellings:
        return spellings[word]
    matches = {name for spelling, name in spellings.items() if spelling.startswith(word)}
    if len(matches) == 1:
        return matches.pop()
    where = f"{program.name} {path}".rstrip()
    if matches:
        raise MisuseError(f'ambiguous command "{word}" for "{where}": {", ".join(sorted(matches))}')
    raise MisuseError(
        f'unknown command "{word}" for "{where}"', hint=f"{program.name} help lists all commands"
    )


def usage(program: Program, found: Command) -> str:
    """The usage text of a command, a group of commands or the whole tool."""
    from rkt.cli.help import option_lines, wrap
    from rkt.cli.table import align

    words = " ".join(filter(None, (program.name, found.path, found.usage)))
    summary = found.summary or program.summary
    lines = [["NAME:"], ["", f"{found.path or program.name} - {summary}"], [], ["USAGE:"], ["", words]]
    if not found.path:
        lines += [[], ["VERSION:"], ["", VERSION]]
    within = [one for path, one in program.commands.items() if path.startswith(f"{found.path} ".lstrip())]
    if not found.module and within:
        skip = len(found.path) + 1 if found.path else 0
        lines += [[], ["COMMANDS:"], *(["", one.path[skip:], one.summary] for one in within)]
    if found.description:
        lines += [[], ["DESCRIPTION:"], *(["", line] if line else [] for line in wrap(found.description))]
    lines += [[], ["OPTIONS:"], *option_lines(found.options, found.path or program.name)]
    if program.globals:
        lines += [[], ["GLOBAL OPTIONS:"], *option_lines(program.globals)]
    return align(lines)
