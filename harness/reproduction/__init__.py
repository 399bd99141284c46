"""Write a check as one self-contained script that needs torch, onnx, onnxruntime and numpy, but not harness.

The script exports the model, runs eager torch and the target, and prints the versions and both outputs. It exits with
1 while the outputs differ or a stage fails. Its docstring can be pasted as the beginning of an upstream issue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from math import isfinite
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from harness.compare.calibrated import without_calibration
from harness.reproduction.eligibility import dtypes, expected_behaviour, issue_title, why_no_script
from harness.reproduction.source import export_statements, layers_of, load_statements, module_source, weight_name
from harness.reproduction.tensors import generators, output_bounds, tensor_expression
from harness.result import Result
from harness.spec.language.case import Case, InputSet, TensorSpec
from harness.spec.language.inputs.draws import input_sets
from harness.spec.language.tolerances import Tolerance
from harness.spec.targets import Target

if TYPE_CHECKING:
    from jinja2 import Template

    from harness.model.answer import Reference


__all__ = ["reproduction", "script_template", "why_no_script"]

LINE_LENGTH = 110
STORING_STATISTICS = tuple(
    f"{norm}{suffix}" for norm in ("BatchNorm", "InstanceNorm") for suffix in ("1d", "2d", "3d", "")
)
"""Ends of the names of layers that may store a running mean and variance."""
REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
"""The first words of a script's last line."""


def reproduction(
    case: Case, target: Target, result: Result | None = None, reference: Callable[[], Reference] | None = None
) -> str | None:
    """The text of the script for ``case`` on ``target``; None if :func:`why_no_script` gives a reason.

    With ``result``, the result of the check, the script says what fails and how. ``reference`` returns the case's
    reference; if it is None, the reference is computed here. The layers' default tolerances are read, which loads
    torch.
    """
    if why_no_script(case, target, result) is not None:
        return None
    from harness.model.reference import tolerance_of

    has_reference = case.expect.raises is None and (result is None or result.stage != "build")
    known = (reference() if reference else _compute_reference(case)) if has_reference else None
    return script_template().render(_variables(case, target, result, tolerance_of(case, target.opset), known))


def _variables(
    case: Case, target: Target, result: Result | None, tolerance: Tolerance, reference: Reference | None
) -> Mapping[str, Any]:
    source = module_source(case.model.model, [spec.label for spec in case.inputs])
    weights = {weight_name(case.model.model, name): spec for name, spec in case.model.weights.items()}
    layers = layers_of(case.model.model)
    arguments = [value for layer in layers for value in layer.args.values() if isinstance(value, TensorSpec)]
    sets = [each.inputs for each in _needed_sets(case, result)]
    if reference is not None:
        tolerance = without_calibration(tolerance, reference)
    bounds = output_bounds(tolerance, case.dtype, _largest_magnitudes(reference))
    message = None if result is None else result.message
    return {
        "title": wrap(issue_title(case, target, result), LINE_LENGTH),
        "expected": wrap(f"Expected: {expected_behaviour(case, result)}", LINE_LENGTH),
        "actual": wrap(f"Actual: {message}", LINE_LENGTH) if message else [],
        "definition": source.definition,
        "call": source.call,
        "seed": case.seed,
        "statistics": any(layer.layer.endswith(STORING_STATISTICS) for layer in layers),
        "dtype": case.dtype,
        "mode": case.mode,
        "weights": {name: tensor_expression(spec) for name, spec in weights.items()},
        "inputs": [[tensor_expression(spec) for spec in specs] for specs in sets],
        "generators": generators([*(spec for specs in sets for spec in specs), *weights.values(), *arguments]),
        "export": export_statements(case, target, _output_count(result)),
        "load": load_statements(target, bfloat16="bfloat16" in dtypes(case)),
        "runtime": target.runtime,
        "bfloat16": "bfloat16" in dtypes(case),
        "stochastic": reference is not None and reference.stochastic,
        "onnx": target.exporter.startswith("onnx-"),
        "rtol_atol": bounds.pop(None),
        "by_output": bounds,
        "raises": case.expect.raises,
        "REPRODUCED": REPRODUCED,
        "NOT_REPRODUCED": NOT_REPRODUCED,
    }


def _compute_reference(case: Case) -> Reference:
    from harness.model.build import build
    from harness.model.reference import compute_reference

    subject = build(case)
    return compute_reference(case, subject, subject.inputs)


def _largest_magnitudes(reference: Reference | None) -> list[float | None]:
    """The largest sum of the terms' magnitudes of each output; None if the output has no finite one."""
    magnitudes = () if reference is None else reference.magnitudes
    largest = [None if sums is None or not sums.size else float(sums.max()) for sums in magnitudes]
    return [value if value is not None and isfinite(value) else None for value in largest]


def _output_count(result: Result | None) -> int | None:
    """The number of the model's outputs, None if unknown. With several shapes, a result has each output repeatedly."""
    return len({output.index for output in result.outputs}) or None if result else None


def _needed_sets(case: Case, result: Result | None) -> list[InputSet]:
    """The sets of inputs that the script runs: one at each shape, and all if only a further draw fails."""
    outputs = () if result is None else result.outputs
    all_draws = any(output.problem and output.at and "draw" in output.at for output in outputs)
    return [each for each in input_sets(case) if all_draws or each.draw == 1]


@cache
def script_template() -> Template:
    """The template of all scripts. Loading it takes longer than filling it in."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # The output is Python source, not HTML: nothing has to be escaped.
    environment = Environment(
        loader=PackageLoader("harness.reproduction", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701
    )
    return environment.get_template("script.py.j2")
