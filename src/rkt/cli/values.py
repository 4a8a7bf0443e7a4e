"""From the text of a flag to its typed value: one converter per kind.

A converter gets the text, the value given so far (None at first) and the option; it returns the new value
and raises RktError (or OSError) with the reason.  The kinds whose values are types of ``rkt.appc`` are in
``rkt.cli.values_appc``.
"""

from __future__ import annotations

import os

from rkt.cli.output import quote
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rkt.cli.options import Option

TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
FOREVER = -1
LIMIT = 1 << 63
"""Durations and integers are 64 bits wide, as in Go."""
FETCH = ("image", "tls", "http", "pubkey")
RUN = ("ondisk", "capabilities", "paths", "seccomp")


def convert(option: Option, text: str, before: Any) -> Any:
    """The new value of an option after one more occurrence with this text."""
    converter = CONVERTERS.get(option.kind)
    if converter is None:
        from rkt.cli.values_appc import CONVERTERS as TYPED

        converter = TYPED[option.kind]
    return converter(text, before, option)


def parse_bool(text: str) -> bool:
    """Go's strconv.ParseBool."""
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise RktError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")


def parse_int(text: str) -> int:
    """A decimal number as Go's strconv.Atoi takes it: an optional sign and digits, 64 bits."""
    digits = text[1:] if text[:1] in {"+", "-"} else text
    if not (digits.isascii() and digits.isdigit()):
        raise RktError(f"strconv.Atoi: parsing {quote(text)}: invalid syntax")
    # The interpreter refuses numbers of thousands of digits; 20 are out of range already.
    digits = digits.lstrip("0") or "0"
    number = int(digits) if len(digits) < 20 else LIMIT
    if text.startswith("-"):
        number = -number
    if not -LIMIT <= number < LIMIT:
        raise RktError(f"strconv.Atoi: parsing {quote(text)}: value out of range")
    return number


def parse_duration(text: str) -> int:
    """Go's time.ParseDuration in nanoseconds: ``30m0s``, ``1.5h``, ``-2s``, ``0``."""
    rest = text[1:] if text[:1] in {"+", "-"} else text
    if rest == "0":
        return 0
    if not rest:
        raise RktError(f"time: invalid duration {quote(text)}")
    total = 0
    while rest:
        end = 0
        while end < len(rest) and (rest[end] in "0123456789."):
            end += 1
        whole, dot, fraction = rest[:end].partition(".")
        if "." in fraction or not (whole or fraction):
            raise RktError(f"time: invalid duration {quote(text)}")
        rest = rest[end:]
        end = 0
        while end < len(rest) and rest[end] not in "0123456789.":
            end += 1
        unit, rest = rest[:end], rest[end:]
        if not unit:
            raise RktError(f"time: missing unit in duration {quote(text)}")
        if unit not in UNITS:
            raise RktError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        if len(whole) > 19:
            raise RktError(f"time: invalid duration {quote(text)}")
        scale = UNITS[unit]
        # More than 19 digits of a fraction are below a nanosecond in every unit.
        fraction = fraction[:19]
        total += int(whole or "0") * scale
        if dot and fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
    if total >= LIMIT:
        raise RktError(f"time: invalid duration {quote(text)}")
    return -total if text.startswith("-") else total


def absolute_directory(text: str) -> str:
    """A path made absolute and clean (``/a/../b`` is ``/b``: a path of text, no link is looked at)."""
    if not text:
        raise RktError('"" is not a valid directory')
    path = os.path.abspath(text)
    return path[1:] if path.startswith("//") else path


def wait(text: str) -> int:
    """``--wait``: a bool or a duration; 0 does not wait, FOREVER and any negative duration wait without
    limit.
    """
    if text in TRUE or not text:
        return FOREVER
    if text in FALSE:
        return 0
    return max(parse_duration(text), FOREVER)


def pair(text: str, before: dict[str, str] | None, option: Option) -> dict[str, str]:
    """``KEY=VALUE``, every key once."""
    key, equals, value = text.partition("=")
    if not equals:
        if option.scope == "app":
            raise RktError(f"invalid format of --{option.name} flag {quote(text)}")
        raise RktError("must be specified as key=value")
    values = dict(before or {})
    if key in values:
        raise RktError(f"key {quote(key)} already set")
    values[key] = value
    return values


