"""Memory layouts without torch: an array as the tensor lies that :func:`harness.model.tensors.to_torch` makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.spec.case import Layout

Array = NDArray[Any]

CHANNELS_LAST_AXES = (4, 5)


def laid_out(values: Array, layout: Layout) -> Array:
    """``values`` in memory of their own: row-major, with the second axis innermost, or every second element of a row.

    ``channels_last`` is defined for four and five axes; for any other number the layout is contiguous. The elements
    between those of ``strided`` are NaN, or ones in every bit, so that a runtime which ignores strides is found out.
    """
    if layout == "channels_last" and values.ndim in CHANNELS_LAST_AXES:
        return np.moveaxis(np.array(np.moveaxis(values, 1, -1), order="C"), -1, 1)
    if layout == "strided" and values.ndim:
        wide = np.empty((*values.shape[:-1], 2 * values.shape[-1]), values.dtype)
        wide.view(np.uint8).fill(0xFF)  # in each floating dtype a NaN
        wide[..., ::2] = values
        return wide[..., ::2]
    return np.array(values, order="C")
