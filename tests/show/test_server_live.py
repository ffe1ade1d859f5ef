"""A real server on loopback: streams, clients who leave, many at once, and Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

import httpx

from tests.conftest import STORY
from twinlens.show.server.app import create_app
from twinlens.show.server.jobs import Jobs
from twinlens.show.server.listen import listen, server_of
from twinlens.show.server.service import Service

PATIENCE = 30
LOOK = {"model": "tiny", "prompt": STORY}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Passes this small are slower with two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Steps:
    """Measures nothing, in three steps that are let go one by one."""

    def __init__(self) -> None:
        self.began, self.ended = threading.Event(), threading.Event()
        self.go = threading.Semaphore(0)
        self.finished = 0

    def __call__(self, name, model, settings, tell) -> bytes:
        self.began.set()
        try:
            for step in range(1, 4):
                assert self.go.acquire(timeout=PATIENCE)
                tell(f"step {step}", step, 3)
            self.finished += 1
            return b"{}"
        finally:
            self.ended.set()


@contextlib.contextmanager
def serving(service):
    """A client of a server that runs in a thread."""
    where = listen("127.0.0.1", 0)
    server = server_of(create_app(service, where.rules))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [where.socket]})
    thread.start()
    try:
        with httpx.Client(base_url=where.address, timeout=PATIENCE) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        where.socket.close()
        assert not thread.is_alive()


@pytest.fixture
def slow(gpt2):
    """(client, steps, jobs) of a server whose one look takes steps."""
    steps, jobs = Steps(), Jobs(grace=0.0)
    with serving(Service({"tiny": gpt2}, jobs=jobs, measure=steps)) as client:
        yield client, steps, jobs
        steps.go.release(100)


@contextlib.contextmanager
def listening(client, name):
    """Progress of a look, as it comes."""
    with client.stream("GET", f"/api/looks/{name}/events") as answer:
        lines = answer.iter_lines()
        yield (json.loads(line[6:]) for line in lines if line.startswith("data: "))


def test_progress_comes_while_it_happens(slow):
    client, steps, _jobs = slow
    name = client.post("/api/looks", json=LOOK).json()["id"]
    assert steps.began.wait(PATIENCE)
    with listening(client, name) as told:
        assert next(told)["state"] == "running", "at once, before any step is done"
        for step in (1, 2):
            steps.go.release()
            now = next(told)
            assert (now["stage"], now["done"], now["total"]) == (f"step {step}", step, 3)
        steps.go.release()
        assert [now["state"] for now in told][-1] == "done", "and then the stream ends"
    assert client.get(f"/api/looks/{name}").content == b"{}"


def test_a_client_who_leaves_in_the_middle_ends_the_work(slow):
    client, steps, _jobs = slow
    name = client.post("/api/looks", json=LOOK).json()["id"]
    assert steps.began.wait(PATIENCE)
    with listening(client, name) as told:
        next(told)
    with listening(client, name) as told:  # the leaving is told to who asks again
        assert [now["state"] for now in told][-1] == "cancelled"
    steps.go.release(100)
    assert steps.ended.wait(PATIENCE)
    assert steps.finished == 0
    assert client.delete(f"/api/looks/{name}").json()["state"] == "cancelled"


def test_two_clients_share_a_look_and_one_may_leave(slow):
    client, steps, _jobs = slow
    with httpx.Client(base_url=client.base_url, timeout=PATIENCE) as other:
        name = client.post("/api/looks", json=LOOK).json()["id"]
        assert other.post("/api/looks", json=LOOK).json()["id"] == name
        assert steps.began.wait(PATIENCE)
        with listening(client, name) as told:
            next(told)
            with listening(other, name) as also:
                assert next(also)["state"] == "running"
            steps.go.release(100)
            assert [now["state"] for now in told][-1] == "done"
    assert steps.finished == 1


def test_one_s_cancel_leaves_the_look_to_the_others(slow):
    client, steps, jobs = slow
    name = client.post("/api/looks", json=LOOK).json()["id"]
    assert steps.began.wait(PATIENCE)
    with httpx.Client(base_url=client.base_url) as other, listening(client, name) as told:
        next(told)
        with listening(other, name) as also:
            next(also)
            assert len(jobs.find(name).listeners) == 2
            assert client.delete(f"/api/looks/{name}").json()["state"] == "running"
            steps.go.release(100)
            assert [now["state"] for now in also][-1] == "done"
    assert steps.finished == 1


def test_cancelling_stops_the_work_and_the_stream(slow):
    client, steps, _jobs = slow
    name = client.post("/api/looks", json=LOOK).json()["id"]
    assert steps.began.wait(PATIENCE)
    with listening(client, name) as told:
        next(told)
        with httpx.Client(base_url=client.base_url) as other:
            assert other.delete(f"/api/looks/{name}").json()["state"] == "cancelled"
        assert [now["state"] for now in told] == ["cancelled"]
    steps.go.release(100)
    assert steps.ended.wait(PATIENCE)
    assert steps.finished == 0


def test_a_load_of_small_requests_is_all_answered(gpt2):
    """Eight clients, 200 requests: looks that are new, shared and cached, cards, lists, errors."""
    with serving(Service({"tiny": gpt2})) as client:

        def one(number: int) -> list[int]:
            prompt = f"Once upon a time {number % 12}"
            if number % 4 == 0:
                return [client.get("/api/models").status_code]
            if number % 4 == 1:
                card = {"model": "tiny", "layer": 1, "neuron": number % 48, "prompt": prompt}
                return [client.post("/api/neurons", json=card).status_code]
            if number % 4 == 2:
                wrong = LOOK | {"focus": 10**4, "subject": ["Lily"]}
                return [client.post("/api/looks", json=wrong).status_code]
            asked = client.post("/api/looks", json=LOOK | {"prompt": prompt})
            with listening(client, asked.json()["id"]) as told:
                assert [now["state"] for now in told][-1] == "done"
            made = client.get(f"/api/looks/{asked.json()['id']}")
            assert made.json()["tokens"]["text"] == prompt
            return [asked.status_code, made.status_code]

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(one, range(200)))
    kinds = [answers[number::4] for number in range(4)]
    assert [set(map(tuple, kind)) for kind in kinds] == [{(200,)}, {(200,)}, {(422,)}, {(202, 200)}]


@pytest.mark.parametrize("patience", [10.0, 0.0])
def test_ctrl_c_ends_the_server_quietly_even_at_work(patience):
    """Also where a batch takes longer than the server waits for it."""
    serve = (
        "import sys; from twinlens.show.server.jobs import Jobs;"
        f" Jobs.close.__defaults__ = ({patience},);"
        " sys.argv = ['twinlens', 'serve', '--port', '0'];"
        " from twinlens.__main__ import main; main()"
    )
    command = [sys.executable, "-c", serve]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("twinlens: http://127.0.0.1:")
        with httpx.Client(base_url=line.split()[1], timeout=PATIENCE) as client:
            asked = client.get("/api/defaults").json()
            name = client.post("/api/looks", json=asked | {"neurons": True}).json()["id"]
            with listening(client, name) as told:
                assert next(told)["state"] in ("queued", "running")
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(httpx.HTTPError):
                    list(told)
        output, messages = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, output, messages) == (0, "", "")
