"""Eager torch is asked whether it refuses a case, in the words of the spec.

One case in a worker: what all its checks share is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from harness.check import refusal as control
from harness.check.cache.artifacts import Artifacts
from harness.check.case_context import Judge, Refusal
from harness.check.expectations import Expected, expected_of, hold, hold_gradients
from harness.check.memo import Capture, Memo, NullCapture
from harness.check.stages import Clock, StageStopped, chain_text, is_of_the_code, message_of
from harness.compare.rules import strict_ulp
from harness.compare.verdict import compare
from harness.errors import Unsupported
from harness.exporters import Artifact
from harness.latency.sampling import Call
from harness.model.answer import Reference
from harness.model.build import Subject, build, module_of, tensors
from harness.model.reference import gradients, own_tolerance, refer, repeatable, tolerance_of
from harness.model.tensors import to_numpy
from harness.registry import plugins
from harness.result import Finding, Result
from harness.spec.language.case import Case
from harness.spec.language.tolerances import Exact, Rule, Tolerance, Ulp
from harness.spec.targets import Target


def refused_by_eager(case: Case, export: Callable[[Target, Subject], Artifact], blank: Result, clock: Clock) -> Refusal:
    """What eager torch says, and what a target is to be asked where it refuses; ``export`` makes the file for it."""
    text = case.expect.raises
    assert text is not None
    try:
        with clock.stage("build"):
            inputs = tensors(case.inputs)
            module = module_of(case.model, case, list(inputs))
    except StageStopped as stop:
        return Refusal(_eager_refused(blank, stop.cause, text, f"torch refuses to build it: {stop.message}"))
    try:
        module(*(tensor.clone() for tensor in inputs.values()))
    except BaseException as error:
        if not is_of_the_code(error):
            raise
        told = _eager_refused(blank, error, text, f"torch raises {message_of(error)}")
    else:
        said = f"eager torch does not raise; expected an error with {text!r}"
        return Refusal(replace(blank, status="failed", stage="build", symptom="mismatch", message=said, blame="spec"))
    if told.status == "failed":
        return Refusal(told)
    subject = Subject(module, inputs, outputs=1, mode=case.mode, dynamic=case.dynamic)
    arrays = {label: to_numpy(tensor) for label, tensor in inputs.items()}
    return Refusal(told, arrays, lambda target: export(target, subject))


def _eager_refused(blank: Result, error: BaseException, text: str, said: str) -> Result:
    if text in chain_text(error):
        return replace(blank, findings=(Finding("raises", True, said),))
    wrong = f"{said}; expected an error with {text!r}"
    return replace(blank, status="failed", stage="build", symptom="mismatch", message=wrong, blame="spec")


SUFFIX = {"onnx": ".onnx", "torchscript": ".pt", "program": ".pt2", "aoti": ".pt2"}


class PreparedCase:
    """A case with its subject, its references and its exports, each made when it is first asked for.

    What raises once raises again for every check that needs it.
    """

    def __init__(
        self,
        case: Case,
        artifacts: Artifacts,
        strict_ulp: int | None = None,
        capture: Capture | None = None,
        sized: Callable[[int], None] = lambda _size: None,
    ) -> None:
        """``sized`` is told how many bytes the module takes, as soon as it is built and before it is called."""
        self.case = case
        self._sized = sized
        self._artifacts = artifacts
        self._strict_ulp = strict_ulp
        self._ear = capture or NullCapture()
        self._once = Memo(self._ear)
        self._tolerances: dict[int | None, Tolerance] = {}
        self.judge = Judge(self._once)

    @property
    def subject(self) -> Subject:
        """The built module with its example inputs."""
        return self._once.get("subject", lambda: build(self.case, self._sized))

    @property
    def references(self) -> tuple[Reference, ...]:
        """The reference answers at the case's own shapes, then at those of ``also``."""
        return self._once.get("references", self._refer)

    @property
    def expected(self) -> Expected:
        """What the spec says must hold."""
        return self._once.get("expected", lambda: expected_of(self.case, self.subject))

    @property
    def gradients(self) -> dict[str, NDArray[Any]]:
        """Eager torch's own gradients."""
        return self._once.get("gradients", lambda: gradients(self.subject, self.case.seed))

    @property
    def about_eager(self) -> tuple[Finding, ...]:
        """Eager torch held against the spec's expectations and against the layer's definition."""
        return self._once.get("about eager", self._hold_eager)

    def _refer(self) -> tuple[Reference, ...]:
        own = refer(self.case, self.subject, self.subject.inputs)
        return (own, *(self._at(shapes) for shapes in self.case.also))

    def _hold_eager(self) -> tuple[Finding, ...]:
        own = self.references[0]
        found = list(hold(self.expected, own, own.eager, self.tolerance(None)))
        if self.case.expect.gradient or self.case.expect.gradient_range:
            found += hold_gradients(self.expected, own, own.eager, self.gradients)
        return (*found, *(held for reference in self.references if (held := self._against_oracle(reference))))

    def tolerance(self, opset: int | None) -> Tolerance:
        """What the outputs are held to; with ``strict_ulp``, to no more than that many ULP."""
        if opset not in self._tolerances:
            own = tolerance_of(self.case, opset)
            self._tolerances[opset] = own if self._strict_ulp is None else strict_ulp(own, self._strict_ulp)
        return self._tolerances[opset]

    def eager(self) -> Call:
        """A call of eager torch on the case's own inputs, for timing."""
        call, _ = repeatable(self.subject.module, list(self.subject.inputs.values()))
        return call

    def refusal(self, blank: Result, clock: Clock) -> Refusal:
        """What eager torch says to a case that it is to refuse."""
        return replace(refused_by_eager(self.case, self.artifact, blank, clock), control=self.control)

    def control(self, target: Target) -> Artifact:
        """What no target should refuse, exported for ``target``; nothing that is said meanwhile is this case's."""
        with self._ear.listening():
            return PreparedCase(control.CASE, self._artifacts.beside()).artifact(target)

    def artifact(self, target: Target, subject: Subject | None = None) -> Artifact:
        """The case exported for ``target``, once for all that share the export; ``subject`` if not the prepared's own."""
        return self._once.get(target.export, lambda: self._export(target, subject or self.subject))

    def _export(self, target: Target, subject: Subject) -> Artifact:
        exporter = plugins("exporters")[target.exporter]
        opsets = exporter.opsets()
        if target.opset is not None and target.opset not in opsets:
            raise Unsupported(f"{target.exporter} takes opsets {opsets.start} to {opsets.stop - 1}, not {target.opset}")
        export: Callable[..., Artifact] = exporter.export
        return self._artifacts.get(
            self.case,
            target,
            SUFFIX[exporter.makes],
            lambda path: export(subject, path, opset=target.opset, fixes=target.fixes),
        )

    def _at(self, shapes: Mapping[str, tuple[int, ...]]) -> Reference:
        specs = [replace(spec, shape=tuple(shapes.get(spec.label, spec.shape))) for spec in self.case.inputs]
        said = ", ".join(f"{label}={list(shape)}" for label, shape in shapes.items())
        return refer(self.case, self.subject, tensors(specs), at=said)

    def _against_oracle(self, reference: Reference) -> Finding | None:
        if reference.float64 is None:
            return None
        eager = reference.eager
        if eager.keys() != reference.float64.keys():
            said = f"torch gives {len(eager)} outputs, the definition {len(reference.float64)}"
            return Finding("oracle", False, said)
        expected = {name: values.astype(eager[name].dtype) for name, values in reference.float64.items()}
        by_own = self._near(reference, expected, own_tolerance)
        return by_own if by_own.passed else self._near(reference, expected, tolerance_of)

    def _near(self, reference: Reference, expected: Mapping[str, Any], rule: Callable[..., Tolerance]) -> Finding:
        """Eager torch against the definition, by the layer's own rule, or by a spec's that gives more room."""
        tolerance = rule(self.case, None)
        held = Tolerance(_rounded(tolerance.rule), {at: _rounded(rule) for at, rule in tolerance.by_output.items()})
        comparison = compare(
            reference.eager,
            expected,
            held,
            magnitudes=reference.magnitudes,
            undefined=reference.undefined,
            at=reference.at,
        )
        return Finding("oracle", comparison.passed, comparison.message, next(iter(comparison.outputs), None))


def _rounded(rule: Rule) -> Rule:
    """The definition is rounded once and torch at each step, so that equality means two ULP for floating outputs."""
    return Ulp(2) if isinstance(rule, Exact) else Ulp(rule.n + 2) if isinstance(rule, Ulp) else rule
