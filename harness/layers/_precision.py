"""What each floating dtype can hold, and how far a sum computed in it may be from another sum of the same terms."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Precision:
    """One binary floating format (IEEE 754-2019, table 3.5; bfloat16 as in the Intel white paper of 2018).

    ``epsilon`` is the gap after 1, ``smallest_normal`` the least number that still has full
    precision, and ``smallest`` the least positive number, which is also the gap between the subnormals.
    """

    epsilon: float
    smallest_normal: float
    smallest: float


FORMATS = {
    "float16": Precision(2.0**-10, 2.0**-14, 2.0**-24),
    "bfloat16": Precision(2.0**-7, 2.0**-126, 2.0**-133),
    "float32": Precision(2.0**-23, 2.0**-126, 2.0**-149),
    "float64": Precision(2.0**-52, 2.0**-1022, 2.0**-1074),
}

_HALVES = ("float16", "bfloat16")


def is_floating(dtype: str) -> bool:
    """True for the dtypes that round."""
    return dtype in FORMATS


def is_half(dtype: str) -> bool:
    """True for the sixteen-bit dtypes, which kernels compute in float32 and round once at the end."""
    return dtype in _HALVES


def stored(dtype: str) -> Precision:
    """The format of a result; integers and booleans become float32, PyTorch's default dtype."""
    return FORMATS.get(dtype, FORMATS["float32"])


def computed(dtype: str) -> Precision:
    """The format that kernels compute in: float64 for float64, float32 for all others."""
    return FORMATS["float64" if dtype == "float64" else "float32"]


def sum_error(terms: int, dtype: str) -> float:
    """How far two correct sums of ``terms`` terms may be apart, in units of eps times the sum of the magnitudes.

    Every addition rounds by at most eps/2 of the partial sum (Higham, Accuracy and Stability of
    Numerical Algorithms, 2nd ed., section 4.2). The worst case, ``terms * eps`` for two orders,
    needs every rounding to conspire, so it would see nothing in long sums. What does conspire is
    equal terms summed one after another: while the sum stays in one binade, every rounding is
    the same. Half of the additions fall in the last binade, each off by at most eps/4 of the final sum, a
    quarter in the binade before, off by half as much, and so on: terms/8 * (1 + 1/4 + 1/16 + ...) = terms/6.
    Terms of mixed signs or sizes err like a random walk, far below that. The roundings of a
    product, of a division and of the result, in both sums, are the 2 on top.

    Measured, largest seen against float64 (float32, eager and ONNX Runtime on a CPU): a constant
    AvgPool window of 3136 terms 266 (bound 525), of 49 terms 3.8 (10.2), random ones of 4 terms 1.6 (2.7) and of 9
    terms 2.0 (3.5); Linear of 401 terms 23.6 (68.8), of 17 terms 2.0 (4.8); in float64, of 4097 terms 350 (685).

    The sixteen-bit dtypes sum in float32, so that the sum's own error all but disappears in the last rounding.
    """
    return 2 + terms / 6 * computed(dtype).epsilon / stored(dtype).epsilon
