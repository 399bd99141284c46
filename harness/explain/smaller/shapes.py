"""Smaller tensors: an axis cut to one, to half, or by one; of written values the front or the back is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

import numpy as np

from harness.explain.smaller.literal import READABLE, frozen, written_out
from harness.spec.case import Case, Fill, TensorSpec

CONSTANT = (Fill("ones"), Fill("zeros"))


def smaller_shapes(case: Case) -> Iterator[Case]:
    """The case with one axis of one input shorter."""
    for at, spec in enumerate(case.inputs):
        for cut in _shorter(spec):
            yield replace(case, inputs=(*case.inputs[:at], cut, *case.inputs[at + 1 :]))


def _shorter(spec: TensorSpec) -> Iterator[TensorSpec]:
    """``spec`` drawn anew in each smaller shape, then with either end of the values that it has now."""
    readable = spec.values is not None or (prod(spec.shape) <= READABLE and spec.fill not in CONSTANT)
    written = written_out(spec) if readable else spec
    for axis, length in enumerate(spec.shape):
        for shorter in dict.fromkeys((1, length // 2, length - 1)):
            if not 1 <= shorter < length:
                continue
            shape = (*spec.shape[:axis], shorter, *spec.shape[axis + 1 :])
            if spec.values is None:
                yield resized(spec, shape)
            if readable:
                yield from (resized(written, shape, tail=tail) for tail in (False, True))


def resized(spec: TensorSpec, shape: tuple[int, ...], *, tail: bool = False) -> TensorSpec:
    """``spec`` in a shape that is nowhere longer; of written values the first along each axis, or the last."""
    if spec.values is None:
        return replace(spec, shape=shape)
    held = np.empty(spec.shape, dtype=object)
    held[...] = np.array(spec.values, dtype=object).reshape(spec.shape)
    kept = held[
        tuple(slice(old - new, old) if tail else slice(new) for old, new in zip(spec.shape, shape, strict=True))
    ]
    return replace(spec, values=frozen(kept.tolist()), shape=shape)
