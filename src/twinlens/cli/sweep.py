"""`twinlens sweep` and `twinlens summarize`: a data set of facts, and what it says on average."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from twinlens.cli.app import app
from twinlens.cli.common import noise_of, print_json
from twinlens.cli.options import ModelOptions, NoiseOptions, Whole
from twinlens.cli.refusing import refuse_bad_file, refuse_idle_noise
from twinlens.cli.settings import refuse_idle
from twinlens.cli.values import whole
from twinlens.cli.workers import WorkerOptions, able
from twinlens.errors import InputError
from twinlens.paths import expanded

if TYPE_CHECKING:
    from twinlens.sweep.facts import Facts
    from twinlens.sweep.store import SweepRun

_SWEEP = Group("What is measured", sort_key=3)
_MEASURES, _KINDS = ("trace", "neurons", "lens"), ("block", "mlp", "attn")
_TOLD = 5  # bad rows that are printed


@Parameter(name="*", group=_SWEEP)
@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """What is asked of every fact."""

    measure: str = "trace,neurons,lens"
    "Any of trace, neurons, lens."
    kinds: str = "block,mlp,attn"
    "Which states are traced: any of block, mlp, attn."
    window: Whole = 1
    "Layers of mlp and attn restored together (ROME's figures: 10)."
    metric: Literal["probability", "log_probability", "logit", "kl"] = "probability"
    "What is measured at the last token."
    direction: Literal["denoise", "noise"] = "denoise"
    "Restore clean states in the corrupted run, or put corrupted states into the clean run."
    corruption: Literal["noise", "counterfactual"] = "noise"
    "Noise on the subject, or the row's other prompt in its place."
    method: Literal["atp", "ig", "relp", "exact"] = "atp"
    "How neurons are measured: estimates from gradients, or each restored."
    restored: Whole = 30
    "Strongest neurons restored exactly after an estimate."
    top_neurons: Whole = 30
    "Strongest neurons kept of each fact."
    engine: Literal["auto", "replay", "hooks"] = "auto"
    "As in look; auto decides once for the whole sweep."
    batch_tokens: Annotated[int | None, Parameter(converter=whole)] = None
    "Tokens of one forward pass at most."
    threads: Annotated[int | None, Parameter(converter=whole)] = None
    "CPU threads of a worker. Small models: 1, and the same command in several processes."
    share: Annotated[bool, Parameter(negative="")] = False
    "Facts of like length share passes: faster for small models, last digits move."
    unknown: Annotated[bool, Parameter(negative="")] = False
    "Measure the facts that the model does not know, too."


@app.command
def sweep(
    facts: str,
    *,
    model: Annotated[str, Parameter(name=("--model", "-m"))] = "hamlet",
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    limit: Annotated[int | None, Parameter(converter=whole)] = None,
    strict: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative="")] = False,
    asked: SweepOptions | None = None,
    noise: NoiseOptions | None = None,
    load: ModelOptions | None = None,
    workers: WorkerOptions | None = None,
) -> None:
    """Measure every fact of a data set into a folder; the same command goes on where it stopped.

    Parameters
    ----------
    facts
        ROME's known_1000.json, JSON Lines, CSV or Parquet with columns prompt, subject, and maybe
        answer, counterfactual, id; or "hamlet".
    model
        "hamlet" (comes with twinlens), a directory or a hub id.
    output
        Folder of the run.
    limit
        Only the first so many facts.
    strict
        Stop at a bad row.
    json
        Print the counts as JSON.
    quiet
        Print nothing but errors.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # which keeps less of each file
    from twinlens.sweep.facts import read_facts
    from twinlens.sweep.folder import Folder

    Folder(expanded(output)).refuse_other()  # without torch, which noise brings
    options = _checked(asked or SweepOptions(), noise or NoiseOptions())
    read = read_facts(facts, strict=strict)
    if asked is not None and asked.corruption == "counterfactual":
        _refuse_no_other(read)
    if not (quiet or json):
        _tell_rejected(read, output)
    worked = able(model, load or ModelOptions(), workers or WorkerOptions(), quiet=quiet or json)
    from twinlens.sweep.sweeping import sweep_facts

    started = time.monotonic()
    shown = False if quiet or json else None
    try:
        run = sweep_facts(worked, read, output, limit=limit, progress=shown, **options)
    except KeyboardInterrupt:
        print(f"what is done stays in {output}; the same command goes on", file=sys.stderr)
        raise
    if json:
        print_json(run.counts() | {"folder": str(output)})
    elif not quiet:
        _tell(run, time.monotonic() - started)


