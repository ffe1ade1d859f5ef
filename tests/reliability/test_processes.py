"""Real processes: Ctrl-C at any moment, a full standard output, and no orphan of a match."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals, /dev/full, /proc")
COMMAND = [sys.executable, "-m", "twinlens"]


@pytest.mark.parametrize("moment", ["runs", "libtorch", "printed"])
def test_ctrl_c_at_any_moment_is_told_in_a_line(moment, tmp_path):
    """When our code has begun, torch is being imported, or the picture is still to be drawn."""
    process = subprocess.Popen(
        [*COMMAND, "look", "The clay went to", "-o", "look.png"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    if moment == "printed":
        assert process.stdout.read(1)
    elif moment == "runs":
        wait(lambda: takes_sigterm(process.pid))
    else:
        wait(lambda: moment in Path(f"/proc/{process.pid}/maps").read_text())
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.decode().strip().splitlines()[-1].startswith("twinlens: interrupted")
    assert b"Traceback" not in told
    assert not list(tmp_path.iterdir())


def takes_sigterm(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = int(next(one for one in lines if one.startswith("SigCgt")).split()[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def wait(until: Callable[[], bool], seconds: float = 60) -> None:
    """Until that holds."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.002)


# What a command may do, as a script that is given to Python.
LOUD = """
import sys
from rich.console import Console
from twinlens.cli.app import app, main
from twinlens.errors import InputError

@app.command
def loud(end: str):
    for number in range(40):
        Console().print(f"line {number} " + 60 * "x")
    Console(stderr=True).print("goes on")
    print("last")
    if end == "wrong":
        raise InputError("wrong")
    if end == "system":
        raise OSError(71, "Protocol error")
    return int(end)

main(sys.argv[1:])
"""


@pytest.mark.parametrize(("end", "code"), [("0", 0), ("1", 1), ("wrong", 2), ("system", 2)])
@pytest.mark.parametrize("how", [(), ("-u",)], ids=["", "-u"])
def test_who_reads_no_more_changes_neither_the_work_nor_its_code(end, code, how):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, *how, "-c", LOUD, "loud", end],
        stdout=writing, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writing)
    assert done.returncode == code, done.stderr
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "goes on"
    messages = {"wrong": ["twinlens: wrong"], "system": ["twinlens: Protocol error"]}
    assert lines[1:] == messages.get(end, [])


def test_what_was_printed_before_an_error_of_the_system_is_kept():
    done = subprocess.run(
        [sys.executable, "-c", LOUD, "loud", "system"], capture_output=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout.decode().splitlines()[-1] == "last"


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
    wait(lambda: not lives(child), 30)


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

    def interrupt_when_it_runs() -> None:
        wait(lambda: pid.exists() and pid.read_text().endswith("\n"))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    pid = tmp_path / "pid"
    old = signal.signal(signal.SIGUSR1, interrupt)
    watcher = threading.Thread(target=interrupt_when_it_runs)
    try:
        watcher.start()
        with pytest.raises(KeyboardInterrupt):
            match._run_blue(tmp_path, asked, "cpu", quiet=True)
    finally:
        watcher.join()
        signal.signal(signal.SIGUSR1, old)
    assert not lives(int(pid.read_text()))
    assert os.environ.get("TWINLENS_LIFELINE") is None
