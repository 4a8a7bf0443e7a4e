"""From words to a call: pflag's and cobra's rules, and rkt's grammar of images.

Long options only (and ``-h``): ``--x=v`` or ``--x v``; a flag with a bare value (booleans, ``--net``) takes
its value only after ``=``.  Commands may be cut to a unique prefix.  The command is found first; then its
own and the global flags are parsed, wherever they stand.  For commands with images parsing stops at the
first positional word and ``parse_images`` takes over::

    [flags] IMAGE [flags] [-- ARG... [---]] IMAGE [flags] ...
"""

from __future__ import annotations

from rkt.cli import options
from rkt.cli.call import Call, Flags, Globals, ImageWords
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rkt.cli.options import Command, Entry, Option


class UsageError(RktError):
    """A flag that cannot be parsed: printed as ``Error: ...`` with the usage of ``command``."""

    __slots__ = ("command",)

    def __init__(self, command: Command, message: str) -> None:
        super().__init__(message)
        self.command = command


class UnknownCommandError(RktError):
    """The first word names no command; ``within`` is what it was looked for in ("rkt", "rkt image")."""

    __slots__ = ("within",)

    def __init__(self, message: str, within: str) -> None:
        super().__init__(message)
        self.within = within


class HelpRequest(Exception):
    """``--help`` or ``-h`` was found; carries the command."""

    def __init__(self, command: Command) -> None:
        super().__init__()
        self.command = command


def parse(words: Sequence[str]) -> Call:
    """The call that the words after the program's name ask for.

    A call whose command has no module is a group of commands or the program without a command.
    Raises UsageError, UnknownCommandError and HelpRequest.
    """
    entry, rest = find_command(words)
    if entry is None:
        command = options.ROOT
    elif entry.module:
        command = options.load(entry)
    else:
        command = group(entry)
    known = {option.name: option for option in (*options.GLOBALS, *command.options)}
    flags = Flags(known)
    positional = Parser(command, known, flags).parse(rest, interspersed=command.interspersed)
    return Call(command, Globals(flags), flags, positional)


def group(entry: Entry) -> Command:
    """A group of commands as something help and the parser understand."""
    command = options.Command("[command]")
    command.path = entry.path
    command.summary = entry.summary
    return command


def find_command(words: Sequence[str]) -> tuple[Entry | None, list[str]]:
    """The command the words name and the words without its name; None when there is no command word."""
    rest = list(words)
    found: Entry | None = None
    while found is None or not found.module:
        index = command_word(rest)
        if index is None:
            return found, rest
        within = found.path + " " if found else ""
        candidates = [
            entry
            for entry in options.available()
            if entry.path.startswith(within) and " " not in entry.path[len(within) :]
        ]
        match = match_name(rest[index], within, candidates)
        if match is None:
            raise unknown_command(rest[index], within, candidates)
        found = match
        del rest[index]
    return found, rest


def match_name(word: str, within: str, candidates: list[Entry]) -> Entry | None:
    """The command of this name, or the only one that starts with it."""
    matches = []
    for entry in candidates:
        name = entry.path[len(within) :]
        if name == word:
            return entry
        if name.startswith(word):
            matches.append(entry)
    return matches[0] if len(matches) == 1 else None


def command_word(words: list[str]) -> int | None:
    """Where the first word stands that is neither a flag nor a flag's value.

    Only the global flags are known at this point; any other flag without ``=`` is taken to have a value, as
    cobra does.
    """
    plain = {"--help"}
    plain.update("--" + option.name for option in options.GLOBALS if option.bare)
    skip = False
    for index, word in enumerate(words):
        if skip:
            skip = False
        elif word == "--":
            return None
        elif word.startswith("-"):
            skip = word.startswith("--") and "=" not in word and word not in plain
        elif word:
            return index
    return None


def unknown_command(word: str, within: str, candidates: list[Entry]) -> UnknownCommandError:
    from rkt.cli.output import quote
    from rkt.cli.suggest import similar

    path = ("rkt " + within).rstrip()
    message = f"unknown command {quote(word)} for {quote(path)}"
    names = similar(word, [entry.path[len(within) :] for entry in candidates if not entry.hidden])
    if names:
        message += "\n\nDid you mean this?\n" + "".join(f"\t{name}\n" for name in names)
    return UnknownCommandError(message, path)


