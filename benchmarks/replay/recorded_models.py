"""Small recorded models, made on the spot: right ones of many kinds, and wrong ones that must fail as they did.

A model is written in ONNX's text format; its weights and inputs are drawn from a fixed seed. The recorded outputs are
those of ONNX's own evaluator; in the wrong models ``alter`` changes those of the last data set. Both sides of a replay
get the same files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from benchmarks.real_material import write_case

Shape = tuple[int, ...]
Values = Sequence[Any]


@dataclass(frozen=True, slots=True)
class RecordedModel:
    """A graph in text; its float32 weights by name and shape; one list of inputs for each data set."""

    graph: str
    inputs: Sequence[Values]
    weights: Mapping[str, Shape] = field(default_factory=dict)
    alter: Callable[[list[Any]], Values] = list
    manifest: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 17

    def model(self) -> ModelProto:
        """The model with its weights."""
        made = parser.parse_model(f'<ir_version: 9, opset_import: ["" : {self.opset}, "other" : 1]> g {self.graph}')
        made.graph.initializer.extend(
            numpy_helper.from_array(normal(*shape, seed=at) / np.float32(2), name)
            for at, (name, shape) in enumerate(self.weights.items(), 100)
        )
        return made


@dataclass(frozen=True, slots=True)
class _TestCase:
    """What ``write_case`` takes of a test that onnx makes."""

    model: ModelProto
    data_sets: Sequence[tuple[Values, Values]]


def normal(*shape: int, seed: int = 0) -> Any:
    """Normal float32 values of a fixed seed."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _one_off(outputs: list[Any]) -> Values:
    outputs[0] = outputs[0].copy()
    outputs[0].flat[1] += 0.01
    return outputs


def _nan(outputs: list[Any]) -> Values:
    outputs[0] = outputs[0].copy()
    outputs[0].flat[2] = np.nan
    return outputs


def _last_bit(outputs: list[Any]) -> Values:
    return [np.nextafter(value, np.float32(np.inf)) for value in outputs]


MLP = "(float[N,6] x) => (float[N,3] y) { h = Gemm(x, w1, b1)  r = Relu(h)  y = Gemm(r, w2, b2) }"
MLP_WEIGHTS = {"w1": (6, 8), "b1": (8,), "w2": (8, 3), "b2": (3,)}
RELU = "(float[1,4] x) => (float[1,4] y) { y = Relu(x) }"
RELU_INPUT = [[normal(1, 4)]]

RIGHT = {
    "mlp-two-data-sets": RecordedModel(MLP, [[normal(2, 6)], [normal(5, 6, seed=1)]], MLP_WEIGHTS),
    "convolutions": RecordedModel(
        """(float[2,3,8,8] x) => (float[2,5] y) {
            c = Conv <pads = [1, 1, 1, 1]> (x, w, b)  v = Mul(bias, bias)
            n = BatchNormalization(c, scale, bias, mean, v)  r = Relu(n)
            p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)  g = GlobalAveragePool(p)  f = Flatten(g)
            l = Gemm(f, head)  y = Softmax(l) }""",
        [[normal(2, 3, 8, 8)]],
        {"w": (4, 3, 3, 3), "b": (4,), "scale": (4,), "bias": (4,), "mean": (4,), "head": (4, 5)},
    ),
    "attention": RecordedModel(
        """(float[2,5,8] x) => (float[2,5,8] y) {
            q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)  kt = Transpose <perm = [0, 2, 1]> (k)
            s = MatMul(q, kt)  a = Softmax <axis = -1> (s)  o = MatMul(a, v)  z = Add(o, x)
            y = LayerNormalization(z, scale, shift) }""",
        [[normal(2, 5, 8)]],
        {"wq": (8, 8), "wk": (8, 8), "wv": (8, 8), "scale": (8,), "shift": (8,)},
    ),
    "lstm": RecordedModel(
        """(float[6,2,4] x) => (float[6,1,2,3] y, float[1,2,3] h, float[1,2,3] c) {
            y, h, c = LSTM <hidden_size = 3> (x, w, r, b) }""",
        [[normal(6, 2, 4)]],
        {"w": (1, 12, 4), "r": (1, 12, 3), "b": (1, 24)},
    ),
    "quantized": RecordedModel(
        """(float[1,2,6,6] x) => (float[1,3,4,4] y) {
            s = Constant <value_float = 0.05> ()  z = Constant <value = int8 {3}> ()
            q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  c = Conv(d, w)
            t = QuantizeLinear(c, s, z)  y = DequantizeLinear(t, s, z) }""",
        [[normal(1, 2, 6, 6)]],
        {"w": (3, 2, 3, 3)},
        opset=19,
    ),
    "top-k": RecordedModel(
        """(float[3,9] x) => (float[3,2] v, int64[3,2] i, int64[2,M] n) {
            k = Constant <value_ints = [2]> ()  v, i = TopK(x, k)  r = Relu(x)  n = NonZero(r) }""",
        [[normal(3, 9)]],
    ),
    "branches": RecordedModel(
        """(float[2,3] x) => (float[2,3] y) {
            s = ReduceSum <keepdims = 0> (x)  zero = Constant <value_float = 0.0> ()  c = Greater(s, zero)
            y = If (c) <then_branch = t () => (float[2,3] a) { a = Exp(x) },
                        else_branch = e () => (float[2,3] b) { b = Neg(x) }> }""",
        [[normal(2, 3)], [-np.abs(normal(2, 3))]],
    ),
    "sequence": RecordedModel("(float[4,3] x) => (seq(float[1,3]) y) { y = SplitToSequence(x) }", [[normal(4, 3)]]),
    "texts": RecordedModel("(string[2] x) => (string[2] y) { y = Identity(x) }", [[np.array(["a", "ü"], object)]]),
    "float16": RecordedModel(
        "(float16[2,5] x) => (float16[2,5] y) { s = Sigmoid(x)  y = Mul(s, x) }", [[normal(2, 5).astype(np.float16)]]
    ),
    "float64": RecordedModel(
        "(double[2,5] x) => (double[2,5] y) { s = Tanh(x)  y = Mul(s, x) }", [[normal(2, 5).astype(np.float64)]]
    ),
    "integers": RecordedModel(
        """(int64[3,4] x) => (int64[3,4] y, bool[3,4] z) {
            a = Constant <value_int = 1> ()  y = CumSum(x, a)  z = Less(x, y) }""",
        [[np.arange(-6, 6).reshape(3, 4)]],
    ),
    "not-finite": RecordedModel(
        "(float[2,3] x) => (float[2,3] y) { l = Log(x)  y = Reciprocal(l) }",
        [[np.array([[0, 1, -1], [np.inf, np.nan, 2]], np.float32)]],
    ),
    "empty": RecordedModel(MLP, [[normal(0, 6)]], MLP_WEIGHTS),
    "weights-outside": RecordedModel(MLP, [[normal(2, 6)]], MLP_WEIGHTS),
    "rule-by-output": RecordedModel(
        "(float[2,7] x) => (float[2,7] y, float[2,7] z) { y = Sigmoid(x)  z = Neg(x) }",
        [[normal(2, 7)]],
        manifest={"tolerance": {"by_output": {"0": {"ulp": 8}, "1": "exact"}}},
    ),
}

