"""The public face: these names and no others."""

from __future__ import annotations

import difflib
import inspect

import pytest

import twinlens as tl
from tests import public_api
from twinlens import errors

PUBLIC = {
    "WeightNoise",
    "Copy",
    "Anatomy",
    "Assigned",
    "AttentionResult",
    "Cluster",
    "Covariance",
    "Edit",
    "EditOptions",
    "EditScores",
    "Fact",
    "FittedLens",
    "Gate",
    "GateReference",
    "HeadResult",
    "LensComparison",
    "LensResult",
    "Model",
    "NeuronResult",
    "Noise",
    "Recurrence",
    "RecurrenceResult",
    "Replace",
    "Shrunk",
    "Silence",
    "TraceResult",
    "UseResult",
    "Verdict",
    "__version__",
    "attention",
    "causal_trace",
    "changed",
    "check",
    "compare",
    "compare_lenses",
    "convert",
    "edit_fact",
    "edit_facts",
    "errors",
    "fine_tune",
    "fit_lens",
    "hamlet",
    "induction",
    "key_covariance",
    "load",
    "logit_lens",
    "neuron_card",
    "neuron_trace",
    "open_lens",
    "open_reference",
    "open_result",
    "open_run",
    "recurrence",
    "restored_lens",
    "score_edits",
    "shared_text",
    "shrink",
    "silence",
    "summarize",
    "sweep_facts",
    "twin",
    "use_map",
    "use_view",
    "weight_scores",
    "zero_weights",
    "Budget",
    "Recipe",
    "ScrubRun",
    "open_scrub",
    "recipe_of",
    "recover",
    "scrub",
    "scrub_report",
    "Secret",
    "random_secret",
    "implant",
    "Implant",
    "TIERS",
    "clean",
    "RECIPES",
    "judge",
    "false_alarms",
    "Judgement",
    "Rules",
    "Tournament",
    "tournament_of",
    "run_tournament",
    "leaderboard",
    "play_match",
}


def test_exported_names():
    assert set(tl.__all__) == PUBLIC
    assert set(dir(tl)) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__", "RECIPES", "TIERS"}))  # data
def test_every_name_is_there_and_says_what_it_is(name):
    assert inspect.getdoc(getattr(tl, name))


def test_no_other_name():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tl.nonsense


def test_keyword_names_are_the_same_everywhere():
    known = {
        "subject", "focus", "answer", "kind", "window", "corruption", "metric", "samples", "seed",
        "engine", "device", "dtype", "batch_tokens", "progress", "foil", "direction", "rows",
        "targets", "top_k", "tokenizer", "revision", "device_map", "trust_remote_code", "anatomy",
        "lens_metric", "lens_target", "columns", "crop", "flip", "transpose", "method", "basis",
        "cells", "restored", "keep", "reduce", "tokens", "model", "transposed", "flipped",
        "heads", "queries", "value_weighted", "sequences", "length", "repeats", "threshold",
        "cell", "decoder", "part", "controls", "neurons", "measure", "kinds", "top_neurons",
        "unknown", "strict", "limit", "level", "resamples", "top", "threads", "share",
    }  # fmt: skip
    functions = (
        tl.load, tl.logit_lens, tl.causal_trace, tl.neuron_trace, tl.check, tl.twin, tl.convert,
        tl.induction, tl.attention, tl.restored_lens, tl.recurrence, tl.sweep_facts,
        tl.summarize,
    )  # fmt: skip
    for function in functions:
        keywords = {
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.kind is inspect.Parameter.KEYWORD_ONLY
        }
        assert keywords <= known, f"{function.__name__}: {keywords - known}"


def test_errors_are_one_tree():
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass)]
    assert len(classes) > 10
    for cls in classes:
        assert issubclass(cls, errors.TwinlensError)
        assert inspect.getdoc(cls)


def test_the_public_face_is_the_one_that_was_promised():
    kept = public_api.FILE.read_text("utf-8")
    changes = difflib.unified_diff(
        kept.splitlines(), public_api.described().splitlines(), "promised", "now", lineterm="", n=1
    )
    said = "\n".join(changes)
    assert not said, f"{said}\nif it is meant: python -m tests.public_api --write, and CHANGELOG.md"
