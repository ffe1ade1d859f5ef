"""Rows of every kind of file become facts; what is no fact is told with its line."""

from __future__ import annotations

import json

import pytest

import twinlens as tl
from twinlens.errors import FactsError
from twinlens.model import hamlet
from twinlens.sweep.facts import read_facts

ROWS = [
    {"prompt": "Rome is in", "subject": "Rome", "attribute": "Italy", "known_id": 7},
    {"prompt": "Oslo is in", "subject": "Oslo", "attribute": "Norway", "known_id": 9},
]


def content(facts) -> list[tuple[str, str, str | None, str]]:
    return [(f.prompt, f.subject, f.answer, f.id) for f in facts.facts]


def test_every_kind_of_file_says_the_same(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    new = {"attribute": "answer", "known_id": "id"}
    named = [{new.get(name, name): value for name, value in row.items()} for row in ROWS]
    (tmp_path / "a.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "b.jsonl").write_text("\ufeff" + "\n\n".join(json.dumps(r) for r in named) + "\n")
    lines = ["prompt,subject,answer,id", *(",".join(map(str, r.values())) for r in named)]
    (tmp_path / "c.csv").write_text("\r\n".join(lines))
    parquet.write_table(arrow.Table.from_pylist(named), tmp_path / "d.parquet")
    expected = content(read_facts(ROWS))
    assert expected[1] == ("Oslo is in", "Oslo", "Norway", "9")
    for path in sorted(tmp_path.iterdir()):
        assert content(read_facts(path)) == expected, path


def test_bad_rows_are_told_with_their_line_and_do_not_stop(tmp_path):
    path = tmp_path / "facts.json"
    strange = [3, {"prompt": "x"}, {"prompt": "Rome", "subject": "Paris"}, {"prompt": 3}, ROWS[0]]
    path.write_text(
        "[\n" + ",\n".join(json.dumps(row) for row in [ROWS[0], *strange, ROWS[1]]) + "]"
    )
    read = read_facts(path)
    assert [fact.number for fact in read.facts] == [0, 6]
    assert [row.line for row in read.rejected] == [3, 4, 5, 6, 7]
    assert [row.line for row in read.bad] == [3, 4, 5, 6]
    reasons = " | ".join(row.reason for row in read.rejected)
    for word in ("a int, no object", "no subject", "not in the prompt", "int, expected text"):
        assert word in reasons
    assert read.rejected[-1].reason == "the same fact as line 2"
    with pytest.raises(FactsError, match=r"facts.json, line 3"):
        read_facts(path, strict=True)


def test_lines_that_are_no_json_or_csv_are_told(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(
        b'{"prompt"\n' + json.dumps(ROWS[0]).encode() + b"\n\xff{}\n"
    )
    assert [row.line for row in read_facts(tmp_path / "a.jsonl").rejected] == [1, 3]
    (tmp_path / "b.csv").write_text('prompt,subject\na b,b\n"c\nd",d,too many\n"e\nf",f\n')
    read = read_facts(tmp_path / "b.csv")
    assert [(row.line, row.reason) for row in read.rejected] == [
        (3, "more fields than the header names")
    ]
    assert [(fact.line, fact.prompt) for fact in read.facts] == [(2, "a b"), (5, "e\nf")]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.txt", "", "no file of facts by its name"),
        ("a.json", "[{}", "breaks off after this row"),
        ("a.json", '[{"prompt": "a"},\n\n {"prompt": ', "line 3: the JSON is broken"),
        ("a.json", "[]", "no fact that can be asked"),
        ("a.jsonl", "{}", "line 1: no prompt"),
        ("a.csv", "x,y\n1,2\n", "line 2: no prompt; the row has x, y"),
    ],
)
def test_a_file_that_is_none_is_refused_in_a_sentence(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(FactsError, match=says):
        read_facts(tmp_path / name)


def test_hamlets_facts_by_word_by_file_and_as_a_list(tmp_path):
    (tmp_path / "facts.json").write_bytes((hamlet.FOLDER / "facts.json").read_bytes())
    expected = read_facts(tl.hamlet.facts()).fingerprint()
    assert read_facts("hamlet").fingerprint() == expected
    assert read_facts(tmp_path / "facts.json").fingerprint() == expected


def test_known_1000_is_read_as_it_is(shared):
    read = read_facts(shared / "data" / "known_1000.json")
    assert len(read.facts) == 1208
    assert not read.bad
    assert [row.repeats for row in read.rejected] == [True]
    assert read.facts[0].answer == "Antarctica"
