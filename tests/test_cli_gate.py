"""`twinlens gate` as a user and a script type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.change.test_gate import texts
from tests.conftest import random_model
from twinlens import cli


def run(*arguments: str | Path) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["gate", *map(str, arguments)])
    return stop.value.code


def write(path: Path, documents: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in documents))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer) -> Path:
    """A model, one that is hardly another, a worse one, and texts."""
    made = tmp_path_factory.mktemp("gate")
    for name, factor in (("original", 1.0), ("same", 1.0001), ("worse", 1.5)):
        model = random_model("gpt2", tokenizer)
        with torch.no_grad():
            model.transformer.ln_f.weight *= factor
        model.save_pretrained(made / name)
        tokenizer.save_pretrained(made / name)
    write(made / "many.jsonl", texts(110))
    write(made / "final.jsonl", texts(105, 1))
    write(made / "few.jsonl", texts(3, 2))
    return made


@pytest.mark.parametrize(
    ("changed", "text", "code", "word"),
    [("same", "many", 0, "pass"), ("worse", "many", 1, "fail"), ("same", "few", 3, "cannot tell")],
)
def test_the_exit_code_is_the_verdict(folder, capsys, changed, text, code, word):
    assert run(folder / "original", folder / changed, "--text", folder / f"{text}.jsonl") == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{word}: the gate text, look 1, level 0.0304, margin 0.01")
    assert lines[1].split() == [
        "domain", "increase", "lower", "upper", "before", "KL", "flips", "docs", "verdict",
    ]  # fmt: skip
    assert max(map(len, lines[:3])) <= 80
    if code == 3:
        assert "3 documents are fewer than the 100 that a verdict takes" in lines[3]


def test_the_final_text_and_the_looks_are_kept(folder, capsys, tmp_path):
    kept = tmp_path / "kept.safetensors"
    texts_ = ("--text", folder / "many.jsonl", "--final", folder / "final.jsonl")
    command = (*texts_, "--reference", kept, "--json")
    assert run(folder / "original", folder / "same", *command) == 0
    told = json.loads(capsys.readouterr().out)
    assert [told[name]["verdict"] for name in ("gate", "final")] == ["pass", "pass"]
    assert run(folder / "original", folder / "worse", *command) == 1
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["gate"]
    assert told["gate"]["look"] == 2
    assert run(folder / "same", folder / "worse", *command) == 2
    assert "another original" in capsys.readouterr().err


def test_domains_items_and_text_that_is_shared(folder, capsys, tmp_path):
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps({"prompt": "Lily loved the", "answer": " dog"}) + "\n")
    shared = write(tmp_path / "shared.jsonl", texts(2, 5, words=30))
    domains = (f"--domain=a={folder / 'many.jsonl'}", "--domain", f"b={shared}")
    models = (folder / "original", folder / "same", "--items", items)
    assert run(*models, *domains) == 3
    output = capsys.readouterr().out
    assert "items: cannot tell" in output
    assert "about" in output
    assert run(*models, *domains, "--chosen-on", shared) == 2
    assert "document 0 of 'b' and 0 of 'chosen on text'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [(), ("--text", "none.jsonl"), ("--domain", "x.jsonl"), ("--text", "hamlet", "--margin", "0"),
     ("--text", "hamlet", "--final", "a=x", "--final", "a=y"), ("--reference", "/no/where.x"),
     ("--text", "hamlet", "--again"), ("--text", "hamlet", "--look", "0"),
     ("--text", "hamlet", "--items", "none.jsonl")],
)  # fmt: skip
def test_what_cannot_be_asked_is_one_line(capsys, wrong):
    assert run("hamlet", "hamlet", *wrong) == 2
    output, messages = capsys.readouterr()
    assert not output
    assert messages.startswith("twinlens: ")
    assert messages.count("\n") == 1
