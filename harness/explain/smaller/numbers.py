"""One number made smaller wherever it stands: the features of a layer and the shape of its input belong together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from harness.explain.smaller.edits import all_layers, mapped, with_model
from harness.explain.smaller.shapes import resized
from harness.explain.smaller.size import leaves
from harness.reproduction.models import parts
from harness.spec.case import Case, LayerModel


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
