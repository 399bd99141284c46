"""What a quantized file's error is expected to be, from the step sizes of its quantizer.

A quantizer rounds each value to the nearest multiple of a step. The steps follow from the float weights and from the
ranges of the activations, so the float file is run with its weights and activations rounded so, where the quantized
file rounds them. The signal-to-noise ratio of its outputs is what correct quantization gives for this model and these
inputs. The steps are computed here, not read from the quantized file, whose scales may be wrong.

Adding errors that are uniform in ``+-step/2`` (Bennett, Spectra of quantized signals, 1948) is not enough: their mean
square is right for a value that is far larger than a step and varies. The weights are rounded once, and a mean over an
image hardly varies between samples; what they add to the outputs is one number, whose square can be several times its
mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from harness.check.judging.quantized_weights import QuantizedWeight, float_weight, float_weights, quantized_weights
from harness.runtimes.onnxruntime.library import load_onnxruntime

Array = NDArray[Any]

LARGEST_MODEL = 1 << 30
"""Bytes of a file that is run with errors; a larger one has no expected ratio."""

MARGIN_DB = 6.0
"""How far the ratio may be below the expected one: a factor of 2 in the error."""

FEW_VALUES = 64
"""A ratio measured on fewer values is known less well, as in :mod:`harness.compare.calibrated`."""

_TRANSPOSED = "_Transposed"
_RENAMED = "_QuantizeLinear_Input"
"""What the quantizer appends to the name of an output of the model, which it rounds under the old name."""


def expected_ratio(
    source: Path, quantized: Path, samples: Sequence[Mapping[str, Array]], *, reduced: bool = False
) -> dict[str, float] | None:
    """The expected SQNR of each output in dB, the lowest over the ``samples``.

    ``source`` is the float file, ``quantized`` the file that the quantizer made of it, ``reduced`` if it was to use 7
    bits for weights. None if nothing is quantized, or the file is larger than :data:`LARGEST_MODEL`.
    """
    if source.stat().st_size > LARGEST_MODEL:
        return None
    model, other = onnx.load(str(source)), onnx.load(str(quantized))
    weights, activations = _rounded_weights(model, other, reduced=reduced), _rounded_activations(model, other)
    if not weights and not activations:
        return None
    exact, grids = _outputs(model, samples), None
    if any(node.op_type == "QuantizeLinear" for node in other.graph.node):
        grids = _grids(model, activations, samples)
    rounded = _outputs(_with_rounding(model, weights, activations, grids), samples)
    ratios: dict[str, float] = {}
    for expected, actual in zip(exact, rounded, strict=True):
        for name, values in expected.items():
            if values.dtype.kind == "f":
                ratio = decibels(values.astype(np.float64), actual[name].astype(np.float64) - values)
                ratios[name] = min(ratio, ratios.get(name, math.inf))
    return ratios


def lowest_ratio(expected: float, values: int) -> float:
    """The lowest ratio that passes where ``expected`` is expected, for an output of so many values."""
    return expected - MARGIN_DB - max(0.0, 10 * math.log10(FEW_VALUES / max(values, 1)))


def ratio_of_sum(*ratios: float) -> float:
    """The SQNR in dB of an output with the independent errors of several ``ratios``: their powers add up."""
    power = sum(10 ** (-ratio / 10) for ratio in ratios)
    return -10 * math.log10(power) if power else math.inf


def decibels(signal: Array, error: Array) -> float:
    """The SQNR in dB of a ``signal`` with an ``error``; infinite without one."""
    power = float(np.square(error).sum())
    return 10 * math.log10(float(np.square(signal).sum()) / power) if power and signal.any() else math.inf


def _rounded_weights(model: Any, other: Any, *, reduced: bool) -> dict[str, Array]:
    """The float weights of ``model`` that ``other`` does not have any more, rounded as the quantizer's rule says.

    Those whose codes are not understood are rounded to a symmetric grid.
    """
    kept = {each.name for each in other.graph.initializer}
    # The weight of a Gemm that stays in float32 is stored transposed, under another name.
    kept |= {name[: -len(_TRANSPOSED)] for name in kept if name.endswith(_TRANSPOSED)}
    floats, rounded = float_weights(model), {}
    for weight in quantized_weights(other)[0]:
        if (source := float_weight(weight, floats)) is not None:
            rounded[source.name] = source.restored(_rounded(weight, source.values, reduced=reduced))
    for initializer in model.graph.initializer:
        name = initializer.name
        # Biases are kept in 32 bits: their rounding is far below that of the products.
        if name in floats and name not in kept and name not in rounded and floats[name].ndim >= 2:
            values = floats[name].astype(np.float64)
            step = float(np.abs(values).max(initial=0.0)) / 127 or 1.0
            rounded[name] = (np.round(values / step) * step).astype(floats[name].dtype)
    return rounded


def _rounded(weight: QuantizedWeight, values: Array, *, reduced: bool) -> Array:
    """The float ``values`` as the rule of the quantizer rounds them, whatever the file holds."""
    rows = weight.grouping.rows(values).astype(np.float64)
    candidates = weight.steps_by_rule(rows, reduced=reduced)
    steps = min(candidates, key=lambda each: float(np.abs(each - weight.steps).sum()))[:, None]
    steps = np.where(steps > 0, steps, 1.0)
    codes = np.round(rows / steps)
    if not weight.symmetric:
        zero = np.round(-np.minimum(rows.min(axis=1, keepdims=True), 0) / steps)
        codes = np.clip(codes, -zero, weight.levels - 1 - zero)
    elif weight.blocks:  # the value of largest magnitude is the lowest code, whatever its sign
        half, turned = weight.levels // 2, rows.max(axis=1, keepdims=True) > -rows.min(axis=1, keepdims=True)
        codes = np.clip(codes, np.where(turned, 1 - half, -half), np.where(turned, half, half - 1))
    return weight.grouping.values((codes * steps).astype(values.dtype))


def _rounded_activations(model: Any, other: Any) -> dict[str, str]:
    """The tensors of ``model`` that ``other`` rounds at run time, each with the one whose range gives its step."""
    names = {name for node in model.graph.node for name in node.output} | {each.name for each in model.graph.input}
    names |= {each.name for each in model.graph.initializer}
    activations = {}
    for node in other.graph.node:
        if node.op_type in {"QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}:
            name = node.input[0].removesuffix(_RENAMED)
            range_of = node.input[1].removesuffix("_scale") if node.op_type == "QuantizeLinear" else name
            if name in names:
                # What only moves values, such as a pooling, has the step of its input.
                activations[name] = range_of if range_of in names else name
    return activations


@dataclass(frozen=True, slots=True)
class _Grid:
    """The step of an activation under static calibration, and the int8 code of zero."""

    step: float
    zero: int


def _grids(model: Any, activations: Mapping[str, str], samples: Sequence[Mapping[str, Array]]) -> dict[str, _Grid]:
    """The grid of each activation: its range over all samples, zero included, over 255 steps."""
    names = {*activations, *activations.values()}
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    present = {each.name for each in (*model.graph.output, *model.graph.input)}
    stored = float_weights(model)
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in sorted(names - present - stored.keys())
    )
    lowest: dict[str, float] = {}
    highest: dict[str, float] = {}
    for sample, outputs in zip(samples, _outputs(watched, samples), strict=True):
        for name in names:
            values = next(np.asarray(each[name]) for each in (outputs, sample, stored) if name in each)
            lowest[name] = min(lowest.get(name, 0.0), float(values.min(initial=0.0)))
            highest[name] = max(highest.get(name, 0.0), float(values.max(initial=0.0)))
    grids = {}
    for name, range_of in activations.items():
        step = (highest[range_of] - lowest[range_of]) / 255
        if math.isfinite(step) and step > float(np.finfo(np.float32).tiny):
            grids[name] = _Grid(step, int(np.round(-128 - lowest[range_of] / step)))
    return grids


def _with_rounding(
    model: Any, weights: Mapping[str, Array], activations: Mapping[str, str], grids: Mapping[str, _Grid] | None
) -> Any:
    """``model`` with rounded weights, and with nodes that round its activations.

    ``grids`` are those of static calibration. Without them each call has its own range, and only the nodes that read a
    rounded weight read rounded activations.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    stored = {each.name: each for each in changed.graph.initializer}
    stored |= {node.output[0]: each.t for node in changed.graph.node for each in node.attribute if each.name == "value"}
    for name, values in weights.items():
        stored[name].CopyFrom(numpy_helper.from_array(values, name))
    rounded = {name for name in activations if name not in weights and (grids is None or name in grids)}
    outputs = {each.name for each in changed.graph.output} & rounded
    made = {name for node in changed.graph.node for name in node.output}
    nodes = [node for name in sorted(rounded - made) for node in _rounding(name, f"{name}/rounded", grids)]
    for node in changed.graph.node:
        if grids is not None or any(name in weights for name in node.input):
            node.input[:] = [f"{name}/rounded" if name in rounded else name for name in node.input]
        nodes.append(node)
        own = [name for name in node.output if name in rounded]
        if grids is not None:  # an output of the model is given as it is rounded
            node.output[:] = [f"{name}/exact" if name in outputs else name for name in node.output]
        for name in own:
            exact = f"{name}/exact" if grids is not None and name in outputs else name
            nodes.extend(_rounding(exact, f"{name}/rounded", grids, name))
            if exact != name:
                nodes.append(helper.make_node("Identity", [f"{name}/rounded"], [name]))
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def _rounding(exact: str, rounded: str, grids: Mapping[str, _Grid] | None, name: str | None = None) -> Iterator[Any]:
    """Nodes that make ``rounded`` of ``exact``, by the grid of ``name`` or by the range of the call."""
    codes, step, zero = (f"{rounded}/{part}" for part in ("codes", "step", "zero"))
    if grids is None:
        yield helper.make_node("DynamicQuantizeLinear", [exact], [codes, step, zero])
    else:
        grid = grids[name or exact]
        for target, values in ((step, np.float32(grid.step)), (zero, np.int8(grid.zero))):
            tensor = numpy_helper.from_array(np.asarray(values))
            yield helper.make_node("Constant", [], [target], value=tensor)
        yield helper.make_node("QuantizeLinear", [exact, step, zero], [codes])
    yield helper.make_node("DequantizeLinear", [codes, step, zero], [rounded])


def _outputs(model: Any, samples: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
    """The outputs of ``model`` for each sample in turn."""
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return [dict(zip(names, session.run(names, dict(sample)), strict=True)) for sample in samples]
