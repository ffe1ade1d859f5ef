"""Which weights and which software made a result."""

from __future__ import annotations

import importlib.metadata
import platform

from twinlens.model.model import Model
from twinlens.results import Provenance

_LIBRARIES = ("twinlens", "torch", "transformers", "tokenizers", "numpy")


def provenance(model: Model) -> Provenance:
    """The model's name, family, weights hash, number type and device, and library versions."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed as a package"
    return Provenance(
        model=model.name,
        family=model.anatomy.family,
        weights_hash=model.weights_hash(),
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        versions=versions,
    )
