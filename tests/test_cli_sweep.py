"""`twinlens sweep` and `twinlens summarize` as a user types them."""

from __future__ import annotations

import json

import pytest

import twinlens as tl
from twinlens import cli

pytest.importorskip("pyarrow")
pytest.importorskip("polars")

FEW = ("--measure", "trace,lens", "--kinds", "block", "--samples", "2", "--threads", "1")


def run(*arguments: object) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("facts") / "facts.jsonl"
    rows = [*tl.hamlet.facts()[:2], {"prompt": "nothing"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_sweep_its_resumption_and_its_summary(capsys, tmp_path, file):
    folder, figure = tmp_path / "run", tmp_path / "figure.svg"
    assert run("sweep", file, "-o", folder, "--limit", "1", *FEW) == 0
    output, messages = capsys.readouterr()
    assert "line 3: no subject" in messages
    assert "1 bad and 0 repeated rows are kept" in messages
    assert "1 measured, 0 unknown to the model, 0 failed; the model knows 100.0%" in output
    assert run("sweep", file, "-o", folder, "--json", *FEW) == 0
    output, messages = capsys.readouterr()
    assert json.loads(output)["measured"] == 2
    assert not messages
    assert run("summarize", folder, "-o", figure, "--resamples", "20") == 0
    output, messages = capsys.readouterr()
    assert "block: largest mean effect" in output
    assert str(figure) in messages
    assert figure.stat().st_size > 5_000
    assert run("summarize", folder, "--json", "--resamples", "20") == 0
    assert json.loads(capsys.readouterr().out)["n_facts"] == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere.json", "-o", "{}"), "does not exist"),
        (("{facts}", "-o", "{}", "--measure", "speed"), "expected one or more of trace"),
        (("{facts}", "-o", "{}", "--kinds", ","), "expected one or more of block"),
        (("{facts}", "-o", "{}", "--strict"), "line 3"),
        (("{facts}", "-o", "{facts}"), "is a file"),
        (("{facts}", "-o", "{}", "--df", "4"), "--df is about --rule t"),
        (("hamelt", "-o", "{}"), "or 'hamlet'"),
        (("{facts}", "-o", "{}", "--workers", "2"), "give --ray"),
        (("{facts}", "-o", "{}", "--ray", "a", "b"), "takes one address"),
        (("{facts}",), "output"),
    ],
)
def test_what_cannot_be_swept_is_one_line(capsys, tmp_path, file, arguments, says):
    given = (a.replace("{facts}", str(file)).replace("{}", str(tmp_path / "x")) for a in arguments)
    assert run("sweep", *given) == 2
    output, messages = capsys.readouterr()
    assert says in messages
    assert not output
    assert messages.rstrip().splitlines()[-1].startswith("twinlens: ")
    assert not (tmp_path / "x").exists()


def test_a_figure_that_cannot_be_written_is_refused_before_the_work(capsys, tmp_path):
    assert run("summarize", tmp_path, "-o", tmp_path / "x.html") == 2
    assert "its ending must be" in capsys.readouterr().err
    assert run("summarize", tmp_path, "-o", tmp_path / "no" / "x.png") == 2
    assert "does not exist" in capsys.readouterr().err
    assert run("summarize", tmp_path) == 2
    assert "no run of a sweep" in capsys.readouterr().err


def test_options_of_noise_are_not_passed_over(capsys, tmp_path):
    counterfactual = ("hamlet", "-o", str(tmp_path / "x"), "--corruption", "counterfactual")
    assert run("sweep", *counterfactual, "--samples", "3") == 2
    assert "are about noise" in capsys.readouterr()[1]
    assert run("sweep", "hamlet", "-o", str(tmp_path / "x"), "--rule", "t", "--df", "1") == 2
    assert "--df 1.0 must be above 2" in capsys.readouterr()[1]
    assert not (tmp_path / "x").exists()
