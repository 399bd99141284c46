"""AvgPool1d, AvgPool2d, AvgPool3d: the sum of each window over its divisor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.layers import Answer, Array, Call, Layer, Mutant, identity, why_empty, with_argument
from harness.layers._pooling import argument_mutants, average_pool_accepts, other_pool, why_identity
from harness.layers._tolerances import is_floating, sum_error
from harness.layers._windows import Geometry, Windows, per_axis
from harness.spec.language.tolerances import Exact, Scaled, Tolerance


class AvgPool:
    """Average pooling over ``dims`` axes (torch.nn.AvgPool1d, AvgPool2d, AvgPool3d)."""

    def __init__(self, dims: int) -> None:
        self.name = f"AvgPool{dims}d"
        self.dims = dims

    def float64_reference(self, call: Call) -> Answer:
        """Each window's sum over its divisor, with the sum of magnitudes over the same divisor.

        The divisor is ``divisor_override`` if it is set; else, with ``count_include_pad``, the number of the window's
        positions in the plane and in the declared padding, without those beyond it under ``ceil_mode``; else the number
        of its positions in the plane. Integer division truncates towards zero, as in C.

        Raises :class:`ValueError` for a divisor of zero, as PyTorch does.
        """
        x = call.inputs[0]
        windows = Geometry.of(call.args, self.dims).windows(x.shape[-self.dims :])
        divisor = _divisor(call.args, windows)
        terms = np.where(windows.in_plane, windows.gather(x, self.dims), x.dtype.type(0))
        with np.errstate(invalid="ignore", over="ignore"):
            total = terms.sum(axis=-1, dtype=x.dtype)
            magnitude = np.abs(terms.astype(np.float64)).sum(axis=-1) / np.abs(divisor)
            return Answer((_divided(total, divisor),), magnitudes=(magnitude,), undefined=(None,))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """Scaled by the error of a sum with one term per kernel element; exact for integers.

        ONNX Runtime sums 2 x 2 windows in another order below opset 19 (1.6 eps of the magnitudes from eager,
        2.3 in an earlier study) and in eager's order since; the rule requires neither order.
        """
        if not is_floating(dtype):
            return Tolerance(Exact())
        return Tolerance(Scaled(sum_error(prod(per_axis(args["kernel_size"], self.dims)), dtype)))

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Other windows, another divisor, the maximum of each window, the identity."""
        plane = call.inputs[0].shape[-self.dims :]
        for mutant in argument_mutants(call, self.dims, self._why_same):
            if mutant.args is not None and average_pool_accepts(per_axis(mutant.args["kernel_size"], self.dims), plane):
                yield mutant
        yield from self._other_divisors(call)
        yield from self._other_layers(call)

    def _why_same(self, call: Call, changed: Mapping[str, Any]) -> str | None:
        plane = call.inputs[0].shape[-self.dims :]
        before, after = (Geometry.of(args, self.dims).windows(plane) for args in (call.args, changed))
        same = before.same_as(after) and np.array_equal(_divisor(call.args, before), _divisor(changed, after))
        return "every window sums the same elements and divides them by the same number" if same else None

    def _other_divisors(self, call: Call) -> Iterator[Mutant]:
        if "divisor_override" not in call.args:
            return
        divisor = call.args["divisor_override"]
        others = [None, divisor + 1] if divisor else [prod(per_axis(call.args["kernel_size"], self.dims)) + 1]
        for other in others:
            if other != 0:
                why = why_empty(call) or self._why_same(call, {**call.args, "divisor_override": other})
                yield with_argument(call, "divisor_override", other, why_equivalent=why)

    def _other_layers(self, call: Call) -> Iterator[Mutant]:
        geometry = Geometry.of(call.args, self.dims)
        plane = call.inputs[0].shape[-self.dims :]
        windows = geometry.windows(plane)
        undivided = bool((_divisor(call.args, windows) == 1).all())
        if geometry.output_size(plane) == plane:
            why = why_identity(windows) if undivided else None
            yield identity(why_equivalent=why_empty(call) or why)
        single = undivided and bool((windows.in_plane.sum(axis=-1) == 1).all())
        why = why_empty(call) or ("every window is one element, divided by 1" if single else None)
        yield other_pool(self.name.replace("Avg", "Max"), geometry, why_equivalent=why)


def _divisor(args: Mapping[str, Any], windows: Windows) -> NDArray[np.int64]:
    """The divisor of each window's sum; shape (*output)."""
    override = args.get("divisor_override")
    if override == 0:
        raise ValueError("divisor_override is 0; expected another integer, or None")
    if override is not None:
        return np.full(windows.in_plane.shape[:-1], override, dtype=np.int64)
    counted = windows.in_padded_plane if args.get("count_include_pad", True) else windows.in_plane
    return np.asarray(counted.sum(axis=-1), dtype=np.int64)


def _divided(total: Array, divisor: NDArray[np.int64]) -> Array:
    if np.issubdtype(total.dtype, np.floating):
        return np.asarray(total / divisor)
    # The remainder has the dividend's sign, so the difference is a multiple of the divisor.
    return np.asarray((total - np.fmod(total, divisor)) // divisor)


PROVIDES: tuple[Layer, ...] = (AvgPool(1), AvgPool(2), AvgPool(3))
