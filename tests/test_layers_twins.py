"""Twins: a claim that no input could tell is true, and mutants without such a claim are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.layers import Array, Call, Mutant
from tests.layers_strategies import ALL, calls, eager, layer, same


def answers_of(mutant: Mutant, name: str, call: Call) -> tuple[Array, ...]:
    """What the wrong layer answers, by eager torch."""
    right = eager(name, call.args, call)
    if mutant.outputs is not None:
        return mutant.outputs(right)
    if mutant.weights is not None:
        return eager(name, call.args, call, mutant.weights(dict(call.weights)))
    args: Mapping[str, Any] = mutant.args or {}
    return eager(mutant.layer or name, args if mutant.layer or mutant.args else call.args, call)


def alike(name: str, call: Call, mutant: Mutant) -> bool:
    right, wrong = eager(name, call.args, call), answers_of(mutant, name, call)
    answer = layer(name).float64_reference(call)
    undefined = (None,) * len(right) if answer is None else answer.undefined
    return len(right) == len(wrong) and all(
        one.shape == other.shape and same(one[known], other[known])
        for one, other, mask in zip(right, wrong, undefined, strict=True)
        for known in [np.ones(one.shape, bool) if mask is None else ~mask]
    )


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=40)
@given(data=st.data())
def test_what_no_input_can_tell_is_equal(name: str, data: st.DataObject) -> None:
    call = data.draw(calls(name))
    for mutant in layer(name).mutants(call):
        if mutant.why_equal is not None:
            assert alike(name, call, mutant), (mutant.name, mutant.why_equal)


def random(*shape: int) -> Array:
    return np.random.default_rng(5).permutation(np.linspace(-3, 3, int(np.prod(shape)))).reshape(shape)


POOL = {"kernel_size": (2, 3), "stride": (2, 1), "padding": (0, 1), "ceil_mode": True}
SAME_SIZE = {"kernel_size": 3, "stride": 1, "padding": 1, "ceil_mode": False}
TELLING = [
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


@pytest.mark.parametrize(("name", "call"), TELLING, ids=[f"{i}-{name}" for i, (name, _) in enumerate(TELLING)])
def test_every_other_twin_is_told_apart_by_signed_distinct_inputs(name: str, call: Call) -> None:
    mutants = [mutant for mutant in layer(name).mutants(call) if mutant.why_equal is None]
    assert len(mutants) > 2
    assert not [mutant.name for mutant in mutants if alike(name, call, mutant)]
    assert len({mutant.name for mutant in mutants}) == len(mutants)


def names(name: str, call: Call) -> dict[str, str | None]:
    return {mutant.name: mutant.why_equal for mutant in layer(name).mutants(call)}


def test_every_argument_of_a_pool_is_nudged() -> None:
    maxima, averages = (
        {key for mutant in layer(name).mutants(call) if mutant.layer is None and mutant.args is not None for key in call.args
         if mutant.args[key] != call.args[key]}
        for name, call in (TELLING[0], TELLING[3])
    )  # fmt: skip
    assert maxima == set(TELLING[0][1].args)
    assert averages == set(TELLING[3][1].args)


def test_twins_that_nothing_can_tell_are_excused() -> None:
    whole = Call({"kernel_size": 2, "padding": 0, "ceil_mode": False, "count_include_pad": True}, {}, [random(1, 4, 4)])
    excused = {name for name, why in names("AvgPool2d", whole).items() if why}
    assert {"ceil_mode=True", "count_include_pad=False"} <= excused
    unit = Call({"kernel_size": 1, "dilation": 1}, {}, [random(1, 4, 4)])
    assert all(names("MaxPool2d", unit)[name] for name in ("dilation=(2, 1)", "Identity()"))
    plane = Call({"kernel_size": 2, "return_indices": True}, {}, [random(1, 4, 4)])
    assert names("MaxPool2d", plane)["indices off by a plane"] == "there is one plane only"
    symmetric = Call({"in_features": 2, "out_features": 2}, {"weight": np.ones((2, 2))}, [random(1, 2)])
    assert names("Linear", symmetric)["weight transposed"] == "the changed weights are the same numbers"
    assert names("ReLU", Call({}, {}, [np.array([1], np.uint8)]))["Identity()"]


def test_a_divisor_is_dropped_and_changed_by_one() -> None:
    call = Call({"kernel_size": 2, "divisor_override": 3}, {}, [random(1, 4, 4)])
    divisors = {name: why for name, why in names("AvgPool2d", call).items() if name.startswith("divisor")}
    assert divisors == {"divisor_override=None": None, "divisor_override=4": None}
    four = Call({"kernel_size": 2, "divisor_override": 4}, {}, [random(1, 4, 4)])
    assert names("AvgPool2d", four)["divisor_override=None"]


@pytest.mark.parametrize("name", ["ReLU", "MaxPool2d"])
def test_integers_have_no_twin_that_refuses_integers(name: str) -> None:
    x = np.arange(-8, 8, dtype=np.int32).reshape(1, 1, 4, 4)
    mutants = list(layer(name).mutants(Call({"kernel_size": 2, "stride": 1} if name == "MaxPool2d" else {}, {}, [x])))
    assert mutants
    assert {mutant.layer for mutant in mutants} <= {None, "Identity"}
