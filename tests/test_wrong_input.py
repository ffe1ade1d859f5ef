"""What a user may get wrong, and what she is told. In a process of its own, without the type
checks that the other tests switch on, since she has none either."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CASES = [
    ("tl.causal_trace(m, P, 'Lily', kind='neuron')", "InputError", "kind='neuron'"),
    ("tl.causal_trace(m, P, 'Lily', metric='speed')", "InputError", "metric='speed'"),
    ("tl.causal_trace(m, P, 'Lily', direction='up')", "InputError", "direction='up'"),
    ("tl.causal_trace(m, P, 'Lily', engine='warp')", "InputError", "engine='warp'"),
    ("tl.causal_trace(m, P, 'Lily', window=0)", "InputError", "window=0"),
    ("tl.causal_trace(m, P, 'Lily', window=9)", "InputError", "from 1 to 3"),
    ("tl.causal_trace(m, P, 'Lily', foil=3)", "InputError", "go together"),
    ("tl.causal_trace(m, P, 'Lily', metric='logit_difference')", "InputError", "go together"),
    ("tl.causal_trace(m, P, 'Lily', batch_tokens=0)", "InputError", "batch_tokens=0"),
    ("tl.causal_trace(m, P, 'Lily', focus=999)", "FocusError", "outside the prompt"),
    ("tl.causal_trace(m, P, 'Lily', focus='Tom')", "FocusError", "not in the prompt"),
    ("tl.causal_trace(m, P, 'Lily', focus=1.5)", "FocusError", "no position"),
    ("tl.causal_trace(m, P, 'Lily', answer=10**9)", "AnswerError", "no token id"),
    ("tl.causal_trace(m, P, 'Lily', answer='next')", "AnswerError", "last of the prompt"),
    ("tl.causal_trace(m, P, 'Lily', answer=' Constantinople')", "AnswerError", "expected one"),
    ("tl.causal_trace(m, P)", "CorruptionError", "needs a subject"),
    ("tl.causal_trace(m, P, 'Lily', corruption='noise')", "CorruptionError", "neither"),
    ("tl.causal_trace(m, P, '')", "SubjectError", "empty"),
    ("tl.causal_trace(m, P, [])", "SubjectError", "empty"),
    ("tl.causal_trace(m, P, 'lily')", "SubjectError", "near it: 'Lily'"),
    ("tl.causal_trace(m, P, 'play', focus=2)", "SubjectError", "after the focus"),
    ("tl.causal_trace(m, P, (3, 3))", "SubjectError", "span (3, 3)"),
    ("tl.causal_trace(m, P, [(1, 2), 7])", "SubjectError", "neither text nor a token span"),
    ("tl.causal_trace(m, P, 7)", "SubjectError", "neither text nor a token span"),
    ("tl.causal_trace(m, P, 'Lily', answer=['a'])", "AnswerError", "no token id"),
    ("tl.neuron_trace(m, P, 'Lily', method='magic')", "InputError", "method='magic'"),
    ("tl.neuron_trace(m, P, 'Lily', basis='head')", "InputError", "basis='head'"),
    ("tl.neuron_trace(m, P, 'Lily', engine='warp')", "InputError", "engine='warp'"),
    ("tl.neuron_trace(m, P, 'Lily', cells=[(9, 0)])", "InputError", "layers 0 to 2"),
    ("tl.neuron_trace(m, P, 'Lily', cells=[(0, 999)])", "InputError", "tokens 0 to"),
    ("tl.neuron_trace(m, P, 'Lily', cells=[])", "InputError", "(layer, token) pairs"),
    ("tl.neuron_trace(m, P, 'Lily', cells=[3])", "InputError", "(layer, token) pairs"),
    ("tl.neuron_trace(m, P, 'Lily', cells='ab')", "InputError", "(layer, token) pairs"),
    ("tl.neuron_trace(m, P, 'Lily', restored=-1)", "InputError", "restored=-1"),
    ("tl.neuron_trace(m, P, 'Lily', keep=0)", "InputError", "keep=0"),
    ("tl.neuron_trace(m, P, 'Lily', keep=1.5)", "InputError", "keep=1.5"),
    (
        "tl.neuron_trace(m, P, 'Lily', method='greedy95', metric='logit')",
        "InputError",
        "metric='probability'",
    ),
    (
        "tl.neuron_trace(m, P, 'Lily', method='greedy95', direction='noise')",
        "InputError",
        "denoise",
    ),
    (
        "tl.neuron_trace(m, P, 'Lily', method='atp', metric='kl', direction='noise')",
        "InputError",
        "choose 'ig' or 'exact'",
    ),
    ("tl.neuron_trace(m, P, 'Lily', cells=[(1.5, 0)])", "InputError", "(layer, token) pairs"),
    ("tl.neuron_trace(m, P)", "CorruptionError", "needs a subject"),
    ("tl.neuron_trace(m, P, 'Lily').layer_mean('median')", "InputError", "reduce='median'"),
    ("tl.neuron_card(m, 9, 0)", "InputError", "layer 9"),
    ("tl.neuron_card(m, 0, 999)", "InputError", "neuron 999"),
    ("tl.neuron_card(m, 0, 0, top_k=0)", "InputError", "top_k=0"),
    ("tl.neuron_card(m, '0', 0)", "InputError", "layer '0'"),
    ("tl.hamlet.facts('new')", "InputError", "phrasing='new'"),
    ("tl.hamlet.text('train')", "InputError", "split='train'"),
    ("tl.Noise(samples='3')", "CorruptionError", "samples='3'"),
    ("tl.Noise(samples=2.5)", "CorruptionError", "samples=2.5"),
    ("tl.Noise(seed=1.5)", "CorruptionError", "seed=1.5"),
    ("tl.Noise(sigma='3')", "CorruptionError", "sigma='3'"),
    ("tl.Noise(times_std=True)", "CorruptionError", "times_std=True"),
    ("tl.Replace(subjects=[''])", "CorruptionError", "no text"),
    ("tl.Replace(subjects=[3])", "CorruptionError", "no text"),
    ("tl.Noise(sigma=-1)", "CorruptionError", "sigma=-1"),
    ("tl.Noise(samples=0)", "CorruptionError", "samples=0"),
    ("tl.Noise(rule='pink')", "CorruptionError", "rule='pink'"),
    ("tl.Noise(rule='t', df=2)", "CorruptionError", "df=2"),
    ("tl.Noise(rule='t', sigma=2)", "CorruptionError", "leave out sigma"),
    ("tl.Noise(seed=-1)", "CorruptionError", "seed=-1"),
    ("tl.Replace()", "CorruptionError", "either"),
    ("tl.Replace(subjects=[])", "CorruptionError", "at least one"),
    ("tl.Replace(subjects='Tom')", "CorruptionError", "must be a list"),
    ("tl.causal_trace(m, P, corruption=tl.Replace(prompt=P))", "CorruptionError", "prompt itself"),
    ("tl.causal_trace(m, P, corruption=tl.Replace(prompt='a'))", "CorruptionError", "as many"),
    ("tl.causal_trace(m, P, corruption=tl.Replace(subjects=['x']))", "CorruptionError", "subject"),
    ("tl.logit_lens(m, P, rows='all')", "InputError", "rows='all'"),
    ("tl.logit_lens(m, P, top_k=0)", "InputError", "top_k=0"),
    ("tl.logit_lens(m, P, targets=[' Constantinople'])", "AnswerError", "expected one"),
    ("tl.logit_lens(m, '')", "PromptError", "empty"),
    ("tl.logit_lens(m, 'a\\ud800b')", "PromptError", "lone surrogate"),
    ("tl.logit_lens(m, 'word ' * 900)", "PromptError", "leave out at least"),
    ("tl.logit_lens(m, 3)", "PromptError", "expected text"),
    ("tl.logit_lens(m, P).metric('speed')", "InputError", "metric='speed'"),
    ("tl.logit_lens(m, P).metric('logit', 'Paris')", "InputError", "was not followed"),
    ("tl.logit_lens(m, P).metric('entropy', unit='bytes')", "InputError", "unit='bytes'"),
    ("tl.logit_lens(m, P, rows='mlp').metric('entropy')", "InputError", "not defined"),
    ("tl.twin()", "InputError", "nothing to show"),
    ("tl.twin(3)", "InputError", "cannot show a int"),
    ("tl.twin(tl.logit_lens(m, P), tl.logit_lens(m, 'Once'))", "InputError", "different prompts"),
    ("tl.twin(tl.logit_lens(m, P)).save('x.gif')", "InputError", "'.png, .svg, .pdf'"),
    ("tl.twin(tl.logit_lens(m, P), crop=(5, 2)).figure()", "InputError", "crop=(5, 2)"),
    ("tl.twin(tl.logit_lens(m, P), columns=0).figure()", "InputError", "columns=0"),
    ("tl.load('no/such/folder')", "LoadError", "neither an existing directory nor a hub id"),
    ("tl.load(m.hf)", "LoadError", "needs its tokenizer"),
    ("tl.load(3)", "LoadError", "cannot look inside a int"),
    ("tl.load(m.hf.transformer, tokenizer=m.tokenizer)", "LoadError", "head"),
    ("tl.load(m.hf, tokenizer=m.tokenizer, dtype='float3')", "LoadError", "dtype='float3'"),
    ("tl.load(m.hf, tokenizer=m.tokenizer, device='moon')", "LoadError", "device='moon'"),
    ("tl.load(m.hf, tokenizer=m.tokenizer, revision='x')", "LoadError", "already in memory"),
    ("tl.load('x', device='cpu', device_map='auto')", "LoadError", "give one of them"),
    ("tl.open_result('nowhere.safetensors')", "ResultFileError", "does not exist"),
    ("tl.open_lens('nowhere.safetensors')", "ResultFileError", "does not exist"),
    ("tl.open_lens('.')", "ResultFileError", "no config.json"),
    ("tl.logit_lens(m, P, decoder='tuned')", "LensError", "a lens is str"),
    ("tl.fit_lens(m, 3)", "InputError", "text is int"),
    ("tl.fit_lens(m, P)", "InputError", "no file that ends in .txt or .jsonl"),
    ("tl.fit_lens(m, 'nowhere.txt')", "InputError", "does not exist"),
    ("tl.fit_lens(m, [])", "InputError", "the text is empty"),
    ("tl.fit_lens(m, [P, 3])", "InputError", "document 1 is no document"),
    ("tl.fit_lens(m, [P])", "InputError", "too few to hold some out"),
    ("tl.fit_lens(m, ['a\\ud800b'] * 9)", "InputError", "no valid Unicode"),
    ("tl.fit_lens(m, [P] * 9, 'linear')", "InputError", "kind='linear'"),
    ("tl.fit_lens(m, [P] * 9, steps=0)", "InputError", "steps=0"),
    ("tl.fit_lens(m, [P] * 9, lr='fast')", "InputError", "lr='fast'"),
    ("tl.fit_lens(m, [P] * 9, length=2)", "InputError", "length=2"),
    ("tl.fit_lens(m, [P] * 9, held_out=1)", "InputError", "held_out=1"),
    ("tl.fit_lens(m, [P] * 9, seed=-1)", "InputError", "seed=-1"),
    ("tl.fit_lens(m, [P] * 9, 'jacobian', reach='far')", "InputError", "reach='far'"),
    ("tl.fit_lens(m, [P] * 9, 'jacobian', rank=1.5)", "InputError", "rank=1.5"),
    ("tl.compare_lenses(m, [P], [None])", "InputError", "a mapping of names"),
    ("tl.compare_lenses(m, [P], {'a': 3})", "LensError", "a lens is int"),
    ("tl.compare_lenses(m, [P], {'a': None}, batch_tokens=0)", "InputError", "batch_tokens=0"),
    ("tl.Cluster(m)", "InputError", "load the model themselves"),
    ("tl.sweep_facts(3, [], 'x')", "FactsError", "no fact that can be asked"),
    ("tl.sweep_facts(3, [{'prompt': P, 'subject': 'Lily'}], 'x')", "InputError", "model=int"),
    ("tl.sweep_facts(m, 3, 'x')", "FactsError", "facts=int"),
    ("tl.sweep_facts(m, 'facts.txt', 'x')", "FactsError", "no file of facts by its name"),
    ("tl.sweep_facts(m, [P], 'x')", "FactsError", "line 1: a str, no dict"),
    ("tl.sweep_facts(m, [], 'x', measure=['speed'])", "InputError", "measure='speed'"),
    ("tl.sweep_facts(m, [], 'x', kinds=[])", "InputError", "at least one"),
    ("tl.sweep_facts(m, [], 'x', kinds=['head'])", "InputError", "kinds='head'"),
    ("tl.sweep_facts(m, [], 'x', corruption='fire')", "InputError", "corruption='fire'"),
    ("tl.sweep_facts(m, [], 'x', method='auto')", "InputError", "method='auto'"),
    ("tl.sweep_facts(m, [], 'x', metric='logit_difference')", "InputError", "needs a foil"),
    ("tl.sweep_facts(m, [], 'x', threads=0)", "InputError", "threads=0"),
    ("tl.sweep_facts(m, [], 'x', limit=1.5)", "InputError", "limit=1.5"),
    ("tl.open_run('nowhere')", "RunFolderError", "no run of a sweep"),
    ("tl.summarize('nowhere')", "RunFolderError", "no run of a sweep"),
]

SCRIPT = f"""
import json, os, sys, warnings
os.environ["HF_HUB_OFFLINE"] = "1"
warnings.simplefilter("ignore")
sys.path.insert(0, {str(ROOT)!r})
import torch
import twinlens as tl
from transformers import GPT2Config, GPT2LMHeadModel
from tests.tokenizers_ import byte_level
tokenizer = byte_level()
config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=3, n_head=4, n_positions=128,
                    bos_token_id=None, eos_token_id=None)
m = tl.load(GPT2LMHeadModel(config), tokenizer=tokenizer)
P = "Once upon a time, there was a little girl named Lily. She loved to play"
for case in json.load(sys.stdin):
    try:
        eval(case)
        print(json.dumps([None, None, ""]))
    except BaseException as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        print(json.dumps([type(error).__name__, "TwinlensError" in kinds, str(error)]))
"""


@pytest.fixture(scope="module")
def outcomes() -> list[tuple[str | None, bool | None, str]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps([case for case, _, _ in CASES]),
        capture_output=True,
        text=True,
        check=True,
    )
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("index", range(len(CASES)), ids=[case for case, _, _ in CASES])
def test_is_refused_by_name(outcomes, index):
    case, error, says = CASES[index]
    name, is_ours, message = outcomes[index]
    assert is_ours, f"{case} raised {name}: {message}"
    assert name == error, message
    assert says.strip("'") in message
