"""What a user may set on the command line or in a settings file, by groups. Plain values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from twinlens.cli.values import whole

Whole = Annotated[int, Parameter(converter=whole)]
LensMetric = Literal[
    "probability", "log_probability", "logit", "rank", "surprisal", "entropy",
    "top_probability", "top_logit", "kl_final_to_layer", "kl_layer_to_final",
]  # fmt: skip

_MODEL = Group("Model", sort_key=2)
_TRACE = Group("Trace", sort_key=3)
_CORRUPTION = Group("Corruption", sort_key=4)
_NEURONS = Group("Neurons", sort_key=5)
_HEADS = Group("Heads", sort_key=6)
_LENS = Group("Lens", sort_key=7)
_ABLATE = Group("Ablation", sort_key=8)
_PICTURE = Group("Picture and output", sort_key=9)


@Parameter(name="*", group=_MODEL)
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How the model is loaded."""

    device: str | None = None
    "Where to run: cpu, cuda, cuda:1, mps."
    dtype: Literal["float32", "float16", "bfloat16", "float64"] | None = None
    "Number type of the weights (default: the checkpoint's own)."
    revision: str | None = None
    "Branch, tag or commit of a hub id."
    device_map: str | None = None
    "Spread a large model over devices, e.g. auto."
    trust_remote_code: Annotated[bool, Parameter(negative="")] = False
    "Run code that comes with the checkpoint."


@Parameter(name="*", group=_TRACE)
@dataclass(frozen=True, kw_only=True)
class TraceOptions:
    """What is asked."""

    subject: Annotated[list[str], Parameter(name=("--subject", "-s"), negative="")] = field(
        default_factory=list
    )
    "Text to corrupt: each occurrence before the focus. Repeat for several."
    subject_tokens: Annotated[list[str], Parameter(negative="")] = field(default_factory=list)
    "Token span to corrupt, START:STOP (STOP not included). Repeat for several."
    focus: Annotated[str | None, Parameter(name=("--focus", "-f"))] = None
    "Position whose next token is explained, or the text of the token there. Default: the last."
    answer: str | None = None
    "Token to explain: its text, 'next' (the true one), or #ID. Default: the model's prediction."
    kind: Annotated[Literal["block", "mlp", "attn", "head"], Parameter(name=("--kind", "-k"))] = (
        "block"
    )
    "Which states are restored."
    window: Whole = 1
    "Layers restored together."
    metric: Literal["probability", "log_probability", "logit", "logit_difference", "kl"] = (
        "probability"
    )
    "What is measured at the focus."
    foil: str | None = None
    "Other token of a logit difference: its text or #ID."
    direction: Literal["denoise", "noise"] = "denoise"
    "Restore clean states in the corrupted run, or put corrupted states into the clean run."
    corrupted_lens: Annotated[bool, Parameter(negative="")] = False
    "Beside the lens, that of the corrupted run."
    restored_cells: Annotated[list[str], Parameter(name="--restored-lens", negative="")] = field(
        default_factory=list
    )
    "Also the lens with this cell restored: LAYER:TOKEN[:HEAD], of another kind mlp:3:7. Repeat."
    engine: Literal["auto", "replay", "hooks"] = "auto"
    "Run again only what a state can reach (replay), or everything (hooks). auto: replay if proven."
    batch_tokens: Whole = 4096
    "Tokens of one forward pass at most."


@Parameter(name="*", group=_CORRUPTION)
@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """The noise on the subject."""

    sigma: float | None = None
    "Standard deviation of the noise (default: from --times-std)."
    times_std: float = 3.0
    "The same in standard deviations of the embeddings: all, or in a sweep those of all subjects."
    samples: Whole = 10
    "Noise samples."
    seed: Whole = 1
    "Seed of the noise."
    rule: Literal["gaussian", "uniform", "multivariate", "t"] = "gaussian"
    "Distribution of the noise."
    df: float = 3.0
    "Degrees of freedom of --rule t."
    noise_replaces: Annotated[bool, Parameter(negative="")] = False
    "Put the noise in the embedding's place instead of adding it."


