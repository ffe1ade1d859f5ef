"""From a folder, a hub id or a model in memory to a `Model`, or one sentence that says why not."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from twinlens.errors import LoadError, OutOfMemoryError
from twinlens.model import hamlet
from twinlens.model.anatomy import Anatomy
from twinlens.model.discover import discover
from twinlens.model.families import FAMILIES
from twinlens.model.kinds import beside, refuse_other_kinds, unwrapped
from twinlens.model.model import Model, find_module
from twinlens.model.unused import refuse_unused
from twinlens.paths import expanded

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


def load(
    source: Any,
    *,
    tokenizer: Any = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    device_map: Any = None,
    trust_remote_code: bool = False,
    anatomy: Anatomy | None = None,
) -> Model:
    """Load a causal language model to look inside.

    `source` is "hamlet" (the small trained model that comes with twinlens; "./hamlet" is a folder),
    a local directory, a hub id ("openai-community/gpt2", loaded by transformers), or a Hugging Face
    model in memory (then `tokenizer` must be given). `dtype` (default: the
    checkpoint's own), `revision` and `device_map` are passed to transformers; only safetensors are
    read and no code from the checkpoint is run unless `trust_remote_code=True`. `anatomy` replaces
    the row of the family table. Dropout is switched off. A model in memory is used as it is, and
    moved in place where `device` or `dtype` say so.

    Raises `LoadError` where the files, the tokenizer or the device do not serve, and `AnatomyError`
    where the parts of the model are not found. What the anatomy says is proved by numbers before
    the first measurement (`twinlens.check`).
    """
    if isinstance(source, str) and source == "hamlet":
        source = hamlet.FOLDER
    torch_dtype = _dtype(dtype)
    torch_device = _device(device)
    if device is not None and device_map is not None:
        raise LoadError(f"{device=} and {device_map=} were both given; give one of them")
    if isinstance(source, str | Path):
        hf, tokenizer, unused = _from_files(
            source, tokenizer, torch_dtype, revision, device_map, trust_remote_code
        )
        name = _name(source)
    else:
        hf, name = _from_memory(source, tokenizer, revision, device_map), _memory_name(source)
        unused = ()
        hf = hf if torch_dtype is None else hf.to(torch_dtype)
    try:
        hf = hf if torch_device is None else hf.to(torch_device)
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(f"{name} does not fit on {device}: {_first_line(error)}") from error
    hf.eval()
    refuse_other_kinds(hf.config)
    _refuse_foreign_tokenizer(hf, tokenizer, name)
    model = Model(hf, tokenizer, anatomy or find_anatomy(hf), name)
    if not model.n_layers:
        raise LoadError(f"{name} has no blocks: its config.json is damaged, or of another model")
    if unused:
        config = hf.config.get_text_config()
        refuse_unused(unused, model.anatomy.blocks, model.n_layers, config, str(source))
    return model


def refuse_missing(
    source: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> None:
    """Raises `LoadError` where a model is not there, as far as its configuration can tell; reads
    no weights."""
    from transformers import AutoConfig
    from transformers.utils.peft_utils import find_adapter_config_file

    if source == "hamlet":
        return
    where = _checked_source(source)
    try:
        if find_adapter_config_file(where, revision=revision) is not None:
            return  # it has a configuration of its own
        AutoConfig.from_pretrained(where, revision=revision, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises many kinds: all become one named error
        raise _not_loaded(source, error) from error


def find_anatomy(hf: Any) -> Anatomy:
    """The family's row where the model has its parts, else what its structure shows."""
    config = hf.config.get_text_config()
    row = FAMILIES.get(config.model_type)
    rows = () if row is None else (row, row.below("model.language_model"))
    for row in rows:
        if all(find_module(hf, path) is not None for path in (row.embed, row.blocks, row.unembed)):
            return replace(row.for_config(config), beside=beside(config))
    return replace(discover(hf), beside=beside(config))


def _from_files(
    source: str | Path,
    tokenizer: Any,
    dtype: torch.dtype | None,
    revision: str | None,
    device_map: Any,
    trust_remote_code: bool,
) -> tuple[Any, Any, Collection[str]]:
    """The model, its tokenizer, and the names of weights that have no place in the model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = _checked_source(source)
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    _refuse_by_config(where, options)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            where,
            use_safetensors=True,
            dtype="auto" if dtype is None else dtype,
            device_map=device_map,
            output_loading_info=True,
            **{k: v for k, v in options.items() if v is not None},
        )
    except Exception as error:  # transformers raises many kinds: all become one named error
        raise _not_loaded(source, error) from error
    hf, report = loaded
    _refuse_incomplete(report, source)
    if tokenizer is None:
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                where, **{k: v for k, v in options.items() if v is not None}
            )
        except Exception as error:
            raise LoadError(
                f"cannot load the tokenizer of {str(source)!r}: {_first_line(error)}"
            ) from error
    return hf, tokenizer, report.get("unexpected_keys", ())


def _not_loaded(source: str | Path, error: Exception) -> LoadError:
    what = "" if expanded(source).is_dir() else " (no directory, so read as a hub id)"
    return LoadError(f"cannot load the model {str(source)!r}{what}: {_first_line(error)}")


def _refuse_by_config(where: str, options: dict[str, Any]) -> None:
    """Refuse what transformers would not load as a causal LM, in words that say what it is."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(where, **options)
    except Exception:  # adapters have none; and loading says what else is wrong
        return
    refuse_other_kinds(config)


def _from_memory(source: Any, tokenizer: Any, revision: str | None, device_map: Any) -> Any:
    if not (isinstance(source, torch.nn.Module) and hasattr(source, "get_output_embeddings")):
        raise LoadError(
            f"cannot look inside a {type(source).__name__}; expected a directory, a hub id or a"
            " Hugging Face causal language model"
        )
    if tokenizer is None:
        raise LoadError("a model in memory needs its tokenizer: tl.load(model, tokenizer=tok)")
    if revision is not None or device_map is not None:
        raise LoadError("revision and device_map apply to files; the model is already in memory")
    model: Any = unwrapped(source)
    if model.get_output_embeddings() is None:
        raise LoadError(f"{type(source).__name__} has no language-model head; load the causal LM")
    return model


def _checked_source(source: str | Path) -> str:
    try:
        path = expanded(source)
        is_folder, is_there = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:  # a name too long, or with a zero in it; `~nobody`
        raise LoadError(f"cannot look at {str(source)[:80]!r}: {_first_line(error)}") from error
    if is_folder:
        if not any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise LoadError(f"{str(source)!r} has no config.json: it is no model directory")
        return str(path)
    if is_there:
        raise LoadError(f"{str(source)!r} is a file; expected the directory of a model")
    if isinstance(source, Path) or not _HUB_ID.fullmatch(source):
        raise LoadError(
            f"{str(source)!r} is neither an existing directory nor a hub id (owner/name)"
        )
    return source


def _refuse_incomplete(report: Any, source: str | Path) -> None:
    missing = sorted(report.get("missing_keys", ()))
    mismatched = sorted(str(key) for key in report.get("mismatched_keys", ()))
    for problem, keys in (("has no weights for", missing), ("has wrong shapes for", mismatched)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise LoadError(
                f"the checkpoint {str(source)!r} {problem} {', '.join(keys[:3])}{more};"
                " they would be random: it does not fit its config.json"
            )


def _refuse_foreign_tokenizer(hf: Any, tokenizer: Any, name: str) -> None:
    """Tokens that were added to a tokenizer may have no row (Gemma 3, Code Llama): a prompt that
    has one is refused when it is encoded."""
    rows = int(hf.get_input_embeddings().weight.shape[0])
    if tokenizer.vocab_size > rows:
        raise LoadError(
            f"{name}: the tokenizer has {tokenizer.vocab_size} tokens, the model's embedding {rows}"
            " rows: this tokenizer does not belong to this model"
        )


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in _DTYPES:
        raise LoadError(f"dtype={dtype!r} is not known; choose one of {', '.join(_DTYPES)}")
    return _DTYPES[dtype]


def _device(device: str | torch.device | None) -> torch.device | None:
    if device is None:
        return None
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise LoadError(f"device={str(device)!r} cannot be used: {_first_line(error)}") from error
    return found


def _name(source: str | Path) -> str:
    path = Path(os.path.expanduser(source))  # of a name that is no path nothing is asked
    return path.resolve().name if path.is_dir() else str(source)


def _memory_name(source: Any) -> str:
    given = getattr(source.config, "_name_or_path", "") or type(source).__name__
    return _name(given)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
