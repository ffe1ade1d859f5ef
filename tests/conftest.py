"""Tiny random models of every family, small tokenizers of every kind, and types checked at run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no test reaches a network

from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401

install_import_hook("twinlens", "tests.typecheck.checked")  # before twinlens is imported

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

import twinlens as tl
from tests.families_ import FAMILIES, TABLE
from tests.hybrids_ import UNREAD
from tests.tokenizers_ import byte_level, metaspace
from twinlens import cli
from twinlens.model.model import Model

torch.set_num_threads(1)  # tiny models: a second thread only waits, and other tests run beside

SHARED = Path(__file__).parents[2] / "shared"
SAMPLES = ("--samples", 2)
STORY = "Once upon a time, there was a little girl named Lily. She loved to play"


def random_model(name: str, tokenizer: PreTrainedTokenizerFast, seed: int = 0):
    """A tiny model with weights large enough that every state matters."""
    model_type, settings, _ = (TABLE | UNREAD)[name]
    given = {key: value for key, value in settings.items() if value is not None}
    ids = {
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": given.pop("pad_token_id", None),
    }
    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, vocab_size=len(tokenizer), **ids, **given)
    model = AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.25 if parameter.dim() > 1 else 0.1
            noise = scale * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise if parameter.dim() > 1 else parameter + noise)
        for name, buffer in model.named_buffers():
            if name.endswith("layer_scalar"):  # Gemma 4: what a block gives is multiplied by it
                buffer.fill_(0.7)
    return model


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-families", action="store_true", help="write docs/families.md anew")


def saved_model(name: str, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    """A tiny model as users have it: a directory."""
    random_model(name, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_level()


@pytest.fixture(scope="session")
def sentencepiece() -> PreTrainedTokenizerFast:
    return metaspace()


@pytest.fixture(scope="session")
def make_model(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], Model]:
    """A tiny random `Model` of a family, made once a session."""
    made: dict[str, Model] = {}

    def make(name: str) -> Model:
        if name not in made:
            made[name] = tl.load(random_model(name, tokenizer), tokenizer=tokenizer)
        return made[name]

    return make


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest, make_model: Callable[[str], Model]) -> Model:
    """Each family of the table in turn."""
    return make_model(request.param)


@pytest.fixture(scope="session")
def gpt2(make_model: Callable[[str], Model]) -> Model:
    return make_model("gpt2")


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the folder shared/ with models and data is not beside the project")
    return SHARED


@pytest.fixture(scope="session")
def stories(shared: Path) -> Model:
    """A real small Llama that tells stories."""
    folder = shared / "models" / "stories260k"
    if not folder.is_dir():
        pytest.skip("shared/models/stories260k is not beside the project")
    return tl.load(folder)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A model as users have it: a directory."""
    return saved_model("llama", tokenizer, tmp_path_factory.mktemp("model"))


@pytest.fixture
def run(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in an empty folder; gives (exit code, output, messages)."""
    monkeypatch.chdir(tmp_path)

    def launch(*arguments: object) -> tuple[int, str, str]:
        given = [str(folder) if a == "MODEL" else str(a) for a in arguments]
        with pytest.raises(SystemExit) as stop:
            cli.main(given)
        output, messages = capsys.readouterr()
        assert "Traceback" not in messages
        code = stop.value.code
        return (code if isinstance(code, int) else 0), output, messages

    return launch
