"""Where the server listens, and until when."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twinlens.errors import InputError
from twinlens.results.reading import why
from twinlens.show.server.guard import Rules, names_of

if TYPE_CHECKING:
    import uvicorn

_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,200}")


@dataclass(frozen=True)
class Listening:
    """A socket that listens, and the rules of who may ask there."""

    socket: socket.socket
    host: str
    rules: Rules

    @property
    def address(self) -> str:
        """What to type into a browser."""
        host = self.host
        if self.rules.any_address:
            host = "127.0.0.1" if self.socket.family == socket.AF_INET else "::1"
        name = f"[{host}]" if ":" in host else host
        token = "" if self.rules.token is None else f"?token={self.rules.token}"
        return f"http://{name}:{self.socket.getsockname()[1]}/{token}"


def listen(host: str, port: int, token: str | None = None) -> Listening:
    """Listen at a host and port (0: a free one); `token="auto"` makes one.

    Raises `InputError` where the port is taken, the host is none of this machine, the token is
    short, or other machines could ask without one.
    """
    token = _checked(token)
    family, address = _resolved(host, port)
    try:
        bound = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port}: {error.strerror}; give another --port or --host"
        ) from error
    number = bound.getsockname()[1]
    at = ipaddress.ip_address(address[0])
    if not at.is_loopback and token is None:
        bound.close()
        raise InputError(
            f"other machines can reach --host {host}: give --token auto, or a token of your own"
        )
    names = names_of(host, [str(at)])
    if at.is_unspecified:
        names |= {"localhost", socket.gethostname().lower(), socket.getfqdn().lower()}
    rules = Rules(names, at.is_unspecified, token, cookie=f"twinlens-{number}")
    return Listening(bound, host, rules)


def server_of(app: Any) -> uvicorn.Server:
    """The HTTP server around an application; it writes no log."""
    import uvicorn

    config = uvicorn.Config(
        app, log_config=None, log_level="critical", access_log=False, server_header=False,
        proxy_headers=False, ws="none", lifespan="on", timeout_graceful_shutdown=1,
    )  # fmt: skip
    return uvicorn.Server(config)


def run(app: Any, where: Listening) -> None:
    """Answer until interrupted."""
    with contextlib.suppress(KeyboardInterrupt):
        server_of(app).run(sockets=[where.socket])


def _checked(token: str | None) -> str | None:
    if token == "auto":
        return secrets.token_urlsafe(24)
    if token is not None and not _TOKEN.fullmatch(token):
        raise InputError(
            "the token must have at least 16 characters, letters, digits and . _ ~ - only; or give"
            " --token auto"
        )
    return token


def _resolved(host: str, port: int) -> tuple[int, Any]:
    if not 0 <= port < 2**16:
        raise InputError(f"--port {port} is no port; expected 0 to {2**16 - 1}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"--host {host!r} is not known: {why(error)}") from error
    return family, address
