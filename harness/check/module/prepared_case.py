"""One case in a worker, prepared for its checks: what they share is computed once, when it is first needed.

The module and its inputs are built here, eager torch and the float64 reference give the reference answers, and the
exporters make the artifacts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import nn

from harness.check.cache.artifacts import ArtifactCache
from harness.check.cache.memo import Capture, Memo, NullCapture
from harness.check.case_context import Refusal
from harness.check.judging import lower_precision
from harness.check.judging.example_values import OtherInputs, OtherKind
from harness.check.judging.judge import Expected, Judge
from harness.check.judging.steps import with_lower_steps
from harness.check.module.eager import build_expected, check_eager, eager_references, eager_refusal
from harness.check.module.further_inputs import FurtherInputs, tensors_of
from harness.check.recorded.own_rounding import with_functions
from harness.check.refusal import CONTROL_CASE
from harness.check.stages import Clock, is_from_code_under_test
from harness.compare.inconclusive import parts_in_words
from harness.compare.rules import strict_ulp
from harness.data_files.onnx_files import nodes_in_training
from harness.errors import Unsupported
from harness.exporters import Artifact
from harness.inside.calls import ReferenceInside, ValueStore
from harness.inside.torch_reference import TorchReference
from harness.latency.sampling import Call
from harness.model.answer import Reference, with_flips
from harness.model.build import Subject, build, build_tensors, has_random_weights
from harness.model.precisions import in_lower_precision
from harness.model.reaching import Threshold
from harness.model.reference import sample_reference, tolerance_of
from harness.model.running import have_same_values, repeatable_call, run_module
from harness.model.state import in_evaluation, parts_in_training
from harness.model.tensors import copy_tensor, to_numpy
from harness.registry import plugins
from harness.result import Finding, Result
from harness.spec.language.case import Case, StoredModel, TensorSpec
from harness.spec.language.tolerances import Tolerance
from harness.spec.targets import Target
from harness.transforms._apply import transformed

Array = NDArray[Any]
T = TypeVar("T")

SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt", "program": ".pt2", "aoti": ".pt2"}  # of an artifact, by its format
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
        self._built: list[tuple[nn.Module, Mapping[str, torch.Tensor]]] = []
        self._tolerances: dict[int | None, Tolerance] = {}
        self.judge = Judge(self._memo)

    @property
    def subject(self) -> Subject:
        """The built module with its example inputs."""
        return self._memo.get("subject", lambda: build(self.case, self._on_size, self._built.append))

    @property
    def example_inputs(self) -> Mapping[str, Array]:
        """The first set of inputs by label."""
        return {label: to_numpy(tensor) for label, tensor in self.subject.inputs.items()}

    @property
    def references(self) -> tuple[Reference, ...]:
        """The reference answers: at the case's own shapes, then at those of ``also``."""
        return self._memo.get("references", lambda: with_flips(eager_references(self.case, self.subject)))

    @property
    def expected(self) -> Expected:
        """The spec's ``expect``, as arrays."""
        return self._memo.get("expected", lambda: build_expected(self.case, self.subject))

    @property
    def eager_findings(self) -> tuple[Finding, ...]:
        """Eager torch compared with the spec's ``expect`` and with the float64 reference."""
        return self._memo.get(
            "eager findings",
            lambda: check_eager(self.case, self.subject, self.references, self.expected, self.tolerance(None)),
        )

    @property
    def training(self) -> str | None:
        """What to say first, if parts of a user's module are in training mode in spite of ``mode: eval``."""
        if self.case.mode == "train" or not self.case.runs_user_code:
            return None
        return self._memo.get("training", self._words_on_parts)

    def _words_on_parts(self) -> str | None:
        built = self._module_and_inputs()
        parts = [] if built is None else parts_in_training(built[0])
        return parts_in_words(parts) if parts and self.training_matters else None

    def exported_in_training(self, target: Target) -> tuple[str, Sequence[str]]:
        """The operators that compute as in training in the export of a module in evaluation mode: an option asks so."""
        words = "the model"
        if self.case.mode == "train" or "training" not in target.export_options:
            return words, ()
        artifact = self.artifact(target.untransformed)
        return words, nodes_in_training(artifact.path) if artifact.format == "onnx" else ()

    @property
    def unfit_reference(self) -> None:
        """None: the exported file comes from the very module that it is compared with."""

    @property
    def training_matters(self) -> bool:
        """Whether eager torch answers differently with every part in evaluation mode, or in one of the modes only."""
        return self._memo.get("training matters", self._compare_modes)

    def _compare_modes(self) -> bool:
        if (built := self._module_and_inputs()) is None:
            return False
        module, inputs = built
        trained = self._quietly(lambda: self.subject.eager_outputs)
        copies = [copy_tensor(tensor) for tensor in inputs.values()]
        evaluated = self._quietly(lambda: run_module(in_evaluation(module), copies, self.case.seed))
        if evaluated is None or trained is None:
            return evaluated is not None or trained is not None
        return not have_same_values(evaluated, trained)

    def _module_and_inputs(self) -> tuple[nn.Module, Mapping[str, torch.Tensor]] | None:
        """The module and its inputs, also if its call raises; None if they cannot be built."""
        self._quietly(lambda: self.subject)
        return self._built[0] if self._built else None

    def references_for(self, target: Target) -> tuple[Reference, ...]:
        """The reference answers, with those of a run in the precision of ``target`` if that is lower."""
        if not target.transforms:
            return self.references
        references = self.references_in(lower_precision.reference_precision(target))
        return tuple(lower_precision.reference_for(target, each) for each in references)

    def references_in(self, precision: str | None) -> tuple[Reference, ...]:
        """The reference answers, with those of a run in ``precision`` if one is named."""
        if precision is None:
            return self.references
        lowered = partial(in_lower_precision, self.case, self.subject, precision=precision)
        return self._memo.get(f"references in {precision}", lambda: with_lower_steps(self.references, lowered))

    def sample_reference(self, inputs: tuple[TensorSpec, ...], at: str, precision: str | None) -> Reference:
        """See :class:`harness.check.case_context.CaseContext`."""
        return sample_reference(self.case, self.subject, build_tensors(inputs), at, precision)

    @property
    def random_weights(self) -> bool:
        """True if the user's callable draws other weights each time, and the case names none."""
        return self._memo.get("random weights", lambda: has_random_weights(self.subject.module, self.case))

    def tolerance(self, opset: int | None, target: Target | None = None) -> Tolerance:
        """The tolerance of the outputs of an export at ``opset``; with ``strict_ulp`` at most that many ULP.

        A ``target`` with transforms may compute in a lower precision, and is then held to what that allows.
        """
        if target is not None and target.transforms:
            lower = self._memo.get(f"tolerance of {target.export}", lambda: self._tolerance_in_lower_precision(target))
            if lower is not None:
                return lower if self._strict_ulp is None else strict_ulp(lower, self._strict_ulp)
        if opset not in self._tolerances:
            tolerance = tolerance_of(self.case, opset)
            self._tolerances[opset] = tolerance if self._strict_ulp is None else strict_ulp(tolerance, self._strict_ulp)
        tolerance = self._tolerances[opset]
        return tolerance if target is None else with_functions(tolerance, self.artifact(target))

    def _tolerance_in_lower_precision(self, target: Target) -> Tolerance | None:
        named, samples = self.case.tolerance, lower_precision.calibration_inputs(self.case)
        return lower_precision.tolerance_in_lower_precision(
            target, self.artifact, self.references, named, samples, self.references_in
        )

    def quantized_weights(self, target: Target) -> lower_precision.ComparedWeights:
        """See :class:`harness.check.case_context.CaseContext`."""
        return lower_precision.weights_of_transform(target, self.artifact)

    def with_weights(self, result: Result, _target: Target) -> Result:
        """``result``: the file was exported from the reference."""
        return result

    def reference_inside(
        self, reference: Reference, store: ValueStore, precision: str | None, _target: Target
    ) -> ReferenceInside:
        """The calls of the module's layers."""
        tensors = list(tensors_of(reference.inputs).values())
        return TorchReference(self.subject.module, tensors, self.case.seed, store, precision)

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

    def exported_from(self, target: Target, inputs: Mapping[str, Array], folder: Path) -> Artifact:
        """The module exported for ``target`` into ``folder`` with ``inputs`` as its example. Nothing is printed."""
        exporter = plugins("exporters")[target.exporter]
        subject = replace(
            self.subject, inputs=tensors_of(inputs), eager_outputs=None, first_call=None, may_drop_inputs=True
        )
        with self._silence():
            artifact: Artifact = exporter.export(
                subject,
                folder / f"model{SUFFIXES[exporter.makes]}",
                opset=target.opset,
                fixes=target.fixes,
                **target.export_options,
            )
        return artifact

    def further_inputs(self, kinds: Collection[OtherKind]) -> Iterator[OtherInputs]:
        """Inputs that a model may treat in another way, as far as eager torch takes them."""
        return self._further.of(kinds)

    def at_open_axes(self, axes: Mapping[str, Collection[int]]) -> Iterator[OtherInputs]:
        """Inputs of other sizes that a file has to take which declares ``axes`` open, by label."""
        return self._further.at_open_axes(axes)

    @property
    def thresholds(self) -> Sequence[Threshold]:
        """The numbers that eager torch compares its values with at the first inputs."""
        return self._memo.get("thresholds", lambda: self._further.thresholds)

    def answered(self, name: str, inputs: Mapping[str, Array]) -> Iterator[OtherInputs]:
        """Eager torch's answer to inputs that reach a threshold of a file; none if it refuses them."""
        return self._further.answered(name, inputs, "thresholds")

    def eager_answer(self, inputs: Mapping[str, Array], before: Sequence[Mapping[str, Array]] = ()) -> Any:
        """Eager torch's answer to ``inputs`` after calls with ``before``; None if it refuses them."""
        answers = self._quietly(self._further.eager_answers, [*before, inputs])
        return None if answers is None else answers[-1]

    @property
    def _further(self) -> FurtherInputs:
        return FurtherInputs(self.case, self.subject, self.references, self._memo, self._quietly)

    def _quietly(self, compute: Callable[..., T], *arguments: Any) -> T | None:
        """What ``compute`` returns; None if the code under test raises."""
        try:
            with self._silence():
                return compute(*arguments)
        except BaseException as error:
            if not is_from_code_under_test(error):
                raise
            return None

    @contextmanager
    def _silence(self) -> Iterator[None]:
        """Nothing that is printed or warned of inside the block is part of a check's log."""
        with self._capture.capturing(), warnings.catch_warnings(record=True):
            yield

    def refusal(self, result: Result, clock: Clock) -> Refusal:
        """How eager torch answers a case that it should refuse. ``result`` is the result so far."""
        refusal = eager_refusal(self.case, self.artifact, result, clock)
        return replace(refusal, export_control=self.export_control)

    def export_control(self, target: Target) -> Artifact:
        """The control model exported for ``target``. What is printed meanwhile is not part of this case."""
        with self._capture.capturing():
            return PreparedCase(CONTROL_CASE, self._artifacts.without_counting()).artifact(target)

    def _export(self, target: Target, subject: Subject) -> Artifact:
        if target.transforms:
            source = self.artifact(target.untransformed, subject)
            samples = [*(each.inputs for each in self.references), *lower_precision.calibration_inputs(self.case)]
            return self._artifacts.get(
                self.case, target, f".{target.makes}", lambda path: transformed(source, path, target, samples)
            )
        exporter = plugins("exporters")[target.exporter]
        opsets = exporter.opsets()
        if target.opset is not None and target.opset not in opsets:
            raise Unsupported(f"{target.exporter} takes opsets {opsets.start} to {opsets.stop - 1}, not {target.opset}")
        options = {"opset": target.opset, "fixes": target.fixes, **target.export_options}
        write: Callable[[Path], Artifact] = partial(exporter.export, subject, **options)
        return self._artifacts.get(self.case, target, SUFFIXES[exporter.makes], write)
