"""AffineGrid, GridSample and RoiAlign: values between the pixels of an image.

``onnx.reference`` has no GridSample 16, clamps the position and not the pixels of cubic interpolation, rounds positions
to float32 as AffineGrid does, and gives RoiAlign 10 the half pixel of opset 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import ceil
from typing import Any

import numpy as np

from harness.blame.operators import Array, Operator, wide
from harness.blame.operators.resizing import cubic

CUBIC_COEFFICIENT = -0.75


class GridSample(Operator):
    """GridSample as defined in https://onnx.ai/onnx/operators/onnx__GridSample.html, for any number of dimensions."""

    def compute(
        self,
        x: Array,
        grid: Array,
        mode: str = "linear",
        padding_mode: str = "zeros",
        align_corners: int = 0,
        **_: Any,
    ) -> tuple[Array]:
        """``x`` at the positions of ``grid``."""
        sizes = x.shape[2:]
        if x.size == 0 or grid.size == 0:
            return (np.zeros((*x.shape[:2], *grid.shape[1:-1]), x.dtype),)
        # The last coordinate of the grid is that of the first spatial axis.
        positions = [
            _pixels(wide(grid)[..., len(sizes) - 1 - axis], size, bool(align_corners))
            for axis, size in enumerate(sizes)
        ]
        if mode == "nearest":
            positions, offsets = [np.rint(position) for position in positions], [0]
        elif mode in {"linear", "bilinear"}:
            offsets = [0, 1]
            positions = [
                _inside(position, size, padding_mode, bool(align_corners))
                for position, size in zip(positions, sizes, strict=True)
            ]
        else:
            offsets = [-1, 0, 1, 2]
        per_axis = [_taps(position, offsets) for position in positions]
        total = np.zeros((x.shape[0], *grid.shape[1:-1], x.shape[1]))
        for taps in product(*per_axis):
            weight = np.ones(grid.shape[:-1])
            indices = []
            for (index, share), size in zip(taps, sizes, strict=True):
                if padding_mode == "zeros":
                    weight = weight * np.where((index >= 0) & (index < size), share, 0.0)
                else:
                    weight = weight * share
                inside = _inside(index, size, padding_mode, bool(align_corners))
                indices.append(np.clip(inside, 0, size - 1).astype(np.int64))
            batch = np.arange(x.shape[0]).reshape(-1, *[1] * (grid.ndim - 2))
            values = np.moveaxis(wide(x), 1, -1)[(batch, *indices)]
            total += np.where(weight[..., None] == 0, 0.0, weight[..., None] * values)
        return (np.moveaxis(total, -1, 1).astype(x.dtype),)


def _pixels(normalized: Array, size: int, align_corners: bool) -> Array:
    """Positions between -1 and 1 as positions in pixels."""
    return (normalized + 1) / 2 * (size - 1) if align_corners else ((normalized + 1) * size - 1) / 2


def _taps(position: Array, offsets: Sequence[int]) -> list[tuple[Array, Array]]:
    """For each offset from the pixel before ``position``: the pixel, and its weight."""
    base = np.floor(position)
    distance = position - base
    if len(offsets) == 1:
        return [(base, np.ones_like(distance))]
    if len(offsets) == 2:
        return [(base + offset, 1 - np.abs(distance - offset)) for offset in offsets]
    return [(base + offset, cubic(np.abs(distance - offset), CUBIC_COEFFICIENT)) for offset in offsets]


def _inside(position: Array, size: int, padding_mode: str, align_corners: bool) -> Array:
    """``position`` moved into the image, as the padding says; unchanged for zeros."""
    if padding_mode == "zeros":
        return position
    if padding_mode == "reflection":
        low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
        if span == 0:
            return np.zeros_like(position)
        away = np.abs(position - low) % (2 * span)
        position = low + np.where(away > span, 2 * span - away, away)
    return np.clip(position, 0, size - 1)


class RoiAlign(Operator):
    """RoiAlign as defined in https://onnx.ai/onnx/operators/onnx__RoiAlign.html.

    At opset 10 there is no attribute for the half pixel, and none is subtracted.
    """

    def compute(
        self,
        x: Array,
        rois: Array,
        batch_indices: Array,
        mode: str = "avg",
        output_height: int = 1,
        output_width: int = 1,
        sampling_ratio: int = 0,
        spatial_scale: float = 1.0,
        coordinate_transformation_mode: str = "output_half_pixel",
        **_: Any,
    ) -> tuple[Array]:
        """One pooled grid for each region."""
        if mode != "avg":
            raise NotImplementedError(
                "RoiAlign in mode 'max': ONNX does not say whether weights come before the maximum"
            )
        half_pixel = coordinate_transformation_mode == "half_pixel"
        result = np.zeros((len(rois), x.shape[1], output_height, output_width))
        for region, (roi, image) in enumerate(zip(wide(rois), batch_indices, strict=True)):
            edges = roi * spatial_scale - (0.5 if half_pixel else 0.0)
            samples = [
                _bin_samples(edges[first], edges[first + 2], bins, sampling_ratio, half_pixel)
                for first, bins in ((1, output_height), (0, output_width))
            ]
            rows, columns = (
                _axis_weights(positions, size) for positions, size in zip(samples, x.shape[2:], strict=True)
            )
            result[region] = np.einsum("crs,ihr,jws->chw", wide(x)[int(image)], rows, columns) / (
                max(len(rows) * len(columns), 1)
            )
        return (result.astype(x.dtype),)


def _bin_samples(start: float, end: float, bins: int, sampling_ratio: int, half_pixel: bool) -> Array:
    """The sampled positions along one axis, ``(samples, bins)``."""
    length = end - start if half_pixel else max(end - start, 1.0)
    count = sampling_ratio if sampling_ratio > 0 else ceil(length / bins)
    steps = np.arange(bins) + (np.arange(count)[:, None] + 0.5) / max(count, 1)
    positions: Array = start + steps * length / bins
    return positions


def _axis_weights(positions: Array, size: int) -> Array:
    """For each position the weight of each of ``size`` pixels in linear interpolation, ``(samples, bins, size)``."""
    outside = (positions < -1) | (positions > size)
    clipped = np.clip(positions, 0, size - 1)
    weights = np.clip(1 - np.abs(np.arange(size) - clipped[..., None]), 0, None)
    return np.where(outside[..., None], 0.0, weights)


class AffineGrid(Operator):
    """AffineGrid as defined in https://onnx.ai/onnx/operators/onnx__AffineGrid.html."""

    def compute(self, theta: Array, size: Array, align_corners: int = 0, **_: Any) -> tuple[Array]:
        """The positions that each pixel of an image of ``size`` comes from, the last axis first."""
        lengths = [int(length) for length in size[2:]]
        centres = [
            np.linspace(-1, 1, length) if align_corners else (2 * np.arange(length) + 1) / length - 1
            for length in lengths
        ]
        axes = np.meshgrid(*centres, indexing="ij")
        points = np.stack([*reversed(axes), np.ones(lengths)], axis=-1)
        return (np.einsum("nij,...j->n...i", wide(theta), points).astype(theta.dtype),)


SAMPLING_OPERATORS = (AffineGrid, GridSample, RoiAlign)
