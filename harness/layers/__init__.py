"""One layer a file: its definition in NumPy float64, the tolerance that it deserves, and its wrong mutants.

A definition here is written from the mathematics and calls no torch; it is what eager torch
itself is held against. A layer without a file still works: float64 eager is its oracle, and
:func:`default_tolerance` its tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from harness.layers._tolerances import (
    MOVES_ONLY,
    SUMS_OF_PRODUCTS,
    composite_tolerance,
    default_tolerance,
    find,
)
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
    "output_size",
]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer: its constructor arguments, its weights, its inputs and its mode.

    ``args`` holds every constructor argument, defaults included. ``weights`` (parameters and
    buffers, by name) and ``inputs`` are float64 where they are floating; integers keep their dtype.
    ``dtype`` is the dtype that the layer computed in, for rules that depend on it.
    """

    args: Mapping[str, Any]
    weights: Mapping[str, Array]
    inputs: Sequence[Array]
    forward: Mapping[str, Any] = field(default_factory=dict)
    mode: Mode = "eval"
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the definition gives.

    ``magnitudes`` holds for each output the sum of the magnitudes of the terms that were added
    up for each element (same shape), or None where the output is not a sum. ``undefined`` is True
    at elements for which the definition has no answer (a window wholly in padding).
    """

    outputs: tuple[Array, ...]
    magnitudes: tuple[Array | None, ...] = ()
    undefined: tuple[Array | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Mutant:
    """A wrong layer that a good case must be able to tell from the right one.

    Exactly one of the changes is set: ``layer`` and ``args`` replace the layer or its
    arguments; ``weights`` maps the weights to wrong ones; ``outputs`` maps the right outputs to
    wrong ones. ``why_equal`` explains, where the mutant is the same function for this call, why no
    input could tell; such a mutant counts as excused, never as noticed.
    """

    name: str
    layer: str | None = None
    args: Mapping[str, Any] | None = None
    weights: Callable[[dict[str, Array]], dict[str, Array]] | None = None
    outputs: Callable[[tuple[Array, ...]], tuple[Array, ...]] | None = None
    why_equal: str | None = None


class Layer(Protocol):
    """One ``torch.nn`` class, understood. ``name`` is the class's name."""

    name: str

    def float64_reference(self, call: Call) -> Answer | None:
        """The answer by definition, in float64; None where the call is stochastic."""
        ...

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:
        """How far a correct implementation may be from another; ``opset`` is None for TorchScript."""
        ...

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """The wrong layers that are near this one."""
        ...
