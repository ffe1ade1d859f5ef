"""Files appear whole or not at all, and what cannot be written is told by one named error."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

from twinlens.errors import ResultFileError, TwinlensError
from twinlens.results.reading import why

_PREFIX = ".twinlens-"


@contextlib.contextmanager
def replacing(path: Path) -> Generator[Path]:
    """A temporary file beside `path` that takes its place when the block ends without error.

    What a process that was killed left in the folder is removed. Raises `ResultFileError` where
    the folder does not exist or cannot be written.
    """
    with written(path, ResultFileError):
        _remove_left_over(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_mine(), suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def written(path: Path, kind: type[TwinlensError]) -> Generator[None]:
    """Within this context files are written; where that fails, a `kind` names `path` and why."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise kind(f"cannot write {path}: {why(error)}") from error


@contextlib.contextmanager
def making(path: Path, kind: type[TwinlensError], *, over: bool = False) -> Generator[Path]:
    """A hidden folder beside `path` that takes its place when the block ends without error.

    `path` is new, or an empty folder, or what is there is replaced (`over`). What a process that
    was killed left of the same folder is removed. Where it cannot be written, a `kind` names `path`
    and why.
    """
    making = path.with_name(f".{path.name}.writing")
    with written(path, kind):
        try:
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir(parents=True)
            yield making
            if over:
                shutil.rmtree(path, ignore_errors=True)
            elif path.exists():
                path.rmdir()
            making.rename(path)
        finally:
            shutil.rmtree(making, ignore_errors=True)


def _mine() -> str:
    """What the names of this process' temporary files begin with.

    Its number means something on its machine and, on Linux, among the processes that it can see:
    containers may share a host's name.
    """
    machine = platform.node()
    with contextlib.suppress(OSError):
        machine += os.readlink("/proc/self/ns/pid")
    machine = hashlib.sha256(machine.encode()).hexdigest()[:8]
    return f"{_PREFIX}{machine}-{os.getpid()}-"


def _remove_left_over(folder: Path) -> None:
    """Remove temporary files of processes of this machine that are no more."""
    machine = _mine().rsplit("-", 2)[0] + "-"
    for left in folder.glob(f"{machine}*"):
        process = left.name.removeprefix(machine).partition("-")[0]
        if process.isdecimal() and not _lives(int(process)):
            with contextlib.suppress(OSError):  # it may be somebody else's
                left.unlink()


def _lives(process: int) -> bool:
    if os.name != "posix":
        return True  # asking would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
