import csv

import pytest

from tract_core.base import plain, tables

ESCAPE = "\x1b]0;owned\x07\x1b[2J"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc é 日本　語 👩‍👩", "a\tb\nc é 日本　語 👩‍👩"),
        (ESCAPE, r"\x1b]0;owned\x07\x1b[2J"),
        ("a\rb\x9b2J\x7f", r"a\rb\x9b2J\x7f"),
        ("\u202eabc\u2028d", r"\u202eabc\u2028d"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text, shown):
    assert plain.visible(text) == shown


def test_ids_in_a_csv_are_no_formulas_and_no_escape_sequences(tmp_path):
    ids = ["=1+1", "+a", "-a", "@a", "\tb", ESCAPE, "a=b", "-1"]
    tables.write_csv(tmp_path / "a.csv", [{"id": name, "gold": -1.5} for name in ids])
    with (tmp_path / "a.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    expected = ["'=1+1", "'+a", "'-a", "'@a", "'\tb", r"\x1b]0;owned\x07\x1b[2J", "a=b", "'-1"]
    assert [row["id"] for row in found] == expected
    assert {row["gold"] for row in found} == {"-1.5"}
