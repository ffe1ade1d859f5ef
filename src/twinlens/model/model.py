"""A causal LM, its tokenizer and its anatomy, as one value that the other rooms measure."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from twinlens.errors import AnatomyError
from twinlens.model import tokens as _tokens
from twinlens.model.anatomy import SITE_KINDS, Anatomy, Site, SiteKind
from twinlens.model.experts import Mixture
from twinlens.model.weights import hash_tensors, plain_tensors, stored_tensors, why_not_plain
from twinlens.results import Tokens


@dataclass(frozen=True, eq=False)
class Model:
    """A Hugging Face causal LM (`hf`), its tokenizer, and where its parts are.

    Made by `twinlens.load`. The weights are used as they are and never written.
    """

    hf: Any
    tokenizer: Any
    anatomy: Anatomy
    name: str
    _memo: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for path in (self.anatomy.embed, self.anatomy.blocks, self.anatomy.unembed):
            if find_module(self.hf, path) is None:
                raise AnatomyError(
                    f"{self.name}: the anatomy of family {self.anatomy.family!r} expects a module"
                    f" {path!r}, which {type(self.hf).__name__} does not have"
                )

    def __repr__(self) -> str:
        return (
            f"Model({self.name!r}, family={self.anatomy.family!r}, layers={self.n_layers},"
            f" d_model={self.d_model}, heads={self.n_heads}, vocab={self.n_vocab},"
            f" dtype={self.dtype}, device={self.device})"
        )

    @cached_property
    def blocks(self) -> list[nn.Module]:
        """The decoder blocks, first to last."""
        return list(self.module(self.anatomy.blocks).children())

    @cached_property
    def embedding(self) -> nn.Module:
        """The token embedding; noise is added to its output."""
        return self.module(self.anatomy.embed)

    @cached_property
    def config(self) -> Any:
        """The configuration of the text decoder."""
        return self.hf.config.get_text_config()

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks."""
        return len(self.blocks)

    @property
    def n_heads(self) -> int:
        """Number of attention (query) heads of a block."""
        return int(self.config.num_attention_heads)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.config.hidden_size)

    @cached_property
    def embedding_weight(self) -> Tensor:
        """The matrix of the token embedding, `[token id, width]`."""
        return cast(Tensor, self.embedding.weight)

    @property
    def n_vocab(self) -> int:
        """Number of rows of the unembedding."""
        return int(cast(Tensor, self.module(self.anatomy.unembed).weight).shape[0])

    @property
    def n_embeddings(self) -> int:
        """Number of rows of the token embedding."""
        return int(self.embedding_weight.shape[0])

    @property
    def context(self) -> int | None:
        """Longest prompt in tokens, where the configuration says so."""
        value = getattr(self.config, "max_position_embeddings", None)
        return int(value) if value else None

    @property
    def device(self) -> torch.device:
        """Where token ids enter the model."""
        return self.embedding_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the weights."""
        return self.embedding_weight.dtype

    @cached_property
    def precision(self) -> torch.dtype:
        """The number type to whose rounding values agree: coarser where weights are quantised."""
        return torch.bfloat16 if self.is_quantised else self.dtype

    @cached_property
    def is_quantised(self) -> bool:
        """Whether some weights are no plain numbers (bitsandbytes, torchao, 8-bit floats)."""
        return any(why_not_plain(parameter) is not None for parameter in self.hf.parameters())

    @property
    def site_kinds(self) -> tuple[SiteKind, ...]:
        """The kinds of site that the anatomy knows in this model."""
        return tuple(kind for kind in SITE_KINDS if self.anatomy.has(kind))

    def module(self, path: str) -> nn.Module:
        """The module at a dotted path from the causal LM."""
        found = find_module(self.hf, path)
        if found is None:
            raise AnatomyError(f"{self.name}: no module {path!r} in {type(self.hf).__name__}")
        return found

    def path_of(self, module: nn.Module) -> str:
        """The dotted path of a module, from the causal LM."""
        return next(path for path, found in self.hf.named_modules() if found is module)

    def sites(self, kind: SiteKind) -> list[Site]:
        """All sites of a kind, first block to last (one for `embed`)."""
        return [Site(kind, layer) for layer in range(1 if kind == "embed" else self.n_layers)]

    def experts(self, layer: int) -> Mixture | None:
        """The experts of a block, where it has some."""
        return None if self.anatomy.experts is None else self._mixtures[layer]

    @cached_property
    def _mixtures(self) -> list[Mixture | None]:
        anatomy = self.anatomy
        if anatomy.experts is None:
            return [None] * self.n_layers
        return [
            Mixture.of(block, anatomy.experts, anatomy.shared)
            if find_module(block, anatomy.experts) is not None
            else None
            for block in self.blocks
        ]

    def path(self, site: Site) -> str:
        """Dotted path of the module where a site is hooked, in this model's block."""
        if site.kind == "neuron" and self.experts(site.layer) is not None:
            return f"{self.anatomy.blocks}.{site.layer}.{self.anatomy.experts}"
        return self.anatomy.path(site)

    def writes_alone(self, layer: int) -> bool:
        """Whether what the neurons of a block give is added as it is, with no norm in between."""
        inner, outer = (self.path(Site(kind, layer)) for kind in ("neuron", "mlp"))
        return inner == outer or inner.startswith(outer + ".")

    def unit_index(
        self, kind: SiteKind, unit: int | tuple[int, ...] | None, width: int
    ) -> slice | list[int]:
        """Where units stand in a site's value `[..., width]`: all, a head, a neuron, or several."""
        if unit is None:
            return slice(None)
        size = self.unit_size(kind, width)
        if isinstance(unit, int):
            return slice(unit * size, (unit + 1) * size)
        return [one * size + i for one in unit for i in range(size)]

    def unit_size(self, kind: SiteKind, width: int) -> int:
        """How wide a unit of a site is: that of a head, or 1 (a neuron, a coordinate)."""
        return width // self.n_heads if kind == "head" else 1

    def mlp_of_neurons(
        self, layer: int, neurons: Float[Tensor, "*batch neuron"]
    ) -> Float[Tensor, "*batch d_model"]:
        """What an MLP without experts gives for given values of its neurons."""
        inner, outer = (self.anatomy.path(Site(kind, layer)) for kind in ("neuron", "mlp"))
        made = self.module(inner)(neurons)
        return made if self.writes_alone(layer) else self.module(outer)(made)

    @property
    def added_times(self) -> float:
        """What the outputs of sub-blocks are multiplied by before they are added (Granite)."""
        name = self.anatomy.added_times
        return 1.0 if name is None else float(getattr(self.config, name))

    @cached_property
    def last_logits_only(self) -> dict[str, int]:
        """Arguments by which the model unembeds only the last token, where it can.

        With these, one whose last blocks take keys and values of earlier ones (Gemma 4) would run
        them on that token alone, and there would be no states to read.
        """
        if getattr(self.config, "num_kv_shared_layers", None):
            return {}
        names = inspect.signature(self.hf.forward).parameters
        return {"logits_to_keep": 1} if "logits_to_keep" in names else {}

    @cached_property
    def tail(self) -> list[nn.Module]:
        """What is applied to the last residual before the unembedding: final norm, projection."""
        found = (find_module(self.hf, path) for path in self.anatomy.tail)
        return [module for module in found if module is not None]

    def unembed(self, residual: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Logits that the model's own tail, unembedding and scaling give for a residual.

        The norm's statistics are computed from `residual` itself.
        """
        for module in self.tail:
            residual = module(residual)
        return self.scale_logits(self.module(self.anatomy.unembed)(residual))

    def scale_logits(
        self, logits: Float[Tensor, "*batch vocab"], softcap: bool = True
    ) -> Float[Tensor, "*batch vocab"]:
        """The family's own scaling and soft cap of the logits; the same tensor if it has none."""
        if self.anatomy.logit_multiplier is not None:
            logits = logits * float(getattr(self.config, self.anatomy.logit_multiplier))
        if self.anatomy.logit_divisor is not None:
            logits = logits / float(getattr(self.config, self.anatomy.logit_divisor))
        if softcap and self.anatomy.logit_softcap is not None:
            cap = getattr(self.config, self.anatomy.logit_softcap, None)
            if cap is not None:
                logits = torch.tanh(logits / cap) * cap
        return logits

    def encode(self, prompt: str, *, special: bool = True) -> Tokens:
        """Tokens of a prompt: ids, labels, character offsets.

        `special=False` leaves out the special tokens that the tokenizer would add. Raises
        `PromptError` where the prompt is empty, too long, or no valid Unicode.
        """
        return _tokens.encode(
            self.tokenizer,
            prompt,
            special=special,
            n_embeddings=self.n_embeddings,
            context=self.context,
        )

    def label(self, token_id: int) -> str:
        """What a token looks like: `␣Paris`, `⏎`, `‹E2 82›`, `<s>`."""
        return _tokens.labels(self.tokenizer, [token_id])[0]

    def vocabulary(self, *ids: Int[np.ndarray, "..."]) -> dict[int, str]:
        """Labels of the distinct tokens among arrays of ids (negative ids mean "no token")."""
        known = sorted({i for array in ids for i in array.ravel().tolist() if i >= 0})
        return dict(zip(known, _tokens.labels(self.tokenizer, known), strict=True))

    def weights_hash(self) -> str:
        """SHA-256 over the names, types, shapes and bytes of all weights, in hexadecimal.

        Computed once and again only after a weight was written.
        """
        # a layer of bitsandbytes repacks its weights, and not to the same, for a `state_dict`
        whole = stored_tensors if self.is_quantised else _state_of
        tensors = dict(whole(self.hf))
        state = tuple((name, t.data_ptr(), t._version) for name, t in tensors.items())
        if self._memo.get("weights_state") != state:
            self._memo["weights_hash"] = hash_tensors(tensors)
            self._memo["weights_state"] = state
        return self._memo["weights_hash"]


def _state_of(hf: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return plain_tensors(hf.state_dict())


def duplicate(model: Model, name: str | None = None) -> Model:
    """The same model once more, with weights of its own."""
    own = copy.deepcopy(model.hf)
    return Model(own, model.tokenizer, model.anatomy, model.name if name is None else name)


def find_module(root: nn.Module, path: str) -> nn.Module | None:
    """The module at a dotted path, or None where some part of the path is missing."""
    here: Any = root
    for part in path.split("."):
        here = getattr(here, part, None)
        if here is None:
            return None
    return here
