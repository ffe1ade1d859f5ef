"""The arrays of an `.npz` or `.npy` file that is not trusted.

numpy's own reader is not used: it may unpickle, and it makes room for whatever shape a file
declares. Here the shape must be as large as the bytes that follow it, what is read at once is
bounded, and objects are left where they are.
"""

from __future__ import annotations

import io
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Float

from twinlens.errors import ResultFileError, TwinlensError
from twinlens.results.foreign.fields import Fields, Stack, stack_shape

MOST_BYTES = 2**28  # of one array that is read whole
_MOST_HEADER = 2**14
_READABLE = "biufU"
_DAMAGE = (
    OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile,
    zlib.error, struct.error, MemoryError, OverflowError, SyntaxError,
)  # fmt: skip


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    size: int  # bytes before the first number


class Archive(Fields):
    """The arrays of a file. Close it, or use it in a `with`."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._close: list[Callable[[], None]] = []
        self._open: dict[str, tuple[Callable[[], io.BufferedIOBase], int]] = {}
        try:
            if path.suffix.lower() == ".npy":
                self._open["scores"] = (lambda: path.open("rb"), path.stat().st_size)
                path.open("rb").close()
            else:
                self._open_zip(path)
        except FileNotFoundError as error:
            raise ResultFileError(f"{path} does not exist") from error
        except _DAMAGE as error:
            raise self.refuse(_reason(error)) from error

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        for close in reversed(self._close):
            close()

    def known(self) -> Iterable[str]:
        """The names."""
        return self._open.keys()

    def refuse(self, why: str) -> TwinlensError:
        """The error that says what does not fit."""
        return ResultFileError(f"cannot convert {self.source}: {why}")

    def get(self, name: str) -> np.ndarray | None:
        """The array under a name; None where it is missing or holds objects."""
        if name not in self._open:
            return None
        try:
            stream, size = self._stream(name)
            with stream:
                header = _header(stream, size)
                if header.dtype.hasobject:
                    return None
                n_bytes = self._checked(name, header, size)
                if n_bytes > MOST_BYTES or math.prod(header.shape) > MOST_BYTES:
                    raise self.refuse(
                        f"{name} has the shape {header.shape}; expected at most {MOST_BYTES} bytes"
                    )
                return _array(_exactly(stream, n_bytes), header)
        except _DAMAGE as error:
            raise self.refuse(f"{name} cannot be read: {_reason(error)}") from error

    def stack(self, name: str) -> Stack:
        """A large array `[layer, token, vocab]` that is read a slice at a time."""
        try:
            stream, size = self._stream(name)
            self._close.append(stream.close)
            header = _header(stream, size)
            if header.dtype.kind != "f":
                raise self.refuse(f"{name} is {header.dtype}; expected floating point numbers")
            self._checked(name, header, size)
        except _DAMAGE as error:
            raise self.refuse(f"{name} cannot be read: {_reason(error)}") from error
        shape = stack_shape(self, name, header.shape)
        if header.fortran and sum(n > 1 for n in shape) > 1:
            raise self.refuse(f"{name} is in Fortran order; save np.ascontiguousarray({name})")
        return _Streamed(self, name, stream, header, shape)

    def _open_zip(self, path: Path) -> None:
        if path.is_dir():
            raise ResultFileError(f"{path} is a folder; give the files in it")
        archive = zipfile.ZipFile(path)
        self._close.append(archive.close)
        for info in archive.infolist():
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{info.filename} is compressed in a way that numpy does not use")
            name = info.filename.removesuffix(".npy")
            self._open[name] = (
                lambda info=info: cast("io.BufferedIOBase", archive.open(info)),
                info.file_size,
            )

    def _stream(self, name: str) -> tuple[io.BufferedIOBase, int]:
        opened, size = self._open[name]
        return opened(), size

    def _checked(self, name: str, header: _Header, size: int) -> int:
        """How many bytes the numbers take, which must be what the file has."""
        if header.dtype.kind not in _READABLE:
            raise self.refuse(f"{name} is {header.dtype}; expected numbers or text")
        n_bytes = math.prod(header.shape) * header.dtype.itemsize
        if n_bytes != size - header.size:
            raise self.refuse(
                f"{name} declares the shape {header.shape} of {header.dtype}, {n_bytes} bytes, but"
                f" {size - header.size} bytes follow"
            )
        return n_bytes


class _Streamed(Stack):
    """Read forwards where it can be: a compressed file goes back only to its beginning."""

    def __init__(
        self,
        fields: Archive,
        name: str,
        stream: io.BufferedIOBase,
        header: _Header,
        shape: tuple[int, int, int],
    ) -> None:
        super().__init__(shape, header.dtype)
        self.fields, self.name, self.stream, self.start = fields, name, stream, header.size

    def read(self, layer: int, start: int, stop: int) -> Float[np.ndarray, "token vocab"]:
        _, n_tokens, vocab = self.shape
        row = vocab * self.dtype.itemsize
        try:
            at = self.start + (layer * n_tokens + start) * row
            if self.stream.tell() != at:
                self.stream.seek(at)
            raw = _exactly(self.stream, (stop - start) * row)
        except _DAMAGE as error:
            raise self.fields.refuse(f"{self.name} cannot be read: {_reason(error)}") from error
        return np.frombuffer(raw, self.dtype).reshape(stop - start, vocab)


def _header(stream: io.BufferedIOBase, size: int) -> _Header:
    """What an array declares of itself; as few bytes are read as that can take."""
    beginning = io.BytesIO(stream.read(min(size, _MOST_HEADER)))
    version = np.lib.format.read_magic(beginning)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"its format has the version {version}; expected 1.0 or 2.0")
    try:
        shape, fortran, dtype = readers[version](beginning)
    except (TypeError, RecursionError, KeyError, tokenize.TokenError) as error:
        raise ValueError(f"it is no array: {error}") from error
    if any(n < 0 for n in shape):
        raise ValueError(f"it declares the shape {shape}")
    stream.seek(beginning.tell())
    return _Header(shape, dtype, fortran, beginning.tell())


def _array(raw: bytes, header: _Header) -> np.ndarray:
    """The numbers in this machine's byte order, in C order."""
    if not header.dtype.itemsize:
        return np.zeros(header.shape, header.dtype)
    array = np.frombuffer(raw, header.dtype)
    array = array.reshape(header.shape, order="F" if header.fortran else "C")
    return np.array(array, dtype=header.dtype.newbyteorder("="), order="C")


def _exactly(stream: io.BufferedIOBase, n_bytes: int) -> bytes:
    raw = stream.read(n_bytes)
    if len(raw) != n_bytes:
        raise EOFError(f"it ends after {len(raw)} of {n_bytes} bytes")
    return raw


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return " ".join(str(error).split()) or type(error).__name__
