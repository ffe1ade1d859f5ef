"""Results: frozen dataclasses of numpy arrays `[layer, token, ...]`, saved without pickle.

A result is its arrays, its tokens, its settings and its provenance; no torch, no model, no screen.
"""

from twinlens.results.base import Provenance, Result, Tokens
from twinlens.results.fitted import FittedLens, LensComparison
from twinlens.results.heads import AttentionResult, HeadResult
from twinlens.results.lens import LensResult
from twinlens.results.neurons import NeuronResult
from twinlens.results.recurrence import RecurrenceResult
from twinlens.results.storage import SCHEMA_VERSION, open_result
from twinlens.results.trace import TraceResult
from twinlens.results.use import UseResult

__all__ = [
    "SCHEMA_VERSION",
    "AttentionResult",
    "FittedLens",
    "HeadResult",
    "LensComparison",
    "LensResult",
    "NeuronResult",
    "Provenance",
    "RecurrenceResult",
    "Result",
    "Tokens",
    "TraceResult",
    "UseResult",
    "open_result",
]
