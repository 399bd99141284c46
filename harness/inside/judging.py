"""Tell the rounding of one layer from a fault, and say in one sentence what a table of layers shows.

A layer is judged like a whole output (:mod:`harness.compare.calibrated`): it may be :data:`FACTOR` times as far from
float64 as the reference's own run of the same layer on the same inputs. The floor is wider than that of an output,
because nothing averages over layers here: one activation function may be an approximation that is off by some ULP
everywhere. Measured over the networks of ``benchmarks/layer_faults``, correct layers stay below a quarter of what is
allowed; an epsilon of a normalization that is ten times as large is ten times what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.calibrated import FEW_VALUES, HALF_FACTOR, LARGEST_ROUNDING, WORST_RATIO
from harness.compare.decisions import percent
from harness.compare.metrics.similarity import root_mean_square
from harness.compare.numbers import dtype_name, number_format, ulps_between
from harness.result import Layer

Array = NDArray[Any]

FACTOR = 4.0
FLOOR_RMS = {"float32": 8.0, "float64": 8.0, "float16": 2.0, "bfloat16": 2.0}
"""The smallest allowed RMS error, in eps times the RMS of the values."""
FLOOR_WORST = {"float32": 32.0, "float64": 32.0, "float16": 6.0, "bfloat16": 6.0}
"""The smallest allowed error of one value, in eps times the largest magnitude."""
WITHOUT_FLOAT64 = 8.0
"""The floors are as many times as wide where there is no float64 run."""
NEAR_OVERFLOW = 0.25
"""Values above this share of the largest number of a dtype may be infinite in another order of summation."""

QUANTIZED = "the file is quantized"
EVEN = 30.0
"""An accumulated error that grows by more than this from one value to the next is no slope."""
LARGE, SMALL = 30.0, 6.0
"""The error of a value, in the reference's own, above which it is not explained by rounding, and below which it is."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The values of one tensor beside the reference's, as shares of the RMS of the tensor.

    ``error`` and ``reference_error`` are RMS errors against float64, or against the reference without a float64 run.
    ``times`` is the error in units of what rounding explains; None if the values are not judged. ``nonfinite`` counts
    the values that are NaN or infinite on one side alone, ``new`` those that the reference does not have. ``max_ulp``
    is the largest distance from the reference.
    """

    error: float
    reference_error: float | None
    times: float | None
    nonfinite: int
    max_ulp: int | None
    new: int = 0

    @property
    def sqnr(self) -> float:
        """The signal-to-noise ratio against float64 in dB."""
        if not math.isfinite(self.error):
            return -math.inf
        return 0.0 - 20 * math.log10(self.error) if self.error else math.inf  # 0.0 and no -0.0 at an error of 1


def measure(actual: Array, reference: Array, float64: Array | None) -> Measured:
    """Compare the values of one tensor; all have one shape."""
    if reference.dtype.kind not in "fV" or actual.dtype.kind not in "fV":
        different = float(np.mean(actual != reference)) if actual.size else 0.0
        return Measured(different, None, None, 0, None)
    narrow = actual.dtype if actual.dtype.itemsize < reference.dtype.itemsize else reference.dtype
    with np.errstate(all="ignore"):
        return _measured(actual, reference, float64, dtype_name(narrow), np.dtype(narrow))


def _measured(actual: Array, reference: Array, float64: Array | None, name: str, dtype: np.dtype[Any]) -> Measured:
    wide, own = actual.astype(np.float64).reshape(-1), reference.astype(np.float64).reshape(-1)
    exact = own if float64 is None else float64.astype(np.float64).reshape(-1)
    differ = (np.isfinite(wide) != np.isfinite(own)) | (np.isnan(wide) != np.isnan(own))
    differ |= np.isinf(wide) & np.isinf(own) & (wide != own)
    known = np.isfinite(own) & np.isfinite(exact)
    finite = known & np.isfinite(wide)
    form = number_format(dtype)
    assert form is not None
    largest_number = float(np.finfo(dtype).max) if dtype.kind == "f" else 3e38
    faults = differ & ~(np.abs(exact) > NEAR_OVERFLOW * largest_number)
    scale = root_mean_square(exact[known])
    largest = float(np.abs(exact[known]).max(initial=0.0))
    rms, worst = _errors(wide[finite] - exact[finite])
    own_rms, own_worst = _errors(own[known] - exact[known])
    margin = 1.0 if float64 is not None else WITHOUT_FLOAT64
    comparable = float64 is not None and own_rms <= LARGEST_ROUNDING.get(name, 1e-3) * scale
    if float64 is not None and not comparable:  # float64 computes something else: compare with the reference itself
        against = wide[finite] - own[finite]
        (rms, worst), own_rms, own_worst, margin = _errors(against), 0.0, 0.0, WITHOUT_FLOAT64
    few = max(1.0, math.sqrt(FEW_VALUES / max(int(finite.sum()), 1)))
    factor = FACTOR * (HALF_FACTOR if name in {"float16", "bfloat16"} else 1.0)
    eps, smallest = form.eps, form.smallest
    allowed = few * max(factor * own_rms, margin * FLOOR_RMS.get(name, 8.0) * max(eps * scale, smallest))
    allowed_worst = few * max(
        WORST_RATIO * factor * own_worst, margin * FLOOR_WORST.get(name, 32.0) * max(eps * largest, smallest)
    )
    times = max(rms / allowed, worst / allowed_worst)
    count = int(faults.sum())
    return Measured(
        error=math.inf if count else rms / scale if scale else rms,
        reference_error=None if float64 is None or not comparable else own_rms / scale if scale else own_rms,
        times=math.inf if count else times,
        nonfinite=count,
        new=int((faults & np.isfinite(own)).sum()),
        max_ulp=_ulps(actual, reference, finite) if actual.dtype == reference.dtype else None,
    )


def _errors(errors: Array) -> tuple[float, float]:
    return root_mean_square(errors), float(np.abs(errors).max(initial=0.0))


def _ulps(actual: Array, reference: Array, finite: Array) -> int:
    form = number_format(actual.dtype)
    assert form is not None
    first, second = (np.ascontiguousarray(each).reshape(-1)[finite] for each in (actual, reference))
    return int(ulps_between(first, second, form).max(initial=0))


# The sentence


def sentence(layers: Sequence[Layer], *, passed: bool) -> str:
    """What the table shows: steps, a slope, or a jump where no layer's value is visible. ``passed``: the outputs do."""
    text = _sentence(layers, passed=passed)
    missing = sum(layer.local is None and layer.judged_with is None for layer in layers)
    if missing and text.startswith(("no ", QUANTIZED)):
        floating = "floating-point " if text.startswith(QUANTIZED) else ""
        text += f"; {missing} of {len(layers)} rows {'has' if missing == 1 else 'have'} no {floating}value in the file"
    return text


