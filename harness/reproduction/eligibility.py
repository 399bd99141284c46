"""What an upstream issue about a failure would be called, and what it would say was expected.

Why some checks have no script of their own.
"""

from __future__ import annotations

from harness.reproduction.source import RUNTIMES, keywords, parts
from harness.result import Result
from harness.spec.language.case import Case, FactoryModel, LayerModel, RecordedModel
from harness.spec.targets import Target

EXPORTERS = {
    "trace": "torch.jit.trace",
    "script": "torch.jit.script",
    "onnx-torchscript": "torch.onnx.export(dynamo=False)",
    "onnx-dynamo": "torch.onnx.export(dynamo=True)",
}
RUNTIME_NAMES = {"torch-cpu": "torch.jit.load", "ort-cpu": "ONNX Runtime", "reference": "onnx.reference"}


def title(case: Case, target: Target, result: Result | None) -> str:
    """One line: who does what wrong with which layer."""
    exporter, runtime = exporter_of(target), RUNTIME_NAMES[target.runtime]
    what = subject(case)
    if result is None or result.stage is None:
        return f"{what}: {exporter} with {runtime} does not answer as eager PyTorch"
    match result.stage:
        case "export":
            return f"{exporter} fails on {what}"
        case "load" | "run":
            verb = "load" if result.stage == "load" else "run"
            return f"{runtime} fails to {verb} what {exporter} makes of {what}"
    if case.expect.raises is not None:
        return f"{what}: PyTorch refuses the input, {exporter} with {runtime} answers"
    who = exporter if result.blame == "exporter" else runtime
    return f"{who} gives a different answer than eager PyTorch for {what}"


def exporter_of(target: Target) -> str:
    """The exporter by the name of its function, with the opset."""
    return EXPORTERS[target.exporter] + ("" if target.opset is None else f" at opset {target.opset}")


def subject(case: Case) -> str:
    """The layer with its arguments, or the layers by name."""
    model = case.model.model
    if isinstance(model, LayerModel):
        mode = ", in training mode" if case.mode == "train" else ""
        return f"{model.layer}({keywords(model.args)}){mode}"
    return " -> ".join(each.layer for each in parts(model))


def expected(case: Case, result: Result | None) -> str:
    """What should have happened, in a sentence."""
    if case.expect.raises is not None:
        return f"an error that says {case.expect.raises!r}, as eager PyTorch raises."
    if result is not None and result.stage not in {None, "compare"}:
        return "the model exports, loads and runs, and answers as eager PyTorch does."
    return "the same answer as eager PyTorch."


STRUCTURE = "structure"
OF_THE_MACHINE = frozenset({"timeout", "out-of-memory", "unavailable", "placement"})


def obstacle(case: Case, target: Target, result: Result | None = None) -> str | None:
    """What keeps a self-contained script from showing the failure; None where nothing does.

    ``result`` is what the check came to, where that is known.
    """
    match case.model.model:
        case FactoryModel(factory):
            return f"the model is made by {factory}, which is not public"
        case RecordedModel():
            return "the model is a file that cannot be written into a script"
    if target.fixes:
        return "the corrected lowerings are harness's own, and a script for others does without harness"
    if target.runtime not in RUNTIMES:
        return f"a script knows {', '.join(RUNTIMES)} and not {target.runtime}"
    if target.runtime == "reference" and "bfloat16" in dtypes(case):
        return "NumPy has no bfloat16, so onnx.reference cannot be fed without a further library"
    return None if result is None else _of_the_failure(case, result)


def dtypes(case: Case) -> set[str]:
    """The dtypes that the case's model and inputs name."""
    return {case.dtype, *(spec.dtype for spec in case.inputs)}


def _of_the_failure(case: Case, result: Result) -> str | None:
    if result.symptom in OF_THE_MACHINE:
        return f"{result.symptom} depends on this machine and its limits"
    if result.blame == "spec":
        return "the spec expects something else than PyTorch answers; there is nothing to report to others"
    if result.blame == "torch":
        return "PyTorch itself is off the definition, before anything is exported"
    if result.stage != "compare" or case.expect.raises is not None:
        return None
    if _is_drawn(result):
        formed = all(finding.passed for finding in result.findings if finding.what == STRUCTURE)
        return "the answer is drawn anew at each call, so PyTorch has none to hold it against" if formed else None
    if any(not finding.passed for finding in result.findings) and all(output.passed for output in result.outputs):
        return "the answer agrees with eager PyTorch; it is the spec's own expectation that it does not meet"
    return None


def _is_drawn(result: Result) -> bool:
    """True where a check that came as far as comparing found that eager torch answers differently each time.

    Only then is the form of the answer a finding of its own.
    """
    return any(finding.what == STRUCTURE for finding in result.findings)
