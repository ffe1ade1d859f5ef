"""How long each command takes on hamlet, the bundled model, from the prompt to the prompt.

    python benchmarks/commands.py [--only look,use] [--rounds 1] [--threads 1] [--wrong]

Each command runs as a user runs it, in a process of its own, so the import of torch and
transformers (the first rows say how long that alone takes) is in every number. Long ones are asked
for little: the command that was timed is printed beside its time. `--wrong`: wrong inputs instead,
which should be refused before anything is computed. Times depend on the machine: compare rows of
one run. On a busy one the seconds of the CPU (of the process and its children) say more than those
of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import twinlens as tl

PROMPT = '"The Silent Tower is in the city of"'
FACT = f'--prompt {PROMPT} -s "Silent Tower" --target " Osterly"'
COMMANDS = [  # a name, and what is typed; files of earlier ones are used by later ones
    ("--version", "--version"),
    ("look --help", "look --help"),
    ("look", "look"),
    ("look", f'look {PROMPT} -s "Silent Tower" -o twin.html --save kept'),
    ("look", f'look {PROMPT} -s "Silent Tower" --neurons'),
    ("look", f'look {PROMPT} -s "Silent Tower" --ablate 2.MLP'),
    ("draw", "draw kept/lens.safetensors kept/trace.safetensors -o twin.svg"),
    ("convert", "convert kept/lens.safetensors -o again.safetensors"),
    ("check", "check"),
    ("neuron", f"neuron hamlet 4.112 --prompt {PROMPT}"),
    ("heads", "heads"),
    ("recur", "recur"),
    ("recur", "recur -o recur.html"),
    ("lens fit", "lens fit --text some.jsonl --steps 20 -o tuned.safetensors"),
    ("lens report", "lens report --text few.jsonl --lens tuned.safetensors"),
    ("sweep", "sweep hamlet --limit 10 -o run"),
    ("summarize", "summarize run -o run.png"),
    ("use", "use --text few.jsonl -o use.png"),
    ("edit", f"edit --layer 2 {FACT} --text some.jsonl -o edited"),
    ("undo", "undo edited --to 0"),
    ("gate", "gate hamlet edited --text gate.jsonl"),
    (
        "scrub",
        "scrub --text few.jsonl --gate gate.jsonl --drop-shared --recipe short.toml -o scrubbed",
    ),
    ("shrink", "shrink hamlet --text few.jsonl --pairs 3 -o narrow"),
    ("contest tiers", "contest tiers"),
    ("contest recipes", "contest recipes"),
    ("contest implant", "contest implant --steps 2 -o match"),
    (
        "contest clean",
        "contest clean match/public/model --text match/public/text.jsonl --steps 2 --recipe"
        " fine-tune -o match/blue",
    ),
    ("contest judge", "contest judge match --light"),
    ("contest match", "contest match --red-steps 2 --steps 2 --recipe noise --light -o played"),
    ("contest run", "contest run played.toml -o tournament"),
    ("contest board", "contest board tournament"),
]  # not `serve`, which goes on until Ctrl-C
WRONG = [
    ("no such command", "loook"),
    ("no such option", "look x --subjet y"),
    ("a subject that is not there", f"look {PROMPT} -s Eiffel"),
    ("a name that is misspelt", f"look {PROMPT} -m hamelt"),
    ("an unknown ending", f"look {PROMPT} -o x.gif"),
    ("a text that is not there", "use --text none.txt"),
    ("a file that is no result", "draw gate.jsonl"),
    ("a folder that is taken", "edit --layer 2 --samples 9 -o . " + FACT),
    ("no run", "summarize ."),
]
TOURNAMENT = """
tiers = ["full"]
recipes = ["noise"]
seeds = 1
steps = 2
"""
RECIPE = """
[[stage]]
do = "noise"
scale = 0.01
times = 1
"""


def files(folder: Path) -> None:
    """The texts and the recipe that the commands name."""
    documents = tl.hamlet.text("validation")
    for name, some in (("few", documents[:10]), ("some", documents[:40]), ("gate", documents[40:])):
        lines = "".join(json.dumps({"text": one["text"]}) + "\n" for one in some)
        (folder / f"{name}.jsonl").write_text(lines)
    (folder / "short.toml").write_text(RECIPE)
    (folder / "played.toml").write_text(TOURNAMENT)


class Took(NamedTuple):
    """Seconds by the clock and of the CPU, and the exit code; None: broken off at the limit."""

    clock: float
    cpu: float
    code: int | None


def used() -> float:
    """Seconds of the CPU that ended children have had (0 on Windows)."""
    return sum(os.times()[2:4])


def run(typed: str, folder: Path, threads: int, limit: float) -> Took:
    """Run what is typed, as a process of its own."""
    words = [sys.executable, "-m", "twinlens", *shlex.split(typed)]
    about = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    about["PYTHONPATH"] = str(Path(tl.__file__).parents[1])
    started, before = time.perf_counter(), used()
    try:
        done = subprocess.run(words, cwd=folder, env=about, capture_output=True, timeout=limit)
        code = done.returncode
    except subprocess.TimeoutExpired:
        code = None
    return Took(time.perf_counter() - started, used() - before, code)


def main() -> None:
    """Print the table, a row as soon as it was timed."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--only", default="", help="names of commands, with commas between")
    options.add_argument("--rounds", type=int, default=1, help="the median of so many")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--limit", type=float, default=600, help="seconds of one command")
    options.add_argument("--wrong", action="store_true", help="time refusals")
    given = options.parse_args()
    only = {name.strip() for name in given.only.split(",") if name.strip()}
    print(f"{platform.machine()} with {os.cpu_count()} CPUs, threads: {given.threads}")
    print("| command | seconds | of the CPU | exit code |\n|---|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory(prefix="twinlens-") as name:
        folder = Path(name)
        files(folder)
        for title, typed in WRONG if given.wrong else COMMANDS:
            if only and title not in only:
                continue
            took = [run(typed, folder, given.threads, given.limit) for _ in range(given.rounds)]
            clock, cpu = (statistics.median(one[n] for one in took) for n in (0, 1))
            shown = f"{title}: `{typed}`" if given.wrong else f"`twinlens {typed}`"
            ended = "broken off" if took[-1].code is None else took[-1].code
            print(f"| {shown} | {clock:.1f} | {cpu:.1f} | {ended} |", flush=True)


if __name__ == "__main__":
    main()
