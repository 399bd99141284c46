"""Plainer values: ones, counting, then each number by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from harness.explain.smaller.literal import READABLE, frozen, written_out
from harness.explain.smaller.size import FILLS, cost, leaves
from harness.spec.case import Case, Fill, TensorSpec


def plainer_values(case: Case) -> Iterator[Case]:
    """The case with the values of one tensor plainer, inputs first, then weights."""
    for at, spec in enumerate(case.inputs):
        for plain in _plainer(spec):
            yield replace(case, inputs=(*case.inputs[:at], plain, *case.inputs[at + 1 :]))
    for name, spec in case.model.weights.items():
        for plain in _plainer(spec):
            yield replace(case, model=replace(case.model, weights={**case.model.weights, name: plain}))


def _plainer(spec: TensorSpec) -> Iterator[TensorSpec]:
    if spec.dtype != "bool":
        yield from (replace(spec, values=None, fill=Fill(kind)) for kind in ("ones", "zeros", "arange"))
    if spec.fill is None or spec.fill.kind not in FILLS:
        yield replace(spec, seed=0)
    if spec.takes_shape or prod(spec.shape) > READABLE or not prod(spec.shape):
        return
    written = written_out(spec)
    numbers = leaves(written.values)
    yield written
    yield _with(written, [_whole(number) for number in numbers])
    if len(numbers) > 1:
        yield from (_with(written, [number] * len(numbers)) for number in dict.fromkeys(map(repr_key, numbers)))
    for at, number in enumerate(numbers):
        for other in _plainer_numbers(number):
            yield _with(written, [*numbers[:at], other, *numbers[at + 1 :]])


def repr_key(number: Any) -> Any:
    """The number itself: NaN is not equal to itself, and one of it is enough."""
    return math.nan if number != number else number  # noqa: PLR0124


def _with(spec: TensorSpec, numbers: list[Any]) -> TensorSpec:
    held = np.empty(len(numbers), dtype=object)
    held[:] = numbers
    return replace(spec, values=frozen(held.reshape(spec.shape).tolist()), fill=None)


def _plainer_numbers(number: Any) -> Iterator[Any]:
    """Numbers that are easier to read than ``number``, the plainest first; what is not finite stays."""
    if isinstance(number, bool):
        return
    integer = isinstance(number, int)
    tried: list[Any] = [0, 1, -1, 2, 3, _whole(number)]
    if not integer:
        tried = [*map(float, tried), round(number, 1) if math.isfinite(number) else 1.0]
    yield from (other for other in dict.fromkeys(tried) if cost(other) < cost(number))


def _whole(number: Any) -> Any:
    """The nearest whole number, of the same type."""
    if isinstance(number, float) and math.isfinite(number):
        return float(round(number))
    return number
