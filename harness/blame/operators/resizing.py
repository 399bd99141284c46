"""Resize and Upsample at every opset: each axis in turn, as a weighted sum of the input positions near each output.

``onnx.reference`` has neither opset 10 nor Upsample 7, and a wrong position in ``pytorch_half_pixel`` for length 1.
Where the definition leaves open what is right, :class:`NotImplementedError` is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np

from harness.blame.operators import Array, Operator, wide


@dataclass(frozen=True, slots=True)
class _Rule:
    """How values are found between input positions; the attributes of a Resize node."""

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic_coeff_a: float = -0.75
    exclude_outside: bool = False
    extrapolation_value: float = 0.0
    antialias: bool = False


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis: its index, its length before and after, the factor between them, and the region of interest."""

    index: int
    length: int
    out: int
    scale: float
    start: float = 0.0
    end: float = 1.0
    fractional: bool = False
    """True if the length that the node's scale asks for is no whole number."""


class Resize(Operator):
    """Resize as defined in https://onnx.ai/onnx/operators/onnx__Resize.html."""

    def compute(self, x: Array, *inputs: Array | None, mode: str = "nearest", **attributes: Any) -> tuple[Array]:
        """The resized array."""
        if self.opset < 11:
            coordinates, nearest = "asymmetric", "ceil_if_smaller"
            (roi, scales, sizes), axes = (None, inputs[0], None), list(range(x.ndim))
        else:
            coordinates = attributes.get("coordinate_transformation_mode", "half_pixel")
            nearest = attributes.get("nearest_mode", "round_prefer_floor")
            roi, scales, sizes = (*inputs, None, None, None)[:3]
            axes = [axis % x.ndim for axis in attributes.get("axes") or range(x.ndim)]
        rule = _Rule(
            mode,
            coordinates,
            nearest,
            attributes.get("cubic_coeff_a", -0.75),
            bool(attributes.get("exclude_outside")),
            attributes.get("extrapolation_value", 0.0),
            bool(attributes.get("antialias")),
        )
        policy = attributes.get("keep_aspect_ratio_policy", "stretch")
        region = roi if coordinates == "tf_crop_and_resize" else None
        return (_resized(x, _axes(x.shape, axes, region, scales, sizes, policy), rule),)


class Upsample(Operator):
    """Upsample as defined in https://onnx.ai/onnx/operators/onnx__Upsample.html; ``scales`` is an attribute at 7."""

    def compute(
        self, x: Array, scales_input: Array | None = None, scales: Any = None, mode: str = "nearest", **_: Any
    ) -> tuple[Array]:
        """The enlarged array."""
        factors = scales if scales_input is None else scales_input
        axes = _axes(x.shape, range(x.ndim), None, np.asarray(factors), None, "stretch")
        return (_resized(x, axes, _Rule(mode, "asymmetric", "ceil_if_smaller")),)


def _axes(
    shape: Sequence[int],
    indices: Sequence[int],
    roi: Array | None,
    scales: Array | None,
    sizes: Array | None,
    policy: str,
) -> list[_Axis]:
    """The axes to resize, from the inputs of the node."""
    lengths = [shape[index] for index in indices]
    edges = (
        [(0.0, 1.0)] * len(lengths) if roi is None or not roi.size else list(zip(*np.split(wide(roi), 2), strict=True))
    )
    fractional = [False] * len(lengths)
    if sizes is not None and sizes.size:
        outs = [int(size) for size in sizes]
        factors = [out / length for out, length in zip(outs, lengths, strict=True)]
        if policy != "stretch":
            factor = min(factors) if policy == "not_larger" else max(factors)
            factors = [factor] * len(lengths)
            outs = [floor(factor * length + 0.5) for length in lengths]
    elif scales is not None and scales.size:
        factors = [float(scale) for scale in scales]
        exact = [
            length * (end - start) * factor
            for length, (start, end), factor in zip(lengths, edges, factors, strict=True)
        ]
        outs = [_whole(length) for length in exact]
        fractional = [abs(length - out) > 1e-6 * max(1, out) for length, out in zip(exact, outs, strict=True)]
    else:
        raise ValueError("Resize has neither scales nor sizes")
    return [
        _Axis(index, length, out, factor, float(start), float(end), part)
        for index, length, out, factor, (start, end), part in zip(
            indices, lengths, outs, factors, edges, fractional, strict=True
        )
    ]


def _whole(length: float) -> int:
    """``length`` rounded down, unless it is a whole number but for the rounding of a scale to float32."""
    nearest = round(length)
    return nearest if abs(length - nearest) <= 1e-6 * max(1, nearest) else floor(length)


def _resized(x: Array, axes: Sequence[_Axis], rule: _Rule) -> Array:
    if x.dtype.kind in "iu" and rule.mode != "nearest":
        raise NotImplementedError("ONNX does not define how Resize rounds between integers")
    if 0 in x.shape:
        raise NotImplementedError("Resize of an empty tensor")
    values = wide(x)
    for axis in axes:
        if axis.out != axis.length or axis.scale != 1 or (axis.start, axis.end) != (0, 1):
            values = _along(values, axis, rule)
    return values.astype(x.dtype)