def _checked(asked: SweepOptions, noise: NoiseOptions) -> dict[str, Any]:
    """The options as keywords of `tl.sweep_facts`."""
    refuse_idle_noise(noise)
    if asked.corruption != "noise" and noise != NoiseOptions():
        raise InputError("--sigma, --samples and the like are about noise; leave --corruption out")
    measures = _names("--measure", asked.measure, _MEASURES)
    _refuse_idle(asked, measures)
    same = (
        "window", "metric", "direction", "method", "restored", "top_neurons", "engine",
        "batch_tokens", "unknown", "share", "threads",
    )  # fmt: skip
    return {name: getattr(asked, name) for name in same} | {
        "corruption": noise_of(noise) if asked.corruption == "noise" else asked.corruption,
        "measure": measures,
        "kinds": _names("--kinds", asked.kinds, _KINDS),
    }


def _refuse_idle(asked: SweepOptions, measures: tuple[str, ...]) -> None:
    """What is set of a measure that is not asked for must not be passed over in silence."""
    about = {
        "kinds": "trace", "window": "trace", "method": "neurons", "restored": "neurons",
        "top_neurons": "neurons",
    }  # fmt: skip
    for name, measure in about.items():
        if measure not in measures and getattr(asked, name) != getattr(SweepOptions, name):
            option = "--" + name.replace("_", "-")
            refuse_idle(option, f"is about --measure {measure}, which is not asked for")


def _refuse_no_other(facts: Facts) -> None:
    if not any(fact.counterfactual for fact in facts.facts):
        raise InputError(
            f"--corruption counterfactual: no row of {facts.name} has a counterfactual; leave it"
            " out for noise"
        )


def _names(option: str, text: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    """Names between commas."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    strange = [name for name in names if name not in choices]
    if strange or not names:
        raise InputError(f"{option} {text!r}: expected one or more of {', '.join(choices)}")
    return names


def _tell_rejected(facts: Facts, output: Path) -> None:
    for row in facts.bad[:_TOLD]:
        print(f"note: {facts.name}, line {row.line}: {row.reason}", file=sys.stderr)
    if len(facts.bad) > _TOLD:
        print(f"note: {len(facts.bad) - _TOLD} more bad rows", file=sys.stderr)
    if facts.rejected:
        repeated = len(facts.rejected) - len(facts.bad)
        kept = f"{len(facts.bad)} bad and {repeated} repeated rows are kept in"
        print(f"note: {kept} {output / 'rejected.jsonl'}", file=sys.stderr)


def _tell(run: SweepRun, seconds: float) -> None:
    counts = run.counts()
    share = counts["share_known"]
    known = "" if share is None else f"; the model knows {share:.1%} of those with an answer"
    print(
        f"{run.path}: {counts['done']} facts done in {seconds:.1f} s of this call:"
        f" {counts['measured']} measured, {counts['unknown']} unknown to the model,"
        f" {counts['failed']} failed{known}"
    )
    _tell_failed(run)
    if counts["measured"]:
        print(f"twinlens summarize {run.path} -o figure.pdf  shows the averages")


def _tell_failed(run: SweepRun) -> None:
    """The first fact that could not be measured, and why."""
    failed = run.facts.filter(run.facts["status"] == "failed")
    if len(failed):
        first = failed.row(0, named=True)
        print(f"failed, the first at {first['id']!r}: {first['reason']}")


@app.command
def summarize(
    run: Path,
    *,
    against: Path | None = None,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    level: float = 0.95,
    resamples: Whole = 2000,
    seed: Whole = 1,
    top: Whole = 10,
    json: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative="")] = False,
) -> None:
    """Average a run by layer and token role; with --against, compare two runs fact by fact.

    Parameters
    ----------
    run
        Folder that `twinlens sweep` wrote.
    against
        Another run, which is subtracted: another model or corruption, or before an edit.
    output
        Figure to write: .png, .svg or .pdf.
    level
        Level of the bootstrap intervals over facts.
    resamples
        Bootstrap resamples.
    seed
        Seed of the bootstrap.
    top
        Neurons that are named.
    json
        Print the numbers as JSON.
    quiet
        Print nothing but errors.
    """
    from twinlens.results.base import optional
    from twinlens.show.saved import check_figure_format
    from twinlens.sweep.store import open_run

    if output is not None:
        check_figure_format(output, "a summary")
        optional("matplotlib", "figures")
        refuse_bad_file(output)
    first, second = open_run(run), None if against is None else open_run(against)
    from twinlens.show.summary_view import summarize  # brings torch

    view = summarize(first, second, level=level, resamples=resamples, seed=seed, top=top)
    if json:
        print_json(view.to_dict())
    elif not quiet:
        _print(view.summary)
    if output is not None:
        view.save(output)
        if not quiet:
            print(f"wrote {output}", file=sys.stderr)


def _print(summary: Any) -> None:
    from rich.console import Console

    from twinlens.show.summary_table import summary_tables

    console = Console(highlight=False)
    for part in summary_tables(summary):
        console.print(part, markup=False) if isinstance(part, str) else console.print(part)
