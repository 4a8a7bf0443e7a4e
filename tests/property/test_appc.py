"""Properties of the appc types: what is printed reads back, quantities are exact, JSON is JSON."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rkt.appc import date, flags, gojson, identifiers, url, version
from rkt.appc.app import App
from rkt.appc.discovery import ImageName, extract_meta
from rkt.appc.errors import AppcError
from rkt.appc.image import ImageManifest
from rkt.appc.pod import PodManifest
from rkt.appc.quantity import NANO, Quantity
from rkt.appc.volume import Volume

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
NAME = st.from_regex(r"\A[a-z0-9]+(-[a-z0-9]+)*\Z")
SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


@given(JSON)
def test_json_is_what_the_standard_library_reads(value: Any) -> None:
    assert json.loads(gojson.dumps(value)) == value
    assert json.loads(gojson.dumps(value, "\t")) == value
    assert gojson.loads(json.dumps(value)) == value
    assert gojson.loads(gojson.dumps(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_real_numbers_keep_every_bit(value: float) -> None:
    assert float(gojson.dumps(value)) == value
    assert gojson.loads(json.dumps(value)) == value


@given(TEXT)
def test_any_text_is_read_or_refused_as_by_the_standard_library(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        expected = AppcError
    try:
        got = gojson.loads(text)
    except AppcError:
        got = AppcError
    if expected != expected or expected in (math.inf, -math.inf):  # NaN and Infinity are no JSON
        expected = AppcError
    assert got == expected


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for decode in (gojson.loads, gojson.loads_pairs, ImageManifest.decode, PodManifest.decode):
        try:
            decode(data)
        except AppcError as error:
            assert str(error)


@given(JSON)
def test_any_json_is_a_manifest_or_refused(value: Any) -> None:
    for text in (gojson.dumps(value), gojson.dumps({"acKind": "ImageManifest", "name": "a", "app": value})):
        try:
            ImageManifest.decode(text)
        except AppcError as error:
            assert str(error)


@given(
    st.sampled_from(["", "+", "-"]),
    st.integers(0, 10**25),
    st.text("0123456789", max_size=25),
    st.sampled_from([*SUFFIXES, *BINARY]),
)
def test_quantities_are_exact(sign: str, whole: int, digits: str, suffix: str) -> None:
    quantity = Quantity.parse(f"{sign}{whole}.{digits}{suffix}")
    exact = whole + (Fraction(int(digits), 10 ** len(digits)) if digits else Fraction(0))
    if suffix in BINARY:
        exact *= 2 ** BINARY[suffix]
    else:
        exact *= Fraction(10) ** SUFFIXES[suffix]
    nanos = math.ceil(exact * NANO)
    if suffix in BINARY:
        nanos = min(nanos, (2**63 - 1) * NANO)
    assert quantity.nanos == (-nanos if sign == "-" else nanos)
    again = Quantity.parse(quantity.canonical())
    assert again.nanos == quantity.nanos
    assert again.canonical() == quantity.canonical()
    assert Quantity.parse(str(quantity)).nanos == quantity.nanos
    assert Fraction(quantity.decimal()) * NANO == quantity.nanos
    assert abs(quantity.value()) == math.ceil(Fraction(nanos, NANO))
    assert abs(quantity.milli_value()) == math.ceil(Fraction(nanos, 10**6))


@given(st.integers(-(10**12), 10**12), st.integers(-12, 12))
def test_rounding_goes_away_from_zero(nanos: int, scale: int) -> None:
    rounded, exact = Quantity(nanos).round_up(scale)
    step = Fraction(10) ** scale
    assert abs(rounded.nanos) >= abs(nanos)
    assert exact == (rounded.nanos == nanos)
    assert Fraction(abs(rounded.nanos) - abs(nanos), NANO) < step
    if scale > -9:
        assert Fraction(rounded.nanos, NANO) % step == 0


@given(st.text("0123456789.+-eEinumkKMGTP ", max_size=8))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    try:
        quantity = Quantity.parse(text)
    except AppcError:
        return
    assert Quantity.parse(str(quantity)) == quantity


@given(st.text(max_size=12))
def test_sanitised_names_are_names(text: str) -> None:
    for sanitize, check in (
        (identifiers.sanitize_name, identifiers.check_name),
        (identifiers.sanitize_identifier, identifiers.check_identifier),
    ):
        try:
            made = sanitize(text)
        except AppcError:
            continue
        assert check(made) == made
        assert sanitize(made) == made


@given(st.text("0123456789.+-ab", max_size=12))
def test_versions_print_normal(text: str) -> None:
    try:
        made = version.normalise(text)
    except AppcError:
        return
    assert version.normalise(made) == made


@given(st.datetimes())
def test_dates(moment: Any) -> None:
    text = moment.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)
    assert str(date.parse(text)) == text


@given(st.text("abAB0:/?#[]@%41 ä!~.", max_size=16))
def test_urls_print_normal(tail: str) -> None:
    try:
        made = url.parse("http:" + tail)
    except AppcError:
        return
    assert url.parse(made) == made


@given(NAME, TEXT.filter(lambda text: "," not in text), st.none() | st.booleans(), st.none() | st.booleans())
def test_volumes_read_their_flag(
    name: str, source: str, read_only: bool | None, recursive: bool | None
) -> None:
    volume = Volume(name, "host", f"/{source}", read_only=read_only, recursive=recursive)
    again = Volume.from_flag(str(volume))
    assert again.to_value() == volume.to_value()
    assert Volume.from_value(volume.to_value()).to_value() == volume.to_value()


@given(
    NAME,
    st.dictionaries(
        NAME.filter(lambda name: name != "name"), TEXT.filter(lambda text: not set(text) & set(",:"))
    ),
)
def test_image_names_read_their_text(name: str, labels: dict[str, str]) -> None:
    made = ImageName.parse(str(ImageName(name, labels)))
    assert (made.name, made.labels) == (name, labels)


@given(
    st.lists(
        st.sampled_from(["<", ">", "!", "[", "]", "--", "meta ", "a", "=", '"', "'", "/", "&#", "title", "?"])
    )
)
def test_any_page_is_read(pieces: list[str]) -> None:
    assert extract_meta("".join(pieces)) == []


@given(TEXT)
def test_flags_are_split_or_refused(text: str) -> None:
    try:
        words = flags.split_flag(text)
    except AppcError:
        return
    assert ",".join(f"{key}={value}" for key, value in words.items()) == f"name={text}"


@given(
    st.lists(TEXT, max_size=4),
    TEXT.filter(bool),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    st.dictionaries(TEXT, TEXT, max_size=3),
)
def test_apps_read_what_they_print(
    words: list[str], user: str, groups: list[int], labels: dict[str, str]
) -> None:
    app = App(exec=words, user=user, group=user, supplementary_gids=groups, user_labels=labels)
    text = gojson.dumps(app.to_value())
    assert gojson.dumps(App.from_value(gojson.loads(text)).to_value()) == text
