"""The functions that an expression of a spec may call, and nothing else."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FEWEST_SAMPLES = 100
SIGNIFICANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Function:
    """A function with how many arguments it takes by position; ``reduces`` ones take ``axis=`` and ``keepdims=``.

    ``broadcasts`` is True where its result has the arguments' common shape.
    """

    call: Callable[..., Any]
    least: int = 1
    most: int = 1
    keywords: frozenset[str] = frozenset()
    broadcasts: bool = False


def uniform(values: Any, low: float, high: float) -> bool:
    """True where ``values`` may have been drawn from U(low, high): Kolmogorov-Smirnov, p > 1e-6.

    Raises ``ValueError`` for fewer than 100 values: the test could hardly fail.
    """
    from scipy.stats import kstest

    if np.ndim(low) or np.ndim(high):
        raise ValueError("uniform is given arrays where one number is its least value, and one its greatest")
    drawn = np.ravel(np.asarray(values, dtype=np.float64))
    if drawn.size < FEWEST_SAMPLES:
        raise ValueError(f"uniform is given {drawn.size} values, and cannot judge fewer than {FEWEST_SAMPLES}")
    return bool(kstest(drawn, "uniform", args=(low, high - low)).pvalue > SIGNIFICANCE)


def erf(values: Any) -> Any:
    """The error function."""
    from scipy.special import erf as error_function

    return error_function(values)


def reshape(values: Any, shape: Any) -> Array:
    """``values`` in another shape."""
    return np.reshape(np.asarray(values), shape)


REDUCING = frozenset({"axis", "keepdims"})
_ONE = (
    "abs exp log log1p expm1 sqrt sin cos tan sinh cosh tanh sign floor ceil round "
    "isnan isinf isfinite zeros_like ones_like"
)
FUNCTIONS: Mapping[str, Function] = {
    **{name: Function(getattr(np, name)) for name in _ONE.split()},
    **{name: Function(getattr(np, name), keywords=REDUCING) for name in ("sum", "mean", "prod", "max", "min")},
    **{name: Function(getattr(np, name), 2, 2, broadcasts=True) for name in ("minimum", "maximum")},
    "where": Function(np.where, 3, 3, broadcasts=True),
    "clip": Function(np.clip, 3, 3, broadcasts=True),
    "cumsum": Function(np.cumsum, keywords=frozenset({"axis"})),
    "reshape": Function(reshape, 2, 2),
    "transpose": Function(np.transpose, 1, 2),
    "matmul": Function(operator.matmul, 2, 2),
    "erf": Function(erf),
    "uniform": Function(uniform, 3, 3),
}
CONSTANTS: Mapping[str, float] = {"pi": float(np.pi), "e": float(np.e), "inf": float("inf"), "nan": float("nan")}
