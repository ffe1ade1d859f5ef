"""`twinlens convert` as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import twinlens as tl
from tests.results.test_foreign import N_LAYERS, N_TOKENS, VOCAB, case, log_probs, saved
from twinlens import cli
from twinlens.show.document import document


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run a command in a folder with some files; gives (exit code, output, messages)."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "mlp.npz", case(kind="mlp"))
    saved(tmp_path / "block.npz", case(kind=None))
    ids = case()["input_ids"]
    rows = log_probs(shape=(N_LAYERS + 1, N_TOKENS, VOCAB))  # ROME has no row for the embedding
    saved(tmp_path / "lens.npz", {"log_probs": rows, "input_ids": ids})
    saved(tmp_path / "fewer.npz", {"log_probs": rows[1:], "input_ids": ids})
    saved(tmp_path / "other.npz", {"log_probs": log_probs(), "input_ids": np.arange(N_TOKENS)})
    grid = {"scores": np.eye(N_TOKENS, 3), "input_ids": ids, "tokens": case()["input_tokens"]}
    saved(tmp_path / "grid.npz", grid)
    np.save(tmp_path / "bare.npy", np.zeros((2, 3)))
    (tmp_path / "text.npz").write_text("no zip")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "mlp.npz").read_bytes()[:-40])
    (tmp_path / "folder.safetensors").mkdir()

    def launch(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(["convert", *map(str, arguments)])
        output, messages = capsys.readouterr()
        assert "Traceback" not in messages
        code = stop.value.code
        return (code if isinstance(code, int) else 0), output, messages

    return launch


def test_the_table_of_a_case(run):
    code, output, _ = run("mlp.npz")
    assert code == 0
    assert "causal trace: mlp" in output
    assert "(from ROME)" in " ".join(output.split())
    assert "noise samples" not in output, "how many there were is not known"


def test_all_of_a_prompt_in_one_picture(run, tmp_path):
    pytest.importorskip("matplotlib")
    code, output, messages = run("lens.npz", "block.npz", "mlp.npz", "-o", "out.svg")
    assert code == 0
    assert "wrote out.svg" in messages
    assert "causal trace: block" in output
    assert "causal trace: mlp" in (tmp_path / "out.svg").read_text("utf-8")


def test_a_page_names_the_targets_of_a_trajectory(run, tmp_path):
    followed = {"targets": case()["input_ids"], "anti_targets": np.arange(N_TOKENS)}
    rows = log_probs(shape=(N_LAYERS + 1, N_TOKENS, VOCAB))
    saved(tmp_path / "t.npz", {"log_probs": rows, "input_ids": case()["input_ids"], **followed})
    code, _, messages = run("t.npz", "block.npz", "--lens-target", "targets", "-o", "x.html")
    assert (code, messages) == (0, "wrote x.html\n")
    lens = tl.convert(tmp_path / "t.npz")
    grids = document({"": [lens]}).looks[0].grids
    assert [grid.name for grid in grids][-2:] == [
        "probability of targets", "probability of anti_targets",
    ]  # fmt: skip


def test_a_result_of_ours_is_written_and_read(run, tmp_path):
    code, _, messages = run("mlp.npz", "-o", "own.safetensors", "--model", "gpt2-xl")
    assert (code, messages) == (0, "wrote own.safetensors\n")
    own = tl.open_result(tmp_path / "own.safetensors")
    assert own.provenance.model == "gpt2-xl"
    assert isinstance(own, tl.TraceResult)
    assert own.scores.tolist() == case()["scores"].T.tolist()
    code, output, _ = run("own.safetensors", "--json")
    assert json.loads(output)["trace"] == own.to_dict()


def test_json_is_the_result_and_nothing_else(run):
    code, output, messages = run("grid.npz", "--transposed", "--flipped", "--json")
    assert (code, messages) == (0, "")
    assert np.array(json.loads(output)["trace"]["scores"]).tolist() == (
        np.eye(N_TOKENS, 3).T[::-1].tolist()
    )


def test_quiet_prints_nothing(run):
    assert run("block.npz", "-q") == (0, "", "")


def test_a_trajectory_has_labels_by_a_tokenizer(run):
    _, output, _ = run("lens.npz", "--tokenizer", "hamlet", "--top-k", 2, "--json")
    lens = json.loads(output)["lens"]
    assert not any(label.startswith("#") for label in lens["tokens"]["labels"])
    assert np.array(lens["top_ids"]).shape[-1] == 2
    assert run("lens.npz", "--lens-metric", "entropy")[0] == 0


WRONG = [
    ([], "FILES"),
    (["none.npz"], "none.npz does not exist"),
    (["text.npz"], "not a zip file"),
    (["cut.npz"], "zip"),
    (["bare.npy"], "needs its tokens"),
    (["notes.txt"], "expected a name that ends in"),
    (["model.pt"], "is a pickle"),
    (["mlp.npz", "--flipped"], "about plain grids"),
    (["mlp.npz", "--top-k", "7"], "--top-k is about a trajectory"),
    (["grid.npz", "--transposed", "--lens-target", "next"], "--lens-target is about a lens"),
    (["mlp.npz", "--flip"], "--flip is about the picture"),
    (["own.safetensors", "--transposed"], "transposed is about results of other tools"),
    (["own.safetensors", "--model", "gpt2"], "model is about results of other tools"),
    (["mlp.npz", "other.npz"], "different prompts"),
    (["mlp.npz", "fewer.npz"], "different layers"),
    (["mlp.npz", "-o", "x.bmp"], ".png, .svg, .pdf"),
    (["mlp.npz", "-o", "no/x.png"], "does not exist"),
    (["mlp.npz", "-o", "no/x.safetensors"], "does not exist"),
    (["mlp.npz", "-o", "folder.safetensors"], "it is a folder"),
    (["mlp.npz", "block.npz", "-o", "x.safetensors"], "holds one result"),
    (["mlp.npz", "--tokenizer", "no/such/folder"], "cannot load the tokenizer"),
    (["mlp.npz", "--tokenizer", "hamlet"], "belongs to another model"),
    (["lens.npz", "--top-k", "31"], "from 1 to 30"),
    (["lens.npz", "--top-k", "0"], "at least 1"),
    (["lens.npz", "--lens-metric", "colour"], "colour"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG, ids=[" ".join(a) for a, _ in WRONG])
def test_wrong_input_is_one_line_and_leaves_nothing_behind(run, tmp_path, arguments, says):
    before = sorted(tmp_path.rglob("*"))
    code, output, messages = run(*arguments)
    assert (code, output) == (2, "")
    assert messages.startswith("twinlens: ")
    assert messages.count("\n") == 1
    assert says.lower() in messages.lower()
    assert sorted(tmp_path.rglob("*")) == before
