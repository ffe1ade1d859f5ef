"""The API as the page uses it, asked in the same process."""

from __future__ import annotations

import base64
import json
import threading

import numpy as np
import pytest
import torch

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

import twinlens as tl
from tests.conftest import STORY
from twinlens.errors import ModelError
from twinlens.show.server import schema
from twinlens.show.server.app import create_app
from twinlens.show.server.jobs import Jobs
from twinlens.show.server.service import Service

PATIENCE = 30
LOOK = {"model": "tiny", "prompt": STORY, "subject": ["Lily"], "samples": 2}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Passes this small are slower with two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Gate:
    """Measures nothing, and only when it is let go."""

    def __init__(self) -> None:
        self.began, self.open = threading.Event(), threading.Event()
        self.asked: list[str] = []

    def __call__(self, name, model, settings, tell) -> bytes:
        self.asked.append(settings.prompt)
        tell("lens", 0, 0)
        self.began.set()
        assert self.open.wait(PATIENCE)
        tell("lens", 1, 1)
        if settings.prompt == "fail":
            raise ModelError("this model\nis broken")
        return b"{}"


@pytest.fixture(scope="module")
def service(gpt2):
    made = Service({"tiny": gpt2, "hamlet": tl.load("hamlet")}, max_tokens=64)
    yield made
    made.jobs.close()


@pytest.fixture(scope="module")
def client(service, tmp_path_factory):
    script = tmp_path_factory.mktemp("static") / "twinlens.js"
    script.write_text("export {};\n")
    (script.parent / "secret.txt").write_text("secret\n")
    return TestClient(create_app(service, bundle=script), base_url="http://localhost:7878")


@pytest.fixture
def gated(gpt2):
    """(client, gate, jobs) of a server whose looks wait."""
    gate, jobs = Gate(), Jobs(waiting=2)
    made = Service({"tiny": gpt2}, jobs=jobs, measure=gate)
    yield TestClient(create_app(made), base_url="http://localhost"), gate, jobs
    gate.open.set()
    jobs.close()


def events(client, name: str) -> list[dict]:
    """All progress of a look, until its end."""
    answer = client.get(f"/api/looks/{name}/events")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [b for b in answer.text.split("\n\n") if b and not b.startswith(":")]
    assert all(block.startswith("event: progress\ndata: ") for block in blocks)
    return [json.loads(block.partition("data: ")[2]) for block in blocks]


def error(answer) -> dict:
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"type", "message", "field"}
    assert "\n" not in answer.json()["error"]["message"]
    return answer.json()["error"]


def test_a_look_from_the_question_to_the_document(client, gpt2):
    asked = client.post("/api/looks", json=LOOK | {"kinds": ["block", "mlp"]})
    assert asked.status_code == 202
    assert asked.json()["cached"] is False
    name = asked.json()["id"]
    told = events(client, name)
    assert told[-1]["state"] == "done"
    assert set(told[0]) == {
        "state", "place", "stage", "done", "total", "seconds_left", "message",
    }  # fmt: skip
    made = client.get(f"/api/looks/{name}").json()
    (look,) = made["looks"]
    assert look["name"] == "tiny"
    assert [g["id"] for g in look["grids"] if g["side"] == "right"] == ["trace.block", "trace.mlp"]
    trace = tl.causal_trace(gpt2, STORY, ["Lily"], corruption=tl.Noise(samples=2))
    (grid,) = (g for g in look["grids"] if g["id"] == "trace.block")
    values = np.frombuffer(base64.b64decode(grid["values"]["data"]), "<f4")
    np.testing.assert_allclose(
        values.reshape(grid["values"]["shape"]), trace.effects(normalise=False), atol=1e-6
    )
    again = client.post("/api/looks", json=LOOK | {"kinds": ["block", "mlp"]}).json()
    assert again == {"id": name, "place": 0, "cached": True}
    other = client.post("/api/looks", json=LOOK | {"kinds": ["block"]}).json()
    assert other["id"] != name
    assert events(client, other["id"])[-1]["state"] == "done"


def test_models_and_defaults(client, service):
    listed = client.get("/api/models").json()["models"]
    assert listed[0] == {"name": "tiny", "family": "gpt2", "layers": 3, "heads": 4, "context": 128}
    assert listed[1]["name"] == "hamlet"
    assert client.get("/api/defaults").json()["model"] == "tiny"


