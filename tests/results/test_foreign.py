"""Results of other tools: each number lands at its place, and what does not fit is refused."""

from __future__ import annotations

import doctest
import importlib
import io
import pickle
import struct
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import twinlens as tl
from tests.conftest import STORY
from tests.results.test_storage import assert_same
from twinlens.errors import InputError, LoadError, ResultFileError, TwinlensError
from twinlens.results.foreign import archive, trajectory

convert = importlib.import_module("twinlens.model.convert")
TEXTS = ["The", " Eiffel", " Tower", " is", " in"]
N_LAYERS, N_TOKENS, VOCAB = 4, len(TEXTS), 30


def case(**changes: Any) -> dict[str, Any]:
    """The fields that ROME's `calculate_hidden_flow` returns, as it names them."""
    scores = np.linspace(0.1, 0.6, N_TOKENS * N_LAYERS, dtype=np.float32)
    made = {
        "scores": scores.reshape(N_TOKENS, N_LAYERS),
        "low_score": 0.1,
        "high_score": np.float32(0.7),
        "input_ids": np.arange(10, 10 + N_TOKENS),
        "input_tokens": TEXTS,
        "subject_range": (1, 3),
        "answer": " Paris",
        "window": 10,
        "correct_prediction": True,
        "kind": "",
    }
    return made | changes


def log_probs(seed: int = 0, shape=(N_LAYERS, N_TOKENS, VOCAB)) -> np.ndarray:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=shape) * 3)
    return logits.log_softmax(-1).float().numpy()


@dataclass
class PredictionTrajectory:
    """The attributes that tuned-lens' class of this name has."""

    log_probs: Any
    input_ids: Any
    targets: Any = None
    anti_targets: Any = None
    tokenizer: Any = None


def saved(path, arrays: dict[str, Any], save=np.savez):
    """What numpy writes, objects and all: as other tools do."""
    save(path, **arrays)
    return path


# ROME


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_marked_cell_of_rome_lands_at_its_layer_and_token(data):
    n_layers, token = data.draw(st.integers(1, 6)), data.draw(st.integers(0, N_TOKENS - 1))
    layer = data.draw(st.integers(0, n_layers - 1))
    scores = np.zeros((N_TOKENS, n_layers), np.float32)
    scores[token, layer] = 0.5
    trace = tl.convert(case(scores=scores, low_score=0.0))
    assert np.argwhere(trace.scores).tolist() == [[layer, token]]
    assert trace.top(1) == [(str(layer), token, 0.5)]


@pytest.mark.parametrize(
    ("kind", "ours", "window"), [("", "block", 1), ("mlp", "mlp", 10), ("attn", "attn", 10)]
)
def test_a_case_says_what_the_file_says(tmp_path, kind, ours, window):
    trace = tl.convert(saved(tmp_path / "case.npz", case(kind=kind)), model="gpt2-xl")
    assert trace.scores.tolist() == case()["scores"].T.tolist()
    assert (trace.kind, trace.window, trace.focus) == (ours, window, N_TOKENS - 1)
    assert trace.layers == ("0", "1", "2", "3")
    assert trace.tokens.ids.tolist() == case()["input_ids"].tolist()
    assert trace.tokens.labels == ("The", "␣Eiffel", "␣Tower", "␣is", "␣in")
    assert trace.tokens.text == "The Eiffel Tower is in"
    assert trace.subject_mask.tolist() == [False, True, True, False, False]
    assert (trace.clean, trace.corrupted) == (float(np.float32(0.7)), 0.1)
    assert trace.samples.shape == (N_LAYERS, N_TOKENS, 1)
    assert trace.label(trace.answer) == "␣Paris"
    assert (trace.provenance.model, trace.provenance.family) == ("gpt2-xl", "unknown")
    assert any("ROME" in note for note in trace.notes)


