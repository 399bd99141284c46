"""Tensors with their values written out, so that single ones can be kept, dropped and made plainer.

How large a case is to the one who has to read it.

Smaller tensors: an axis cut to one, to half, or by one; of written values the front or the back is kept.

One number made smaller wherever it stands: the features of a layer and the shape of its input belong together.

Plainer values: ones, counting, then each number by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from math import prod
from typing import Any

import numpy as np

from harness.explain.simpler_models import all_layers, mapped, with_model
from harness.reproduction.source import parts
from harness.spec.language.case import Case, Expectation, Fill, GraphModel, LayerModel, TensorSpec
from harness.spec.language.fills import array

READABLE = 64
"""At most so many elements are written out one by one."""


def written_out(spec: TensorSpec) -> TensorSpec:
    """``spec`` with what its fill draws as literal values in their shortest form; itself where it has values."""
    if spec.values is not None:
        return spec
    short = np.vectorize(_short, otypes=[object])(array(spec))
    return replace(spec, values=frozen(short.tolist()), fill=None)


def frozen(values: object) -> Any:
    """Lists as tuples, all the way down."""
    return tuple(map(frozen, values)) if isinstance(values, list) else values


def _short(number: Any) -> Any:
    """The shortest decimal that is read back as the same number of its dtype; a Python number."""
    if isinstance(number, bool | np.bool_ | int | np.integer):
        return number.item() if isinstance(number, np.generic) else number
    return float(str(number))


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
    sets = len(case.also) + len(case.bench) + case.draws
    return promises + returned + len(case.dynamic) + sets + odd + (case.mode == "train")


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


def smaller_numbers(case: Case) -> Iterator[Case]:
    """The case with all its shapes halved; then, for each number in shapes and arguments, smaller in all its places."""
    halves = (resized(spec, tuple(max(1, size // 2) if size else 0 for size in spec.shape)) for spec in case.inputs)
    yield replace(case, inputs=tuple(halves))
    sizes = {size for spec in case.inputs for size in spec.shape}
    given = {
        value
        for layer in parts(case.model.model)
        for argument in (*layer.args.values(), *layer.forward.values())
        for value in leaves(argument)
        if isinstance(value, int) and not isinstance(value, bool)
    }
    for number in sorted((sizes | given) - {0, 1}, reverse=True):
        for other in dict.fromkeys((1, number // 2, number - 1)):
            if number > other >= 1:
                yield _replaced(case, number, other)


def _replaced(case: Case, number: int, other: int) -> Case:
    def change(value: Any) -> Any:
        return other if type(value) is int and value == number else value

    def edit(layer: LayerModel) -> LayerModel:
        return replace(layer, args=mapped(layer.args, change), forward=mapped(layer.forward, change))

    inputs = tuple(resized(spec, tuple(change(size) for size in spec.shape)) for spec in case.inputs)
    weights = {
        name: spec if spec.takes_shape else resized(spec, tuple(change(size) for size in spec.shape))
        for name, spec in case.model.weights.items()
    }
    made = with_model(replace(case, inputs=inputs), all_layers(case.model.model, edit))
    return replace(made, model=replace(made.model, weights=weights))


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
