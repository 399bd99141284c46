"""The unexpected checks of a report by cause: what belongs together, in which order, and what tells cases apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.causes import Cause, causes, layers_of
from harness.report.wording import UNEXPECTED
from harness.result import Layer, OutputComparison, Result
from tests.report_samples import ALL, DIFFERS, ERROR, FAILED, FIXED, PASSED, every_way_to_end_badly

TORCHSCRIPT, DYNAMO = "onnx-torchscript@17/ort-cpu", "onnx-dynamo@18/ort-cpu"


def off(values: str) -> OutputComparison:
    """A comparison that fails, with numbers of its own."""
    problem = f"{values} values differ by more than the tolerance; worst at [0, 0]: 1, expected 1.333 (25 % off)"
    return replace(DIFFERS, problem=problem)


def failing(case: str, model: str, target: str = DYNAMO, values: str = "3 of 4") -> Result:
    return replace(FAILED, case=case, case_model=model, target=target, outputs=(off(values),), message=None)


def passing(case: str, model: str, target: str = DYNAMO) -> Result:
    return replace(PASSED, case=case, case_model=model, target=target)


def with_divisor(number: int) -> str:
    return f"AvgPool2d(kernel_size=[2, {number}], divisor_override={number})"


DIVISORS = [
    failing(f"pool/a{number}", with_divisor(number), target, f"{number} of {number + 60}")
    for number in range(1, 14)
    for target in (TORCHSCRIPT, DYNAMO)
]
PLAIN = [passing(f"pool/b{number}", f"AvgPool2d(kernel_size=[2, {number}])") for number in range(5)]


def only(results: Sequence[Result]) -> Cause:
    (cause,) = causes(results)
    return cause


def test_one_fault_in_many_checks_is_one_cause_named_by_the_argument_that_its_cases_share() -> None:
    cause = only([*PLAIN, *DIVISORS])
    assert cause.title == "AvgPool2d with divisor_override: values differ by more than the tolerance"
    assert cause.extent == "26 checks, 13 cases, 2 targets, 2 exporters"
    assert cause.contrast == "13 of 13 cases with divisor_override go wrong, 0 of 5 without it"
    assert (cause.blame, cause.first, cause.targets) == ("exporter", DIVISORS[0], (TORCHSCRIPT, DYNAMO))


def test_a_setting_is_named_only_where_cases_with_and_without_it_tell() -> None:
    assert only(DIVISORS).title.startswith("AvgPool2d: "), "no case passes"
    assert only([*DIVISORS[:4], *PLAIN]).contrast is None, "two cases are too few"
    lone = only([*DIVISORS, *PLAIN[:1]])
    assert lone.contrast == "13 of 13 cases with divisor_override go wrong, 0 of 1 without it", "nothing else differs"
    both = [failing(f"pool/d{number}", "AvgPool2d(ceil_mode=True, divisor_override=3)") for number in range(5)]
    assert only([*both, *PLAIN[:2]]).contrast is None, "it may be either of the two"
    half = [passing(f"pool/c{number}", with_divisor(number)) for number in range(1, 14)]
    assert only([*DIVISORS, *PLAIN, *half]).contrast is None, "as many cases with the divisor pass"
    (accident,) = [passing("pool/c6", with_divisor(6))]
    cause = only([*DIVISORS, *PLAIN, accident])
    assert cause.contrast == "13 of 14 cases with divisor_override go wrong, 0 of 5 without it"


def test_an_argument_at_none_or_false_counts_as_not_given() -> None:
    unset = [passing(f"pool/c{number}", "AvgPool2d(kernel_size=9, divisor_override=None)") for number in range(3)]
    assert only([*DIVISORS, *unset]).contrast == "13 of 13 cases with divisor_override go wrong, 0 of 3 without it"


def test_two_faults_of_one_layer_are_two_causes() -> None:
    ceiling = [failing(f"pool/d{number}", f"AvgPool2d(kernel_size={number}, ceil_mode=True)") for number in range(5)]
    found = causes([*PLAIN, *DIVISORS, *ceiling])
    assert [(cause.subject, len(cause.results)) for cause in found] == [
        ("AvgPool2d with divisor_override", 26),
        ("AvgPool2d with ceil_mode", 5),
    ]


def test_dtype_and_rank_of_an_input_can_be_what_tells() -> None:
    def at(shape: list[int], dtype: str, result: Result) -> Result:
        return replace(result, inputs=({"label": "x", "dtype": dtype, "shape": shape},))

    good = [at([1, 2, 3, 4], "float32", one) for one in PLAIN]
    half = [at([1, 2, 3, 4], "float16", failing(f"pool/e{number}", "AvgPool2d(kernel_size=2)")) for number in range(3)]
    assert only([*good, *half]).subject == "AvgPool2d with float16 input"
    flat = [replace(at([2, 3, 4], "float32", ERROR), case=f"pool/f{number}") for number in range(3)]
    flat = [replace(one, case_model="AvgPool2d(kernel_size=2)", target=DYNAMO) for one in flat]
    assert only([*good, *flat]).subject == "AvgPool2d with 3-D input"


@pytest.mark.parametrize(
    "change",
    [
        {"blame": "kernel"},
        {"symptom": "exception"},
        {"case_model": "MaxPool2d(kernel_size=2)"},
        {"outputs": (replace(DIFFERS, problem="3 of 4 values are NaN, expected finite; first at [0]"),)},
        {"outputs": (replace(DIFFERS, problem="dtype int8, expected uint8"),)},
    ],
)
def test_checks_that_fail_otherwise_are_another_cause(change: dict[str, object]) -> None:
    model = "AvgPool2d(kernel_size=2)"
    other = replace(failing("pool/b", model), **change)  # type: ignore[arg-type]
    assert len(causes([failing("pool/a", model), failing("pool/c", model)])) == 1
    assert len(causes([failing("pool/a", model), other])) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("opset version 17 is not supported", "opset version 18 is not supported"),
        ("no kernel for node with name '/Relu'", "no kernel for node with name 'node_relu'"),
        ("Type 'tensor(int8)' in node (/a) is invalid", "Type 'tensor(uint8)' in node (b) is invalid"),
        ("at 0x7f01: shape (1, 2)", "at 0x8f99: shape (3, 4)"),
        ("same first line\nat line 7", "same first line\nelsewhere"),
    ],
)
def test_the_numbers_and_node_names_in_a_message_make_no_other_cause(one: str, other: str) -> None:
    layers = [replace(ERROR, message=one), replace(ERROR, message=other, case="b", case_model="ReLU()")]
    assert len(only(layers).results) == 2


def test_another_operator_in_a_message_is_another_cause() -> None:
    messages = ("the operator 'aten::bilinear' is not supported", "the operator 'aten::rms_norm' is not supported")
    assert len(causes([replace(ERROR, message=message) for message in messages])) == 2


def test_a_message_without_an_operator_is_one_cause_for_each_layer() -> None:
    crash = replace(ERROR, symptom="crash", message="the process was killed by signal 11")
    models = ("ReLU()", "Tanh()", "ReLU(inplace=True)")
    found = causes([replace(crash, case=f"a/{model}", case_model=model) for model in models])
    assert [(cause.subject, len(cause.results)) for cause in found] == [("ReLU", 2), ("Tanh", 1)]


def test_a_cause_of_several_layers_is_named_by_those_that_all_of_its_cases_have() -> None:
    models = ("pooled = MaxPool2d(kernel_size=2)(x); y = MaxUnpool2d(kernel_size=2)(pooled)", "MaxUnpool2d(2)")
    errors = [replace(ERROR, case=f"a/{model}", case_model=model) for model in models]
    assert only(errors).subject == "MaxUnpool2d"
    apart = [replace(one, case_model=f"L{number}()") for number, one in enumerate([*errors, *errors, *errors])]
    assert only(apart).subject == "L0, L1, L2 and 3 more"


def test_silent_failures_come_before_loud_ones_and_frequent_before_rare() -> None:
    rare = replace(ERROR, message="rare")
    common = [replace(ERROR, case=f"a/{number}") for number in range(3)]
    statuses = [(cause.status, len(cause.results)) for cause in causes([FIXED, rare, *common, FAILED])]
    assert statuses == [("failed", 1), ("error", 3), ("error", 1), ("fixed", 1)]


def test_a_fixed_check_belongs_to_its_entry_of_the_list() -> None:
    elsewhere = replace(FIXED, message="passes, although k.yaml:9:1 lists it")
    found = causes([FIXED, replace(FIXED, case="a/b"), elsewhere])
    assert [(cause.title, len(cause.results)) for cause in found] == [
        ("passes, although k.yaml:3:1 lists it", 2),
        ("passes, although k.yaml:9:1 lists it", 1),
    ]


def test_the_noise_of_a_runtime_is_not_in_the_title() -> None:
    noise = "Fail: [ONNXRuntimeError] : 1 : FAIL : Load model from model.onnx failed:Node (/Pool) has no size"
    cause = only([replace(ERROR, message=noise, case_model="AvgPool2d(kernel_size=2)")])
    assert (cause.title, cause.line) == ("AvgPool2d: Node (/Pool) has no size", noise)


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        ("MaxPool2d(kernel_size=3)", ("MaxPool2d",)),
        ("Sequential(Linear(in_features=2, out_features=3), ReLU(), Linear(in_features=3, ...", ("Linear", "ReLU")),
        ("nets.small:build(width=f(x))", ("nets.small:build",)),
        ("net.onnx", ("net.onnx",)),
        (None, ("pool/unpool",)),
    ],
)
def test_the_layers_are_those_of_the_case(model: str | None, layers: tuple[str, ...]) -> None:
    assert layers_of(replace(ERROR, case_model=model)) == layers


def test_a_model_whose_inside_was_compared_is_named_by_the_layer_in_which_the_error_begins() -> None:
    norm, head = Layer("body.1", "LayerNorm", 0, wrong=True), Layer("head", "Linear", 0)
    models = [replace(failing(f"nets/{name}", f"nets:{name}()"), layers=(head, norm)) for name in ("small", "large")]
    assert only(models).title == "LayerNorm: values differ by more than the tolerance"
    assert layers_of(replace(models[0], layers=(head,))) == ("nets:small",)


MODELS = st.none() | st.text("ab(),=[]1 ", max_size=12) | st.sampled_from(["ReLU()", with_divisor(3)])


@given(st.lists(st.builds(replace, st.sampled_from([*ALL, *every_way_to_end_badly()[::7]]), case_model=MODELS)))
def test_every_unexpected_check_has_exactly_one_cause(results: list[Result]) -> None:
    found = [id(result) for cause in causes(results) for result in cause.results]
    assert sorted(found) == sorted(id(result) for result in results if result.status in UNEXPECTED)
    assert all(cause.title and cause.extent for cause in causes(results))
