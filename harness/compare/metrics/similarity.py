"""Metrics of a whole output: RMS error, SQNR, PSNR and cosine, over the values that are finite on both sides."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from harness.compare.metrics import ComparedValues, Metric
from harness.compare.numbers import Pair

Array = NDArray[np.float64]


class Rms:
    """The RMS error against the float64 reference, or against the reference itself if there is none."""

    name = "rms"

    def measure(self, compared: ComparedValues) -> float | None:
        """The error in the output's unit; None for integers and if there is no value."""
        pair = compared.pair
        if not _has_real_values(pair):
            return None
        if compared.float64 is not None:
            return root_mean_square(pair.actual.astype(np.float64) - compared.float64)
        return root_mean_square(pair.distance / pair.unit)


class ReferenceRms:
    """The RMS error of the reference itself against the float64 reference."""

    name = "reference_rms"

    def measure(self, compared: ComparedValues) -> float | None:
        """The error in the output's unit; None if there is no float64 reference."""
        if compared.float64 is None or not _has_real_values(compared.pair):
            return None
        return root_mean_square(compared.pair.expected.astype(np.float64) - compared.float64)


class Sqnr:
    """The signal-to-quantization-noise ratio: ``10 log10(sum of squares / sum of squared errors)``, in dB."""

    name = "sqnr"

    def measure(self, compared: ComparedValues) -> float | None:
        """The ratio; infinite for equal values, None for integers and if there is no value."""
        return sqnr(compared.pair)


class Psnr:
    """The peak signal-to-noise ratio: ``20 log10(largest magnitude / RMS error)``, in dB."""

    name = "psnr"

    def measure(self, compared: ComparedValues) -> float | None:
        """The ratio; None for integers, for equal values and if there is no value."""
        pair = compared.pair
        if not _has_real_values(pair) or pair.equal:
            return None
        actual, expected = _sides(pair)
        peak, noise = float(np.abs(expected).max()), root_mean_square(actual - expected)
        return _amplitude_decibels(peak, noise)


class Cosine:
    """The cosine of the angle between the output and its reference as vectors."""

    name = "cosine"

    def measure(self, compared: ComparedValues) -> float | None:
        """The cosine; None for integers, and where one side is all zeros and the other is not."""
        return cosine(compared.pair)


def _amplitude_decibels(signal: float, noise: float) -> float:
    return 20 * math.log10(ratio) if (ratio := signal / noise) else -math.inf  # a tiny ratio underflows


def sqnr(pair: Pair) -> float | None:
    """The SQNR of ``pair`` in dB; infinite for equal values, None for integers and if there is no value."""
    if not _has_real_values(pair):
        return None
    if pair.equal:
        return math.inf
    actual, expected = _sides(pair)
    signal, noise = root_mean_square(expected), root_mean_square(actual - expected)
    return _amplitude_decibels(signal, noise)


def decibels(signal: float, noise: float) -> float:
    """``10 log10(signal / noise)`` of two sums of squares."""
    if not noise:
        return math.inf
    return 10 * math.log10(ratio) if (ratio := signal / noise) and math.isfinite(noise) else -math.inf


def cosine(pair: Pair) -> float | None:
    """The cosine of ``pair``; 1 for equal values, None for integers and where only one side is all zeros."""
    if not _has_real_values(pair):
        return None
    if pair.equal:
        return 1.0
    actual, expected = _unit(pair.actual.astype(np.float64)), _unit(pair.expected.astype(np.float64))
    if actual is None or expected is None:
        return None
    return float(np.clip(actual @ expected, -1.0, 1.0))


def root_mean_square(values: Array) -> float:
    """The root of the mean square; scaled first, so that large values do not overflow."""
    largest = float(np.abs(values).max(initial=0.0))
    if not largest or not math.isfinite(largest):
        return largest
    return largest * math.sqrt(float(np.mean(np.square(values / largest))))


def _unit(values: Array) -> Array | None:
    """The vector of length 1 in the direction of ``values``; None for zeros."""
    largest = float(np.abs(values).max(initial=0.0))
    if not largest:
        return None
    scaled = values / largest
    return np.asarray(scaled / math.sqrt(float(np.square(scaled).sum())))


def _sides(pair: Pair) -> tuple[Array, Array]:
    """Both sides in float64; their halves where a difference of two values would overflow."""
    unit = 1.0 if isinstance(pair.unit, float) else 0.5
    return pair.actual.astype(np.float64) * unit, pair.expected.astype(np.float64) * unit


def _has_real_values(pair: Pair) -> bool:
    return pair.format.kind == "floating" and bool(pair.actual.size)


PROVIDES: tuple[Metric, ...] = (Rms(), ReferenceRms(), Sqnr(), Psnr(), Cosine())
