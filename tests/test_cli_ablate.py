"""`twinlens look --ablate` as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import twinlens as tl
from twinlens import cli

PROMPT = "The Silent Tower is in the city of"
SHORT = ("--samples", "1", "-s", "Silent Tower", "--engine", "replay")


def run(*arguments: object) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["look", *map(str, arguments)])
    return stop.value.code


def test_before_after_and_the_difference(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "out.png"
    assert run(PROMPT, *SHORT, "--ablate", "1.H0,1.H1", "--ablate", "2.MLP", "-o", picture) == 0
    output, messages = capsys.readouterr()
    words = " ".join(output.split())
    assert "silenced after: 1.H0, 1.H1, 2.MLP; they write nothing" in words
    for title in ("before: logit lens", "after: causal trace: block", "after − before: logit lens"):
        assert title in words
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in messages


def test_both_looks_are_about_the_answer_of_the_first(capsys, tmp_path):
    silenced = ("--ablate", "2.MLP,3.MLP", "--ablate-to", "mean", "--ablate-text")
    text = tmp_path / "text.txt"
    text.write_text("The Moon Temple looks down on the streets of Dunmere.", encoding="utf-8")
    assert run(PROMPT, *SHORT, *silenced, text, "--json", "--save", tmp_path / "r") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"before-lens", "before-trace", "after-lens", "after-trace"}
    assert found["before-trace"]["answer"] == found["after-trace"]["answer"]
    assert "changes" not in found["before-lens"]["settings"]
    (change,) = found["after-lens"]["settings"]["changes"]
    assert (change["parts"], change["to"]) == (["2.MLP", "3.MLP"], "mean")
    model = tl.load("hamlet")
    with tl.changed(model, tl.silence(model, "2.MLP,3.MLP", to="mean", text=text)):
        lens = tl.logit_lens(model, PROMPT)
    saved = tl.open_result(tmp_path / "r" / "after-lens.safetensors")
    assert np.array_equal(saved.top_ids[..., 0], lens.top_ids[..., 0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("--ablate", "nonsense"), "no part of a model"),
        (("--ablate", "9.N1"), "layers 0 to 5"),
        (("--ablate", "1.N1", "--ablate-to", "mean"), "--ablate-text"),
        (("--ablate", "1.N1", "--ablate-text", "hamlet"), "--ablate-text"),
        (("--ablate-factor", "0.5"), "--ablate PARTS"),
        (("--ablate", "1.N1", "--lens", "some.safetensors"), "--lens"),
    ],
)
def test_what_does_not_go_together_is_one_line(capsys, wrong, message):
    assert run(PROMPT, *wrong) == 2
    output, messages = capsys.readouterr()
    assert not output
    assert messages.startswith("twinlens: ")
    assert message in messages
    assert messages.count("\n") == 1
