"""Requests that nobody thought of: made from the schema by schemathesis, answered by its terms."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("schemathesis")

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

import twinlens as tl
from tests.conftest import random_model
from tests.tokenizers_ import byte_level
from twinlens.show.server.app import create_app
from twinlens.show.server.runs import Runs
from twinlens.show.server.service import Service


@pytest.fixture(scope="module")
def api(small_run):
    tokenizer = byte_level()
    model = tl.load(random_model("gpt2", tokenizer), tokenizer=tokenizer)
    service = Service({"tiny": model}, max_tokens=32, measure=lambda *_: b"{}")
    app = create_app(service, runs=Runs({"small": small_run.path}))
    loaded = schemathesis.openapi.from_asgi("/api/openapi.json", app, headers=HOST)
    yield loaded
    service.jobs.close()


HOST = {"host": "localhost"}
CHECKS = [
    getattr(schemathesis.checks, name)
    for name in (
        "not_a_server_error", "status_code_conformance", "content_type_conformance",
        "response_schema_conformance", "negative_data_rejection",
    )
]  # fmt: skip
OPERATIONS = [
    ("GET", "/api/models"), ("GET", "/api/defaults"), ("POST", "/api/looks"),
    ("GET", "/api/looks/{look}"), ("DELETE", "/api/looks/{look}"),
    ("GET", "/api/looks/{look}/events"), ("POST", "/api/neurons"), ("GET", "/api/runs"),
    ("GET", "/api/runs/{run}/facts"), ("GET", "/api/runs/{run}/facts/{fact}"),
    ("GET", "/api/runs/{run}/average"),
]  # fmt: skip


def test_every_operation_is_tried(api):
    paths = api.raw_schema["paths"]
    assert {(m.upper(), p) for p, item in paths.items() for m in item} == set(OPERATIONS)


MODES = [(*o, schemathesis.GenerationMode.POSITIVE) for o in OPERATIONS]
MODES += [
    (*o, schemathesis.GenerationMode.NEGATIVE)
    for o in OPERATIONS
    if o[0] == "POST" or o[1] == "/api/runs/{run}/facts"
]


@pytest.mark.parametrize(("method", "path", "mode"), MODES)
def test_every_answer_is_one_that_the_schema_promises(api, method, path, mode):
    operation = api[path][method]
    checks = list(CHECKS)
    if path == "/api/defaults":  # schemathesis reads the schema of a pair as one of draft 4
        checks.remove(schemathesis.checks.response_schema_conformance)

    @settings(
        max_examples=40, deadline=None, derandomize=True, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        if mode.is_positive and isinstance(case.body, dict):
            case.body["model"] = "tiny"  # else nothing gets further than the model's name
        if "run" in case.path_parameters:
            case.path_parameters["run"] = "small"
        case.call_and_validate(headers=HOST, checks=checks)

    ask()
