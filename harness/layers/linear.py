"""Linear: each output is a weighted sum of all inputs, plus a bias."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from harness.layers import Answer, Array, Call, Layer, Mutant, identity, why_empty, with_weight
from harness.layers._tolerances import compute_format, is_floating, storage_format, sum_error
from harness.spec.language.tolerances import Exact, Scaled, Tolerance


class Linear:
    """``y = x W^T + b`` over the last axis (torch.nn.Linear); ``weight`` is (out_features, in_features)."""

    name = "Linear"

    def float64_reference(self, call: Call) -> Answer:
        """The sums; the magnitudes include the bias and the underflow of the products."""
        x, weight = call.inputs[0], call.weights["weight"]
        bias = call.weights.get("bias", np.zeros(weight.shape[0], dtype=weight.dtype))
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            total = x @ weight.T + bias
            magnitude = np.abs(x) @ np.abs(weight).T + np.abs(bias) + self._underflow(call)
        return Answer((total,), magnitudes=(magnitude,), undefined=(None,))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """Scaled by the error of a sum of ``in_features`` products and a bias; exact for integers.

        ULP is no measure here: where the terms cancel, eager itself is thousands of ULP from the float64 reference.
        """
        if not is_floating(dtype):
            return Tolerance(Exact())
        return Tolerance(Scaled(sum_error(args["in_features"] + bool(args.get("bias", True)), dtype)))

    def _underflow(self, call: Call) -> Array | float:
        """The magnitude to add for products that underflow.

        A product below the normal range is rounded to a multiple of the smallest number, off by up to half of that
        whatever its size (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 2.2), so that two
        sums of k such products may be k smallest numbers apart. A product with zero is exact.
        """
        if not is_floating(call.dtype):
            return 0.0
        x, weight = call.inputs[0], call.weights["weight"]
        allowed = sum_error(weight.shape[1] + ("bias" in call.weights), call.dtype)
        products: Array = (x != 0).astype(np.float64) @ (weight != 0).astype(np.float64).T
        magnitude: Array = products * (
            compute_format(call.dtype).smallest / (allowed * storage_format(call.dtype).epsilon)
        )
        return magnitude

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """The weight transposed, shuffled, negated, zeroed or without a column; the bias changed; the identity."""
        weight = call.weights["weight"]
        leading = call.inputs[0].shape[:-1]
        empty = "the output has no elements" if 0 in {*leading, weight.shape[0]} else None
        changes: list[tuple[str, str, Callable[[Array], Array]]] = [
            ("weight", "rows shuffled", lambda w: np.roll(w, 1, axis=0)),
            ("weight", "columns shuffled", lambda w: np.roll(w, 1, axis=1)),
            ("weight", "without its last column", _without_last_column),
            ("weight", "negated", np.negative),
            ("weight", "zeroed", np.zeros_like),
        ]
        if weight.shape[0] == weight.shape[1]:
            yield identity(why_equivalent=why_empty(call) or _why_identity(call))
            changes.insert(0, ("weight", "transposed", np.transpose))
        if "bias" in call.weights:
            changes += [
                ("bias", "dropped", np.zeros_like),
                ("bias", "negated", np.negative),
                ("bias", "shuffled", lambda b: np.roll(b, 1)),
            ]
        for name, label, change in changes:
            yield with_weight(call, name, label, change, why_equivalent=empty)


def _why_identity(call: Call) -> str | None:
    """Why the layer is the identity; None if it is not."""
    # A larger unit matrix is not the identity: it multiplies infinities by its zeros.
    unit = np.array_equal(call.weights["weight"], [[1]]) and not np.any(call.weights.get("bias", 0))
    return "it multiplies one feature by 1" if unit else None


def _without_last_column(weight: Array) -> Array:
    changed = weight.copy()
    changed[:, -1:] = 0
    return changed


PROVIDES: tuple[Layer, ...] = (Linear(),)
