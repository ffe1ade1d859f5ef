"""Units done in this process, one after the other; other processes on the folder take the rest."""

from __future__ import annotations

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
    left, too_large = _left(plan.units, folder), list[Unit]()
    while left:
        did = [unit for unit in left if _do(model, unit, plan, folder, told, too_large)]
        left = [u for u in _left(plan.units, folder) if u not in too_large]
        if left and not did:
            _do(model, left[0], plan, folder, told, too_large, wait=True)
            left = [u for u in left if not folder.has(u) and u not in too_large]
    return too_large


def _left(units: Sequence[Unit], folder: Folder) -> list[Unit]:
    done = folder.done()
    return [unit for unit in units if unit.key not in done]


def _do(
    model: Model,
    unit: Unit,
    plan: Plan,
    folder: Folder,
    told: Told,
    too_large: list[Unit],
    *,
    wait: bool = False,
) -> bool:
    """Whether the unit was free and is now done."""
    if unit in too_large:
        return False
    with folder.claim(unit, wait=wait) as mine:
        if not mine:
            return False
        try:
            for made in run(model, [unit], plan):
                folder.put(unit, made.table)
                told(made)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            free_memory()
            too_large.append(unit)
    return True
