"""The gate: a text, a margin, and the original model recorded on it once.

Non-inferiority with a margin: a changed model passes where its loss has surely not risen by more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from twinlens.change.bounds import RARE, least_documents, level_of
from twinlens.change.cloze import Items, cloze_of
from twinlens.change.losses import passages_of
from twinlens.change.overlap import refuse_shared, shared_text
from twinlens.change.recorded import Asked, GateSettings, Task, record, vocabulary_hash
from twinlens.change.reference import GateReference
from twinlens.change.reference_file import open_reference
from twinlens.errors import InputError
from twinlens.model.model import Model
from twinlens.run.batches import Progress, counting
from twinlens.run.check import require
from twinlens.see.question import one_of, whole
from twinlens.see.texts import Text, documents, windows

Domains = Mapping[str, Text]
Sharing = Literal["refuse", "drop"]
_FINAL = "final {}"
_CHOSEN = "chosen on {}"


class Gate:
    """Whether quality stayed when a model was changed: what is asked, and on which text.

    `text`: one text, or a mapping of domains to texts (as in `fit_lens`; documents are the
    clusters, so give many, e.g. one a line of a .jsonl file). `margin`: the increase in nats a
    token that is still called the same quality. `final`: text that is looked at once, in the end.
    `chosen_on`: text by which parts were chosen. No two of these may share a document or a run of
    13 words: `shared="refuse"` raises `OverlapError`, "drop" leaves such documents out of the text
    named first in: gate, final; the rest is refused.

    `items`: cloze items, (prompt, answer), "prompt" and "answer", or facts; `items_margin` is the
    loss in accuracy that is still called the same. `alpha` is the chance of a false pass in all
    looks together; damage in a share `rare` of the documents is to be seen, which says how many
    there must be. Text is cut into windows of `length` tokens; `sample` positions of each domain
    keep all log-probabilities of the original (4 bytes a token of the vocabulary each), by which
    KL is told. `seed` is that of the sample and of the bootstrap. `batch_tokens`: tokens of a pass.

    Raises `InputError` for what cannot be asked or read, `OverlapError` for texts with words in
    common.
    """

    def __init__(
        self,
        text: Text | Domains,
        margin: float = 0.01,
        *,
        final: Text | Domains | None = None,
        chosen_on: Text | Domains | None = None,
        shared: Sharing = "refuse",
        items: Items | None = None,
        items_margin: float = 0.02,
        alpha: float = 0.05,
        rare: float = RARE,
        length: int = 128,
        sample: int = 512,
        seed: int = 1,
        batch_tokens: int = 4096,
    ) -> None:
        for name, value in (("margin", margin), ("items_margin", items_margin)):
            if not _number(value) or not 0 < value < math.inf:
                raise InputError(f"{name}={value!r} must be a positive number")
        for name, value in (("alpha", alpha), ("rare", rare)):
            if not _number(value) or not 0 < value < 0.5:
                raise InputError(f"{name}={value!r} must be more than 0 and less than 0.5")
        one_of("shared", shared, get_args(Sharing))
        for name, value, least in (
            ("length", length, 4), ("sample", sample, 0), ("seed", seed, 0),
            ("batch_tokens", batch_tokens, 1),
        ):  # fmt: skip
            whole(name, value, least)
        self.settings = GateSettings(
            margin=float(margin), items_margin=float(items_margin), alpha=float(alpha),
            rare=float(rare), length=length, sample=sample, seed=seed, batch_tokens=batch_tokens,
        )  # fmt: skip
        self.items, self.notes = items, list[str]()
        self.domains = self._distinct(_domains(text, "text"))
        self.final = self._distinct({} if final is None else _domains(final, "text"), "final ")
        self._keep_apart({} if chosen_on is None else _domains(chosen_on, "text"), shared)

    def of(
        self, model: Model, *, file: str | Path | None = None, progress: Progress = None
    ) -> GateReference:
        """Record the original: losses by document, top tokens, log-probabilities at the sample.

        The original need not stay in memory: `GateReference.check` judges changed models. `file`
        keeps it (.safetensors): where there is one of this gate and this model it is opened, with
        the looks that were taken, else it is made. Raises `InputError` for a text or item that does
        not fit the model, `ChangeError` for a file of another gate or original, `ResultFileError`
        for one that is damaged, `AnatomyError` where the model's parts were not found.
        """
        require(model, ("block",))
        asked = self._asked(model)
        if file is not None and Path(file).exists():
            kept = open_reference(file)
            kept.refuse_other_gate(model, self.settings, asked)
            return kept
        made = self._recorded(model, asked, progress)
        if file is not None:
            made.save(file)
        return made

    def too_few(self) -> list[str]:
        """What is said of each text with fewer documents than any verdict on it takes."""
        alpha, rare = self.settings.alpha, self.settings.rare
        gate, final = (least_documents(level, rare) for level in (level_of(1, alpha), alpha))
        asked = [(name, documents, gate) for name, documents in self.domains.items()]
        asked += [(_FINAL.format(name), text, final) for name, text in self.final.items()]
        return [
            f"{name}: {len(found)} {'document is' if len(found) == 1 else 'documents are'} fewer"
            f" than the {least} that a verdict takes"
            for name, found, least in asked
            if len(found) < least
        ]

    def refuse_too_few(self) -> None:
        """Raises `InputError` where a text has fewer documents than any verdict on it takes."""
        if few := self.too_few():
            raise InputError(f"{few[0]}, so that nothing could be judged by it; give more")

    def _asked(self, model: Model) -> Asked:
        gate, final = (
            {name: passages_of(windows(model, text, self.settings.length))
             for name, text in domains.items()}
            for domains in (self.domains, self.final)
        )  # fmt: skip
        return Asked(gate, final, None if self.items is None else cloze_of(model, self.items))

    def _recorded(self, model: Model, asked: Asked, progress: Progress) -> GateReference:
        with counting(asked.n_positions, "original", progress) as advance:
            domains, final = (
                {name: record(model, part, self.settings, advance) for name, part in parts.items()}
                for parts in (asked.gate, asked.final)
            )
            task = None
            if asked.cloze is not None:
                right = asked.cloze.right(model, self.settings.batch_tokens, advance)
                task = Task(asked.cloze, right)
        return GateReference(
            settings=self.settings, model=model.name, original=model.weights_hash(),
            vocabulary=vocabulary_hash(model), domains=domains, final=final, task=task,
            notes=tuple(self.notes),
        )  # fmt: skip

    def _distinct(self, domains: Domains, kind: str = "") -> dict[str, list[str]]:
        """The documents of each domain, each once: one that comes twice is no second sample."""
        made = {name: documents(text) for name, text in domains.items()}
        for name, found in made.items():
            once = list(dict.fromkeys(found))
            if len(once) < len(found):
                again = len(found) - len(once)
                self.notes.append(f"{kind}{name}: {again} documents stand there twice, read once")
            made[name] = once
        return made

    def _keep_apart(self, chosen_on: Domains, shared: Sharing) -> None:
        """Gate, final and what choices were made on have nothing in common."""
        fixed = {_CHOSEN.format(name): documents(text) for name, text in chosen_on.items()}
        final = {_FINAL.format(name): text for name, text in self.final.items()}
        if shared == "drop":
            self.domains = self._without(self.domains, fixed | final)
            self.final = self._without(self.final, fixed, "final ")
            return
        for first, second in combinations((self.domains, final, fixed), 2):
            for one, other in product(first.items(), second.items()):
                refuse_shared(dict([one, other]))

    def _without(
        self, domains: dict[str, list[str]], others: Domains, kind: str = ""
    ) -> dict[str, list[str]]:
        made: dict[str, list[str]] = {}
        for name, text in domains.items():
            pairs = (shared_text({name: text, other: o}) for other, o in others.items())
            gone = {pair.first_document for found in pairs for pair in found}
            made[name] = [one for number, one in enumerate(text) if number not in gone]
            if gone:
                left = f"{len(gone)} documents were left out"
                self.notes.append(f"{kind}{name}: {left}: they share words with others")
            if not made[name]:
                raise InputError(f"{kind}{name}: every document shares words with another text")
        return made


def _domains(text: Text | Domains, name: str) -> Domains:
    if not isinstance(text, Mapping):
        return {name: text}
    if not text or not all(isinstance(key, str) and key for key in text):
        raise InputError('domains are a mapping of names to texts, e.g. {"news": "news.jsonl"}')
    return text


def _number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
