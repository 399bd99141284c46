"""The three-way rule: a target may be as far from float64 as the reference itself is, times a factor.

A deep network has no right ``atol``. What can be measured is how far the reference's own run, at the precision asked
for, is from the same computation in float64. The target is allowed ``m`` times that error in RMS and, since the
largest of many errors scatters more than their RMS, :data:`WORST_RATIO` times as much again at the worst value. torch
tests its own compilers the same way (``torch._dynamo.utils.same``: RMSE against float64, times 2 or 3).

An exported graph in a 16-bit dtype rounds more often than eager torch does: after each node, where a function of
torch rounds once, and in the weights of a convolution that BatchNorm is folded into, where no averaging reduces the
error. The factor is :data:`HALF_FACTOR` times as large there.

The allowance is never below a floor in units of eps times the scale of the output, because the reference's own error
can be small by luck, or because one side uses an approximation for a single function (``tanh``, ``exp``, ``erf``) that
is correct to a few ULP. Measured, random weights, three seeds, float32, the ONNX export on ONNX Runtime against eager
torch on a CPU (ResNet-18 and -50, MobileNet, DenseNet, ConvNeXt, Swin, BERT, T5, LSTM): RMS errors of 0.8 to 6.4 eps
times the scale; the target's RMS error is 0.6 to 1.9 times the reference's, its worst error 0.5 to 2.7 times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from harness.compare.metrics.similarity import root_mean_square
from harness.compare.numbers import NumberFormat, Pair, dtype_name, number_format, values_are
from harness.compare.rules import Allowance
from harness.model.answer import Reference
from harness.spec.language.tolerances import Calibrated, Close, Exact, OneRule, Tolerance, map_rule, rules_of

WORST_RATIO = 2.0
HALF_FACTOR = 1.5
"""The factor of float16 and bfloat16 in units of float32's; torch has 3 and 2.

Measured with ``benchmarks/models``: float16 targets have up to 3.3 times the RMS error of eager torch, in
mobilenet_v3_small. Both ONNX exporters fold its 34 BatchNorms in float16, which leaves errors of 0.37 eps in the
weights, where one rounding leaves 0.21.
"""

FLOOR_RMS = {"float32": 2.0, "float16": 1.0, "bfloat16": 1.0}
"""The smallest allowed RMS error, in eps times the RMS of the output, by dtype.

16-bit dtypes are computed in float32 and rounded, so that one correct rounding (0.29 eps) is most of the error.
"""

FLOOR_WORST = {"float32": 6.0, "float16": 2.0, "bfloat16": 2.0}
"""The smallest allowed error of one value, in eps times the largest magnitude of the output."""

FUNCTION_ERRORS = {"Sigmoid": 6 * 2.0**-23}
"""The smallest allowed error, in RMS and of one value, of an output that a function of a fixed range gives.

Kernels compute a sigmoid as ``0.5 + tanh(x / 2) / 2`` from a rational approximation in float32. Its error is absolute:
a few eps of the range, 1, however small the value is; and it is the same for all values near an end of the range, so it
does not average out. Measured for x below -15: ONNX Runtime 1.2e-7 (1 eps), tract 4.5e-7 (3.8 eps), OpenVINO none;
6 eps is :data:`FLOOR_WORST` of an output with the magnitude 1.
"""

FEW_VALUES = 64
"""An error measured on fewer values than this is known less well: the factor grows as ``sqrt(FEW_VALUES / values)``.

The ratio of two RMS errors of n normal values each is the root of an F(n, n) variable; its 99.99 % quantile is 1.6 at
64 values, 2.7 at 16 and 14 at 4. Where the errors of a few values are most of the error, only these values count
for the RMS (:func:`counted_values`).
"""

LARGEST_ROUNDING = {"float32": 1e-3, "float16": 0.5, "bfloat16": 0.5}
"""RMS errors above this share of the scale are no rounding: float64 computes something else there.

