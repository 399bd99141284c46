"""The pace: the same small work, between all that is timed, on every day.

How long it takes says in what state the machine is at that moment: its frequency, whether a neighbour works on the same
core or fills the memory's bandwidth. Samples taken while it goes slowly say more about the neighbours than about the
call; and where two measurements differ and their paces differ alike, the machine has changed and not the call. The
work is no model's and no runtime's, so that nothing that is under test can change it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

_SIDE = 48  # small enough that every BLAS stays on one thread, and in the first cache
_PRODUCTS = 12
_STREAM = 2**19  # float32: 2 MiB, more than a core's own cache holds


@dataclass(frozen=True, slots=True)
class Paces:
    """``frame`` is arithmetic of some 40 us, done before and after each call; ``stream`` walks memory once a round."""

    frame: Callable[[], object]
    stream: Callable[[], object]


def paces() -> Paces:
    """On memory of their own, warm."""
    one, other = (np.full((_SIDE, _SIDE), 1 / _SIDE, np.float32) for _ in range(2))
    product, long = np.empty_like(one), np.ones(_STREAM, np.float32)

    def frame() -> None:
        for _ in range(_PRODUCTS):
            np.matmul(one, other, out=product)

    found = Paces(frame, partial(np.negative, long, out=long))
    for _ in range(10):
        found.frame()
        found.stream()
    return found