def test_the_dict_in_memory_is_the_file(tmp_path):
    """ROME returns tensors where its file has arrays."""
    tensors = case(
        scores=torch.from_numpy(case()["scores"]).requires_grad_(),
        input_ids=torch.arange(10, 10 + N_TOKENS),
        high_score=torch.tensor(0.7),
    )
    live, stored = tl.convert(tensors), tl.convert(saved(tmp_path / "case.npz", case()))
    assert live.scores.tolist() == stored.scores.tolist()
    assert live.clean == stored.clean


def test_a_pickled_none_is_not_read(tmp_path):
    trace = tl.convert(saved(tmp_path / "old.npz", case(kind=None)))
    assert (trace.kind, trace.window) == ("block", 1)
    assert any("pickled object, which is not read" in note for note in trace.notes)


def test_the_last_subject_token_alone(tmp_path):
    """`token_range="subject_last"`: one row, of the last token of the subject."""
    trace = tl.convert(case(scores=case()["scores"][:1]))
    assert trace.scores[:, 2].tolist() == case()["scores"][0].tolist()
    assert np.isnan(np.delete(trace.scores, 2, axis=1)).all()


def test_a_wrong_prediction_has_no_trace(tmp_path):
    path = saved(tmp_path / "case.npz", {"correct_prediction": False})
    with pytest.raises(ResultFileError, match="did not predict the attribute"):
        tl.convert(path)


def test_a_tokenizer_gives_the_answer_its_id(tokenizer):
    ids = tokenizer(STORY)["input_ids"]
    texts = [tokenizer.decode([i]) for i in ids]
    shape = (len(ids), N_LAYERS)
    given = case(scores=np.zeros(shape), input_ids=ids, input_tokens=texts, answer=" Lily")
    trace = tl.convert(given, tokenizer=tokenizer)
    assert tokenizer.decode([trace.answer]) == " Lily"
    assert trace.tokens.labels == tuple(tl.convert(given).tokens.labels)
    assert tl.convert(given).answer == -1
    shifted = given | {"input_tokens": [*texts[1:], texts[0]]}
    with pytest.raises(InputError, match="belongs to another model"):
        tl.convert(shifted, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"scores": np.zeros((N_LAYERS, N_TOKENS))}, r"\[token, layer\]"),
        ({"scores": np.zeros(5)}, "2 axes"),
        ({"scores": np.zeros((N_TOKENS, 0))}, r"\[token, layer\]"),
        ({"scores": np.full((N_TOKENS, 2), np.nan)}, "not numbers"),
        ({"scores": np.full((N_TOKENS, 2), np.inf)}, "not numbers"),
        ({"scores": np.full((N_TOKENS, 2), "x")}, "expected numbers"),
        ({"scores": np.zeros((N_TOKENS, 2), complex)}, "expected numbers"),
        ({"scores": np.full((N_TOKENS, 2), None)}, "Python objects"),
        ({"input_ids": np.array([-1, 2, 3, 4, 5])}, "negative id -1"),
        ({"input_ids": np.arange(5.0)}, "whole numbers"),
        ({"input_ids": np.zeros(0, int)}, "no tokens"),
        ({"input_ids": np.array([1, 2, 3, 4, 2**64 - 1], np.uint64)}, "no token id"),
        ({"input_tokens": TEXTS[:-1]}, "4 entries for 5 ids"),
        ({"input_tokens": [b"The"] * 5}, "expected (numbers or )?text"),
        ({"subject_range": (3, 1)}, "3:1"),
        ({"subject_range": (1, 9)}, "1:9"),
        ({"subject_range": (1, 2, 3)}, "3 entries"),
        ({"subject_range": None}, "subject_range"),
        ({"low_score": np.nan}, "low_score is nan"),
        ({"high_score": 7.0}, "expected a probability"),
        ({"high_score": [0.1, 0.2]}, "expected numbers"),
        ({"answer": 3}, "expected text"),
        ({"answer": None}, "answer"),
        ({"kind": "soul"}, "'soul'"),
        ({"window": 0, "kind": "mlp"}, "at least 1"),
        ({"window": 2.5, "kind": "mlp"}, "a whole number"),
    ],
)
def test_a_case_that_does_not_fit_is_refused(tmp_path, changes, says):
    with pytest.raises(InputError, match=says if "Python" not in says else "objects"):
        tl.convert(case(**changes))
    with pytest.raises(ResultFileError, match=says):
        tl.convert(saved(tmp_path / "case.npz", case(**changes)))


