"""One case in a worker, prepared for its checks: what they share is computed once, when it is first needed.

The module and its inputs are built here, eager torch and the float64 reference give the reference answers, and the
exporters make the artifacts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from harness.check.cache.artifacts import ArtifactCache
from harness.check.case_context import Refusal
from harness.check.judge import Expected, Judge, check_expectations, check_gradients, for_expressions
from harness.check.memo import Capture, Memo, NullCapture
from harness.check.refusal import CONTROL_CASE
from harness.check.stages import Clock, StageStopped, chain_text, is_from_code_under_test, message_of
from harness.compare.rules import strict_ulp
from harness.compare.verdict import compare, distances
from harness.errors import Unsupported
from harness.exporters import Artifact
from harness.latency.sampling import Call
from harness.model.answer import Reference
from harness.model.build import (
    Subject,
    build,
    build_module,
    build_tensors,
    constructor_arguments,
    eager_outputs,
    structure_of,
)
from harness.model.reference import compute_reference, default_tolerance_of, gradients, repeatable_call, tolerance_of
from harness.model.tensors import to_numpy
from harness.model.weights import plain_name
from harness.registry import plugins
from harness.result import Finding, Result
from harness.spec.language.case import Case, LayerModel, StoredModel, WeightedModel
from harness.spec.language.fills import array
from harness.spec.language.tolerances import Calibrated, Exact, Rule, Tolerance, Ulp
from harness.spec.targets import Target

Array = NDArray[Any]

SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt", "program": ".pt2", "aoti": ".pt2"}
"""The file name suffix of an artifact, by its format."""


SCRIPT_WARM_UP = 3
"""Calls after which TorchScript has optimized a module that was loaded: it profiles the first ones."""


class PreparedCase:
    """A :class:`harness.check.case_context.CaseContext` from a spec. It holds the built module and its artifacts.

    An exception of a computation is raised again for every check that needs its value.
    """

    def __init__(
        self,
        case: Case,
        artifacts: ArtifactCache,
        strict_ulp: int | None = None,
        capture: Capture | None = None,
        on_size: Callable[[int], None] = lambda _size: None,
    ) -> None:
        """``on_size`` is called with the module's size in bytes once it is built, before it is run."""
        self.case = case
        self._on_size = on_size
        self._artifacts = artifacts
        self._strict_ulp = strict_ulp
        self._capture = capture or NullCapture()
        self._memo = Memo(self._capture)
        self._tolerances: dict[int | None, Tolerance] = {}
        self.judge = Judge(self._memo)

    @property
    def subject(self) -> Subject:
        """The built module with its example inputs."""
        return self._memo.get("subject", lambda: build(self.case, self._on_size))

    @property
    def example_inputs(self) -> Mapping[str, Array]:
        """The first set of inputs by label."""
        return {label: to_numpy(tensor) for label, tensor in self.subject.inputs.items()}

    @property
    def references(self) -> tuple[Reference, ...]:
        """The reference answers: at the case's own shapes, then at those of ``also``."""
        return self._memo.get("references", self._compute_references)

    @property
    def expected(self) -> Expected:
        """The spec's ``expect``, as arrays."""
        return self._memo.get("expected", lambda: build_expected(self.case, self.subject))

    @property
    def gradients(self) -> dict[str, Array]:
        """Eager torch's gradients."""
        return self._memo.get("gradients", lambda: gradients(self.subject, self.case.seed))

    @property
    def eager_findings(self) -> tuple[Finding, ...]:
        """Eager torch compared with the spec's ``expect`` and with the float64 reference."""
        return self._memo.get("eager findings", self._check_eager)

    def tolerance(self, opset: int | None) -> Tolerance:
        """The tolerance of the outputs of an export at ``opset``; with ``strict_ulp`` at most that many ULP."""
        if opset not in self._tolerances:
            tolerance = tolerance_of(self.case, opset)
            strict = tolerance if self._strict_ulp is None else strict_ulp(tolerance, self._strict_ulp)
            self._tolerances[opset] = strict
        return self._tolerances[opset]

    def eager_call(self) -> Call:
        """A call of eager torch on the case's own inputs, for timing."""
        call, _ = repeatable_call(self.subject.module, list(self.subject.inputs.values()))
        for _ in range(SCRIPT_WARM_UP if isinstance(self.case.model.model, StoredModel) else 0):
            call()
        return call

    def artifact(self, target: Target, subject: Subject | None = None) -> Artifact:
        """The case exported for ``target``, once for all targets with the same export.

        ``subject`` is exported in place of the case's own.
        """
        return self._memo.get(target.export, lambda: self._export(target, subject or self.subject))

    def refusal(self, result: Result, clock: Clock) -> Refusal:
        """How eager torch answers a case that it should refuse. ``result`` is the result so far."""
        refusal = eager_refusal(self.case, self.artifact, result, clock)
        return replace(refusal, export_control=self.export_control)

    def export_control(self, target: Target) -> Artifact:
        """The control model exported for ``target``. What is printed meanwhile is not part of this case."""
        with self._capture.capturing():
            return PreparedCase(CONTROL_CASE, self._artifacts.without_counting()).artifact(target)

    def _compute_references(self) -> tuple[Reference, ...]:
        references = [compute_reference(self.case, self.subject, self.subject.inputs)]
        for each in self.case.input_sets[1:]:
            try:
                reference = compute_reference(self.case, self.subject, build_tensors(each.inputs), at=each.at)
            except Exception as error:
                if not each.chosen_by_harness:
                    raise
                warnings.warn(
                    f"the dynamic axes were verified at no other size: at {each.at} eager torch raises "
                    f"{message_of(error)}; name sizes under `also`",
                    stacklevel=1,
                )
                break
            references.append(replace(reference, repeats_shapes=each.draw > 1))
        return tuple(references)

    def _check_eager(self) -> tuple[Finding, ...]:
        reference = self.references[0]
        findings = list(check_expectations(self.expected, reference, reference.eager, self.tolerance(None)))
        if self.case.expect.gradient or self.case.expect.gradient_range:
            findings += check_gradients(self.expected, reference, reference.eager, self.gradients)
        for each in self.references:
            finding = self._check_against_float64(each)
            if finding is not None and not (finding.passed and each.repeats_shapes):
                findings.append(finding)
        return tuple(findings)

    def _check_against_float64(self, reference: Reference) -> Finding | None:
        """Eager torch compared with the float64 reference; None without one.

        The layer's own tolerance applies, or the spec's if that allows more.
        """
        if reference.float64 is None:
            return None
        eager = reference.eager
        default = default_tolerance_of(self.case, None)
        if isinstance(default.rule, Calibrated):
            return _eager_rounding(reference)
        expected = {name: values.astype(eager[name].dtype) for name, values in reference.float64.items()}
        finding = _compare_eager(reference, expected, default)
        return finding if finding.passed else _compare_eager(reference, expected, tolerance_of(self.case, None))

    def _export(self, target: Target, subject: Subject) -> Artifact:
        exporter = plugins("exporters")[target.exporter]
        opsets = exporter.opsets()
        if target.opset is not None and target.opset not in opsets:
            raise Unsupported(f"{target.exporter} takes opsets {opsets.start} to {opsets.stop - 1}, not {target.opset}")
        export: Callable[..., Artifact] = exporter.export
        # A plugin without options of its own need not take them.
        options = {"options": target.export_options} if target.export_options else {}
        return self._artifacts.get(
            self.case,
            target,
            SUFFIXES[exporter.makes],
            lambda path: export(subject, path, opset=target.opset, fixes=target.fixes, **options),
        )


