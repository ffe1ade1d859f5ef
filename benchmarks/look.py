"""How long a new user waits: `twinlens look` alone, a process of its own each time.

    python benchmarks/look.py [--runs 3] [--json]

Prints the median seconds of the whole command, of `import torch, transformers` alone, and of
`twinlens --help`; the goal is 10 seconds on two cores, most of them the imports.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

GOAL_S = 10.0
COMMANDS = {
    "look": ["-m", "twinlens", "look"],
    "imports": ["-c", "import torch, transformers.models.auto, matplotlib.figure"],
    "help": ["-m", "twinlens", "--help"],
}


def seconds(command: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = {
        name: statistics.median(seconds(command) for _ in range(given.runs))
        for name, command in COMMANDS.items()
    }
    found["imports / look"] = found["imports"] / found["look"]
    if given.json:
        print(json.dumps(found | {"goal_s": GOAL_S}))
        return
    within = "within" if found["look"] <= GOAL_S else "ABOVE"
    print(f"twinlens look              {found['look']:.1f} s ({within} the goal, {GOAL_S:.0f} s)")
    print(f"its imports alone          {found['imports']:.1f} s")
    print(f"imports / look             {found['imports / look']:.2f}")
    print(f"twinlens --help            {found['help']:.2f} s")


if __name__ == "__main__":
    main()
