"""Who is nearer to the truth: eager torch or the target, by the float64 oracle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.compare.bits import same_bits
from harness.result import Distance

Array = NDArray[Any]


def distances(
    eager: Mapping[str, Array],
    target: Mapping[str, Array],
    oracle: Mapping[str, Array],
    *,
    undefined: Sequence[Array | None] = (),
) -> tuple[Distance, ...]:
    """One :class:`Distance` for each output of the oracle, paired by name.

    NaN against NaN and an infinity against itself are 0 apart. A distance is infinite where the answer lacks the
    output, has another shape, or holds NaN or an infinity where the oracle does not. ``undefined`` masks are left out.
    """
    return tuple(
        _between(index, eager.get(name), target.get(name), np.asarray(truth), _at(undefined, index))
        for index, (name, truth) in enumerate(oracle.items())
    )


def _between(index: int, eager: Array | None, target: Array | None, truth: Array, undefined: Array | None) -> Distance:
    eagers = _farthest(eager, truth, undefined)
    alike = eager is not None and target is not None and same_bits(eager, target)
    targets = eagers if alike else _farthest(target, truth, undefined)
    nearer: Literal["eager", "target", "neither"] = "neither"
    if eagers != targets:
        nearer = "eager" if eagers < targets else "target"
    return Distance(index, eagers, targets, nearer)


def _farthest(answer: Array | None, truth: Array, undefined: Array | None) -> float:
    """The largest ``|answer - truth|`` in float64."""
    if answer is None or np.shape(answer) != truth.shape:
        return math.inf
    with np.errstate(all="ignore"):
        found, wanted = np.asarray(answer).astype(np.float64), truth.astype(np.float64, copy=False)
        apart = np.abs(found - wanted)
        farthest = float(apart.max(initial=0.0))
        if undefined is None and math.isfinite(farthest):  # as nearly always: no NaN and no infinity on either side
            return farthest
        same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
        if undefined is not None:
            same |= undefined
        farthest = float(np.where(same, 0.0, apart).max(initial=0.0))
    return math.inf if math.isnan(farthest) else farthest


def _at(masks: Sequence[Array | None], index: int) -> Array | None:
    return masks[index] if index < len(masks) else None
