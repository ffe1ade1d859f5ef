"""Named arrays of another tool, read with words for what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from twinlens.errors import InputError, TwinlensError

_NUMBERS = "biuf"


class Fields:
    """Arrays by name. A field that holds Python objects is known, and never read."""

    def __init__(self, source: str) -> None:
        self.source = source

    def known(self) -> Iterable[str]:
        """The names."""
        raise NotImplementedError

    def get(self, name: str) -> np.ndarray | None:
        """The array under a name; None where it is missing or holds objects."""
        raise NotImplementedError

    def refuse(self, why: str) -> TwinlensError:
        """The error that says what does not fit."""
        raise NotImplementedError

    def stack(self, name: str) -> Stack:
        """A large array `[layer, token, vocab]` that is read a slice at a time."""
        raise NotImplementedError

    def __contains__(self, name: str) -> bool:
        return name in self.known()

    def needed(self, name: str) -> np.ndarray:
        """The array under a name that must be there."""
        if name not in self:
            raise self.refuse(f"{name} is missing")
        array = self.get(name)
        if array is None:
            raise self.refuse(
                f"{name} holds Python objects, which are not read, because a pickle can run any"
                " code; save it as numbers or text"
            )
        return array

    def numbers(self, name: str, ndim: int) -> Float[np.ndarray, "..."]:
        """Numbers with so many axes, as float64."""
        array = self._shaped(name, ndim, _NUMBERS, "numbers")
        return array.astype(np.float64)

    def number(self, name: str) -> float:
        """One number."""
        return float(self.numbers(name, 0))

    def ids(self, name: str, n: int | None = None) -> Int[np.ndarray, " token"]:
        """Token ids, one a token."""
        array = self._shaped(name, 1, "iu", "whole numbers")
        if n is not None and len(array) != n:
            raise self.refuse(f"{name} has {len(array)} entries for {n} tokens")
        if array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise self.refuse(f"{name} has the number {array.max()}, which is no token id")
        return array.astype(np.int64)

    def prompt_ids(self, name: str) -> Int[np.ndarray, " token"]:
        """Ids of a prompt: at least one, none negative."""
        ids = self.ids(name)
        if not len(ids):
            raise self.refuse(f"{name} is empty: there are no tokens")
        if int(ids.min()) < 0:
            raise self.refuse(f"{name} has the negative id {ids.min()}")
        return ids

    def whole(self, name: str) -> int:
        """One whole number."""
        return int(self._shaped(name, 0, "iu", "a whole number"))

    def text(self, name: str) -> str:
        """One text."""
        return _texts(self, self._shaped(name, 0, "U", "text")[None], name)[0]

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        return _texts(self, self._shaped(name, 1, "U", "text"), name)

    def _shaped(self, name: str, ndim: int, kinds: str, what: str) -> Shaped[np.ndarray, "..."]:
        array = self.needed(name)
        if array.ndim != ndim or array.dtype.kind not in kinds:
            axes = f" with {ndim} axes" if ndim else ""
            raise self.refuse(
                f"{name} is {array.dtype} of the shape {array.shape}; expected {what}{axes}"
            )
        return array


class Stack:
    """A large array `[layer, token, vocab]`, read a few tokens of a layer at a time."""

    def __init__(self, shape: tuple[int, int, int], dtype: np.dtype) -> None:
        self.shape, self.dtype = shape, dtype

    def read(self, layer: int, start: int, stop: int) -> Float[np.ndarray, "token vocab"]:
        """The tokens `start:stop` of a layer."""
        raise NotImplementedError


def stack_shape(fields: Fields, name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """`[layer, token, vocab]`, where axes of a batch of one may stand before."""
    batch, cells = shape[:-3], shape[-3:]
    if len(cells) < 3 or 0 in cells:
        raise fields.refuse(f"{name} has the shape {shape}; expected [layer, token, vocab]")
    if any(n != 1 for n in batch):
        raise fields.refuse(
            f"{name} has the shape {shape}, a batch of several prompts; give one of them:"
            f" {name}[i], and the same of the ids"
        )
    layers, tokens, vocab = cells
    return layers, tokens, vocab


class Memory(Fields):
    """Arrays in memory: numpy, lists, or tensors that numpy can take."""

    def __init__(self, source: str, given: Mapping[str, Any]) -> None:
        super().__init__(source)
        self.given = {str(name): value for name, value in given.items() if value is not None}

    def known(self) -> Iterable[str]:
        """The names."""
        return self.given.keys()

    def refuse(self, why: str) -> TwinlensError:
        """The error that says what does not fit."""
        return InputError(f"cannot convert {self.source}: {why}")

    def get(self, name: str) -> np.ndarray | None:
        """The array under a name; None where it is missing or holds objects."""
        value = self.given.get(name)
        if value is None:
            return None
        for step in ("detach", "cpu"):  # a tensor on another device, or with a gradient
            value = getattr(value, step)() if hasattr(value, step) else value
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise self.refuse(f"{name} is no array: {error}") from error
        return None if array.dtype.hasobject else array

    def stack(self, name: str) -> Stack:
        """A large array `[layer, token, vocab]` that is read a slice at a time."""
        array = self.needed(name)
        if array.dtype.kind != "f":
            raise self.refuse(f"{name} is {array.dtype}; expected floating point numbers")
        return _InMemory(array.reshape(stack_shape(self, name, array.shape)))


class _InMemory(Stack):
    def __init__(self, array: Float[np.ndarray, "layer token vocab"]) -> None:
        layers, tokens, vocab = array.shape
        super().__init__((layers, tokens, vocab), array.dtype)
        self.array = array

    def read(self, layer: int, start: int, stop: int) -> Float[np.ndarray, "token vocab"]:
        return self.array[layer, start:stop]


def _texts(fields: Fields, array: Shaped[np.ndarray, " text"], name: str) -> list[str]:
    try:
        return [str(text) for text in array.tolist()]
    except ValueError as error:  # numpy keeps four bytes a character, whatever they are
        raise fields.refuse(f"{name} is no text: {error}") from error
