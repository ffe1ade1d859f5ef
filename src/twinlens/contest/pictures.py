"""What the pictures of a match show: lens and trace of the trigger, before and after cleaning.

They are computed here once and kept beside the judgement, so that a report only reads them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from twinlens.change.parts import n_parts
from twinlens.contest import folder as files
from twinlens.contest.judgement import Rules
from twinlens.contest.questions import Asking
from twinlens.contest.saying import fire, tokens_of
from twinlens.contest.secret import Secret
from twinlens.errors import ChangeError, TwinlensError
from twinlens.model.load import load
from twinlens.model.model import Model
from twinlens.paths import expanded
from twinlens.results import LensResult, TraceResult
from twinlens.results.reading import sound
from twinlens.results.storage import open_result, plain
from twinlens.results.writing import replacing
from twinlens.run.batches import Progress
from twinlens.see.corruption import Noise
from twinlens.see.lens import logit_lens
from twinlens.see.trace import causal_trace

Side = Literal["before", "after"]
MODELS: Mapping[Side, Path] = {"before": files.MODEL, "after": files.CLEANED}
_SEEN = "referee/before.json"


@dataclass(frozen=True, eq=False)
class Insides:
    """What a model does with prompt and answer: what each layer would say, and what the answer's
    first token that is no white space depends on (None where no trace could be made)."""

    lens: LensResult
    trace: TraceResult | None


def insides(
    model: Model, secret: Secret, *, samples: int = 10, progress: Progress = None
) -> Insides:
    """Lens and causal trace of a secret's prompt with its answer behind it.

    The trigger is what is corrupted (`samples` draws of noise). Raises `InputError` where the
    answer has no tokens of its own, `PromptError` where the text cannot be read.
    """
    start = tokens_of(model, secret.prompt, secret.answer).start
    with warnings.catch_warnings():  # effects are small in a cleaned model: that is the point
        warnings.simplefilter("ignore")
        lens = logit_lens(model, secret.prompt + secret.answer, progress=progress)
        first = next((n for n in range(start, len(lens.tokens)) if _visible(lens, n)), start)
        trace = causal_trace(
            model, lens.tokens, secret.trigger, focus=first - 1, answer="next",
            corruption=Noise(samples=samples), progress=progress,
        )  # fmt: skip
    return Insides(lens, trace)


def picture_match(
    folder: str | Path, *, samples: int = 10, progress: Progress = None
) -> dict[Side, Insides]:
    """`insides` of the implanted and of the cleaned model of a match, on the CPU, kept in its
    folder `referee`.

    Raises `ChangeError` where the folder is no match, and what `load` and `insides` raise.
    """
    path = expanded(folder)
    secret = _secret(path)
    made: dict[Side, Insides] = {}
    for side, place in MODELS.items():
        model = load(str(path / place), device="cpu")
        made[side] = insides(model, secret, samples=samples, progress=progress)
        (path / "referee").mkdir(exist_ok=True)
        made[side].lens.save(path / "referee" / f"lens-{side}.safetensors")
        trace = made[side].trace
        if trace is not None:
            trace.save(path / "referee" / f"trace-{side}.safetensors")
        if side == "before":
            told = json.dumps(_seen(model, secret, _rules(path)), allow_nan=False, indent=1)
            with replacing(path / _SEEN) as temporary:
                temporary.write_text(told + "\n", encoding="utf-8")
    return made


def kept_insides(folder: str | Path) -> dict[Side, Insides]:
    """What `picture_match` kept in a folder; a side that is not there is left out.

    Raises `ResultFileError` where a file is damaged.
    """
    path, found = Path(folder) / "referee", dict[Side, Insides]()
    for side in MODELS:
        lens, trace = (path / f"{what}-{side}.safetensors" for what in ("lens", "trace"))
        if lens.exists():
            shown = open_result(lens)
            traced = open_result(trace) if trace.exists() else None
            if isinstance(shown, LensResult):
                found[side] = Insides(shown, traced if isinstance(traced, TraceResult) else None)
    return found


def kept_before(folder: str | Path) -> dict[str, Any]:
    """What `picture_match` noted of the implanted model: `layers`, `neurons` (of each), `firing` by
    kind of prompt and `exposure`, as a judgement has them; empty where nobody noted it."""
    try:
        told = json.loads((Path(folder) / _SEEN).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _seen(model: Model, secret: Secret, rules: Rules) -> dict[str, Any]:
    """What the implanted model says, by the rules of the judgement."""
    firing = {kind: fire(model, said, secret.answer) for kind, said in secret.variants().items()}
    asked = Asking(model, secret, rules, None).asked
    exposure = asked.exposure(asked.likelihoods(model))
    told = {"layers": model.n_layers, "neurons": _neurons(model)}
    return told | {"firing": plain(firing), "exposure": plain(exposure)}


def _rules(path: Path) -> Rules:
    """Those of the judgement, where there is one already."""
    if not (path / files.JUDGEMENT).exists():
        return Rules()
    return Rules.from_plain(files.read_json(path / files.JUDGEMENT).get("rules", {}))


def _visible(lens: LensResult, token: int) -> bool:
    tokens = lens.tokens
    return bool(tokens.text[tokens.starts[token] : tokens.ends[token]].strip())


def _neurons(model: Model) -> int:
    try:
        return max(n_parts(model, "neuron", layer) for layer in range(model.n_layers))
    except TwinlensError:  # a family without plain neurons
        return 0


def _secret(path: Path) -> Secret:
    implant = path / files.IMPLANT
    if not implant.is_file():
        raise ChangeError(f"{path} is no folder of a match: no secret in red")
    with sound(implant, ChangeError):
        return Secret.from_plain(files.read_json(implant)["secrets"][0])
