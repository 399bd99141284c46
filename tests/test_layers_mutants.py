"""Mutants that are declared equivalent have equal outputs; every other mutant has different outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.layers import Array, Call, Mutant
from harness.layers.generic import generic_mutants
from tests.layers_strategies import ALL, calls, eager, layer, same


def outputs_of(mutant: Mutant, name: str, call: Call) -> tuple[Array, ...]:
    """Compute the mutant's outputs with eager torch."""
    if mutant.outputs is not None:
        return mutant.outputs(eager(name, call.args, call))
    if mutant.weights is not None:
        return eager(name, call.args, call, mutant.weights(dict(call.weights)))
    args: Mapping[str, Any] = mutant.args or {}
    return eager(mutant.layer or name, args if mutant.layer or mutant.args else call.args, call)


def is_equivalent(name: str, call: Call, mutant: Mutant) -> bool:
    expected, actual = eager(name, call.args, call), outputs_of(mutant, name, call)
    answer = layer(name).float64_reference(call)
    undefined = (None,) * len(expected) if answer is None else answer.undefined
    return len(expected) == len(actual) and all(
        one.shape == other.shape and same(one[defined], other[defined])
        for one, other, mask in zip(expected, actual, undefined, strict=True)
        for defined in [np.ones(one.shape, bool) if mask is None else ~mask]
    )


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=40)
@given(data=st.data())
def test_a_mutant_marked_as_equivalent_has_equal_outputs(name: str, data: st.DataObject) -> None:
    call = data.draw(calls(name))
    for mutant in layer(name).mutants(call):
        if mutant.why_equivalent is not None:
            assert is_equivalent(name, call, mutant), (mutant.name, mutant.why_equivalent)


def random(*shape: int) -> Array:
    return np.random.default_rng(5).permutation(np.linspace(-3, 3, int(np.prod(shape)))).reshape(shape)


POOL = {"kernel_size": (2, 3), "stride": (2, 1), "padding": (0, 1), "ceil_mode": True}
SAME_SIZE = {"kernel_size": 3, "stride": 1, "padding": 1, "ceil_mode": False}
CALLS = [
    ("MaxPool2d", Call({**POOL, "dilation": (1, 2), "return_indices": True}, {}, [random(2, 3, 5, 8)])),
    ("MaxPool2d", Call({**SAME_SIZE, "dilation": 1, "return_indices": False}, {}, [random(2, 3, 6, 6)])),
    ("MaxPool1d", Call({"kernel_size": 2, "stride": 2, "return_indices": True}, {}, [random(2, 3, 8)])),
    ("AvgPool2d", Call({**POOL, "count_include_pad": True, "divisor_override": None}, {}, [random(2, 3, 5, 8)])),
    ("AvgPool2d", Call({**SAME_SIZE, "count_include_pad": False, "divisor_override": 3}, {}, [random(3, 6, 6)])),
    (
        "MaxUnpool2d",
        Call(
            {"kernel_size": 2, "stride": None, "padding": 0},
            {},
            [random(2, 3, 2, 2), np.broadcast_to([[1, 3], [9, 10]], (2, 3, 2, 2))],
            forward={"output_size": [5, 4]},
        ),
    ),
    (
        "Linear",
        Call(
            {"in_features": 3, "out_features": 3, "bias": True},
            {"weight": random(3, 3), "bias": random(3)},
            [random(4, 3)],
        ),
    ),
    ("Sigmoid", Call({}, {}, [random(40)])),
    ("Tanh", Call({}, {}, [random(40)])),
    ("ReLU", Call({}, {}, [3 * random(40)])),
    ("LeakyReLU", Call({"negative_slope": 0.2}, {}, [random(40)])),
    ("PReLU", Call({"num_parameters": 3, "init": 0.25}, {"weight": np.array([0.1, 0.2, 0.3])}, [random(2, 3, 4)])),
    ("RReLU", Call({"lower": 0.1, "upper": 0.3}, {}, [random(40)])),
    ("RReLU", Call({"lower": 0.1, "upper": 0.3}, {}, [random(40)], mode="train")),
]


@pytest.mark.parametrize(("name", "call"), CALLS, ids=[f"{i}-{name}" for i, (name, _) in enumerate(CALLS)])
def test_signed_distinct_inputs_distinguish_every_other_mutant(name: str, call: Call) -> None:
    mutants = [mutant for mutant in layer(name).mutants(call) if mutant.why_equivalent is None]
    assert len(mutants) > 2
    assert not [mutant.name for mutant in mutants if is_equivalent(name, call, mutant)]
    assert len({mutant.name for mutant in mutants}) == len(mutants)


def reasons(name: str, call: Call) -> dict[str, str | None]:
    return {mutant.name: mutant.why_equivalent for mutant in layer(name).mutants(call)}


