"""Who does the work: this process, or workers on Ray."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any

from cyclopts import Group, Parameter

from twinlens.cli.common import load_model
from twinlens.cli.options import ModelOptions
from twinlens.cli.values import whole
from twinlens.errors import InputError

_WORKERS = Group("Workers", sort_key=4)


@Parameter(name="*", group=_WORKERS)
@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """Who does the work."""

    ray: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = field(
        default=None
    )
    "Workers on Ray: on this machine (--ray), or of a cluster (--ray auto, --ray HOST:PORT)."
    workers: Annotated[int | None, Parameter(converter=whole)] = None
    "How many of them (default: as many as fit)."
    cpus: float = 1.0
    "CPUs of each."
    gpus: float = 0.0
    "GPUs of each; a fraction shares one, several hold a model with --device-map auto."


def able(model: str, load: ModelOptions, workers: WorkerOptions, *, quiet: bool) -> Any:
    """The model, or the cluster whose workers load it."""
    if workers.ray is None:
        if workers != WorkerOptions():
            raise InputError("--workers, --cpus and --gpus are about workers on Ray; give --ray")
        return load_model(model, load, quiet=quiet)
    if len(workers.ray) > 1:
        raise InputError(f"--ray takes one address, not {' '.join(workers.ray)}")
    from twinlens.sweep.cluster import Cluster

    options = {k: v for k, v in dataclasses.asdict(load).items() if v}
    if not quiet:
        print("starting workers on Ray; each loads the model", file=sys.stderr, flush=True)
    return Cluster(
        model, address=workers.ray[0] if workers.ray else None, workers=workers.workers,
        cpus=workers.cpus, gpus=workers.gpus, load=options,
    )  # fmt: skip
