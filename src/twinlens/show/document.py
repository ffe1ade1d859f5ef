"""Results as a document: what the page shows, as plain values and base64 arrays."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from twinlens.errors import InputError
from twinlens.results import AttentionResult, LensResult, NeuronResult, Result
from twinlens.results.storage import plain
from twinlens.show.arrays import array
from twinlens.show.attended import attention_of
from twinlens.show.grids import grids_of, lens_grids
from twinlens.show.lens_panels import key_of, lens_name
from twinlens.show.panels import on_rows
from twinlens.show.picture import (
    focus_of,
    notes_of,
    restored_of,
    rows_of,
    same_prompt,
    surprisal_of,
    tokens_of,
)
from twinlens.show.schema import SCHEMA, Document, Grid, LensTop, Look, TokenList, Writes


def document(
    looks: Mapping[str, Sequence[Result]], *, flip: bool = False, transpose: bool = False
) -> Document:
    """The document of some named sets of results, all of the same tokens.

    Raises `InputError` where they are not, or where there are none.
    """
    from twinlens import __version__

    results = [result for named in looks.values() for result in named]
    same_prompt(results)
    tokens = tokens_of(results)
    listed = TokenList(
        tokens.text, tokens.ids.tolist(), list(tokens.labels), tokens.special.tolist()
    )
    made = [_look(name, of_one, len(tokens)) for name, of_one in looks.items()]
    return Document(SCHEMA, __version__, listed, made, flip, transpose)


def _look(name: str, results: Sequence[Result], n_tokens: int) -> Look:
    if not results:
        raise InputError(f"nothing to show under {name!r}")
    rows, restored, bits = rows_of(results), restored_of(results), surprisal_of(results)
    lenses, grids = _lenses(results, rows)
    for result in results:
        grids += grids_of(result, rows)
    attention, said = attention_of([r for r in results if isinstance(r, AttentionResult)])
    subject = np.logical_or.reduce([np.zeros(n_tokens, bool), *(r.subject_mask for r in restored)])
    return Look(
        name=name,
        rows=list(rows),
        vocabulary={str(i): label for r in results for i, label in r.vocabulary.items()},
        grids=_unlike(grids),
        subject=subject.tolist(),
        notes=list(dict.fromkeys([*notes_of(results), *said])),
        settings=[{"result": r.kind_of_result, **plain(r.settings)} for r in results],
        provenance=plain(results[0].provenance),
        surprisal=None if bits is None else array(bits),
        lenses=lenses,
        focus=focus_of(results),
        neurons=_writes([r for r in results if isinstance(r, NeuronResult)]),
        attention=attention,
    )


def _lenses(results: Sequence[Result], rows: tuple[str, ...]) -> tuple[list[LensTop], list[Grid]]:
    """The top tokens of each lens, and its grids; lenses alike are numbered."""
    seen: Counter[str] = Counter()
    tops: list[LensTop] = []
    grids: list[Grid] = []
    for lens in results:
        if not isinstance(lens, LensResult):
            continue
        decoder, run = key_of(lens)
        key, name = decoder if run == "clean" else f"{decoder}.{run}", lens_name(lens)
        seen[key] += 1
        if (n := seen[key]) > 1:
            key, name = f"{key}~{n}", f"{name} ({n})"
        tops.append(_top(lens, rows, key, name))
        grids += lens_grids(lens, rows, key, name)
    return tops, grids


def _top(lens: LensResult, rows: tuple[str, ...], key: str, name: str) -> LensTop:
    contributions = lens.rows in ("attn", "mlp")
    values = lens.top_logits if contributions else lens.top_probs
    ids = on_rows(lens.top_ids.astype(float), lens.layers, rows)
    return LensTop(
        key,
        name,
        "logit" if contributions else "probability",
        array(np.nan_to_num(ids, nan=-1.0), "int32"),
        array(on_rows(values, lens.layers, rows)),
    )


def _unlike(grids: Sequence[Grid]) -> list[Grid]:
    """The grids with ids and names of their own, where several results are of one kind."""
    seen: Counter[str] = Counter()
    found: list[Grid] = []
    for grid in grids:
        seen[grid.id] += 1
        if (n := seen[grid.id]) > 1:
            grid = dataclasses.replace(grid, id=f"{grid.id}~{n}", name=f"{grid.name} ({n})")
        found.append(grid)
    return found


def _writes(results: Sequence[NeuronResult]) -> dict[str, Writes]:
    return {
        result.unit_name(layer, unit): Writes(
            [result.label(i) for i in result.promoted[at]],
            [result.label(i) for i in result.suppressed[at]],
        )
        for result in results
        for at, (layer, unit) in enumerate(result.named.tolist())
    }
