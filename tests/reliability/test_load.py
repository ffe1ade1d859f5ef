"""Twenty sessions at once, and a life of many looks, small; `benchmarks/load.py` has the large."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

for extra in ("pyarrow", "polars", "fastapi", "httpx", "matplotlib"):
    pytest.importorskip(extra)

import httpx  # noqa: E402

from tests.show.test_server_live import PATIENCE, listening, serving  # noqa: E402
from twinlens.show.server.requests import LookRequest, settings_of  # noqa: E402
from twinlens.show.server.service import Service, measured  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
SESSIONS = 20


def test_twenty_sessions_at_once_each_get_their_own_answers(gpt2):
    with serving(Service({"tiny": gpt2})) as first:

        def session(number: int) -> list[tuple[dict, bytes]]:
            found = []
            with httpx.Client(base_url=first.base_url, timeout=PATIENCE) as client:
                for at in range(1):
                    asked = {
                        "model": "tiny", "prompt": f"The girl {number} had {at} of", "samples": 2,
                        "subject": [f" {number}"],
                    }  # fmt: skip
                    name = client.post("/api/looks", json=asked).raise_for_status().json()["id"]
                    with listening(client, name) as told:
                        assert [now["state"] for now in told][-1] == "done"
                    answer = client.get(f"/api/looks/{name}").raise_for_status()
                    found.append((asked, answer.content))
            return found

        with ThreadPoolExecutor(SESSIONS) as pool:
            answers = [one for found in pool.map(session, range(SESSIONS)) for one in found]
    assert len({content for _, content in answers}) == len(answers)
    for asked, content in answers:
        settings = settings_of(LookRequest(**asked))
        assert content == measured("tiny", gpt2, settings, lambda *_: None), asked["prompt"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_life_of_many_looks_holds_on_to_nothing(tmp_path, monkeypatch):
    import load

    own = tmp_path / "temporary"  # others' files come and go in the system's
    own.mkdir()
    monkeypatch.setattr(load.tempfile, "tempdir", str(own))
    seen = load.soak(6, tmp_path, say=lambda _line: None)
    warm, last = seen[2], seen[-1]
    for name in ("open files", "threads", "children", "temporary files"):
        assert last[name] <= warm[name], name
    assert last["memory, MiB"] - warm["memory, MiB"] < 20
