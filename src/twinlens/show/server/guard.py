"""Who may ask: the host, the origin, the token, the size; and the headers that bind the page.

A server on loopback can be reached by every page that the same browser shows. Such a page cannot
choose its `Host` (a name of its own that it points at 127.0.0.1 is refused), nor its `Origin`.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinlens.show.server.replies import (
    ForeignError,
    RefusalError,
    TokenError,
    TooLargeError,
    reply,
)

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none';"
    " form-action 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


@dataclass(frozen=True)
class Rules:
    """Which names the server answers to, which token it wants, and how large a body may be.

    `any_address`: it is bound to all addresses of the machine, so that each of them is its own. (A
    name is not: whoever owns a name decides where it points.)
    """

    names: frozenset[str] = LOOPBACK
    any_address: bool = False
    token: str | None = None
    cookie: str = "twinlens"
    most_bytes: int = 256 * 1024

    def is_ours(self, host: str) -> bool:
        """Whether a `Host` header names this server, on whatever port."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self.names or (self.any_address and _is_address(name))

    def knows(self, given: str) -> bool:
        """Whether this is the token, in a time that does not tell how much of it fits."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())


class Guard:
    """ASGI middleware that lets through what the rules allow."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self.app, self.rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with the body read and the headers added."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, _with_headers(scope, send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            self._refuse_foreign(headers)
            if (answer := self._entrance(scope)) is not None:
                await answer(scope, receive, send)
                return
            self._refuse_without_token(headers)
            body = await self._body(headers, receive)
        except RefusalError as error:
            answer = reply(error.status, type(error).__name__, str(error), error.field)
            answer.headers["connection"] = "close"  # whatever is left of the body
            await answer(scope, receive, send)
            return
        if body is not None:
            await self.app(scope, _again(body, receive), send)

    def _refuse_foreign(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.rules.is_ours(hosts[0]):
            raise ForeignError("this server does not go by that name; use the address it printed")
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{hosts[0]}", f"https://{hosts[0]}"):
            raise ForeignError("the request comes from another page")
        site, mode = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
        if site in ("cross-site", "same-site") and mode != "navigate":
            raise ForeignError("the request comes from another site")

    def _entrance(self, scope: Scope) -> Response | None:
        """`/?token=...` trades the token for a cookie, and leaves the address bar without it."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if self.rules.token is None or given is None or scope["path"] != "/":
            return None
        if not self.rules.knows(given[0]):
            raise TokenError("that is not the token; use the address that the server printed")
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self.rules.cookie, self.rules.token, httponly=True, samesite="strict")
        return answer

    def _refuse_without_token(self, headers: Headers) -> None:
        if self.rules.token is None:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        cookie = cookie_parser(headers.get("cookie", "")).get(self.rules.cookie, "")
        bearer = scheme.lower() == "bearer" and self.rules.knows(given.strip())
        if not (bearer or self.rules.knows(cookie)):
            raise TokenError("this server wants its token; use the address that it printed")

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        """The whole body, at most as large as allowed; None where the client left meanwhile."""
        most = self.rules.most_bytes
        stated = headers.get("content-length", "0")
        if not stated.isdecimal() or int(stated[:20]) > most:
            raise TooLargeError(f"the body has more than {most} bytes")
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise TooLargeError(f"the body has more than {most} bytes")
            if not message.get("more_body", False):
                return b"".join(parts)


def names_of(host: str, addresses: Iterable[str]) -> frozenset[str]:
    """The names of a server bound to `host`: itself, and loopback's where it listens there."""
    loopback = any(ipaddress.ip_address(address).is_loopback for address in addresses)
    return frozenset({host.lower(), *addresses}) | (LOOPBACK if loopback else frozenset())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body first, and then what else comes (that the client left)."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _with_headers(scope: Scope, send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            if scope["path"] != "/static/twinlens.js":
                headers.setdefault("cache-control", "no-store")
        await send(message)

    return sent