def test_every_argument_of_a_pool_is_changed() -> None:
    def changed_arguments(name: str, call: Call) -> set[str]:
        changed = [
            mutant.args for mutant in layer(name).mutants(call) if mutant.layer is None and mutant.args is not None
        ]
        return {key for args in changed for key in call.args if args[key] != call.args[key]}

    for name, call in (CALLS[0], CALLS[3]):
        assert changed_arguments(name, call) == set(call.args)


def test_equivalent_mutants_have_a_reason() -> None:
    whole_windows = Call(
        {"kernel_size": 2, "padding": 0, "ceil_mode": False, "count_include_pad": True}, {}, [random(1, 4, 4)]
    )
    equivalent = {name for name, why in reasons("AvgPool2d", whole_windows).items() if why}
    assert {"ceil_mode=True", "count_include_pad=False"} <= equivalent
    unit = Call({"kernel_size": 1, "dilation": 1}, {}, [random(1, 4, 4)])
    assert all(reasons("MaxPool2d", unit)[name] for name in ("dilation=(2, 1)", "Identity()"))
    assert reasons("MaxPool2d", unit)["AvgPool2d over the same windows"] == "every window is one element"
    assert reasons("AvgPool2d", Call({"kernel_size": 1}, {}, [random(1, 4, 4)]))["Identity()"]
    plane = Call({"kernel_size": 2, "return_indices": True}, {}, [random(1, 4, 4)])
    assert reasons("MaxPool2d", plane)["indices off by a plane"] == "there is one plane only"
    symmetric = Call({"in_features": 2, "out_features": 2}, {"weight": np.ones((2, 2))}, [random(1, 2)])
    assert reasons("Linear", symmetric)["weight transposed"] == "the changed weights are the same numbers"
    assert reasons("ReLU", Call({}, {}, [np.array([1], np.uint8)]))["Identity()"]


def test_a_mutant_of_several_slopes_or_axes_is_made_where_there_are_several() -> None:
    assert {"weight shuffled", "weight the first for all"} <= set(reasons(*CALLS[11]))
    one_slope = Call({"num_parameters": 1}, {"weight": np.array([0.1])}, [random(2, 3, 4)])
    assert not {"weight shuffled", "weight the first for all"} & set(reasons("PReLU", one_slope))
    assert "indices transposed" in reasons(*CALLS[0])
    assert "indices transposed" not in reasons(*CALLS[2])


@pytest.mark.parametrize(("bounds", "made"), [((-0.25, 0.25), False), ((0.1, 0.3), True)])
def test_a_relu_is_a_wrong_rrelu_unless_its_slope_is_0(bounds: tuple[float, float], made: bool) -> None:
    call = Call(dict(zip(("lower", "upper"), bounds, strict=True)), {}, [random(40)])
    assert ("ReLU()" in reasons("RReLU", call)) == made


def test_a_wrong_relu_gives_the_absolute_value() -> None:
    name, call = CALLS[9]
    (mutant,) = (mutant for mutant in layer(name).mutants(call) if mutant.name == "absolute value")
    assert same(outputs_of(mutant, name, call)[0], np.abs(call.inputs[0]))


def test_a_layer_without_a_file_says_which_weights_and_layers_change_nothing() -> None:
    x = random(4, 3)

    def reasons_of(name: str, call: Call) -> dict[str, str | None]:
        return {mutant.name: mutant.why_equivalent for mutant in generic_mutants(name, call, (x,))}

    weights = {"weight_ih": random(12, 3), "weight_hh": random(12, 3)}
    cell = reasons_of("LSTMCell", Call({}, weights, [x]))
    assert cell["weight_hh negated"] is not None
    assert cell["weight_ih negated"] is None
    assert reasons_of("LSTMCell", Call({}, weights, [x, x]))["weight_hh negated"] is None
    assert reasons_of("GRUCell", Call({}, weights, [x]))["weight_hh negated"] is None
    assert reasons_of("Dropout", Call({}, {}, [x]))["Identity()"] is not None
    assert reasons_of("Dropout", Call({}, {}, [x], mode="train"))["Identity()"] is None
    assert reasons_of("Hardtanh", Call({}, {}, [x]))["Identity()"] is None


def test_a_divisor_is_dropped_and_changed_by_one() -> None:
    call = Call({"kernel_size": 2, "divisor_override": 3}, {}, [random(1, 4, 4)])
    divisors = {name: why for name, why in reasons("AvgPool2d", call).items() if name.startswith("divisor")}
    assert divisors == {"divisor_override=None": None, "divisor_override=4": None}
    four = Call({"kernel_size": 2, "divisor_override": 4}, {}, [random(1, 4, 4)])
    assert reasons("AvgPool2d", four)["divisor_override=None"]


@pytest.mark.parametrize("name", ["ReLU", "MaxPool2d"])
def test_no_mutant_refuses_integers(name: str) -> None:
    x = np.arange(-8, 8, dtype=np.int32).reshape(1, 1, 4, 4)
    mutants = list(layer(name).mutants(Call({"kernel_size": 2, "stride": 1} if name == "MaxPool2d" else {}, {}, [x])))
    assert mutants
    assert {mutant.layer for mutant in mutants} <= {None, "Identity"}
