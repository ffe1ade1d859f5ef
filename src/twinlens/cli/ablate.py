"""`twinlens look --ablate`: the same prompt before and after parts are silenced."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from twinlens.cli.common import (
    named_by_kind,
    print_json,
    progress,
    say,
    table_of_numbers,
    view_of,
    write,
)
from twinlens.cli.options import AblateOptions, LensOptions, OutputOptions
from twinlens.cli.refusing import refuse_bad_text
from twinlens.cli.settings import refuse_idle
from twinlens.cli.values import token
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.change.looking import BeforeAfter
    from twinlens.change.silence import Silence
    from twinlens.model.model import Model
    from twinlens.results import Result
    from twinlens.see.look import LookSettings
    from twinlens.show.comparison import Comparison


def refuse_ablation(asked: AblateOptions, lens: LensOptions) -> None:
    """Before the model is loaded: do these options go together?"""
    if not asked.ablate:
        for name, value in dataclasses.asdict(asked).items():
            if value != getattr(AblateOptions(), name):
                refuse_idle(f"--{name.replace('_', '-')}", "is about --ablate PARTS; give it too")
        return
    from twinlens.change.silence import parts_in

    parts_in(asked.ablate)
    if asked.ablate_to != "zero" and asked.ablate_factor:
        raise InputError("--ablate-factor goes with --ablate-to zero")
    if (asked.ablate_to == "zero") != (asked.ablate_text is None):
        raise InputError("--ablate-text goes with --ablate-to mean and resample, and they need it")
    if asked.ablate_text is not None:
        refuse_bad_text(asked.ablate_text)
    if lens.fitted:
        raise InputError("--lens was fitted to the model as it is; leave it out with --ablate")


def look_ablated(
    model: Model,
    settings: LookSettings,
    asked: AblateOptions,
    lens: LensOptions,
    output: OutputOptions,
    reduce: str,
) -> None:
    """Look before and after, print both and the difference, write what was asked for."""
    from twinlens.change.looking import look_changed
    from twinlens.change.silence import silence

    silenced = silence(
        model, asked.ablate, to=asked.ablate_to, factor=asked.ablate_factor,
        text=asked.ablate_text, seed=asked.ablate_seed, progress=progress(output),
    )  # fmt: skip
    heard = None if output.quiet else say
    found = look_changed(model, settings, [silenced], progress=progress(output), say=heard)
    told = _words(silenced)
    noted = dataclasses.replace(found.after[0], notes=(told, *found.after[0].notes))
    found = found._replace(after=[noted, *found.after[1:]])
    compared = _comparison(found, lens, output, reduce)
    named = {
        f"{when}-{name}": result
        for when, results in (("before", found.before), ("after", found.after))
        for name, result in named_by_kind(results).items()
    }
    if output.json:
        print_json({name: result.to_dict() for name, result in named.items()})
    elif not output.quiet:
        _print(model, found, compared, told)
    write(compared, named, output)


def _comparison(
    found: BeforeAfter, lens: LensOptions, output: OutputOptions, reduce: str
) -> Comparison:
    """Both views and their difference; the lens' colour is of the answer unless said otherwise."""
    from twinlens.show.page import compare

    target = token(lens.lens_target, "--lens-target")
    target = found.answer if target == "final" else target
    looks = {"before": found.before, "after": found.after}
    return compare(
        {name: view_of(made, lens, output, reduce, target) for name, made in looks.items()}
    )


def _words(silenced: Silence) -> str:
    """What was done, for a note."""
    to, about = silenced.to, silenced.about
    left = "they write nothing"
    if silenced.factor:
        left = f"they write {silenced.factor:g} times what they wrote"
    elif to == "mean":
        left = f"they write their mean over {about['n_tokens']:,} tokens"
    elif to == "resample":
        left = f"they write what they wrote at one of {about['n_tokens']:,} tokens"
    return f"silenced after: {', '.join(part.name for part in silenced.named)}; {left}"


def _print(model: Model, found: BeforeAfter, compared: Comparison, told: str) -> None:
    from rich.console import Console
    from rich.markup import escape

    from twinlens.results.effects import RestoredResult
    from twinlens.show.table import table

    console = Console(highlight=False)
    console.print(told, markup=False)
    label = escape(model.label(found.answer))
    lines = table_of_numbers("", "before", "after")
    ends = [_at_focus(made, found) for made in (found.before, found.after)]
    lines.add_row("prediction at the focus", *(f"{escape(name)} {p:.3f}" for name, p, _ in ends))
    lines.add_row(f"probability of {label}", *(f"{p:.3f}" for _, _, p in ends))
    totals = [
        [r.total_effect for r in made if isinstance(r, RestoredResult)]
        for made in (found.before, found.after)
    ]
    if totals[0]:
        lines.add_row("total effect of the corruption", *(f"{t[0]:+.3f}" for t in totals))
    console.print(lines)
    for picture in compared.pictures():
        console.print(table(picture, console.width))


def _at_focus(results: list[Result], found: BeforeAfter) -> tuple[str, float, float]:
    """The last row's first token at the focus with its probability, and the answer's."""
    import math

    from twinlens.results import LensResult

    lens = next(result for result in results if isinstance(result, LensResult))
    if lens.rows in ("attn", "mlp"):
        return "", math.nan, math.nan
    best = lens.top_ids[-1, found.focus, 0], lens.top_probs[-1, found.focus, 0]
    answer = lens.metric("probability", found.answer)[-1, found.focus]
    return lens.label(best[0]), float(best[1]), float(answer)
