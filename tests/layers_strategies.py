"""Random calls of the layers that harness defines itself, and eager torch's outputs for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st

from harness.layers import Array, Call, find
from harness.layers._pooling import average_pool_accepts
from harness.layers._windows import Geometry

NAN, INF = float("nan"), float("inf")
SPECIAL = [NAN, INF, -INF, 0.0, -0.0, 1.0, 1.0, -1.0, 2.0, 5e-324, -3.5]
POOLS = [f"{kind}{dims}d" for kind in ("MaxPool", "AvgPool") for dims in (1, 2, 3)]
UNPOOLS = [f"MaxUnpool{dims}d" for dims in (1, 2, 3)]
ELEMENTWISE = ["LeakyReLU", "PReLU", "RReLU", "ReLU", "Sigmoid", "Tanh"]
ALL = [*POOLS, *UNPOOLS, *ELEMENTWISE, "Linear"]

numbers = st.one_of(st.sampled_from(SPECIAL), st.integers(-2, 2).map(float), st.floats(-1e3, 1e3))
slopes = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 0.01, 0.25]), st.floats(-2, 2))


@st.composite
def tensors(draw: st.DrawFn, shape: Sequence[int], elements: st.SearchStrategy[float] = numbers) -> Array:
    # A few values, spread by a seed: ties are likely, and large tensors are cheap to draw.
    values = draw(st.lists(elements, min_size=1, max_size=8))
    seed = draw(st.integers(0, 2**16))
    return np.random.default_rng(seed).choice(np.array(values), size=tuple(shape))


@st.composite
def calls(draw: st.DrawFn, name: str) -> Call:
    """A call in float64 that eager torch accepts."""
    if name in POOLS:
        return draw(_pool_calls(name))
    if name in UNPOOLS:
        return draw(_unpool_calls(name))
    if name == "Linear":
        return draw(_linear_calls())
    return draw(_elementwise_calls(name))


@st.composite
def _pool_calls(draw: st.DrawFn, name: str) -> Call:
    dims = int(name[-2])

    def size(low: int, high: int) -> Any:
        return draw(st.one_of(st.integers(low, high), st.tuples(*[st.integers(low, high)] * dims)))

    args: dict[str, Any] = {
        "kernel_size": size(1, 3),
        "stride": size(1, 3) if draw(st.booleans()) else None,
        "padding": size(0, 1),
        "ceil_mode": draw(st.booleans()),
    }
    if name.startswith("Max"):
        args |= {"dilation": size(1, 3), "return_indices": draw(st.booleans())}
    else:
        args["count_include_pad"] = draw(st.booleans())
        if dims > 1:
            args["divisor_override"] = draw(st.sampled_from([None, 1, 2, 3, 4, -3]))
    leading = draw(st.sampled_from([(2,), (1, 1), (2, 3), (0, 2)]))
    plane = tuple(draw(st.integers(1, 6)) for _ in range(dims))
    geometry = Geometry.of(args, dims)
    assume(name.startswith("Max") or average_pool_accepts(geometry.kernel, plane))
    try:
        geometry.output_size(plane)
    except ValueError:
        assume(condition=False)
    return Call(args, {}, [draw(tensors((*leading, *plane)))], dtype="float64")


@st.composite
def _unpool_calls(draw: st.DrawFn, name: str) -> Call:
    dims = int(name[-2])
    kernel, stride = draw(st.integers(1, 3)), draw(st.one_of(st.none(), st.integers(1, 3)))
    padding = draw(st.integers(0, kernel // 2))
    step = stride or kernel
    leading = draw(st.sampled_from([(2,), (1, 1), (2, 2), (0, 2)]))
    pooled = tuple(draw(st.integers(1, 3)) for _ in range(dims))
    plane = tuple((n - 1) * step - 2 * padding + kernel for n in pooled)
    forward: dict[str, Any] = {}
    if draw(st.booleans()):
        plane = tuple(length + draw(st.integers(1 - step, step - 1)) for length in plane)
        whole_shape = draw(st.booleans()) and len(leading) == 2
        forward["output_size"] = [*leading, *plane] if whole_shape else list(plane)
    assume(min(plane) > 0)
    shape = (*leading, *pooled)
    indices = np.random.default_rng(draw(st.integers(0, 2**16))).integers(0, prod(plane), shape)
    args = {"kernel_size": kernel, "stride": stride, "padding": padding}
    return Call(args, {}, [draw(tensors(shape)), indices], forward=forward, dtype="float64")


@st.composite
def _linear_calls(draw: st.DrawFn) -> Call:
    features = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    leading = draw(st.sampled_from([(), (1,), (3,), (2, 3), (0,)]))
    bias = draw(st.booleans())
    finite = st.floats(-100, 100, allow_subnormal=False)
    weights = {"weight": draw(tensors(features[::-1], finite))}
    if bias:
        weights["bias"] = draw(tensors(features[1:], finite))
    args = {"in_features": features[0], "out_features": features[1], "bias": bias}
    return Call(args, weights, [draw(tensors((*leading, features[0])))], dtype="float64")


@st.composite
def _elementwise_calls(draw: st.DrawFn, name: str) -> Call:
    shape = draw(st.sampled_from([(3,), (2, 3), (2, 3, 4), (1, 3, 2, 20), (0, 3)]))
    args: dict[str, Any] = {}
    weights: dict[str, Array] = {}
    if name == "LeakyReLU":
        args["negative_slope"] = draw(slopes)
    if name == "RReLU":
        lower, upper = sorted([draw(slopes), draw(slopes)])
        args |= {"lower": lower, "upper": upper}
    if name == "PReLU":
        per_channel = len(shape) > 1 and draw(st.booleans())
        args |= {"num_parameters": 3 if per_channel else 1, "init": 0.25}
        weights["weight"] = draw(tensors((args["num_parameters"],), slopes))
    return Call(args, weights, [draw(tensors(shape))], dtype="float64")


def eager(
    name: str, args: Mapping[str, Any], call: Call, weights: Mapping[str, Array] | None = None
) -> tuple[Array, ...]:
    """Eager torch's outputs in float64."""
    module = getattr(torch.nn, name)(**args).double().train(call.mode == "train")
    state = call.weights if weights is None else weights
    if dict(module.named_parameters()):
        module.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in state.items()})
    with torch.no_grad():
        returned = module(*[torch.from_numpy(np.array(x)) for x in call.inputs], **call.forward)
    outputs = returned if isinstance(returned, tuple) else (returned,)
    return tuple(np.asarray(tensor.numpy()) for tensor in outputs)


def layer(name: str) -> Any:
    provided = find(name)
    assert provided is not None
    return provided


def same(one: Array, other: Array) -> bool:
    """Equal in shape, dtype and every element; NaN equals NaN, and 0 equals -0."""
    floating = np.issubdtype(one.dtype, np.floating)
    return one.dtype == other.dtype and bool(np.array_equal(one, other, equal_nan=floating))
