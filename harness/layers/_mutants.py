"""Make a mutant: another layer, other arguments, other weights or other outputs; and say if it is equivalent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.layers import Array, Call, Mutant


def other_layer(layer: str, *, why_equivalent: str | None = None, **args: Any) -> Mutant:
    """Another layer with the same output shape, with ``args`` and else its defaults."""
    shown = ", ".join(f"{key}={value!r}" for key, value in args.items())
    return Mutant(name=f"{layer}({shown})", layer=layer, args=args, why_equivalent=why_equivalent)


def identity(*, why_equivalent: str | None = None) -> Mutant:
    """The identity: the layer is left out."""
    return other_layer("Identity", why_equivalent=why_equivalent)


def with_argument(call: Call, key: str, value: Any, *, why_equivalent: str | None = None) -> Mutant:
    """The same layer with one argument changed."""
    return Mutant(name=f"{key}={value!r}", args={**call.args, key: value}, why_equivalent=why_equivalent)


def with_weight(
    call: Call, name: str, label: str, change: Callable[[Array], Array], *, why_equivalent: str | None = None
) -> Mutant:
    """The same layer with the weight ``name`` changed; equivalent if the change leaves every number as it is.

    ``label`` says what the change does, as in ``weight transposed``.
    """

    def changed(weights: dict[str, Array]) -> dict[str, Array]:
        return {**weights, name: change(weights[name])}

    weight = call.weights[name]
    if why_equivalent is None and np.array_equal(change(weight), weight, equal_nan=True):
        why_equivalent = "the changed weights are the same numbers"
    return Mutant(name=f"{name} {label}", weights=changed, why_equivalent=why_equivalent)


def with_output(
    index: int, name: str, change: Callable[[Array], Array], *, why_equivalent: str | None = None
) -> Mutant:
    """The same layer with its output ``index`` changed."""

    def changed(outputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (*outputs[:index], change(outputs[index]), *outputs[index + 1 :])

    return Mutant(name=name, outputs=changed, why_equivalent=why_equivalent)


def why_empty(call: Call) -> str | None:
    """Why every mutant with the same output shape is equivalent: no element to compare; None if there is one."""
    return "the input has no elements" if call.inputs[0].size == 0 else None


def is_floating_array(array: Array) -> bool:
    """True for a floating dtype: most layers that serve as mutants do not take integers."""
    return bool(np.issubdtype(array.dtype, np.floating))
