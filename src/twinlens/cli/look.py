"""`twinlens look`: a prompt on one grid."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from twinlens.cli.ablate import look_ablated, refuse_ablation
from twinlens.cli.app import app
from twinlens.cli.common import (
    load_model,
    progress,
    refuse_bad_crop,
    refuse_bad_output,
    say,
    show,
)
from twinlens.cli.options import (
    AblateOptions,
    CorruptionOptions,
    HeadOptions,
    LensOptions,
    ModelOptions,
    NeuronOptions,
    OutputOptions,
    TraceOptions,
)
from twinlens.cli.refusing import refuse_bad_name, refuse_idle_noise
from twinlens.cli.settings import refuse_idle
from twinlens.cli.values import position, span, token, token_or_none
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.model.model import Model
    from twinlens.results import FittedLens, Result
    from twinlens.see.look import LookSettings

ModelArgument = Annotated[str, Parameter(name=("--model", "-m"))]


@app.command
def look(
    prompt: str | None = None,
    *,
    model: ModelArgument = "hamlet",
    trace: TraceOptions | None = None,
    corruption: CorruptionOptions | None = None,
    neurons: NeuronOptions | None = None,
    heads: HeadOptions | None = None,
    ablation: AblateOptions | None = None,
    lens: LensOptions | None = None,
    load: ModelOptions | None = None,
    output: OutputOptions | None = None,
) -> None:
    """See a prompt: the logit lens, and with a subject the causal trace beside it.

    Without a prompt: hamlet's story of a family whose name comes back, and which earlier places
    that name depends on; the picture is written to hamlet.png. With --ablate: before and after some
    parts of the model are silenced, and the difference.

    Parameters
    ----------
    prompt
        The text to look at.
    model
        "hamlet" (comes with twinlens), a directory or a hub id.
    """
    trace, corruption = trace or TraceOptions(), corruption or CorruptionOptions()
    lens, output = lens or LensOptions(), output or OutputOptions()
    neurons, ablation = neurons or NeuronOptions(), ablation or AblateOptions()
    if prompt is None:
        prompt, trace, corruption, output = _story(model, trace, corruption, output)
    _refuse_trace_without_subject(trace, corruption, neurons)
    if not neurons.neurons and neurons != NeuronOptions():
        raise InputError("--method, --basis and --reduce are about single neurons; give --neurons")
    _refuse_metric_of_rows(lens)
    refuse_bad_name(model, load or ModelOptions())  # before torch is imported
    refuse_idle_noise(corruption)
    refuse_ablation(ablation, lens)
    refuse_bad_output(output)
    settings = _settings(prompt, trace, corruption, neurons, heads or HeadOptions(), lens)
    lenses = _lenses(lens)
    loaded = load_model(model, load or ModelOptions(), quiet=output.quiet)
    refuse_bad_crop(output, loaded, prompt)
    if ablation.ablate:
        look_ablated(loaded, settings, ablation, lens, output, neurons.reduce)
    else:
        made = _measure(loaded, settings, lenses, output)
        show(loaded, made, lens, output, neurons.reduce)


def _story(
    model: str, trace: TraceOptions, corruption: CorruptionOptions, output: OutputOptions
) -> tuple[str, TraceOptions, CorruptionOptions, OutputOptions]:
    """What is looked at where no prompt was given; what the user did set stays."""
    from twinlens.model import hamlet

    if model != "hamlet":
        raise InputError(f"a PROMPT is missing: without one, hamlet's story is read, not {model!r}")
    story = hamlet.asked_of_story()
    if not (trace.subject or trace.subject_tokens or corruption != CorruptionOptions()):
        corruption = dataclasses.replace(corruption, counterfactual=story["counterfactual"])
    if not (trace.subject or trace.subject_tokens):
        trace = dataclasses.replace(trace, subject=story["subject"])
    if trace.focus is None:
        trace = dataclasses.replace(trace, focus=story["focus"])
    shown = not (output.json or output.quiet or output.output is not None)
    if shown and importlib.util.find_spec("matplotlib") is not None:
        output = dataclasses.replace(output, output=Path("hamlet.png"))
    return story["prompt"], trace, corruption, output


def _refuse_trace_without_subject(
    trace: TraceOptions, corruption: CorruptionOptions, neurons: NeuronOptions
) -> None:
    """What is set for a trace must not be passed over in silence where no trace is made."""
    if trace.subject or trace.subject_tokens or corruption.counterfactual is not None:
        return
    for options in (trace, corruption, neurons):
        for field in dataclasses.fields(options):
            if getattr(options, field.name) != getattr(type(options)(), field.name):
                name = "--" + field.name.replace("_", "-")
                refuse_idle(
                    name,
                    "is about the trace, and there is no trace without a subject; give"
                    " --subject TEXT (or --subject-tokens, or --counterfactual)",
                )


def _refuse_metric_of_rows(lens: LensOptions) -> None:
    from twinlens.results.lens import CONTRIBUTION_METRICS

    if lens.rows in ("attn", "mlp") and lens.lens_metric not in (None, *CONTRIBUTION_METRICS):
        raise InputError(
            f"--lens-metric {lens.lens_metric} is not defined for --rows {lens.rows}; choose one of"
            f" {', '.join(CONTRIBUTION_METRICS)}"
        )


def _settings(
    prompt: str,
    asked: TraceOptions,
    corruption: CorruptionOptions,
    neurons: NeuronOptions,
    heads: HeadOptions,
    lens: LensOptions,
) -> LookSettings:
    """The options as settings: text becomes positions, spans and token ids where it means them."""
    from twinlens.see.look import LookSettings

    target = token(lens.lens_target, "--lens-target")
    question = dataclasses.asdict(asked)
    kind = question.pop("kind")
    question |= {
        "subject_tokens": [span(text, "--subject-tokens") for text in asked.subject_tokens],
        "focus": None if asked.focus is None else position(asked.focus),
        "answer": token_or_none(asked.answer, "--answer"),
        "foil": token_or_none(asked.foil, "--foil"),
    }
    made = LookSettings(
        prompt,
        kinds=[kind],
        neurons=neurons.neurons,
        method=neurons.method,
        basis=neurons.basis,
        rows=lens.rows,
        top_k=lens.top_k,
        targets=[] if target in ("final", "next") else [target],
        **question,
        **dataclasses.asdict(corruption),
        **dataclasses.asdict(heads),
    )
    _ = made.corruption  # refuses what is none
    return made


def _lenses(lens: LensOptions) -> list[FittedLens]:
    """The fitted lenses that were asked for; read before the model is loaded."""
    from twinlens.see.opening import open_lens

    return [open_lens(path) for path in lens.fitted]


def _measure(
    model: Model, settings: LookSettings, lenses: list[FittedLens], output: OutputOptions
) -> list[Result]:
    from twinlens.see.look import look

    heard = None if output.quiet else say
    return look(model, settings, lenses=lenses, progress=progress(output), say=heard)
