"""`twinlens look`: a prompt on one grid."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from twinlens.cli.app import app
from twinlens.cli.common import load_model, progress, refuse_bad_output, show
from twinlens.cli.options import (
    CorruptionOptions,
    LensOptions,
    ModelOptions,
    NeuronOptions,
    OutputOptions,
    TraceOptions,
)
from twinlens.cli.values import position, span, token, token_or_none
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.model.model import Model
    from twinlens.results import Result

ModelArgument = Annotated[str, Parameter(name=("--model", "-m"))]


@app.command
def look(
    prompt: str | None = None,
    *,
    model: ModelArgument = "hamlet",
    trace: TraceOptions | None = None,
    corruption: CorruptionOptions | None = None,
    neurons: NeuronOptions | None = None,
    lens: LensOptions | None = None,
    load: ModelOptions | None = None,
    output: OutputOptions | None = None,
) -> None:
    """See a prompt: the logit lens, and with a subject the causal trace beside it.

    Without a prompt: hamlet's story of a family whose name comes back, and which earlier places
    that name depends on; the picture is written to hamlet.png.

    Parameters
    ----------
    prompt
        The text to look at.
    model
        "hamlet" (comes with twinlens), a directory or a hub id.
    """
    trace, corruption = trace or TraceOptions(), corruption or CorruptionOptions()
    lens, output = lens or LensOptions(), output or OutputOptions()
    neurons = neurons or NeuronOptions()
    if prompt is None:
        prompt, trace, corruption, output = _story(model, trace, corruption, output)
    _refuse_trace_without_subject(trace, corruption, neurons)
    if not neurons.neurons and neurons != NeuronOptions():
        raise InputError("--method, --basis and --reduce are about single neurons; give --neurons")
    _refuse_metric_of_rows(lens)
    refuse_bad_output(output)
    loaded = load_model(model, load or ModelOptions(), quiet=output.quiet)
    if output.crop is not None:
        from twinlens.show.layout import cropped

        cropped(span(output.crop, "--crop"), len(loaded.encode(prompt)))
    results = _measure(loaded, prompt, trace, corruption, neurons, lens, progress(output))
    show(loaded, results, lens, output, neurons.reduce)


def _story(
    model: str, trace: TraceOptions, corruption: CorruptionOptions, output: OutputOptions
) -> tuple[str, TraceOptions, CorruptionOptions, OutputOptions]:
    """What is looked at where no prompt was given; what the user did set stays."""
    from twinlens.model import hamlet

    if model != "hamlet":
        raise InputError(f"a PROMPT is missing: without one, hamlet's story is read, not {model!r}")
    if not (trace.subject or trace.subject_tokens or corruption != CorruptionOptions()):
        counterfactual = hamlet.story("Wellford")
        corruption = dataclasses.replace(corruption, counterfactual=counterfactual)
    if not (trace.subject or trace.subject_tokens):
        trace = dataclasses.replace(trace, subject=[hamlet.NAME, f"{hamlet.NAME}s"])
    if trace.focus is None:
        trace = dataclasses.replace(trace, focus=hamlet.NAME)
    shown = not (output.json or output.quiet or output.output is not None)
    if shown and importlib.util.find_spec("matplotlib") is not None:
        output = dataclasses.replace(output, output=Path("hamlet.png"))
    return hamlet.story(), trace, corruption, output


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
                raise InputError(
                    f"{name} is about the trace, and there is no trace without a subject; give"
                    " --subject TEXT (or --subject-tokens, or --counterfactual)"
                )


def _refuse_metric_of_rows(lens: LensOptions) -> None:
    from twinlens.results.lens import CONTRIBUTION_METRICS

    if lens.rows in ("attn", "mlp") and lens.lens_metric not in (None, *CONTRIBUTION_METRICS):
        raise InputError(
            f"--lens-metric {lens.lens_metric} is not defined for --rows {lens.rows}; choose one of"
            f" {', '.join(CONTRIBUTION_METRICS)}"
        )


def _measure(
    model: Model,
    prompt: str,
    asked: TraceOptions,
    corruption: CorruptionOptions,
    neurons: NeuronOptions,
    lens: LensOptions,
    progress: bool | None,
) -> list[Result]:
    import warnings

    from twinlens.see.lens import logit_lens
    from twinlens.see.neurons import neuron_trace
    from twinlens.see.trace import causal_trace

    target = token(lens.lens_target, "--lens-target")
    extra = [] if target in ("final", "next") else [target]
    results: list[Result] = []
    results.append(
        logit_lens(
            model, prompt, rows=lens.rows, targets=extra, top_k=lens.top_k, progress=progress
        )
    )
    subjects = [*asked.subject, *(span(text, "--subject-tokens") for text in asked.subject_tokens)]
    if subjects or corruption.counterfactual is not None:
        question: dict[str, Any] = {
            "focus": -1 if asked.focus is None else position(asked.focus),
            "answer": token_or_none(asked.answer, "--answer"),
            "corruption": _corruption(corruption),
            "metric": asked.metric,
            "foil": token_or_none(asked.foil, "--foil"),
            "direction": asked.direction,
            "engine": asked.engine,
            "batch_tokens": asked.batch_tokens,
            "progress": progress,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the notes of the result are printed instead
            kind, window = asked.kind, asked.window
            results.append(
                causal_trace(model, prompt, subjects or None, kind=kind, window=window, **question)
            )
            if neurons.neurons:
                if progress is not False:  # but how much memory it needs is said before
                    warnings.filterwarnings("always", message=".*while they are made")
                    warnings.showwarning = _say
                how: dict[str, Any] = {"method": neurons.method, "basis": neurons.basis}
                results.append(neuron_trace(model, prompt, subjects or None, **how, **question))
    return results


def _say(message: Warning | str, *_: Any) -> None:
    print(f"note: {message}", file=sys.stderr, flush=True)


def _corruption(options: CorruptionOptions) -> Any:
    from twinlens.see.corruption import Noise, Replace

    if options.counterfactual is not None or options.replace:
        return Replace(prompt=options.counterfactual, subjects=options.replace or None)
    return Noise(
        sigma=options.sigma,
        times_std=options.times_std,
        samples=options.samples,
        seed=options.seed,
        rule=options.rule,
        df=options.df,
        replace=options.noise_replaces,
    )
