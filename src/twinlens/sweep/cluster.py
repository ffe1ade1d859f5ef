"""Units done by the workers of a Ray cluster, each with a model of its own.

The driver gives out units, keeps what comes back in the run's folder, and starts a worker anew
where one was lost; its units are done again. Only the driver writes.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from twinlens.errors import ClusterError, InputError
from twinlens.model.load import load
from twinlens.model.model import Model
from twinlens.see.question import whole
from twinlens.sweep.facts import Facts
from twinlens.sweep.folder import Folder
from twinlens.sweep.joining import first_line, joined_cluster
from twinlens.sweep.plan import Plan, Prepared, Unit
from twinlens.sweep.preparing import prepare
from twinlens.sweep.settings import SweepSettings
from twinlens.sweep.work import Made, run

_AHEAD = 2  # groups of units a worker has: one that is done, one that waits
_OFTEN = 3  # times that a unit may lose its worker, and workers may be lost in a row


@dataclass(frozen=True)
class Cluster:
    """Workers on a Ray cluster, each of which loads `source` (a directory that every machine has,
    or a hub id) with the options of `tl.load` in `load` (`dtype`, `device`, `device_map`, ...).

    `address`: None starts Ray on this machine; "auto" or "host:port" joins a cluster. `workers`:
    how many; by default as many as fit, each with `cpus` and `gpus` (fractions share a GPU;
    several, with `device_map="auto"`, hold one large model).
    """

    source: str
    address: str | None = None
    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    load: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if not isinstance(self.source, str):
            raise InputError(
                f"source={type(self.source).__name__}: the workers load the model themselves;"
                " expected a directory or a hub id"
            )
        if self.workers is not None:
            whole("workers", self.workers)
        if self.cpus < 0 or self.gpus < 0:
            raise InputError(f"cpus={self.cpus!r} and gpus={self.gpus!r} must not be negative")


class Worker:
    """What runs on a cluster's machines: a model, and the work of a sweep."""

    def __init__(self, source: str, options: Mapping[str, Any]) -> None:
        self._source, self._options = source, options
        self._model: Model | None = None

    @property
    def model(self) -> Model:
        """The model, loaded when it is first needed, so that what fails there can be told."""
        if self._model is None:
            self._model = load(self._source, **self._options)
        return self._model

    def weights_hash(self) -> str:
        """Which weights this worker has."""
        return self.model.weights_hash()

    def prepare(
        self, facts: Facts, settings: SweepSettings, resolved: dict[str, Any] | None
    ) -> Prepared:
        """What only the model can say."""
        return prepare(self.model, facts, settings, resolved)

    def run(self, units: Sequence[Unit], plan: Plan) -> list[Made]:
        """Units of one length; the same function as on one machine."""
        return list(run(self.model, units, plan))


