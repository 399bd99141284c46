"""How large a case is to the one who has to read it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from math import prod
from typing import Any

from harness.reproduction.models import parts
from harness.spec.case import Case, Expectation, GraphModel, TensorSpec

FILLS: Mapping[str, float] = {"ones": 0, "zeros": 1, "full": 2, "arange": 3}
DRAWN = 100.0
"""A drawn element is dearer than any that can be read."""


def size(case: Case) -> tuple[float, ...]:
    """A measure to compare cases by, what weighs most first: layers, promises, elements, arguments, values."""
    layers = parts(case.model.model)
    tensors = [*case.inputs, *case.model.weights.values()]
    return (
        len(layers),
        len(case.inputs) + len(case.model.weights),
        _promises(case),
        sum(prod(spec.shape) for spec in case.inputs) + sum(sum(spec.shape) for spec in case.inputs),
        sum(cost(value) + 1 for layer in layers for value in (*layer.args.values(), *layer.forward.values())),
        sum(_values(spec) for spec in tensors),
        float(case.seed != 0),
    )


def cost(value: Any) -> float:
    """How much there is to a number or to lists of numbers: 0 and 1 are the simplest, then small whole numbers."""
    match value:
        case bool() | None | str():
            return 1.0
        case Mapping():
            return float(sum(1 + cost(item) for item in value.values()))
        case list() | tuple():
            return float(1 + sum(map(cost, value)))
    number = float(value)
    if not math.isfinite(number):
        return 3.0
    plain = abs(number) if number >= 0 else abs(number) + 0.5
    if number.is_integer():
        return plain if abs(plain) <= 1 else 2 + math.log2(plain)
    return 40.0 + len(repr(number))


def _promises(case: Case) -> float:
    nothing = asdict(Expectation())
    promises = sum(1 for name, value in asdict(case.expect).items() if value != nothing[name])
    odd = sum(spec.layout != "contiguous" for spec in case.inputs)
    model = case.model.model
    returned = len(model.returns) if isinstance(model, GraphModel) else 0
    return promises + returned + len(case.dynamic) + len(case.also) + len(case.bench) + odd + (case.mode == "train")


def _values(spec: TensorSpec) -> float:
    if spec.values is not None:
        return 10 + sum(cost(value) for value in leaves(spec.values))
    kind = spec.fill.kind if spec.fill is not None else "normal"
    seeded = float(spec.seed != 0)
    if kind in FILLS:
        return FILLS[kind]
    return 10 + DRAWN * (prod(spec.shape) or 1) + seeded


def leaves(values: Any) -> list[Any]:
    """The numbers in nested tuples."""
    return [leaf for item in values for leaf in leaves(item)] if isinstance(values, list | tuple) else [values]
