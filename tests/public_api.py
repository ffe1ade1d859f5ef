"""The public face as text: names, signatures with defaults, fields, methods, errors.

`python -m tests.public_api --write` writes it to `public_api.txt`, which the tests hold twinlens
to: a change there is a change for users, and belongs in the changelog.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import twinlens as tl

FILE = Path(__file__).with_name("public_api.txt")


def described() -> str:
    """All of it, sorted by name; `errors` and `hamlet` with what is public in them."""
    lines = [line for name in sorted(tl.__all__) for line in _of(name, getattr(tl, name))]
    return "\n".join(lines) + "\n"


def _of(name: str, value: object) -> Iterator[str]:
    if inspect.isclass(value):
        yield from _of_class(name, value)
    elif isinstance(value, ModuleType):
        yield f"module {name}"
        own = {n: v for n, v in vars(value).items() if not n.startswith("_")}
        for n, v in sorted(own.items()):
            if getattr(v, "__module__", None) == value.__name__:
                yield from ("    " + line for line in _of(n, v))
    elif callable(value):
        yield f"def {name}{_signature(value)}"
    elif isinstance(value, dict | tuple | list):
        yield f"{name}: {', '.join(map(str, value))}"
    else:
        yield name  # the version


def _of_class(name: str, cls: type) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in cls.__bases__ if base is not object)
    frozen = dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    yield f"class {name}({bases}){', frozen' if frozen else ''}"
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    if not fields and "__init__" in vars(cls):
        yield f"    def __init__{_signature(cls.__init__)}"
    for field in fields:
        if not field.name.startswith("_"):
            yield f"    {field.name}: {field.type}{_default(field)}"
    known = {field.name for field in fields}
    for member, value in sorted(inspect.getmembers_static(cls)):
        home = next((base.__module__ for base in cls.__mro__ if member in vars(base)), "")
        if member.startswith("_") or member in known or not home.startswith("twinlens"):
            continue
        plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        yield f"    def {member}{_signature(plain)}" if callable(plain) else f"    {member}"


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is not dataclasses.MISSING:
        return f" = {field.default!r}"
    made = field.default_factory is not dataclasses.MISSING
    return " = ..." if made else ""


def _signature(function: object) -> str:
    """Names, kinds and defaults; types are in the reference, and checked by pyright."""
    signature = inspect.signature(function)  # type: ignore[arg-type]
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    made = signature.replace(parameters=bare, return_annotation=signature.empty)
    return re.sub(r" at 0x[0-9a-f]+", "", str(made))


def main() -> None:
    """Print it, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        FILE.write_text(described(), encoding="utf-8")
    else:
        print(described(), end="")


if __name__ == "__main__":
    main()
