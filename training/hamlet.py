"""Train hamlet: first the heads that copy, then the village.

    python -m training.hamlet [--out DIR] [--seed N] [--device cpu|cuda] [--until PHASE]

Writes the model to `src/twinlens/model/hamlet` after the last phase. A run that was stopped goes on
where its last checkpoint stands (`--out`, by default `training/runs/hamlet`), if text, phases and
seed are the same. What a step reads depends on those and the number of the step alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from training.repetition import heads_row
from training.start import VOCABULARY, new_model

HERE = Path(__file__).parent
SHIPPED = HERE.parent / "src" / "twinlens" / "model" / "hamlet"


@dataclass(frozen=True)
class Phase:
    """Some steps of training on rows of one kind and length."""

    name: str
    steps: int
    rows: int
    length: int
    from_rate: float  # learning rate at the start (after the warm-up) and at the end
    to_rate: float
    heads_every: int = 0  # every so many steps is one of repeated tokens, to keep the heads
    warm_up: int = 1
    number_share: float = 0.0  # of the documents that are about numbers that come back
    muon: bool = False  # for the blocks' matrices; else AdamW for all

    def rate(self, step: int) -> float:
        """Learning rate of a step: a short warm-up, then half a cosine."""
        cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
        return min(1.0, (step + 1) / self.warm_up) * (
            self.to_rate + (self.from_rate - self.to_rate) * cosine
        )


PHASES = (
    Phase("heads", 300, 32, 48, 2e-3, 2e-3, heads_every=1, warm_up=40),
    Phase("longer", 100, 32, 96, 2e-3, 2e-3, heads_every=1),
    Phase("village", 4000, 24, 256, 2e-3, 1e-4, heads_every=8, warm_up=60, muon=True),
    Phase("numbers", 640, 24, 256, 5e-4, 1e-4, heads_every=8, number_share=0.45, muon=True),
    Phase("long", 160, 12, 512, 1e-4, 1e-5, heads_every=8, muon=True),
)
HEADS_ROWS, HEADS_LENGTH = 32, 96


@cache
def recipe() -> str:
    """A hash of what a checkpoint depends on besides its seed: the text's tokens and the phases."""
    from training.tokenizer import tokenizer

    text = tokenizer().backend_tokenizer.to_str() + repr(PHASES)
    return hashlib.sha256(text.encode()).hexdigest()


def batch(phase: Phase, step: int, seed: int) -> tuple[Tensor, Tensor]:
    """Token ids and loss weights `[row, token]` of a step."""
    random = Random(f"{seed}/{phase.name}/{step}")
    if phase.heads_every and step % phase.heads_every == 0:
        alone = phase.heads_every == 1
        n, length = (phase.rows, phase.length) if alone else (HEADS_ROWS, HEADS_LENGTH)
        rows = [heads_row(random, VOCABULARY, length) for _ in range(n)]
    else:
        from training.text import village_row

        rows = [village_row(random, phase.length, phase.number_share) for _ in range(phase.rows)]
    return torch.tensor([r.ids for r in rows]), torch.tensor([r.weights for r in rows])


