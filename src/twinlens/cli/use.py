"""`twinlens use`: which neurons and heads a text uses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from twinlens.cli.app import app
from twinlens.cli.common import (
    load_model,
    number,
    print_json,
    print_notes,
    table_of_numbers,
)
from twinlens.cli.options import ModelOptions, Whole
from twinlens.cli.refusing import refuse_bad_file, refuse_bad_text
from twinlens.cli.settings import refuse_idle
from twinlens.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from twinlens.results import UseResult
    from twinlens.results.use import Stability, UnitKind

Score = Literal["use", "mean_use", "effect", "wanda", "magnitude"]
_NUMBERS, _END = 34, 34  # characters of a row's numbers; of two units at both ends
_RESULT = ".safetensors"
_KINDS: tuple[UnitKind, ...] = ("neuron", "head")


@app.command
def use(
    model: str = "hamlet",
    *,
    text: str,
    score: Score = "use",
    sort: Annotated[bool, Parameter(negative="")] = False,
    lowest: float = 0.1,
    threshold: float = 0.1,
    gradients: bool = True,
    length: Whole = 128,
    batch_tokens: Whole = 2048,
    output: Annotated[list[Path] | None, Parameter(name=("--output", "-o"), negative="")] = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative="")] = False,
    load: ModelOptions | None = None,
) -> None:
    """Which neurons and heads a text uses, how stable that is, and which are silent.

    Parameters
    ----------
    model
        "hamlet" (comes with twinlens), a directory or a hub id.
    text
        File in .txt or .jsonl ("text" in each line), or "hamlet".
    score
        use: what a unit writes (zero-ablation); mean_use: its distance from its mean
        (mean-ablation); effect: on the loss, to first order; wanda; magnitude of its weights.
    sort
        In the picture, the units of each layer with the most used first.
    lowest
        Share of the units whose overlap between halves of the text is told.
    threshold
        A unit is silent that at no token writes so many times its layer's mean use.
    gradients
        Measure the effect on the loss too: a pass back for each pass forward.
    length
        Tokens of a window.
    batch_tokens
        Tokens of one pass.
    output
        Picture (.png, .svg, .pdf) or result (.safetensors) to write. Repeat.
    json
        Print the scores of all units as JSON.
    quiet
        Print nothing but errors.
    """
    if score == "effect" and not gradients:
        raise InputError("--score effect needs gradients; leave out --no-gradients")
    if not 0 < lowest < 1:
        raise InputError(f"--lowest {lowest} must be a share between 0 and 1")
    _refuse_bad_outputs(output or [])
    if sort and not any(path.suffix.lower() != _RESULT for path in output or []):
        refuse_idle("--sort", "is about the picture; give -o FILE.png too")
    refuse_bad_text(text)
    loaded = load_model(model, load or ModelOptions(), quiet=json or quiet)
    from twinlens.change.use import use_map

    result = use_map(
        loaded, text, gradients=gradients, threshold=threshold, length=length,
        batch_tokens=batch_tokens, progress=False if json or quiet else None,
    )  # fmt: skip
    for path in output or []:
        _write(result, path, score, sort)
        if not (json or quiet):
            print(f"wrote {path}", file=sys.stderr)
    if json:
        print_json(_plain(result, lowest))
    elif not quiet:
        _print(result, score, lowest)


def _refuse_bad_outputs(paths: list[Path]) -> None:
    from twinlens.results.base import optional
    from twinlens.show.saved import check_figure_format

    for path in paths:
        if path.suffix.lower() != _RESULT:
            check_figure_format(path, "a use map (the result itself: .safetensors)")
            optional("matplotlib", "figures")
        refuse_bad_file(path)


def _write(result: UseResult, path: Path, score: str, sort: bool) -> None:
    from twinlens.show.use_view import use_view

    if path.suffix.lower() == _RESULT:
        result.save(path)
    else:
        use_view(result, score, sort=sort).save(path)


def _print(result: UseResult, score: str, lowest: float) -> None:
    from rich.console import Console

    from twinlens.show.use_figure import MEANINGS

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{score}: {MEANINGS[score]}; {_text(result)}", markup=False)
    for kind in _KINDS:
        if result.score(score, kind).size:
            stable = result.stability(score, kind, lowest=lowest)
            _print_layers(console, result, score, kind, stable)
            if score != "magnitude" and stable.spearman == stable.spearman:
                _print_stability(console, kind, lowest, stable)
    print_notes(console, result.notes)


def _text(result: UseResult) -> str:
    loss = f", loss {result.loss:.3f} nats a token" if result.loss == result.loss else ""
    return f"{result.n_tokens:,} tokens{loss}"


def _print_layers(
    console: Console, result: UseResult, score: str, kind: UnitKind, stable: Stability
) -> None:
    values, silent = result.score(score, kind), result.silent(kind)
    table = table_of_numbers("layer", "silent", "agree", "mean")
    at_each_end = 1 if console.width < _NUMBERS + 2 * _END else 2
    for end in ("least used", "most used"):
        table.add_column(end, no_wrap=True)
    for n, (name, row) in enumerate(zip(result.layers, values, strict=True)):
        order = row.argsort(kind="stable").tolist()
        shown = min(at_each_end, len(order) // 2)
        ends = [order[:shown], order[::-1][:shown]]
        words = [
            "  ".join(f"{result.unit_name(kind, n, unit)} {row[unit]:.2g}" for unit in units)
            for units in ends
        ]
        agree = number(stable.layers[n], ".2f")  # of one document there are no halves
        cells = f"{silent[n].mean():.1%}", agree, f"{row.mean():.3g}"
        table.add_row(name, *cells, *words)
    console.print(f"\n{kind}s, {values.shape[1]:,} a layer", style="bold")
    console.print(table)


def _print_stability(console: Console, kind: UnitKind, lowest: float, stable: Stability) -> None:
    console.print(
        f"halves of the text: rank correlation {stable.spearman:.3f} over all {kind}s;"
        f" {stable.overlap:.0%} of the lowest {lowest:.0%} are the same"
        f" ({stable.by_chance:.0%} by chance)",
        markup=False,
    )


def _plain(result: UseResult, lowest: float) -> dict[str, Any]:
    """Scores of all units, summed over the groups of documents, and how stable they are."""
    from twinlens.results.storage import plain
    from twinlens.results.use import USE_SCORES

    told: dict[str, Any] = {
        "model": result.provenance.model,
        "n_tokens": result.n_tokens,
        "loss": result.loss,
        "layers": result.layers,
        "settings": result.settings,
        "threshold": result.threshold,
        "notes": result.notes,
    }
    for kind in _KINDS:
        told[f"{kind}s"] = {name: result.score(name, kind) for name in USE_SCORES}
        told[f"{kind}s"]["silent"] = result.silent(kind)
        told[f"{kind}s"]["stability"] = {
            name: result.stability(name, kind, lowest=lowest)._asdict() for name in USE_SCORES
        }
    return plain(told)
