"""``harness.compare``: one answer held against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.api.answers import Compared
from harness.api.tolerances import unscaled
from harness.compare.verdict import compare as hold
from harness.errors import UsageError
from harness.layers import default_tolerance
from harness.spec.tolerance import Exact, Tolerance

Array = NDArray[Any]


def compare(actual: Any, expected: Any, tolerance: Any) -> Compared:
    """See :func:`harness.api.compare`."""
    asked = unscaled(tolerance)
    given, meant = arrays(actual), arrays(expected)
    ordinary = {
        index: default_tolerance(None, {}, values.dtype.name, None).rule for index, values in enumerate(meant.values())
    }
    found = hold(
        given, meant, Tolerance(asked.rule or Exact(), {**(ordinary if asked.rule is None else {}), **asked.by_output})
    )
    return Compared(found.outputs, found.problems)


def arrays(given: Any) -> dict[str, Array]:
    """Outputs by name: one array or tensor, several by order, or several by name. Raises :class:`UsageError`."""
    if isinstance(given, Mapping):
        return {str(name): _array(value) for name, value in given.items()}
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return {f"output_{index}": _array(value) for index, value in enumerate(given)}
    return {"output_0": _array(given)}


def _array(value: Any) -> Array:
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if type(value).__module__.partition(".")[0] == "torch" or hasattr(value, "detach"):
        from harness.model.tensors import to_numpy

        return to_numpy(value)
    raise UsageError(f"outputs: {type(value).__name__} is not an array; give NumPy arrays or tensors")
