"""Hostile OpenPGP data: every input is read or refused, never anything else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rkt.errors import RktError
from rkt.trust import openpgp

LENGTHS = st.integers(0, 255)


def packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 255]) + len(body).to_bytes(4, "big") + body


packets = st.lists(st.builds(packet, st.sampled_from([2, 6, 10, 13, 14, 17, 5, 60]), st.binary(max_size=64)))
bodies = st.builds(
    lambda start, rest: start + rest, st.sampled_from([b"\x04", b"\x04\x00", b"\x03\x05\x00"]), st.binary()
)


def reads_or_refuses(data: bytes) -> None:
    for parse in (openpgp.parse_keys, openpgp.parse_signature):
        try:
            parse(data)
        except RktError:
            pass


@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    reads_or_refuses(data)


@given(packets)
def test_any_packets(data: list[bytes]) -> None:
    reads_or_refuses(b"".join(data))


@given(bodies)
def test_any_signature(body: bytes) -> None:
    reads_or_refuses(packet(2, body))


@given(st.text())
def test_any_armor(text: str) -> None:
    for kind in (openpgp.PUBLIC_KEY, openpgp.SIGNATURE):
        reads_or_refuses(f"-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n".encode("utf-8", "replace"))


@given(st.binary())
def test_armor_round_trip(data: bytes) -> None:
    assert openpgp.dearmor(openpgp.armor(data, openpgp.SIGNATURE), openpgp.SIGNATURE) == data


@given(st.binary(min_size=1), st.data())
def test_one_changed_letter_of_armor_never_passes_for_the_original(
    data: bytes, choose: st.DataObject
) -> None:
    lines = openpgp.armor(data, openpgp.SIGNATURE).decode().split("\n")
    row = choose.draw(st.integers(2, len(lines) - 4))
    column = choose.draw(st.integers(0, len(lines[row]) - 1))
    letter = choose.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))
    if lines[row][column] == letter:
        return
    lines[row] = lines[row][:column] + letter + lines[row][column + 1 :]
    try:
        assert openpgp.dearmor("\n".join(lines).encode(), openpgp.SIGNATURE) == data
    except RktError:
        return
    # Only bits that base64 does not use may differ.
    assert lines[row].rstrip("=") != lines[row] or column >= len(lines[row]) - 4
