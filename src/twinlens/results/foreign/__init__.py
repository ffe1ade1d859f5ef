"""Results of other tools, read into ours: layers from top to bottom, tokens from left to right.

`fields` reads arrays by name, from memory or from a file that is not trusted; `rome`, `trajectory`
and `plain` each know one format. None of them runs a pickle, a model or a tokenizer.
"""

from __future__ import annotations

from twinlens.results.base import Result
from twinlens.results.foreign import plain, rome, trajectory
from twinlens.results.foreign.archive import Archive
from twinlens.results.foreign.fields import Fields, Memory
from twinlens.results.foreign.names import Names

__all__ = ["Archive", "Fields", "Memory", "Names", "read"]


def read(
    fields: Fields,
    names: Names,
    *,
    model: str,
    top_k: int = 5,
    transposed: bool = False,
    flipped: bool = False,
) -> Result:
    """The result that some named arrays are: a trajectory, a case of ROME, or a plain grid."""
    if "log_probs" in fields or "scores" not in fields or "low_score" in fields:
        if transposed or flipped:
            raise fields.refuse(
                "transposed and flipped are about plain grids; the orientation of this is known"
            )
        if "log_probs" in fields:
            return trajectory.read(fields, names, model, top_k)
        if "low_score" in fields or "correct_prediction" in fields:
            return rome.read(fields, names, model)
        raise fields.refuse(
            f"it has the arrays {', '.join(sorted(fields.known())) or '(none)'}; expected those of"
            " a case of ROME (scores, low_score, high_score, input_ids, ...), of a trajectory of"
            " tuned-lens (log_probs, input_ids) or of a plain grid (scores, tokens)"
        )
    return plain.read(fields, names, model, transposed=transposed, flipped=flipped)
