"""What a quantized file's error is expected to be, from the step sizes of its quantizer.

A value that is rounded to a grid of width ``step`` is off by an error that is close to uniform in ``+-step/2``, as long
as the step is small against the values' spread (Bennett, Spectra of quantized signals, 1948). So the float file is run
with such errors added where the quantized file rounds: to each quantized weight, and to each quantized activation at
each run. The signal-to-noise ratio of the outputs of these runs is what correct quantization gives for this model and
these inputs. The steps are computed here from the float weights and activations, not read from the quantized file,
whose scales may be wrong.
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

from harness.runtimes.onnxruntime.library import load_onnxruntime

Array = NDArray[Any]

LARGEST_MODEL = 1 << 30
"""Bytes of a file that is run with errors; a larger one has no expected ratio."""

MARGIN_DB = 6.0
"""How far the ratio may be below the expected one: a factor of 2 in the error."""

FEW_VALUES = 64
"""A ratio measured on fewer values is known less well, as in :mod:`harness.compare.calibrated`."""

RUNS = 4
_TRANSPOSED = "_Transposed"


@dataclass(frozen=True, slots=True)
class QuantizerSettings:
    """How weights are quantized: their bits, a scale for each channel, or the values of a block that share one."""

    bits: int = 8
    per_channel: bool = False
    block: int | None = None

    @property
    def levels(self) -> int:
        """The number of steps of the weights' symmetric grid; activations have 255."""
        return (1 << self.bits) - 2


def expected_ratio(
    source: Path, quantized: Path, samples: Sequence[Mapping[str, Array]], settings: QuantizerSettings
) -> dict[str, float] | None:
    """The expected SQNR of each output in dB, the lowest over the ``samples``.

    ``source`` is the float file, ``quantized`` the file that the quantizer made of it. None if nothing is quantized, or
    the file is larger than :data:`LARGEST_MODEL`.
    """
    if source.stat().st_size > LARGEST_MODEL:
        return None
    model, other = onnx.load(str(source)), onnx.load(str(quantized))
    weights, activations = _quantized_weights(model, other), _quantized_activations(model, other)
    if not weights and not activations:
        return None
    watched = _watched(model, activations, samples)
    ranges = watched.steps if _is_static(other) else None
    exact, runs = _outputs(model, samples), []
    for seed in range(2):
        noisy = _with_noise(model, weights, activations, ranges, settings, seed)
        feeds = [_with_uniform(sample, shapes, seed, run) for run, sample, shapes in _feeds(samples, watched.shapes)]
        runs.append(_outputs(noisy, feeds))
    ratios: dict[str, float] = {}
    for index, outputs in enumerate(exact):
        for name, values in outputs.items():
            if values.dtype.kind != "f":
                continue
            errors = [
                np.square(run[name].astype(np.float64) - values) for each in runs for run in each[index :: len(samples)]
            ]
            noise = np.mean(errors, axis=0)
            if ranges is not None and name in ranges:  # the output itself is rounded too, which nothing above adds
                noise = noise + ranges[name] ** 2 / 12
            ratio = _decibels(np.square(values.astype(np.float64)), noise)
            ratios[name] = min(ratio, ratios.get(name, math.inf))
    return ratios


def lowest_ratio(expected: float, values: int) -> float:
    """The lowest ratio that passes where ``expected`` is expected, for an output of so many values."""
    return expected - MARGIN_DB - max(0.0, 10 * math.log10(FEW_VALUES / max(values, 1)))


def _decibels(signal: Array, noise: Array) -> float:
    power = float(noise.sum())
    return 10 * math.log10(float(signal.sum()) / power) if power and signal.any() else math.inf


def _quantized_weights(model: Any, other: Any) -> dict[str, Array]:
    """The float weights of ``model`` that ``other`` does not have any more."""
    kept = {each.name for each in other.graph.initializer}
    # The weight of a Gemm that stays in float32 is stored transposed, under another name.
    kept |= {name[: -len(_TRANSPOSED)] for name in kept if name.endswith(_TRANSPOSED)}
    floats = (each for each in model.graph.initializer if each.data_type == TensorProto.FLOAT)
    return {each.name: numpy_helper.to_array(each) for each in floats if each.name not in kept and _is_matrix(each)}


def _is_matrix(weight: Any) -> bool:
    """Biases are kept in 32 bits: their rounding is far below that of the products."""
    return len(weight.dims) >= 2


def _quantized_activations(model: Any, other: Any) -> set[str]:
    """The tensors of ``model`` that ``other`` rounds at run time."""
    names = {name for node in model.graph.node for name in node.output} | {each.name for each in model.graph.input}
    rounding = {"QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeMatMul"}
    return {node.input[0] for node in other.graph.node if node.op_type in rounding} & names


def _is_static(other: Any) -> bool:
    return any(node.op_type == "QuantizeLinear" for node in other.graph.node)


def _steps(values: Array, settings: QuantizerSettings, axis: int) -> Array:
    """The step of the grid at each weight. ``axis`` is that of the output channels."""
    magnitude = np.abs(values)
    if settings.block is not None and values.ndim == 2:
        padded = np.pad(magnitude, ((0, -values.shape[0] % settings.block), (0, 0)))
        largest = padded.reshape(-1, settings.block, values.shape[1]).max(axis=1)
        return np.asarray(2 * np.repeat(largest, settings.block, axis=0)[: values.shape[0]] / settings.levels)
    if settings.per_channel:
        others = tuple(other for other in range(values.ndim) if other != axis % values.ndim)
        return np.broadcast_to(2 * magnitude.max(axis=others, keepdims=True) / settings.levels, values.shape)
    return np.full(values.shape, 2 * float(magnitude.max(initial=0.0)) / settings.levels)


