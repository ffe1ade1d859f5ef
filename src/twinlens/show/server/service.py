"""The models that are served, and what is done with them: looks and cards of neurons."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from pydantic import TypeAdapter

from twinlens.errors import PromptError
from twinlens.model.model import Model
from twinlens.see.card import neuron_card
from twinlens.see.look import LookSettings, look, refuse_wrong, the_story
from twinlens.show.document import document
from twinlens.show.schema import Document
from twinlens.show.server.job import Job, Tell
from twinlens.show.server.jobs import Jobs
from twinlens.show.server.replies import NotFoundError, NotReadyError
from twinlens.show.server.requests import (
    CardRequest,
    LookRequest,
    ModelInfo,
    Models,
    Request,
    settings_of,
)

_DOCUMENTS = TypeAdapter(Document)

Measure = Callable[[str, Model, LookSettings, Tell], bytes]


def measured(name: str, model: Model, settings: LookSettings, tell: Tell) -> bytes:
    """The look as the JSON of a `Document`."""
    results = look(model, settings, progress=tell)
    tell("document", 0, 0)
    return _DOCUMENTS.dump_json(document({name: results}))


class Service:
    """Some models by name, one worker, and the limits of what it takes on."""

    def __init__(
        self,
        models: Mapping[str, Model],
        *,
        max_tokens: int = 512,
        jobs: Jobs | None = None,
        measure: Measure = measured,
    ) -> None:
        self.models, self.max_tokens, self.measure = dict(models), max_tokens, measure
        self.jobs = jobs or Jobs()
        self._lock = threading.Lock()
        # a tokenizer serves one thread at a time; the worker has the model's own
        self._askers = {
            name: dataclasses.replace(model, tokenizer=copy.deepcopy(model.tokenizer))
            for name, model in self.models.items()
        }
        self._hashes = {name: model.weights_hash() for name, model in self.models.items()}

    def listed(self) -> Models:
        """The models and their size."""
        return Models(
            models=[
                ModelInfo(
                    name=name,
                    family=model.anatomy.family,
                    layers=model.n_layers,
                    heads=model.n_heads,
                    context=model.context,
                )
                for name, model in self.models.items()
            ]
        )

    @property
    def by_weights(self) -> Mapping[str, str]:
        """The names of the models by the hash of their weights."""
        return {weights_hash: name for name, weights_hash in self._hashes.items()}

    def defaults(self) -> Request:
        """What the page asks first: the first model's look at a text that suits it.

        Raises `NotFoundError` where only runs are served.
        """
        if not self.models:
            raise NotFoundError("no model is served here, only runs", "model")
        name, model = next(iter(self.models.items()))
        settings = the_story()
        if model.name != "hamlet":
            prompt = "The Eiffel Tower is in the city of"
            settings = LookSettings(prompt, subject=["The Eiffel Tower"])
        return LookRequest(model=name, **dataclasses.asdict(settings))

    def take_on(self, request: Request) -> tuple[Job, bool]:
        """A job for a look, or the one that answers the same; and whether it is done already.

        Raises what shows to be wrong without running the model.
        """
        name, settings = request.model, settings_of(request)
        model = self._find(name)
        self._refuse_wrong(name, settings)
        key = _key(name, self._hashes[name], settings)
        return self.jobs.submit(key, partial(self.measure, name, model, settings))

    def card(self, request: CardRequest) -> Future[dict[str, Any]]:
        """The card of a neuron, made by the worker as soon as it can."""
        model = self._find(request.model)
        if request.prompt is not None:
            self._refuse_wrong(request.model, LookSettings(request.prompt))
        layer, neuron, prompt = request.layer, request.neuron, request.prompt
        return self.jobs.errand(lambda: neuron_card(model, layer, neuron, prompt).to_dict())

    def result(self, job: Job) -> bytes:
        """The finished document. Raises `NotReadyError` where there is none."""
        state, message = job.progress.state, job.progress.message
        if state != "done":
            raise NotReadyError(f"the look is {state}" + (f": {message}" if message else ""))
        return job.result

    def _find(self, name: str) -> Model:
        if name not in self.models:
            known = ", ".join(self.models) or "none"
            raise NotFoundError(f"there is no model {name[:80]!r} here; there is {known}", "model")
        return self.models[name]

    def _refuse_wrong(self, name: str, settings: LookSettings) -> None:
        with self._lock:
            count = len(self._askers[name].encode(settings.prompt))
            if count > self.max_tokens:
                raise PromptError(
                    f"the prompt has {count} tokens, and this server takes {self.max_tokens}; leave"
                    " some out, or start it with a larger --max-tokens"
                )
            refuse_wrong(self._askers[name], settings)


def _key(name: str, weights_hash: str, settings: LookSettings) -> str:
    """The same for the same question to the same weights."""
    asked = json.dumps([name, weights_hash, dataclasses.asdict(settings)])
    return hashlib.sha256(asked.encode()).hexdigest()
