"""Convolutions, pools, resizing and sampling of images."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.operator_sweep.models.case import Array, Case, Cases, case, integers, normal

IMAGE = normal(1, 2, 4, 6, 7)


def image_cases() -> Cases:
    """Every family in this file."""
    yield from _convolutions()
    yield from _pools()
    yield from _resizes()
    yield from _samplings()


def _convolutions() -> Cases:
    weights, bias = normal(2, 6, 2, 3, 2), normal(3, 6)
    yield case("conv-groups", "Conv", [IMAGE, weights, bias], 22, group=2, pads=[1, 0, 2, 1], strides=[2, 1])
    yield case("conv-dilated", "Conv", [IMAGE, normal(2, 3, 4, 3, 2)], 22, dilations=[2, 3])
    yield case("conv-same-upper", "Conv", [IMAGE, normal(2, 3, 4, 3, 2)], 22, auto_pad="SAME_UPPER", strides=[2, 2])
    yield case("conv-same-lower", "Conv", [IMAGE, normal(2, 3, 4, 3, 2)], 22, auto_pad="SAME_LOWER", strides=[2, 2])
    yield case("conv-1d", "Conv", [normal(1, 2, 4, 9), normal(2, 3, 4, 3), normal(3, 3)], 22, pads=[1, 1])
    yield case("conv-3d", "Conv", [normal(1, 1, 2, 4, 5, 6), normal(2, 3, 2, 2, 3, 2)], 22, strides=[1, 2, 1])
    yield case("conv-depthwise", "Conv", [IMAGE, normal(2, 4, 1, 3, 3)], 22, group=4, pads=[1, 1, 1, 1])
    transposed = normal(2, 4, 3, 3, 2)
    yield case("transposed", "ConvTranspose", [IMAGE, transposed, normal(3, 3)], 22, strides=[2, 3], pads=[1, 0, 0, 1])
    yield case("transposed-padding", "ConvTranspose", [IMAGE, transposed], 22, strides=[2, 2], output_padding=[1, 0])
    yield case("transposed-groups", "ConvTranspose", [IMAGE, transposed], 22, group=2, dilations=[2, 1])
    yield case("transposed-shape", "ConvTranspose", [IMAGE, transposed], 22, strides=[2, 2], output_shape=[13, 14])
    yield case("transposed-1d", "ConvTranspose", [normal(1, 2, 4, 5), normal(2, 4, 3, 3)], 22, strides=[2])
    codes, filters = integers(1, 0, 255, 2, 3, 5, 5, dtype=np.uint8), integers(2, 0, 255, 4, 3, 3, 3, dtype=np.uint8)
    yield case("conv-integer", "ConvInteger", [codes, filters, np.uint8(3) * np.ones((), np.uint8)], 10, pads=[1] * 4)


def _pools() -> Cases:
    for operator in ("MaxPool", "AveragePool", "LpPool"):
        name = operator.lower()
        yield case(f"{name}-pads", operator, [IMAGE], 22, kernel_shape=[3, 2], pads=[1, 0, 2, 1], strides=[2, 2])
        yield case(f"{name}-same-upper", operator, [IMAGE], 22, kernel_shape=[3, 2], auto_pad="SAME_UPPER")
        yield case(f"{name}-same-lower", operator, [IMAGE], 22, kernel_shape=[2, 2], auto_pad="SAME_LOWER")
        yield case(f"{name}-1d", operator, [normal(1, 2, 3, 9)], 22, kernel_shape=[3], strides=[2])
        yield case(f"{name}-3d", operator, [normal(1, 1, 2, 4, 5, 6)], 22, kernel_shape=[2, 3, 2])
        yield case(f"{name}-ceil", operator, [IMAGE], 22, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
        yield case(f"{name}-dilated", operator, [IMAGE], 22, kernel_shape=[2, 3], dilations=[3, 2])
    yield case(
        "averagepool-counted", "AveragePool", [IMAGE], 22, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1
    )
    yield case("lppool-1-norm", "LpPool", [IMAGE], 22, kernel_shape=[3, 2], p=1)
    yield case("maxpool-indices", "MaxPool", [IMAGE], 22, outputs=2, kernel_shape=[2, 2], pads=[1, 1, 0, 0])
    yield case("maxpool-columns", "MaxPool", [IMAGE], 22, outputs=2, kernel_shape=[2, 2], storage_order=1)
    for dtype in (np.int8, np.uint8):
        codes = integers(4, np.iinfo(dtype).min, np.iinfo(dtype).max, 2, 3, 6, 6, dtype=dtype)
        yield case(f"maxpool-{np.dtype(dtype)}", "MaxPool", [codes], 22, kernel_shape=[3, 2], pads=[1, 0, 1, 1])
    places = np.array([[[[5, 7], [13, 15]]]])
    yield case("maxunpool", "MaxUnpool", [normal(1, 1, 1, 2, 2), places], 22, kernel_shape=[2, 2], strides=[2, 2])
    for operator in ("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"):
        for values in (normal(1, 2, 3, 5), IMAGE, normal(1, 2, 3, 2, 3, 4)):
            yield case(f"{operator.lower()}-{values.ndim - 2}d", operator, [values], 22)
    yield case("globallppool-3-norm", "GlobalLpPool", [IMAGE], 22, p=3)


def _resizes() -> Cases:
    roi = np.zeros(0, np.float32)
    smaller, larger = np.array([1, 1, 0.5, 1], np.float32), np.array([1, 1, 2, 3], np.float32)
    square = normal(1, 1, 2, 4, 6)
    for mode in ("nearest", "linear"):
        for name, scales in (("smaller", smaller), ("larger", larger)):
            yield case(f"resize-10-{mode}-{name}", "Resize", [square, scales], 10, constants=[1], mode=mode)
        yield case(f"upsample-9-{mode}", "Upsample", [square, larger], 9, constants=[1], mode=mode)
        yield case(f"upsample-7-{mode}", "Upsample", [square], 7, mode=mode, scales=larger.tolist())
    for mode in ("nearest", "linear", "cubic"):
        for coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
            for sizes in ([1, 2, 9, 4], [1, 2, 1, 3], [1, 2, 3, 11], [1, 2, 8, 12]):
                yield _resize(square, sizes, mode, coordinates)
    for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        for scales in (smaller, larger):
            name = f"resize-{nearest}-{scales[2]}"
            yield case(name, "Resize", [square, roi, scales], 11, constants=[1, 2], nearest_mode=nearest)
    cubic = [square, roi, larger]
    yield case("resize-catmull", "Resize", cubic, 11, constants=[1, 2], mode="cubic", cubic_coeff_a=-0.5)
    yield case("resize-exclude", "Resize", cubic, 11, constants=[1, 2], mode="cubic", exclude_outside=1)
    region = np.array([0, 0, 0.2, 0.1, 1, 1, 0.9, 1.2], np.float32)
    crop: dict[str, Any] = {
        "mode": "linear",
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 7.0,
    }
    yield case("resize-crop", "Resize", [square, region, roi, np.array([1, 2, 3, 5])], 11, constants=[1, 2, 3], **crop)


def _resize(image: Array, sizes: list[int], mode: str, coordinates: str) -> Case:
    lengths = np.array(sizes, np.int64)
    empty = np.zeros(0, np.float32)
    name = f"resize-{mode}-{coordinates}-{sizes[2]}x{sizes[3]}"
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": "floor"}
    if mode != "nearest" or coordinates != "asymmetric":
        attributes.pop("nearest_mode")
    return case(name, "Resize", [image, empty, empty, lengths], 11, constants=[1, 2, 3], **attributes)


def _samplings() -> Cases:
    grid = np.random.default_rng(7).uniform(-1.4, 1.4, (2, 3, 5, 2)).astype(np.float32)
    for opset, modes in ((16, ("bilinear", "nearest", "bicubic")), (20, ("linear", "nearest", "cubic"))):
        for mode in modes:
            for padding in ("zeros", "border", "reflection"):
                for corners in (0, 1):
                    name = f"gridsample-{opset}-{mode}-{padding}-{corners}"
                    attributes: dict[str, Any] = {"mode": mode, "padding_mode": padding, "align_corners": corners}
                    yield case(name, "GridSample", [IMAGE, grid], opset, **attributes)
    volume, points = normal(1, 1, 2, 3, 4, 5), normal(8, 1, 2, 3, 2, 3) / 2
    for mode in ("linear", "nearest"):
        yield case(f"gridsample-volume-{mode}", "GridSample", [volume, points], 20, mode=mode)
    rois = np.array([[0.3, 0.2, 4.1, 5.2], [1, 1, 3, 2.5], [2, 1, 2.2, 1.1]], np.float32)
    for ratio in (0, 1, 3):
        size: dict[str, Any] = {"output_height": 3, "output_width": 2, "sampling_ratio": ratio}
        yield case(f"roialign-{ratio}", "RoiAlign", [IMAGE, rois, np.array([0, 1, 1])], 10, spatial_scale=0.8, **size)
        for coordinates in ("half_pixel", "output_half_pixel"):
            yield case(
                f"roialign-{coordinates}-{ratio}",
                "RoiAlign",
                [IMAGE, rois, np.array([0, 1, 1])],
                16,
                coordinate_transformation_mode=coordinates,
                **size,
            )
    for corners in (0, 1):
        lengths = np.array([2, 3, 4, 5])
        yield case(f"affinegrid-{corners}", "AffineGrid", [normal(1, 2, 2, 3), lengths], 20, align_corners=corners)
