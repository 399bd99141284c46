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
from harness.check.files.drawing import LostInput, lost_input, with_lost_input
from harness.check.files.reference import ReferenceAnswers
from harness.check.files.renamed_reference import ReferenceForModel
from harness.check.files.signatures import FileSignature, called_with, read_file_signature
from harness.check.files.swapped_weights import with_differing_weights
from harness.check.files.weights import float_weights_of, paired_weights
from harness.check.judging.example_values import OtherInputs, OtherKind
from harness.check.judging.judge import Judge
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
from harness.latency.sampling import Call
from harness.model.answer import Reference
from harness.result import Finding, Result
from harness.spec.language.case import Case, StoredModel
from harness.spec.language.inputs.structure import Structure
from harness.spec.language.tolerances import Tolerance
from harness.spec.targets import Target
from harness.transforms._apply import filename_of, transformed

Array = NDArray[Any]
QUANTIZED = (
    "the file is quantized, so it differs by its steps; say how much is allowed, such as --tolerance '{sqnr: 30}' (in "
    "a spec, `tolerance: {sqnr: 30}`)"
)
RANDOM_WEIGHTS = "the callable draws its own random weights; pass --weights FILE (in a spec, `weights:`)"


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
        asked = self.unfit_reference is None and (result.status == "failed" or self.case.draws > 1)
        if asked and (lost := self._memo.get("lost input", self._lost_input)) is not None:
            return with_lost_input(result, lost, self._model)
        paired = partial(self._memo.get, "weights", lambda: paired_weights(self.file, self._reference))
        return with_differing_weights(result, self, target, paired, self._inputs.applied_to)

    def _lost_input(self) -> LostInput | None:
        return lost_input(self._inputs.dropped, self._reference, self._as_the_model_gives, self.tolerance(None))

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
        """Why nobody is blamed for a difference: the reference's weights are drawn anew, or the file is quantized."""
        if getattr(self._reference, "random_weights", False):
            return RANDOM_WEIGHTS
        reference = getattr(self._reference, "file", None)
        named = self.case.tolerance.rule is not None or self.case.tolerance.by_output
        return QUANTIZED if not named and _is_quantized(self.file) and not _is_quantized(reference) else None

    def exported_from(self, target: Target, inputs: Mapping[str, Array], folder: Path) -> None:
        """None: the file was exported by somebody else."""

    def further_inputs(self, kinds: Collection[OtherKind]) -> Iterator[OtherInputs]:
        """See :mod:`harness.check.files.further_inputs`.

        No thresholds for a file in a lower precision: it may leave its range there.
        """
        from harness.check.files.further_inputs import FileFurtherInputs

        kinds = set(kinds) - ({"thresholds"} if self.mixed.precision is not None else set())
        further = FileFurtherInputs(self.file, self.signature, self._inputs, self._reference)
        for each in self._memo.get(f"further inputs {sorted(kinds)}", lambda: list(further.of(kinds))):
            inputs = self._inputs.applied_to(each.inputs)
            eager = self._outputs.renamed(each.eager)
            after = None if each.first_after is None else self._outputs.renamed(each.first_after)
            reference = partial(self._reference_at, each)
            must_run = each.must_run and self.file.format in {"onnx", "ort"}  # a program has ranges of sizes
            yield OtherInputs(each.name, inputs, eager, reference, each.kind, after, must_run)

    def _reference_at(self, other: OtherInputs) -> Reference | None:
        whole = other.reference()
        return None if whole is None else self._as_the_model_gives(whole)

    def eager_answer(self, inputs: Mapping[str, Array], before: Sequence[Mapping[str, Array]] = ()) -> None:
        """None: the inputs are those of the file."""

    def eager_call(self) -> Call | None:
        """A call of the reference, for timing."""
        return self._reference.eager_call()

    def refusal(self, result: Result, clock: Clock) -> Refusal:
        """Never called: ``expect.raises`` is refused for a case with files."""
        raise NotImplementedError


def _is_quantized(file: StoredModel | None) -> bool:
    """True for an ONNX file that rounds to steps."""
    from harness.blame.disagreement import quantizes

    return file is not None and file.format == "onnx" and quantizes(Path(file.path))
