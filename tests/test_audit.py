"""The audit: surviving mutants are reported by layer, mutant and case; the shipped specs kill all mutants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.audit import Audit, MutantOutcome, text, verdict
from harness.audit.audit import audit
from harness.layers import Call
from harness.layers.generic import generic_mutants
from harness.spec.discovery import load_specs
from tests.conftest import Call as CommandLine

Write = Callable[[str, str], Path]
SHIPPED = Path(__file__).resolve().parent.parent / "specs"


def audited(path: Path, tmp_path: Path) -> Audit:
    return audit(load_specs([str(path)], allow_import=True).cases, tmp_path)


def killed(result: Audit, case: str = "") -> dict[str, bool]:
    return {f"{one.layer}: {one.mutant}": one.killed for one in result.killable if case in one.case}


POSITIVE = """\
harness: 1
layer: ReLU
cases:
  - {name: positive, inputs: {x: {shape: [3, 4], fill: {uniform: [1, 5]}}}}
"""
SIGNED = POSITIVE + "  - {name: signed, inputs: {x: {values: [-9, -1, -0.5, 0, 0.5, 1, 9]}}}\n"


def test_inputs_that_are_all_positive_do_not_kill_identity(harness: CommandLine, spec: Write) -> None:
    ran = harness("audit", str(spec("relu.yaml", POSITIVE)))
    assert ran.code == 1
    survivors = ran.out[ran.out.index("Mutants that no case kills") :]
    assert "Identity()" in survivors
    assert "LeakyReLU()" in survivors
    assert "relu/positive" in survivors
    assert "GELU()" not in survivors


def test_another_case_kills_the_survivors(harness: CommandLine, spec: Write) -> None:
    ran = harness("audit", str(spec("relu.yaml", SIGNED)))
    assert ran.code == 0
    assert "6 of 6 mutants killed, 0 survived; 2 of 2 cases kill at least one mutant" in ran.out


def test_a_case_that_kills_no_mutant_is_reported_although_another_kills_all(harness: CommandLine, spec: Write) -> None:
    tolerant = (
        SIGNED
        + "  - {name: zeros, inputs: {x: {values: [0, 0]}}, expect: {range: [0, 1]}, tolerance: {atol: 1, rtol: 0}}\n"
    )
    ran = harness("audit", str(spec("relu.yaml", tolerant)))
    assert ran.code == 1
    assert "Mutants that no case kills" not in ran.out
    assert "relu/zeros" in ran.out[ran.out.index("Cases that kill no mutant") :]


def test_keywords_select_the_cases(harness: CommandLine, spec: Write) -> None:
    path = str(spec("relu.yaml", SIGNED))
    assert harness("audit", path, "-k", "positive").code == 1
    assert harness("audit", path, "-k", "signed").code == 0
    none_selected = harness("audit", path, "-k", "nobody")
    assert none_selected.code == 2
    assert "matches no case" in none_selected.err


def test_nothing_audited_is_not_a_pass(harness: CommandLine, spec: Write) -> None:
    refused = "harness: 1\nlayer: ReLU\ncases:\n  - {name: none, inputs: {x: {shape: [0, 3]}}}\n"
    ran = harness("audit", str(spec("relu.yaml", refused)))
    assert ran.code == 1
    assert "nothing was audited" in ran.out
    assert "the input has no elements" in ran.out


def test_a_case_that_expects_an_error_is_not_audited(spec: Write, tmp_path: Path) -> None:
    path = spec(
        "linear.yaml",
        "harness: 1\nlayer: Linear\ndefaults: {args: {in_features: 3, out_features: 2}}\ncases:\n"
        "  - {name: refused, inputs: {x: {shape: [4]}}, expect: {raises: shapes}}\n",
    )
    assert audited(path, tmp_path).not_audited == {"linear/refused": "an error is expected"}


SEQUENCE = """\
harness: 1
cases:
  - name: net
    sequential:
      - {layer: Linear, args: {in_features: 3, out_features: 3}}
      - {layer: ReLU, args: {inplace: true}}
      - {layer: Linear, args: {in_features: 3, out_features: 2}}
    inputs: {x: {shape: [5, 3]}}
  - name: twice
    sequential: [{layer: ReLU}, {layer: ReLU}]
    inputs: {x: {shape: [5, 3]}}