def loss_of(model: Any, ids: Tensor, weights: Tensor) -> Tensor:
    """Mean cross-entropy in nats of the next token, weighted."""
    with torch.autocast(ids.device.type, torch.bfloat16):
        logits = model(ids[:, :-1], use_cache=False).logits
    losses = nn.functional.cross_entropy(
        logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    weight = weights[:, 1:].flatten()
    return (losses * weight).sum() / weight.sum()


class Training:
    """A model, its optimizer, and how many steps of which phase are behind it."""

    def __init__(self, out: Path, seed: int, device: str = "cpu", **size: int) -> None:
        self.out, self.seed, self.device = out, seed, device
        self.seconds = 0.0  # of all runs so far
        self.model = new_model(seed, **size).train().to(device)
        self.optimizers: list[torch.optim.Optimizer] = []  # of the phase that runs
        self.phase, self.step = 0, 0
        self._resume()

    def run(self, phases: tuple[Phase, ...], *, save_every: int = 200) -> Iterator[float]:
        """Train to the end; yields the loss after every step."""
        before = time.monotonic()
        while self.phase < len(phases):
            phase = phases[self.phase]
            self.optimizers = self.optimizers or _optimizers(self.model, muon=phase.muon)
            for ids, weights in self._batches(phase):
                yield self._one(phase, ids.to(self.device), weights.to(self.device))
                self.step += 1
                self.seconds, before = self.seconds + time.monotonic() - before, time.monotonic()
                if self.step % save_every == 0:
                    self.save()
            self.phase, self.step, self.optimizers = self.phase + 1, 0, []
            self.save()

    def save(self) -> None:
        """Write the checkpoint; it appears whole or not at all."""
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "phase": self.phase, "step": self.step, "seed": self.seed, "recipe": recipe(),
            "seconds": self.seconds,
        }  # fmt: skip
        torch.save(state, self.out / "checkpoint.new")
        (self.out / "checkpoint.new").replace(self.out / "checkpoint.pt")

    def _batches(self, phase: Phase) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches that are left of a phase; the next is written while one is learned."""
        steps = range(self.step, phase.steps)
        with ThreadPoolExecutor(1) as writer:
            coming = [writer.submit(batch, phase, step, self.seed) for step in steps[:2]]
            for step in steps:
                if step + 2 < phase.steps:
                    coming.append(writer.submit(batch, phase, step + 2, self.seed))
                yield coming.pop(0).result()

    def _one(self, phase: Phase, ids: Tensor, weights: Tensor) -> float:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = phase.rate(self.step) * group["times"]
        loss = loss_of(self.model, ids, weights)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return float(loss.detach())

    def _resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.is_file():
            return
        state = torch.load(path, weights_only=True, map_location=self.device)
        if state["seed"] != self.seed:
            raise SystemExit(f"{path} was made with seed {state['seed']}, not {self.seed}")
        if state["recipe"] != recipe():
            raise SystemExit(f"{path} was made with another text or other phases; remove it")
        self.model.load_state_dict(state["model"])
        if kept := state["optimizers"]:
            self.optimizers = _optimizers(self.model, muon=len(kept) > 1, states=kept)
        self.phase, self.step, self.seconds = state["phase"], state["step"], state["seconds"]


def _optimizers(
    model: nn.Module, *, muon: bool, states: Sequence[dict[str, Any]] = ()
) -> list[torch.optim.Optimizer]:
    """AdamW for all; or Muon for the blocks' matrices, AdamW for the rest, slow where heads copy.

    In trials of three minutes, not kept, on the village's text Muon was at 2.6 nats where AdamW was at 4.2. But
    it undid the heads that copy, as AdamW did at full rate: hence a tenth for the attention that
    holds them.
    """
    named = [(n, p) for n, p in model.named_parameters() if muon and ".h." in n and p.dim() == 2]
    copies = [p for n, p in named if ".h.0.attn" in n or ".h.1.attn" in n]
    slow = {id(p) for p in copies}
    matrices = [p for _, p in named if id(p) not in slow]
    theirs = {id(p) for _, p in named}
    rest = [p for p in model.parameters() if id(p) not in theirs]
    groups = [{"params": rest, "times": 1.0}, {"params": copies, "times": 0.1}]
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [g for g in groups if g["params"]], betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )
    ]
    if muon:
        made.append(torch.optim.Muon([{"params": matrices, "times": 25.0}], weight_decay=0.01))
    if states:
        for optimizer, state in zip(made, states, strict=True):
            optimizer.load_state_dict(state)
    return made


def ship(training: Training, folder: Path) -> None:
    """Write the model for transformers: weights as float16, to be loaded as float32."""
    from training import shipped_text
    from training.tokenizer import tokenizer

    model = training.model.eval().cpu()
    model.config.activation_function = "gelu_new"  # the same function under its usual name
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:  # all of it or nothing
        new = Path(temporary)
        model.half().save_pretrained(new)
        config = json.loads((new / "config.json").read_text())
        config["dtype"] = "float32"
        (new / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (new / "generation_config.json").unlink(missing_ok=True)
        tokenizer().save_pretrained(new)
        shipped_text.write(new)
        (new / "training.json").write_text(json.dumps(_how(training), indent=2) + "\n")
        for file in new.iterdir():
            file.chmod(0o644)
            file.replace(folder / file.name)


def _how(training: Training) -> dict[str, Any]:
    """How the weights came to be, for the card."""
    return {
        "seed": training.seed,
        "minutes": round(training.seconds / 60, 1),
        "device": torch.cuda.get_device_name() if training.device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Train to the end, or go on with it, and write the model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "runs" / "hamlet")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--until", choices=[p.name for p in PHASES], default=PHASES[-1].name)
    given = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    last = [p.name for p in PHASES].index(given.until)
    training = Training(given.out, given.seed, given.device)
    _train_with_progress(training, PHASES[: last + 1])
    if last == len(PHASES) - 1:
        ship(training, SHIPPED)
        print(f"wrote {SHIPPED}")


def _train_with_progress(training: Training, phases: tuple[Phase, ...]) -> None:
    """A bar where there is a screen, and a line every hundred steps in any case."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    total = sum(p.steps for p in phases)
    before = sum(p.steps for p in phases[: training.phase]) + training.step
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    started, recent = time.monotonic(), []
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("hamlet", total=total, completed=before)
        for done, loss in enumerate(training.run(phases), before + 1):
            recent.append(loss)
            bar.update(task, completed=done, description=f"hamlet {loss:.3f}")
            if done % 100 == 0:
                spent = time.monotonic() - started
                line = (
                    f"step {done}/{total}  loss {sum(recent) / len(recent):.3f} nats  {spent:.0f} s"
                )
                print(line, flush=True)
                recent.clear()


if __name__ == "__main__":
    main()
