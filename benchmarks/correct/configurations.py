"""Random configurations: a layer with random arguments, weights, inputs, dtype and layout.

Only configurations with a known difference that no tolerance should allow are left out: dtypes without a kernel in the
runtime, and LeakyReLU and RReLU in float64 with a slope that float32, the type of the slope in an ONNX file, cannot
represent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from benchmarks.correct.values import fill, tensor, weight
from harness.errors import Location
from harness.layers import output_size
from harness.spec.language.case import Case, LayerModel, TensorSpec, WeightedModel

Rng = np.random.Generator
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Configuration:
    """A case. ``needs_fixes`` is true if a stock exporter is known to get it wrong or to refuse it."""

    case: Case
    needs_fixes: bool = False


def configuration(rng: Rng, number: int) -> Configuration:
    """Return the next random configuration; ``number`` becomes part of its id."""
    names = sorted(LAYERS)
    drawn = LAYERS[names[number % len(names)]](rng)
    name = drawn.case.model.model
    assert isinstance(name, LayerModel)
    return replace(drawn, case=replace(drawn.case, id=f"{name.layer}/{number}"))


def _case(layer: LayerModel, inputs: tuple[TensorSpec, ...], weights: Mapping[str, TensorSpec], dtype: str) -> Case:
    model = WeightedModel(layer, weights)
    return Case("", "drawn at random", model, inputs, Location("random"), dtype=dtype, seed=inputs[0].seed)


def _dtype(rng: Rng, *others: str) -> str:
    return str(rng.choice(others)) if others and rng.random() < 0.15 else "float32"


def _shape(rng: Rng, axes: tuple[int, int] = (1, 5), most: int = 9) -> Shape:
    shape = tuple(int(size) for size in rng.integers(1, most, int(rng.integers(*axes))))
    return (0, *shape[1:]) if len(shape) > 1 and rng.random() < 0.02 else shape


def _pair(rng: Rng, low: int, high: int) -> Any:
    """Return one number, or one for each axis."""
    return int(rng.integers(low, high)) if rng.random() < 0.5 else [int(value) for value in rng.integers(low, high, 2)]


def _both(value: Any) -> Shape:
    return (value, value) if isinstance(value, int) else tuple(value)


def _pool_arguments(rng: Rng, plane: Shape, *, dilated: bool) -> dict[str, Any] | None:
    """Arguments that every pool takes. None if PyTorch would refuse them, or if a window covers only padding."""
    kernel = _pair(rng, 1, 6)
    args: dict[str, Any] = {
        "kernel_size": kernel,
        "stride": None if rng.random() < 0.3 else _pair(rng, 1, 5),
        "padding": 0 if rng.random() < 0.4 else [int(rng.integers(0, k // 2 + 1)) for k in _both(kernel)],
        "ceil_mode": bool(rng.random() < 0.5),
    }
    if dilated:
        args["dilation"] = 1 if rng.random() < 0.5 else _pair(rng, 1, 4)
    stride = _both(kernel if args["stride"] is None else args["stride"])
    padding, dilation = _both(args["padding"]), _both(args.get("dilation", 1))
    try:
        windows = output_size(plane, _both(kernel), stride, padding, dilation, ceil_mode=args["ceil_mode"])
    except ValueError:
        return None
    axes = zip(plane, windows, _both(kernel), stride, padding, dilation, strict=True)
    return args if all(_covers_any(*axis) for axis in axes) else None


def _covers_any(size: int, windows: int, kernel: int, stride: int, padding: int, dilation: int) -> bool:
    """Return whether any window covers an element along one axis."""
    places = (window * stride - padding + tap * dilation for window in range(windows) for tap in range(kernel))
    return any(0 <= place < size for place in places)


def _pool(rng: Rng, *, dilated: bool) -> tuple[dict[str, Any], Shape]:
    while True:
        shape = tuple(int(size) for size in (*rng.integers(1, 4, int(rng.integers(1, 3))), *rng.integers(1, 14, 2)))
        args = _pool_arguments(rng, shape[-2:], dilated=dilated)
        if args is not None:
            return args, shape


def _max_pool(rng: Rng) -> Configuration:
    args, shape = _pool(rng, dilated=True)
    dtype = _dtype(rng, "float16", "float64", "int8", "uint8")
    if dtype.startswith("float"):
        values = fill(rng, dtype, specials=True)
        special = bool(np.any(~np.isfinite(values.parameters)))
    else:
        values, special = replace(fill(rng, "float32"), kind="normal", parameters=()), False
    layer = LayerModel("MaxPool2d", {**args, "return_indices": bool(rng.random() < 0.5)})
    return Configuration(
        _case(layer, (tensor(rng, "x", shape, dtype, values),), {}, _model(dtype)), special or len(shape) == 3
    )


def _avg_pool(rng: Rng) -> Configuration:
    args, shape = _pool(rng, dilated=False)
    dtype = _dtype(rng, "float16")
    args["count_include_pad"] = bool(rng.random() < 0.5)
    divisor = int(rng.choice([-7, -1, 1, 2, 3, 10, 1000])) if rng.random() < 0.4 else None
    layer = LayerModel("AvgPool2d", {**args, "divisor_override": divisor})
    values = fill(rng, dtype, below=2)
    return Configuration(
        _case(layer, (tensor(rng, "x", shape, dtype, values),), {}, dtype), divisor is not None or len(shape) == 3
    )


def _max_unpool(rng: Rng) -> Configuration:
    while True:
        kernel, stride = _pair(rng, 1, 4), _pair(rng, 1, 4)
        padding = [int(rng.integers(0, k // 2 + 1)) for k in _both(kernel)]
        lead, pooled = (
            tuple(map(int, rng.integers(1, 4, int(rng.integers(1, 3))))),
            tuple(map(int, rng.integers(1, 5, 2))),
        )
        plane = [
            (n - 1) * s - 2 * p + k for n, s, p, k in zip(pooled, _both(stride), padding, _both(kernel), strict=True)
        ]
        forward: dict[str, Any] = {}
        if rng.random() < 0.3:
            plane = [size + int(rng.integers(1 - s, s)) for size, s in zip(plane, _both(stride), strict=True)]
            forward = {"output_size": list(plane)}
        if min(plane) > 0 and prod(plane) >= prod(pooled):
            break
    places = np.stack([rng.permutation(prod(plane))[: prod(pooled)] for _ in range(prod(lead))])
    shape = (*lead, *pooled)
    dtype = _dtype(rng, "float16", "float64")
    indices = TensorSpec("indices", "int64", shape, values=_nested(places.reshape(shape)))
    values = tensor(rng, "x", shape, dtype, fill(rng, dtype, specials=True))
    layer = LayerModel("MaxUnpool2d", {"kernel_size": kernel, "stride": stride, "padding": padding}, forward)
    return Configuration(_case(layer, (values, indices), {}, dtype), needs_fixes=True)


def _nested(array: Any) -> Any:
    return tuple(_nested(row) for row in array) if getattr(array, "ndim", 0) else int(array)


def _linear(rng: Rng) -> Configuration:
    features = 400 if rng.random() < 0.05 else int(rng.integers(1, 65))
    out, bias = int(rng.integers(1, 33)), bool(rng.random() < 0.6)
    dtype = _dtype(rng, "float16", "float64")
    shape = (*_shape(rng, (0, 4), 7), features)
    layer = LayerModel("Linear", {"in_features": features, "out_features": out, "bias": bias})
    # Keeps most products of two such numbers at least a power of ten below the largest number.
    half = {"float16": 3.0, "float32": 21.0, "float64": 156.0}[dtype]
    weights = {"weight": weight(rng, "weight", dtype, fill(rng, dtype, below=half))} if rng.random() < 0.6 else {}
    if bias and rng.random() < 0.5:
        weights["bias"] = weight(rng, "bias", dtype, fill(rng, dtype, below=2))
    return Configuration(_case(layer, (tensor(rng, "x", shape, dtype, fill(rng, dtype, below=half)),), weights, dtype))


def _pointwise(layer: str) -> Callable[[Rng], Configuration]:
    def drawn(rng: Rng) -> Configuration:
        dtype = _dtype(rng, "float16", "float64")
        values = fill(rng, dtype, specials=True)
        args = {"inplace": True} if layer == "ReLU" and rng.random() < 0.2 else {}
        return Configuration(_case(LayerModel(layer, args), (tensor(rng, "x", _shape(rng), dtype, values),), {}, dtype))

    return drawn


SLOPES = (0.01, 0.0, 0.2, 1.0, -0.5, 1e-6, 100.0, 1 / 3, 0.7)
IN_FLOAT32 = (0.0, 0.25, 1.0, -0.5, 2.0, -4.0)


def _leaky(rng: Rng) -> Configuration:
    dtype = _dtype(rng, "float16", "float64")
    slope = float(rng.choice(IN_FLOAT32 if dtype == "float64" else SLOPES))
    args = {"negative_slope": slope, "inplace": bool(rng.random() < 0.2)}
    values = fill(rng, dtype, below=3, specials=True)
    return Configuration(
        _case(LayerModel("LeakyReLU", args), (tensor(rng, "x", _shape(rng), dtype, values),), {}, dtype)
    )


def _rrelu(rng: Rng) -> Configuration:
    dtype = _dtype(rng, "float16", "float64")
    lower, upper = sorted(float(value) for value in rng.choice(IN_FLOAT32 if dtype == "float64" else SLOPES, 2))
    args = {"lower": lower, "upper": upper, "inplace": bool(rng.random() < 0.2)}
    values = fill(rng, dtype, below=3, specials=True)
    return Configuration(_case(LayerModel("RReLU", args), (tensor(rng, "x", _shape(rng), dtype, values),), {}, dtype))


def _prelu(rng: Rng) -> Configuration:
    dtype = _dtype(rng, "float16", "float64")
    shape = _shape(rng)
    slopes = shape[1] if len(shape) > 1 and rng.random() < 0.6 else 1
    layer = LayerModel("PReLU", {"num_parameters": slopes, "init": float(rng.choice(SLOPES))})
    weights = {"weight": weight(rng, "weight", dtype, fill(rng, dtype, below=3))} if rng.random() < 0.5 else {}
    values = fill(rng, dtype, below=3, specials=True)
    return Configuration(_case(layer, (tensor(rng, "x", shape, dtype, values),), weights, dtype))


def _model(dtype: str) -> str:
    return dtype if dtype.startswith("float") else "float32"


LAYERS: Mapping[str, Callable[[Rng], Configuration]] = {
    "MaxPool2d": _max_pool,
    "AvgPool2d": _avg_pool,
    "MaxUnpool2d": _max_unpool,
    "Linear": _linear,
    **{layer: _pointwise(layer) for layer in ("Sigmoid", "Tanh", "ReLU")},
    "LeakyReLU": _leaky,
    "PReLU": _prelu,
    "RReLU": _rrelu,
}
