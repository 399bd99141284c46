"""Write a check as one self-contained script that needs torch, onnx, onnxruntime and numpy, but not harness.

The script exports the model, runs eager torch and the target, and prints the versions and both outputs. It exits with
1 while the outputs differ or a stage fails. Its docstring can be pasted as the beginning of an upstream issue.
:func:`why_no_script` says which checks have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from math import isfinite, prod
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from harness.compare.calibrated import without_calibration
from harness.compare.rules import strict_ulp as limited_to_ulp
from harness.reproduction.source import (
    RUNTIMES,
    export_statements,
    keywords,
    layers_of,
    load_statements,
    module_source,
    weight_name,
)
from harness.reproduction.tensors import generators, output_bounds, tensor_expression
from harness.result import Result
from harness.spec.language.case import Case, FactoryModel, InputSet, LayerModel, RecordedModel, StoredModel, TensorSpec
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
EXPORTER_NAMES = {
    "trace": "torch.jit.trace",
    "script": "torch.jit.script",
    "onnx-torchscript": "torch.onnx.export(dynamo=False)",
    "onnx-dynamo": "torch.onnx.export(dynamo=True)",
}
RUNTIME_NAMES = {"torch-cpu": "torch.jit.load", "ort-cpu": "ONNX Runtime", "reference": "onnx.reference"}

MACHINE_SYMPTOMS = frozenset({"timeout", "out-of-memory", "unavailable", "placement"})
"""Symptoms that another machine may not have."""

MAX_ELEMENTS_FROM_FILES = 4096

STRUCTURE = "structure"
"""The finding about names, shapes and dtypes of a stochastic case's outputs."""


# Whether there is a script


def reproduction(
    case: Case,
    target: Target,
    result: Result | None = None,
    reference: Callable[[], Reference] | None = None,
    strict_ulp: int | None = None,
) -> str | None:
    """The text of the script for ``case`` on ``target``; None if :func:`why_no_script` gives a reason.

    With ``result``, the result of the check, the script says what fails and how. ``reference`` returns the case's
    reference; if it is None, the reference is computed here. The layers' default tolerances are read, which loads
    torch. ``strict_ulp``, if any, limits them.
    """
    if why_no_script(case, target, result) is not None:
        return None
    from harness.model.reference import tolerance_of

    has_reference = case.expect.raises is None and (result is None or result.stage != "build")
    known = (reference() if reference else _compute_reference(case)) if has_reference else None
    tolerance = tolerance_of(case, target.opset)
    tolerance = tolerance if strict_ulp is None else limited_to_ulp(tolerance, strict_ulp)
    return script_template().render(_variables(case, target, result, tolerance, known))


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


def why_no_script(case: Case, target: Target, result: Result | None = None) -> str | None:
    """Why a self-contained script cannot show the failure; None if it can.

    ``result`` is the result of the check, if it is known.
    """
    match case.model.model:
        case FactoryModel(factory):
            return f"the model comes from your own code ({factory}), which a self-contained script cannot import"
        case RecordedModel() | StoredModel():
            return "the model is a file, which a script cannot contain"
    if case.structure is not None:
        return "its inputs are nested, and a script takes tensors only; harness pack makes a bundle"
    if case.loop:
        return "its outputs feed its inputs step by step, which a script does not do"
    from_files = [*case.model.weights.values(), *(spec for each in input_sets(case) for spec in each.inputs)]
    elements = sum(prod(spec.shape) for spec in from_files if spec.source is not None)
    if elements > MAX_ELEMENTS_FROM_FILES:
        return f"{elements:,} values come from files, too many to write into a script; harness pack makes a bundle"
    if reason := _why_target_has_no_script(target):
        return reason
    if target.runtime == "reference" and "bfloat16" in dtypes(case):
        return "NumPy has no bfloat16, so onnx.reference would need another library for its inputs"
    return None if result is None else _why_failure_has_no_script(case, result)


def _why_target_has_no_script(target: Target) -> str | None:
    if target.tested_file is not None:
        return "the file under test was made elsewhere, and a script cannot contain it"
    if "custom_ops" in target.options:
        return "the target loads a library of custom operators, which a script cannot contain"
    if target.fixes:
        return "the target uses harness's corrected lowerings (+fixes), and a script does not use harness"
    if target.transforms:
        return "a script exports without transforms"
    if target.runtime not in RUNTIMES:
        return f"a script can use the runtimes {', '.join(RUNTIMES)}, not {target.runtime}"
    return None


def dtypes(case: Case) -> set[str]:
    """The dtypes of the case's model and inputs."""
    return {case.dtype, *(spec.dtype for spec in case.inputs)}


def _why_failure_has_no_script(case: Case, result: Result) -> str | None:
    if result.symptom in MACHINE_SYMPTOMS:
        return f"{result.symptom} depends on this machine and its limits"
    if result.blame == "spec":
        return "PyTorch itself does not meet the spec's expectation, so there is nothing to report upstream"
    if result.blame == "torch":
        return "PyTorch itself differs from the float64 reference, before any export"
    if result.stage != "compare" or case.expect.raises is not None:
        return None
    if _is_stochastic(result):
        same = all(finding.passed for finding in result.findings if finding.what == STRUCTURE)
        return "the model is stochastic, so its outputs cannot be compared with eager PyTorch's" if same else None
    if any(not finding.passed for finding in result.findings) and all(output.passed for output in result.outputs):
        return "the outputs agree with eager PyTorch; they miss only the spec's own expectation"
    return None


def _is_stochastic(result: Result) -> bool:
    """True if the check reached the comparison and eager torch's outputs differ under another seed.

    Only then does a result have a separate finding for the structure of the outputs.
    """
    return any(finding.what == STRUCTURE for finding in result.findings)


# The upstream issue


def issue_title(case: Case, target: Target, result: Result | None) -> str:
    """The title of an upstream issue: what fails, and for which layer."""
    exporter, runtime = _exporter_name(target), RUNTIME_NAMES[target.runtime]
    model = _model_in_words(case)
    if result is None or result.stage is None:
        return f"{model}: {exporter} with {runtime} differs from eager PyTorch"
    match result.stage:
        case "export":
            return f"{exporter} fails on {model}"
        case "load" | "run":
            return f"{runtime} fails to {result.stage} the model that {exporter} exports from {model}"
    if case.expect.raises is not None:
        return f"{model}: PyTorch raises an error, but {exporter} with {runtime} returns outputs"
    component = exporter if result.blame == "exporter" else runtime
    return f"{component} returns different outputs than eager PyTorch for {model}"


def expected_behaviour(case: Case, result: Result | None) -> str:
    """What should have happened, in one sentence."""
    if case.expect.raises is not None:
        return f"an error with the text {case.expect.raises!r}, as in eager PyTorch."
    if result is not None and result.stage not in {None, "compare"}:
        return "the model exports, loads and runs, with the same outputs as eager PyTorch."
    return "the same outputs as eager PyTorch."


def _exporter_name(target: Target) -> str:
    options = ", ".join(f"{name}={value}" for name, value in target.export_options.items())
    opset = "" if target.opset is None else f" at opset {target.opset}"
    return EXPORTER_NAMES[target.exporter] + opset + (f" with {options}" if options else "")


def _model_in_words(case: Case) -> str:
    """The layer with its arguments, or the names of the layers."""
    model = case.model.model
    if isinstance(model, LayerModel):
        mode = ", in training mode" if case.mode == "train" else ""
        return f"{model.layer}({keywords(model.args)}){mode}"
    return " -> ".join(layer.layer for layer in layers_of(model))