"""


def test_each_layer_of_a_sequence_is_replaced_in_its_place(spec: Write, tmp_path: Path) -> None:
    result = audited(spec("net.yaml", SEQUENCE), tmp_path)
    outcomes = [one for one in result.killable if one.case == "net/net"]
    assert {one.layer for one in outcomes} == {"Linear", "ReLU"}
    assert len([one for one in outcomes if one.mutant == "weight negated"]) == 2
    assert all(one.killed for one in outcomes if one.layer == "Linear")
    assert killed(result, "net/net")["ReLU: Identity()"]


def test_a_mutant_of_a_redundant_layer_survives(spec: Write, tmp_path: Path) -> None:
    result = audited(spec("net.yaml", SEQUENCE), tmp_path)
    twice = [one for one in result.killable if one.case == "net/twice" and one.mutant == "Identity()"]
    assert [one.killed for one in twice] == [False, False]


GRAPH = """\
harness: 1
cases:
  - name: unpool
    inputs: {x: {shape: [2, 3, 4, 6]}}
    graph:
      - {layer: MaxPool2d, args: {kernel_size: 2, return_indices: true}, in: x, out: [pooled, indices]}
      - {layer: MaxUnpool2d, args: {kernel_size: 2}, forward: {output_size: [5, 7]}, in: [pooled, indices], out: y}
    returns: [y]
