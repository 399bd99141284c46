"""The float64 evaluation of whole graphs: nodes in any order, functions, and every float widened."""

from __future__ import annotations

from math import tanh
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.blame.evaluated_model import with_float64
from harness.blame.evaluator import EvaluationTooLarge, evaluate, evaluate_all, limited_work
from tests.operator_models import values
from tests.recorded_models import graph, tensor


def test_nodes_in_any_order_are_evaluated(tmp_path: Path) -> None:
    """The branch of the If reads the output of a later node."""
    branch = helper.make_graph(
        [helper.make_node("Softmax", ["h"], ["s"], axis=1)], "branch", [], [helper.make_value_info("s", tensor())]
    )
    nodes = [
        helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Neg", ["g"], ["h"]),
        helper.make_node("Neg", ["x"], ["g"]),
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("", TensorProto.BOOL, [], [1])),
    ]
    path = saved(tmp_path, graph(nodes, {"x": tensor()}, {"y": tensor()}, opset=11))
    x = np.zeros((1, 2, 2), np.float32)
    assert evaluate(path, {"x": x})["y"].tolist() == [[[0.25, 0.25], [0.25, 0.25]]], "the branch flattens, as opset 11"
    assert list(evaluate_all(path, {"x": x})) == ["g", "h", "yes", "y"]


def test_nodes_that_wait_for_one_another_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])]
    path = saved(tmp_path, graph(nodes, {"x": tensor()}, {"b": tensor()}))
    with pytest.raises(ValueError, match="wait for one another: Add"):
        evaluate(path, {"x": values(1)})


def test_a_function_of_the_file_is_evaluated_alike(tmp_path: Path) -> None:
    model = graph([helper.make_node("Own", ["x"], ["y"], domain="mine")], {"x": tensor()}, {"y": tensor()}, opset=11)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    body = [helper.make_node("Softmax", ["a"], ["b"], axis=1)]
    model.functions.append(helper.make_function("mine", "Own", ["a"], ["b"], body, [helper.make_opsetid("", 11)]))
    path = saved(tmp_path, model)
    assert (evaluate(path, {"x": np.zeros((1, 2, 2), np.float32)})["y"] == 0.25).all()


def test_an_output_without_a_name_is_not_the_value_of_an_omitted_input(tmp_path: Path) -> None:
    weight, none = np.ones((1, 1, 1), np.float32), ""
    nodes = [
        helper.make_node("RNN", ["x", "w", "w"], [none, "h"], hidden_size=1),
        helper.make_node("Clip", ["h", none, "top"], ["y"]),
    ]
    top = onnx.numpy_helper.from_array(np.float32(5) * np.ones((), np.float32), "top")
    initializers = [onnx.numpy_helper.from_array(weight, "w"), top]
    path = saved(tmp_path, graph(nodes, {"x": tensor()}, {"y": tensor()}, initializers=initializers))
    x = values(2, -2).reshape(2, 1, 1)
    assert np.isclose(evaluate(path, {"x": x})["y"].item(), tanh(-2 + tanh(2)), rtol=1e-15)


def test_only_the_last_outputs_without_a_name_are_left_out(tmp_path: Path) -> None:
    weights = {"w": np.zeros((1, 4, 1), np.float32)}
    node = helper.make_node("LSTM", ["x", "w", "w"], ["all", "h", ""], hidden_size=1)
    initializers = [onnx.numpy_helper.from_array(weight, name) for name, weight in weights.items()]
    path = saved(tmp_path, graph([node], {"x": tensor()}, {"h": tensor()}, initializers=initializers))
    assert evaluate(path, {"x": values(2, -2).reshape(2, 1, 1)})["h"].shape == (1, 1, 1)


@pytest.mark.parametrize(
    ("operator", "x", "weight", "work"),
    [
        ("Gemm", (2, 3), (3, 4), 2 * 3 * 4),
        ("MatMul", (2, 3), (3, 4), 2 * 3 * 4),
        ("Conv", (1, 2, 4), (3, 2, 2), (3 * 3) * (2 * 2)),
        ("ConvTranspose", (1, 2, 4), (2, 3, 2), (2 * 4) * (3 * 2)),
        ("Add", (2, 3), (2, 3), 2 * 3),
    ],
)
def test_an_evaluation_may_do_as_much_as_is_allowed_and_no_more(
    operator: str, x: tuple[int, ...], weight: tuple[int, ...], work: int, tmp_path: Path
) -> None:
    weights = [onnx.numpy_helper.from_array(np.ones(weight, np.float32), "w")]
    nodes = [helper.make_node(operator, ["x", "w"], ["y"])]
    path = saved(tmp_path, graph(nodes, {"x": tensor()}, {"y": tensor()}, initializers=weights))
    inputs = {"x": np.ones(x, np.float32)}
    with limited_work(work, 10**6):
        output = evaluate(path, inputs)["y"]
    with limited_work(work - 1, 10**6), pytest.raises(EvaluationTooLarge, match=f"more than {work - 1} multipl"):
        evaluate(path, inputs)
    with limited_work(work, output.nbytes):
        evaluate(path, inputs)
    with limited_work(work, output.nbytes - 1), pytest.raises(EvaluationTooLarge, match="bytes"):
        evaluate(path, inputs)


def test_the_signature_is_widened_as_far_as_it_is_of_narrow_floats() -> None:
    kinds = {"f": TensorProto.FLOAT16, "i": TensorProto.INT64, "b": TensorProto.BOOL}
    model = graph([helper.make_node("Neg", ["f"], ["y"])], {name: tensor(kind) for name, kind in kinds.items()}, {})
    model.graph.input.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None))
    widened = {each.name: each.type for each in with_float64(model).graph.input}
    assert {name: widened[name].tensor_type.elem_type for name in kinds} == {**kinds, "f": TensorProto.DOUBLE}
    assert widened["s"].sequence_type.elem_type.tensor_type.elem_type == TensorProto.DOUBLE
    assert not widened["s"].HasField("tensor_type")


def test_float32_that_no_attribute_names_is_widened(tmp_path: Path) -> None:
    """ConstantOfShape and a Constant of floats are float32; the evaluator refuses to add them to float64."""
    nodes = [
        helper.make_node("Constant", [], ["c"], value_floats=[0.5, 0.25]),
        helper.make_node("Constant", [], ["n"], value_ints=[2]),
        helper.make_node("ConstantOfShape", ["n"], ["z"]),
        helper.make_node("Add", ["x", "c"], ["s"]),
        helper.make_node("Add", ["s", "z"], ["y"]),
    ]
    path = saved(tmp_path, graph(nodes, {"x": tensor()}, {"y": tensor()}))
    assert evaluate(path, {"x": values(1, 1)})["y"].tolist() == [1.5, 1.25]


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    return path
