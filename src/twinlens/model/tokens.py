"""Text to tokens and back to something a person can read: ids, labels, character offsets."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from twinlens.errors import AnswerError, PromptError
from twinlens.results import Tokens

_SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def encode(
    tokenizer: Any, prompt: str, *, special: bool, n_embeddings: int, context: int | None
) -> Tokens:
    """Tokens of a prompt with labels and character offsets.

    Raises `PromptError` where the prompt is empty, longer than `context`, no valid Unicode, or has
    ids that the model's embedding of `n_embeddings` rows does not hold.
    """
    if not isinstance(prompt, str):
        raise PromptError(f"the prompt is {type(prompt).__name__}; expected text (str)")
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"the prompt is no valid Unicode: character {error.start} is a lone surrogate"
            f" (U+{ord(prompt[error.start]):04X}); remove or replace it"
        ) from error
    ids, offsets = _ids_and_offsets(tokenizer, prompt, special)
    if not ids:
        raise PromptError("the prompt is empty: it has no tokens; give some text")
    if max(ids) >= n_embeddings:
        raise PromptError(
            f"the tokenizer gives id {max(ids)}, but the model's embedding has {n_embeddings} rows:"
            " this tokenizer does not belong to this model"
        )
    if context is not None and len(ids) > context:
        raise PromptError(
            f"the prompt has {len(ids)} tokens, but the model reads at most {context};"
            f" leave out at least {len(ids) - context}"
        )
    starts, ends = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
    known_special = set(tokenizer.all_special_ids)
    return Tokens(
        text=prompt,
        ids=np.array(ids, dtype=np.int64),
        labels=tuple(labels(tokenizer, ids)),
        starts=np.ascontiguousarray(starts),
        ends=np.ascontiguousarray(ends),
        special=np.array([i in known_special for i in ids], dtype=bool),
    )


def labels(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """What each token looks like: `␣Paris`, `⏎`, `‹E2 82›` for bytes, `<s>` for special tokens.

    A special token is its own name; nothing is empty and nothing is invisible.
    """
    alphabet = _alphabet(tokenizer)
    pieces = tokenizer.convert_ids_to_tokens([int(i) for i in ids])
    special = set(tokenizer.all_special_ids)
    found = []
    for token_id, piece in zip(ids, pieces, strict=True):
        if piece is None:
            found.append(f"‹#{token_id}›")
        elif token_id in special:
            found.append(str(piece) or f"‹#{token_id}›")
        else:
            found.append(visible(_bytes_of(str(piece), alphabet)) or f"‹#{token_id}›")
    return found


def visible(raw: bytes) -> str:
    """Text with signs for white space, and hexadecimal for what is no character or not visible."""
    text = raw.decode("utf-8", errors="surrogateescape")
    shown = "".join(_visible_character(character) for character in text)
    shown = shown.replace("››‹‹", " ").replace("‹‹", "‹").replace("››", "›")
    return f"◌{shown}" if shown and unicodedata.combining(shown[0]) else shown


def one_token(tokenizer: Any, text: str, *, before: str = "", what: str = "answer") -> int:
    """The id of the single token that `text` is, first as it would follow the text `before`.

    Raises `AnswerError` where it is no single token, with its pieces.
    """
    prefix, whole = _plain_ids(tokenizer, before), _plain_ids(tokenizer, before + text)
    if whole[: len(prefix)] == prefix and len(whole) == len(prefix) + 1:
        return whole[-1]
    alone = _plain_ids(tokenizer, text)
    if len(alone) == 1:
        return alone[0]
    raw = tokenizer.convert_tokens_to_ids(text) if text else None
    if isinstance(raw, int) and raw != tokenizer.unk_token_id and raw >= 0:
        return raw
    if not alone:
        raise AnswerError(f"{what}={text!r} is empty; expected the text or the id of one token")
    pieces = " | ".join(labels(tokenizer, alone))
    raise AnswerError(
        f"{what}={text!r} is {len(alone)} tokens of this model ({pieces}); expected one:"
        f" give the first piece as text, or its id ({alone[0]})"
    )


def _ids_and_offsets(
    tokenizer: Any, prompt: str, special: bool
) -> tuple[list[int], list[tuple[int, int]]]:
    if getattr(tokenizer, "is_fast", False):
        encoded = tokenizer(
            prompt, add_special_tokens=special, return_offsets_mapping=True, verbose=False
        )
        return list(encoded["input_ids"]), [(int(a), int(b)) for a, b in encoded["offset_mapping"]]
    ids = list(tokenizer(prompt, add_special_tokens=special, verbose=False)["input_ids"])
    return ids, _offsets_by_decoding(tokenizer, prompt, ids)


def _offsets_by_decoding(tokenizer: Any, prompt: str, ids: list[int]) -> list[tuple[int, int]]:
    """Offsets for tokenizers that give none: each token covers what it adds to the decoded text."""
    special = set(tokenizer.all_special_ids)

    def decode(some: list[int]) -> str:
        return tokenizer.decode(some, clean_up_tokenization_spaces=False)

    kept = [token_id for token_id in ids if token_id not in special]
    shift = max(0, prompt.find(decode(kept)))  # where the decoder drops a space at the start
    offsets: list[tuple[int, int]] = []
    here, done = 0, 0
    for token_id in ids:
        if token_id in special:
            offsets.append((here, here))
            continue
        done += 1
        decoded = decode(kept[:done])
        whole = decoded.rstrip("\ufffd")  # bytes that are not yet a character
        end = min(max(here, len(whole) + shift), len(prompt))
        unfinished = len(whole) < len(decoded) and end < len(prompt)
        offsets.append((here, end + 1 if unfinished else end))
        here = end
    return offsets


def _plain_ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


Alphabet = Literal["bytes", "metaspace", "plain"]


def _alphabet(tokenizer: Any) -> Alphabet:
    """How a token's piece spells its text: byte-level BPE, SentencePiece, or as it is."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        if hasattr(tokenizer, "byte_decoder"):
            return "bytes"
        return "metaspace" if hasattr(tokenizer, "sp_model") else "plain"
    if backend.decoder is None:
        return "plain"
    state = backend.decoder.__getstate__().decode("utf-8")
    if '"ByteLevel"' in state:
        return "bytes"
    return "metaspace" if "▁" in state or '"Metaspace"' in state else "plain"


def _bytes_of(piece: str, alphabet: Alphabet) -> bytes:
    if alphabet == "bytes" and all(character in _BYTE_OF for character in piece):
        return bytes(_BYTE_OF[character] for character in piece)
    if alphabet == "metaspace":
        match = _BYTE_PIECE.fullmatch(piece)
        return bytes([int(match[1], 16)]) if match else piece.replace("▁", " ").encode()
    return piece.encode("utf-8", errors="surrogateescape")


def _visible_character(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, kept by "surrogateescape"
        return f"‹‹{code - 0xDC00:02X}››"
    if unicodedata.category(character)[0] in "CZ":
        return f"‹U+{code:04X}›"
    return character


def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level BPE spells bytes (Radford et al. 2019): printable Latin-1
    bytes stand for themselves, the others for the characters from U+0100 on, in order."""
    themselves = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in themselves]
    spelled = {chr(byte): byte for byte in themselves}
    return spelled | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