# tuned-lens


def test_a_trajectory_of_a_model_is_its_logit_lens(gpt2, tokenizer):
    """An independent way to the same numbers: the rows as tuned-lens takes them, from
    `hidden_states`, against our own lens."""
    ours = tl.logit_lens(gpt2, STORY)
    with torch.no_grad():
        out = gpt2.hf(torch.tensor(tokenizer(STORY)["input_ids"])[None], output_hidden_states=True)
        early = [gpt2.unembed(h).log_softmax(-1)[0] for h in out.hidden_states[:-1]]
    rows = torch.stack([*early, out.logits.log_softmax(-1)[0]]).numpy()
    made = PredictionTrajectory(rows, ours.tokens.ids, tokenizer=tokenizer)
    lens = tl.convert(made, model="random")
    assert lens.layers == ours.layers
    assert lens.targets == ours.targets
    assert lens.tokens.labels == ours.tokens.labels
    for name in ("top_ids", "target_ids", "ranks"):
        known = ours.target_ids >= 0 if name == "ranks" else True
        same = getattr(lens, name) == getattr(ours, name)
        assert same.all() if known is True else same[:, known.T].all(), name
    for name in ("top_probs", "entropy", "kl_final_to_layer", "kl_layer_to_final", "surprisal"):
        assert np.allclose(getattr(lens, name), getattr(ours, name), atol=2e-5, equal_nan=True)
    for metric in ("probability", "surprisal", "rank"):
        for target in ("final", "next"):
            a, b = lens.metric(metric, target), ours.metric(metric, target)
            assert np.allclose(a, b, atol=2e-5, equal_nan=True)
    assert np.isnan(lens.logits).all()
    assert lens.vocabulary.items() <= (ours.vocabulary | lens.vocabulary).items()


@given(layer=st.integers(0, N_LAYERS - 1), token=st.integers(0, N_TOKENS - 1))
@settings(max_examples=30, deadline=None)
def test_a_marked_cell_of_a_trajectory_lands_at_its_place(layer, token):
    rows = np.full((N_LAYERS, N_TOKENS, VOCAB), -np.log(VOCAB))
    rows[layer, token] = -np.inf
    rows[layer, token, 7] = 0.0  # certain of token 7
    lens = tl.convert(PredictionTrajectory(rows, np.arange(N_TOKENS)))
    assert np.argwhere(lens.top_probs[..., 0] > 0.5).tolist() == [[layer, token]]
    assert lens.top_ids[layer, token, 0] == 7
    assert np.argwhere(np.isclose(lens.entropy, 0)).tolist() == [[layer, token]]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_trajectory_from_a_file_is_read_in_strips(tmp_path, monkeypatch, save):
    monkeypatch.setattr(trajectory, "_STRIP_NUMBERS", 2 * VOCAB)
    targets = np.array([3, 4, -100, 6, 7])
    made = PredictionTrajectory(log_probs(), np.arange(N_TOKENS), targets)
    path = saved(tmp_path / "t.npz", vars(made), save)  # `tokenizer` and `anti_targets` are pickles
    stored = tl.convert(path, top_k=3)
    monkeypatch.undo()
    live = tl.convert(made, top_k=3)
    for name in ("top_ids", "top_probs", "log_probs", "ranks", "entropy", "surprisal"):
        assert np.array_equal(getattr(stored, name), getattr(live, name), equal_nan=True), name
    assert stored.targets == ("final", "next", "targets")
    followed = stored.metric("log_probability", "targets")
    assert np.isnan(followed[:, 2]).all()
    assert followed[1, 0] == log_probs()[1, 0, 3]
    assert stored.tokens.labels[1] == "#1"


