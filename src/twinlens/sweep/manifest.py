"""What a run's folder says of itself, and whether a command may go on in it."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinlens.errors import RunFolderError, SchemaVersionError
from twinlens.results.reading import read_object, sound
from twinlens.results.writing import replacing
from twinlens.sweep.facts import Facts

if TYPE_CHECKING:  # they bring torch, which who only reads a run does without
    from twinlens.sweep.plan import Prepared
    from twinlens.sweep.settings import SweepSettings

SCHEMA = 1
NAME = "manifest.json"
_MOST = 32_767  # layers: the tables have them as 16 bits
_NUMBER = (int, float, type(None))
_HAS: dict[str, Any] = {
    "facts": {"name": str, "sha256": str, "rejected": int},
    "settings": {"metric": str, "direction": str, "window": int, "method": str, "restored": int},
    "model": {"name": str, "weights_hash": str, "dtype": str, "device": str, "n_layers": int},
    "resolved": {"sigma": _NUMBER, "engines": dict, "threads": int},
    "versions": dict,
    "begun": str,
}
REJECTED = "rejected.jsonl"


def manifest_of(facts: Facts, settings: SweepSettings, prepared: Prepared) -> dict[str, Any]:
    """Settings, seed, weights hash, versions and host of a run that begins."""
    return {
        "schema": SCHEMA,
        "facts": {
            "name": facts.name,
            "sha256": facts.fingerprint(),
            "rows": len(facts.facts) + len(facts.rejected),
            "rejected": len(facts.bad),
            "repeated": len(facts.rejected) - len(facts.bad),
        },
        "settings": settings.plain(),
        "model": prepared.model,
        "resolved": prepared.resolved,
        "versions": prepared.versions,
        "host": platform.node(),
        "platform": platform.platform(),
        "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a run, or None where there is none.

    Raises `RunFolderError` where it is damaged, `SchemaVersionError` for another schema.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    found = read_object(path, RunFolderError)
    with sound(path, RunFolderError):
        schema = found["schema"]
        if schema == SCHEMA:
            _refuse_gaps(found, _HAS)
            if not 0 < found["model"]["n_layers"] <= _MOST:
                raise ValueError(f"a model has no {found['model']['n_layers']} layers")
    if schema != SCHEMA:
        raise SchemaVersionError(
            f"{folder} is a run of schema {schema!r}; this twinlens reads schema {SCHEMA}: use the"
            " version of twinlens that made it, or run the sweep again"
        )
    return found


def write_manifest(folder: Path, manifest: Mapping[str, Any], facts: Facts) -> None:
    """Write the manifest and, before it, the rows that are not measured."""
    with replacing(folder / REJECTED) as temporary:
        lines = [json.dumps(row.to_dict(), default=str) + "\n" for row in facts.rejected]
        temporary.write_text("".join(lines), encoding="utf-8")
    with replacing(folder / NAME) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def refuse_other(
    folder: Path, begun: Mapping[str, Any], facts: Facts, settings: SweepSettings
) -> None:
    """Raises `RunFolderError` where a run was begun with other facts or settings."""
    before: dict[str, Any] = dict(begun["settings"])
    for name, value in settings.plain().items():
        if before.get(name) != value:
            raise _refused(folder, name, before.get(name), value)
    if begun["facts"]["sha256"] != facts.fingerprint():
        raise _refused(folder, "facts", begun["facts"]["name"], f"{facts.name} as it is now")


def refuse_other_model(folder: Path, begun: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Raises `RunFolderError` where a run was begun with other weights, or computed elsewhere."""
    for name in ("weights_hash", "dtype", "device"):
        before = begun["model"][name]
        if before != model[name]:
            told = f"{begun['model']['name']} ({str(before)[:12]})"
            raise _refused(folder, f"model {name}", told, f"{model['name']} ({model[name][:12]})")


def changed_versions(begun: Mapping[str, Any], versions: Mapping[str, str]) -> list[str]:
    """Libraries that are of another version than when the run began."""
    return [
        f"{name} {begun['versions'].get(name)} -> {version}"
        for name, version in versions.items()
        if begun["versions"].get(name) != version
    ]


def _refuse_gaps(found: Mapping[str, Any], has: Mapping[str, Any]) -> None:
    """`KeyError` or `TypeError` for what is missing or of another type."""
    for name, kind in has.items():
        within = isinstance(kind, dict)
        if not isinstance(found[name], dict if within else kind):
            raise TypeError(f"{name} is {str(found[name])[:40]!r}")
        if within:
            _refuse_gaps(found[name], kind)


def _refused(folder: Path, name: str, before: Any, now: Any) -> RunFolderError:
    return RunFolderError(
        f"{folder} was begun with {name}={before!r}, not {now!r}; give the same again, or another"
        " folder"
    )
