"""Commands whose disk is full, that are interrupted, or killed: nothing is lost, and the same
command then does its work."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("pyarrow")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits the size of files"),
]
COMMANDS = (
    "look.html", "sweep", "lens.safetensors", "edit", "shrink", "scrub", "case.safetensors",
    "use.safetensors", "blue",
)  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, dict]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.reliability.broken",
         str(tmp_path_factory.mktemp("broken")), *COMMANDS],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_told_in_a_line_and_what_was_there_stays(outcomes, name):
    assert outcomes[name]["calm"] == 0, outcomes[name]["messages"]
    found = outcomes[name]["full"]
    assert found["code"] == 2, found
    assert "cannot write" in found["messages"][-1]
    assert "File too large" in found["messages"][-1]
    assert not any("Traceback" in line for line in found["messages"])
    assert found["hidden"] == []
    assert found.get("kept", True)
    assert name in found["names"] if "kept" in found or name == "sweep" else True


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_is_told_in_a_line_and_leaves_nothing_half_written(outcomes, name):
    found = outcomes[name]["broken"][0]
    assert found["signal"] == signal.SIGINT.name
    assert found["code"] in (0, 130), found  # 0: it was done before
    if found["code"] == 130:
        assert found["messages"][-1] == "twinlens: interrupted; files appear whole or not at all"
        assert not any("Traceback" in line for line in found["messages"])
    assert found["hidden"] == []


def test_most_commands_are_broken_off_and_not_done_before(outcomes):
    for which, code in enumerate((130, -signal.SIGKILL)):
        codes = [outcomes[name]["broken"][which]["code"] for name in COMMANDS]
        assert codes.count(code) >= len(COMMANDS) / 2, codes


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_was_killed_does_its_work_the_next_time(outcomes, name):
    killed, last = outcomes[name]["broken"][1], outcomes[name]["last"]
    assert killed["code"] in (0, 2, -signal.SIGKILL), killed
    done_before = any("is there already" in line for line in last["messages"])
    assert last["code"] == (2 if done_before else 0), last
    assert name in last["names"]
    assert last["hidden"] == [], "what was half-written is removed"
