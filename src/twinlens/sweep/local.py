"""Units done in this process, one after the other; other processes on the folder take the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from twinlens.model.model import Model
from twinlens.run.batches import free_memory, is_out_of_memory
from twinlens.sweep.folder import Folder
from twinlens.sweep.plan import Plan, Unit
from twinlens.sweep.work import Made, run

Told = Callable[[Made], None]


def run_here(model: Model, plan: Plan, folder: Folder, told: Told) -> list[Unit]:
    """Do what is not done, and wait for what others have claimed; a claim ends with its process.

    Returns the units that did not fit the memory.
    """
    too_large: list[Unit] = []

    def left() -> list[Unit]:
        done = folder.done()
        return [u for u in plan.units if u.key not in done and u not in too_large]

    while units := left():
        did = [_do(model, group, plan, folder, told, too_large) for group in plan.groups(units)]
        if not any(did) and (units := left()):
            _do(model, units[:1], plan, folder, told, too_large, wait=True)
    return too_large


def _do(
    model: Model,
    group: Sequence[Unit],
    plan: Plan,
    folder: Folder,
    told: Told,
    too_large: list[Unit],
    *,
    wait: bool = False,
) -> bool:
    """Do those units of a group that are free; whether there were any."""
    with contextlib.ExitStack() as claims:
        mine = [unit for unit in group if claims.enter_context(folder.claim(unit, wait=wait))]
        try:
            for unit, made in zip(mine, run(model, mine, plan), strict=True):
                folder.put(unit, made.table)
                told(made)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            free_memory()
            too_large += [unit for unit in mine if not folder.has(unit)]
    return bool(mine)
