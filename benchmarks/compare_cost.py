"""The time of one comparison, and of ``numpy.testing.assert_allclose`` on the same arrays in the same process.

    python benchmarks/compare_cost.py

The two alternate. The time of each is the best of its rounds, because noise only adds time.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from harness.compare.verdict import compare
from harness.spec.language.tolerances import Close, Exact, Rule, Scaled, Tolerance, Ulp

ROUNDS = 15
SECONDS_A_ROUND = 0.02
TIGHT = Close(1e-5, 1e-8)


def main() -> None:
    """Print one row for each size, dtype and rule."""
    rows = [
        _row(100, "float32", TIGHT, "equal"),
        _row(100, "float32", TIGHT, "near"),
        _row(100, "float32", Ulp(32), "near"),
        _row(100, "float32", Scaled(32), "near"),
        _row(100, "float16", Close(1e-2, 1e-5), "near"),
        _row(100, ml_dtypes.bfloat16, Close(1e-1, 1e-5), "near"),
        _row(100, "float64", TIGHT, "near"),
        _row(100, "int64", Exact(), "equal"),
        _row(10_000, "float32", TIGHT, "near"),
        _row(1_000_000, "float32", TIGHT, "equal"),
        _row(1_000_000, "float32", TIGHT, "near"),
        _row(10_000_000, "float32", TIGHT, "near"),
    ]
    print(
        tabulate(
            rows,
            headers=["elements", "dtype", "rule", "arrays", "compare us", "assert_allclose us", "ratio"],
            floatfmt=".1f",
        )
    )


def _row(size: int, dtype: Any, rule: Rule, kind: str) -> list[Any]:
    expected, actual = _arrays(size, np.dtype(dtype), kind)
    tolerance, terms = Tolerance(rule), [np.abs(expected.astype(np.float64))]

    def verdict() -> None:
        assert compare({"o": actual}, {"o": expected}, tolerance, magnitudes=terms).passed

    def allclose() -> None:
        np.testing.assert_allclose(actual, expected, rtol=0.2, atol=1e-5)

    ours, theirs = _best_in_turn(verdict, allclose)
    return [size, np.dtype(dtype).name, str(rule), kind, ours * 1e6, theirs * 1e6, ours / theirs]


def _arrays(size: int, dtype: np.dtype[Any], kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    drawn = np.random.default_rng(0).standard_normal(size) * (100 if dtype.kind == "i" else 1)
    expected = drawn.astype(dtype)
    return expected, expected.copy() if kind == "equal" else np.nextafter(expected, np.array(np.inf, dtype))


def _best_in_turn(*calls: Callable[[], None]) -> list[float]:
    """Seconds per call of each of ``calls``: the best of the rounds."""
    loops = [max(1, int(SECONDS_A_ROUND / _seconds(call, 1))) for call in calls]
    times = [[_seconds(call, loop) for call, loop in zip(calls, loops, strict=True)] for _ in range(ROUNDS)]
    return [min(column) for column in zip(*times, strict=True)]


def _seconds(call: Callable[[], None], loop: int) -> float:
    start = perf_counter()
    for _ in range(loop):
        call()
    return (perf_counter() - start) / loop


if __name__ == "__main__":
    main()
