"""The pace: one small piece of work, the same in every measurement on every day.

Where two measurements differ and their paces differ alike, the machine has changed and not what was measured. The pace
is no model's code and no runtime's, so that nothing that is under test can change it.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from harness.latency.sampling import Call

_ELEMENTS = 2**16


@cache
def pace() -> Call:
    """Add two arrays of 256 KiB into a third, on one thread: arithmetic and memory, as layers are."""
    one, other, total = (np.ones(_ELEMENTS, np.float32) for _ in range(3))
    return partial(np.add, one, other, out=total)
