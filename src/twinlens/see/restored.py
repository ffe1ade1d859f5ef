"""The lens of another run than the clean one: corrupted, or with one cell of a trace restored.

So that a cell's effect can be followed: what do the layers after it say once it is put back?
"""

from __future__ import annotations

from typing import Any, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from twinlens.errors import InputError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.model.spans import Subject
from twinlens.results import FittedLens, LensResult, Tokens
from twinlens.run.batches import Progress
from twinlens.run.check import require
from twinlens.run.passes import Cell, Inputs, State, Values, read
from twinlens.see.corruption import Corruption, Noise, corrupt
from twinlens.see.decoders import Decoder, decoder_of
from twinlens.see.lens import residuals
from twinlens.see.provenance import provenance
from twinlens.see.question import Direction, Kind, Question, ask
from twinlens.see.reduction import Residuals, reduce_all
from twinlens.see.trace import row_names, sites_of_row

Place = tuple[str | int, int] | tuple[str | int, int, int]


def restored_lens(
    model: Model,
    prompt: str | Tokens,
    subject: Subject | None = None,
    *,
    cell: Place | None = None,
    kind: Kind = "block",
    window: int = 1,
    corruption: Corruption | None = None,
    direction: Direction = "denoise",
    focus: int | str = -1,
    decoder: FittedLens | None = None,
    top_k: int = 5,
    batch_tokens: int = 4096,
    progress: Progress = None,
) -> LensResult:
    """What does each layer say in the corrupted run, or after one cell of the trace is restored?

    `cell`: (layer, token) of a `causal_trace` of the same `kind` and `window`; the layer is a row's
    name or number ("embed", 3), the token a position; for `head` a third number says which head.
    None: the corrupted run itself. The other arguments are those of the trace; `focus` only says
    which occurrences of the subject count. With `direction="noise"` the cell's corrupted state is
    put into the clean run.

    Logits are those of the mean distribution over the samples: logit = log of the mean probability.
    Every row is compared with the last row of the *clean* run (`final`, KL, surprisal), so that the
    numbers can be laid beside the clean lens. `settings["run"]` says which run it is.

    Returns a `LensResult`. Raises what `causal_trace` and `logit_lens` raise, and `InputError` for
    a cell that is not there.
    """
    if cell is None and direction == "noise":
        raise InputError("direction='noise' needs a cell: its base is the clean run itself")
    question = ask(
        model, prompt, subject, focus=focus, answer=None, kind=kind, window=window,
        metric="probability", foil=None, direction=direction,
    )  # fmt: skip
    states = () if cell is None else states_of(model, question, cell)
    require(model, ["embed", "block", kind])
    corrupted = corrupt(model, question.tokens, corruption or Noise(), question.mask)
    clean, other = Inputs(torch.from_numpy(question.tokens.ids)[None]), corrupted.inputs
    base, other = _base_and_source(clean, other, direction)
    with torch.no_grad():
        sites = [state.site for state in states]
        source = read(model, other, sites, batch_tokens=batch_tokens).values if sites else {}
        rows = _rows(model, base, states, source, batch_tokens)
        final = residuals(model, clean).final
        shown = OverSamples(decoder_of(model, decoder))
        cells = reduce_all(shown, question.tokens, Residuals(rows, final), (), top_k, progress)
    return LensResult(
        tokens=question.tokens,
        layers=tuple(rows),
        vocabulary=model.vocabulary(question.tokens.ids, cells["top_ids"], cells["target_ids"]),
        settings=_settings(question, corrupted.settings, cell, shown.name, top_k),
        provenance=provenance(model),
        rows="block",
        targets=("final", "next"),
        **cells,  # pyright: ignore[reportArgumentType]
    )


def _base_and_source(
    clean: Inputs, corrupted: Inputs, direction: Direction
) -> tuple[Inputs, Inputs]:
    """The run that is changed, and the one that a state is taken from."""
    if direction == "denoise":
        return corrupted, clean
    return clean.repeated(corrupted.samples), corrupted


