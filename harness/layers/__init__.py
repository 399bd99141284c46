"""The layers that harness defines itself, one a file: float64 reference in NumPy, tolerance and mutants.

A layer's float64 reference is written from the mathematics and does not call torch: eager torch is compared with it.
A layer without a file works too: its float64 reference is eager torch in float64, its tolerance that of
:func:`default_tolerance`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from harness import registry
from harness.deprecated import accept_old_names, old_attributes
from harness.layers._tolerances import MOVES_ONLY, SUMS_OF_PRODUCTS, composite_tolerance, default_tolerance
from harness.layers._windows import output_size
from harness.spec.language.case import Mode
from harness.spec.language.tolerances import Tolerance

__all__ = [
    "MOVES_ONLY",
    "SUMS_OF_PRODUCTS",
    "Answer",
    "Array",
    "Call",
    "Layer",
    "Mutant",
    "composite_tolerance",
    "default_tolerance",
    "find",
    "identity",
    "is_floating_array",
    "other_layer",
    "output_size",
    "why_empty",
    "with_argument",
    "with_output",
    "with_weight",
]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer: its constructor arguments, weights, inputs and mode.

    ``args`` holds every constructor argument, defaults included. ``weights`` (parameters and buffers, by name) and
    ``inputs`` are float64 if they are floating; integers keep their dtype. ``dtype`` is the dtype that the layer
    computed in, for rules that depend on it.
    """

    args: Mapping[str, Any]
    weights: Mapping[str, Array]
    inputs: Sequence[Array]
    forward: Mapping[str, Any] = field(default_factory=dict)
    mode: Mode = "eval"
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Answer:
    """The outputs of a float64 reference.

    ``magnitudes`` holds for each output the sum of the magnitudes of each element's terms (same shape), or None if
    the output is not a sum. ``undefined`` is True for elements that the layer does not define (a window wholly in
    padding), None if all are defined.
    """

    outputs: tuple[Array, ...]
    magnitudes: tuple[Array | None, ...] = ()
    undefined: tuple[Array | None, ...] = ()


@old_attributes(why_equal="why_equivalent")
@dataclass(frozen=True, slots=True)
class Mutant:
    """A wrong layer that a good case distinguishes from the correct one.

    Exactly one change is set: ``layer`` and ``args`` replace the layer or its arguments; ``weights`` maps the weights
    to wrong ones; ``outputs`` maps the correct outputs to wrong ones. ``why_equivalent`` is set if the mutant is the
    same function for this call: it says why no input can distinguish them. An equivalent mutant is neither killed nor
    survived.
    """

    name: str
    layer: str | None = None
    args: Mapping[str, Any] | None = None
    weights: Callable[[dict[str, Array]], dict[str, Array]] | None = None
    outputs: Callable[[tuple[Array, ...]], tuple[Array, ...]] | None = None
    why_equivalent: str | None = None


class Layer(Protocol):
    """One ``torch.nn`` class; ``name`` is the name of the class."""

    name: str

    def float64_reference(self, call: Call) -> Answer | None:
        """The outputs by the layer's definition, in float64; None if the call is stochastic."""
        ...

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:
        """How far one correct implementation may be from another; ``opset`` is None for TorchScript."""
        ...

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """The mutants of the layer for this call."""
        ...


def find(name: str) -> Layer | None:
    """The layer of the ``torch.nn`` class ``name``, from harness or a plugin; None if nobody provides it."""
    return cast("Layer | None", registry.plugins("layers").get(name))


_OLD_METHODS = {"float64_reference": "oracle", "mutants": "twins"}


def with_current_names(plugin: Any) -> Any:
    """``plugin`` with the current method names of :class:`Layer`. A method with an old name warns when it is called.

    :func:`harness.registry.plugins` calls this for every layer of another distribution. The next release drops the old
    names; see :mod:`harness.deprecated`.
    """
    renamed = {new: old for new, old in _OLD_METHODS.items() if _depth(plugin, old) < _depth(plugin, new)}
    if not renamed:
        return plugin
    methods = {new: _warning(plugin, old, new) for new, old in renamed.items()}
    unchanged = ("name", "float64_reference", "tolerance", "mutants")
    return SimpleNamespace(**{name: getattr(plugin, name) for name in unchanged if hasattr(plugin, name)} | methods)


def _warning(plugin: Any, old: str, new: str) -> Callable[[Call], Any]:
    def method(call: Call) -> Any:
        # Not when the plugin is loaded: what a worker prints before its first check reaches no report.
        message = f"layer plugin {plugin.name}: the protocol harness.layers.Layer has changed; rename {old} to {new}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return getattr(plugin, old)(call)

    return method


def _depth(plugin: object, name: str) -> int:
    """How far up the classes of ``plugin`` the name is defined: 0 for the object itself, 1 for its class, and so on."""
    namespaces = [getattr(plugin, "__dict__", {}), *map(vars, type(plugin).__mro__)]
    return next((depth for depth, names in enumerate(namespaces) if name in names), len(namespaces))


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


accept_old_names(__name__)
