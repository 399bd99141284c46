"""The default tolerance of recorded networks comes from the file's own rounding; single operators keep ONNX's."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from onnxruntime import InferenceSession

from harness.blame.evaluator import EvaluationTooLarge, evaluate, limited_work
from harness.check.recorded import own_rounding
from harness.check.recorded.recording import RecordedCase, check_recorded
from harness.check.settings import Settings
from harness.check.stages import Clock
from harness.data_files.onnx_files import from_array
from harness.result import Result
from harness.spec.recorded import recorded_cases
from harness.spec.targets import parse_target
from tests.recorded_models import FLOAT, graph, record, tensor

Array = NDArray[Any]
Verdict = Callable[..., Result]

GENERATOR = np.random.default_rng(7)
X = GENERATOR.normal(size=(4, 64)).astype(np.float32)
FIRST = GENERATOR.normal(size=(64, 96)).astype(np.float32)
SECOND = GENERATOR.normal(size=(96, 80)).astype(np.float32) * np.where(np.arange(80) < 40, 1e-4, 1e2).astype(np.float32)


def network(weights: Sequence[Array] = (FIRST, SECOND), *more: Any) -> ModelProto:
    """As many products as ``weights``, with a ReLU between them: half the outputs are a millionth of the others."""
    nodes, value = [], "x"
    for index in range(len(weights)):
        last = index == len(weights) - 1
        product = "y" if last and not more else f"product_{index}"
        nodes.append(helper.make_node("MatMul", [value, f"w{index}"], [product]))
        value = product if last else f"relu_{index}"
        nodes += [] if last else [helper.make_node("Relu", [product], [value])]
    nodes += [helper.make_node(operator, [value], ["y"]) for operator in more]
    return graph(
        nodes,
        {"x": tensor(FLOAT, X.shape)},
        {"y": tensor(FLOAT, [4, weights[-1].shape[1]])},
        initializers=[from_array(values, f"w{index}") for index, values in enumerate(weights)],
    )


def through_float16(values: Array) -> Array:
    return values.astype(np.float16).astype(np.float32)


def answer(first: Array = FIRST, second: Array = SECOND) -> Array:
    return np.asarray(np.maximum(X @ first, 0) @ second)


@pytest.fixture
def verdict(tmp_path: Path) -> Verdict:
    """``verdict(model, recorded)``: the result of the model on ONNX Runtime, in this process."""

    numbers = count()

    def verdict(model: ModelProto, recorded: Array, manifest: object = None) -> Result:
        folder = record(tmp_path / f"net-{next(numbers)}", model, [X], [recorded])
        if manifest is not None:
            (folder / "data.json").write_text(json.dumps(manifest))
        case = RecordedCase(recorded_cases(folder, "net")[0])
        return check_recorded(case, parse_target("file/ort-cpu"), Settings(latency=False), Clock())

    return verdict


def test_small_values_beside_large_ones_may_be_off_by_the_rounding_of_the_large_ones(verdict: Verdict) -> None:
    recorded = answer()
    recorded[:, :40] += np.float32(1e-6) * np.abs(recorded).max()
    error = np.abs(recorded - answer())[:, :40]
    assert (error > 1e-7 + 1e-3 * np.abs(recorded[:, :40])).any(), "ONNX's tolerance would fail it"
    result = verdict(network(), recorded)
    assert result.status == "passed"
    assert result.notes == ()
    assert "rtol 0 + atol" in result.outputs[0].tolerance


def test_terms_that_cancel_round_by_more_than_the_outputs_scale_shows(verdict: Verdict) -> None:
    """Then the smallest tolerance is too narrow, and an evaluation of the file shows what rounding does."""
    first, second = np.concatenate([FIRST, FIRST], axis=1), np.concatenate([1e3 * SECOND, -999 * SECOND])
    exact = np.maximum(X.astype(np.float64) @ first, 0) @ second.astype(np.float64)
    own = answer(first, second)
    smallest = own_rounding.smallest_tolerance(own)
    assert smallest is not None
    recorded = (exact + 1.5 * smallest.atol).astype(np.float32)
    right = verdict(network((first, second)), recorded)
    assert right.status == "passed"
    assert float(right.outputs[0].tolerance.split()[-1]) > 1.5 * smallest.atol
    wrong = (exact + 200 * np.abs(own - exact).max()).astype(np.float32)
    assert verdict(network((first, second)), wrong).status == "failed"


def test_a_sigmoid_near_zero_may_be_off_by_the_error_of_its_kernels(verdict: Verdict) -> None:
    """tract gives 4.5e-7 where the value is 0, in a detector's file that is right. Other outputs are held closer."""
    scale = np.float32(-1e-3)
    first, second = np.abs(FIRST), scale * np.abs(SECOND[:, :40] * 1e4)
    values = np.maximum(X @ first, 0) @ second - 20
    shifted = network((first, second))
    shifted.graph.node.extend(
        [helper.make_node("Sub", ["logits", "shift"], ["shifted"]), helper.make_node("Sigmoid", ["shifted"], ["s"])]
    )
    shifted.graph.node.append(helper.make_node("Transpose", ["s"], ["y"], perm=[0, 1]))
    shifted.graph.node[2].output[0] = "logits"
    shifted.graph.initializer.append(from_array(np.array(20, np.float32), "shift"))
    recorded = (1 / (1 + np.exp(-values.astype(np.float64)))).astype(np.float32)
    assert recorded.max() < 1e-8
    assert verdict(shifted, recorded + np.float32(4.5e-7)).status == "passed"
    assert verdict(shifted, recorded + np.float32(1.5e-6)).status == "failed"
    shifted.graph.node[-2].op_type = "Exp"
    assert verdict(shifted, recorded + np.float32(4.5e-7)).status == "failed"


