"""AvgPool1d, AvgPool2d, AvgPool3d: the sum of each window over its divisor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.layers import Answer, Array, Call, Layer, Mutant
from harness.layers._mutants import identity, nothing_to_see, with_argument
from harness.layers._pooling import argument_mutants, averages, each_its_own, over_the_same_windows
from harness.layers._tolerances import is_floating, sum_error
from harness.layers._windows import Geometry, Windows, per_axis
from harness.spec.language.tolerances import Exact, Scaled, Tolerance


class AvgPool:
    """Average pooling over ``dims`` axes (torch.nn.AvgPool2d and its like)."""

    def __init__(self, dims: int) -> None:
        self.name = f"AvgPool{dims}d"
        self.dims = dims

    def float64_reference(self, call: Call) -> Answer:
        """Each window's sum over its divisor, with the sum of magnitudes over the same divisor.

        The divisor is ``divisor_override`` where given; else, with ``count_include_pad``, the
        places that the window has in the plane and in the declared padding, without what a
        window under ``ceil_mode`` overhangs; else its places in the plane. Integers are divided as C does,
        towards zero.

        Raises :class:`ValueError` for a divisor of zero, as PyTorch does.
        """
        x = call.inputs[0]
        windows = Geometry.of(call.args, self.dims).windows(x.shape[-self.dims :])
        divisor = _divisor(call.args, windows)
        terms = np.where(windows.inside, windows.gather(x, self.dims), x.dtype.type(0))
        with np.errstate(invalid="ignore", over="ignore"):
            total = terms.sum(axis=-1, dtype=x.dtype)
            magnitude = np.abs(terms.astype(np.float64)).sum(axis=-1) / np.abs(divisor)
            return Answer((_divided(total, divisor),), magnitudes=(magnitude,), undefined=(None,))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """Scaled by the error of a sum of as many terms as the kernel has places; exact for integers.

        ONNX Runtime sums 2 x 2 windows in another order below opset 19 (1.6 eps of the magnitudes from eager,
        2.3 in an earlier study) and in eager's order since; the rule asks for neither order.
        """
        if not is_floating(dtype):
            return Tolerance(Exact())
        return Tolerance(Scaled(sum_error(prod(per_axis(args["kernel_size"], self.dims)), dtype)))

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Another window, another divisor, another summary of the window."""
        plane = call.inputs[0].shape[-self.dims :]
        for mutant in argument_mutants(call, self.dims, self._same):
            if mutant.args is not None and averages(per_axis(mutant.args["kernel_size"], self.dims), plane):
                yield mutant
        yield from self._other_divisors(call)
        yield from self._other_layers(call)

    def _same(self, call: Call, changed: Mapping[str, Any]) -> str | None:
        plane = call.inputs[0].shape[-self.dims :]
        right, wrong = (Geometry.of(args, self.dims).windows(plane) for args in (call.args, changed))
        alike = right.same_as(wrong) and np.array_equal(_divisor(call.args, right), _divisor(changed, wrong))
        return "every window sums the same elements and divides them by the same number" if alike else None

    def _other_divisors(self, call: Call) -> Iterator[Mutant]:
        if "divisor_override" not in call.args:
            return
        divisor = call.args["divisor_override"]
        others = [None, divisor + 1] if divisor else [prod(per_axis(call.args["kernel_size"], self.dims)) + 1]
        for other in others:
            if other != 0:
                why = nothing_to_see(call) or self._same(call, {**call.args, "divisor_override": other})
                yield with_argument(call, "divisor_override", other, why_equal=why)

    def _other_layers(self, call: Call) -> Iterator[Mutant]:
        geometry = Geometry.of(call.args, self.dims)
        plane = call.inputs[0].shape[-self.dims :]
        windows = geometry.windows(plane)
        undivided = bool((_divisor(call.args, windows) == 1).all())
        if geometry.output_size(plane) == plane:
            own = each_its_own(windows) if undivided else None
            yield identity(why_equal=nothing_to_see(call) or own)
        alone = undivided and bool((windows.inside.sum(axis=-1) == 1).all())
        why = nothing_to_see(call) or ("every window is one element, divided by 1" if alone else None)
        yield over_the_same_windows(self.name.replace("Avg", "Max"), geometry, why_equal=why)


def _divisor(args: Mapping[str, Any], windows: Windows) -> NDArray[np.int64]:
    """What each window's sum is divided by; shape (*output)."""
    override = args.get("divisor_override")
    if override == 0:
        raise ValueError("divisor_override is 0; a divisor that is not zero, or None, would be right")
    if override is not None:
        return np.full(windows.inside.shape[:-1], override, dtype=np.int64)
    counted = windows.padded if args.get("count_include_pad", True) else windows.inside
    return np.asarray(counted.sum(axis=-1), dtype=np.int64)


def _divided(total: Array, divisor: NDArray[np.int64]) -> Array:
    if np.issubdtype(total.dtype, np.floating):
        return np.asarray(total / divisor)
    # The remainder has the dividend's sign, so what is left divides without rest.
    return np.asarray((total - np.fmod(total, divisor)) // divisor)


PROVIDES: tuple[Layer, ...] = (AvgPool(1), AvgPool(2), AvgPool(3))