Examples are ``finfo(x.dtype)``, branches on the dtype and quantization steps. The largest measured are 8e-7 for
float32, and 0.3 for float16 where untrained networks underflow.
"""

MOST_FLIPS = 0.1
"""If rounding decides a larger share of an integer output, it cannot be compared value by value."""

FEW_FLIPS = 1e-3
"""The share of an integer output that may differ though the reference's own rounding explains less."""

PLAIN_RULES = {
    "float16": Close(1e-3, 1e-5),
    "bfloat16": Close(1.6e-2, 1e-5),
    "float32": Close(1.3e-6, 1e-5),
    "float64": Close(1e-7, 1e-7),
}
"""The defaults of ``torch.testing.assert_close``, for outputs that have no usable float64 reference."""


def inner_precision(computes_in: str | None, dtype: str) -> str | None:
    """``computes_in``, the 16-bit dtype of a reference's computation, for an output of a wider ``dtype``; else None."""
    return computes_in if dtype in {"float32", "float64"} else None


def plain_rule(dtype: str) -> Close | Exact:
    """The rule for an output that has no usable float64 reference; exact for dtypes that torch has no default for."""
    return PLAIN_RULES.get(dtype, Exact())


@dataclass(frozen=True, slots=True)
class Calibration:
    """Errors of one output against the float64 reference, and what is allowed.

    ``rms`` and ``worst`` are the target's, ``reference_rms`` and ``reference_worst`` the reference's own; ``scale`` is
    the RMS of the float64 reference. ``allowance`` holds the target's error at each value.
    """

    rms: float
    worst: float
    reference_rms: float
    reference_worst: float
    allowed_rms: float
    scale: float
    allowance: Allowance

    @property
    def passed(self) -> bool:
        """True if the target is close enough in RMS and at every value."""
        return self.rms <= self.allowed_rms and not bool(self.allowance.exceeded.any())

    @property
    def problem(self) -> str:
        """One sentence about a target that is too far away."""
        if self.rms > self.allowed_rms:
            kind, error, own, allowed = "RMS error", self.rms, self.reference_rms, self.allowed_rms
        else:
            kind, error, own = "largest error", self.worst, self.reference_worst
            allowed = float(self.allowance.limit)
        times = f"{error / own:.3g} times" if own else "not"
        own_error = f"{times} the reference's own ({own:.3g})"
        return f"{kind} {error:.3g} against float64, {own_error}; allowed: at most {allowed:.3g}"


def counted_values(errors: NDArray[np.float64]) -> float:
    """How many normal errors would give an RMS that is known as well as that of ``errors``.

    The variance of a mean of squares is that of ``n`` normal errors for ``n = 3 (sum of e^2)^2 / sum of e^4`` (Kish's
    effective sample size, which is n / 3 for n normal values). The probabilities of rapidocr's recogniser are an
    example: of 132,500 values, the errors of the 30 largest probabilities are all that counts. Correct runtimes are
    1.9 to 3.5 times as far from float64 there as another, and the same weights in float16 1,700 times.
    """
    largest = float(errors.max(initial=0.0))
    if largest == 0.0:
        return float(errors.size)
    squares = np.square(errors / largest)
    return min(float(errors.size), 3 * float(squares.sum()) ** 2 / float(np.square(squares).sum()))


