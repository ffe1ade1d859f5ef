"""What every result has: the tokens it is about, its settings, its provenance, its way to disk."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, SupportsIndex

import numpy as np
from jaxtyping import Bool, Int

from twinlens.errors import MissingExtraError


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of a prompt. Position and id are the key; the labels are only for eyes.

    `starts` and `ends` are character offsets into `text` (equal where a token covers none, as the
    special tokens that a tokenizer adds); several tokens can share one character (bytes).
    """

    text: str
    ids: Int[np.ndarray, " token"]
    labels: tuple[str, ...]
    starts: Int[np.ndarray, " token"]
    ends: Int[np.ndarray, " token"]
    special: Bool[np.ndarray, " token"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Provenance:
    """Which weights and which software made the numbers."""

    model: str
    family: str
    weights_hash: str
    dtype: str
    device: str
    versions: Mapping[str, str]


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """What every result carries; the arrays are those of the subclass.

    `layers` names the rows of every `[layer, token, ...]` array, top to bottom. `vocabulary` gives
    the label of every token id that occurs in the result. `notes` are warnings a reader must see.
    """

    kind_of_result: ClassVar[str]

    tokens: Tokens
    layers: tuple[str, ...]
    vocabulary: Mapping[int, str]
    settings: Mapping[str, Any]
    provenance: Provenance
    notes: tuple[str, ...] = ()

    def label(self, token_id: SupportsIndex) -> str:
        """The label of a token id that occurs in this result (empty for "no token")."""
        number = int(token_id)
        return self.vocabulary.get(number, "" if number < 0 else f"#{number}")

    def save(self, path: str | Path) -> Path:
        """Write the result to one safetensors file and return its path.

        The file appears whole or not at all. Raises `ResultFileError` where it cannot be written.
        """
        from twinlens.results.storage import save_result

        return save_result(self, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """The whole result as plain lists, numbers and strings (None for "not a number")."""
        from twinlens.results.storage import plain

        return plain(self)

    def to_dataframe(self) -> Any:
        """One row a cell (pandas): layer, token position, id, label, then the numbers.

        Raises `MissingExtraError` without pandas (`pip install twinlens[data]`).
        """
        return optional("pandas", "data").DataFrame(self._columns())

    def to_xarray(self) -> Any:
        """The arrays with named dimensions and coordinates (xarray).

        Raises `MissingExtraError` without xarray (`pip install twinlens[data]`).
        """
        xarray = optional("xarray", "data")
        labels = ("token", list(self.tokens.labels))
        coords = {"layer": list(self.layers), "token_id": ("token", self.tokens.ids)}
        return xarray.Dataset(self._variables(), coords={**coords, "label": labels})

    def _variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        raise NotImplementedError

    def _columns(self) -> dict[str, Any]:
        n_layers, n_tokens = len(self.layers), len(self.tokens)
        columns: dict[str, Any] = {
            "layer": np.repeat(np.array(self.layers), n_tokens),
            "token": np.tile(np.arange(n_tokens), n_layers),
            "token_id": np.tile(self.tokens.ids, n_layers),
            "label": np.tile(np.array(self.tokens.labels), n_layers),
        }
        for name, (dims, values) in self._variables().items():
            if dims == ("layer", "token"):
                columns[name] = values.reshape(-1)
        return columns


def optional(module: str, extra: str) -> Any:
    """Import a module that an extra brings, or say which one."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} is not installed; `pip install 'twinlens[{extra}]'` brings it"
        ) from error
