"""Byte-level BPE of hamlet, as in GPT-2, but that every digit is a token of its own."""

from __future__ import annotations

from functools import cache
from random import Random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from training.start import CONTEXT, VOCABULARY

END_OF_TEXT = "<|endoftext|>"
_SEED = 7
_DOCUMENTS = 12_000
# GPT-2's own pattern, with one digit where it has many.
_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, trained on text for training; always the same."""
    from training.text import document

    random = Random(f"{_SEED}/tokenizer")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator((document(random).text for _ in range(_DOCUMENTS)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
