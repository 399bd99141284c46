"""Values on the way that a lower precision cannot hold, each with the node and the sample that shows it.

The float32 model is run with its inner values as outputs. In float16, a finite value beyond 65,504 overflows, and one
below half of 2**-24 becomes zero. In int8, values outside the range that a scale covers saturate, and values below half
a step become zero: a few large values, or one large channel, make the step too wide for all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.exporters import Artifact
from harness.precision.model import Sample, run_file

Array = NDArray[Any]
Kind = Literal["overflow", "underflow", "saturation", "coarse"]

FLOAT16_LARGEST = 65504.0
FLOAT16_ZERO = 2.0**-25
"""What is smaller is rounded to zero in float16."""
WATCHED_AT_ONCE = 64
"""Inner values of one run: all of them at once may not fit into memory."""
LOST_SHARE = 0.1
"""A share of the nonzero values that become zero below which nothing is said: small values are small."""
COARSE_SHARE = 0.25
SATURATED_SHARE = 1e-4


@dataclass(frozen=True, slots=True)
class Hazard:
    """Values of ``node`` that are lost. ``sample`` shows it best; None for weights, which are the same in all of them.

    ``value`` is the largest magnitude, ``share`` that of the values (nonzero ones, where they become zero) that are
    lost. ``limit`` is the largest magnitude that fits, or the smallest that is kept. ``at`` is where ``value`` is.
    """

    kind: Kind
    node: str
    tensor: str
    sample: str | None
    value: float
    limit: float
    share: float
    at: tuple[int, ...] = ()

    @property
    def sentence(self) -> str:
        """What happens, in one sentence."""
        where = "in its weights" if self.sample is None else f"on {self.sample}"
        percent = f"{100 * self.share:.3g} %"
        match self.kind:
            case "overflow":
                return f"overflow: {self.value:.4g} is beyond {self.limit:.4g} {where} ({percent} of the values)"
            case "underflow":
                return f"underflow: {percent} of the nonzero values become zero {where}, below {self.limit:.3g}"
            case "saturation":
                return (
                    f"saturated scale: {percent} of the values are beyond {self.limit:.4g} {where}, to {self.value:.4g}"
                )
            case "coarse":
                reach = f"the largest is {self.value:.4g} at {list(self.at)}, half a step is {self.limit:.3g}"
                return f"coarse scale: {percent} of the nonzero values become zero {where}: {reach}"


def find_hazards(
    source: Artifact, lowered: Path, nodes: set[str], samples: Sequence[Sample], *, half: bool, per_channel: bool
) -> tuple[Hazard, ...]:
    """The hazards of lowering ``nodes`` of the file ``source``, those of one kind together, the worst one first.

    ``lowered`` is the file with all of them lowered, whose scales are read. ``half`` if they are lowered to float16.
    ``per_channel`` if each channel of the weights has a scale of its own; those are then not looked at.
    """
    import onnx

    model = onnx.load(str(source.path))
    grids = {} if half else _grids(onnx.load(str(lowered)))
    found: dict[tuple[str, str], Hazard] = {}
    weights = () if per_channel and not half else _weights(model, nodes, half=half)
    for hazard in (*weights, *_values(source, model, _watched(model, nodes, grids, half=half), samples, grids, half)):
        key = (hazard.kind, hazard.tensor)
        if key not in found or (hazard.share, hazard.value) > (found[key].share, found[key].value):
            found[key] = hazard
    order = {"overflow": 0, "saturation": 1, "coarse": 2, "underflow": 3}
    return tuple(sorted(found.values(), key=lambda each: (order[each.kind], -each.share)))


@dataclass(frozen=True, slots=True)
class _Grid:
    """The values that a scale covers, from ``low`` to ``high``, and its largest ``step``."""

    low: float
    high: float
    step: float


def _grids(model: Any) -> dict[str, _Grid]:
    """The grid of each value that the quantized ``model`` rounds with a fixed scale, by the value's name."""
    from onnx import numpy_helper

    constants = {each.name: each for each in model.graph.initializer}
    grids: dict[str, _Grid] = {}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[1] not in constants:
            continue
        scale = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)
        zero = numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else np.zeros(1, np.uint8)
        limits = np.iinfo(zero.dtype)
        low, high = (limits.min - zero.astype(np.float64)) * scale, (limits.max - zero.astype(np.float64)) * scale
        grids[node.input[0]] = _Grid(float(low.min()), float(high.max()), float(scale.max()))
    return grids


