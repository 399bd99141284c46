"""The quantized weights of a file against the float weights that they were made of, and against the quantizer's rule.

What a quantizer does to a weight is known exactly, without running the model. ONNX Runtime's quantizers give the values
that share a scale the step ``2 max|w| / 254`` (symmetric, int8), ``(max(w, 0) - min(w, 0)) / 255`` (with a zero point)
or ``max|w| / 8`` (symmetric blocks of 4 bits), and round each value to the nearest multiple of it
(``onnxruntime.quantization.quant_utils.compute_scale_zp``, ``mlas/lib/q4_dq.cpp``). So a stored value is at most half a
step from the float value. A step that is too large costs accuracy that the outputs often hide; here it shows.

Weights are paired by name: the quantizers keep the name of the float weight in that of its codes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from harness.data_files.onnx_files import to_array

Array = NDArray[Any]

SAME_STEP = 1e-3
"""Two steps are the same up to this share of them: scales are stored in float32, or in float16."""
NARROW = 2.0**-11
"""The rounding of a float weight that is stored in float16, as a share of it."""
CUT_OFF = 8.0
"""A range is cut off at this many times its RMS error. Cutting off 1 % of normal values gives 5, half the range 13."""
FEW = 3
"""The weights that a message names."""

_OPERANDS: Mapping[str, Sequence[tuple[int, int, int]]] = {
    "DequantizeLinear": ((0, 1, 2),),
    "QLinearConv": ((3, 4, 5),),
    "QLinearMatMul": ((3, 4, 5),),
    "QGemm": ((3, 4, 5),),
    "DynamicQuantizeMatMul": ((1, 2, 3),),
    "MatMulIntegerToFloat": ((1, 3, 5),),
    "DynamicQuantizeLSTM": ((1, 8, 9), (2, 10, 11)),
    "MatMulNBits": ((1, 2, 3),),
    "Gather": ((0, -1, -1),),
    "MatMulInteger": ((1, -1, 3),),
    "ConvInteger": ((1, -1, 3),),
}
"""Where each operator has the codes of a weight, their scale and their zero point; -1: known by the name alone."""
_LAST_AXIS = {"MatMulInteger", "QLinearMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"}
"""The operators whose output channels are the last axis of the weight; of the others, the first."""
_SUFFIXES = ("_quantized", "_DQ_Q4", "_Q4", "_DQ_Q8", "_Q8")
_OF_NODES = re.compile(r"(_MatMul)?(_quant|_Q4|_Q8)$")
"""What the quantizers append to the name of a node; they make a MatMul of a Gemm first."""
_TRANSPOSED = "_Transposed"
_CODES = {
    *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16),
    *(TensorProto.INT4, TensorProto.UINT4),
}
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which values of a weight share a scale: all (``axis`` None), those of one index of ``axis``, or blocks along it.

    ``shape`` is the weight's.
    """

    shape: tuple[int, ...]
    axis: int | None = None
    block: int | None = None

    def rows(self, values: Array) -> Array:
        """``values`` as a matrix: a row for each scale, in the order of the scales. Blocks are padded with zeros."""
        if self.axis is None:
            return values.reshape(1, -1)
        if self.block is None:
            return np.moveaxis(values, self.axis, 0).reshape(self.shape[self.axis], -1)
        moved = np.moveaxis(values, self.axis, -1)
        padding = [(0, 0)] * (moved.ndim - 1) + [(0, -moved.shape[-1] % self.block)]
        return np.pad(moved, padding).reshape(-1, self.block)

    def values(self, rows: Array) -> Array:
        """The weight whose :meth:`rows` are given."""
        if self.axis is None:
            return rows.reshape(self.shape)
        size = self.shape[self.axis]
        others = [length for axis, length in enumerate(self.shape) if axis != self.axis % len(self.shape)]
        if self.block is None:
            return np.moveaxis(rows.reshape(size, *others), 0, self.axis)
        return np.moveaxis(rows.reshape(*others, -1)[..., :size], -1, self.axis)


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """A weight as a file stores it. ``name`` is that of the float weight; ``node`` is the node that reads it.

    ``stored`` are the dequantized values and ``steps`` their scales, a row for each scale (:class:`Grouping`).
    ``levels`` is the number of codes, ``zeros`` are those of zero, counted from the lowest. ``full_bias`` is true if a
    bias beside it fills 32 bits: the quantizer makes the step larger then, so that the bias fits.
    """

    name: str
    node: str
    grouping: Grouping
    stored: Array
    steps: Array
    levels: int
    zeros: Array
    blocks: bool
    full_bias: bool = False

    @property
    def symmetric(self) -> bool:
        """True if the grid has zero in its middle."""
        return bool((self.zeros == self.levels // 2).all())

    def steps_by_rule(self, rows: Array, *, reduced: bool = False) -> list[Array]:
        """The steps that the quantizer's rules give for the float values, the likeliest first.

        With ``reduced`` half of the codes are used; the quantizer does so for some operators only.
        """
        highest, lowest = np.maximum(rows.max(axis=1), 0), np.minimum(rows.min(axis=1), 0)
        largest = np.maximum(highest, -lowest)
        used = [self.levels // 2, self.levels] if reduced else [self.levels]
        widths = [codes - 1 for codes in used] + [self.levels // 2] * reduced  # of signed codes, -64 to 64
        steps = [(highest - lowest) / width for width in widths]
        if not self.symmetric:
            return steps
        # Of blocks the lowest code is used too; else the grid is as wide on both sides: 254 steps, or 128.
        widths = [codes if self.blocks or codes < self.levels else codes - 2 for codes in used]
        return [*(2 * largest / width for width in widths), *steps]

    def distance(self, weight: FloatWeight) -> float:
        """The sum of the distances of the stored values from those of ``weight``."""
        return float(np.abs(self.grouping.rows(weight.values) - self.stored).sum())

    def problem(self, weight: Array, *, exact: bool, reduced: bool = False) -> str | None:
        """What is wrong with the stored weight, which was made of the float ``weight``; None if nothing is.

        ``exact``: the rule is known, so the step is the one that it gives. Else it may be smaller, and a few of the
        largest values are cut off.
        """
        rows = self.grouping.rows(weight).astype(np.float32)
        expected = self.steps_by_rule(rows, reduced=reduced)
        problems = []
        if not self.full_bias and (found := self._wrong_step(expected, exact=exact)) is not None:
            problems.append(found)
        steps, below = self.steps[:, None], self.zeros[:, None]
        above = self.levels - 1 - below
        if self.blocks and self.symmetric:
            below = above  # the grid may be reversed: a negative scale
        beyond = np.maximum(np.maximum(rows - steps * above, -rows - steps * below), 0)
        errors = np.abs(self.stored - rows)
        within = errors <= steps * (0.5 + SAME_STEP) + beyond + NARROW * np.abs(rows)
        wrong = ~within & self.grouping.rows(np.ones(weight.shape, dtype=bool))  # not the padding of a last block
        if count := int(np.count_nonzero(wrong)):
            most = float(np.max(errors / np.where(steps > 0, steps, 1.0), where=wrong, initial=0.0))
            problems.append(f"{count:,} of {weight.size:,} values are off by more than half a step, at most {most:.3g}")
        full_range = np.sqrt(np.mean(np.min(expected, axis=0) ** 2) / 12)
        error = np.sqrt(np.mean(errors**2))
        if not (exact or problems or self.full_bias) and error > CUT_OFF * full_range > 0:
            problems.append(f"its range is cut off: {error / full_range:.3g} times the RMS error of the full range")
        return "; ".join(problems) or None

    def _wrong_step(self, expected: Sequence[Array], *, exact: bool) -> str | None:
        ratios = [np.where(each > 0, self.steps / np.where(each > 0, each, 1.0), 1.0) for each in expected]
        differs = [(each > 1 + SAME_STEP) | ((each < 1 - SAME_STEP) & exact) for each in ratios]
        wrong = np.logical_and.reduce(differs)
        if not wrong.any():
            return None
        worst = int(np.argmax(np.where(wrong, np.abs(np.log(np.maximum(ratios[0], 1e-30))), -1.0)))
        count = int(np.count_nonzero(wrong))
        which = "its step is" if len(wrong) == 1 else f"{count:,} of {len(wrong):,} steps are wrong, the worst is"
        return (
            f"{which} {ratios[0][worst]:.3g} times what the range of its float values gives "
            f"({self.steps[worst]:.4g}, expected {expected[0][worst]:.4g})"
        )


def is_quantized(model: Any) -> bool:
    """True if an operator of the file computes with quantized weights."""
    return any(node.op_type in _OPERANDS and node.op_type != "Gather" for node in model.graph.node)


def quantized_weights(model: Any) -> tuple[list[QuantizedWeight], list[str]]:
    """The quantized weights of an ONNX file, and the names of the codes whose scale or layout is not understood."""
    graph = model.graph
    stored = {each.name: each for each in graph.initializer}
    readers = {name: node for node in graph.node for name in node.input}
    dequantized = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    weights: dict[str, QuantizedWeight | None] = {}
    parameters: set[str] = set()
    for node in graph.node:
        reader = readers.get(node.output[0], node) if node.op_type == "DequantizeLinear" else node
        for operands in _OPERANDS.get(node.op_type, ()):
            codes, scale, zero = (node.input[at] if 0 <= at < len(node.input) else "" for at in operands)
            scale = scale or f"{_float_name(codes)}_scale"
            zero = zero or f"{_float_name(codes)}_zero_point"
            parameters |= {scale, zero}
            if codes in stored and stored[codes].data_type in _CODES:
                biases = [stored[each] for name in reader.input if (each := dequantized.get(name, name)) in stored]
                tensors = [stored.get(name) for name in (codes, scale, zero)]
                weights[codes] = _weight(node, reader.name or codes, tensors, biases)
    others = [each.name for each in stored.values() if each.data_type in _CODES and len(each.dims) > 1]
    left_out = [name for name in others if weights.get(name) is None and name not in parameters]
    return [each for each in weights.values() if each is not None], left_out


def float_weights(model: Any) -> dict[str, Array]:
    """The float tensors that a file stores, by name, those of Constant nodes included."""
    tensors = {each.name: each for each in model.graph.initializer}
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    tensors |= {node.output[0]: each.t for node in constants for each in node.attribute if each.name == "value"}
    return {name: to_array(each) for name, each in tensors.items() if each.data_type in _FLOATS}


@dataclass(frozen=True, slots=True)
class FloatWeight:
    """The float ``values`` of a quantized weight in the layout of its codes; ``name`` is that of the float file.

    The quantizers store the weight of a Gemm, and those of an LSTM, ``transposed``.
    """

    name: str
    values: Array
    transposed: bool

    def restored(self, values: Array) -> Array:
        """``values`` in the layout of the float file."""
        return values.swapaxes(-1, -2) if self.transposed else values


def float_weight(weight: QuantizedWeight, floats: Mapping[str, Array]) -> FloatWeight | None:
    """What ``weight`` was made of, among the weights of the float file; None if it lacks the name, or the shape."""
    name = weight.name if weight.name in floats else weight.name.partition(_TRANSPOSED)[0]
    if name not in floats:
        return None
    values = floats[name]
    candidates = [FloatWeight(name, values, transposed=False)]
    candidates += [FloatWeight(name, values.swapaxes(-1, -2), transposed=True)] if values.ndim >= 2 else []
    fitting = [each for each in candidates if each.values.shape == weight.grouping.shape]
    # A square matrix fits both ways: the layout is that of the stored values.
    return min(fitting, key=weight.distance, default=None) if len(fitting) > 1 else next(iter(fitting), None)


def _weight(node: Any, reader: str, tensors: Sequence[Any], biases: Sequence[Any]) -> QuantizedWeight | None:
    """The weight with its scale and zero point; None if the scale is not stored, or shared in another way."""
    if tensors[1] is None:
        return None
    codes, scales = to_array(tensors[0]), to_array(tensors[1]).astype(np.float32)
    zeros = None if tensors[2] is None else to_array(tensors[2])
    attributes = {each.name: each.i for each in node.attribute}
    bits = 4 if codes.dtype.name in {"int4", "uint4"} else 8 * codes.dtype.itemsize
    signed = codes.dtype.name.startswith("int")
    if node.op_type == "MatMulNBits":
        bits, signed = attributes.get("bits", 4), False
        rows, columns, block = attributes["K"], attributes["N"], attributes["block_size"]
        grouping = Grouping((rows, columns), 0, block)
        codes = _unpacked(codes, bits).reshape(-1, block)
        if zeros is not None and zeros.dtype == np.uint8:
            per_column = -(-rows // block)
            zeros = _unpacked(zeros.reshape(columns, -1), bits)[:, :per_column]
        scales, blocks = scales.reshape(-1), True
    else:
        found = _grouping(node, codes.shape, scales, attributes)
        if found is None:
            return None
        grouping, blocks = found, found.block is not None
        codes = grouping.rows(codes.astype(np.int32))
        axis = grouping.axis if blocks and grouping.axis is not None else -1
        scales = np.moveaxis(scales.reshape(scales.shape or 1), axis, -1).reshape(-1)
        zeros = None if zeros is None else np.moveaxis(zeros.reshape(zeros.shape or 1), axis, -1).reshape(-1)
    middle = 1 << (bits - 1)
    default = middle if node.op_type == "MatMulNBits" else 0
    offsets = np.full(1, default) if zeros is None else zeros.reshape(-1).astype(np.float32)
    if len(scales) != len(codes) or len(offsets) not in {1, len(codes)}:
        return None
    values = (codes.astype(np.float32) - offsets[:, None]) * scales[:, None]
    return QuantizedWeight(
        name=_float_name(tensors[0].name),
        node=reader,
        grouping=grouping,
        stored=values.astype(np.float32),
        steps=np.abs(scales),
        levels=1 << bits,
        zeros=offsets + middle * signed,
        blocks=blocks,
        full_bias=any(_fills_32_bits(each) for each in biases),
    )


def _grouping(node: Any, shape: tuple[int, ...], scales: Array, attributes: Mapping[str, int]) -> Grouping | None:
    """Which values share one of ``scales``; None if that is not known for the operator."""
    if scales.size == 1:
        return Grouping(shape)
    if attributes.get("block_size"):
        return Grouping(shape, attributes.get("axis", 1), attributes["block_size"])
    axis = attributes.get("axis", 1) if node.op_type == "DequantizeLinear" else 0
    axis = len(shape) - 1 if node.op_type in _LAST_AXIS else axis % len(shape)
    return Grouping(shape, axis) if scales.size == shape[axis] else None


def _unpacked(packed: Array, bits: int) -> Array:
    """Codes of ``bits`` bits along the last axis, the lowest bits first."""
    parts = [(packed >> shift) & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, axis=-1).reshape(*packed.shape[:-1], -1)


def _fills_32_bits(tensor: Any) -> bool:
    return tensor.data_type == TensorProto.INT32 and bool((np.abs(to_array(tensor).astype(np.int64)) >= 1 << 30).any())


def _float_name(codes: str) -> str:
    """The name of the float weight in that of its codes."""
    return next((codes.removesuffix(each) for each in _SUFFIXES if codes.endswith(each)), codes)


@dataclass(frozen=True, slots=True)
class ComparedFile:
    """How many weights were compared, one sentence for each that is wrong, and one on those that were left out."""

    count: int
    problems: Sequence[str]
    left_out: str | None

    @property
    def message(self) -> str:
        """The first problems on one line, and the number of the rest."""
        more = len(self.problems) - FEW
        return "; ".join([*self.problems[:FEW], *([f"and {more} more weights"] if more > 0 else [])])


def compare_weights(model: Any, floats: Mapping[str, Array], *, exact: bool, reduced: bool = False) -> ComparedFile:
    """The quantized weights of ``model`` against the float weights. See :meth:`QuantizedWeight.problem`."""
    weights, left_out = quantized_weights(model)
    compared, problems = 0, []
    for weight in weights:
        source = float_weight(weight, floats)
        if source is None:
            left_out.append(weight.name)
            continue
        compared += 1
        if (problem := weight.problem(source.values, exact=exact, reduced=reduced)) is not None:
            problems.append(f"{source.name} of {_OF_NODES.sub('', weight.node)}: {problem}")
    named = ", ".join([*left_out[:FEW], "..."] if len(left_out) > FEW else left_out)
    count = f"{len(left_out)} of {compared + len(left_out)}"
    note = f"{count} quantized weights were not compared with float weights: {named}"
    return ComparedFile(compared, problems, note if left_out else None)
