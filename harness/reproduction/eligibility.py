"""Decide whether a check can have a script, and write the title and the expectation of its upstream issue."""

from __future__ import annotations

from math import prod

from harness.reproduction.source import RUNTIMES, keywords, layers_of
from harness.result import Result
from harness.spec.language.case import Case, FactoryModel, LayerModel, RecordedModel, StoredModel
from harness.spec.language.inputs.draws import input_sets
from harness.spec.targets import Target

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