def _sentence(layers: Sequence[Layer], *, passed: bool) -> str:
    wrong = [layer for layer in layers if layer.wrong]
    ending = _nonfinite(layers)
    if len(wrong) == 1:
        return f"one step at {_with_folded(wrong[0], layers)}, {times_text(wrong[0])}{ending}"
    if wrong:
        largest = max(wrong, key=lambda layer: layer.times or 0.0)
        first = f"{len(wrong)} steps, the first at {_with_folded(wrong[0], layers)}, {times_text(wrong[0])}"
        others = f"; the largest at {_with_folded(largest, layers)}, {times_text(largest)}"
        others = "" if largest is wrong[0] else others
        return f"{first}{others}{ending}"
    judged = [layer for layer in layers if layer.times is not None]
    if not judged:
        return _unjudged(layers) + ending
    layers_text = "1 layer" if len(judged) == 1 else f"{len(judged)} layers"
    if passed:
        return f"no step: no error of {layers_text} is larger than rounding explains{ending}"
    if (jump := _jump(judged)) is not None:
        before, at = jump
        since = "the inputs" if before is None else layer_name(before)
        return (
            f"no compared layer is wrong by itself, but the error jumps between {since} and {layer_name(at)}: "
            f"what is computed there is not compared, or wrong only as part of the whole{ending}"
        )
    if all((layer.accumulated or 0.0) <= LARGE * _own(layer) for layer in judged):
        return f"no step: with the values of {layers_text} visible, no error is larger than rounding explains{ending}"
    return f"no step: error grows evenly over {layers_text}{ending}"


def _unjudged(layers: Sequence[Layer]) -> str:
    """What the layers of a quantized file show: float64 is no measure for them."""
    compared = [layer for layer in layers if layer.reference is not None]
    if not compared:
        return "no layer could be compared"
    largest = max(compared, key=lambda layer: layer.local or 0.0)
    number = "1 layer" if len(compared) == 1 else f"{len(compared)} layers"
    error = f"the largest error by itself of {number} is {percent(largest.local or 0.0)} of the values"
    return f"{QUANTIZED}, so no layer is called wrong; {error}, at {_with_folded(largest, layers)}"


def _nonfinite(layers: Sequence[Layer]) -> str:
    """Where the first NaN or infinity is that the reference does not have, else where one of the reference's is not."""
    new = next((layer for layer in layers if layer.nonfinite_new), None)
    if new is not None:
        node = f" (node {new.nonfinite_node})" if new.nonfinite_node else ""
        return f"; NaN or infinity that the reference does not have first at {layer_name(new)}{node}"
    lost = next((layer for layer in layers if layer.nonfinite), None)
    return "" if lost is None else f"; NaN or infinity of the reference first missing at {layer_name(lost)}"


def _jump(layers: Sequence[Layer]) -> tuple[Layer | None, Layer] | None:
    """The first layer whose accumulated error is far more than rounding while that of the one before it is not."""
    before: Layer | None = None
    for layer in layers:
        error = layer.accumulated or 0.0
        if error > LARGE * _own(layer):
            earlier = 0.0 if before is None else before.accumulated or 0.0
            small = before is None or earlier <= SMALL * _own(before)
            return (before, layer) if small and error > EVEN * max(earlier, _own(layer)) else None
        before = layer
    return None


def _own(layer: Layer) -> float:
    """The error that the reference itself has at a layer, at least some ULP of float32."""
    return max(layer.reference or 0.0, 4 * float(np.finfo(np.float32).eps))


def layer_name(layer: Layer) -> str:
    """The path of a layer with the number of its call, if it is not the first; its class where it has no path."""
    call = f" (call {layer.call + 1})" if layer.call else ""
    if layer.type == "functional":
        return f"the functions in {layer.path or 'the model'}{call}"
    return f"{layer.path or layer.type}{call}"


def _with_folded(layer: Layer, layers: Sequence[Layer]) -> str:
    """The name of a layer with those that are folded into it."""
    folded = [each.path for each in layers if each.judged_with == layer.path and each.path]
    return " with ".join(dict.fromkeys([layer_name(layer), *folded]))


LARGEST_IN_FULL = 1e9


def times_text(layer: Layer) -> str:
    """How large an error is, with two significant digits."""
    times = layer.times or 0.0
    if not math.isfinite(times):
        return "with NaN or infinity where the reference has none, or has other values"
    rounded = float(f"{times:.2g}")
    text = f"{rounded:,.0f}" if 10 <= rounded < LARGEST_IN_FULL else f"{rounded:g}"
    return f"{text} times what rounding explains"