def calibrate(
    pair: Pair,
    float64: NDArray[np.float64],
    rule: Calibrated,
    dtype: str,
    lower: NDArray[np.float64] | None = None,
) -> Calibration | str:
    """The calibration of ``pair`` (target, reference) with ``float64`` at the same values.

    ``dtype`` is the precision that is computed in. Where the target computes in another one than the reference,
    ``lower`` is the reference's run in it. A string gives the reason why the float64 reference cannot be used.
    """
    if dtype not in FLOOR_RMS:
        return f"{dtype} is not calibrated"
    if not np.isfinite(float64).all():
        return "the float64 reference is not finite where the reference is"
    target_errors = np.abs(pair.actual.astype(np.float64) - float64)
    reference = pair.expected.astype(np.float64) if lower is None else lower
    if not np.isfinite(reference).all():
        return f"the reference is not finite in {dtype}"
    reference_errors = np.abs(reference - float64)
    scale, reference_rms = root_mean_square(float64), root_mean_square(reference_errors)
    least = FUNCTION_ERRORS.get(rule.function, 0.0)
    if reference_rms > max(LARGEST_ROUNDING[dtype] * scale, least):
        share = reference_rms / scale if scale else math.inf
        return f"the reference differs from its float64 run by {100 * share:.3g} % of the scale, which is no rounding"
    m = rule.m if dtype == "float32" else rule.m * HALF_FACTOR
    few = max(1.0, math.sqrt(FEW_VALUES / max(float64.size, 1)))
    counted = max(few, math.sqrt(FEW_VALUES / max(counted_values(reference_errors), 1.0)))
    computed = pair.format if lower is None else _format_of(dtype)
    eps, smallest = computed.eps, computed.smallest
    reference_worst = float(reference_errors.max(initial=0.0))
    largest = float(np.abs(float64).max(initial=0.0))
    floor_rms, floor_worst = max(eps * scale, smallest), max(eps * largest, smallest)
    allowed_rms = max(counted * m * reference_rms, few * FLOOR_RMS[dtype] * floor_rms, least)
    allowed_worst = max(few * max(WORST_RATIO * m * reference_worst, FLOOR_WORST[dtype] * floor_worst), least)
    return Calibration(
        rms=root_mean_square(target_errors),
        worst=float(target_errors.max(initial=0.0)),
        reference_rms=reference_rms,
        reference_worst=reference_worst,
        allowed_rms=allowed_rms,
        scale=scale,
        allowance=Allowance(target_errors, np.float64(allowed_worst)),
    )


def explained_flips(pair: Pair, float64: NDArray[np.float64] | None, share: float, rule: Calibrated) -> str | None:
    """A note if the differences of an integer output are no more than rounding explains; None if they are more.

    ``share`` is the share of values at which the reference's own run differs from ``float64``: an argmax or a threshold
    decides by the last bit there. Such differences are rare events, so a target with ``m`` times the error has ``m``
    times as many. Where ``n`` are seen, up to ``n + 2 sqrt(n) + 3`` are expected (the upper 95 % bound of a Poisson
    count; 3 for none). What goes beyond ``m n`` is at most :data:`FEW_FLIPS` of the values, so small outputs are exact.
    """
    differing = int(np.count_nonzero(pair.ulps))
    if float64 is None or not differing:
        return None
    values, own = pair.actual.size, share * pair.actual.size
    allowed = math.floor(rule.m * own + min(rule.m * (2 * math.sqrt(own) + 3), FEW_FLIPS * values))
    of_target, of_reference = (
        int(np.count_nonzero(each.astype(np.float64) != float64)) for each in (pair.actual, pair.expected)
    )
    if max(differing, of_target) > allowed or allowed > MOST_FLIPS * values:
        return None
    return (
        f"{values_are(differing, values, 'differs', 'differ')}, which rounding explains: the reference's own run "
        f"differs from its float64 run at {of_reference:,}; allowed: {allowed:,}"
    )


