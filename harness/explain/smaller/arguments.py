"""Arguments back at their defaults one at a time, and plainer ones where they must be there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from harness.explain.smaller.edits import each_layer
from harness.spec.case import Case, LayerModel


def plainer_arguments(case: Case) -> Iterator[Case]:
    """The case with one argument less, or one that is plainer."""
    yield from each_layer(case, _fewer)
    yield from each_layer(case, _plainer)


def _fewer(layer: LayerModel) -> Iterator[LayerModel]:
    for name in layer.args:
        yield replace(layer, args=_without(layer.args, name))
    for name in layer.forward:
        yield replace(layer, forward=_without(layer.forward, name))


def _plainer(layer: LayerModel) -> Iterator[LayerModel]:
    for name, value in layer.args.items():
        yield from (replace(layer, args={**layer.args, name: other}) for other in plainer(value))
    for name, value in layer.forward.items():
        yield from (replace(layer, forward={**layer.forward, name: other}) for other in plainer(value))


def plainer(value: Any) -> Iterator[Any]:
    """What could stand for an argument's value and is easier to read: one number for several, a smaller one for one."""
    match value:
        case bool() | str() | None:
            return
        case list() | tuple():
            if value:
                yield value[0]
            for at, item in enumerate(value):
                for other in plainer(item):
                    yield type(value)([*value[:at], other, *value[at + 1 :]])
        case int():
            yield from dict.fromkeys((1, value // 2, value - 1) if value > 1 else (abs(value),))
        case float():
            yield from dict.fromkeys((1.0, 0.0, float(round(value)) if abs(value) < 1e15 else 1.0, round(value, 1)))


def _without(arguments: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {other: value for other, value in arguments.items() if other != name}
