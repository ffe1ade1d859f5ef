"""Standard output and error of a command, which does its work whoever reads them."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Generator
from typing import Any


@contextlib.contextmanager
def outliving_readers() -> Generator[None]:
    """Within this context a reader that goes away (`| head`) ends neither stream.

    What is printed after that goes nowhere; the command does its work and has its own exit code.
    Characters that the console's encoding lacks become `?` instead of a traceback.
    """
    with (
        contextlib.redirect_stdout(_outliving(sys.stdout)),
        contextlib.redirect_stderr(_outliving(sys.stderr)),
    ):
        yield


def to_nowhere(handle: int) -> None:
    """From now on the system drops what is written to a file that is open."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, handle)
    os.close(nowhere)


class _Outliving(io.FileIO):
    """An open file that drops what it is given once nobody reads it."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            to_nowhere(self.fileno())
            return len(data)


def _outliving(stream: Any) -> Any:
    """The same stream over `_Outliving`; itself where it is no file of the system's (in tests, on
    a Windows console)."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.reconfigure(errors="replace")
    raw = getattr(stream.buffer, "raw", stream.buffer)
    if not isinstance(raw, io.FileIO):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Outliving(raw.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering or stream.write_through,
    )
