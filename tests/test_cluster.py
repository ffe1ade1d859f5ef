"""A cluster does what one process does, to the last bit, and loses nothing with a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

import twinlens as tl
from tests.contest.small import fewer, small_tournament
from tests.sweep.interrupted import tiny
from twinlens.contest import tournament
from twinlens.errors import ClusterError, InputError
from twinlens.sweep import sweeping
from twinlens.sweep.tables import TABLES

pytest.importorskip("pyarrow")
pytest.importorskip("polars")

task = tournament._task
FACTS = [
    {"prompt": f"{subject} {rest}", "subject": subject}
    for subject in ("Lily", "Paris", "The park")
    for rest in ("loved to", "is in the", "said that")
]
FEW = {
    "measure": ["trace"], "kinds": ["block"], "corruption": tl.Noise(samples=2), "threads": 1,
}  # fmt: skip


def test_a_cluster_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(InputError, match="workers=0"):
        tl.Cluster("hamlet", workers=0)
    pytest.importorskip("ray")
    with pytest.raises(ClusterError, match=r"no Ray cluster at 127.0.0.1:1: "):
        tl.sweep_facts(tl.Cluster("hamlet", address="127.0.0.1:1"), FACTS, tmp_path / "x", **FEW)


@pytest.fixture(scope="module")
def ray():
    """Ray on this machine, with room for two workers."""
    module = pytest.importorskip("ray")
    module.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield module
    module.shutdown()


@pytest.mark.slow
def test_two_workers_of_which_one_is_lost(ray, tmp_path, monkeypatch):
    model = tiny()
    model.hf.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    alone = tl.sweep_facts(model, FACTS, tmp_path / "alone", progress=False, **FEW)
    driver, lost = sweeping.run_on_cluster, []

    def kill_one(workers, plan, folder, told):
        def kill_after_two(made):
            told(made)
            if folder._put == 2:
                lost.append(workers.actors[0])
                ray.kill(workers.actors[0])

        left = driver(workers, plan, folder, kill_after_two)
        assert lost[0] not in workers.actors
        assert len(workers.actors) == 2
        return left

    monkeypatch.setattr(sweeping, "run_on_cluster", kill_one)
    cluster = tl.Cluster(str(tmp_path / "model"), workers=2)
    told: list[int] = []
    tl.sweep_facts(
        cluster, FACTS, tmp_path / "ray", progress=lambda done, _: told.append(done), **FEW
    )
    assert lost
    assert told == list(range(1, len(FACTS) + 1))
    assert alone.counts()["measured"] == len(FACTS)
    for name in TABLES:
        ours, theirs = (tmp_path / run / f"{name}.parquet" for run in ("alone", "ray"))
        assert ours.read_bytes() == theirs.read_bytes()


def task_of_few(source, options, played, path, unit):
    """A worker's task, with as little of red's text and check as here."""
    with pytest.MonkeyPatch.context() as patched:
        fewer(patched, Path(path).parent / "cache")
        return task(source, options, played, path, unit)


@pytest.mark.slow
def test_a_worker_plays_the_cells_of_a_tournament(ray, tmp_path, gpt2, monkeypatch):
    fewer(monkeypatch, tmp_path / "cache")
    monkeypatch.setattr(tournament, "_task", task_of_few)
    source, played = tmp_path / "model", small_tournament(tmp_path, "noise")
    gpt2.hf.save_pretrained(source)
    gpt2.tokenizer.save_pretrained(source)
    cluster, told = tl.Cluster(str(source), workers=1), []
    tl.run_tournament(cluster, played, tmp_path / "ray", told=told.append)
    tl.run_tournament(tl.load(source), played, tmp_path / "alone")
    here, there = (tournament.read_cells(tmp_path / name) for name in ("alone", "ray"))
    assert told == there
    assert [one | {"seconds": None} for one in here] == [one | {"seconds": None} for one in there]
    again = []  # nothing is left to be played
    tl.run_tournament(cluster, played, tmp_path / "ray", told=again.append)
    assert again == []