@dataclass(frozen=True, slots=True)
class _Watched:
    """What a run shows of the activations: their shapes in each sample, and the step of each under static calibration.

    The step is the range over all samples, zero included, over 255.
    """

    shapes: Sequence[Mapping[str, tuple[int, ...]]]
    steps: Mapping[str, float]


def _watched(model: Any, activations: set[str], samples: Sequence[Mapping[str, Array]]) -> _Watched:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    present = {each.name for each in (*model.graph.output, *model.graph.input)}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in sorted(activations - present)
    )
    steps: dict[str, float] = {}
    shapes: list[dict[str, tuple[int, ...]]] = []
    for sample, outputs in zip(samples, _outputs(watched, samples), strict=True):
        found = {name: outputs[name] if name in outputs else np.asarray(sample[name]) for name in activations}
        shapes.append({name: values.shape for name, values in found.items()})
        for name, values in found.items():
            low, high = min(0.0, float(values.min(initial=0.0))), max(0.0, float(values.max(initial=0.0)))
            steps[name] = max(steps.get(name, 0.0), (high - low) / 255)
    return _Watched(shapes, steps)


def _feeds(samples: Sequence[Any], shapes: Sequence[Any]) -> Iterator[tuple[int, Any, Any]]:
    """Each sample with the shapes of its activations, once for each run of a file."""
    for run in range(RUNS // 2):
        for sample, of_sample in zip(samples, shapes, strict=True):
            yield run, sample, of_sample


def _with_uniform(
    sample: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], seed: int, run: int
) -> dict[str, Array]:
    """``sample`` with values between -1/2 and 1/2 for each activation, which :func:`_noise` scales to its step.

    They are drawn here: from opset 22 on, ONNX Runtime has no kernel of RandomUniformLike.
    """
    generator = np.random.default_rng([seed, run])
    drawn = {name: generator.uniform(-0.5, 0.5, shapes[name]).astype(np.float32) for name in sorted(shapes)}
    return {**sample, **{f"{name}/uniform": values for name, values in drawn.items()}}


def _with_noise(
    model: Any,
    weights: Mapping[str, Array],
    activations: set[str],
    ranges: Mapping[str, float] | None,
    settings: QuantizerSettings,
    seed: int,
) -> Any:
    """``model`` with rounding errors added to its quantized weights and activations."""
    noisy = onnx.ModelProto()
    noisy.CopyFrom(model)
    generator = np.random.default_rng(seed)
    channels = _channel_axes(model)
    for initializer in noisy.graph.initializer:
        if initializer.name in weights:
            values = weights[initializer.name]
            steps = _steps(values, settings, channels.get(initializer.name, 0))
            changed = (values + generator.uniform(-0.5, 0.5, values.shape) * steps).astype(np.float32)
            initializer.CopyFrom(numpy_helper.from_array(changed, initializer.name))
    inputs = {each.name for each in noisy.graph.input}
    noisy.graph.input.extend(
        helper.make_tensor_value_info(f"{name}/uniform", TensorProto.FLOAT, None) for name in sorted(activations)
    )
    nodes = [node for name in sorted(activations & inputs) for node in _noise(name, ranges)]
    for node in noisy.graph.node:
        reads_rounded = ranges is not None or any(name in weights for name in node.input)
        if reads_rounded:
            node.input[:] = [f"{name}/rounded" if name in activations else name for name in node.input]
        nodes.append(node)
        for name in node.output:
            if name in activations:
                nodes.extend(_noise(name, ranges))
    del noisy.graph.node[:]
    noisy.graph.node.extend(nodes)
    return noisy


def _noise(name: str, ranges: Mapping[str, float] | None) -> Iterator[Any]:
    """Nodes that give ``name/rounded``: the tensor with a rounding error added, ``name/uniform`` times the step."""
    if ranges is None:
        yield helper.make_node("Constant", [], [f"{name}/zero"], value_float=0.0)
        yield helper.make_node("Constant", [], [f"{name}/levels"], value_float=255.0)
        yield helper.make_node("ReduceMax", [name], [f"{name}/highest"], keepdims=0)
        yield helper.make_node("ReduceMin", [name], [f"{name}/lowest"], keepdims=0)
        yield helper.make_node("Max", [f"{name}/highest", f"{name}/zero"], [f"{name}/high"])
        yield helper.make_node("Min", [f"{name}/lowest", f"{name}/zero"], [f"{name}/low"])
        yield helper.make_node("Sub", [f"{name}/high", f"{name}/low"], [f"{name}/range"])
        yield helper.make_node("Div", [f"{name}/range", f"{name}/levels"], [f"{name}/step"])
    else:
        yield helper.make_node("Constant", [], [f"{name}/step"], value_float=ranges[name])
    yield helper.make_node("Mul", [f"{name}/uniform", f"{name}/step"], [f"{name}/error"])
    yield helper.make_node("Add", [name, f"{name}/error"], [f"{name}/rounded"])


def _channel_axes(model: Any) -> dict[str, int]:
    """The axis of the output channels of each weight, by the operator that reads it."""
    axes: dict[str, int] = {}
    for node in model.graph.node:
        transposed = any(each.name == "transB" and each.i for each in node.attribute)
        for name in node.input[1:2]:
            axes[name] = 1 if node.op_type == "MatMul" or (node.op_type == "Gemm" and not transposed) else 0
    return axes


def _outputs(model: Any, samples: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
    """The outputs of ``model`` for each sample in turn."""
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return [dict(zip(names, session.run(names, dict(sample)), strict=True)) for sample in samples]
