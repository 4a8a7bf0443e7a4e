"""Tables, against what the original printed ("→" is a tab)."""

from __future__ import annotations

import pytest

from rkt.cli.table import Table, align

LIST = """\
UUID→→APP→IMAGE NAME→→STATE→→CREATED→→→STARTED→→NETWORKS
43a43d8a→one→bar.example/box:1→running→→4 seconds ago→→3 seconds ago→default:ip4=172.16.28.3
7fe454c8→web→example.com/www:1→prepared→4 seconds ago→→→→
da11d0a3→-→-→→→aborted prepare→a long while ago→→→
"""
FULL = """\
UUID→→→→→APP→IMAGE NAME→→IMAGE ID→→STATE→→CREATED→→→→→STARTED→NETWORKS
7fe454c8-5a44-4524-bc91-f22c1184d414→web→example.com/www:1→sha512-50b571af4fea→\
prepared→2026-11-23 17:15:46.592 +0000 UTC→→
da11d0a3-44a6-41a0-8a24-b1a56b4c692a→-→-→→→-→→→\
aborted prepare→0001-01-01 00:00:00 +0000 UTC→→→
"""
IMAGES = """\
ID→→→NAME→→→→→SIZE→IMPORT TIME→LAST USED
sha512-1868c83b12d5→coreos.com/rkt/stage1-host:1.30.0→159MiB→2 seconds ago→1 second ago
sha512-1cfc25bf2bdc→bar.example/nolabels→→→3.8MiB→1 second ago→1 second ago
sha512-8c5fe47b33fb→bar.example/box:1→→→3.8MiB→now→→now
"""
CELLS = {
    LIST: [
        ["UUID", "APP", "IMAGE NAME", "STATE", "CREATED", "STARTED", "NETWORKS"],
        [
            *("43a43d8a", "one", "bar.example/box:1", "running", "4 seconds ago", "3 seconds ago"),
            "default:ip4=172.16.28.3",
        ],
        ["7fe454c8", "web", "example.com/www:1", "prepared", "4 seconds ago", "", ""],
        ["da11d0a3", "-", "-", "aborted prepare", "a long while ago", "", ""],
    ],
    FULL: [
        ["UUID", "APP", "IMAGE NAME", "IMAGE ID", "STATE", "CREATED", "STARTED", "NETWORKS"],
        [
            *("7fe454c8-5a44-4524-bc91-f22c1184d414", "web", "example.com/www:1", "sha512-50b571af4fea"),
            *("prepared", "2026-11-23 17:15:46.592 +0000 UTC", "", ""),
        ],
        [
            *("da11d0a3-44a6-41a0-8a24-b1a56b4c692a", "-", "-", "-"),
            *("aborted prepare", "0001-01-01 00:00:00 +0000 UTC", "", ""),
        ],
    ],
    IMAGES: [
        ["ID", "NAME", "SIZE", "IMPORT TIME", "LAST USED"],
        [
            *("sha512-1868c83b12d5", "coreos.com/rkt/stage1-host:1.30.0", "159MiB", "2 seconds ago"),
            "1 second ago",
        ],
        ["sha512-1cfc25bf2bdc", "bar.example/nolabels", "3.8MiB", "1 second ago", "1 second ago"],
        ["sha512-8c5fe47b33fb", "bar.example/box:1", "3.8MiB", "now", "now"],
    ],
}


@pytest.mark.parametrize("printed", list(CELLS))
def test_what_the_original_printed(printed: str) -> None:
    headers, *rows = CELLS[printed]
    table = Table(headers)
    for row in rows:
        table.row(*row)
    assert table.render() == printed.replace("→", "\t")


def test_headers_alone_and_nothing_at_all() -> None:
    assert Table(["ID", "NAME", "SIZE"]).render() == "ID\tNAME\tSIZE\n"
    assert Table().render() == ""


def test_without_headers() -> None:
    table = Table()
    table.row("a", "b")
    assert table.render() == "a\tb\n"


def test_width_counts_code_points() -> None:
    table = Table()
    table.row("äöüäöüä", "x")
    table.row("1234567", "x")
    table.row("12345678", "x")
    assert table.render() == "äöüäöüä\t\tx\n1234567\t\tx\n12345678\tx\n"


def test_a_foreign_cell_cannot_make_rows_or_columns() -> None:
    table = Table()
    table.row("a\tb\nc\x1b[31m", "x")
    assert table.render() == "a?b?c?[31m\tx\n"


def test_a_column_reaches_over_consecutive_lines_only() -> None:
    lines = [["a", "b"], ["longer cell", "b"], ["no column"], ["a", "b"]]
    assert align(lines) == "a\t\tb\nlonger cell\tb\nno column\na\tb\n"


def test_json_passes_through_unchanged() -> None:
    # The original sends indented JSON through the same writer.
    assert align([["["], ["", '"a": 1'], ["", "", "2"], ["]"]]) == '[\n\t"a": 1\n\t\t2\n]\n'
