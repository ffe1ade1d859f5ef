"""Whatever ends a sweep, the same command finishes it, and the store is as if nothing had been."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import twinlens as tl
from tests.sweep.interrupted import KILLS
from twinlens.sweep.tables import TABLES

pytest.importorskip("pyarrow")
pytest.importorskip("polars")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="forks, and kills with a signal"),
]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory) -> tuple[Path, dict]:
    root = tmp_path_factory.mktemp("sweeps")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.sweep.interrupted", str(root)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return root, json.loads(done.stdout.splitlines()[-1])


def same_store(one: Path, other: Path) -> bool:
    return all(
        (one / f"{t}.parquet").read_bytes() == (other / f"{t}.parquet").read_bytes() for t in TABLES
    )


def test_a_sweep_that_was_killed_twenty_times_has_the_store_of_a_calm_one(outcome):
    root, told = outcome
    assert told["kills"] == KILLS
    assert len(tl.open_run(root / "calm").facts) == told["facts"]
    assert same_store(root / "killed", root / "calm")
    assert not list((root / "killed" / "parts").iterdir())


def test_two_processes_share_the_work_and_do_nothing_twice(outcome):
    root, told = outcome
    first, second = told["did"]
    assert first
    assert second
    assert sorted(first + second) == list(range(told["facts"]))
    assert same_store(root / "two", root / "calm")
