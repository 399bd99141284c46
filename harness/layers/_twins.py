"""The few ways to make a twin: another layer, other arguments, other weights, other outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.layers import Array, Call, Twin

EMPTY = "the input has no elements"
SAME_WEIGHTS = "the changed weights are the same numbers"


def another(layer: str, *, why_equal: str | None = None, **args: Any) -> Twin:
    """Another layer of the same shape, with ``args``; the defaults for the rest."""
    shown = ", ".join(f"{key}={value!r}" for key, value in args.items())
    return Twin(name=f"{layer}({shown})", layer=layer, args=args, why_equal=why_equal)


def identity(*, why_equal: str | None = None) -> Twin:
    """Nothing at all."""
    return another("Identity", why_equal=why_equal)


def with_argument(call: Call, key: str, value: Any, *, why_equal: str | None = None) -> Twin:
    """The same layer with one argument changed."""
    return Twin(name=f"{key}={value!r}", args={**call.args, key: value}, why_equal=why_equal)


def with_weight(
    call: Call, name: str, wrong: str, change: Callable[[Array], Array], *, why_equal: str | None = None
) -> Twin:
    """The same layer with the weight ``name`` changed; equal where the change changes no number."""

    def changed(weights: dict[str, Array]) -> dict[str, Array]:
        return {**weights, name: change(weights[name])}

    weight = call.weights[name]
    if why_equal is None and np.array_equal(change(weight), weight, equal_nan=True):
        why_equal = SAME_WEIGHTS
    return Twin(name=f"{name} {wrong}", weights=changed, why_equal=why_equal)


def with_output(index: int, name: str, change: Callable[[Array], Array], *, why_equal: str | None = None) -> Twin:
    """The right answer with output ``index`` changed."""

    def changed(outputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (*outputs[:index], change(outputs[index]), *outputs[index + 1 :])

    return Twin(name=name, outputs=changed, why_equal=why_equal)


def nothing_to_see(call: Call) -> str | None:
    """Why no twin of the same shape could be told apart: there is no element to compare."""
    return EMPTY if call.inputs[0].size == 0 else None


def is_real(array: Array) -> bool:
    """True for floating inputs: the layers that most twins become take no integers."""
    return bool(np.issubdtype(array.dtype, np.floating))
