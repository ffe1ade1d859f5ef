"""The sweep: facts, a model and a folder; it goes on where it stopped."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twinlens.errors import InputError, RunFolderError
from twinlens.model.model import Model
from twinlens.paths import expanded
from twinlens.run.batches import Progress
from twinlens.run.engine import Engine
from twinlens.see.corruption import Noise
from twinlens.see.question import Direction, Metric, whole
from twinlens.sweep.cluster import Cluster, run_on_cluster, workers_of
from twinlens.sweep.facts import Facts, Source, read_facts
from twinlens.sweep.folder import Folder
from twinlens.sweep.local import run_here
from twinlens.sweep.manifest import (
    changed_versions,
    manifest_of,
    read_manifest,
    refuse_other,
    refuse_other_model,
    write_manifest,
)
from twinlens.sweep.plan import Plan, Prepared, Unit, plan
from twinlens.sweep.preparing import prepare
from twinlens.sweep.progress import Tally, telling
from twinlens.sweep.settings import Measure, SweepSettings, SweptKind, SweptMethod
from twinlens.sweep.store import SweepRun, open_run


def sweep_facts(
    model: Model | Cluster,
    facts: Source | Facts,
    output: str | Path,
    *,
    measure: Sequence[Measure] = ("trace", "neurons", "lens"),
    kinds: Sequence[SweptKind] = ("block", "mlp", "attn"),
    window: int = 1,
    corruption: Noise | str | None = None,
    metric: Metric = "probability",
    direction: Direction = "denoise",
    method: SweptMethod = "atp",
    restored: int = 30,
    top_neurons: int = 30,
    engine: Engine = "auto",
    batch_tokens: int | None = None,
    unknown: bool = False,
    share: bool = False,
    threads: int | None = None,
    strict: bool = False,
    limit: int | None = None,
    progress: Progress = None,
) -> SweepRun:
    """Measure every fact of a data set, and keep all of it in a folder (Meng et al. 2022).

    `facts`: a file (ROME's known_1000.json as it is, JSON Lines, CSV, Parquet; columns `prompt`,
    `subject`, and optionally `answer` or `attribute`, `counterfactual`, `id`), "hamlet", or a list
    of dicts. Rows that are no fact are kept in `rejected.jsonl` and do not stop the sweep (with
    `strict` they do). Facts whose answer the model does not predict are marked and left out, as in
    ROME, unless `unknown=True`. `limit`: only the first so many facts; more may follow later.

    `measure`: `trace` (of each of `kinds`; `window` is that of `mlp` and `attn`), `neurons` (by
    `method`, then `restored` exactly; the `top_neurons` strongest are kept), `lens`. `corruption`:
    a `tl.Noise` (its `sigma=None` means `times_std` standard deviations of the embeddings of all
    subjects of the data set, as in ROME) or "counterfactual" (the row's other prompt).

    Every fact is measured alone by `causal_trace`, `neuron_trace` and `logit_lens`, so its numbers
    are theirs (with as many threads: `threads`, by default torch's; small models on a busy machine
    are fastest with one, in several processes). `share=True`: facts of like length share the passes
    of their traces, which is faster for small models and moves the last digits. The same call goes
    on where it stopped; several processes may share a folder. With a `Cluster` in the model's place
    its workers do the work.

    Returns the run as `open_run` does. Raises `FactsError`, `InputError`, `RunFolderError` where
    the folder was begun with another model, other facts or settings, `ClusterError`, and
    `AnatomyError` where the model fails its checks.
    """
    settings = SweepSettings(
        measure=tuple(measure), kinds=tuple(kinds), window=window, metric=metric,
        direction=direction, method=method, restored=restored, top_neurons=top_neurons,
        engine=engine, batch_tokens=batch_tokens, unknown=unknown, share=share, threads=threads,
        **_corrupted_by(corruption),
    )  # fmt: skip
    if limit is not None:
        whole("limit", limit)
    read = facts if isinstance(facts, Facts) else read_facts(facts, strict=strict)
    path = expanded(output)
    if left_out := _swept(model, read, settings, path, limit, progress):
        warnings.warn(
            f"{len(left_out)} facts did not fit the memory; the same command tries them again",
            stacklevel=2,
        )
    return open_run(path)


def _swept(
    model: Model | Cluster,
    read: Facts,
    settings: SweepSettings,
    path: Path,
    limit: int | None,
    progress: Progress,
) -> list[Unit]:
    """Do all that is not done; returns the units that did not fit the memory."""
    tally = Tally(0)
    with workers_of(model) as able:
        folder, planned = _begin(able, read, settings, path, limit)
        done = folder.done()
        tally.total = len(planned.units)
        tally.before = sum(unit.key in done for unit in planned.units)
        with telling(tally, progress) as told:
            if isinstance(able, Model):
                left_out = run_here(able, planned, folder, told)
            else:
                left_out = run_on_cluster(able, planned, folder, told)
    folder.merge()
    return left_out


def _corrupted_by(corruption: Noise | str | None) -> dict[str, Any]:
    """A corruption as settings."""
    if corruption == "counterfactual":
        return {"corruption": corruption}
    if corruption is not None and not isinstance(corruption, Noise):
        raise InputError(f"corruption={corruption!r} is neither tl.Noise(...) nor 'counterfactual'")
    return {"noise": corruption or Noise()}


def _begin(
    able: Any, facts: Facts, settings: SweepSettings, path: Path, limit: int | None
) -> tuple[Folder, Plan]:
    """Begin the run, or go on in its folder, which must be about the same."""
    folder = Folder(path)
    folder.refuse_other()
    begun = read_manifest(path)
    if begun is not None:
        refuse_other(path, begun, facts, settings)
    resolved = None if begun is None else begun["resolved"]
    if isinstance(able, Model):
        prepared: Prepared = prepare(able, facts, settings, resolved)
    else:
        prepared = able.prepare(facts, settings, resolved)
    folder.make()
    with folder.locked():
        begun = read_manifest(path)  # another process may have begun it
        if begun is None:
            begun = manifest_of(facts, settings, prepared)
            write_manifest(path, begun, facts)
    refuse_other(path, begun, facts, settings)
    refuse_other_model(path, begun, prepared.model)
    if changed := changed_versions(begun, prepared.versions):
        warnings.warn(
            f"{path} was begun with other versions ({', '.join(changed)}): the last digits of what"
            " is done now may differ",
            stacklevel=4,
        )
    prepared = dataclasses.replace(prepared, resolved=begun["resolved"])
    if not prepared.lengths:
        raise RunFolderError(f"{path}: there is nothing to measure")
    return folder, plan(facts, settings, prepared, limit)