def test_a_batch_of_one_is_a_prompt():
    batch = PredictionTrajectory(log_probs()[None], np.arange(N_TOKENS)[None])
    alone = PredictionTrajectory(log_probs(), np.arange(N_TOKENS))
    assert np.array_equal(tl.convert(batch).top_ids, tl.convert(alone).top_ids)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"log_probs": log_probs()[0]}, r"\[layer, token, vocab\]"),
        ({"log_probs": log_probs(shape=(2, 2, N_TOKENS, VOCAB))}, "several prompts"),
        ({"log_probs": log_probs()[..., :0]}, r"\[layer, token, vocab\]"),
        ({"log_probs": log_probs() + 1}, "log_softmax"),
        ({"log_probs": np.zeros((N_LAYERS, N_TOKENS, VOCAB))}, "log_softmax"),
        ({"log_probs": np.where(log_probs() < -9, np.nan, log_probs())}, "not numbers"),
        ({"log_probs": np.full((2, N_TOKENS, VOCAB), 1e4)}, "not numbers"),
        ({"log_probs": np.full((2, N_TOKENS, VOCAB), -np.inf)}, "not numbers"),
        ({"log_probs": np.zeros((2, N_TOKENS, VOCAB), int)}, "floating point"),
        ({"log_probs": np.full((2, N_TOKENS, VOCAB), "x")}, "floating point"),
        ({"input_ids": np.arange(N_TOKENS - 1)}, "5 token ids"),
        ({"input_ids": np.arange(N_TOKENS) - 1}, "negative id"),
        ({"input_ids": np.arange(N_TOKENS) + VOCAB}, "has 30 ids"),
        ({"input_ids": np.arange(5.0)}, "5 token ids"),
        ({"targets": np.arange(3)}, "5 token ids"),
        ({"targets": np.arange(N_TOKENS) + VOCAB}, "targets has the id"),
    ],
)
def test_a_trajectory_that_does_not_fit_is_refused(tmp_path, changes, says):
    arrays = {"log_probs": log_probs(), "input_ids": np.arange(N_TOKENS)} | changes
    with pytest.raises(InputError, match=says):
        tl.convert(PredictionTrajectory(**arrays))
    with pytest.raises(ResultFileError, match=says):
        tl.convert(saved(tmp_path / "t.npz", arrays))


def test_more_top_tokens_than_there_are():
    with pytest.raises(InputError, match="from 1 to 30"):
        tl.convert(PredictionTrajectory(log_probs(), np.arange(N_TOKENS)), top_k=31)


# Plain grids


