"""The checks of a file under test: its artifact, and the reference's answers as the file would give them.

The references that a check sees have the file's own names, dtypes and layouts. So the file is loaded, run, timed and
blamed like an export of the reference's module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from harness.check.cache.artifacts import ArtifactCache
from harness.check.cache.memo import Capture, Memo, NullCapture
from harness.check.case_context import Refusal
from harness.check.files.half_precision import MixedPrecision, mixed_precision
from harness.check.files.matching import (
    MatchedInputs,
    MatchedOutputs,
    NamedInput,
    match_inputs,
    match_outputs,
    reordered,
)
from harness.check.files.reference import ReferenceAnswers
from harness.check.files.signatures import FileSignature, called_with, floating_of, read_file_signature
from harness.check.files.swapped_weights import with_differing_weights
from harness.check.files.weights import float_weights_of, paired_weights
from harness.check.judging.example_values import OtherInputs, OtherKind
from harness.check.judging.judge import Expected, Judge, for_expressions
from harness.check.judging.lower_precision import (
    ComparedWeights,
    calibration_inputs,
    reference_for,
    reference_precision,
    tolerance_in_lower_precision,
    weights_of_file,
    weights_of_transform,
)
from harness.check.recorded.own_rounding import with_functions
from harness.check.recorded.protobufs import file_artifact
from harness.check.stages import Clock
from harness.data_files.onnx_files import nodes_in_training
from harness.exporters import Artifact
from harness.inside.calls import NotVisible, ReferenceInside, ValueStore
from harness.latency.sampling import Call
from harness.model.answer import Reference, Step
from harness.result import Finding, Result
from harness.spec.language.case import Case, TensorSpec
from harness.spec.language.inputs.fills import dtype_of
from harness.spec.language.inputs.structure import Structure
from harness.spec.language.tolerances import Calibrated, Tolerance
from harness.spec.targets import Target
from harness.transforms._apply import filename_of, transformed

Array = NDArray[Any]
RANDOM_WEIGHTS = "the callable draws its own random weights; pass --weights FILE (in a spec, `weights:`)"


class ReferenceForModel:
    """The reference's answers as a model under test would give them: with its names, dtypes and layouts."""

    def __init__(
        self,
        model: str,
        signature: Callable[[], FileSignature],
        reference: ReferenceAnswers,
        case: Case,
    ) -> None:
        """``model`` is what messages call the model under test, which has the ``signature``."""
        self._model, self._signature, self._reference = model, signature, reference
        self._named_tolerance = case.tolerance
        self._given = [NamedInput(each.label, dtype_of(each.dtype), tuple(each.shape)) for each in case.inputs]

    @property
    def example_inputs(self) -> Mapping[str, Array]:
        """The first set of inputs, as the model takes them. The reference is not run for it."""
        return self._inputs.applied_to(self._reference.example_inputs)

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """The reference's answers with the model's inputs, and outputs under the model's names.

        They hold a run in 16 bits where the model computes in them and the reference does not. Raises
        :class:`InputsDoNotFit` for all inputs that do not fit the model, before the reference is run and refuses one.
        """
        _ = self._inputs
        return self.references_in(None if self.mixed.wide else self.mixed.precision)

    def references_in(self, precision: str | None) -> tuple[Reference, ...]:
        """:attr:`references` with a run of the reference in ``precision``."""
        return tuple(self.mixed.adapted(self._renamed(each)) for each in self._reference.references_in(precision))

    def sample_reference(self, inputs: tuple[TensorSpec, ...], at: str, precision: str | None) -> Reference:
        """See :class:`harness.check.case_context.CaseContext`."""
        precision = precision or (None if self.mixed.wide else self.mixed.precision)
        return self.mixed.adapted(self._renamed(self._reference.sample_reference(inputs, at, precision)))

    @cached_property
    def mixed(self) -> MixedPrecision:
        """Where the model and the reference compute in different floating dtypes."""
        reference = self._reference
        floating = getattr(reference, "signature", None) or getattr(reference, "subject", None)
        if floating is not None:
            floating = floating.floating if isinstance(floating, FileSignature) else floating_of(floating.module)
        of_reference = None if floating is None else floating.name
        answer = reference.references[0].eager
        return mixed_precision(self._signature(), self._outputs, answer, of_reference, self._model)

    @cached_property
    def expected(self) -> Expected:
        """The spec's ``expect``, with outputs under the model's names."""
        expected, outputs = self._reference.expected, self._outputs
        inputs = {label: for_expressions(values) for label, values in self._reference.example_inputs.items()}
        return replace(
            expected,
            names={**expected.names, **inputs},
            outputs=None if expected.outputs is None else outputs.renamed(expected.outputs),
            equals=None if expected.equals is None else outputs.renamed(expected.equals),
            differs_from=None if expected.differs_from is None else outputs.renamed(expected.differs_from),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """How inputs and outputs were matched, and what the reference has to tell."""
        notes = (*getattr(self._reference, "notes", ()), *self._inputs.notes, *self._outputs.notes, *self.mixed.notes)
        return tuple(dict.fromkeys(notes))

    def tolerance(self, opset: int | None) -> Tolerance:
        """The tolerance of the outputs, in the model's order."""
        tolerance = self._reference.tolerance(opset)
        if tolerance.by_output:
            order = self._outputs.order(list(self._reference.references[0].eager))
            by_output = {at: tolerance.by_output[own] for at, own in enumerate(order) if own in tolerance.by_output}
            tolerance = Tolerance(tolerance.rule, by_output)
        if self.mixed.precision is not None and self._named_tolerance.rule is None:
            # A layer's own rules do not hold in a lower precision, those that the spec names for single outputs do.
            tolerance = Tolerance(Calibrated(), tolerance.by_output if self._named_tolerance.by_output else {})
        return self.mixed.tolerance(tolerance)

    @cached_property
    def _inputs(self) -> MatchedInputs:
        """How the case's inputs reach the model. The reference is not built for it."""
        return match_inputs(self._given, self._signature(), self._model)

    @cached_property
    def _outputs(self) -> MatchedOutputs:
        reference = list(self._reference.references[0].eager)
        declared = self._signature().outputs
        names = None if declared is None else [each.name for each in declared]
        paths = getattr(getattr(self._reference, "subject", None), "output_paths", ())
        return match_outputs(names, reference, self._model, paths)

    def reference_inside(
        self, reference: Reference, store: ValueStore, precision: str | None, target: Target
    ) -> ReferenceInside:
        """The inside of the reference, with its own names. Raises :class:`NotVisible` for one of the samples."""
        pairs = zip(self.references, self._reference.references, strict=True)
        same = (own for renamed, own in pairs if renamed.at == reference.at or renamed.inputs is reference.inputs)
        own = next(same, None)
        if own is None:
            raise NotVisible(f"the layers of a file are compared at the case's own inputs only, not at {reference.at}")
        return self._reference.reference_inside(own, store, precision, target)

    def _renamed(self, whole: Reference) -> Reference:
        outputs = self._outputs
        order = outputs.order(list(whole.eager))
        return replace(
            whole,
            inputs=self._inputs.applied_to(whole.inputs),
            eager=outputs.renamed(whole.eager),
            float64=None if whole.float64 is None else outputs.renamed(whole.float64),
            second_call=None if whole.second_call is None else outputs.renamed(whole.second_call),
            after_others=None if whole.after_others is None else outputs.renamed(whole.after_others),
            lower=None if whole.lower is None else outputs.renamed(whole.lower),
            magnitudes=reordered(whole.magnitudes, order),
            undefined=reordered(whole.undefined, order),
            step=None if whole.step is None else self._renamed_step(whole.step),
        )

    def _renamed_step(self, step: Step) -> Step:
        outputs = {own: name for name, own in self._outputs.reference.items()}
        inputs = {each.label: each.name for each in self._inputs.bindings}
        return replace(
            step,
            loop={outputs[own]: inputs[label] for own, label in step.loop.items() if own in outputs},
            float64=None if step.float64 is None else self._outputs.renamed(step.float64),
            lower=None if step.lower is None else self._outputs.renamed(step.lower),
        )


class TestedFile(ReferenceForModel):
    """A :class:`harness.check.case_context.CaseContext` of one file under test, in the file's own names."""

    __test__ = False  # no test of pytest's

    def __init__(
        self,
        case: Case,
        name: str,
        reference: ReferenceAnswers,
        artifacts: ArtifactCache,
        capture: Capture | None = None,
        on_size: Callable[[int], None] = lambda _size: None,
    ) -> None:
        """``name`` is that of the file in the spec. ``on_size`` is called with its size in bytes, before it is read."""
        self.case, self.file = case, case.files[name]
        super().__init__(Path(self.file.path).name, lambda: self.signature, reference, case)
        self._on_size, self._artifacts = on_size, artifacts
        self._memo = Memo(capture or NullCapture())
        self.judge = Judge(self._memo)

    @property
    def signature(self) -> FileSignature:
        """What the file declares, with a tensor for each one in a nested input."""
        return self._called[0]

    @cached_property
    def _called(self) -> tuple[FileSignature, Structure | None]:
        return called_with(read_file_signature(self.file), self.case.trees)

    @property
    def eager_findings(self) -> Sequence[Finding]:
        """The findings about the reference."""
        return self._reference.eager_findings

    def artifact(self, target: Target) -> Artifact:
        """The file after the target's transforms, with notes on how it was matched."""
        return replace(self.plain_artifact_for(target), notes=self.notes)

    def plain_artifact_for(self, target: Target) -> Artifact:
        """The file after the target's transforms, without notes."""
        if not target.transforms:
            return self.plain_artifact
        return self._memo.get(target.export, lambda: self._transformed(target))

    def _transformed(self, target: Target) -> Artifact:
        samples = [*(each.inputs for each in self.references), *self._samples]
        name = hashlib.sha256(f"{self.plain_artifact.digest} {target.export}".encode()).hexdigest()
        return self._artifacts.write_uncached(
            name, filename_of(target), lambda path: transformed(self.plain_artifact, path, target, samples)
        )

    @cached_property
    def plain_artifact(self) -> Artifact:
        """The file itself, without notes: the reference is not run for it."""
        return replace(file_artifact(self.file, self._on_size), structure=self._called[1])

    def references_for(self, target: Target) -> Sequence[Reference]:
        """The reference's answers, with those of a run in the precision of the target's transforms if that is lower."""
        references: Sequence[Reference] = self.references
        if not target.transforms:
            return references
        precision = reference_precision(target)
        if precision is not None and precision != self.mixed.precision:
            references = self._memo.get(f"references in {precision}", lambda: self.references_in(precision))
        return [reference_for(target, each) for each in references]

    def tolerance(self, opset: int | None, target: Target | None = None) -> Tolerance:
        """The tolerance of the outputs, in the file's order; of a transformed file, what its precision allows."""
        if target is not None and target.transforms:
            lower = self._memo.get(f"tolerance of {target.export}", lambda: self._tolerance_in_lower_precision(target))
            if lower is not None:
                return lower
        return with_functions(super().tolerance(opset), self.plain_artifact)

    def _tolerance_in_lower_precision(self, target: Target) -> Tolerance | None:
        references, named = self.references, self.case.tolerance
        artifact, samples = self.plain_artifact_for, self._samples
        return tolerance_in_lower_precision(target, artifact, references, named, samples, self.references_in)

    def quantized_weights(self, target: Target) -> ComparedWeights:
        """The weights that a transform of ``target`` quantized; of a file that is quantized itself, its own."""
        if target.transforms:
            return weights_of_transform(target, self.plain_artifact_for)
        return weights_of_file(self.file, lambda: float_weights_of(self._reference))

    def with_weights(self, result: Result, target: Target) -> Result:
        """See :class:`harness.check.case_context.CaseContext`."""
        paired = partial(self._memo.get, "weights", lambda: paired_weights(self.file, self._reference))
        return with_differing_weights(result, self, target, paired, self._inputs.applied_to)

    @property
    def _samples(self) -> list[Mapping[str, Array]]:
        """Inputs for a quantizer, as the file takes them."""
        return [self._inputs.applied_to(each) for each in calibration_inputs(self.case)]

    @property
    def training(self) -> str | None:
        """What to say first, if the reference is in training mode and that changes its answers."""
        return getattr(self._reference, "training", None)

    def exported_in_training(self, _target: Target) -> tuple[str, Sequence[str]]:
        """The file's name, and its operators that compute as in training; none if the case asks for that mode."""
        is_asked_for = self.case.mode == "train" or self.file.format != "onnx"
        file = Path(self.file.path)
        return file.name, () if is_asked_for else nodes_in_training(file)

    @property
    def unfit_reference(self) -> str | None:
        """Why the reference cannot be the model that the file was made of: its weights are drawn anew each time."""
        return RANDOM_WEIGHTS if getattr(self._reference, "random_weights", False) else None

    def exported_from(self, target: Target, inputs: Mapping[str, Array], folder: Path) -> None:
        """None: the file was exported by somebody else."""

    def further_inputs(self, kinds: Collection[OtherKind]) -> Iterator[OtherInputs]:
        """Inputs that are alike, and those at which the module that the file is compared with reaches thresholds.

        None for another reference.
        What a file keeps of its example inputs shows at further draws alone. None for a file that computes in a lower
        precision or rounds to steps: it may leave its range there.
        """
        from harness.blame.disagreement import quantizes

        further = getattr(self._reference, "further_inputs", None)
        if (
            further is None
            or self.mixed.precision is not None
            or (self.file.format == "onnx" and quantizes(Path(self.file.path)))
        ):
            return
        for each in further({"thresholds", "alike"} & set(kinds)):
            inputs = self._inputs.applied_to(each.inputs)
            eager = self._outputs.renamed(each.eager)
            after = None if each.first_after is None else self._outputs.renamed(each.first_after)
            yield OtherInputs(each.name, inputs, eager, partial(self._reference_at, each), each.kind, after)

    def _reference_at(self, other: OtherInputs) -> Reference | None:
        whole = other.reference()
        return None if whole is None else self.mixed.adapted(self._renamed(whole))

    def eager_answer(self, inputs: Mapping[str, Array], before: Sequence[Mapping[str, Array]] = ()) -> None:
        """None: the inputs are those of the file."""

    def eager_call(self) -> Call | None:
        """A call of the reference, for timing."""
        return self._reference.eager_call()

    def refusal(self, result: Result, clock: Clock) -> Refusal:
        """Never called: ``expect.raises`` is refused for a case with files."""
        raise NotImplementedError
