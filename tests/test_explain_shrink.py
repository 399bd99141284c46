"""Shrinking: whatever fails, the result still fails, is no larger, and nothing one step simpler fails."""

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
from harness.explain.shrink import same_failure, shrink, simpler, size
from harness.explain.simpler_tensors import leaves, written_out
from harness.reproduction.source import parts
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
    return lambda case: any(part.layer == name for part in parts(case.model.model))


def has_argument(name: str) -> Callable[[Case], bool]:
    return lambda case: any(name in part.args for part in parts(case.model.model))


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
def test_what_is_left_fails_is_no_larger_and_is_minimal_to_one_step(case: Case, fails: Callable[[Case], bool]) -> None:
    if not fails(case):
        return
    found = shrink(case, fails, budget_s=60)
    assert fails(found.case)
    assert size(found.case) <= size(case)
    assert found.minimal
    assert not any(fails(smaller) for smaller in simpler(found.case))
    assert shrink(case, fails, budget_s=60) == found


@settings(max_examples=60)
@given(case=CASES)
def test_every_step_is_a_step_down(case: Case) -> None:
    assert all(size(smaller) < size(case) for smaller in simpler(case))


def test_arguments_go_back_to_their_defaults_and_only_what_matters_stays() -> None:
    found = shrink(case_of(POOL, (2, 3, 7, 6)), has_argument("divisor_override"), budget_s=60)
    assert found.case.model.model == LayerModel("AvgPool2d", {"divisor_override": 1})
    assert found.case.inputs[0].shape == (1, 1, 1, 1)
    assert found.case.inputs[0].fill == Fill("ones")
    assert found.case.seed == 0


def test_features_and_shapes_that_belong_together_shrink_together() -> None:
    def fits(case: Case) -> bool:
        (layer,) = parts(case.model.model)
        return layer.args.get("in_features") == case.inputs[0].shape[-1] and "out_features" in layer.args

    found = shrink(case_of(LINEAR, (5, 6)), fits, budget_s=60)
    assert found.case.model.model == LayerModel("Linear", {"in_features": 1, "out_features": 1})
    assert found.case.inputs[0].shape == (1, 1)


def test_one_layer_of_a_sequence_or_a_graph_is_a_layer() -> None:
    weights = {"2.weight": TensorSpec("weight", "float32", (), None, Fill("ones"), takes_shape=True)}
    sequence = replace(case_of(MODELS[2], (3, 6)), model=WeightedModel(MODELS[2], weights))
    found = shrink(sequence, lambda case: has_layer("Linear")(case) and bool(case.model.weights), budget_s=60)
    assert isinstance(found.case.model.model, LayerModel)
    assert list(found.case.model.weights) == ["weight"]
    graph = shrink(case_of(GRAPH, (2, 3, 4, 4)), has_layer("Sigmoid"), budget_s=60)
    assert graph.case.model.model == LayerModel("Sigmoid")


def test_one_value_of_many_is_found() -> None:
    found = shrink(case_of(LayerModel("ReLU"), (2, 3, 4)), has_value_above(1.0), budget_s=60)
    assert found.case.inputs[0].values == (((2.0,),),)


def test_time_is_bounded_and_said() -> None:
    asked = itertools.count()

    def slow(_case: Case) -> bool:
        next(asked)
        return True

    found = shrink(case_of(POOL, (2, 3, 7, 6)), slow, budget_s=0.0)
    assert not found.minimal
    assert found.case == case_of(POOL, (2, 3, 7, 6))
    assert next(asked) == 0


OUTPUT = OutputComparison(0, "output_0", (4,), "float32", "exact")
NAN = replace(OUTPUT, problem="1 of 4 values is finite, expected NaN; first at [0]")
NUMBERS = replace(OUTPUT, problem="2 of 4 values differ by more than the tolerance; worst at [1]: 1, expected 2")


def failing(**given: Any) -> Result:
    told = {"status": "failed", "stage": "compare", "symptom": "mismatch", "blame": "kernel", **given}
    return Result("a/case", "trace/torch-cpu", **told)


@pytest.mark.parametrize(
    ("one", "other", "same"),
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
def test_the_same_failure_is_the_same_stage_symptom_blame_and_look(one: Result, other: Result, same: bool) -> None:
    assert same_failure(one, other) is same
