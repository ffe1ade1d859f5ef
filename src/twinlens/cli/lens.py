"""`twinlens lens fit` and `twinlens lens report`: lenses that read early layers better."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from twinlens.cli.app import app
from twinlens.cli.common import (
    load_model,
    print_json,
    print_notes,
    table_of_numbers,
)
from twinlens.cli.options import ModelOptions, Whole
from twinlens.cli.refusing import refuse_bad_result, refuse_bad_text
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.results import FittedLens, LensComparison

lens_app = App(name="lens", help="Fit lenses to a model, and tell how well they read it.")
app.command(lens_app)


@lens_app.command
def fit(
    model: str = "hamlet",
    *,
    text: str,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    kind: Literal["tuned", "jacobian"] = "tuned",
    steps: Whole | None = None,
    lr: float | None = None,
    rank: Whole | None = None,
    reach: Literal["later", "own"] | None = None,
    windows: Whole | None = None,
    length: Whole = 128,
    held_out: float = 0.1,
    batch_tokens: Whole = 2048,
    seed: Whole = 1,
    json: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative="")] = False,
    load: ModelOptions | None = None,
) -> None:
    """Fit a lens to a model on a text. Stopped, the same command goes on where it was.

    Parameters
    ----------
    model
        "hamlet" (comes with twinlens), a directory or a hub id.
    text
        File in .txt or .jsonl ("text" in each line), or "hamlet".
    output
        File for the lens, in .safetensors.
    kind
        tuned: an affine map a row, trained (Belrose et al. 2023). jacobian: the mean Jacobian.
    steps
        Steps of training (tuned; default 250).
    lr
        Learning rate at the start (tuned; default 0.001).
    rank
        Keep so many singular values (jacobian; default all).
    reach
        What counts: the change of all later last residuals, or of the position's own (jacobian).
    windows
        Windows of text that are used at most (default: all; jacobian 64).
    length
        Tokens of a window.
    held_out
        Share of the text that is only measured on.
    batch_tokens
        Tokens of one pass.
    seed
        Seed of the order of windows.
    json
        Print the loss by layer as JSON.
    quiet
        Print nothing but errors.
    """
    refuse_bad_result(output, "a lens")
    refuse_bad_text(text)
    loaded = load_model(model, load or ModelOptions(), quiet=json or quiet)
    from twinlens.see.fit import fit_lens

    checkpoint = output.with_name(output.name + ".part")
    made = fit_lens(
        loaded, text, kind, steps=steps, lr=lr, rank=rank, reach=reach, windows=windows,
        length=length, held_out=held_out, batch_tokens=batch_tokens, seed=seed,
        checkpoint=checkpoint, output=output, progress=False if quiet else None,
    )  # fmt: skip
    if json:
        print_json(
            {"lens": str(output), "layers": list(made.layers), "kl": made.kl.tolist(),
             "kl_plain": made.kl_plain.tolist(), "kept": made.kept.tolist(),
             "notes": list(made.notes)}
        )  # fmt: skip
    elif not quiet:
        _print_fit(made)
        print(f"wrote {output}", file=sys.stderr)


@lens_app.command
def report(
    model: str = "hamlet",
    *,
    text: str,
    lens: Annotated[list[Path], Parameter(negative="")],
    length: Whole = 128,
    batch_tokens: Whole = 2048,
    json: Annotated[bool, Parameter(negative="")] = False,
    load: ModelOptions | None = None,
) -> None:
    """How well lenses read a model on a text: divergence from its answer, agreement, bias.

    Parameters
    ----------
    model
        "hamlet" (comes with twinlens), a directory or a hub id.
    text
        File in .txt or .jsonl, or "hamlet"; one that no lens was fitted to.
    lens
        Lenses: files of `twinlens lens fit`, or folders of the tuned-lens library. Repeat.
    length
        Tokens of a window.
    batch_tokens
        Tokens of one pass.
    json
        Print the numbers as JSON.
    """
    from twinlens.see.comparison import compare_lenses
    from twinlens.see.opening import open_lens

    opened: dict[str, FittedLens | None] = {"plain": None}
    opened |= {path.stem: open_lens(path) for path in lens}
    if len(opened) != len(lens) + 1:
        raise InputError("two lenses have the same file name (or one is called plain); rename one")
    refuse_bad_text(text)
    loaded = load_model(model, load or ModelOptions(), quiet=json)
    found = compare_lenses(
        loaded, text, opened, length=length, batch_tokens=batch_tokens,
        progress=False if json else None,
    )  # fmt: skip
    if json:
        print_json(found.to_dict())
    else:
        _print_report(found)


def _print_fit(lens: FittedLens) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(
        f"{lens.name} lens of {lens.provenance.model}: KL(final || row) on"
        f" {lens.settings['held_out_tokens']:,} held-out tokens, nats a token",
        markup=False,
    )
    table = table_of_numbers("layer", "plain", lens.name, *(["kept"] if lens.rank else []))
    for n, row in enumerate(lens.layers):
        kept = [f"{lens.kept[n]:.1%}"] if lens.rank else []
        table.add_row(row, f"{lens.kl_plain[n]:.3f}", f"{lens.kl[n]:.3f}", *kept)
    console.print(table)
    print_notes(console, lens.notes)


def _print_report(found: LensComparison) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{found.n_tokens:,} tokens; layers top to bottom", markup=False)
    for title, values, form in (
        ("KL(final || row), nats a token", found.kl, "{:.3f}"),
        ("top-1 is the final row's", found.agreement, "{:.1%}"),
        ("bias: KL between the mean distributions, nats", found.bias, "{:.3f}"),
    ):
        table = table_of_numbers("layer", *found.lenses, title=title)
        for n, row in enumerate(found.layers):
            table.add_row(row, *(form.format(value) for value in values[:, n]))
        console.print(table)
