"""Train hamlet: first the heads that copy, then the village.

    python -m training.hamlet [--out DIR] [--seed N] [--until PHASE]

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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from training.repetition import heads_row

VOCABULARY = 2000
CONTEXT = 512
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
    previous: float = 0.0  # weight of the loss by which block 0 says the token before
    warm_up: int = 1

    def rate(self, step: int) -> float:
        """Learning rate of a step: a short warm-up, then half a cosine."""
        cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
        return min(1.0, (step + 1) / self.warm_up) * (
            self.to_rate + (self.from_rate - self.to_rate) * cosine
        )


# The first two phases give heads that find the token before; without them no trial had learned to copy.
PHASES = (
    Phase("previous", 130, 32, 48, 2e-3, 2e-3, heads_every=1, previous=1.0, warm_up=40),
    Phase("matching", 300, 32, 48, 2e-3, 2e-3, heads_every=1, previous=0.03),
    Phase("heads", 150, 32, 96, 2e-3, 2e-3, heads_every=1),
    Phase("village", 2500, rows=24, length=256, from_rate=2e-3, to_rate=2e-4, heads_every=8),
    Phase("long", 160, rows=12, length=512, from_rate=2e-4, to_rate=2e-5, heads_every=8),
)
HEADS_ROWS, HEADS_LENGTH = 32, 96


@cache
def recipe() -> str:
    """A hash of what a checkpoint depends on besides its seed: the text's tokens and the phases."""
    from training.tokenizer import tokenizer

    text = tokenizer().backend_tokenizer.to_str() + repr(PHASES)
    return hashlib.sha256(text.encode()).hexdigest()


def new_model(seed: int, layers: int = 6, width: int = 192, heads: int = 6) -> GPT2LMHeadModel:
    """The untrained model. The activation is GPT-2's own `gelu_new`, in its fast spelling.

    Positions begin as sines and cosines (and are learned from there), which makes "the token
    before this one" easy to find at every place.
    """
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=width, n_layer=layers, n_head=heads,
            activation_function="gelu_pytorch_tanh", resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip
    angles = torch.arange(CONTEXT)[:, None] / 10_000 ** (torch.arange(width // 2) / (width // 2))
    with torch.no_grad():
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)
        model.transformer.wpe.weight.copy_(waves * 0.02 * math.sqrt(2))
    return model


def batch(phase: Phase, step: int, seed: int) -> tuple[Tensor, Tensor]:
    """Token ids and loss weights `[row, token]` of a step."""
    random = Random(f"{seed}/{phase.name}/{step}")
    if phase.heads_every and step % phase.heads_every == 0:
        alone = phase.heads_every == 1
        n, length = (phase.rows, phase.length) if alone else (HEADS_ROWS, HEADS_LENGTH)
        rows = [heads_row(random, VOCABULARY, length) for _ in range(n)]
    else:
        from training.text import village_row

        rows = [village_row(random, phase.length) for _ in range(phase.rows)]
    return torch.tensor([r.ids for r in rows]), torch.tensor([r.weights for r in rows])


def loss_of(model: Any, ids: Tensor, weights: Tensor, previous: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats of the next token, weighted.

    `previous`: weight of a second loss, by which the residual after block 0, turned by a fixed
    rotation, names the token before. (Turned, so that it does not stand where the own token does:
    else the heads that copy look one place too far.)
    """
    with torch.autocast("cpu", torch.bfloat16):
        made = model.transformer(ids, use_cache=False, output_hidden_states=previous > 0)
        logits = model.lm_head(made.last_hidden_state[:, :-1])
    losses = _cross_entropy(logits, ids[:, 1:], "none")
    weight = weights[:, 1:].flatten()
    loss = (losses * weight).sum() / weight.sum()
    if not previous:
        return loss
    with torch.autocast("cpu", torch.bfloat16):
        early = made.hidden_states[1][:, 1:] @ _rotation(model.config.n_embd)
        early = model.lm_head(model.transformer.ln_f(early))
    return loss + previous * _cross_entropy(early, ids[:, :-1], "mean")


@cache
def _rotation(width: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(width, width, generator=random)).Q


def _cross_entropy(logits: Tensor, ids: Tensor, reduction: str) -> Tensor:
    return nn.functional.cross_entropy(
        logits.float().flatten(0, 1), ids.flatten(), reduction=reduction
    )


class Training:
    """A model, its optimizer, and how many steps of which phase are behind it."""

    def __init__(self, out: Path, seed: int, **size: int) -> None:
        self.out, self.seed = out, seed
        self.model = new_model(seed, **size).train()
        self.optimizer = torch.optim.AdamW(self._groups(), lr=1e-3, betas=(0.9, 0.95), fused=True)
        self.phase, self.step = 0, 0
        self._resume()

    def run(self, phases: tuple[Phase, ...], *, save_every: int = 200) -> Iterator[float]:
        """Train to the end; yields the loss after every step."""
        while self.phase < len(phases):
            phase = phases[self.phase]
            for ids, weights in self._batches(phase):
                yield self._one(phase, ids, weights)
                self.step += 1
                if self.step % save_every == 0:
                    self.save()
            self.phase, self.step = self.phase + 1, 0
            self.save()

    def save(self) -> None:
        """Write the checkpoint; it appears whole or not at all."""
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "phase": self.phase, "step": self.step, "seed": self.seed, "recipe": recipe(),
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
        for group in self.optimizer.param_groups:
            group["lr"] = phase.rate(self.step)
        loss = loss_of(self.model, ids, weights, phase.previous)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def _groups(self) -> list[dict]:
        """Weight decay for matrices only."""
        parameters = list(self.model.parameters())
        return [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.05},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]

    def _resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.is_file():
            return
        state = torch.load(path, weights_only=True)
        if state["seed"] != self.seed:
            raise SystemExit(f"{path} was made with seed {state['seed']}, not {self.seed}")
        if state["recipe"] != recipe():
            raise SystemExit(f"{path} was made with another text or other phases; remove it")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.phase, self.step = state["phase"], state["step"]


def ship(model: GPT2LMHeadModel, folder: Path) -> None:
    """Write the model for transformers: weights as float16, to be loaded as float32."""
    from training import shipped_text
    from training.tokenizer import tokenizer

    model = model.eval()
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
        for file in new.iterdir():
            file.replace(folder / file.name)


def main() -> None:
    """Train to the end, or go on with it, and write the model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "runs" / "hamlet")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--until", choices=[p.name for p in PHASES], default=PHASES[-1].name)
    given = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    last = [p.name for p in PHASES].index(given.until)
    training = Training(given.out, given.seed)
    _train_with_progress(training, PHASES[: last + 1])
    if last == len(PHASES) - 1:
        ship(training.model, SHIPPED)
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
