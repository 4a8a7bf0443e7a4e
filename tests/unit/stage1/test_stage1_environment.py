"""Environments of apps and the file they are kept in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkt.errors import RktError
from rkt.stage1.common import environment

NAMES = st.from_regex(r"\A[A-Za-z_][A-Za-z_0-9]*\Z")
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_file_keeps_every_value(variables: dict[str, str]) -> None:
    pairs = list(variables.items())
    assert environment.decode(environment.encode(pairs)) == pairs


def test_file_looks_as_the_transcript_shows_it() -> None:
    data = environment.encode(environment.complete([], "one", container="rkt"))
    assert b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n" in data
    assert data.endswith(b"AC_APP_NAME=one\n")


def test_the_manifest_wins_over_defaults_and_not_over_the_name() -> None:
    values = dict(
        environment.complete(
            [("HOME", "/srv"), ("AC_APP_NAME", "x"), ("A", "")], "web", metadata_url="http://h/t"
        )
    )
    assert (values["HOME"], values["AC_APP_NAME"], values["A"]) == ("/srv", "web", "")
    assert values["AC_METADATA_URL"] == "http://h/t"
    assert values["USER"] == "root"


@pytest.mark.parametrize("pair", [("A", "x\0y"), ("A=B", "x"), ("A\nB", "x"), ("", "x")])
def test_what_no_process_can_be_given_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(RktError):
        environment.complete([pair], "web")