@Parameter(name="*", group=_CORRUPTION)
@dataclass(frozen=True, kw_only=True)
class CorruptionOptions(NoiseOptions):
    """How the subject is corrupted."""

    counterfactual: str | None = None
    "Another prompt with as many tokens, in place of noise."
    replace: Annotated[list[str], Parameter(negative="")] = field(default_factory=list)
    "Another subject with as many tokens, in place of noise. Repeat for several."


@Parameter(name="*", group=_NEURONS)
@dataclass(frozen=True, kw_only=True)
class NeuronOptions:
    """Whether and how single neurons are traced."""

    neurons: Annotated[bool, Parameter(negative="")] = False
    "Trace every single MLP neuron too: the neuron map and the mean of each layer."
    method: Literal["auto", "exact", "relp", "ig", "atp", "greedy95"] = "auto"
    "Restore each neuron (exact), or estimate from gradients. auto: exact if under a minute."
    basis: Literal["neuron", "coordinate"] = "neuron"
    "Inputs of the down-projection, or coordinates of what the MLP adds."
    reduce: Literal["mean", "mean+max", "max", "positive", "joint"] = "mean"
    "What the layer view shows of each MLP."


@Parameter(name="*", group=_HEADS)
@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """What is shown of attention heads."""

    attention: Annotated[bool, Parameter(negative="")] = False
    "What each head looks at: arcs in the page; in the picture, what they look at from the focus."
    heads: Annotated[bool, Parameter(negative="")] = False
    "The model's heads on random tokens that repeat: which match, copy and look back."


@Parameter(name="*", group=_ABLATE)
@dataclass(frozen=True, kw_only=True)
class AblateOptions:
    """Which parts are silenced for a second look."""

    ablate: Annotated[list[str], Parameter(negative="")] = field(default_factory=list)
    "Parts to silence, with commas: 3.N17 (neuron), 4.H2 (head), 5.MLP, 5.ATTN. Before and after."
    ablate_to: Literal["zero", "mean", "resample"] = "zero"
    "What they write then: nothing, their mean on a text, or what they wrote at one of its tokens."
    ablate_factor: float = 0.0
    "With zero: what is left of them, e.g. 0.5 for half of what they wrote."
    ablate_text: str | None = None
    "With mean and resample: the text, in .txt or .jsonl, or 'hamlet'."
    ablate_seed: Whole = 1
    "With resample: the seed of the token."


@Parameter(name="*", group=_LENS)
@dataclass(frozen=True, kw_only=True)
class LensOptions:
    """What the lens shows."""

    rows: Literal["block", "mid", "attn", "mlp"] = "block"
    "Residuals after blocks; also after attention; or what attention or MLP alone contribute."
    lens_metric: LensMetric | None = None
    "Colour of the lens (default: probability; logit for contributions)."
    lens_target: str = "final"
    "Token of that metric: 'final', 'next', a token's text or #ID."
    top_k: Whole = 5
    "Top tokens kept for every cell."
    fitted: Annotated[list[Path], Parameter(name="--lens", negative="")] = field(
        default_factory=list
    )
    "Fitted lens beside the plain one: a file of `lens fit`, or a tuned-lens folder. Repeat."


@Parameter(name="*", group=_PICTURE)
@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is made of it."""

    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None
    "Picture to write: .png, .svg, .pdf, or .html (a page that is alive)."
    open: Annotated[bool, Parameter(negative="")] = False
    "Show the page in the browser."
    save: Path | None = None
    "Folder for the results: lens.safetensors, trace.safetensors, neurons.safetensors."
    json: Annotated[bool, Parameter(negative="")] = False
    "Print the results as JSON instead of the table."
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative="")] = False
    "Print nothing but errors."
    columns: Annotated[int | None, Parameter(converter=whole)] = None
    "Tokens a band of the picture."
    crop: str | None = None
    "Only these tokens in the picture, START:STOP."
    flip: Annotated[bool, Parameter(negative="")] = False
    "Layers from bottom to top."
    transpose: Annotated[bool, Parameter(negative="")] = False
    "Tokens from top to bottom, layers from left to right."