def _along(values: Array, axis: _Axis, rule: _Rule) -> Array:
    """``values`` resized along one axis."""
    positions = _positions(axis, rule.coordinates)
    if rule.mode == "nearest":
        indices, weights = _nearest(positions, axis, rule.nearest)[:, None], np.ones((axis.out, 1))
    else:
        indices, weights = _neighbours(positions, axis, rule)
    if rule.exclude_outside:
        weights = np.where((indices < 0) | (indices >= axis.length), 0.0, weights)
        weights = weights / weights.sum(axis=1, keepdims=True)
    taken = np.take(np.moveaxis(values, axis.index, 0), np.clip(indices, 0, axis.length - 1), axis=0)
    result = taken[:, 0] if rule.mode == "nearest" else np.einsum("on,on...->o...", weights, taken)
    if rule.coordinates == "tf_crop_and_resize":
        outside = (positions < 0) | (positions > axis.length - 1)
        result[outside] = rule.extrapolation_value
    return np.moveaxis(result, 0, axis.index)


def _positions(axis: _Axis, coordinates: str) -> Array:
    """Where in the input each output lies."""
    y, last = np.arange(axis.out, dtype=np.float64), axis.length - 1
    # One rounded division where the factor is a quotient of lengths, so that whole positions stay whole.
    exact = axis.scale == axis.out / axis.length

    def unscaled(values: Array) -> Array:
        return values * axis.length / axis.out if exact else values / axis.scale

    if coordinates in {"align_corners", "tf_crop_and_resize", "pytorch_half_pixel"} and axis.fractional:
        # ONNX's tests divide by the fractional length, its definition and ONNX Runtime by the whole one.
        raise NotImplementedError(f"Resize in {coordinates} with a scale that gives no whole length")
    by_mode: dict[str, Callable[[], Array]] = {
        "align_corners": lambda: y * last / max(axis.out - 1, 1),
        "asymmetric": lambda: unscaled(y),
        "half_pixel": lambda: unscaled(y + 0.5) - 0.5,
        "half_pixel_symmetric": lambda: (
            axis.length / 2 * (1 - axis.out / (axis.scale * axis.length)) + unscaled(y + 0.5) - 0.5
        ),
        "pytorch_half_pixel": lambda: unscaled(y + 0.5) - 0.5 if axis.out > 1 else np.zeros(1),
        "tf_crop_and_resize": lambda: (
            axis.start * last + y * (axis.end - axis.start) * last / (axis.out - 1)
            if axis.out > 1
            else np.full(1, (axis.start + axis.end) * last / 2)
        ),
        "tf_half_pixel_for_nn": lambda: unscaled(y + 0.5),
    }
    if coordinates not in by_mode:
        raise NotImplementedError(f"Resize in coordinate_transformation_mode {coordinates!r}")
    return by_mode[coordinates]()


def _nearest(positions: Array, axis: _Axis, how: str) -> Array:
    if how == "ceil_if_smaller":
        # What ONNX's tests of opset 10 record; the definition is silent.
        how = "ceil" if axis.scale < 1 else "floor"
    rounded = {
        "round_prefer_floor": lambda: np.ceil(positions - 0.5),
        "round_prefer_ceil": lambda: np.floor(positions + 0.5),
        "floor": lambda: np.floor(positions),
        "ceil": lambda: np.ceil(positions),
    }[how]()
    edges = positions if how in {"floor", "ceil"} else positions + 0.5
    distance = np.abs(edges - np.rint(edges))
    if np.any((distance > 0) & (distance < 1e-6 * np.maximum(1, np.abs(positions)))):
        raise NotImplementedError("Resize to the nearest of two input positions that are equally near but for rounding")
    return np.asarray(rounded, dtype=np.int64)


def _neighbours(positions: Array, axis: _Axis, rule: _Rule) -> tuple[Array, Array]:
    """The input indices that each output is a sum of, and their weights: two arrays ``(out, n)``."""
    reach = 1 if rule.mode == "linear" else 2
    # Stretched by 1 / scale, so that every input counts.
    squeeze = min(axis.scale, 1.0) if rule.antialias else 1.0
    width = int(np.ceil(reach / squeeze))
    indices = np.floor(positions).astype(np.int64)[:, None] + np.arange(1 - width, width + 1)
    distances = np.abs(indices - positions[:, None]) * squeeze
    weights = np.clip(1 - distances, 0, None) if reach == 1 else cubic(distances, rule.cubic_coeff_a)
    if rule.antialias:
        weights = weights / weights.sum(axis=1, keepdims=True)
    return indices, weights


def cubic(distances: Array, a: float) -> Array:
    """The weights of the cubic convolution, https://ieeexplore.ieee.org/document/1163711, at ``distances`` >= 0."""
    near = ((a + 2) * distances - (a + 3)) * distances**2 + 1
    far = ((a * distances - 5 * a) * distances + 8 * a) * distances - 4 * a
    return np.where(distances <= 1, near, np.where(distances < 2, far, 0.0))


RESIZING_OPERATORS = (Resize, Upsample)