def environment_file(text: str, before: dict[str, str] | None, option: Option) -> dict[str, str]:
    """``NAME=VALUE`` lines of a file; empty lines and those that start with ``#`` or ``;`` are skipped."""
    del option
    values = dict(before or {})
    with open(text, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for number, line in enumerate(file, 1):
            line = line.removesuffix("\n").removesuffix("\r")  # noqa: PLW2901
            if not line or line[0] in "#;":
                continue
            name, equals, value = line.partition("=")
            where = f"file {quote(text)}, line {number}"
            if not equals or not name:
                raise RktError(f"environment variable must be specified as name=value ({where})")
            if name in values:
                raise RktError(f"environment variable {quote(name)} already set ({where})")
            values[name] = value
    return values


def choices(text: str, before: list[str] | None, option: Option) -> list[str]:
    """A comma-separated list of the option's words, each at most once; the last occurrence of the flag
    counts.
    """
    del before
    result: list[str] = []
    for word in text.lower().split(",") if text else []:
        if word not in option.choices:
            raise RktError(f"unknown option {quote(word)}")
        if word in result:
            raise RktError(f"duplicated option {quote(word)}")
        result.append(word)
    return result


def insecure(text: str, before: frozenset[str] | None, option: Option) -> frozenset[str]:
    """``--insecure-options``: names with the groups spelt out; "none" adds nothing."""
    del before
    names: set[str] = set()
    for word in choices(text, None, option):
        if word in {"all", "all-fetch"}:
            names.update(FETCH)
        if word in {"all", "all-run"}:
            names.update(RUN)
        if not word.startswith("all") and word != "none":
            names.add(word)
    return frozenset(names)


def output_format(text: str, before: str | None, option: Option) -> str:
    """``--format``: "" is the table."""
    del before
    if text and text not in option.choices:
        raise RktError(f"Invalid format option: {text}")
    return text


def order(text: str, before: str | None, option: Option) -> str:
    """``--order``: "asc" or "desc"."""
    del before
    if text.lower() not in option.choices:
        raise RktError("wrong sort order")
    return text.lower()


def absolute_path(text: str, before: str | None, option: Option) -> str:
    """A path inside an image."""
    del before
    if not text.startswith("/"):
        raise RktError(f"--{option.name} must be an absolute path")
    return text


def settings(text: str, before: dict[str, str] | None, option: Option) -> dict[str, str]:
    """``KEY=VALUE``; a later occurrence of a key replaces the value."""
    return {**(before or {}), **pair(text, None, option)}


def one_of(text: str, before: str | None, option: Option) -> str:
    """One of the option's words."""
    del before
    if text not in option.choices:
        raise RktError(f"invalid {option.name} mode {quote(text)}")
    return text


def networks(text: str, before: list[str] | None, option: Option) -> list[str]:
    """``--net``: ``NAME[:ARGS]`` separated by commas, every name once over all occurrences."""
    from rkt.network.selection import parse_networks

    del option
    result = [*(before or []), *text.split(",")]
    parse_networks(",".join(result))
    return result


def identifiers(text: str, before: list[int] | None, option: Option) -> list[int]:
    """Numeric group ids separated by commas, added to those given before."""
    result = list(before or [])
    for word in text.split(","):
        try:
            number = parse_int(word)
        except RktError:
            raise RktError(f"--{option.name} must be integers") from None
        if not 0 <= number < (1 << 32) - 1:
            raise RktError(f"--{option.name}: {number} is no group id")
        result.append(number)
    return result


_HOST_NAME_MAX = 64
_HOST_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")


def hostname(text: str, before: str | None, option: Option) -> str:
    """A host name as systemd-nspawn takes it: labels of letters, digits and inner hyphens, 64 in all."""
    del before, option
    labels = text.split(".")
    good = all(
        label and _HOST_LETTERS.issuperset(label) and not label.startswith("-") and not label.endswith("-")
        for label in labels
    )
    if text and (not good or len(text) > _HOST_NAME_MAX):
        raise RktError(f"{quote(text)} is no host name")
    return text


def size(text: str, before: int | None, option: Option) -> int:
    """Bytes, with K, M, G or T for powers of 1024."""
    del before, option
    power = "KMGT".find(text[-1:].upper()) + 1 if text[-1:] else 0
    digits = text[:-1] if power else text
    if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        raise RktError(f'"{text}" is no size: digits, and K, M, G or T')
    return int(digits) << 10 * power


CONVERTERS: dict[str, Callable[[str, Any, Option], Any]] = {
    "string": lambda text, before, option: text,
    "bool": lambda text, before, option: parse_bool(text),
    "int": lambda text, before, option: parse_int(text),
    "duration": lambda text, before, option: parse_duration(text),
    "directory": lambda text, before, option: absolute_directory(text),
    "wait": lambda text, before, option: wait(text),
    "list": lambda text, before, option: [*(before or []), text],
    "words": lambda text, before, option: [*(before or []), *text.split(",")],
    "pairs": pair,
    "environment-file": environment_file,
    "choices": choices,
    "insecure": insecure,
    "format": output_format,
    "order": order,
    "absolute-path": absolute_path,
    "settings": settings,
    "one-of": one_of,
    "networks": networks,
    "identifiers": identifiers,
    "hostname": hostname,
    "size": size,
}