@given(
    transposed=st.booleans(), flipped=st.booleans(),
    layer=st.integers(0, N_LAYERS - 1), token=st.integers(0, N_TOKENS - 1),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_marked_cell_of_a_grid_lands_at_its_place(transposed, flipped, layer, token):
    grid = np.zeros((N_LAYERS, N_TOKENS))
    grid[N_LAYERS - 1 - layer if flipped else layer, token] = 1.0
    grid = grid.T if transposed else grid
    trace = tl.convert(grid, tokens=TEXTS, transposed=transposed, flipped=flipped)
    assert np.argwhere(trace.effects()).tolist() == [[layer, token]]
    assert trace.layers == ("0", "1", "2", "3")


def test_what_is_known_of_a_grid_is_kept(tmp_path):
    arrays = {
        "scores": np.arange(10.0).reshape(2, 5), "tokens": TEXTS, "layers": ["embed", "0"],
        "clean": 9.0, "corrupted": 1.0, "subject_range": [1, 3], "focus": -2, "answer": " Paris",
        "kind": "attn", "metric": "logit_difference", "input_ids": [1, 2, 3, 4, 5],
    }  # fmt: skip
    trace = tl.convert(saved(tmp_path / "grid.npz", arrays))
    assert trace.effects(normalise=True)[1, 4] == 1.0
    assert (trace.layers, trace.focus, trace.kind) == (("embed", "0"), 3, "attn")
    assert trace.tokens.ids.tolist() == [1, 2, 3, 4, 5]
    assert trace.label(trace.answer) == "␣Paris"
    assert trace.metric == "logit_difference"
    assert trace.subject_mask.tolist() == [False, True, True, False, False]


def test_a_grid_of_effects_alone_has_no_total(tmp_path):
    np.save(tmp_path / "grid.npy", np.asfortranarray(np.arange(10.0).reshape(2, 5)))
    trace = tl.convert(tmp_path / "grid.npy", tokens=TEXTS)
    assert trace.effects().tolist() == np.arange(10.0).reshape(2, 5).tolist()
    assert np.isnan(trace.effects(normalise=True)).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tokens": None}, "needs its tokens"),
        ({"tokens": TEXTS[:4]}, "there are 4 tokens"),
        ({"tokens": TEXTS[:2]}, "is it transposed"),
        ({"tokens": []}, "tokens"),
        ({"scores": np.full((2, 5), np.nan)}, "no number at all"),
        ({"scores": np.full((2, 5), np.inf)}, "infinite"),
        ({"scores": np.zeros((0, 5))}, "0 layers"),
        ({"scores": np.zeros((2, 5, 3))}, "2 axes"),
        ({"layers": ["0", "0"]}, "1 different names"),
        ({"layers": ["0"]}, "1 different names"),
        ({"focus": 5}, "focus is 5"),
        ({"kind": "soul"}, "'soul'"),
        ({"colour": 3}, "no array colour"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(changes, says):
    with pytest.raises(InputError, match=says):
        tl.convert({"scores": np.zeros((2, 5)), "tokens": TEXTS} | changes)


def test_the_orientation_of_others_is_known():
    for source in (case(), PredictionTrajectory(log_probs(), np.arange(N_TOKENS))):
        with pytest.raises(InputError, match="about plain grids"):
            tl.convert(source, flipped=True)


# All of them


@pytest.mark.parametrize(
    "source",
    [
        case(),
        PredictionTrajectory(log_probs(), np.arange(N_TOKENS)),
        {"scores": np.eye(2, 5), "tokens": ["a\ud800", "", "\n", "\x00", "é"], "clean": 1.0},
    ],
    ids=["rome", "trajectory", "plain"],
)
def test_what_is_converted_is_a_result_like_any_other(tmp_path, source):
    made = tl.convert(source)
    path = made.save(tmp_path / "r.safetensors")
    assert_same(made, tl.open_result(path))
    assert_same(made, tl.convert(path))
    assert tl.convert(made) is made


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (3, "a int"),
        ({"x": np.zeros(3)}, "it has the arrays x"),
        ({}, "none"),
        ("no.npz", "does not exist"),
        ("no.npy", "does not exist"),
        ("no.pt", "is a pickle"),
        ("no.txt", r"\.npz, \.npy or \.safetensors"),
        (".", r"\.npz, \.npy or"),
    ],
)
def test_what_is_no_result_is_refused(source, says, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InputError, ResultFileError), match=says):
        tl.convert(source)


def test_a_tokenizer_that_is_not_there():
    with pytest.raises(LoadError, match="no/such"):
        tl.convert(case(), tokenizer="no/such/folder")
    with pytest.raises(InputError, match="belongs to another model"):
        tl.convert(case(), tokenizer="hamlet")


def test_the_example_is_true():
    found = doctest.testmod(convert)
    assert (found.attempted, found.failed) == (2, 0)


# Files that are not to be trusted