def test_the_first_look_at_hamlet_is_its_story():
    model = tl.load("hamlet")
    made = Service({"bard": model})
    client = TestClient(create_app(made), base_url="http://localhost")
    asked = client.get("/api/defaults").json()
    assert (asked["model"], asked["prompt"]) == ("bard", tl.hamlet.story())
    assert asked["counterfactual"] == tl.hamlet.story("Wellford")
    assert (asked["kinds"], asked["samples"]) == (["block"], 10)
    taken = client.post("/api/looks", json=asked)
    assert taken.status_code == 202, "what the page is given it can ask"
    client.delete(f"/api/looks/{taken.json()['id']}")
    made.jobs.close()


def test_the_card_of_a_neuron(client, gpt2):
    asked = {"model": "tiny", "layer": 1, "neuron": 7}
    card = client.post("/api/neurons", json=asked)
    assert card.json() == tl.neuron_card(gpt2, 1, 7).to_dict()
    along = client.post("/api/neurons", json=asked | {"prompt": STORY}).json()
    assert along == tl.neuron_card(gpt2, 1, 7, STORY).to_dict()
    for wrong, status in (
        ({"layer": 9}, 422), ({"neuron": 10**6}, 422), ({"neuron": "E2.N3"}, 422),
        ({"neuron": 1.5}, 422), ({"model": "x"}, 404),
    ):  # fmt: skip
        refused = client.post("/api/neurons", json=asked | wrong)
        assert refused.status_code == status
        assert error(refused)["message"]


WRONG = [
    ({"subject": ["Lly"]}, 422, "SubjectError", "subject", "near it: 'Lily'"),
    ({"focus": 99}, 422, "FocusError", "focus", "outside the prompt"),
    ({"answer": " Constantinople"}, 422, "AnswerError", "answer", "expected one"),
    ({"prompt": ""}, 422, "InputError", "prompt", "at least 1 character"),
    ({"prompt": "a\ud800b"}, 422, "InputError", "prompt", "prompt: "),
    ({"prompt": "word " * 20}, 422, "PromptError", "prompt", "this server takes 64"),
    ({"prompt": "x" * 20_001}, 422, "InputError", "prompt", "20000"),
    ({"window": 9}, 422, "InputError", "window", "from 1 to 3"),
    ({"window": 0}, 422, "InputError", "window", "greater than"),
    ({"samples": 101}, 422, "InputError", "samples", "100"),
    ({"samples": "2"}, 422, "InputError", "samples", "integer"),
    ({"samples": True}, 422, "InputError", "samples", "integer"),
    ({"sigma": -1}, 422, "InputError", "sigma", "greater than 0"),
    ({"kinds": ["soul"]}, 422, "InputError", "kinds", "'block'"),
    ({"subject_tokens": [[2]]}, 422, "InputError", "subject_tokens", "required"),
    ({"subject_tokens": [[2, 99]]}, 422, "SubjectError", "subject", "span (2, 99)"),
    ({"top_k": 51}, 422, "InputError", "top_k", "50"),
    ({"rule": "t", "df": 1.5}, 422, "CorruptionError", "df", "above 2"),
    ({"metric": "logit_difference"}, 422, "InputError", "metric", "go together"),
    ({"replace": ["Bartholomew the old"]}, 422, "CorruptionError", None, "as many"),
    ({"restored_cells": ["1-4"]}, 422, "InputError", "restored_cells", "LAYER:TOKEN"),
    ({"restored_cells": ["9:4"]}, 422, "InputError", "restored_cells", "layer '9'"),
    ({"speed": 3}, 422, "InputError", "speed", "Extra inputs"),
    ({"model": "/etc"}, 404, "NotFoundError", "model", "there is tiny"),
]


