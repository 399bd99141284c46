"""Shrinking: the shrunk case still fails, is not more complex, and no case that is one step simpler fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import Location
from harness.explain.shrink import complexity, same_failure, shrink, simpler_cases
from harness.explain.simpler_tensors import leaves, written_out
from harness.reproduction.source import layers_of
from harness.result import OutputComparison, Result
from harness.spec.language.case import (
    Case,
    Expectation,
    Fill,
    GraphModel,
    GraphNode,
    LayerModel,
    Model,
    SequentialModel,
    TensorSpec,
    WeightedModel,
)

POOL = LayerModel("AvgPool2d", {"kernel_size": [2, 3], "stride": 2, "padding": 1, "divisor_override": 5})
LINEAR = LayerModel("Linear", {"in_features": 6, "out_features": 4, "bias": False})
GRAPH = GraphModel(
    (
        GraphNode(LayerModel("ReLU"), ("x",), ("a",)),
        GraphNode(LayerModel("Tanh"), ("a",), ("b",)),
        GraphNode(POOL, ("b",), ("c",)),
        GraphNode(LayerModel("Sigmoid"), ("a",), ("d",)),
    ),
    ("c", "d"),
)
MODELS: tuple[Model, ...] = (POOL, LINEAR, SequentialModel((LINEAR, LayerModel("ReLU"), LINEAR)), GRAPH)
FILLS = (Fill("normal"), Fill("uniform", (-1.0, 1.0)), Fill("integers", (-3, 7)), Fill("ones"), Fill("arange"))


def case_of(model: Model, shape: tuple[int, ...], fill: Fill = Fill("normal"), **other: Any) -> Case:  # noqa: B008
    inputs = (TensorSpec("x", "float32", shape, None, fill, seed=11),)
    return Case("a/case", "", WeightedModel(model), inputs, Location("a.yaml"), seed=7, **other)


CASES = st.builds(
    case_of,
    st.sampled_from(MODELS),
    st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple),
    st.sampled_from(FILLS),
    mode=st.sampled_from(["eval", "train"]),
    expect=st.sampled_from([Expectation(), Expectation(range=(0.0, 1.0))]),
)


def has_layer(name: str) -> Callable[[Case], bool]:
    return lambda case: any(layer.layer == name for layer in layers_of(case.model.model))


def has_argument(name: str) -> Callable[[Case], bool]:
    return lambda case: any(name in layer.args for layer in layers_of(case.model.model))


def has_elements(count: int) -> Callable[[Case], bool]:
    return lambda case: prod(case.inputs[0].shape) >= count


def has_value_above(bound: float) -> Callable[[Case], bool]:
    return lambda case: any(number > bound for number in leaves(written_out(case.inputs[0]).values))


PREDICATES = (
    has_layer("AvgPool2d"),
    has_layer("ReLU"),
    has_layer("Linear"),
    has_argument("divisor_override"),
    has_elements(3),
    has_value_above(0.5),
    lambda case: case.mode == "train",
    lambda case: "padding" in str(case.model.model) and has_elements(4)(case),
    lambda _case: True,
)


@settings(max_examples=60)
@given(case=CASES, fails=st.sampled_from(PREDICATES))
def test_the_shrunk_case_fails_is_not_more_complex_and_is_minimal(case: Case, fails: Callable[[Case], bool]) -> None:
    if not fails(case):
        return
    shrunk = shrink(case, fails, budget_s=60)
    assert fails(shrunk.case)
    assert complexity(shrunk.case) <= complexity(case)
    assert shrunk.minimal
    assert not any(fails(smaller) for smaller in simpler_cases(shrunk.case))
    assert shrink(case, fails, budget_s=60) == shrunk


@settings(max_examples=60)
@given(case=CASES)
def test_every_step_lowers_the_complexity(case: Case) -> None:
    assert all(complexity(smaller) < complexity(case) for smaller in simpler_cases(case))


def test_arguments_without_effect_are_removed() -> None:
    shrunk = shrink(case_of(POOL, (2, 3, 7, 6)), has_argument("divisor_override"), budget_s=60)
    assert shrunk.case.model.model == LayerModel("AvgPool2d", {"divisor_override": 1})
    assert shrunk.case.inputs[0].shape == (1, 1, 1, 1)
    assert shrunk.case.inputs[0].fill == Fill("ones")
    assert shrunk.case.seed == 0


def test_features_and_shapes_shrink_together() -> None:
    def fits(case: Case) -> bool:
        (layer,) = layers_of(case.model.model)
        return layer.args.get("in_features") == case.inputs[0].shape[-1] and "out_features" in layer.args

    shrunk = shrink(case_of(LINEAR, (5, 6)), fits, budget_s=60)
    assert shrunk.case.model.model == LayerModel("Linear", {"in_features": 1, "out_features": 1})
    assert shrunk.case.inputs[0].shape == (1, 1)


def test_a_sequence_or_a_graph_shrinks_to_one_layer() -> None:
    weights = {"2.weight": TensorSpec("weight", "float32", (), None, Fill("ones"), takes_shape=True)}
    sequence = replace(case_of(MODELS[2], (3, 6)), model=WeightedModel(MODELS[2], weights))
    shrunk = shrink(sequence, lambda case: has_layer("Linear")(case) and bool(case.model.weights), budget_s=60)
    assert isinstance(shrunk.case.model.model, LayerModel)
    assert list(shrunk.case.model.weights) == ["weight"]
    shrunk_graph = shrink(case_of(GRAPH, (2, 3, 4, 4)), has_layer("Sigmoid"), budget_s=60)
    assert shrunk_graph.case.model.model == LayerModel("Sigmoid")


def test_only_the_value_with_an_effect_stays() -> None:
    shrunk = shrink(case_of(LayerModel("ReLU"), (2, 3, 4)), has_value_above(1.0), budget_s=60)
    assert shrunk.case.inputs[0].values == (((2.0,),),)


def test_the_time_is_limited_and_the_case_not_called_minimal() -> None:
    calls = itertools.count()

    def slow(_case: Case) -> bool:
        next(calls)
        return True

    shrunk = shrink(case_of(POOL, (2, 3, 7, 6)), slow, budget_s=0.0)
    assert not shrunk.minimal
    assert shrunk.case == case_of(POOL, (2, 3, 7, 6))
    assert next(calls) == 0


OUTPUT = OutputComparison(0, "output_0", (4,), "float32", "exact")
NAN = replace(OUTPUT, problem="1 of 4 values is finite, expected NaN; first at [0]")
NUMBERS = replace(OUTPUT, problem="2 of 4 values differ by more than the tolerance; worst at [1]: 1, expected 2")


def failing(**fields: Any) -> Result:
    values = {"status": "failed", "stage": "compare", "symptom": "mismatch", "blame": "kernel", **fields}
    return Result("a/case", "trace/torch-cpu", **values)


@pytest.mark.parametrize(
    ("original", "simpler", "same"),
    [
        (failing(outputs=(NAN,)), failing(outputs=(NAN,)), True),
        (failing(outputs=(NAN,)), failing(outputs=(NUMBERS,)), False),
        (failing(outputs=(NAN, NUMBERS)), failing(outputs=(NUMBERS,)), True),
        (failing(outputs=(NUMBERS,)), failing(outputs=(NUMBERS,), blame="rounding"), False),
        (failing(outputs=(NUMBERS,)), failing(outputs=(NUMBERS,), status="passed"), False),
        (failing(outputs=(NUMBERS,)), failing(outputs=()), False),
        (failing(stage="export", symptom="exception"), failing(stage="load", symptom="exception"), False),
        (failing(symptom="exception", message="no 3"), failing(symptom="exception", message="no 12"), True),
        (failing(symptom="exception", message="no 3"), failing(symptom="exception", message="not 3"), False),
    ],
)
def test_the_same_failure_has_the_same_stage_symptom_blame_and_kind_of_error(
    original: Result, simpler: Result, same: bool
) -> None:
    assert same_failure(original, simpler) is same