"""


def test_each_layer_of_a_graph_is_replaced_in_its_place(spec: Write, tmp_path: Path) -> None:
    outcomes = killed(audited(spec("net.yaml", GRAPH), tmp_path))
    assert outcomes["MaxPool2d: indices off by a plane"]
    assert outcomes["MaxPool2d: return_indices=False"]
    assert outcomes["MaxUnpool2d: output_size ignored"]
    assert all(outcomes.values())


def test_a_sequence_of_other_layers_is_compared_as_a_whole(spec: Write, tmp_path: Path) -> None:
    path = spec(
        "net.yaml",
        "harness: 1\ncases:\n  - name: dead\n    inputs: {x: {shape: [4, 5]}}\n"
        "    sequential: [{layer: Tanh}, {layer: Threshold, args: {threshold: 5, value: 0}}]\n",
    )
    outcomes = killed(audited(path, tmp_path))
    assert not outcomes["Tanh: Identity()"], "the next layer outputs only zeros"
    assert outcomes["Threshold: Identity()"]


BATCH_NORM = """\
{layer: BatchNorm2d, args: {num_features: 2}, weights: {running_mean: {values: [1, 2]}, bias: {values: [5, 6]}}"""
LAYERS_WITHOUT_A_FILE = {
    "{layer: Conv2d, args: {in_channels: 2, out_channels: 2, kernel_size: 1}": {"weight negated", "bias dropped"},
    "{layer: GELU": {"Identity()", "output moved by one"},
    BATCH_NORM: {"running_mean zeroed", "running_var drawn anew", "bias dropped"},
}


@pytest.mark.parametrize("case", LAYERS_WITHOUT_A_FILE, ids=["Conv2d", "GELU", "BatchNorm2d"])
def test_layers_without_a_file_have_mutants_too(case: str, spec: Write, tmp_path: Path) -> None:
    lines = f"harness: 1\ncases:\n  - {case}, name: one, inputs: {{x: {{shape: [2, 2, 3, 3]}}}}}}\n"
    result = audited(spec("net.yaml", lines), tmp_path)
    assert LAYERS_WITHOUT_A_FILE[case] <= {one.mutant for one in result.killable}
    assert all(one.killed for one in result.killable)


def test_equal_weights_make_equivalent_mutants_with_a_reason() -> None:
    call = Call({}, {"weight": np.ones(3), "bias": np.zeros(3)}, [np.arange(6.0).reshape(2, 3)])
    why = {mutant.name: mutant.why_equivalent for mutant in generic_mutants("LayerNorm", call, (np.ones((2, 3)),))}
    assert why["bias dropped"] == why["weight shuffled"] == "the changed weights are the same numbers"
    assert why["weight negated"] is why["bias drawn anew"] is why["Identity()"] is None


def test_statistics_are_unused_in_training_and_dropout_in_evaluation() -> None:
    x = np.arange(6.0).reshape(2, 3)
    call = Call({}, {"running_mean": np.ones(3)}, [x], mode="train")
    assert {
        mutant.why_equivalent for mutant in generic_mutants("BatchNorm1d", call, (x,)) if "running" in mutant.name
    } == {"in training mode it uses the statistics of the batch"}
    for mode, why in (("eval", "dropout does nothing in evaluation"), ("train", None)):
        mutants = generic_mutants("Dropout", Call({}, {}, [x], mode=mode), (x,))  # type: ignore[arg-type]
        assert {mutant.name: mutant.why_equivalent for mutant in mutants}["Identity()"] == why


def test_mutants_of_a_stochastic_layer_are_killed_by_expectations(spec: Write, tmp_path: Path) -> None:
    text_of = (
        "harness: 1\nlayer: Dropout\ndefaults: {{mode: train}}\ncases:\n"
        "  - {{name: train, inputs: {{x: {{shape: [20, 20], fill: ones}}}}, expect: {{{0}}}}}\n"
    )
    weak = killed(audited(spec("weak.yaml", text_of.format("range: [-9, 9]")), tmp_path))
    assert not weak["Dropout: Identity()"]
    formula = "formula: '(y == 0) | (y == 2)'"
    strong = killed(audited(spec("strong.yaml", text_of.format(formula)), tmp_path))
    assert strong["Dropout: Identity()"]
    assert not strong["Dropout: output zeroed"]


def test_an_expected_gradient_kills_a_mutant_that_values_do_not(spec: Write, tmp_path: Path) -> None:
    zeros = "harness: 1\nlayer: ReLU\ncases:\n  - {{name: zero, inputs: {{x: {{values: [0, 0]}}}}{0}}}\n"
    assert not killed(audited(spec("value.yaml", zeros.format("")), tmp_path))["ReLU: Identity()"]
    slope = zeros.format(", expect: {gradient: '0 * x'}")
    assert killed(audited(spec("slope.yaml", slope), tmp_path))["ReLU: Identity()"]


def test_further_shapes_of_dynamic_axes_are_used_too(spec: Write, tmp_path: Path) -> None:
    lines = (
        "harness: 1\nlayer: AvgPool2d\ndefaults: {args: {kernel_size: 2}}\ncases:\n  - name: open\n"
        "    inputs: {x: {shape: [1, 1, 4, 4]}}\n    dynamic: {x: {2: H}}\n"
    )
    alone = audited(spec("alone.yaml", lines), tmp_path)
    ceil = [one for one in alone.outcomes if one.mutant == "ceil_mode=True"]
    assert [one.why_equivalent is not None for one in ceil] == [True]
    both = audited(spec("both.yaml", lines + "    also: [{x: [1, 1, 6, 4]}]\n"), tmp_path)
    assert all(one.killed for one in both.killable)


def test_a_factory_is_not_audited_with_a_reason(spec: Write, here: Path, tmp_path: Path) -> None:
    (here / "made.py").write_text("from torch import nn\n\n\ndef net():\n    return nn.ReLU()\n", encoding="utf-8")
    path = spec("own.yaml", "harness: 1\nfactory: made:net\ncases:\n  - {name: own, inputs: {x: {shape: [3]}}}\n")
    result = audited(path, tmp_path)
    assert result.not_audited == {"own/own": "a factory's layers are not named in the spec"}
    assert not result.passed


def test_the_verdict_counts_mutants_and_cases() -> None:
    result = Audit(
        (
            MutantOutcome("a", "ReLU", "Identity()", killed=True),
            MutantOutcome("a", "ReLU", "GELU()", killed=False),
            MutantOutcome("b", "ReLU", "GELU()", killed=False),
            MutantOutcome("b", "ReLU", "ReLU6()", killed=False, why_equivalent="of a reason"),
        )
    )
    assert result.cases_without_kill == ("b",)
    assert result.surviving_mutants == {("ReLU", "GELU()"): ("a", "b")}
    assert verdict(result) == "1 of 2 mutants killed, 1 survived; 1 of 2 cases kill at least one mutant"
    assert "of a reason" in text(result)
    assert "a, b" in text(result)


@pytest.mark.parametrize("name", ["relu", "edge/leakyrelu", "edge/prelu", "torch-nn/shape"])
def test_shipped_specs_kill_all_mutants(name: str, tmp_path: Path) -> None:
    result = audited(SHIPPED / f"{name}.yaml", tmp_path)
    assert result.passed, text(result)
