"""The operators and functions that an expression of a spec may use, with bounds on the size of their results."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MAX_INTEGER = 2**63
MAX_ELEMENTS = 2**26
MAX_PRODUCTS = 2**36
"""The largest number of multiplications in a matrix product: a machine does them within seconds."""

MIN_SAMPLES = 100
SIGNIFICANCE = 1e-6
MAX_EXACT_SAMPLES = 10**6


@dataclass(frozen=True, slots=True)
class Function:
    """A function with the number of positional arguments it takes; reducing ones take ``axis=`` and ``keepdims=``.

    ``broadcasts`` is True if the result has the common shape of the arguments.
    """

    call: Callable[..., Any]
    min_arguments: int = 1
    max_arguments: int = 1
    keywords: frozenset[str] = frozenset()
    broadcasts: bool = False


def check_size(elements: int) -> None:
    """Raise ``ValueError`` for a result of more than :data:`MAX_ELEMENTS` elements."""
    if elements > MAX_ELEMENTS:
        raise ValueError(f"a result of more than {MAX_ELEMENTS} elements")


def checked_operands(*operands: Any) -> tuple[Any, ...]:
    """``operands``, unchanged, if their broadcast shape is small enough.

    Raises ``TypeError`` for tuples, lists and strings, which Python would repeat or concatenate, and for None.
    """
    for each in operands:
        if isinstance(each, list | tuple | str) or each is None:
            raise TypeError(f"{type(each).__name__} is not a number or an array")
    check_size(prod(np.broadcast_shapes(*(np.shape(each) for each in operands))))
    return operands


def check_reduction(array: Any, axis: Any) -> None:
    """Bound the size of ``array`` reduced along ``axis``: an array without elements can have a large reduction."""
    shape = np.shape(array)
    axes = {*(axis if isinstance(axis, tuple | list) else (axis,))}
    if axis is not None and all(isinstance(each, int) for each in axes):
        check_size(prod(size for index, size in enumerate(shape) if not {index, index - len(shape)} & axes))


def power(base: Any, exponent: Any) -> Any:
    """``base ** exponent``; for two whole numbers exact while the result is small, else in floating point."""
    if isinstance(base, int) and isinstance(exponent, int):
        is_small = abs(base) < MAX_INTEGER and 0 <= exponent <= 64
        return base**exponent if is_small else np.float64(base) ** np.float64(exponent)
    return operator.pow(base, exponent)


def matmul(left: Any, right: Any) -> Any:
    """The matrix product, if its size and its number of multiplications are small enough."""
    left_shape, right_shape = np.shape(left), np.shape(right)
    rows, columns = left_shape[-2:-1], right_shape[-1:] if len(right_shape) > 1 else ()
    elements = prod((*np.broadcast_shapes(left_shape[:-2], right_shape[:-2]), *rows, *columns))
    check_size(elements)
    if elements * prod(left_shape[-1:]) > MAX_PRODUCTS:
        raise ValueError(f"more than {MAX_PRODUCTS} products of elements")
    return np.matmul(left, right)


def reshape(values: Any, shape: Any) -> Array:
    """``values`` in another shape."""
    return np.reshape(np.asarray(values), shape)


erf = np.vectorize(math.erf, otypes=[np.float64], doc="The error function.")


def uniform(values: Any, low: float, high: float) -> bool:
    """True if ``values`` may have been drawn from U(low, high): Kolmogorov-Smirnov test, p > 1e-6.

    Raises ``ValueError`` for fewer than 100 values: the test could hardly fail.
    """
    if np.ndim(low) or np.ndim(high):
        raise ValueError("uniform needs one number as the lower bound and one as the upper bound, not arrays")
    drawn = np.sort(np.ravel(np.asarray(values, dtype=np.float64)))
    if drawn.size < MIN_SAMPLES:
        raise ValueError(f"uniform needs at least {MIN_SAMPLES} values, and there are {drawn.size}")
    if not low < high or np.isnan(drawn).any():
        return False
    expected = np.clip((drawn - low) / (high - low), 0.0, 1.0)
    steps = np.arange(drawn.size + 1) / drawn.size
    distance = max(np.max(steps[1:] - expected), np.max(expected - steps[:-1]))
    return kolmogorov_smirnov_p(float(distance), drawn.size) > SIGNIFICANCE


def kolmogorov_smirnov_p(distance: float, count: int) -> float:
    """The probability that ``count`` correct samples are at least ``distance`` from their distribution.

    This is twice the one-sided probability by Smirnov's exact sum (Birnbaum & Tingey 1951): accurate to many digits
    where it is small, and too large above one percent. For more than a million samples, Maag & Dicaire's closed form of
    that sum is used, which is within 1e-4 of it.
    """
    if distance >= 1.0:
        return 0.0
    if count > MAX_EXACT_SAMPLES:
        return min(1.0, 2.0 * math.exp(-((6 * count * distance + 1) ** 2) / (18 * count)))
    below = np.arange(math.floor(count * (1.0 - distance)) + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    with np.errstate(divide="ignore"):  # the last term may be exactly at the end of its range
        rest = np.where(below < count, np.log(np.maximum(1.0 - distance - below / count, 0.0)), 0.0)
    logarithms = factorials[count] - factorials[below] - factorials[count - below]
    logarithms += (below - 1) * np.log(distance + below / count) + (count - below) * rest
    return min(1.0, 2.0 * distance * float(np.exp(logarithms).sum()))


BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: power,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}
COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: np.invert,
    ast.Not: np.logical_not,
}

REDUCTION_KEYWORDS = frozenset({"axis", "keepdims"})
_ELEMENTWISE = (
    "abs exp log log1p expm1 sqrt sin cos tan sinh cosh tanh sign floor ceil round "
    "isnan isinf isfinite zeros_like ones_like"
)
FUNCTIONS: Mapping[str, Function] = {
    **{name: Function(getattr(np, name)) for name in _ELEMENTWISE.split()},
    **{
        name: Function(getattr(np, name), keywords=REDUCTION_KEYWORDS) for name in ("sum", "mean", "prod", "max", "min")
    },
    **{name: Function(getattr(np, name), 2, 2, broadcasts=True) for name in ("minimum", "maximum")},
    "where": Function(np.where, 3, 3, broadcasts=True),
    "clip": Function(np.clip, 3, 3, broadcasts=True),
    "cumsum": Function(np.cumsum, keywords=frozenset({"axis"})),
    "reshape": Function(reshape, 2, 2),
    "transpose": Function(np.transpose, 1, 2),
    "matmul": Function(matmul, 2, 2),
    "erf": Function(erf),
    "uniform": Function(uniform, 3, 3),
}
CONSTANTS: Mapping[str, float] = {"pi": float(np.pi), "e": float(np.e), "inf": float("inf"), "nan": float("nan")}