class Parser:
    """Parses flags of one command into ``flags``, or into the flags of the current image."""

    __slots__ = ("command", "flags", "image", "known")

    def __init__(self, command: Command, known: dict[str, Option], flags: Flags) -> None:
        self.command = command
        self.known = known
        self.flags = flags
        self.image: ImageWords | None = None

    def parse(self, words: Sequence[str], *, interspersed: bool) -> list[str]:
        """Parses flags and returns the positional words; not interspersed: all words from the first
        positional on.
        """
        positional: list[str] = []
        index = 0
        while index < len(words):
            word = words[index]
            if word == "--":
                # Where images follow, their grammar needs to see the dashes.
                positional.extend(words[index if self.command.images else index + 1 :])
                break
            if len(word) < 2 or word[0] != "-":
                if not interspersed:
                    positional.extend(words[index:])
                    break
                positional.append(word)
                index += 1
            else:
                index = self.parse_flag(words, index)
        return positional

    def parse_flag(self, words: Sequence[str], index: int) -> int:
        """Parses the flag at ``index`` and returns where to go on."""
        word = words[index]
        if not word.startswith("--"):
            if word[1] == "h":
                raise HelpRequest(self.command)
            raise self.fault(f"unknown shorthand flag: '{word[1]}' in {word}")
        name, equals, value = word[2:].partition("=")
        if not name or name.startswith("-"):
            raise self.fault(f"bad flag syntax: {word}")
        option = self.known.get(name)
        if option is None:
            if name == "help":
                raise HelpRequest(self.command)
            raise self.fault(f"unknown flag: --{name}")
        index += 1
        if not equals:
            if option.bare:
                value = option.bare
            elif index < len(words):
                value = words[index]
                index += 1
            else:
                raise self.fault(f"flag needs an argument: {word}")
        try:
            self.store(option, value)
        except (RktError, OSError) as error:
            from rkt.cli.output import quote
            from rkt.errors import one_line

            raise self.fault(f"invalid argument {quote(value)} for {word}: {one_line(error)}") from None
        if option.deprecated:
            from rkt.cli.output import warn

            warn(f"Flag --{name} has been deprecated, {option.deprecated}")
        return index

    def store(self, option: Option, text: str) -> None:
        """Converts one value and puts it where its scope says."""
        target = self.flags
        if option.scope == "app" or (option.scope == "either" and self.image is not None):
            if self.image is None:
                raise RktError(f"--{option.name} must follow an image")
            target = self.image.flags
        name = option.alias or option.name
        if option.once and target.given(name):
            raise RktError(f"--{name} specified multiple times for the same image")
        if option.group:
            check_group(option, self.known, target)
        if option.kind == "bool" and text == "true":
            target.set(name, True)
            return
        if option.kind == "string":
            target.set(name, text)
            return
        from rkt.cli.values import convert

        target.set(name, convert(option, text, target.get(name)))

    def fault(self, message: str) -> UsageError:
        return UsageError(self.command, message)


def check_group(option: Option, known: dict[str, Option], target: Flags) -> None:
    """Of the flags of one group only one may be written, once."""
    for name in target.names():
        if known[name].group == option.group:
            if name == option.name:
                raise RktError(f"--{name} already used")
            raise RktError(f"flags --{option.name} and --{name} are mutually exclusive")


def parse_images(call: Call) -> None:
    """Splits ``call.args`` of a command with images into ``call.images``; the leading words stay in
    ``call.args``.

    Flags for the whole pod may stand anywhere and go to ``call.flags``.
    Raises RktError (not a usage error, as in rkt) and HelpRequest.
    """
    words = call.args[call.command.leading :]
    call.args = call.args[: call.command.leading]
    message = (
        "error parsing app image arguments" if call.command.image_arguments else "unable to parse arguments"
    )
    try:
        split_images(call, words)
        check_mounts(call)
    except RktError as error:
        raise RktError(message) from error


def split_images(call: Call, words: list[str]) -> None:
    command = call.command
    known = {option.name: option for option in (*options.GLOBALS, *command.options)}
    parser = Parser(command, known, call.flags)
    index = 0
    images_with_arguments = 0
    while index < len(words):
        word = words[index]
        index += 1
        if word == "--":
            if not command.image_arguments:
                raise RktError("app arguments unsupported")
            if not call.images:
                raise RktError("an image is required before any app arguments")
            if images_with_arguments == len(call.images):
                raise RktError("only one set of app arguments allowed per image")
            images_with_arguments = len(call.images)
            while index < len(words) and words[index] != "---":
                call.images[-1].args.append(words[index])
                index += 1
            index += 1
        elif word in {"", "---"}:
            continue
        elif len(word) > 1 and word[0] == "-":
            index = parser.parse_flag(words, index - 1)
        else:
            image = ImageWords(word, Flags(known))
            call.images.append(image)
            parser.image = image
    for image in call.images:
        if image.flags.given("caps-retain") and image.flags.given("caps-remove"):
            raise RktError("cannot use both --caps-retain and --caps-remove on the same image")
    # Global flags may have been among the images' flags.
    call.globals = Globals(call.flags)


def check_mounts(call: Call) -> None:
    """Works out the mounts of each image and refuses one whose volume nobody declared."""
    if not call.flags.given("mount") and not any(image.flags.given("mount") for image in call.images):
        return
    volumes = {volume.name for volume in call.flags["volume"]} if any_option(call, "volume") else set()
    everywhere = call.flags["mount"]
    own = [(image, image.flags["mount"]) for image in call.images]
    for mounts in (everywhere, *(mounts for _, mounts in own)):
        for mount in mounts:
            if mount.volume not in volumes:
                from rkt.cli.output import quote

                raise RktError(
                    f"dangling mount point {quote(mount.path)}: volume {quote(mount.volume)} not found"
                )
    for image, mounts in own:
        taken: set[str] = set()
        for mount in (*mounts, *everywhere):
            if mount.path not in taken:
                taken.add(mount.path)
                image.mounts.append(mount)


def any_option(call: Call, name: str) -> bool:
    return any(option.name == name for option in call.command.options)
