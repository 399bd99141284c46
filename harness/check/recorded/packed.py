"""Check a case of a bundle: its reference answers are read, so that torch is not needed.

The check itself is the one that runs where the case was packed, from loading the artifact to the blame.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from harness.check.cache.memo import Capture, Memo, NullCapture
from harness.check.case_context import Refusal
from harness.check.check import check
from harness.check.judging.example_values import NEED_NO_PROOF, OtherInputs, OtherKind
from harness.check.judging.judge import Expected, Judge
from harness.check.judging.lower_precision import ComparedWeights, reference_for
from harness.check.recorded.packed_layers import NONE_PACKED, PackedInside
from harness.check.recorded.protobufs import external_data_files, read_tensor
from harness.check.refusal import control_onnx_artifact
from harness.check.results import initial_result
from harness.check.settings import Settings
from harness.check.stages import Clock
from harness.compare.rules import strict_ulp
from harness.errors import Location, Problem, SpecError, StageError
from harness.exporters import Artifact
from harness.inside.calls import NotVisible, ReferenceInside, ValueStore
from harness.model.answer import Reference, Sample, Step, with_flips
from harness.result import QUANTIZED_WEIGHTS, Finding, Result, result_from_json
from harness.spec.bundle.entries import PackedModel, RoundEntry, StepEntry
from harness.spec.language.case import Case, TensorSpec
from harness.spec.language.inputs.fills import array
from harness.spec.language.inputs.tensors import with_layout
from harness.spec.language.tolerances import Tolerance
from harness.spec.targets import Target

Array = NDArray[Any]

RESULT_FROM_PACKING = "this is the result of the machine that packed the case: the bundle has no file of this export"


class PackedCase:
    """A :class:`harness.check.case_context.CaseContext` from a bundle. What its checks share is read once."""

    def __init__(
        self,
        case: Case,
        strict_ulp: int | None = None,
        capture: Capture | None = None,
        on_size: Callable[[int], None] = lambda _size: None,
    ) -> None:
        """``on_size`` is called with the size of an export's files in bytes, before they are read."""
        assert isinstance(case.model.model, PackedModel)
        self.case = case
        self.entry = case.model.model.entry
        self._folder = Path(case.model.model.path)
        self._strict_ulp, self._on_size = strict_ulp, on_size
        self.judge = Judge(Memo(capture or NullCapture()))

    @cached_property
    def references(self) -> Sequence[Reference]:
        """The recorded reference answers at each set of shapes."""
        return with_flips([self._reference(entry) for entry in self.entry.rounds])

    @cached_property
    def expected(self) -> Expected:
        """The spec's ``expect``, as arrays."""
        entry = self.entry.expect
        names = {name: _with_tuples(value) for name, value in entry.names.items()}
        return Expected(
            first=self.case.inputs[0].label if self.case.inputs else None,
            outputs=self._arrays(entry.outputs),
            shape=None if entry.shape is None else tuple(map(tuple, entry.shape)),
            range=None if entry.range is None else (entry.range[0], entry.range[1]),
            formula=entry.formula,
            gradient=entry.gradient,
            gradient_range=None if entry.gradient_range is None else (entry.gradient_range[0], entry.gradient_range[1]),
            equals=self._arrays(entry.equals),
            differs_from=self._arrays(entry.differs_from),
            names={**names, **(self._arrays(entry.arrays) or {})},
        )

    @property
    def eager_findings(self) -> Sequence[Finding]:
        """The findings about eager torch from the machine that packed the case."""
        return () if self.entry.findings is None else result_from_json(self.entry.findings).findings

    def artifact(self, target: Target) -> Artifact:
        """The packed file of the target's export."""
        entry = self.entry.exports[target.export]
        path = self._folder / entry.path
        self._on_size(sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file()))
        remarks = tuple(entry.notes), tuple(entry.tracer_warnings)
        return Artifact(entry.format, path, entry.digest, entry.opset, entry.checker, *remarks)

    @property
    def training(self) -> str | None:
        """What was said first when the case was packed."""
        return self.entry.training

    def exported_in_training(self, target: Target) -> tuple[str, Sequence[str]]:
        """See :class:`harness.check.case_context.CaseContext`."""
        return "the model", self.entry.exports[target.export].in_training

    def sample_reference(self, inputs: tuple[TensorSpec, ...], at: str, precision: str | None) -> Reference:
        """Never called: a bundle holds no samples that are run one by one."""
        raise NotImplementedError

    @property
    def unfit_reference(self) -> None:
        """None: the answers are those of the module that was exported."""

    def exported_from(self, _target: Target, _inputs: Mapping[str, Array], _folder: Path) -> None:
        """None: a bundle holds no module."""

    def further_inputs(self, kinds: Collection[OtherKind]) -> Iterator[OtherInputs]:
        """Those that need no proof, which were packed. The others prove something only with the module."""
        return map(self._further, self.entry.further if NEED_NO_PROOF & set(kinds) else ())

    def _further(self, entry: RoundEntry) -> OtherInputs:
        whole = self._reference(entry)
        reference = replace(whole, after_others=None)
        name, after = entry.at or "", whole.after_others
        return OtherInputs(name, whole.inputs, whole.eager, lambda: reference, "thresholds", after)

    def eager_answer(self, _inputs: Mapping[str, Array], _before: Sequence[Mapping[str, Array]] = ()) -> None:
        """None: a bundle holds no module."""

    def references_for(self, target: Target) -> Sequence[Reference]:
        """The packed answers; what a lower precision allows was computed when the case was packed."""
        return [reference_for(target, each) for each in self.references]

    def tolerance(self, opset: int | None, target: Target | None = None) -> Tolerance:
        """The tolerance of the outputs of the export for ``target``, or of one at ``opset``."""
        exports = self.entry.exports
        entry = exports.get(target.export) if target is not None else None
        entry = entry or next(each for each in exports.values() if each.opset == opset)
        tolerance = entry.tolerance.tolerance()
        return tolerance if self._strict_ulp is None else strict_ulp(tolerance, self._strict_ulp)

    def quantized_weights(self, target: Target) -> ComparedWeights:
        """What was wrong with them when the case was packed: a bundle does not hold the float file."""
        entry = self.entry.exports.get(target.export)
        if entry is None or entry.wrong_weights is None:
            return ComparedWeights()
        return ComparedWeights((Finding(QUANTIZED_WEIGHTS, False, entry.wrong_weights),))

    def with_weights(self, result: Result, _target: Target) -> Result:
        """``result``: the file was exported from the reference."""
        return result

    def reference_inside(
        self, reference: Reference, store: ValueStore, _precision: str | None, target: Target
    ) -> ReferenceInside:
        """The packed layers. Raises :class:`NotVisible` if the bundle has none."""
        layers = self.entry.exports[target.export].layers
        if not layers:
            raise NotVisible(NONE_PACKED)
        pairs = zip(self.references_for(target), layers, strict=True)
        path = next((path for own, path in pairs if own.at == reference.at or own.inputs is reference.inputs), None)
        if path is None:
            raise NotVisible(f"the bundle has the layers at the case's own inputs only, not at {reference.at}")
        return PackedInside(self._folder, path, store)

    def eager_call(self) -> None:
        """None: there is no torch to time."""

    def refusal(self, result: Result, clock: Clock) -> Refusal:
        """How eager torch answered on the machine that packed the case. ``result`` is the result so far."""
        with clock.stage("build"):
            inputs = self.references[0].inputs
        result = replace(result, findings=tuple(self.eager_findings))
        # Without an exporter the control is written by hand, which is possible for ONNX only.
        onnx = all(entry.format == "onnx" for entry in self.entry.exports.values())
        export_control = (lambda target: control_onnx_artifact(self.artifact(target).opset)) if onnx else None
        return Refusal(result, inputs, self.artifact, export_control)

    def _reference(self, entry: RoundEntry) -> Reference:
        sample = entry.sample
        return Reference(
            inputs=self._inputs(entry),
            eager=self._arrays(entry.eager) or {},
            float64=self._arrays(entry.float64_reference),
            magnitudes=[self._array(path) for path in entry.magnitudes],
            undefined=[self._array(path) for path in entry.undefined],
            stochastic=entry.stochastic,
            at=entry.at,
            repeats_shapes=entry.repeats_shapes,
            computes_in=entry.computes_in,
            second_call=self._arrays(entry.second_call),
            after_others=self._arrays(entry.after_others),
            undecidable=entry.undecidable,
            paths=entry.paths,
            sample=None if sample is None else Sample(sample.every, tuple(map(tuple, sample.shapes))),
            step=None if entry.step is None else self._step(entry.step),
        )

    def _step(self, entry: StepEntry) -> Step:
        return Step(entry.number, entry.of, entry.loop, self._arrays(entry.float64))

    def _inputs(self, entry: RoundEntry) -> dict[str, Array]:
        """Eager torch's inputs in their memory layouts. Inputs that are not recorded are drawn again."""
        recorded = self._arrays(entry.inputs) or {}
        return {
            spec.label: with_layout(array(spec) if entry.sample else recorded[spec.label], spec.layout)
            for spec in self.case.inputs
        }

    def _arrays(self, paths: Mapping[str, str] | None) -> dict[str, Array] | None:
        return None if paths is None else {name: read_tensor(self._folder / path) for name, path in paths.items()}

    def _array(self, path: str | None) -> Array | None:
        return None if path is None else read_tensor(self._folder / path)


