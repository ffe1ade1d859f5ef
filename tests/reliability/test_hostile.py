"""Damaged and hostile input of every kind: refused by name, or read; never anything else.

`benchmarks/fuzz.py` tries the same targets by the ten thousands, with atheris.
"""

from __future__ import annotations

import dataclasses
import os
import random
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import twinlens as tl
from twinlens import cli
from twinlens.errors import ResultFileError, RunFolderError, TwinlensError

for extra in ("pyarrow", "polars", "fastapi", "httpx", "filelock"):
    pytest.importorskip(extra)
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import fuzz_seeds  # noqa: E402
import fuzz_targets  # noqa: E402

TEXTS = [
    b"", b"[" * 100_000, b'{"a":' * 50_000, b"null", b"3", b"[]", b"{}", b'"text"', b"\xff\xfe",
    b"NaN", b'{"schema": 1}', b"1" * 5000, b'{"kind": ' + b"9" * 5000 + b"}", b"\x00" * 64,
    b"7:7\x1f", "{\"x\": \"\ud800\"}".encode("utf-8", "surrogatepass"), b"a = " + b"[" * 3000,
    b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", b"PK\x03\x04", b"PAR1" * 3, b"#" + b"7" * 5000,
    b"POST /api/looks\n" + b"[" * 100_000, b"GET /api/looks/%00%ff/events?x=%\n",
]  # fmt: skip


@pytest.fixture(scope="module")
def sound() -> dict[str, list[bytes]]:
    return {name: list(fuzz_seeds.seeds(name)) for name in fuzz_targets.TARGETS}


def changed(whole: bytes, how: str, number: int) -> bytes:
    """Sound bytes with some damage."""
    draw = random.Random(number)
    at = draw.randrange(len(whole) or 1)
    if how == "cut":
        return whole[:at]
    if how == "swapped":  # one value for another: a number, a text, nothing
        new = draw.choice([b"null", b"-1", b'"x"', b"[]", b"1e999", b"99999999999"])
        marks = [n for n in range(len(whole)) if whole[n : n + 1] in (b":", b",", b"=")]
        if not marks:
            return new
        start = draw.choice(marks) + 1
        stop = min((n for n in marks if n > start), default=len(whole))
        return whole[:start] + new + whole[stop:]
    size = draw.randrange(1, 12)
    return whole[:at] + draw.randbytes(size) + whole[at + size * (how == "over") :]


@pytest.mark.parametrize("name", list(fuzz_targets.TARGETS))
def test_any_damage_is_refused_by_name_or_harmless(sound, name):
    @settings(
        max_examples=20, deadline=None, derandomize=True, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(
        st.sampled_from(range(len(sound[name]))),
        st.sampled_from(["cut", "swapped", "over", "between"]),
        st.integers(0, 2**32),
    )
    def damage(which, how, number):
        fuzz_targets.TARGETS[name](changed(sound[name][which], how, number))

    for whole in sound[name]:
        fuzz_targets.TARGETS[name](whole)
    for text in TEXTS:
        fuzz_targets.TARGETS[name](text)
    damage()


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(st.text(st.characters(), max_size=20), st.text(st.characters(), max_size=4))
def test_any_text_is_a_prompt_or_is_refused_by_name(said, subject):
    model = fuzz_targets.model()
    for prompt in (said, f"The {subject}<|endoftext|>{said}"):
        try:
            lens = tl.logit_lens(model, prompt)
            tl.causal_trace(model, prompt, subject, corruption=tl.Noise(samples=1))
        except TwinlensError:
            continue
        assert lens.tokens.text == prompt


@pytest.mark.parametrize(
    "path", ["x" * 5000, "~nobody-of-this-name/x", "a\0b", "loop/model"], ids=lambda p: p[:9]
)
def test_paths_that_cannot_be_are_refused_by_name(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.symlink("loop", "loop")
    for work in (tl.load, tl.open_result):
        with pytest.raises(TwinlensError):
            work(path)


@pytest.mark.parametrize("command", ["draw", "undo", "summarize", "sweep", "neuron"])
@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff" * 99], ids=["none", "deep", "no"])
def test_the_command_line_tells_it_in_one_line(command, content, tmp_path, capsys):
    for name in ("manifest.json", "ledger.jsonl", "config.json", "f.jsonl"):
        (tmp_path / name).write_bytes(content)
    given = {
        "draw": [tmp_path / "f.jsonl"], "undo": [tmp_path], "summarize": [tmp_path],
        "sweep": [tmp_path / "f.jsonl", "-o", tmp_path / "o"], "neuron": [tmp_path, "0.1"],
    }  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        cli.main([command, *map(str, given[command])])
    told = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2
    assert len(told) == 1
    assert told[0].startswith("twinlens: ")


def test_a_result_whose_places_are_none_of_its_prompt_is_refused(tmp_path):
    import numpy as np

    found = tl.attention(fuzz_targets.model(), "The clay went")
    for broken in (
        {"queries": found.queries + 99}, {"heads": found.heads - 1},
        {"tokens": dataclasses.replace(found.tokens, ends=found.tokens.ends + 10**6)},
    ):  # fmt: skip
        path = dataclasses.replace(found, **broken).save(tmp_path / "r.safetensors")
        with pytest.raises(ResultFileError, match="not a whole twinlens result"):
            tl.open_result(path)
    assert np.array_equal(tl.open_result(found.save(path)).patterns, found.patterns)


def test_a_run_of_a_model_with_so_many_layers_is_refused(sound):
    manifest = sound["run"][0].partition(b"\n#\n")[0]
    more = manifest.replace(b'"n_layers": 2', b'"n_layers": 242693686483')
    assert more != manifest
    path = fuzz_targets.written("many/manifest.json", more)
    with pytest.raises(RunFolderError, match="242693686483 layers"):
        tl.open_run(path.parent)


def test_estimates_that_tell_only_some_of_how_they_agree_are_drawn(gpt2, tmp_path):
    asked = {"corruption": tl.Noise(samples=2), "method": "atp"}
    found = tl.neuron_trace(gpt2, "The girl had a", "girl", **asked)
    some = dataclasses.replace(found, agreement={"pearson": 0.5, "restored": 3})
    assert "Pearson 0.50" in tl.twin(some).page().html()
    path = dataclasses.replace(found, agreement={"restored": 1e300}).save(tmp_path / "r.st")
    whole = path.read_bytes()
    for wrong, why in ((b"[]", "has the value"), (b"-1", "so many units"), (b"NaN", "many units")):
        path.write_bytes(whole.replace(b"1e+300", wrong.ljust(6)))
        with pytest.raises(ResultFileError) as refused:
            tl.open_result(path)
        assert why in str(refused.value.__cause__)