class Bomb:
    """Unpickling it would be seen."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


@pytest.mark.parametrize("name", list(case()))
def test_no_pickle_is_run(tmp_path, name):
    array = np.empty((), object)
    array[()] = Bomb()
    path = saved(tmp_path / "case.npz", case() | {name: array})
    with pytest.raises(BaseException, match="a pickle was run"):
        np.load(path, allow_pickle=True)[name]
    try:
        tl.convert(path)
    except ResultFileError as error:
        assert "Python objects" in str(error)  # noqa: PT017
    else:
        assert name in ("kind", "correct_prediction", "window")


def test_a_pickle_under_the_name_of_an_array(tmp_path):
    for name in ("case.npz", "case.npy"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(ResultFileError):
            tl.convert(tmp_path / name, tokens=TEXTS)


def npy(shape: str, dtype: str = "<f4", payload: bytes = b"", version: int = 1) -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + payload


@pytest.mark.parametrize(
    "array",
    [
        npy("(1000000000, 1000000000)"),
        npy("(99999999999999999999999999, 4)"),
        npy("(-5, -4)", payload=bytes(80)),
        npy("(5, 4)", payload=bytes(79)),
        npy("(5, 4)", payload=bytes(81)),
        npy("(5, 4.0)", payload=bytes(80)),
        npy("'(5, 4)'", payload=bytes(80)),
        npy("(5, 4)", "<f3", bytes(80)),
        npy("(5, 4)", "V4", bytes(80)),
        npy("(10000000000000, 10000)", "<U0"),
        npy("(5, 4)", "<M8[s]", bytes(160)),
        npy("(5, 4"),
        npy("(" * 3000 + "5" + ")" * 3000),
        npy("(5, 4)", payload=bytes(80), version=3),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
        b"\x93NUMPY",
        b"",
    ],
)
def test_arrays_that_lie_are_refused(tmp_path, array):
    path = saved(tmp_path / "case.npz", case())
    _put(path, "scores", array)
    with pytest.raises(ResultFileError, match="scores"):
        tl.convert(path)
    (tmp_path / "grid.npy").write_bytes(array)
    with pytest.raises(ResultFileError):
        tl.convert(tmp_path / "grid.npy", tokens=TEXTS)


def test_a_bomb_is_not_blown_up(tmp_path, monkeypatch):
    """Megabytes of zeros in kilobytes: refused by what they declare, or at the first strip."""
    monkeypatch.setattr(archive, "MOST_BYTES", 10_000)
    large = np.zeros((5, 400_000), np.float32)
    path = saved(tmp_path / "case.npz", case(scores=large), np.savez_compressed)
    assert path.stat().st_size < 50_000
    with pytest.raises(ResultFileError, match="at most 10000 bytes"):
        tl.convert(path)
    arrays = {"log_probs": np.zeros((3, 5, 40_000), np.float32), "input_ids": np.arange(5)}
    with pytest.raises(ResultFileError, match="log_softmax"):
        tl.convert(saved(tmp_path / "t.npz", arrays, np.savez_compressed))
    monkeypatch.setattr(trajectory, "MOST_LAST_ROW", 100_000)
    with pytest.raises(ResultFileError, match="a row"):
        tl.convert(tmp_path / "t.npz")


def test_other_compressions_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "case.npz", "w", zipfile.ZIP_LZMA) as made:
        made.writestr("scores.npy", npy("(5, 4)", payload=bytes(80)))
    with pytest.raises(ResultFileError, match="compressed"):
        tl.convert(tmp_path / "case.npz")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damage_to_a_file_is_refused_or_harmless(tmp_path_factory, data):
    """Bytes cut off or overwritten: a named error, or a whole result (numbers may differ)."""
    arrays = data.draw(
        st.sampled_from(
            [case(), {"log_probs": log_probs(shape=(2, 2, 3)), "input_ids": np.arange(2)}]
        )
    )
    buffer = io.BytesIO()
    data.draw(st.sampled_from([np.savez, np.savez_compressed]))(buffer, **arrays)
    whole = buffer.getvalue()
    if data.draw(st.booleans()):
        broken = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        new = data.draw(st.binary(min_size=1, max_size=12))
        broken = whole[:at] + new + whole[at + len(new) :]
    path = tmp_path_factory.mktemp("damage") / "case.npz"
    path.write_bytes(broken)
    try:
        result = tl.convert(path)
    except TwinlensError:
        return
    assert len(result.tokens) == len(arrays["input_ids"])


def _put(path, name: str, array: bytes) -> None:
    with zipfile.ZipFile(path) as old:
        members = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(path, "w") as new:
        for member, payload in (members | {f"{name}.npy": array}).items():
            new.writestr(member, payload)
