"""The pace: the same small work, between all that is timed, on every day.

How long it takes says in what state the machine is at that moment: its frequency, whether a neighbour works on the same
core. Samples taken while it goes slowly say more about the neighbours than about the call; and where two measurements
differ and their paces differ alike, the machine has changed and not the call. The work is no model's and no runtime's,
so that nothing that is under test can change it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_SIDE = 48  # small enough that every BLAS stays on one thread, and in the first cache
_PRODUCTS = 3
PIECES = 5
"""The pace of a moment is that of the quickest of so many: one alone is hit by what was in the cache before it."""


def pace() -> Callable[[], object]:
    """Arithmetic of some 10 us on memory of its own, warm; to be done before and after each call."""
    one, other = (np.full((_SIDE, _SIDE), 1 / _SIDE, np.float32) for _ in range(2))
    product = np.empty_like(one)

    def work() -> None:
        for _ in range(_PRODUCTS):
            np.matmul(one, other, out=product)

    for _ in range(10):
        work()
    return work
