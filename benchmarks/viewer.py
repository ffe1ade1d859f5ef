"""How fast the viewer pans, and how large a saved page is.

    python benchmarks/viewer.py [--frames 240] [--json]

Random numbers in the shape of a large model's twin. Frames: a page of 48 layers x 400 tokens in
headless Chromium, scrolled a few pixels every animation frame; printed is the time the page's own
work takes in a frame (script, layout, painting commands: what must fit into 16 ms), and the time
between frames. Size: a page of 48 layers x 300 tokens with the five top tokens of each cell.
Goals: median under 16 ms a frame, page under 2 MB.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import twinlens as tl
from tests.show.browsing import chromium, opened
from twinlens.results import Provenance, Tokens

GOAL_MS, GOAL_MB = 16.0, 2.0
LAYERS = 48
_PAN = """async (frames) => {
  const scroller = document.querySelector('.scroller');
  const far = scroller.scrollWidth - scroller.clientWidth;
  const work = [], between = [];
  const channel = new MessageChannel();
  let last = performance.now();
  for (let i = 0; i < frames; i++) {
    const began = await new Promise((resolve) => requestAnimationFrame(resolve));
    const start = performance.now();
    scroller.scrollLeft = (i * 7) % far;
    // the page draws in the next frame: what it does there, up to the message after its paint
    await new Promise((resolve) => requestAnimationFrame(resolve));
    const drawing = performance.now();
    await new Promise((resolve) => {
      channel.port1.onmessage = resolve;
      channel.port2.postMessage(0);
    });
    work.push(performance.now() - drawing);
    between.push((performance.now() - last) / 2);
    last = performance.now();
  }
  return { work, between };
}"""


def made(tokens: int, top_k: int = 5) -> Any:
    """A lens and a trace of random numbers."""
    random = np.random.RandomState(0)
    words = tl.load("hamlet").tokenizer
    ids = random.randint(0, len(words), tokens)
    labels = tuple(words.convert_ids_to_tokens(ids.tolist()))
    ends = np.cumsum([len(label) for label in labels])
    listed = Tokens("".join(labels), ids, labels, np.r_[0, ends[:-1]], ends, np.zeros(tokens, bool))
    shape = (LAYERS + 1, tokens)
    vocabulary = dict(enumerate(words.convert_ids_to_tokens(range(len(words)))))
    common: dict[str, Any] = {
        "tokens": listed, "vocabulary": vocabulary,
        "layers": ("embed", *map(str, range(LAYERS))), "settings": {},
        "provenance": Provenance("random", "gpt2", "", "float32", "cpu", {}),
    }  # fmt: skip
    probs = np.sort(random.dirichlet(np.ones(top_k + 1), shape), axis=-1)[..., ::-1][..., :top_k]
    log = np.log(random.uniform(0.001, 1, (*shape, 2))).astype(np.float32)
    lens = tl.LensResult(
        **common, rows="block", top_ids=random.randint(0, len(words), (*shape, top_k)),
        top_probs=probs.astype(np.float32), top_logits=probs.astype(np.float32) * 9,
        targets=("final", "next"), target_ids=random.randint(0, len(words), (2, tokens)),
        logits=log, log_probs=log, ranks=random.randint(1, 9999, (*shape, 2)),
        entropy=random.rand(*shape).astype(np.float32),
        kl_final_to_layer=random.rand(*shape).astype(np.float32),
        kl_layer_to_final=random.rand(*shape).astype(np.float32),
        surprisal=random.rand(tokens).astype(np.float32),
    )  # fmt: skip
    samples = random.randn(*shape, 10)
    trace = tl.TraceResult(
        **common, kind="block", scores=samples.mean(-1), samples=samples, window=1,
        direction="denoise", metric="probability", clean=0.9, corrupted=0.1,
        corrupted_samples=np.full(10, 0.1), subject_mask=np.arange(tokens) < 3,
        focus=tokens - 1, answer=int(ids[-1]),
    )  # fmt: skip
    return tl.twin(lens, trace)


def pan(path: Path, frames: int) -> dict[str, float]:
    """Median and 95th percentile of a frame, in milliseconds."""
    with chromium() as browser, opened(browser, path.as_uri(), offline=True) as page:
        page.wait_for_selector("canvas")
        page.wait_for_timeout(500)
        times = page.evaluate(_PAN, frames)
    return {
        "work_ms": statistics.median(times["work"]),
        "work_p95_ms": float(np.percentile(times["work"], 95)),
        "between_ms": statistics.median(times["between"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wide = made(400).save(Path(folder) / "wide.html")
        saved = made(300).save(Path(folder) / "saved.html")
        row = pan(wide, given.frames) | {"page_mb": saved.stat().st_size / 1e6}
    row |= {"goal_ms": GOAL_MS, "goal_mb": GOAL_MB}
    if given.json:
        print(json.dumps(row))
        return
    pairs = ("work_ms", "goal_ms"), ("page_mb", "goal_mb")
    verdicts = ["reached" if row[a] < row[b] else "MISSED" for a, b in pairs]
    print(
        f"48 x 400 while panning: {row['work_ms']:.1f} ms of work a frame at the median (goal"
        f" {GOAL_MS:.0f}: {verdicts[0]}), 95 % under {row['work_p95_ms']:.1f} ms;"
        f" {row['between_ms']:.1f} ms from frame to frame\n"
        f"a saved page of 48 x 300 with top-5: {row['page_mb']:.2f} MB (goal {GOAL_MB:.0f}:"
        f" {verdicts[1]})"
    )


if __name__ == "__main__":
    main()