def _eager_rounding(reference: Reference) -> Finding:
    """How far eager torch is from its own run in float64. That shows no fault: it is what calibration measures."""
    errors = distances(reference.eager, {}, reference.float64 or {}, undefined=reference.undefined)
    largest = max((distance.eager_max_abs for distance in errors), default=0.0)
    at = "" if reference.at is None else f"at {reference.at}: "
    return Finding("oracle", True, f"{at}eager torch is at most {largest:.4g} from its run in float64")


def _compare_eager(reference: Reference, expected: Mapping[str, Array], tolerance: Tolerance) -> Finding:
    by_output = {index: _with_rounding(rule) for index, rule in tolerance.by_output.items()}
    comparison = compare(
        reference.eager,
        expected,
        Tolerance(_with_rounding(tolerance.rule), by_output),
        magnitudes=reference.magnitudes,
        undefined=reference.undefined,
        at=reference.at,
    )
    return Finding("oracle", comparison.passed, comparison.message, next(iter(comparison.outputs), None))


def _with_rounding(rule: Rule) -> Rule:
    """``rule`` for eager torch: it rounds at each step, the float64 reference only once. So exact means two ULP."""
    return Ulp(2) if isinstance(rule, Exact) else Ulp(rule.n + 2) if isinstance(rule, Ulp) else rule


