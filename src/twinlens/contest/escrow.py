"""Escrow: red commits to a secret by its hash before blue starts, and opens it at the end.

The sealed file may be read by everyone: without the salt of 256 random bits no trigger can be tried
against its hash. The opened file holds secret and salt and stays with red until then.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinlens.contest.secret import Secret
from twinlens.errors import EscrowError, SecretError
from twinlens.results.reading import read_object, sound
from twinlens.results.writing import written

_SEALED, _OPENED = "twinlens escrow", "twinlens opened escrow"


def seal(
    secret: Secret,
    sealed: str | Path,
    opened: str | Path,
    *,
    facts: Mapping[str, Any] | None = None,
    salt: str | None = None,
) -> str:
    """Commit to a secret: write the sealed file (hash and public `facts`) and the opened one.

    `salt`: 64 hexadecimal digits (default: drawn by the system). Returns the SHA-256 over the
    canonical JSON of salt, secret and facts. Raises `EscrowError` where a file is there already or
    cannot be written; a commitment is never written over.
    """
    salt = secrets.token_hex(32) if salt is None else salt
    public, kept = dict(facts or {}), secret.plain()
    digest = _digest(salt, kept, public)
    contents = {
        Path(opened): {"kind": _OPENED, "salt": salt, "secret": kept},
        Path(sealed): {"kind": _SEALED, "sha256": digest, "facts": public},
    }
    for path in contents:
        if path.exists():
            raise EscrowError(f"{path} is there already; a commitment is not written over")
    for path, content in contents.items():
        _write(path, content)
    return digest


def open_escrow(sealed: str | Path, opened: str | Path) -> Secret:
    """The secret that was committed to, where both files belong together.

    Raises `EscrowError` where one is no such file, or where secret, salt or facts are not those
    of the hash.
    """
    public, own = _read(Path(sealed), _SEALED), _read(Path(opened), _OPENED)
    try:
        with sound(f"the escrow {sealed} and {opened}", EscrowError):
            made = _digest(own["salt"], own["secret"], public["facts"])
            same = hmac.compare_digest(made, public["sha256"])
            secret = Secret.from_plain(own["secret"])
    except SecretError as error:
        raise EscrowError(f"{opened} opens no secret: {error}") from error
    if not same:
        raise EscrowError(f"{opened} does not open {sealed}: the hash is another")
    return secret


def _digest(salt: str, secret: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    whole = {"salt": salt, "secret": secret, "facts": facts}
    canonical = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _write(path: Path, content: Mapping[str, Any]) -> None:
    writing = path.with_name(f".{path.name}.writing")
    with written(path, EscrowError):
        try:
            writing.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            writing.rename(path)
        finally:
            writing.unlink(missing_ok=True)


def _read(path: Path, kind: str) -> dict[str, Any]:
    found = read_object(path, EscrowError)
    if found.get("kind") != kind:
        raise EscrowError(f"{path} is no {kind}")
    return found
