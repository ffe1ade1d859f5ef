"""Who is let in: names of the host, origins, tokens, sizes; and the headers of every answer."""

from __future__ import annotations

import re
import socket
import sys

import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from twinlens import cli
from twinlens.errors import InputError
from twinlens.show.server.app import create_app
from twinlens.show.server.guard import Rules, names_of
from twinlens.show.server.jobs import Jobs
from twinlens.show.server.listen import listen
from twinlens.show.server.service import Service

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def service():
    made = Service({}, jobs=Jobs())
    yield made
    made.jobs.close()


@pytest.fixture
def ask(service):
    """Status of GET /api/models with some headers, by some rules."""

    def status(headers=None, rules=None, base="http://127.0.0.1:7878") -> int:
        client = TestClient(create_app(service, rules), base_url=base)
        return client.get("/api/models", headers=headers or {}).status_code

    return status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7878", 200),
        ("localhost:7878", 200),
        ("LOCALHOST:8000", 200),  # through a tunnel
        ("localhost", 200),
        ("[::1]:7878", 200),
        ("evil.example:7878", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:7878", 403),
        ("evil.example@localhost", 200),  # no browser sends it, and it names localhost
        ("192.168.0.7:7878", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_the_host_is_ours(ask, host, status):
    assert ask({"host": host}) == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:7878"}, 200),
        ({"origin": "http://localhost:7878"}, 403),  # not the name that was asked
        ({"origin": "http://127.0.0.1:3000"}, 403),  # another server of this machine
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"}, 200),
    ],
)
def test_the_origin_is_ours(ask, headers, status):
    assert ask(headers) == status


def test_a_server_for_all_addresses_answers_to_addresses_and_its_own_names(ask):
    rules = Rules(names_of("0.0.0.0", ["0.0.0.0"]) | {"box"}, any_address=True, token=TOKEN)
    known = {"authorization": f"Bearer {TOKEN}"}
    assert ask(known | {"host": "192.168.0.7:7878"}, rules) == 200
    assert ask(known | {"host": "box:7878"}, rules) == 200
    assert ask(known | {"host": "evil.example"}, rules) == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": f"Bearer {TOKEN}"}, 200),
        ({"authorization": f"bearer  {TOKEN}"}, 200),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
        ({"authorization": "Bearer \xe4"}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"cookie": f"other=1; twinlens={TOKEN}"}, 200),
        ({"cookie": "twinlens=wrong"}, 401),
    ],
)
def test_a_token_is_wanted_where_one_was_set(ask, headers, status):
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    assert ask(raw, Rules(token=TOKEN)) == status


def test_the_address_with_the_token_opens_the_page(service):
    app = create_app(service, Rules(token=TOKEN, cookie="twinlens-7878"))
    client = TestClient(app, base_url="http://localhost:7878", follow_redirects=False)
    for path in ("/", "/static/twinlens.js", "/api/models", "/api/openapi.json", "/?token=wrong"):
        assert client.get(path).status_code == 401, path
    assert client.get(f"/api/models?token={TOKEN}").status_code == 401, "only the page takes it"
    entered = client.get(f"/?token={TOKEN}")
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"].lower()
    assert cookie.startswith(f"twinlens-7878={TOKEN}")
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "twinlens" in client.get("/").text
    assert client.get("/api/models").status_code == 200


def test_large_bodies_are_refused_stated_or_not(service):
    client = TestClient(create_app(service, Rules(most_bytes=1000)), base_url="http://localhost")
    json = {"content-type": "application/json"}
    sizes = {"stated": b"x" * 1001, "in pieces": (b"x" * 100 for _ in range(11))}
    for name, body in sizes.items():
        answer = client.post("/api/looks", content=body, headers=json)
        assert answer.status_code == 413, name
        assert answer.json()["error"]["type"] == "TooLargeError"
    for length in ("-1", "1e3", "9" * 30):
        answer = client.post("/api/looks", content=b"", headers=json | {"content-length": length})
        assert answer.status_code == 413
    small = client.post("/api/looks", content=(b"x" * 100 for _ in range(10)), headers=json)
    assert small.status_code == 400, "and within the limit the body arrives whole"


@pytest.mark.parametrize("path", ["/", "/api/models", "/nowhere", "/api/looks/x/events"])
def test_every_answer_is_bound_by_its_headers(service, path):
    client = TestClient(create_app(service), base_url="http://localhost")
    for headers in ({}, {"host": "evil.example"}):
        got = client.get(path, headers=headers).headers
        policy = dict(
            rule.strip().split(" ", 1) for rule in got["content-security-policy"].split(";")
        )
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self' 'unsafe-inline'",
            "img-src": "'self' data: blob:",
            "connect-src": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
            "form-action": "'none'",
        }
        assert got["x-content-type-options"] == "nosniff"
        assert got["referrer-policy"] == "no-referrer"
        assert got["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in got


def test_no_websocket_is_opened(service):
    client = TestClient(create_app(service), base_url="http://localhost")
    with pytest.raises(WebSocketDisconnect) as ended, client.websocket_connect("/api/models"):
        pass
    assert ended.value.code == 1008


def test_where_to_listen():
    where = listen("127.0.0.1", 0)
    with where.socket:
        port = where.socket.getsockname()[1]
        assert where.address == f"http://127.0.0.1:{port}/"
        assert where.rules.names == {"127.0.0.1", "localhost", "::1"}
        assert where.rules.cookie == f"twinlens-{port}"
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1 port {port}"):
            listen("127.0.0.1", port)
    with pytest.raises(InputError, match="give --token auto"):
        listen("0.0.0.0", 0)
    everywhere = listen("0.0.0.0", 0, "auto")
    with everywhere.socket:
        assert re.fullmatch(r"http://127.0.0.1:\d+/\?token=[\w-]{32}", everywhere.address)
        assert everywhere.rules.is_ours(socket.gethostname())
        assert everywhere.rules.is_ours("10.1.2.3:80")
        assert not everywhere.rules.is_ours("evil.example")
    for host, port, token, says in (
        ("no.such.host.invalid", 0, None, "is not known"),
        ("127.0.0.1", 70_000, None, "is no port"),
        ("127.0.0.1", 0, "short", "at least 16 characters"),
        ("192.0.2.1", 0, TOKEN, "cannot listen"),
    ):
        with pytest.raises(InputError, match=says):
            listen(host, port, token)


@pytest.fixture
def serve(capsys):
    def launch(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            cli.main(["serve", *arguments])
        output, messages = capsys.readouterr()
        assert (stop.value.code, output) == (2, "")
        assert messages.count("\n") == 1
        return messages

    return launch


def test_wrong_options_of_serve_are_one_line(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "cannot listen" in serve("--port", str(taken.getsockname()[1]))
    assert "--token auto" in serve("--host", "0.0.0.0", "--port", "0")
    assert "no/such/model" in serve("no/such/model", "--port", "0")
    assert "two models are called 'a'" in serve("a=hamlet", "a=hamlet", "--port", "0")
    assert "--max-tokens 0" in serve("--max-tokens", "0", "--port", "0")
    assert "whole number" in serve("--port", "x")


def test_without_the_extra_it_says_which_one(serve, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert "pip install 'twinlens[viewer]'" in serve("--port", "0")
