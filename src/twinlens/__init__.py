"""twinlens: the logit lens and the causal trace of a language model, on one grid.

Everything public is here; it is imported when it is first used, so `import twinlens` is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinlens import errors as errors
    from twinlens.change.change import Assigned as Assigned
    from twinlens.change.change import changed as changed
    from twinlens.change.copy import Copy as Copy
    from twinlens.change.covariance import Covariance as Covariance
    from twinlens.change.covariance import key_covariance as key_covariance
    from twinlens.change.facts import Fact as Fact
    from twinlens.change.finetune import fine_tune as fine_tune
    from twinlens.change.gate import Gate as Gate
    from twinlens.change.noise import WeightNoise as WeightNoise
    from twinlens.change.overlap import shared_text as shared_text
    from twinlens.change.recipe import Recipe as Recipe
    from twinlens.change.recipe import recipe_of as recipe_of
    from twinlens.change.recover import Budget as Budget
    from twinlens.change.recover import recover as recover
    from twinlens.change.reference import GateReference as GateReference
    from twinlens.change.reference_file import open_reference as open_reference
    from twinlens.change.rome import Edit as Edit
    from twinlens.change.rome import edit_fact as edit_fact
    from twinlens.change.rome import edit_facts as edit_facts
    from twinlens.change.score import EditScores as EditScores
    from twinlens.change.score import score_edits as score_edits
    from twinlens.change.scrub import ScrubRun as ScrubRun
    from twinlens.change.scrub import scrub as scrub
    from twinlens.change.scrubbed import open_scrub as open_scrub
    from twinlens.change.shrink import Shrunk as Shrunk
    from twinlens.change.shrink import shrink as shrink
    from twinlens.change.silence import Silence as Silence
    from twinlens.change.silence import silence as silence
    from twinlens.change.use import use_map as use_map
    from twinlens.change.value import EditOptions as EditOptions
    from twinlens.change.verdict import Verdict as Verdict
    from twinlens.change.weights import weight_scores as weight_scores
    from twinlens.change.weights import zero_weights as zero_weights
    from twinlens.contest.board import leaderboard as leaderboard
    from twinlens.contest.implant import Implant as Implant
    from twinlens.contest.implant import implant as implant
    from twinlens.contest.judgement import Judgement as Judgement
    from twinlens.contest.judgement import Rules as Rules
    from twinlens.contest.match import play_match as play_match
    from twinlens.contest.recipes import RECIPES as RECIPES
    from twinlens.contest.recipes import clean as clean
    from twinlens.contest.referee import false_alarms as false_alarms
    from twinlens.contest.referee import judge as judge
    from twinlens.contest.secret import Secret as Secret
    from twinlens.contest.secret import random_secret as random_secret
    from twinlens.contest.tiers import TIERS as TIERS
    from twinlens.contest.tournament import Tournament as Tournament
    from twinlens.contest.tournament import run_tournament as run_tournament
    from twinlens.contest.tournament import tournament_of as tournament_of
    from twinlens.model import hamlet as hamlet
    from twinlens.model.anatomy import Anatomy as Anatomy
    from twinlens.model.convert import convert as convert
    from twinlens.model.load import load as load
    from twinlens.model.model import Model as Model
    from twinlens.results import AttentionResult as AttentionResult
    from twinlens.results import FittedLens as FittedLens
    from twinlens.results import HeadResult as HeadResult
    from twinlens.results import LensComparison as LensComparison
    from twinlens.results import LensResult as LensResult
    from twinlens.results import NeuronResult as NeuronResult
    from twinlens.results import RecurrenceResult as RecurrenceResult
    from twinlens.results import TraceResult as TraceResult
    from twinlens.results import UseResult as UseResult
    from twinlens.results import open_result as open_result
    from twinlens.run.check import check as check
    from twinlens.see.card import neuron_card as neuron_card
    from twinlens.see.comparison import compare_lenses as compare_lenses
    from twinlens.see.corruption import Noise as Noise
    from twinlens.see.corruption import Replace as Replace
    from twinlens.see.fit import fit_lens as fit_lens
    from twinlens.see.heads import attention as attention
    from twinlens.see.induction import induction as induction
    from twinlens.see.lens import logit_lens as logit_lens
    from twinlens.see.neurons import neuron_trace as neuron_trace
    from twinlens.see.opening import open_lens as open_lens
    from twinlens.see.recurrence import Recurrence as Recurrence
    from twinlens.see.recurrence import recurrence as recurrence
    from twinlens.see.restored import restored_lens as restored_lens
    from twinlens.see.trace import causal_trace as causal_trace
    from twinlens.show.page import compare as compare
    from twinlens.show.scrub_report import scrub_report as scrub_report
    from twinlens.show.summary_view import summarize as summarize
    from twinlens.show.twin import twin as twin
    from twinlens.show.use_view import use_view as use_view
    from twinlens.sweep.cluster import Cluster as Cluster
    from twinlens.sweep.store import open_run as open_run
    from twinlens.sweep.sweeping import sweep_facts as sweep_facts

__version__ = "0.1.0"

_HOMES = {
    "WeightNoise": "twinlens.change.noise",
    "Copy": "twinlens.change.copy",
    "Anatomy": "twinlens.model.anatomy",
    "Assigned": "twinlens.change.change",
    "AttentionResult": "twinlens.results",
    "Cluster": "twinlens.sweep.cluster",
    "Covariance": "twinlens.change.covariance",
    "Edit": "twinlens.change.rome",
    "EditOptions": "twinlens.change.value",
    "EditScores": "twinlens.change.score",
    "Fact": "twinlens.change.facts",
    "FittedLens": "twinlens.results",
    "Gate": "twinlens.change.gate",
    "GateReference": "twinlens.change.reference",
    "HeadResult": "twinlens.results",
    "LensComparison": "twinlens.results",
    "LensResult": "twinlens.results",
    "Model": "twinlens.model.model",
    "NeuronResult": "twinlens.results",
    "Noise": "twinlens.see.corruption",
    "Replace": "twinlens.see.corruption",
    "Shrunk": "twinlens.change.shrink",
    "Silence": "twinlens.change.silence",
    "edit_fact": "twinlens.change.rome",
    "edit_facts": "twinlens.change.rome",
    "fine_tune": "twinlens.change.finetune",
    "key_covariance": "twinlens.change.covariance",
    "score_edits": "twinlens.change.score",
    "shrink": "twinlens.change.shrink",
    "silence": "twinlens.change.silence",
    "TraceResult": "twinlens.results",
    "use_map": "twinlens.change.use",
    "use_view": "twinlens.show.use_view",
    "UseResult": "twinlens.results",
    "Verdict": "twinlens.change.verdict",
    "attention": "twinlens.see.heads",
    "causal_trace": "twinlens.see.trace",
    "changed": "twinlens.change.change",
    "check": "twinlens.run.check",
    "compare_lenses": "twinlens.see.comparison",
    "fit_lens": "twinlens.see.fit",
    "open_lens": "twinlens.see.opening",
    "open_reference": "twinlens.change.reference_file",
    "compare": "twinlens.show.page",
    "convert": "twinlens.model.convert",
    "induction": "twinlens.see.induction",
    "load": "twinlens.model.load",
    "logit_lens": "twinlens.see.lens",
    "neuron_card": "twinlens.see.card",
    "neuron_trace": "twinlens.see.neurons",
    "open_result": "twinlens.results",
    "open_run": "twinlens.sweep.store",
    "Recurrence": "twinlens.see.recurrence",
    "RecurrenceResult": "twinlens.results",
    "recurrence": "twinlens.see.recurrence",
    "restored_lens": "twinlens.see.restored",
    "shared_text": "twinlens.change.overlap",
    "summarize": "twinlens.show.summary_view",
    "sweep_facts": "twinlens.sweep.sweeping",
    "twin": "twinlens.show.twin",
    "Budget": "twinlens.change.recover",
    "Recipe": "twinlens.change.recipe",
    "ScrubRun": "twinlens.change.scrub",
    "open_scrub": "twinlens.change.scrubbed",
    "recipe_of": "twinlens.change.recipe",
    "recover": "twinlens.change.recover",
    "scrub": "twinlens.change.scrub",
    "scrub_report": "twinlens.show.scrub_report",
    "weight_scores": "twinlens.change.weights",
    "zero_weights": "twinlens.change.weights",
    "Secret": "twinlens.contest.secret",
    "random_secret": "twinlens.contest.secret",
    "implant": "twinlens.contest.implant",
    "Implant": "twinlens.contest.implant",
    "TIERS": "twinlens.contest.tiers",
    "clean": "twinlens.contest.recipes",
    "RECIPES": "twinlens.contest.recipes",
    "judge": "twinlens.contest.referee",
    "false_alarms": "twinlens.contest.referee",
    "Judgement": "twinlens.contest.judgement",
    "Rules": "twinlens.contest.judgement",
    "Tournament": "twinlens.contest.tournament",
    "tournament_of": "twinlens.contest.tournament",
    "run_tournament": "twinlens.contest.tournament",
    "leaderboard": "twinlens.contest.board",
    "play_match": "twinlens.contest.match",
}

_MODULES = {"errors": "twinlens.errors", "hamlet": "twinlens.model.hamlet"}

__all__ = [
    "RECIPES",
    "TIERS",
    "Anatomy",
    "Assigned",
    "AttentionResult",
    "Budget",
    "Cluster",
    "Copy",
    "Covariance",
    "Edit",
    "EditOptions",
    "EditScores",
    "Fact",
    "FittedLens",
    "Gate",
    "GateReference",
    "HeadResult",
    "Implant",
    "Judgement",
    "LensComparison",
    "LensResult",
    "Model",
    "NeuronResult",
    "Noise",
    "Recipe",
    "Recurrence",
    "RecurrenceResult",
    "Replace",
    "Rules",
    "ScrubRun",
    "Secret",
    "Shrunk",
    "Silence",
    "Tournament",
    "TraceResult",
    "UseResult",
    "Verdict",
    "WeightNoise",
    "__version__",
    "attention",
    "causal_trace",
    "changed",
    "check",
    "clean",
    "compare",
    "compare_lenses",
    "convert",
    "edit_fact",
    "edit_facts",
    "errors",
    "false_alarms",
    "fine_tune",
    "fit_lens",
    "hamlet",
    "implant",
    "induction",
    "judge",
    "key_covariance",
    "leaderboard",
    "load",
    "logit_lens",
    "neuron_card",
    "neuron_trace",
    "open_lens",
    "open_reference",
    "open_result",
    "open_run",
    "open_scrub",
    "play_match",
    "random_secret",
    "recipe_of",
    "recover",
    "recurrence",
    "restored_lens",
    "run_tournament",
    "score_edits",
    "scrub",
    "scrub_report",
    "shared_text",
    "shrink",
    "silence",
    "summarize",
    "sweep_facts",
    "tournament_of",
    "twin",
    "use_map",
    "use_view",
    "weight_scores",
    "zero_weights",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name not in _HOMES:
        raise AttributeError(f"module 'twinlens' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
