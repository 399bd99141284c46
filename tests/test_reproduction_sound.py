"""What a script says is true: it finds no fault in a right model, and the fault in each known failure."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from functools import cache

import pytest

from harness.errors import Location
from harness.reproduction import obstacle, reproduction
from harness.result import Finding, OutputComparison, Result
from harness.spec.discovery import load_specs
from harness.spec.language.case import Case, Fill, LayerModel, TensorSpec, WeightedModel
from harness.spec.targets import parse_target

# The exporters' own; what torch warns of while it exports is not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg", "ignore::torch.jit.TracerWarning")

TORCHSCRIPT, DYNAMO = "onnx-torchscript@17/ort-cpu", "onnx-dynamo@23/ort-cpu"


@cache
def shipped() -> dict[str, Case]:
    return {case.id: case for case in load_specs(["specs"]).cases}


def ran(case: Case, target: str, result: Result | None = None) -> tuple[object, str]:
    """The exit code of the case's script and its last line; it is run in this process."""
    text = reproduction(case, parse_target(target), result)
    assert text is not None
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), pytest.raises(SystemExit) as left:
        exec(compile(text, "script.py", "exec"), {"__name__": "__main__"})
    return left.value.code, said.getvalue().splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("rrelu/train-slopes", "trace/torch-cpu"),
        ("edge/sigmoid/floating[dtype=bfloat16]", "trace/torch-cpu"),
        ("edge/maxpool2d/floating-minus-infinity[dtype=bfloat16]", "script/torch-cpu"),
        ("edge/avgpool2d/floating[dtype=float16]", TORCHSCRIPT),
        ("linear/notes-experiment", DYNAMO),
        ("edge/linear/huge", TORCHSCRIPT),
    ],
)
def test_no_fault_is_found_in_a_right_model(name: str, target: str) -> None:
    assert ran(shipped()[name], target) == (0, "no fault")


@pytest.mark.parametrize(
    ("name", "target", "stage", "said"),
    [
        ("avgpool2d/notes-divisor-override", TORCHSCRIPT, "compare", "output 0: 4 of 4 elements"),
        ("edge/relu/floating[dtype=bfloat16]", TORCHSCRIPT, "load", "load raises NotImplemented"),
        ("edge/sigmoid/floating[dtype=bfloat16]", DYNAMO, "load", "load raises NotImplemented"),
        ("rrelu/train-slopes", DYNAMO, "export", "export raises"),
    ],
)
def test_a_known_failure_is_found(name: str, target: str, stage: str, said: str) -> None:
    code, last = ran(shipped()[name], target)
    assert code == 1, stage
    assert last.startswith(f"the fault is there: {said}")


def test_bfloat16_goes_through_onnx_runtime_and_back() -> None:
    spec = TensorSpec("x", "bfloat16", (2, 3, 4), None, Fill("normal"), seed=3)
    case = Case("a/case", "", WeightedModel(LayerModel("Flatten")), (spec,), Location("a.yaml"), dtype="bfloat16")
    assert ran(case, TORCHSCRIPT) == (0, "no fault")


def failed(*findings: Finding, outputs: tuple[OutputComparison, ...] = ()) -> Result:
    return Result("a/case", "t", "failed", "compare", "mismatch", findings=findings, outputs=outputs, blame="exporter")


def test_drawn_values_are_not_held_against_others_that_were_drawn() -> None:
    """One draw beside another differs everywhere, in a right model too."""
    case, target = shipped()["rrelu/train-slopes"], parse_target(TORCHSCRIPT)
    formula = Finding("formula", False, "False at (0, 0)")
    drawn = failed(formula, Finding("structure", True, "as expected"))
    assert "drawn anew" in (obstacle(case, target, drawn) or "")
    assert reproduction(case, target, drawn) is None
    of_another_form = failed(Finding("structure", False, "float32[3], expected float32[2]"))
    assert obstacle(case, target, of_another_form) is None
    assert ran(case, TORCHSCRIPT, of_another_form) == (0, "no fault"), "its form is what is compared, and is right"


def test_an_answer_that_is_off_the_specs_expectation_alone_has_no_script() -> None:
    """Such a script would hold it against eager PyTorch, find no fault and take the report's reader in."""
    case, target = shipped()["avgpool2d/notes-divisor-override"], parse_target(TORCHSCRIPT)
    unmet = Finding("range", False, "3 is above 2")
    right = OutputComparison(0, "output_0", (1, 1, 2, 2), "float32", "exact")
    assert "expectation" in (obstacle(case, target, failed(unmet, outputs=(right,))) or "")
    wrong = replace(right, problem="4 of 4 values differ by more than the tolerance")
    assert obstacle(case, target, failed(unmet, outputs=(wrong,))) is None