def _watched(model: Any, nodes: set[str], grids: Mapping[str, _Grid], *, half: bool) -> dict[str, str]:
    """The values that are looked at, each with the node that it is a hazard of.

    In float16, those that lowered nodes write. In int8, those that are rounded with a fixed scale or, where scales are
    made at each call, those that lowered nodes read first.
    """
    if half:
        return {name: node.name for node in model.graph.node if node.name in nodes for name in node.output if name}
    owners = {name: node.name for node in model.graph.node for name in node.output}
    if grids:
        return {name: owners.get(name, name) for name in grids}
    return {node.input[0]: node.name for node in reversed(model.graph.node) if node.name in nodes and node.input}


def _weights(model: Any, nodes: set[str], *, half: bool) -> Iterator[Hazard]:
    """What the weights of lowered nodes lose. In int8, one scale is for a whole matrix, as by default."""
    from onnx import TensorProto, numpy_helper

    readers = {name: node.name for node in model.graph.node if node.name in nodes for name in node.input}
    for each in model.graph.initializer:
        if each.name in readers and each.data_type == TensorProto.FLOAT and (half or len(each.dims) >= 2):
            values = numpy_helper.to_array(each)
            largest = float(np.abs(values).max(initial=0.0))
            grid = None if half else _Grid(-largest, largest, 2 * largest / 254)
            yield from _lost(readers[each.name], each.name, None, values, grid)


def _values(
    source: Artifact,
    model: Any,
    watched: Mapping[str, str],
    samples: Sequence[Sample],
    grids: Mapping[str, _Grid],
    half: bool,
) -> Iterator[Hazard]:
    import onnx

    written = {name for node in model.graph.node for name in node.output}
    outputs = {value.name for value in model.graph.output}
    names = [name for name in watched if name in written]
    path = source.path.parent.parent / "watched" / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    for start in range(0, len(names) or 1, WATCHED_AT_ONCE):
        some = names[start : start + WATCHED_AT_ONCE]
        more = onnx.ModelProto()
        more.CopyFrom(model)
        more.graph.output.extend(onnx.ValueInfoProto(name=name) for name in some if name not in outputs)
        onnx.save(more, str(path))
        answers = run_file(replace(source, path=path), samples, {"optimization": "disabled"})
        for sample, answer in zip(samples, answers, strict=True):
            values = {name: answer[name] for name in some}
            values |= {name: each for name, each in sample.read().items() if name in watched and not start}
            for name, each in values.items():
                if each.dtype == np.float32:
                    grid = None if half else grids.get(name) or _own_grid(each)
                    yield from _lost(watched[name], name, sample.name, each, grid)


def _own_grid(values: Array) -> _Grid:
    """The grid that dynamic quantization makes for these values: their range, zero included, in 255 steps."""
    finite = values[np.isfinite(values)]
    low, high = min(0.0, float(finite.min(initial=0.0))), max(0.0, float(finite.max(initial=0.0)))
    return _Grid(low, high, (high - low) / 255)


def _lost(node: str, tensor: str, sample: str | None, values: Array, grid: _Grid | None) -> Iterator[Hazard]:
    """The hazards of one value: in float16, or on the ``grid`` of a scale."""
    magnitude = np.where(np.isfinite(values), np.abs(values), 0)
    if not values.size:
        return
    at = tuple(int(each) for each in np.unravel_index(int(magnitude.argmax()), values.shape))
    largest, values = float(magnitude.max()), values[np.isfinite(values)]
    nonzero = magnitude[magnitude > 0]
    if grid is None:
        beyond = float(np.mean(magnitude >= FLOAT16_LARGEST + 16))  # what rounds to 65,504 still fits
        if beyond:
            yield Hazard("overflow", node, tensor, sample, largest, FLOAT16_LARGEST, beyond, at)
        zeros = float(np.mean(nonzero < FLOAT16_ZERO)) if nonzero.size else 0.0
        if zeros >= LOST_SHARE and sample is not None:  # the converter makes such weights its smallest number
            yield Hazard("underflow", node, tensor, sample, largest, FLOAT16_ZERO, zeros, at)
        return
    outside = float(np.mean((values > grid.high + grid.step / 2) | (values < grid.low - grid.step / 2)))
    if outside >= SATURATED_SHARE:
        reach = max(abs(grid.low), abs(grid.high))
        yield Hazard("saturation", node, tensor, sample, largest, reach, outside, at)
    zeros = float(np.mean(nonzero < grid.step / 2)) if nonzero.size else 0.0
    if zeros >= COARSE_SHARE:
        yield Hazard("coarse", node, tensor, sample, largest, grid.step / 2, zeros, at)