def build_expected(case: Case, subject: Subject) -> Expected:
    """The spec's ``expect`` with its tensors filled, and with the answers of its other models."""
    expect = case.expect
    outputs = None
    if expect.outputs is not None:
        outputs = {f"output_{index}": array(spec) for index, spec in enumerate(expect.outputs)}
    return Expected(
        first=case.inputs[0].label if case.inputs else None,
        outputs=outputs,
        shape=expect.shape,
        range=expect.range,
        formula=expect.formula,
        gradient=expect.gradient,
        gradient_range=expect.gradient_range,
        equals=None if expect.equals is None else _answer_of(expect.equals, case, subject),
        differs_from=None if expect.differs_from is None else _answer_of(expect.differs_from, case, subject),
        names=_expression_names(case, subject),
    )


def _expression_names(case: Case, subject: Subject) -> dict[str, Any]:
    """The layer's arguments, and the parameters and buffers of the module."""
    model = case.model.model
    arguments: dict[str, Any] = constructor_arguments(model) if isinstance(model, LayerModel) else {}
    tensors = {**dict(subject.module.named_parameters()), **dict(subject.module.named_buffers())}
    arrays = {name: for_expressions(to_numpy(tensor.detach())) for name, tensor in tensors.items()}
    return arguments | {plain_name(name): values for name, values in arrays.items()}


def _answer_of(model: WeightedModel, case: Case, subject: Subject) -> dict[str, Array]:
    """Eager torch's answer for another ``model`` on the same inputs."""
    module = build_module(model, case)
    outputs = eager_outputs(module, list(subject.inputs.values()), case.seed)
    return {f"output_{index}": to_numpy(output) for index, output in enumerate(outputs)}


def eager_refusal(case: Case, export: Callable[[Target, Subject], Artifact], result: Result, clock: Clock) -> Refusal:
    """How eager torch answers ``case``, which it should refuse in the words of the spec.

    ``export`` exports the module for a target that has to refuse as well.
    """
    text = case.expect.raises
    assert text is not None
    try:
        with clock.stage("build"):
            inputs = build_tensors(case.inputs)
            module = build_module(case.model, case)
    except StageStopped as stop:
        return Refusal(_with_eager_error(result, stop.cause, text, f"torch refuses to build it: {stop.message}"))
    try:
        module(*(tensor.clone() for tensor in inputs.values()))
    except BaseException as error:
        if not is_from_code_under_test(error):
            raise
        result = _with_eager_error(result, error, text, f"torch raises {message_of(error)}")
    else:
        return Refusal(_with_wrong_spec(result, f"eager torch does not raise; expected an error with {text!r}"))
    if result.status == "failed":
        return Refusal(result)
    structure = structure_of(case)
    subject = Subject(module, inputs, outputs=1, mode=case.mode, dynamic=case.dynamic, structure=structure)
    arrays = {label: to_numpy(tensor) for label, tensor in inputs.items()}
    return Refusal(result, arrays, lambda target: export(target, subject))


def _with_eager_error(result: Result, error: BaseException, text: str, message: str) -> Result:
    if text in chain_text(error):
        return replace(result, findings=(Finding("raises", True, message),))
    return _with_wrong_spec(result, f"{message}; expected an error with {text!r}")


def _with_wrong_spec(result: Result, message: str) -> Result:
    return replace(result, status="failed", stage="build", symptom="mismatch", message=message, blame="spec")