def check_packed(prepared: PackedCase, target: Target, settings: Settings, clock: Clock) -> Result:
    """The result of the packed case on ``target``; the result from packing if the export was not packed."""
    not_packed = prepared.entry.not_packed.get(target.export)
    if not_packed is None:
        return check(prepared, target, settings, clock)
    result = initial_result(prepared.case, target, clock)
    if result.status == "skipped":
        return result
    packed = result_from_json(not_packed)
    notes = (*packed.notes, RESULT_FROM_PACKING)
    return replace(packed, case=prepared.case.id, target=str(target), where=result.where, notes=notes)


def check_external_data(cases: Iterable[Case]) -> None:
    """Raise :class:`SpecError` for a packed ONNX file that has data outside its folder. Called before anything runs."""
    for case in cases:
        model = case.model.model
        assert isinstance(model, PackedModel)
        exports = (export for entry in model.entry.at_every_shape() for export in entry.exports.values())
        for export in exports:
            path = Path(model.path) / export.path
            try:
                if export.format == "onnx":
                    external_data_files(path)
            except StageError as error:
                problem, _, advice = str(error).rpartition("; ")
                raise SpecError([Problem(Location(str(path)), problem, advice)]) from error


def _with_tuples(value: Any) -> Any:
    """``value`` with tuples in place of lists: JSON has no tuples, torch takes no lists."""
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
