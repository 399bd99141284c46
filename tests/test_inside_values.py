"""When a value of a graph differs from its reference, when that is rounding, and which value is which module's."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from harness.data_files.onnx_files import read_model
from harness.inside.nodes.divergence import (
    ModuleCall,
    Walk,
    computed_difference,
    elementwise_difference,
    float64_difference,
)
from harness.inside.nodes.matching import (
    MAX_PRINTED_ELEMENTS,
    NAME_SCOPES,
    describe_node,
    has_folded_calls,
    match_values,
    module_of,
    owners,
    owning_calls,
    with_all_values_as_outputs,
)
from harness.inside.nodes.walk import _first_divergent, _Search

Array = NDArray[Any]
LARGEST = 1000.0
ROUNDING_SHARE = {"float16": 1e-2, "bfloat16": 6e-2, "float32": 2e-5, "float64": 1e-7}
FOLDING_SHARE, ZERO_SHARE = 1e-5, 1e-12
DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64}


def values(dtype: Any = np.float64) -> Array:
    """Values up to ``LARGEST``, an infinity that does not count, and a zero."""
    result: Array = np.array([LARGEST, 1.0, -500.0, 0.0, np.inf, np.nan]).astype(dtype)
    return result


def off_by(error: float, at: int = 1, dtype: Any = np.float64) -> Array:
    result = values(np.float64)
    result[at] += error
    return result.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_error_within_the_rounding_of_the_largest_sum_is_rounding(dtype: str) -> None:
    expected = values(DTYPES[dtype])
    assert computed_difference("v", expected.copy(), expected) is None
    for share, rounding in ((0.8, True), (1.25, False)):
        difference = computed_difference(
            "v", off_by(share * ROUNDING_SHARE[dtype] * LARGEST, dtype=DTYPES[dtype]), expected
        )
        assert difference is not None
        assert difference.rounding is rounding


def test_a_single_last_bit_is_rounding_and_the_reference_is_rounded_to_the_values_dtype() -> None:
    actual = values(np.float32)
    assert computed_difference("v", actual, values(np.float64)) is None
    actual[1] = np.nextafter(np.float32(1), np.float32(2))
    difference = computed_difference("v", actual, values(np.float64))
    assert difference is not None
    assert difference.rounding


def test_integers_are_never_rounded() -> None:
    expected = np.array([1000, 1])
    assert computed_difference("v", expected, expected) is None
    difference = computed_difference("v", expected + 1, expected)
    assert difference is not None
    assert not difference.rounding
    for other in (float64_difference, elementwise_difference):
        assert other("v", expected, expected) is None
        assert other("v", expected + np.array([0, 1]), expected) is not None
    as_floats = computed_difference("v", expected.astype(np.float32), expected)
    assert as_floats is not None, "another kind of number is no rounding of it"
    assert not as_floats.rounding


def test_in_float64_an_error_is_measured_by_the_largest_value() -> None:
    assert float64_difference("v", off_by(0.8 * FOLDING_SHARE * LARGEST), values()) is None
    difference = float64_difference("v", off_by(1.25 * FOLDING_SHARE * LARGEST), values())
    assert difference is not None
    assert not difference.rounding
    assert difference.description.startswith("v: 1 of 6 values differs")


def test_element_by_element_small_wrong_values_are_found_too() -> None:
    assert elementwise_difference("v", off_by(0.8 * FOLDING_SHARE), values()) is None
    assert elementwise_difference("v", off_by(1.25 * FOLDING_SHARE), values()) is not None
    assert elementwise_difference("v", off_by(0.8 * ZERO_SHARE * LARGEST, at=3), values()) is None
    assert elementwise_difference("v", off_by(1.25 * ZERO_SHARE * LARGEST, at=3), values()) is not None


def test_a_call_is_named_by_its_path_or_as_the_whole_model() -> None:
    assert str(ModuleCall("features.0", "Conv2d", ())) == "features.0 (Conv2d)"
    assert str(ModuleCall("", "ReLU", ())) == "ReLU"


# The first node that differs


def first_of(actual: dict[str, Array], expected: dict[str, Array]) -> tuple[str, bool] | None:
    """The value at which a chain of three nodes, and a constant before them, diverges, and whether by rounding only."""
    nodes = [helper.make_node("Constant", [], ["k"], value=helper.make_tensor("", TensorProto.FLOAT, [], [1]))]
    nodes += [node(f"n{at}", [source], [result]) for at, (source, result) in enumerate(pairwise("xabc"))]
    found = _Search(graph_of(*nodes, output="c"), {}, (), {}).first(actual, expected, computed_difference)
    return None if found is None else (found.value, found.rounding)


def test_the_first_wrong_node_comes_before_the_first_that_rounds() -> None:
    right, rounded, wrong = (np.array([one], np.float32) for one in (1.0, 1.0 + 2.0**-23, 2.0))
    expected = dict.fromkeys("abc", right)
    assert first_of(expected, expected) is None
    assert first_of({"a": right, "b": rounded, "c": rounded}, expected) == ("b", True)
    assert first_of({"a": rounded, "b": rounded, "c": wrong}, expected) == ("c", False)
    assert first_of({"a": wrong, "b": wrong, "c": rounded}, expected) == ("a", False)


def test_values_that_are_not_known_on_both_sides_and_constants_are_passed_over() -> None:
    right, wrong = np.ones(1, np.float32), np.zeros(1, np.float32)
    assert first_of({"k": wrong, "b": wrong}, {"k": right, "a": right, "b": right}) == ("b", False)
    assert first_of({"k": wrong, "a": wrong}, {"k": right, "b": right}) is None


def test_of_several_inputs_the_first_at_which_anything_diverges_counts() -> None:
    found = _Search(graph_of(node("n", ["x"], ["a"]), output="a"), {}, (), {}).first(
        {"a": np.zeros(1)}, {"a": np.ones(1)}, float64_difference
    )
    nothing, by_kernel, by_module = (Walk(1, kernel, module, 0, 0) for kernel, module in (
        (None, None), (found, None), (None, found)
    ))  # fmt: skip
    for walks, index in (
        ([by_kernel, by_module], 0),
        ([by_module, by_kernel], 0),
        ([nothing, by_module, by_kernel], 1),
        ([nothing, nothing, by_kernel], 2),
        ([nothing, replace(nothing, nodes=2)], 0),
    ):
        assert _first_divergent(iter(walks)) is walks[index]


# The model


def test_functions_are_inlined_and_each_value_is_an_output_with_its_type_where_that_is_known(tmp_path: Path) -> None:
    body = [helper.make_node("Neg", ["a"], ["b"])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    nodes = [
        helper.make_node("Own", ["x"], ["h"], domain="mine"),
        helper.make_node("Unknown", ["h"], ["u"], domain="mine"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]), opset_imports=opsets)
    model.functions.append(helper.make_function("mine", "Own", ["a"], ["b"], body, opsets[:1]))
    onnx.save(model, tmp_path / "model.onnx")
    read = read_model(tmp_path / "model.onnx")
    assert [each.op_type for each in read.graph.node] == ["Neg", "Unknown", "Relu", "Relu"]
    types = {each.name: each.type.tensor_type.elem_type for each in with_all_values_as_outputs(read).graph.output}
    assert types.pop("u") == 0, "nothing is known of it"
    assert types == dict.fromkeys("yhr", TensorProto.FLOAT)


# Which module


def node(name: str, inputs: list[str], outputs: list[str], scopes: list[str] | None = None) -> NodeProto:
    made = helper.make_node("Neg", inputs, outputs, name=name)
    if scopes is not None:
        for key, value in (("other", "['wrong']"), (NAME_SCOPES, str(scopes))):
            made.metadata_props.add(key=key, value=value)
    return made


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/features/features.0/Conv", "features.0"),
        ("/features/features.1/features.1.0/Relu", "features.1.0"),
        ("/features/features.0_1/Conv", "features.0"),
        ("/head/act/Tanh", "head.act"),
        ("/head/act_2/Tanh", "head.act"),
        ("/head/Add", None),
        ("/other/act/Tanh", None),
        ("/Add", None),
        ("head/act/Tanh", None),
    ],
)
def test_the_scope_in_a_nodes_name_leads_to_a_module(name: str, path: str | None) -> None:
    assert module_of(node(name, ["x"], ["y"]), ["features.0", "features.1.0", "head.act"]) == path


def test_the_deepest_known_scope_counts() -> None:
    scopes = ["", "head", "head.act", "head.act.inner"]
    assert module_of(node("n", ["x"], ["y"], scopes), ["head", "head.act", "other"]) == "head.act"
    assert module_of(node("n", ["x"], ["y"], scopes), ["other"]) is None
    calls = [ModuleCall("other", "A", ()), ModuleCall("head", "B", ()), ModuleCall("head", "C", ())]
    assert owning_calls([node("n", ["x"], ["y"], scopes)], calls) == {"y": calls[1]}
    assert owning_calls([node("n", ["x"], ["y"], [])], calls) == {}


def test_a_scope_that_leaves_out_dicts_belongs_to_the_calls_that_fit_it_in_order() -> None:
    names = ["/norm/LayerNormalization", "/mlp/mlp.0/Gemm", "/norm_1/LayerNormalization", "/mlp/mlp.0_1/Gemm"]
    nodes = [node(name, ["x"], [f"y{number}"]) for number, name in enumerate([*names, "/norm_2/LayerNormalization"])]
    called = ["layers.0.norm", "layers.0.mlp.0", "layers.1.norm", "layers.1.mlp.0", "norm"]
    assert owners(nodes, called) == {f"y{number}": path for number, path in enumerate(called)}
    # With a call that has no nodes nobody knows which of them it is.
    assert owners(nodes, [*called, "layers.2.norm"]) == {"y1": "layers.0.mlp.0", "y3": "layers.1.mlp.0"}


def graph_of(*nodes: NodeProto, output: str) -> Any:
    return helper.make_graph(list(nodes), "g", [], [helper.make_tensor_value_info(output, TensorProto.DOUBLE, None)])


def test_a_module_is_matched_with_the_value_that_leaves_its_nodes() -> None:
    inner, leaving, after = np.zeros(3), np.ones(3), np.full(3, 2.0)
    graph = graph_of(
        node("/m/A", ["x"], ["inner"]), node("/m/B", ["inner"], ["leaving"]), node("/C", ["leaving"], ["y"]), output="y"
    )
    call = ModuleCall("m", "M", (leaving,))
    (match,) = match_values(graph, {"inner": inner, "leaving": leaving, "y": after}, [call])
    assert (match.value, match.call, match.matched_by) == ("leaving", call, "the exporter's scope names")


@pytest.mark.parametrize(
    ("candidate", "matches"),
    [
        (values()[:4], True),
        (off_by(0.8e-3)[:4], True),
        (off_by(2e-2)[:4], False),
        (off_by(0.8e-2, at=3)[:4], True),
        (off_by(1.25e-2, at=3)[:4], False),
        (values()[:4].reshape(2, 2), False),
        (values()[:4].astype(np.float32), False),
        (np.zeros(0), False),
    ],
)
def test_without_scopes_a_module_is_matched_with_a_close_value(candidate: Array, matches: bool) -> None:
    """Within 1e-3 of the value, or 1e-5 of the largest."""
    output = values()[:4]
    graph = graph_of(node("", ["x"], ["wrong"]), node("", ["x"], ["y"]), output="y")
    call = ModuleCall("m", "M", (output,))
    found = match_values(graph, {"wrong": -output, "y": candidate}, [call])
    assert [(match.value, match.matched_by) for match in found] == ([("y", "shape and values")] if matches else [])
    assert has_folded_calls({"wrong": -output, "y": candidate}, [call], []) is not matches
    assert not has_folded_calls({"wrong": -output}, [call], found) or not matches


def test_each_value_is_matched_once() -> None:
    graph = graph_of(node("", ["x"], ["a"]), node("", ["x"], ["b"]), output="b")
    calls = [ModuleCall(path, "M", (np.ones(2),)) for path in ("first", "second", "third")]
    found = match_values(graph, {"a": np.ones(2), "b": np.ones(2)}, calls)
    assert [(match.call.path, match.value) for match in found] == [("first", "a"), ("second", "b")]


def test_nodes_are_described_by_small_values_and_by_the_form_of_large_ones() -> None:
    made = helper.make_node(
        "Own", ["x", "", "unknown", "large", "matrix"], ["y"], name="n", domain="mine", alpha=0.5, mode="up",
        small=helper.make_tensor("", TensorProto.FLOAT, [2], [1, 2]),
        big=helper.make_tensor("", TensorProto.FLOAT, [MAX_PRINTED_ELEMENTS + 1], [0] * (MAX_PRINTED_ELEMENTS + 1)),
    )  # fmt: skip
    known = {"x": np.full(MAX_PRINTED_ELEMENTS, 1 / 3), "large": np.zeros(MAX_PRINTED_ELEMENTS + 1)}
    described = describe_node(made, {**known, "matrix": np.ones((1, 2), np.float32)})
    printed = ", ".join(["0.333333"] * MAX_PRINTED_ELEMENTS)
    assert described.inputs == (f"x=[{printed}]", "-", "unknown", "large: float64[9]", "matrix: float32[1, 2]")
    assert described.op_type == "mine::Own"
    assert set(described.attributes) == {"alpha=0.5", "mode=up", "small=[1., 2.]", "big=float32[9]"}
    assert str(described).endswith("-> y")
    plain = describe_node(helper.make_node("Relu", ["x"], ["y"]), {})
    assert str(plain) == "Relu(x) -> y"