class Workers:
    """The workers of a cluster, as the driver has them."""

    def __init__(self, ray: Any, cluster: Cluster) -> None:
        self.ray, self.cluster = ray, cluster
        self._remote = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus)(Worker)
        self.lost = 0
        self.actors: list[Any] = [self._start() for _ in range(_count(ray, cluster))]
        self.hash: str | None = None

    def prepare(
        self, facts: Facts, settings: SweepSettings, resolved: dict[str, Any] | None
    ) -> Prepared:
        """The first worker loads the model and says what it is."""
        made = self.get(self.actors[0].prepare.remote(facts, settings, resolved))
        self.hash = made.model["weights_hash"]
        return made

    def get(self, reference: Any) -> Any:
        """What a worker made; what it raised on purpose is raised here as it was."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self.ray.exceptions.RayError as error:
            raise ClusterError(f"a worker was lost: {first_line(error)}") from error

    def replace(self, actor: Any) -> Any:
        """Another worker in the place of one that was lost."""
        fresh = self._start()
        self.actors[self.actors.index(actor)] = fresh
        return fresh

    def _start(self) -> Any:
        return self._remote.remote(self.cluster.source, dict(self.cluster.load))


@contextlib.contextmanager
def workers_of(model: Model | Cluster) -> Generator[Model | Workers]:
    """A model as it is; a cluster as running workers, which end with the block."""
    if isinstance(model, Model):
        yield model
        return
    if not isinstance(model, Cluster):
        raise InputError(f"model={type(model).__name__}: expected tl.load(...) or tl.Cluster(...)")
    with joined_cluster(model) as ray:
        workers: Workers | None = None
        try:
            workers = Workers(ray, model)
            yield workers
        finally:
            for actor in [] if workers is None else workers.actors:
                ray.kill(actor)


def run_on_cluster(
    workers: Workers, plan: Plan, folder: Folder, told: Callable[[Made], None]
) -> list[Unit]:
    """Give out the units that are not done, and keep what comes back.

    Returns the units that lost their worker again and again (most often for want of memory).
    Raises `ClusterError` where workers are lost one after the other and nothing gets done.
    """
    driver = _Driver(workers, plan, folder, told)
    with driver.claims:
        while driver.give_out():
            driver.take_in()
    return driver.left_out


class _Driver:
    def __init__(
        self, workers: Workers, plan: Plan, folder: Folder, told: Callable[[Made], None]
    ) -> None:
        self.workers, self.folder, self.told = workers, folder, told
        self.shared = workers.ray.put(replace(plan, units=()))
        done = folder.done()
        self.todo = deque(unit for unit in plan.units if unit.key not in done)
        self.plan = plan
        self.running: dict[Any, tuple[list[Unit], Any]] = {}
        self.claims = contextlib.ExitStack()
        self.held: dict[str, contextlib.ExitStack] = {}
        self.losses: Counter[str] = Counter()
        self.left_out: list[Unit] = []
        self.ready: set[Any] = set()  # workers whose weights are those of the run

    def give_out(self) -> bool:
        """Every worker gets units; whether any is under way."""
        load = Counter(id(actor) for _, actor in self.running.values())
        for actor in self.workers.actors:
            while self.todo and load[id(actor)] < _AHEAD:
                group = next(self.plan.groups(self.todo))
                self.todo = deque(list(self.todo)[len(group) :])
                if mine := [unit for unit in group if self._claimed(unit)]:
                    self._check_weights(actor)
                    self.running[actor.run.remote(mine, self.shared)] = mine, actor
                    load[id(actor)] += 1
        return bool(self.running)

    def take_in(self) -> None:
        """Wait for a group of units, and keep them; lost with their worker, they are done again."""
        ray = self.workers.ray
        finished, _ = ray.wait(list(self.running), num_returns=1)
        units, actor = self.running.pop(finished[0])
        try:
            found = self.workers.get(finished[0])
        except ClusterError as error:
            self._lost(actor, units, error)
            return
        if isinstance(found, str):  # the weights of a worker
            if found != self.workers.hash:
                raise ClusterError(
                    f"a worker loaded other weights ({found[:12]}) than the first"
                    f" ({str(self.workers.hash)[:12]}): do all machines have the same files?"
                )
            return
        self.workers.lost = 0
        for unit, made in zip(units, found, strict=True):
            self.folder.put(unit, made.table)
            self.told(made)
            self.held.pop(unit.key).close()

    def _claimed(self, unit: Unit) -> bool:
        """Whether the unit is ours; what another driver works on is waited for at the end."""
        if unit.key in self.held:
            return True
        wait = not self.running and not self.todo
        stack = contextlib.ExitStack()
        if stack.enter_context(self.folder.claim(unit, wait=wait)):
            self.held[unit.key] = stack
            self.claims.push(stack)
            return True
        stack.close()
        if not self.folder.has(unit):
            self.todo.append(unit)
        return False

    def _check_weights(self, actor: Any) -> None:
        if actor not in self.ready:
            self.ready.add(actor)
            self.running[actor.weights_hash.remote()] = [], actor

    def _lost(self, actor: Any, units: Sequence[Unit], error: ClusterError) -> None:
        if actor in self.workers.actors:  # the first of its groups to be missed
            self.workers.replace(actor)
            self.workers.lost += 1
            if self.workers.lost > _OFTEN * len(self.workers.actors):
                raise ClusterError(
                    f"{self.workers.lost} workers were lost one after the other: {error}"
                ) from error
        for unit in reversed(units):
            self.losses[unit.key] += 1
            if self.losses[unit.key] < _OFTEN * _AHEAD:
                self.todo.appendleft(unit)
            else:
                self.left_out.append(unit)
                self.held.pop(unit.key).close()


def _count(ray: Any, cluster: Cluster) -> int:
    """How many workers: as many as were asked for, or as fit."""
    if cluster.workers is not None:
        return cluster.workers
    has: dict[str, float] = ray.cluster_resources()
    needs = (("CPU", cluster.cpus), ("GPU", cluster.gpus))
    room = [int(has.get(name, 0) / share) for name, share in needs if share]
    if not room or min(room) < 1:
        raise ClusterError(
            f"a worker with cpus={cluster.cpus} and gpus={cluster.gpus} does not fit the cluster,"
            f" which has {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs"
        )
    return min(room)
