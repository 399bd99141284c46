"""The result of a script is correct: it reproduces each known failure, and nothing for a correct model."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from functools import cache

import pytest

from harness.errors import Location
from harness.reproduction import reproduction, why_no_script
from harness.result import Finding, OutputComparison, Result
from harness.spec.discovery import load_specs
from harness.spec.language.case import Case, Fill, LayerModel, TensorSpec, WeightedModel
from harness.spec.targets import parse_target

# Torch's own warnings during an export are not tested here.
pytestmark = pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg", "ignore::torch.jit.TracerWarning")

TORCHSCRIPT, DYNAMO = "onnx-torchscript@17/ort-cpu", "onnx-dynamo@23/ort-cpu"


@cache
def shipped() -> dict[str, Case]:
    return {case.id: case for case in load_specs(["specs"]).cases}


def run_script(case: Case, target: str, result: Result | None = None) -> tuple[object, str]:
    """Run the case's script in this process; return its exit code and its last line."""
    text = reproduction(case, parse_target(target), result)
    assert text is not None
    printed = io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        pytest.raises(SystemExit) as exit_info,
    ):
        exec(compile(text, "script.py", "exec"), {"__name__": "__main__"})
    return exit_info.value.code, printed.getvalue().splitlines()[-1]


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
def test_a_correct_model_reproduces_nothing(name: str, target: str) -> None:
    assert run_script(shipped()[name], target) == (0, "not reproduced")


@pytest.mark.parametrize(
    ("name", "target", "stage", "message"),
    [
        (
            "avgpool2d/notes-divisor-override",
            TORCHSCRIPT,
            "compare",
            "output 0: 4 of 4 values differ by more than the tolerance",
        ),
        ("edge/relu/floating[dtype=bfloat16]", TORCHSCRIPT, "load", "load raises NotImplemented"),
        ("edge/sigmoid/floating[dtype=bfloat16]", DYNAMO, "load", "load raises NotImplemented"),
        ("rrelu/train-slopes", DYNAMO, "export", "export raises"),
    ],
)
def test_a_known_failure_is_reproduced(name: str, target: str, stage: str, message: str) -> None:
    code, last = run_script(shipped()[name], target)
    assert code == 1, stage
    assert last.startswith(f"reproduced: {message}")


def test_bfloat16_passes_through_onnx_runtime() -> None:
    spec = TensorSpec("x", "bfloat16", (2, 3, 4), None, Fill("normal"), seed=3)
    case = Case("a/case", "", WeightedModel(LayerModel("Flatten")), (spec,), Location("a.yaml"), dtype="bfloat16")
    assert run_script(case, TORCHSCRIPT) == (0, "not reproduced")


def failed(*findings: Finding, outputs: tuple[OutputComparison, ...] = ()) -> Result:
    return Result("a/case", "t", "failed", "compare", "mismatch", findings=findings, outputs=outputs, blame="exporter")


def test_values_of_a_stochastic_model_are_not_compared() -> None:
    """Two draws differ everywhere, in a correct model too."""
    case, target = shipped()["rrelu/train-slopes"], parse_target(TORCHSCRIPT)
    formula = Finding("formula", False, "False at (0, 0)")
    stochastic = failed(formula, Finding("structure", True, "as expected"))
    assert "stochastic" in (why_no_script(case, target, stochastic) or "")
    assert reproduction(case, target, stochastic) is None
    wrong_structure = failed(Finding("structure", False, "float32[3], expected float32[2]"))
    assert why_no_script(case, target, wrong_structure) is None
    assert run_script(case, TORCHSCRIPT, wrong_structure) == (0, "not reproduced"), (
        "only the structure is compared, and it is correct"
    )


def test_outputs_that_miss_only_the_specs_expectation_have_no_script() -> None:
    """Such a script would compare with eager PyTorch, reproduce nothing, and mislead the reader of the report."""
    case, target = shipped()["avgpool2d/notes-divisor-override"], parse_target(TORCHSCRIPT)
    unmet = Finding("range", False, "3 is above 2")
    passed = OutputComparison(0, "output_0", (1, 1, 2, 2), "float32", "exact")
    assert "expectation" in (why_no_script(case, target, failed(unmet, outputs=(passed,))) or "")
    wrong = replace(passed, problem="4 of 4 values differ by more than the tolerance")
    assert why_no_script(case, target, failed(unmet, outputs=(wrong,))) is None
