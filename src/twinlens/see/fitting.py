"""Fitting step by step, so that it can stop anywhere and go on to the same result, bit by bit."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from twinlens.errors import LensError, ResultFileError
from twinlens.results.writing import replacing
from twinlens.run.batches import Progress, counting

_SECONDS = 20.0  # between two checkpoints
_HEADER = "twinlens_fit"


class Fit(ABC):
    """A fit of `steps` steps. Each changes only what `state` holds, and depends on nothing else."""

    steps: int

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All that the steps so far have made."""

    @abstractmethod
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a state; raises `KeyError` or `ValueError` where it is another fit's."""

    @abstractmethod
    def step(self, number: int) -> None:
        """Do step `number` (from 0)."""

    @abstractmethod
    def maps(self) -> dict[str, np.ndarray]:
        """`matrix`, `reading`, `bias`, `kept` of the `FittedLens` that the steps have made."""


class Checkpoint:
    """A file that holds how far a fit is. `identity` says which fit: all that its result hangs on.

    The file appears whole or not at all.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, self.identity = path, dict(identity)

    def load(self, fit: Fit) -> int:
        """Bring a fit to where the file says; returns the steps done, 0 where there is no file.

        Raises `LensError` where the file is of another fit, `ResultFileError` where it is damaged.
        """
        if not self.path.exists():
            return 0
        header, tensors = self._read()
        other = {k for k in self.identity if header["identity"].get(k) != self.identity[k]}
        if other:
            name = sorted(other)[0]
            raise LensError(
                f"{self.path} is half of another fit: its {name} is"
                f" {header['identity'].get(name)!r}, not {self.identity[name]!r}; go on with that"
                " one, or delete the file"
            )
        try:
            if not 0 <= header["done"] <= fit.steps:
                raise ValueError(f"it has {header['done']} of {fit.steps} steps")
            fit.restore(tensors)
        except (KeyError, ValueError) as error:
            raise ResultFileError(f"{self.path} is damaged: {error}; delete it") from error
        return header["done"]

    def save(self, fit: Fit, done: int) -> None:
        """Write the file anew."""
        from safetensors.torch import save

        header = json.dumps({"identity": self.identity, "done": done})
        tensors = {name: value.detach().contiguous() for name, value in fit.state().items()}
        payload = save(tensors, metadata={_HEADER: header})
        with replacing(self.path) as temporary:
            temporary.write_bytes(payload)

    def clear(self) -> None:
        """Remove the file: the fit is done."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                header = json.loads((file.metadata() or {})[_HEADER])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if not isinstance(header["identity"], dict) or not isinstance(header["done"], int):
                raise ValueError("its header is not that of a fit")
        except (SafetensorError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise ResultFileError(
                f"{self.path} is damaged or no fit of twinlens: {error}; delete it to start anew"
            ) from error
        return header, tensors


def taken(state: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """A copy of a tensor of a state, as the fit holds its own; `ValueError` for another shape."""
    value = state[name]
    if value.shape != like.shape or not value.is_floating_point():
        raise ValueError(f"{name} is {value.dtype} {tuple(value.shape)}, not {tuple(like.shape)}")
    return value.to(like, copy=True)


def run(fit: Fit, checkpoint: Checkpoint | None, label: str, progress: Progress) -> None:
    """Do all steps that are not done yet, with a checkpoint now and then."""
    done = 0 if checkpoint is None else checkpoint.load(fit)
    saved = time.monotonic()
    with counting(fit.steps, label, progress) as advance:
        advance(done)
        for number in range(done, fit.steps):
            fit.step(number)
            if checkpoint is not None and time.monotonic() - saved >= _SECONDS:
                checkpoint.save(fit, number + 1)
                saved = time.monotonic()
            advance(1)