@pytest.mark.parametrize(("changes", "status", "kind", "field", "says"), WRONG)
def test_what_cannot_be_asked_is_refused_at_once(client, changes, status, kind, field, says):
    body = json.dumps(LOOK | changes)
    answer = client.post("/api/looks", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert (error(answer)["type"], error(answer)["field"]) == (kind, field)
    assert says in error(answer)["message"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"model": "tiny", "prompt": "a", "sigma": NaN}', 422),
        (b'{"model": "tiny", "prompt": "a", "seed": ' + b"9" * 5_000 + b"}", 400),
        (b"[]", 422),
        (b"null", 422),
        (b"", 422),
    ],
)
def test_bodies_that_are_no_request(client, body, status):
    answer = client.post("/api/looks", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert error(answer)["message"]
    plain = client.post("/api/looks", content=body, headers={"content-type": "text/plain"})
    assert plain.status_code == 422, "only JSON, which another site cannot send unasked"


def test_unknown_looks_paths_and_methods(client):
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
        answer = client.request(method, f"/api/looks/nothing{path}")
        assert answer.status_code == 404
        assert "nothing" in error(answer)["message"]
    assert client.get("/nowhere").status_code == 404
    assert error(client.get("/api/nowhere"))["type"] == "NotFoundError"
    assert client.put("/api/looks").status_code == 405
    assert error(client.put("/api/looks"))["message"]
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert client.get(path).status_code == 404


def test_places_results_that_are_not_ready_and_cancelling(gated):
    client, gate, _jobs = gated
    first = client.post("/api/looks", json=LOOK | {"prompt": "a", "subject": []}).json()
    assert gate.began.wait(PATIENCE)
    waiting = [
        client.post("/api/looks", json=LOOK | {"prompt": p, "subject": []}).json() for p in "bc"
    ]
    assert [w["place"] for w in waiting] == [1, 2]
    full = client.post("/api/looks", json=LOOK | {"prompt": "d", "subject": []})
    assert full.status_code == 429
    assert error(full)["type"] == "BusyError"
    early = client.get(f"/api/looks/{first['id']}")
    assert (early.status_code, error(early)["message"]) == (409, "the look is running")
    gone = client.delete(f"/api/looks/{waiting[0]['id']}").json()
    assert gone["state"] == "cancelled"
    assert events(client, waiting[0]["id"]) == [gone]
    shared = client.post("/api/looks", json=LOOK | {"prompt": "a", "subject": []}).json()
    assert shared == {"id": first["id"], "place": 0, "cached": False}
    gate.open.set()
    assert events(client, waiting[1]["id"])[-1]["state"] == "done"
    assert gate.asked == ["a", "c"]


def test_what_fails_while_it_is_computed_says_why(gated):
    client, gate, _jobs = gated
    gate.open.set()
    asked = client.post("/api/looks", json=LOOK | {"prompt": "fail", "subject": []}).json()
    last = events(client, asked["id"])[-1]
    assert (last["state"], last["message"]) == ("failed", "this model\nis broken")
    late = client.get(f"/api/looks/{asked['id']}")
    assert late.status_code == 409
    assert "this model is broken" in error(late)["message"]


def test_the_page_and_its_script_and_no_other_file(client, service, tmp_path):
    page = client.get("/")
    assert '<div id="twinlens" data-server="/api">' in page.text
    assert '<script type="module" src="/static/twinlens.js"></script>' in page.text
    script = client.get("/static/twinlens.js")
    assert script.text == "export {};\n"
    assert script.headers["content-type"].startswith("text/javascript")
    for path in (
        "/static/", "/static/secret.txt", "/static/../secret.txt", "/static/%2e%2e/secret.txt",
        "/static/..%2fsecret.txt", "/static/twinlens.js/../secret.txt", "/static//secret.txt",
        "/static/twinlens.js%00", "/..%2f..%2fetc/passwd", "//etc/passwd", "/static/twinlens.js/",
    ):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code in (400, 404), path
        assert "secret\n" not in answer.text
    missing = create_app(service, bundle=tmp_path / "twinlens.js")
    answer = TestClient(missing, base_url="http://localhost").get("/static/twinlens.js")
    assert answer.status_code == 404
    assert "npm run build" in error(answer)["message"]


def test_a_bug_is_no_traceback_to_the_user(gpt2, monkeypatch):
    made = Service({"tiny": gpt2})
    monkeypatch.setattr(made, "listed", lambda: 1 / 0)
    client = TestClient(
        create_app(made), base_url="http://localhost", raise_server_exceptions=False
    )
    answer = client.get("/api/models")
    assert answer.status_code == 500
    assert error(answer)["message"] == "the server failed: ZeroDivisionError"
    made.jobs.close()


def test_the_schema_needs_no_model_and_types_everything(client):
    made = schema()
    assert client.get("/api/openapi.json").json() == made
    parts = made["components"]["schemas"]
    assert {"LookRequest", "Document", "Progress", "Card", "Refused", "Accepted"} <= set(parts)
    assert set(parts["Look"]["required"]) == set(parts["Look"]["properties"])
    assert set(parts["Progress"]["required"]) == set(parts["Progress"]["properties"])
    assert parts["LookRequest"]["required"] == ["model", "prompt"]
    done = made["paths"]["/api/looks/{look}"]["get"]["responses"]["200"]["content"]
    assert done["application/json"]["schema"] == {"$ref": "#/components/schemas/Document"}