WRONG = {
    "other-weights": RecordedModel(
        MLP, [[normal(2, 6)]], MLP_WEIGHTS, alter=lambda outputs: [value * np.float32(1.1) for value in outputs]
    ),
    "one-element": RecordedModel(MLP, [[normal(2, 6)]], MLP_WEIGHTS, alter=_one_off),
    "last-bit": RecordedModel(
        "(float[2,7] x) => (float[2,7] y) { y = Sigmoid(x) }",
        [[normal(2, 7)]],
        alter=_last_bit,
        manifest={"tolerance": "exact"},
    ),
    "nan-for-a-number": RecordedModel(RELU, RELU_INPUT, alter=_nan),
    "other-shape": RecordedModel(RELU, RELU_INPUT, alter=lambda outputs: [outputs[0].reshape(4)]),
    "other-dtype": RecordedModel(RELU, RELU_INPUT, alter=lambda outputs: [outputs[0].astype(np.float64)]),
    "output-missing": RecordedModel(
        "(float[1,4] x) => (float[1,4] y, float[1,4] z) { y = Relu(x)  z = Neg(x) }",
        RELU_INPUT,
        alter=lambda outputs: outputs[:1],
    ),
    "second-data-set": RecordedModel(MLP, [[normal(2, 6)], [normal(5, 6, seed=1)]], MLP_WEIGHTS, alter=_nan),
    "unknown-operator": RecordedModel("(float[1,4] x) => (float[1,4] y) { y = other.Unknown(x) }", RELU_INPUT),
    "unreadable": RecordedModel(RELU, RELU_INPUT),
}


def make_recorded_models(folder: Path) -> None:
    """Write every model under ``folder``: the right ones into ``right``, the wrong ones into ``wrong``."""
    for kind, models in (("right", RIGHT), ("wrong", WRONG)):
        for name, recorded in models.items():
            _write(folder / kind / name, recorded)
    _store_weights_outside(folder / "right" / "weights-outside" / "model.onnx")
    unreadable = folder / "wrong" / "unreadable" / "model.onnx"
    unreadable.write_bytes(unreadable.read_bytes()[:-9])


def _write(folder: Path, recorded: RecordedModel) -> None:
    model = recorded.model()
    known = not any(node.domain for node in model.graph.node)
    evaluator = ReferenceEvaluator(model) if known else None
    names = [value.name for value in model.graph.input]
    data_sets = []
    for inputs in recorded.inputs:
        fed = dict(zip(names, inputs, strict=True))
        with np.errstate(all="ignore"):
            outputs = list(inputs) if evaluator is None else list(evaluator.run(None, fed))
        data_sets.append((inputs, recorded.alter(outputs) if inputs is recorded.inputs[-1] else outputs))
    write_case(folder, _TestCase(model, data_sets))
    if recorded.manifest:
        (folder / "data.json").write_text(json.dumps(recorded.manifest), encoding="utf-8")


def _store_weights_outside(path: Path) -> None:
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
