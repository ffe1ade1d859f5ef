"""Real processes: Ctrl-C at any moment, a full standard output, and no orphan of a match."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals, /dev/full, /proc")
COMMAND = [sys.executable, "-m", "twinlens"]


@pytest.mark.parametrize("seconds", [0.15, 0.6, 2.0])
def test_ctrl_c_while_it_starts_is_told_in_a_line(seconds):
    process = subprocess.Popen([*COMMAND, "look"], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_for_main(process.pid)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.decode().strip().splitlines()[-1].startswith("twinlens: interrupted")
    assert b"Traceback" not in told


def wait_for_main(pid: int) -> None:
    """Until our own code runs, which takes the signal to end."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        caught = int(next(one for one in lines if one.startswith("SigCgt")).split()[1], 16)
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.002)
    raise AssertionError("the command does not start")


def test_a_full_standard_output_is_told_in_a_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "look", "--help"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    assert done.stderr.decode().strip() == "twinlens: No space left on device"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_ends_with_the_one_that_started_it(end):
    """As blue's does in a match."""
    script = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; import twinlens.__main__ as"
        " m; m.end_with_parent(); print(1, flush=True); time.sleep(60)'],\n"
        "    stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,\n"
        "    env=os.environ | {'TWINLENS_LIFELINE': 'stdin'})\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(end)
    parent.wait(60)
    until = time.monotonic() + 30
    while lives(child) and time.monotonic() < until:
        time.sleep(0.01)
    assert not lives(child)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_blue_ends_when_its_match_is_interrupted(tmp_path, monkeypatch):
    """The process that is started for blue, in place of which a sleeper is put here."""
    from twinlens.contest import match

    sleeper = tmp_path / "sleeper"
    sleeper.write_text(f"#!/bin/sh\necho $$ > {tmp_path / 'pid'}\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(match.sys, "executable", str(sleeper))
    asked = {"recipe": "noise", "dose": 1, "cost": 1, "seed": 1,
             "budget": {"steps": 1, "lr": 1, "batch_tokens": 1, "length": 1, "own": 0}}  # fmt: skip

    def interrupt(*_args):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        with pytest.raises(KeyboardInterrupt):
            match._run_blue(tmp_path, asked, "cpu", quiet=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert not lives(int((tmp_path / "pid").read_text()))
    assert os.environ.get("TWINLENS_LIFELINE") is None
