"""Results of other tools become ours: the door, and what a tokenizer adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from twinlens.errors import AnswerError, InputError, LoadError, ResultFileError
from twinlens.model import hamlet
from twinlens.model.tokens import labels, one_token, visible
from twinlens.paths import expanded
from twinlens.results import Result, open_result
from twinlens.results.foreign import Archive, Memory, read

_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin")


def convert(
    source: Any,
    *,
    tokens: Sequence[str] | None = None,
    tokenizer: Any = None,
    model: str = "unknown",
    top_k: int = 5,
    transposed: bool = False,
    flipped: bool = False,
) -> Result:
    """A result of another tool as one of ours: layers top to bottom, tokens left to right.

    `source` is a file (`.npz`, `.npy`), or an object in memory with the same arrays:

    - **a case of ROME** (Meng et al. 2022): the `.npz` that its `causal_trace.py` writes, or the
      dict of its `calculate_hidden_flow`. Becomes a `TraceResult` without an `embed` row.
    - **a trajectory of tuned-lens** (Belrose et al. 2023): its `PredictionTrajectory`, or an `.npz`
      with `log_probs` `[layer, token, vocab]`, `input_ids` and, where there are, `targets` and
      `anti_targets`. Becomes a `LensResult` whose logits are NaN (a trajectory has none) and which
      keeps the `top_k` likeliest tokens of a cell.
    - **a plain grid**: numbers `[layer, token]` that say how much each state matters, and its
      `tokens` (texts). Becomes a `TraceResult` of one sample. More can be said in a dict or `.npz`
      with `scores` and any of `tokens`, `input_ids`, `layers` (row names, top to bottom; "0", "1",
      ... where not given), `clean`, `corrupted` (else the scores count as effects),
      `subject_range` `[start, stop]`, `focus`, `answer` (text), `kind` (block, mlp, attn) and
      `metric`. `transposed`: it is `[token, layer]`; `flipped`: its first row is the last layer.
    - **a result of ours** (`.safetensors`), which is opened as it is; the other arguments are not
      about it and are refused.

    `tokenizer`: a tokenizer, its directory or hub id, or "hamlet"; without one, labels are what the
    source says, or `#id`. `model`: the name of the model that was looked at.

    No pickle is run: a field of Python objects is refused, or passed over where it must be None.
    Raises `ResultFileError` for a file and `InputError` for an object that does not fit, and
    `LoadError` for a tokenizer that cannot be loaded.

    >>> grid = convert([[0.0, 0.7], [0.1, 0.9]], tokens=["The", " Tower"])
    >>> grid.layers, grid.tokens.labels, grid.effects()[0, 1]
    (('0', '1'), ('The', '␣Tower'), np.float64(0.7))
    """
    if not isinstance(top_k, int) or top_k < 1:
        raise InputError(f"top_k={top_k!r} must be a whole number of at least 1")
    given = {} if tokens is None else {"tokens": list(tokens)}
    if isinstance(source, Result) or _is_ours(source):
        said = {"tokens": tokens, "tokenizer": tokenizer, "transposed": transposed,
                "flipped": flipped, "model": model != "unknown"}  # fmt: skip
        if idle := [name for name, value in said.items() if not (value is None or value is False)]:
            raise InputError(
                f"{idle[0]} is about results of other tools; a result of twinlens has its own, and"
                " layers from top to bottom"
            )
    how: dict[str, Any] = {
        "model": model, "top_k": top_k, "transposed": transposed, "flipped": flipped
    }  # fmt: skip
    if isinstance(source, str | Path):
        return _from_file(Path(source), given, TokenizerNames(_loaded(tokenizer)), how)
    if isinstance(source, Result):
        return source
    own = getattr(source, "tokenizer", None)  # of a trajectory
    names = TokenizerNames(_loaded(own if tokenizer is None else tokenizer))
    return read(Memory(_name(source), _arrays(source) | given), names, **how)


class TokenizerNames:
    """What a tokenizer knows of ids and texts; without one, only how a text is shown."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def labels(self, ids: Sequence[int]) -> list[str] | None:
        """What each token looks like."""
        return None if self.tokenizer is None else labels(self.tokenizer, ids)

    def texts(self, ids: Sequence[int]) -> list[str] | None:
        """What each token decodes to, alone."""
        if self.tokenizer is None:
            return None
        return [self.tokenizer.decode([token_id]) for token_id in ids]

    def special(self, ids: Sequence[int]) -> list[bool] | None:
        """Which tokens are special."""
        if self.tokenizer is None:
            return None
        known = set(self.tokenizer.all_special_ids)
        return [token_id in known for token_id in ids]

    def id_of(self, text: str) -> int | None:
        """The one token that a text is."""
        if self.tokenizer is None:
            return None
        try:
            return one_token(self.tokenizer, text)
        except AnswerError:
            return None

    def visible(self, texts: Sequence[str]) -> list[str]:
        """What texts of tokens look like: white space and the like with signs."""
        return [visible(text.encode("utf-8", errors="surrogatepass")) or "‹›" for text in texts]


def _is_ours(source: Any) -> bool:
    return isinstance(source, str | Path) and Path(source).suffix.lower() == ".safetensors"


def _from_file(
    path: Path, given: dict[str, Any], names: TokenizerNames, how: dict[str, Any]
) -> Result:
    ending = path.suffix.lower()
    if ending == ".safetensors":
        return open_result(path)
    if ending in _PICKLES:
        raise ResultFileError(
            f"{path} is a pickle, which can run any code and is not read; save its arrays with"
            " numpy.savez, or give the object to tl.convert"
        )
    if ending not in (".npz", ".npy"):
        raise ResultFileError(
            f"cannot convert {path}: expected a name that ends in .npz, .npy or .safetensors"
        )
    with Archive(path) as fields:
        if given:
            if "scores" not in fields:
                raise fields.refuse("tokens are about a plain grid; this one has its own")
            fields.needed("scores")
            grid = {name: fields.get(name) for name in fields.known()}
            return read(Memory(str(path), grid | given), names, **how)
        return read(fields, names, **how)


def _arrays(source: Any) -> dict[str, Any]:
    """The named arrays of an object in memory."""
    if isinstance(source, Mapping):
        return dict(source)
    if hasattr(source, "log_probs") and hasattr(source, "input_ids"):
        wanted = ("log_probs", "input_ids", "targets", "anti_targets")
        return {name: getattr(source, name, None) for name in wanted}
    if isinstance(source, np.ndarray | list | tuple) or hasattr(source, "__array__"):
        return {"scores": source}
    raise InputError(
        f"cannot convert a {type(source).__name__}; expected a file, a dict of arrays, a"
        " PredictionTrajectory of tuned-lens, or an array [layer, token]"
    )


def _name(source: Any) -> str:
    return f"a {type(source).__name__}"


def _loaded(tokenizer: Any) -> Any:
    """The tokenizer itself, where its directory, hub id or "hamlet" was given."""
    if not isinstance(tokenizer, str | Path):
        return tokenizer
    if not str(tokenizer).strip():
        raise LoadError('the tokenizer has an empty name; give "hamlet", a directory or a hub id')
    from transformers import AutoTokenizer

    where = hamlet.FOLDER if tokenizer == "hamlet" else expanded(tokenizer)
    try:
        return AutoTokenizer.from_pretrained(str(where) if where.is_dir() else str(tokenizer))
    except Exception as error:  # transformers raises many kinds: all become one named error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LoadError(f"cannot load the tokenizer {str(tokenizer)!r}: {reason}") from error
