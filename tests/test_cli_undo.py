from __future__ import annotations

import json

import pytest

import twinlens as tl
from twinlens.cli import main


def _run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    told = capsys.readouterr()
    return ended.value.code, told.out, told.err


@pytest.fixture
def copy(gpt2, tmp_path):
    made = tl.Copy.create(gpt2, tmp_path / "copy")
    made.apply(tl.Silence(["1.N3,1.N4,0.H1,2.N7"]), {"increase": 0.0042})
    made.apply(tl.WeightNoise(0.01))
    return made


def test_steps_are_shown_and_undone(copy, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    code, out, _ = _run(capsys, "undo", copy.folder)
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 5  # title, names of columns, three steps
    assert "4 parts (1.N3, 1.N4, 0.H1, ...)" in lines[3]
    assert "+0.0042" in lines[3]
    assert "noise: scale 0.01" in lines[4]
    code, out, _ = _run(capsys, "undo", copy.folder, "--to", "1", "--json")
    assert code == 0
    steps = json.loads(out)
    assert [step["step"] for step in steps] == [0, 1, 2, 3]
    assert steps[3]["change"] == {"kind": "undo", "to": 1}
    assert tl.load(copy.folder).weights_hash() == steps[1]["after"] == copy.steps[1].after


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere",), "no changed copy"),
        (("{copy}", "--to", "9"), "no step 9"),
        (("{copy}", "--to", "x"), "--to"),
    ],
)
def test_wrong_input_is_one_line(arguments, says, copy, capsys):
    code, out, err = _run(capsys, "undo", *(a.format(copy=copy.folder) for a in arguments))
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1