def _format_of(dtype: str) -> NumberFormat:
    found = number_format(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    assert found is not None
    return found


def close_to_reference(
    reference: NDArray[Any],
    float64: NDArray[Any] | None,
    rule: Calibrated,
    lower: NDArray[Any] | None = None,
    computes_in: str | None = None,
) -> Close | Exact:
    """The widest difference from ``reference`` that a calibrated rule can allow, as an ``atol``.

    For readers that know ``rtol`` and ``atol`` only; the plain rule where there is no usable float64 reference.
    ``lower`` is the reference's run in the rule's own precision, if it has one. ``computes_in`` is the 16-bit dtype
    that the reference computes in.
    """
    own = dtype_name(reference.dtype)
    dtype = rule.precision or inner_precision(computes_in, own) or own
    output_format = number_format(reference.dtype)
    usable = float64 is not None and float64.shape == reference.shape and (rule.precision is None or lower is not None)
    if not usable or float64 is None or output_format is None:
        return plain_rule(dtype)
    flat = reference.reshape(-1)
    finite = np.isfinite(flat.astype(np.float64))
    wide = float64.reshape(-1).astype(np.float64)[finite]
    low = None if lower is None else lower.reshape(-1).astype(np.float64)[finite]
    calibration = calibrate(Pair(flat[finite], flat[finite], output_format), wide, rule, dtype, low)
    if isinstance(calibration, str):
        return plain_rule(dtype)
    return Close(0.0, calibration.reference_worst + float(calibration.allowance.limit))


def without_calibration(tolerance: Tolerance, reference: Reference) -> Tolerance:
    """``tolerance`` with a ``Close`` for each calibrated output, for a comparison without the float64 reference."""
    if not tolerance.has(Calibrated):
        return tolerance
    by_output = dict(tolerance.by_output)
    for index, (name, values) in enumerate(reference.eager.items()):
        float64 = None if reference.float64 is None else reference.float64.get(name)
        lower = None if reference.lower is None else reference.lower.get(name)
        as_close = partial(_as_close, values, float64, lower, reference.computes_in)
        by_output[index] = map_rule(as_close, tolerance.for_output(index))
    return Tolerance(tolerance.rule, by_output)


def _as_close(
    values: NDArray[Any],
    float64: NDArray[Any] | None,
    lower: NDArray[Any] | None,
    computes_in: str | None,
    rule: OneRule,
) -> OneRule:
    return close_to_reference(values, float64, rule, lower, computes_in) if isinstance(rule, Calibrated) else rule


def inconclusive(calibration: Calibration, pair: Pair) -> str | None:
    """Why a pass says little: the allowed error is a large share of the output, or of its variation."""
    if not calibration.scale or not pair.actual.size:
        return None
    share = calibration.allowed_rms / calibration.scale
    if share > 0.1:
        return (
            f"errors of up to {100 * share:.3g} % of the output would pass too, as the reference's own are that large"
        )
    expected = pair.expected.astype(np.float64)
    spread = float(np.std(expected))
    if 0 < spread <= calibration.allowed_rms and pair.format.eps * calibration.scale * 4 < spread:
        return f"an output of {expected.mean():.4g} everywhere (the mean) would pass too"
    return None


def evaluation_problem(
    run: Mapping[str, NDArray[Any]], float64: Mapping[str, NDArray[Any]], tolerance: Tolerance
) -> str | None:
    """Why the float64 evaluation says nothing about the reference: it differs from its run by more than rounding.

    One of the two is wrong then, and nothing tells which.
    """
    for index, (name, values) in enumerate(run.items()):
        functions = (rule.function for rule in rules_of(tolerance.for_output(index)) if isinstance(rule, Calibrated))
        least = max((FUNCTION_ERRORS.get(function, 0.0) for function in functions), default=0.0)
        share = LARGEST_ROUNDING.get(dtype_name(values.dtype))
        if share is None or name not in float64 or float64[name].shape != values.shape:
            continue
        with np.errstate(all="ignore"):
            errors = values.astype(np.float64) - float64[name]
            scale = float(np.sqrt(np.nanmean(np.square(float64[name])))) if values.size else 0.0
            rms = float(np.sqrt(np.nanmean(np.square(errors)))) if values.size else 0.0
        if rms > max(share * scale, least):
            return (
                f"the reference's own run differs from its float64 evaluation by {100 * rms / scale:.3g} % of the "
                f"scale of {name}, which is no rounding: one of the two is wrong, so the evaluation decides nothing"
                if scale
                else f"the float64 evaluation of the reference gives zeros for {name}, and its own run does not"
            )
    return None
