"""Models whose files are damaged, lie, or are hostile: refused by name, and never run."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

import twinlens as tl
from tests.conftest import saved_model
from twinlens import cli
from twinlens.errors import LoadError, TwinlensError

WEIGHTS = "model.safetensors"


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self):
        return open, (self.mark, "w")


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tokenizer):
    return saved_model("gpt2", tokenizer, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def header_of(data: bytes) -> tuple[dict, bytes]:
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def with_header(header: object, rest: bytes) -> bytes:
    told = json.dumps(header).encode()
    return struct.pack("<Q", len(told)) + told + rest


def lie(data: bytes, **values: object) -> bytes:
    """The first tensor told to be another than it is."""
    header, rest = header_of(data)
    name = next(n for n in header if n != "__metadata__" and len(header[n]["shape"]) == 2)
    header[name] |= values
    return with_header(header, rest)


DAMAGES = {
    "truncated": lambda d: d[:-100],
    "truncated header": lambda d: d[:40],
    "empty": lambda d: b"",
    "a header of 8 EiB": lambda d: struct.pack("<Q", 2**63 - 1) + d[8:],
    "a header of 2 GiB": lambda d: struct.pack("<Q", 2**31) + d[8:],
    "a header nested deeply": lambda d: struct.pack("<Q", 9000) + b"[" * 9000,
    "another shape": lambda d: lie(d, shape=[1, 1]),
    "a shape beyond memory": lambda d: lie(d, shape=[2**40, 2**40]),
    "offsets beyond the file": lambda d: lie(d, data_offsets=[0, 2**50]),
    "offsets turned round": lambda d: lie(d, data_offsets=[100, 0]),
    "another type": lambda d: lie(d, dtype="F64"),
    "an unknown type": lambda d: lie(d, dtype="X7"),
    "no safetensors": lambda d: b"PK\x03\x04" + d,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_weights_that_are_damaged_or_lie_are_refused(folder, damage):
    path = folder / WEIGHTS
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(LoadError, match=r"cannot load the model|has wrong shapes"):
        tl.load(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", WEIGHTS])
def test_a_pickle_is_never_run(folder, name, tmp_path):
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(pickle.dumps(Evil(str(tmp_path / "ran"))))
    with pytest.raises(LoadError):
        tl.load(folder)
    assert not (tmp_path / "ran").exists()


def test_the_pickle_of_a_tuned_lens_is_never_run(tmp_path):
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 3, "d_model": 32}')
    (tmp_path / "params.pt").write_bytes(pickle.dumps(Evil(str(tmp_path / "ran"))))
    with pytest.raises(TwinlensError, match="damaged or holds more than tensors"):
        tl.open_lens(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[" * 50_000, b"null", b"3", b"\xff\xfe\x00"])
def test_configurations_that_are_damaged_are_refused(folder, name, content):
    (folder / name).write_bytes(content)
    if name == "tokenizer_config.json":  # which transformers may do without
        with contextlib.suppress(LoadError):
            assert tl.load(folder).n_layers == 3
    else:
        with pytest.raises(LoadError, match=r"^cannot load [^\n]*$"):
            tl.load(folder)


@pytest.mark.parametrize(
    "values",
    [{"n_embd": 0}, {"n_layer": -1}, {"n_head": 3}, {"vocab_size": 10**13}, {"n_embd": "x"}],
)
def test_configurations_of_other_shapes_are_refused(folder, values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
    with pytest.raises(TwinlensError):
        tl.load(folder)


@pytest.mark.parametrize("kind", ["a loop", "nowhere", "a folder"])
def test_weights_that_cannot_be_opened_are_refused(folder, kind):
    """As without permission, which binds no superuser."""
    (folder / WEIGHTS).unlink()
    if kind == "a folder":
        (folder / WEIGHTS).mkdir()
    else:
        os.symlink(WEIGHTS if kind == "a loop" else "not-there", folder / WEIGHTS)
    with pytest.raises(LoadError):
        tl.load(folder)


def test_a_file_that_may_not_be_read_is_refused(saved, tmp_path, monkeypatch):
    result = tmp_path / "ledger.jsonl"
    result.write_text("{}")

    def forbidden(*_args, **_options):
        raise PermissionError(13, "Permission denied", str(result))

    monkeypatch.setattr("pathlib.Path.read_text", forbidden)
    with pytest.raises(TwinlensError, match="cannot be read: Permission denied"):
        tl.Copy.open(tmp_path)


def test_more_tokens_than_embeddings_are_refused(folder):
    weights = load_file(folder / WEIGHTS)
    name = next(n for n in weights if n.endswith("wte.weight"))
    weights = {n: v[:50].clone() if n == name else v for n, v in weights.items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 50}))
    with pytest.raises(LoadError, match="does not belong to this model"):
        tl.load(folder)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_told_in_a_line(folder, value, capsys):
    weights = load_file(folder / WEIGHTS)
    name = next(n for n in weights if n.endswith("mlp.c_proj.weight"))
    weights[name][0, 0] = value
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(SystemExit) as stop:
        cli.main(["look", "Once upon a time", "--model", str(folder), "-q"])
    told = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2
    assert len(told) == 1
    assert "logits are finite" in told[0]
