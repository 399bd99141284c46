"""The audit: specs that could not tell a wrong layer are reported by layer, mutant and case; shipped ones have no gap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.audit.audit import audit
from harness.audit.result import Audit, MutantOutcome, text, verdict
from harness.layers import Call
from harness.layers.generic import generic_mutants
from harness.spec.discovery import load_specs
from tests.conftest import Call as CommandLine

Write = Callable[[str, str], Path]
SHIPPED = Path(__file__).resolve().parent.parent / "specs"


def audited(path: Path, tmp_path: Path) -> Audit:
    return audit(load_specs([str(path)], allow_import=True).cases, tmp_path)


def noticed(found: Audit, case: str = "") -> dict[str, bool]:
    return {f"{one.layer}: {one.mutant}": one.noticed for one in found.fair if case in one.case}


POSITIVE = """\
harness: 1
layer: ReLU
cases:
  - {name: positive, inputs: {x: {shape: [3, 4], fill: {uniform: [1, 5]}}}}
"""
SIGNED = POSITIVE + "  - {name: signed, inputs: {x: {values: [-9, -1, -0.5, 0, 0.5, 1, 9]}}}\n"


def test_inputs_that_are_all_positive_cannot_tell_relu_from_identity(harness: CommandLine, spec: Write) -> None:
    ran = harness("audit", str(spec("relu.yaml", POSITIVE)))
    assert ran.code == 1
    gaps = ran.out[ran.out.index("Wrong layers that no case notices") :]
    assert "Identity()" in gaps
    assert "LeakyReLU()" in gaps
    assert "relu/positive" in gaps
    assert "GELU()" not in gaps


def test_another_case_closes_the_gap(harness: CommandLine, spec: Write) -> None:
    ran = harness("audit", str(spec("relu.yaml", SIGNED)))
    assert ran.code == 0
    assert "no gap: each of 6 wrong layers is noticed" in ran.out


def test_a_case_that_notices_nothing_is_a_gap_although_another_notices_everything(
    harness: CommandLine, spec: Write
) -> None:
    blind = (
        SIGNED
        + "  - {name: zeros, inputs: {x: {values: [0, 0]}}, expect: {range: [0, 1]}, tolerance: {atol: 1, rtol: 0}}\n"
    )
    ran = harness("audit", str(spec("relu.yaml", blind)))
    assert ran.code == 1
    assert "Wrong layers that no case notices" not in ran.out
    assert "relu/zeros" in ran.out[ran.out.index("Cases that notice no wrong layer") :]


def test_keywords_choose_the_cases(harness: CommandLine, spec: Write) -> None:
    path = str(spec("relu.yaml", SIGNED))
    assert harness("audit", path, "-k", "positive").code == 1
    assert harness("audit", path, "-k", "signed").code == 0
    nobody = harness("audit", path, "-k", "nobody")
    assert nobody.code == 2
    assert "matches no case" in nobody.err


def test_nothing_audited_is_not_a_pass(harness: CommandLine, spec: Write) -> None:
    refused = "harness: 1\nlayer: ReLU\ncases:\n  - {name: none, inputs: {x: {shape: [0, 3]}}}\n"
    ran = harness("audit", str(spec("relu.yaml", refused)))
    assert ran.code == 1
    assert "nothing was audited" in ran.out
    assert "the input has no elements" in ran.out


def test_a_case_about_an_error_is_left_out_by_name(spec: Write, tmp_path: Path) -> None:
    path = spec(
        "linear.yaml",
        "harness: 1\nlayer: Linear\ndefaults: {args: {in_features: 3, out_features: 2}}\ncases:\n"
        "  - {name: refused, inputs: {x: {shape: [4]}}, expect: {raises: shapes}}\n",
    )
    assert audited(path, tmp_path).left_out == {"linear/refused": "it is about an error"}


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


def test_each_layer_of_a_sequence_is_replaced_where_it_sits(spec: Write, tmp_path: Path) -> None:
    found = audited(spec("net.yaml", SEQUENCE), tmp_path)
    seen = [one for one in found.fair if one.case == "net/net"]
    assert {one.layer for one in seen} == {"Linear", "ReLU"}
    assert len([one for one in seen if one.mutant == "weight negated"]) == 2
    assert all(one.noticed for one in seen if one.layer == "Linear")
    assert noticed(found, "net/net")["ReLU: Identity()"]


def test_a_layer_whose_work_another_does_as_well_is_not_noticed(spec: Write, tmp_path: Path) -> None:
    found = audited(spec("net.yaml", SEQUENCE), tmp_path)
    twice = [one for one in found.fair if one.case == "net/twice" and one.mutant == "Identity()"]
    assert [one.noticed for one in twice] == [False, False]


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


def test_each_layer_of_a_graph_is_replaced_where_it_sits(spec: Write, tmp_path: Path) -> None:
    seen = noticed(audited(spec("net.yaml", GRAPH), tmp_path))
    assert seen["MaxPool2d: indices off by a plane"]
    assert seen["MaxPool2d: return_indices=False"]
    assert seen["MaxUnpool2d: output_size ignored"]
    assert all(seen.values())


def test_a_sequence_of_other_layers_is_compared_as_a_whole(spec: Write, tmp_path: Path) -> None:
    path = spec(
        "net.yaml",
        "harness: 1\ncases:\n  - name: dead\n    inputs: {x: {shape: [4, 5]}}\n"
        "    sequential: [{layer: Tanh}, {layer: Threshold, args: {threshold: 5, value: 0}}]\n",
    )
    seen = noticed(audited(path, tmp_path))
    assert not seen["Tanh: Identity()"], "what follows lets nothing through"
    assert seen["Threshold: Identity()"]


BATCH_NORM = """\
{layer: BatchNorm2d, args: {num_features: 2}, weights: {running_mean: {values: [1, 2]}, bias: {values: [5, 6]}}"""
WITHOUT_A_FILE = {
    "{layer: Conv2d, args: {in_channels: 2, out_channels: 2, kernel_size: 1}": {"weight negated", "bias dropped"},
    "{layer: GELU": {"Identity()", "output moved by one"},
    BATCH_NORM: {"running_mean zeroed", "running_var drawn anew", "bias dropped"},
}


@pytest.mark.parametrize("case", WITHOUT_A_FILE, ids=["Conv2d", "GELU", "BatchNorm2d"])
def test_layers_without_a_file_have_twins_as_well(case: str, spec: Write, tmp_path: Path) -> None:
    lines = f"harness: 1\ncases:\n  - {case}, name: one, inputs: {{x: {{shape: [2, 2, 3, 3]}}}}}}\n"
    found = audited(spec("net.yaml", lines), tmp_path)
    assert WITHOUT_A_FILE[case] <= {one.mutant for one in found.fair}
    assert all(one.noticed for one in found.fair)


def test_weights_that_are_all_alike_are_excused_with_the_reason() -> None:
    call = Call({}, {"weight": np.ones(3), "bias": np.zeros(3)}, [np.arange(6.0).reshape(2, 3)])
    why = {mutant.name: mutant.why_equivalent for mutant in generic_mutants("LayerNorm", call, (np.ones((2, 3)),))}
    assert why["bias dropped"] == why["weight shuffled"] == "the changed weights are the same numbers"
    assert why["weight negated"] is why["bias drawn anew"] is why["Identity()"] is None


def test_statistics_play_no_part_in_training_and_dropout_none_in_evaluation() -> None:
    x = np.arange(6.0).reshape(2, 3)
    call = Call({}, {"running_mean": np.ones(3)}, [x], mode="train")
    assert {mutant.why_equivalent for mutant in generic_mutants("BatchNorm1d", call, (x,)) if "running" in mutant.name} == {
        "in training it takes the batch's own statistics"
    }
    for mode, why in (("eval", "dropout does nothing in evaluation"), ("train", None)):
        mutants = generic_mutants("Dropout", Call({}, {}, [x], mode=mode), (x,))  # type: ignore[arg-type]
        assert {mutant.name: mutant.why_equivalent for mutant in mutants}["Identity()"] == why


def test_what_is_random_is_told_by_what_the_spec_expects(spec: Write, tmp_path: Path) -> None:
    text_of = (
        "harness: 1\nlayer: Dropout\ndefaults: {{mode: train}}\ncases:\n"
        "  - {{name: train, inputs: {{x: {{shape: [20, 20], fill: ones}}}}, expect: {{{0}}}}}\n"
    )
    weak = noticed(audited(spec("weak.yaml", text_of.format("range: [-9, 9]")), tmp_path))
    assert not weak["Dropout: Identity()"]
    formula = "formula: '(y == 0) | (y == 2)'"
    strong = noticed(audited(spec("strong.yaml", text_of.format(formula)), tmp_path))
    assert strong["Dropout: Identity()"]
    assert not strong["Dropout: output zeroed"]


def test_a_gradient_tells_what_values_do_not(spec: Write, tmp_path: Path) -> None:
    zeros = "harness: 1\nlayer: ReLU\ncases:\n  - {{name: zero, inputs: {{x: {{values: [0, 0]}}}}{0}}}\n"
    assert not noticed(audited(spec("value.yaml", zeros.format("")), tmp_path))["ReLU: Identity()"]
    slope = zeros.format(", expect: {gradient: '0 * x'}")
    assert noticed(audited(spec("slope.yaml", slope), tmp_path))["ReLU: Identity()"]


def test_other_shapes_of_open_axes_are_looked_at_as_well(spec: Write, tmp_path: Path) -> None:
    lines = (
        "harness: 1\nlayer: AvgPool2d\ndefaults: {args: {kernel_size: 2}}\ncases:\n  - name: open\n"
        "    inputs: {x: {shape: [1, 1, 4, 4]}}\n    dynamic: {x: {2: H}}\n"
    )
    alone = audited(spec("alone.yaml", lines), tmp_path)
    ceil = [one for one in alone.mutant_outcomes if one.mutant == "ceil_mode=True"]
    assert [one.excuse is not None for one in ceil] == [True]
    both = audited(spec("both.yaml", lines + "    also: [{x: [1, 1, 6, 4]}]\n"), tmp_path)
    assert all(one.noticed for one in both.fair)


def test_a_factory_is_left_out_with_the_reason(spec: Write, here: Path, tmp_path: Path) -> None:
    (here / "made.py").write_text("from torch import nn\n\n\ndef net():\n    return nn.ReLU()\n", encoding="utf-8")
    path = spec("own.yaml", "harness: 1\nfactory: made:net\ncases:\n  - {name: own, inputs: {x: {shape: [3]}}}\n")
    found = audited(path, tmp_path)
    assert found.left_out == {"own/own": "a factory's layers are not named in the spec"}
    assert not found.passed


def test_the_verdict_counts_what_it_says() -> None:
    found = Audit(
        (
            MutantOutcome("a", "ReLU", "Identity()", noticed=True),
            MutantOutcome("a", "ReLU", "GELU()", noticed=False),
            MutantOutcome("b", "ReLU", "GELU()", noticed=False),
            MutantOutcome("b", "ReLU", "ReLU6()", noticed=False, excuse="of a reason"),
        )
    )
    assert found.blind_cases == ("b",)
    assert found.surviving_mutants == {("ReLU", "GELU()"): ("a", "b")}
    assert verdict(found) == "1 of 2 wrong layers are noticed by no case; 1 of 2 cases notice none"
    assert "of a reason" in text(found)
    assert "a, b" in text(found)


@pytest.mark.parametrize("name", ["relu", "edge/leakyrelu", "edge/prelu", "torch-nn/shape"])
def test_shipped_specs_leave_no_gap(name: str, tmp_path: Path) -> None:
    found = audited(SHIPPED / f"{name}.yaml", tmp_path)
    assert found.passed, text(found)