def test_weights_in_half_precision_are_found(verdict: Verdict) -> None:
    twin = network((through_float16(FIRST), through_float16(SECOND)))
    wrong = verdict(twin, answer())
    assert (wrong.status, wrong.blame) == ("failed", "spec")
    assert "the recorded answer is not what the file computes" in wrong.evidence


def in_float16(first: Array, second: Array) -> ModelProto:
    """The network with weights and products in float16, between inputs and outputs in float32."""
    model = network((first.astype(np.float16), second.astype(np.float16)))
    model.graph.node[0].input[0], model.graph.node[-1].output[0] = "half_x", "half_y"
    model.graph.node.insert(0, helper.make_node("Cast", ["x"], ["half_x"], to=TensorProto.FLOAT16))
    model.graph.node.append(helper.make_node("Cast", ["half_y"], ["y"], to=TensorProto.FLOAT))
    return model


def test_a_file_in_float16_inside_has_the_tolerance_of_float32(verdict: Verdict) -> None:
    """Its own rounding would pass a converted twin of the model that was recorded, and one with wrong weights."""
    weights = (FIRST[:, :48] / 8, SECOND[:48, :40])
    converted = in_float16(*weights)
    assert verdict(converted, answer(*weights)).status == "failed"
    session = InferenceSession(converted.SerializeToString())
    (own,) = session.run(None, {"x": X})
    assert verdict(converted, own).status == "passed"
    assert verdict(in_float16(weights[0] * np.float32(1.01), weights[1]), own).status == "failed"


def test_outputs_in_float16_are_held_to_what_the_calibrated_rule_allows(verdict: Verdict) -> None:
    half = np.float16
    model = in_float16(FIRST[:, :48] / 8, SECOND[:48, :40])
    del model.graph.node[-1]
    model.graph.node[-1].output[0] = "y"
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    (recorded,) = InferenceSession(model.SerializeToString()).run(None, {"x": X})
    worst = np.abs(recorded.astype(np.float64)).max()
    assert verdict(model, recorded + half(1e-3 * worst)).status == "passed"
    assert verdict(model, recorded + half(2e-2 * worst)).status == "failed"


def test_a_manifest_decides_before_the_files_own_rounding(verdict: Verdict) -> None:
    recorded = answer() * np.float32(1 + 5e-4)
    assert verdict(network(), recorded).status == "failed"
    passed = verdict(network(), recorded, {"rtol": 1e-3})
    assert passed.status == "passed"
    assert passed.outputs[0].tolerance == "rtol 0.001 + atol 1e-07"


def test_a_single_operator_keeps_the_tolerance_of_onnx_own_tests(verdict: Verdict) -> None:
    result = verdict(network((FIRST,)), X @ FIRST * np.float32(1 + 5e-4))
    assert result.status == "passed"
    assert result.outputs[0].tolerance == "rtol 0.001 + atol 1e-07"
    assert result.notes == ()


@pytest.mark.parametrize(
    ("more", "limit", "reason"),
    [
        (["RandomNormalLike"], 10**9, "the graph draws random numbers"),
        ([], 1000, "EvaluationTooLarge: it needs more than 1,000 multiplications"),
    ],
)
def test_a_network_whose_rounding_is_not_known_says_why(
    more: list[str], limit: int, reason: str, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_rounding, "MAX_MULTIPLICATIONS", limit)
    result = verdict(network((FIRST, SECOND), *more), answer() * np.float32(1 + 5e-4))
    assert result.outputs[0].tolerance == "rtol 0.001 + atol 1e-07"
    assert result.status == ("failed" if more else "passed")
    (note,) = result.notes
    assert note.startswith("compared by rtol 0.001 + atol 1e-07, as ONNX's backend tests are: ")
    assert reason in note


def test_an_evaluation_ends_where_it_needs_too_much(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(network().SerializeToString())
    needed = 4 * 64 * 96 + 4 * 96 + 4 * 96 * 80
    with limited_work(needed, 10**6):
        assert evaluate(path, {"x": X})["y"].dtype == np.float64
    with limited_work(needed - 1, 10**6), pytest.raises(EvaluationTooLarge, match="multiplications"):
        evaluate(path, {"x": X})
    with limited_work(needed, 4 * 96 * 8), pytest.raises(EvaluationTooLarge, match="bytes"):
        evaluate(path, {"x": X})
    assert evaluate(path, {"x": X})
