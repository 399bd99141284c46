"""Simpler cases by tensor: smaller shapes, smaller numbers, simpler values. Also the complexity of a case.

Values that a fill draws are written out as literal values (:func:`written_out`), so that single elements can be
dropped or made simpler.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from math import prod
from typing import Any

import numpy as np

from harness.explain.simpler_models import all_layers, map_leaves, with_model
from harness.reproduction.source import layers_of
from harness.spec.language.case import Case, Expectation, Fill, GraphModel, LayerModel, TensorSpec
from harness.spec.language.inputs.fills import array

MAX_WRITTEN_ELEMENTS = 64
"""The largest tensor that is written out."""

FILL_COMPLEXITY: Mapping[str, float] = {"ones": 0, "zeros": 1, "full": 2, "arange": 3}
DRAWN_COMPLEXITY = 100.0
"""The complexity of a drawn element, higher than that of any written number."""

CONSTANT_FILLS = (Fill("ones"), Fill("zeros"))


# The complexity of a case


def complexity(case: Case) -> tuple[float, ...]:
    """How much a person has to read to understand the case; compared as tuples.

    The parts, most important first: layers, tensors, requirements, elements and sizes, arguments, values, seed.
    """
    layers = layers_of(case.model.model)
    tensors = [*case.inputs, *case.model.weights.values()]
    return (
        len(layers),
        len(case.inputs) + len(case.model.weights),
        _requirements(case),
        sum(prod(spec.shape) for spec in case.inputs) + sum(sum(spec.shape) for spec in case.inputs),
        sum(_complexity_of(value) + 1 for layer in layers for value in (*layer.args.values(), *layer.forward.values())),
        sum(_tensor_complexity(spec) for spec in tensors),
        float(case.seed != 0),
    )


def _complexity_of(value: Any) -> float:
    """The complexity of a number or a list of numbers: 0 and 1 are the simplest, then small whole numbers."""
    match value:
        case bool() | None | str():
            return 1.0
        case Mapping():
            return float(sum(1 + _complexity_of(item) for item in value.values()))
        case list() | tuple():
            return float(1 + sum(map(_complexity_of, value)))
        case TensorSpec():
            return sum(value.shape) + _tensor_complexity(value)
    number = float(value)
    if not math.isfinite(number):
        return 3.0
    magnitude = abs(number) if number >= 0 else abs(number) + 0.5
    if number.is_integer():
        return magnitude if abs(magnitude) <= 1 else 2 + math.log2(magnitude)
    return 40.0 + len(repr(number))


def _requirements(case: Case) -> float:
    defaults = asdict(Expectation())
    expectations = sum(1 for name, value in asdict(case.expect).items() if value != defaults[name])
    layouts = sum(spec.layout != "contiguous" for spec in case.inputs)
    model = case.model.model
    returns = len(model.returns) if isinstance(model, GraphModel) else 0
    shapes = len(case.dynamic) + len(case.also) + len(case.bench) + case.draws + len(case.samples)
    return expectations + returns + shapes + layouts + (case.mode == "train")


def _tensor_complexity(spec: TensorSpec) -> float:
    if spec.source is not None:
        return 10 + 2 * DRAWN_COMPLEXITY * (prod(spec.shape) or 1)
    if spec.values is not None:
        return 10 + sum(_complexity_of(value) for value in leaves(spec.values))
    kind = spec.fill.kind if spec.fill is not None else "normal"
    if kind in FILL_COMPLEXITY:
        return FILL_COMPLEXITY[kind]
    return 10 + DRAWN_COMPLEXITY * (prod(spec.shape) or 1) + float(spec.seed != 0)


# Smaller shapes


def smaller_shapes(case: Case) -> Iterator[Case]:
    """The case with one axis of one input shortened: to one, to half, or by one."""
    for index, spec in enumerate(case.inputs):
        for smaller in _smaller_tensors(spec):
            yield replace(case, inputs=(*case.inputs[:index], smaller, *case.inputs[index + 1 :]))


def _smaller_tensors(spec: TensorSpec) -> Iterator[TensorSpec]:
    """``spec`` with each smaller shape: drawn again, then with the first or the last of the present values."""
    writable = spec.values is not None or (prod(spec.shape) <= MAX_WRITTEN_ELEMENTS and spec.fill not in CONSTANT_FILLS)
    written = written_out(spec) if writable else spec
    for axis, length in enumerate(spec.shape):
        for shorter in dict.fromkeys((1, length // 2, length - 1)):
            if not 1 <= shorter < length:
                continue
            shape = (*spec.shape[:axis], shorter, *spec.shape[axis + 1 :])
            if not spec.is_literal:
                yield _resized(spec, shape)
            if writable:
                yield from (_resized(written, shape, keep_last=keep_last) for keep_last in (False, True))


def _resized(spec: TensorSpec, shape: tuple[int, ...], *, keep_last: bool = False) -> TensorSpec:
    """``spec`` with a smaller shape; of literal values the first (or last) along each axis are kept."""
    if spec.values is None:
        return spec if spec.is_literal else replace(spec, shape=shape)
    values = np.empty(spec.shape, dtype=object)
    values[...] = np.array(spec.values, dtype=object).reshape(spec.shape)
    lengths = zip(spec.shape, shape, strict=True)
    kept = values[tuple(slice(old - new, old) if keep_last else slice(new) for old, new in lengths)]
    return replace(spec, values=_as_tuples(kept.tolist()), shape=shape)


# Smaller numbers


def smaller_numbers(case: Case) -> Iterator[Case]:
    """The case with all its shapes halved; then with one number made smaller in all shapes and arguments at once.

    A number is changed everywhere, because the arguments of a layer and the shape of its input depend on each other.
    """
    halves = (_resized(spec, tuple(max(1, size // 2) if size else 0 for size in spec.shape)) for spec in case.inputs)
    yield replace(case, inputs=tuple(halves))
    sizes = {size for spec in case.inputs for size in spec.shape}
    integers = {
        value
        for layer in layers_of(case.model.model)
        for argument in (*layer.args.values(), *layer.forward.values())
        for value in leaves(argument)
        if isinstance(value, int) and not isinstance(value, bool)
    }
    for number in sorted((sizes | integers) - {0, 1}, reverse=True):
        for smaller in dict.fromkeys((1, number // 2, number - 1)):
            if number > smaller >= 1:
                yield _with_number_replaced(case, number, smaller)


def _with_number_replaced(case: Case, number: int, replacement: int) -> Case:
    def change(value: Any) -> Any:
        if isinstance(value, TensorSpec):
            return resized(value)
        return replacement if type(value) is int and value == number else value

    def resized(spec: TensorSpec) -> TensorSpec:
        return _resized(spec, tuple(change(size) for size in spec.shape))

    def edit(layer: LayerModel) -> LayerModel:
        return replace(layer, args=map_leaves(layer.args, change), forward=map_leaves(layer.forward, change))

    inputs = tuple(map(resized, case.inputs))
    weights = {name: spec if spec.takes_shape else resized(spec) for name, spec in case.model.weights.items()}
    changed = with_model(replace(case, inputs=inputs), all_layers(case.model.model, edit))
    return replace(changed, model=replace(changed.model, weights=weights))


# Simpler values


def simpler_values(case: Case) -> Iterator[Case]:
    """The case with simpler values in one tensor; inputs first, then weights."""
    for index, spec in enumerate(case.inputs):
        for simpler in _simpler_tensors(spec):
            yield replace(case, inputs=(*case.inputs[:index], simpler, *case.inputs[index + 1 :]))
    for name, spec in case.model.weights.items():
        for simpler in _simpler_tensors(spec):
            yield replace(case, model=replace(case.model, weights={**case.model.weights, name: simpler}))


def _simpler_tensors(spec: TensorSpec) -> Iterator[TensorSpec]:
    """``spec`` filled with ones, zeros or a range; then written out, with simpler numbers one at a time."""
    if spec.dtype != "bool":
        yield from (replace(spec, values=None, fill=Fill(kind)) for kind in ("ones", "zeros", "arange"))
    if spec.fill is None or spec.fill.kind not in FILL_COMPLEXITY:
        yield replace(spec, seed=0)
    if spec.takes_shape or prod(spec.shape) > MAX_WRITTEN_ELEMENTS or not prod(spec.shape):
        return
    written = written_out(spec)
    numbers = leaves(written.values)
    yield written
    yield _with_numbers(written, [_rounded(number) for number in numbers])
    if len(numbers) > 1:
        for number in dict.fromkeys(map(_with_one_nan, numbers)):
            yield _with_numbers(written, [number] * len(numbers))
    for index, number in enumerate(numbers):
        for simpler in _simpler_numbers(number):
            yield _with_numbers(written, [*numbers[:index], simpler, *numbers[index + 1 :]])


def _with_one_nan(number: Any) -> Any:
    """``number``, with one object for every NaN: a NaN is not equal to itself, but a dict finds the same object."""
    return math.nan if number != number else number  # noqa: PLR0124


def _with_numbers(spec: TensorSpec, numbers: list[Any]) -> TensorSpec:
    values = np.empty(len(numbers), dtype=object)
    values[:] = numbers
    return replace(spec, values=_as_tuples(values.reshape(spec.shape).tolist()), fill=None)


def _simpler_numbers(number: Any) -> Iterator[Any]:
    """Numbers that are simpler than ``number``, the simplest first."""
    if isinstance(number, bool):
        return
    candidates: list[Any] = [0, 1, -1, 2, 3, _rounded(number)]
    if not isinstance(number, int):
        candidates = [*map(float, candidates), round(number, 1) if math.isfinite(number) else 1.0]
    for candidate in dict.fromkeys(candidates):
        if _complexity_of(candidate) < _complexity_of(number):
            yield candidate


def _rounded(number: Any) -> Any:
    """The nearest whole number, in the same type; ``number`` itself if it is not finite."""
    if isinstance(number, float) and math.isfinite(number):
        return float(round(number))
    return number


# Literal values


def written_out(spec: TensorSpec) -> TensorSpec:
    """``spec`` with the values of its fill as literal values in their shortest form."""
    if spec.values is not None:
        return spec
    numbers = np.vectorize(_shortest, otypes=[object])(array(spec))
    return replace(spec, values=_as_tuples(numbers.tolist()), fill=None, source=None)


def leaves(values: Any) -> list[Any]:
    """The numbers in nested lists or tuples."""
    return [leaf for item in values for leaf in leaves(item)] if isinstance(values, list | tuple) else [values]


def _shortest(number: Any) -> Any:
    """The Python number with the shortest decimal form that is read back as the same number of the dtype."""
    if isinstance(number, bool | np.bool_ | int | np.integer):
        return number.item() if isinstance(number, np.generic) else number
    return float(str(number))


def _as_tuples(values: object) -> Any:
    """Nested lists as nested tuples."""
    return tuple(map(_as_tuples, values)) if isinstance(values, list) else values
