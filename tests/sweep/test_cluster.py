"""A cluster does what one process does, to the last bit, and loses nothing with a worker."""

from __future__ import annotations

import pytest

import twinlens as tl
from tests.sweep.interrupted import tiny
from twinlens.errors import ClusterError, InputError
from twinlens.sweep import sweeping
from twinlens.sweep.tables import TABLES

pytest.importorskip("pyarrow")
pytest.importorskip("polars")

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
    """Ray on this machine, with room for three workers."""
    module = pytest.importorskip("ray")
    module.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
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
