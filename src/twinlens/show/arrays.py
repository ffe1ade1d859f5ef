"""Numbers for the page: base64 of little-endian bytes, as small as they can be."""

from __future__ import annotations

import base64
from typing import Literal

import numpy as np

from twinlens.show.schema import Array


def array(values: np.ndarray, dtype: Literal["float32", "int32"] = "float32") -> Array:
    """Numbers for the page: float32 or int32; booleans as bytes; small whole numbers as uint16."""
    if values.dtype == bool:
        kept, name = values.astype("u1"), "uint8"
    elif dtype == "int32":
        whole = np.nan_to_num(values, nan=-1.0)
        small = bool(whole.size) and whole.min() >= 0 and whole.max() < 2**16
        kept, name = whole.astype("<u2" if small else "<i4"), "uint16" if small else "int32"
    else:
        kept, name = values.astype("<f4"), "float32"
    return Array(name, list(values.shape), base64.b64encode(kept.tobytes()).decode("ascii"))
