"""A user's text as batches of token windows: some to fit to, some held out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from twinlens.errors import InputError
from twinlens.model import hamlet
from twinlens.model.model import Model
from twinlens.results.reading import why
from twinlens.see.question import whole

Text = str | Path | Sequence[str | Mapping[str, Any]]


class Batch(NamedTuple):
    """Windows of tokens as rows, filled up at the right; `real` tells tokens from filling."""

    ids: Int[Tensor, "row token"]
    real: Bool[Tensor, "row token"]


@dataclass(frozen=True)
class Windows:
    """Runs of token ids, each at most as long as one pass is to read; `sha256` names them all."""

    ids: tuple[Int[np.ndarray, "..."], ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_tokens(self) -> int:
        """Number of tokens in all windows."""
        return sum(len(window) for window in self.ids)

    @property
    def sha256(self) -> str:
        """A hash of the ids and where the windows end."""
        digest = hashlib.sha256()
        for window in self.ids:
            digest.update(len(window).to_bytes(8, "little") + window.tobytes())
        return digest.hexdigest()

    def batch(self, numbers: Sequence[int]) -> Batch:
        """The windows with these numbers as one batch."""
        picked = [torch.from_numpy(self.ids[number]) for number in numbers]
        ids = torch.nn.utils.rnn.pad_sequence(picked, batch_first=True)
        lengths = torch.tensor([len(window) for window in picked])
        return Batch(ids, torch.arange(ids.shape[1]) < lengths[:, None])

    def batches(self, batch_tokens: int) -> Iterator[Batch]:
        """All windows in order, at most `batch_tokens` at once (at least one window)."""
        per_batch = max(1, batch_tokens // max(len(window) for window in self.ids))
        for start in range(0, len(self), per_batch):
            yield self.batch(range(start, min(start + per_batch, len(self))))


def documents(text: Text) -> list[str]:
    """The documents of a text.

    `text` is a `.txt` file (one document), a `.jsonl` file (one a line, an object with "text"),
    "hamlet" (hamlet's own validation text), or the documents themselves, as texts or as mappings
    with "text" (what `twinlens.hamlet.text()` gives). Raises `InputError` where it is none.
    """
    if isinstance(text, str | Path):
        found = _of_file(text)
    elif isinstance(text, Sequence):
        found = [_of_item(item, f"document {number}") for number, item in enumerate(text)]
    else:
        raise InputError(f"text is {type(text).__name__}; expected a file or a list of documents")
    found = [document for document in found if document.strip()]
    if not found:
        named = f"the text {text}" if isinstance(text, str | Path) else "the text"
        raise InputError(f"{named} is empty; give some documents")
    return found


def documents_hash(texts: Sequence[str]) -> str:
    """SHA-256 over documents and where each ends, in hexadecimal."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(len(text).to_bytes(8, "little") + text.encode())
    return digest.hexdigest()


def windows(model: Model, text: Text, length: int) -> list[Windows]:
    """The windows of each document: at most `length` tokens, each with the special tokens that the
    tokenizer puts before a prompt; nothing shorter than two tokens."""
    whole("length", length, 4)
    if model.context is not None and length > model.context:
        raise InputError(
            f"length={length} is more than the {model.context} tokens that {model.name} reads"
        )
    found = [_cut(model, document, length) for document in documents(text)]
    found = [made for made in found if made.ids]
    if not found:
        raise InputError("the text has no two tokens in a row; give some documents")
    return found


def joined(parts: Sequence[Windows]) -> Windows:
    """The windows of several documents in a row."""
    return Windows(tuple(window for part in parts for window in part.ids))


def split(parts: Sequence[Windows], held_out: float) -> tuple[Windows, Windows]:
    """What to fit to and what to hold out: every 1/`held_out`-th document, or, where there are too
    few documents for that, the last windows. Raises `InputError` where nothing is left for one."""
    if not isinstance(held_out, float) or not 0 < held_out <= 0.5:
        raise InputError(f"held_out={held_out!r} must be more than 0 and at most 0.5")
    every = round(1 / held_out)
    if len(parts) >= every:
        last = [n % every == every - 1 for n in range(len(parts))]
        fit = [part for part, out in zip(parts, last, strict=True) if not out]
        return joined(fit), joined([part for part, out in zip(parts, last, strict=True) if out])
    whole = joined(parts)
    kept = len(whole) - max(1, round(held_out * len(whole)))
    if kept < 1:
        raise InputError(
            f"the text has {whole.n_tokens} tokens, too few to hold some out; give more text"
        )
    return Windows(whole.ids[:kept]), Windows(whole.ids[kept:])


def _of_file(text: str | Path) -> list[str]:
    if text == "hamlet":
        return [document["text"] for document in hamlet.text("validation")]
    path = Path(text)
    if path.suffix.lower() not in (".txt", ".jsonl"):
        raise InputError(
            f"the text {str(text)[:60]!r} is no file that ends in .txt or .jsonl, nor 'hamlet' (in"
            " Python, give a text itself as a list of documents)"
        )
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"the text {path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the text {path} cannot be read: {why(error)}") from error
    if path.suffix.lower() == ".txt":
        return [content]
    lines = enumerate(content.split("\n"), 1)
    return [_of_line(line, f"{path}, line {n}") for n, line in lines if line.strip()]


def _of_line(line: str, where: str) -> str:
    try:
        return _of_item(json.loads(line), where)
    except InputError:
        raise
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is no JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is no JSON: {why(error)}") from error


def _of_item(item: Any, where: str) -> str:
    text = item.get("text") if isinstance(item, Mapping) else item
    if not isinstance(text, str):
        raise InputError(f'{where} is no document; expected a text or an object with "text"')
    return text


def _cut(model: Model, document: str, length: int) -> Windows:
    try:
        document.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"a document is no valid Unicode: {error.reason}") from error
    ids = list(model.tokenizer(document, verbose=False)["input_ids"])
    if ids and max(ids) >= model.n_embeddings:
        raise InputError(f"the tokenizer gives id {max(ids)}, which {model.name} does not know")
    special = set(model.tokenizer.all_special_ids)
    before = next((n for n, i in enumerate(ids) if i not in special), len(ids))
    prefix, body, step = ids[:before], ids[before:], max(1, length - before)
    cut = [[*prefix, *body[start : start + step]] for start in range(0, len(body), step)]
    return Windows(tuple(np.array(one, dtype=np.int64) for one in cut if len(one) > 1))
