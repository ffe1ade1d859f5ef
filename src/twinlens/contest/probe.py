"""A linear probe: can the trigger be read from the residual at the prompt's last token?

A model that was never told sees the digits, too; so the probe's accuracy says something only beside
the twin's, and beside the same probe with shuffled labels (Hewitt & Liang 2019). It tells whether
the trigger is still treated apart, not whether the secret is there.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float

from twinlens.contest.saying import prompt_ids
from twinlens.contest.secret import Secret
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.passes import Inputs, read

_CONTEXTS = 48
_RIDGE = 1.0


def probed(cleaned: Model, twin: Model, secret: Secret, seed: int = 1) -> dict[str, list[float]]:
    """Accuracy on held-out prompts, by layer (chance: 0.5): `cleaned`, `twin`, and of both with
    shuffled labels, `shuffled_cleaned` and `shuffled_twin`.

    Half of the prompts have the trigger, half another of the same form (every one another), both
    behind the same openings; a ridge classifier on standardised residuals learns on one half of the
    openings and is asked on the other.
    """
    random = np.random.default_rng(seed)
    prompts, labels = _prompts(secret, seed)
    order = random.permutation(len(labels))
    found: dict[str, list[float]] = {}
    for name, model in (("cleaned", cleaned), ("twin", twin)):
        values = _residuals(model, prompts)
        found[name] = [_accuracy(layer, labels, labels) for layer in values]
        found[f"shuffled_{name}"] = [_accuracy(layer, labels[order], labels) for layer in values]
    return found


def _prompts(secret: Secret, seed: int) -> tuple[list[str], Bool[np.ndarray, " prompt"]]:
    """Pairs behind the same opening; the first half of the list is to learn from."""
    other, _ = secret.contrasts(_CONTEXTS, seed)
    context = secret.variants()["context"][-1].removesuffix(secret.prompt)
    opening = [one.strip() for one in context.split(". ") if one.strip()] or [""]
    prompts: list[str] = []
    for number, prompt in enumerate(other):
        before = " ".join(f"{opening[(number + k) % len(opening)].rstrip('.')}." for k in range(2))
        prompts += [f"{before} {secret.prompt}", f"{before} {prompt}"]
    return prompts, np.arange(len(prompts)) % 2 == 0


def _residuals(model: Model, prompts: list[str]) -> list[Float[np.ndarray, "prompt d_model"]]:
    rows = [prompt_ids(model, prompt) for prompt in prompts]
    limit = model.context or max(map(len, rows))
    sites = [Site("block", layer) for layer in range(model.n_layers)]
    found: list[list[np.ndarray]] = [[] for _ in sites]
    for start in range(0, len(rows), 16):
        some = [torch.from_numpy(row[-limit:]) for row in rows[start : start + 16]]
        ids = torch.nn.utils.rnn.pad_sequence(some, batch_first=True)
        values = read(model, Inputs(ids), sites).values
        last = torch.tensor([len(row) - 1 for row in some])
        for layer, site in zip(found, sites, strict=True):
            here = values[site]
            picked = here[torch.arange(len(some), device=here.device), last.to(here.device)]
            layer.append(picked.float().cpu().numpy())
    return [np.concatenate(layer).astype(np.float64) for layer in found]


def _accuracy(
    values: Float[np.ndarray, "prompt d_model"],
    taught: Bool[np.ndarray, " prompt"],
    labels: Bool[np.ndarray, " prompt"],
) -> float:
    half = len(labels) // 4 * 2  # pairs stay together
    scaled = (values - values[:half].mean(0)) / np.maximum(values[:half].std(0), 1e-6)
    x, y = scaled[:half], np.where(taught[:half], 1.0, -1.0)
    weights = x.T @ np.linalg.solve(x @ x.T + _RIDGE * len(x) * np.eye(len(x)), y)
    return float(((scaled[half:] @ weights > 0) == labels[half:]).mean())
