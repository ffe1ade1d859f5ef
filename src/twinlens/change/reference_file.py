"""The reference of a gate as a file: arrays as tensors, the rest as JSON in the header; no pickle.

The looks stand in NAME.looks.json beside it: small, and written anew at each look.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np

from twinlens.change.cloze import Cloze
from twinlens.change.losses import Losses, Passages
from twinlens.change.recorded import GateSettings, Look, Recorded, Task
from twinlens.change.reference import GateReference
from twinlens.change.verdict import Answer
from twinlens.errors import InputError, ResultFileError
from twinlens.results.writing import replacing
from twinlens.see.texts import Windows

_HEADER, _SCHEMA = "twinlens_gate", 1
Arrays = dict[str, np.ndarray]


def save_reference(reference: GateReference, path: Path) -> Path:
    """Write a reference and its looks; from then on its looks are kept there."""
    from safetensors.numpy import save

    if path.suffix.lower() != ".safetensors":
        raise InputError(f"cannot write to {str(path)!r}; choose a name in .safetensors")
    arrays: Arrays = {}
    for kind in ("domains", "final"):
        for number, part in enumerate(getattr(reference, kind).values()):
            _put(arrays, f"{kind}.{number}", part)
    if reference.task is not None:
        _put_passages(arrays, "task", reference.task.cloze.passages)
        arrays["task.answers"] = reference.task.cloze.answers
        arrays["task.right"] = reference.task.right
    header = {
        "schema": _SCHEMA,
        "settings": asdict(reference.settings),
        "domains": list(reference.domains),
        "final": list(reference.final),
        "task": reference.task is not None,
        "notes": list(reference.notes),
        **{name: getattr(reference, name) for name in ("model", "original", "vocabulary")},
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    payload = save(arrays, metadata={_HEADER: json.dumps(header)})
    with replacing(path) as temporary:
        temporary.write_bytes(payload)
    reference.path = path
    save_looks(reference)
    return path


def save_looks(reference: GateReference) -> None:
    """Write the looks of a reference beside its file."""
    if reference.path is None:
        return
    looks = [asdict(look) for look in reference.looks]
    told = json.dumps({"original": reference.original, "looks": looks}, indent=1)
    with replacing(_beside(reference.path)) as temporary:
        temporary.write_text(told + "\n", encoding="utf-8")


def open_reference(path: str | Path) -> GateReference:
    """Read what `GateReference.save` wrote, and the looks that were taken since.

    Raises `ResultFileError` where a file is missing, damaged or no reference of a gate.
    """
    path = Path(path)
    header, arrays = _read(path)
    try:
        task = None
        if header["task"]:
            cloze = Cloze(_passages(arrays, "task"), arrays["task.answers"])
            task = Task(cloze, arrays["task.right"])
        made = GateReference(
            settings=GateSettings(**header["settings"]), model=header["model"],
            original=header["original"], vocabulary=header["vocabulary"],
            domains=_domains(header, arrays, "domains"), final=_domains(header, arrays, "final"),
            task=task, notes=tuple(header["notes"]), path=path,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ResultFileError(f"{path} is no whole reference of a gate: {error}") from error
    made.looks += _looks(path, made.original)
    return made


def _put(arrays: Arrays, name: str, part: Recorded) -> None:
    _put_passages(arrays, name, part.passages)
    arrays |= {
        f"{name}.nats": part.losses.nats,
        f"{name}.top": part.losses.top,
        f"{name}.sample": part.sample,
        f"{name}.log_probs": part.log_probs,
    }


def _put_passages(arrays: Arrays, name: str, passages: Passages) -> None:
    ids = passages.windows.ids
    arrays[f"{name}.ids"] = np.concatenate(ids)
    arrays[f"{name}.lengths"] = np.array([len(window) for window in ids])
    arrays[f"{name}.owner"] = passages.owner


def _domains(header: dict[str, Any], arrays: Arrays, kind: str) -> dict[str, Recorded]:
    made: dict[str, Recorded] = {}
    for number, name in enumerate(header[kind]):
        at = f"{kind}.{number}"
        passages = _passages(arrays, at)
        losses = Losses(arrays[f"{at}.nats"], arrays[f"{at}.top"])
        part = Recorded(passages, losses, arrays[f"{at}.sample"], arrays[f"{at}.log_probs"])
        if len(losses.nats) != passages.owner.max() + 1 or len(losses.top) != passages.n_positions:
            raise ValueError(f"the arrays of {name} differ in length")
        if len(part.sample) != len(part.log_probs) or not np.isfinite(losses.nats).all():
            raise ValueError(f"the arrays of {name} do not belong together")
        made[name] = part
    return made


def _passages(arrays: Arrays, name: str) -> Passages:
    ids, lengths = arrays[f"{name}.ids"], arrays[f"{name}.lengths"]
    if lengths.sum() != len(ids) or lengths.min() < 2 or ids.min() < 0:
        raise ValueError(f"the windows of {name} do not fit their tokens")
    owner = arrays[f"{name}.owner"]
    if len(owner) != len(lengths) or owner.min() < 0:
        raise ValueError(f"the windows of {name} have no documents")
    return Passages(Windows(tuple(np.split(ids, np.cumsum(lengths)[:-1]))), owner)


def _looks(path: Path, original: str) -> list[Look]:
    beside = _beside(path)
    if not beside.exists():
        return []
    try:
        told = json.loads(beside.read_text(encoding="utf-8"))
        if told["original"] != original:
            raise ValueError("it is about another original")
        looks = [Look(**one) for one in told["looks"]]
        if not all(isinstance(o.look, int) and o.verdict in get_args(Answer) for o in looks):
            raise ValueError("a look has no number or no verdict")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ResultFileError(
            f"{beside} is damaged: {error}; it says what was looked at, so it cannot be left out"
        ) from error
    return looks


def _beside(path: Path) -> Path:
    return path.with_name(path.stem + ".looks.json")


def _read(path: Path) -> tuple[dict[str, Any], Arrays]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if not isinstance(header, dict) or header.get("schema") != _SCHEMA:
            raise ValueError("it was written with another schema")
    except FileNotFoundError as error:
        raise ResultFileError(f"the reference {path} does not exist") from error
    except KeyError as error:
        raise ResultFileError(f"{path} is a safetensors file but no reference of a gate") from error
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise ResultFileError(f"{path} is damaged or no reference of a gate: {error}") from error
    return header, arrays