def cell_of(text: str, kind: Kind = "block") -> tuple[Kind, Place]:
    """Kind and cell from a text: LAYER:TOKEN or LAYER:TOKEN:HEAD, with another KIND: before it.

    Raises `InputError` for another.
    """
    layer, *numbers = text.split(":")
    if layer in get_args(Kind) and numbers:
        kind, layer, *numbers = cast(Kind, layer), *numbers
    if layer and len(numbers) in (1, 2) and all(n.isdecimal() and len(n) < 10 for n in numbers):
        token = int(numbers[0])
        return kind, ((layer, token) if len(numbers) == 1 else (layer, token, int(numbers[1])))
    raise InputError(
        f"cell={text!r} is no cell of a trace; expected LAYER:TOKEN (for heads LAYER:TOKEN:HEAD),"
        f" with another kind KIND:LAYER:TOKEN"
    )


class OverSamples(Decoder):
    """A decoder of rows with samples: log of the mean probability over them."""

    def __init__(self, inner: Decoder) -> None:
        super().__init__(inner.model)
        self.inner, self.name = inner, inner.name

    def logits(
        self, row: str, residual: Float[Tensor, "token *sample d_model"], at: slice
    ) -> Float[Tensor, "token vocab"]:
        """The mean distribution's logarithm; with one sample, its own logits."""
        parts = residual.unbind(1) if residual.dim() == 3 else (residual,)
        if len(parts) == 1:
            return self.inner.logits(row, parts[0], at)
        mean = self.inner.logits(row, parts[0], at).float().softmax(-1)
        for part in parts[1:]:
            mean += self.inner.logits(row, part, at).float().softmax(-1)
        return (mean / len(parts)).clamp(min=torch.finfo(torch.float32).tiny).log()


def states_of(model: Model, question: Question, cell: Place) -> Cell:
    """The states of a cell of the trace; raises `InputError` where it is none."""
    names = row_names(model, question.kind)
    row, token, unit = cell if len(cell) == 3 else (*cell, None)
    heads = model.n_heads if question.kind == "head" else 0
    if str(row) not in names:
        raise InputError(f"cell={cell!r}: layer {row!r} is not one of {', '.join(names)}")
    if not 0 <= token < len(question.tokens):
        raise InputError(f"cell={cell!r}: token {token} is not in 0..{len(question.tokens) - 1}")
    if heads and not (unit is not None and 0 <= unit < heads):
        raise InputError(f"cell={cell!r}: expected (layer, token, head), heads 0 to {heads - 1}")
    if not heads and unit is not None:
        raise InputError(f"cell={cell!r}: kind={question.kind!r} has no heads; give (layer, token)")
    sites = sites_of_row(model, question, str(row))
    return tuple(State(site, int(token), unit) for site in sites)


def _rows(
    model: Model, base: Inputs, cell: Cell, source: Values, batch_tokens: int
) -> dict[str, Float[Tensor, "tokens samples d_model"]]:
    """The residuals of a run with a cell restored, by row."""
    sites = [Site("embed", 0), *model.sites("block")]
    made = read(model, base, sites, cell=cell, source=source, batch_tokens=batch_tokens).values
    names = ("embed", *(str(site.layer) for site in sites[1:]))
    return {name: made[s].transpose(0, 1) for name, s in zip(names, sites, strict=True)}


def _settings(
    question: Question, corruption: dict[str, Any], cell: Place | None, decoder: str, top_k: int
) -> dict[str, Any]:
    asked = question.settings()
    run = "corrupted"
    if cell is not None:
        unit = f".H{cell[2]}" if len(cell) == 3 else ""
        verb = "restored" if question.direction == "denoise" else "corrupted"
        run = f"{verb} {question.kind} {cell[0]}{unit} at token {cell[1]}"
    return corruption | {
        "rows": "block", "top_k": top_k, "targets": [], "decoder": decoder, "run": run,
        **{name: asked[name] for name in ("subject", "window", "direction")},
    }  # fmt: skip
