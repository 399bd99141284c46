"""A case of a bundle, read: what was recorded stands for torch, and every check is as it was where it was packed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from harness.check.case_context import Judge, Refusal
from harness.check.check import check
from harness.check.expectations import Expected
from harness.check.memo import Capture, Memo, NullCapture
from harness.check.recorded.protobufs import companions, read_tensor
from harness.check.refusal import written_by_hand
from harness.check.settings import Settings
from harness.check.stages import Clock
from harness.check.steps import begun
from harness.compare.rules import strict_ulp
from harness.errors import Location, Problem, SpecError, StageError
from harness.exporters import Artifact
from harness.model.answer import Reference, Sample
from harness.result import Finding, Result, result_from_json
from harness.spec.bundle.entries import RoundEntry
from harness.spec.language.case import Case, PackedModel
from harness.spec.language.fills import array
from harness.spec.language.tensors import laid_out
from harness.spec.language.tolerances import Tolerance
from harness.spec.targets import Target

Array = NDArray[Any]

FROM_THE_HOST = "told by the machine that packed it: there is no file of this export to run here"


class PackedCase:
    """A :class:`harness.check.case_context.CaseContext` from a bundle; what its checks share is read once."""

    def __init__(
        self,
        case: Case,
        strict: int | None = None,
        capture: Capture | None = None,
        sized: Callable[[int], None] = lambda _size: None,
    ) -> None:
        """``sized`` is told how many bytes the files of an export take, before they are read."""
        assert isinstance(case.model.model, PackedModel)
        self.case = case
        self.entry = case.model.model.entry
        self._folder = Path(case.model.model.folder)
        self._strict, self._sized = strict, sized
        self.judge = Judge(Memo(capture or NullCapture()))

    @cached_property
    def references(self) -> Sequence[Reference]:
        """The recorded answers, at each set of shapes."""
        return tuple(self._reference(each) for each in self.entry.rounds)

    @cached_property
    def expected(self) -> Expected:
        """What the spec says must hold."""
        told = self.entry.expect
        return Expected(
            first=self.case.inputs[0].label if self.case.inputs else None,
            outputs=self._arrays(told.outputs),
            shape=None if told.shape is None else tuple(map(tuple, told.shape)),
            range=None if told.range is None else (told.range[0], told.range[1]),
            formula=told.formula,
            gradient=told.gradient,
            gradient_range=None if told.gradient_range is None else (told.gradient_range[0], told.gradient_range[1]),
            equals=self._arrays(told.equals),
            differs_from=self._arrays(told.differs_from),
            names={**{name: _sized(value) for name, value in told.names.items()}, **(self._arrays(told.arrays) or {})},
        )

    @property
    def about_eager(self) -> Sequence[Finding]:
        """What was found about eager torch where the case was packed."""
        return () if self.entry.findings is None else result_from_json(self.entry.findings).findings

    def artifact(self, target: Target) -> Artifact:
        """The packed file of the target's export."""
        told = self.entry.exports[target.export]
        path = self._folder / told.path
        self._sized(sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file()))
        return Artifact(told.format, path, told.digest, told.opset, told.checker, tuple(told.notes))

    def tolerance(self, opset: int | None) -> Tolerance:
        """What the outputs of an export of ``opset`` are held to."""
        own = next(each.tolerance for each in self.entry.exports.values() if each.opset == opset).tolerance()
        return own if self._strict is None else strict_ulp(own, self._strict)

    def eager(self) -> None:
        """There is no torch to ask."""

    def refusal(self, blank: Result, clock: Clock) -> Refusal:
        """What eager torch said where the case was packed."""
        with clock.stage("build"):
            inputs = self.references[0].inputs
        told = replace(blank, findings=tuple(self.about_eager))
        # There is no exporter to ask, and nothing writes TorchScript by hand.
        onnx = all(each.format == "onnx" for each in self.entry.exports.values())
        control = (lambda target: written_by_hand(self.artifact(target))) if onnx else None
        return Refusal(told, inputs, self.artifact, control)

    def _reference(self, told: RoundEntry) -> Reference:
        sample = told.sample
        return Reference(
            inputs=self._inputs(told),
            eager=self._arrays(told.eager) or {},
            float64=self._arrays(told.oracle),
            magnitudes=[self._array(path) for path in told.magnitudes],
            undefined=[self._array(path) for path in told.undefined],
            stochastic=told.stochastic,
            at=told.at,
            sample=None if sample is None else Sample(sample.every, tuple(map(tuple, sample.shapes))),
        )

    def _inputs(self, told: RoundEntry) -> dict[str, Array]:
        """The inputs as eager torch was given them, in their layouts; drawn anew where they are not recorded."""
        recorded = self._arrays(told.inputs) or {}
        return {
            spec.label: laid_out(array(spec) if told.sample else recorded[spec.label], spec.layout)
            for spec in self.case.inputs
        }

    def _arrays(self, paths: Mapping[str, str] | None) -> dict[str, Array] | None:
        return None if paths is None else {name: read_tensor(self._folder / path) for name, path in paths.items()}

    def _array(self, path: str | None) -> Array | None:
        return None if path is None else read_tensor(self._folder / path)


def check_packed(prepared: PackedCase, target: Target, settings: Settings, clock: Clock) -> Result:
    """Take the packed case to ``target``; where there is no file of its export, it is as it was when it was packed."""
    told = prepared.entry.not_packed.get(target.export)
    if told is None:
        return check(prepared, target, settings, clock)
    blank = begun(prepared.case, target, clock)
    if blank.status == "skipped":
        return blank
    row = result_from_json(told)
    return replace(row, case=prepared.case.id, target=str(target), where=blank.where, notes=(*row.notes, FROM_THE_HOST))


def refuse_strays(cases: Iterable[Case]) -> None:
    """Raises :class:`SpecError` for a packed ONNX file with data outside its folder, before anything runs."""
    for case in cases:
        model = case.model.model
        assert isinstance(model, PackedModel)
        exports = (export for entry in model.entry.at_every_shape() for export in entry.exports.values())
        for export in exports:
            path = Path(model.folder) / export.path
            try:
                if export.format == "onnx":
                    companions(path)
            except StageError as error:
                wrong, _, right = str(error).rpartition("; ")
                raise SpecError([Problem(Location(str(path)), wrong, right)]) from error


def _sized(value: Any) -> Any:
    """JSON has lists where torch has tuples, and no word for arrays of numbers but lists either."""
    return tuple(map(_sized, value)) if isinstance(value, list) else value
