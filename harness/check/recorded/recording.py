"""One check of a recorded model: load the file, run it on what was recorded, compare, time. Without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from harness.blame.recorded import RecordedDisagreement, attribute_recorded
from harness.check.recorded.protobufs import DataSet, ModelFile, laid_out, open_model, read_data_set
from harness.check.settings import Settings
from harness.check.stages import Clock, StageStopped
from harness.check.steps import Sides, begun, pictured, placed, timed
from harness.compare.rules import strict_ulp
from harness.compare.verdict import Comparison, compare
from harness.errors import Unsupported
from harness.registry import plugins
from harness.result import Result
from harness.runtimes import Session, Structured, Value
from harness.spec.language.case import Case, FileModel
from harness.spec.language.tolerances import Close, Rule, Tolerance
from harness.spec.recorded import BACKEND_RULE
from harness.spec.targets import Target

Array = NDArray[Any]

# onnx.backend.test.runner gives bfloat16 two units in the last place.
BFLOAT16_RULE = Close(rtol=2**-6, atol=BACKEND_RULE.atol)


class Recording:
    """A recorded model in a worker: what its checks share is read once.

    What raises once raises again for every check that needs it.
    """

    def __init__(
        self, case: Case, strict: int | None = None, sized: Callable[[int], None] = lambda _size: None
    ) -> None:
        """``sized`` is told how many bytes the model's files take, as soon as they are known."""
        self._sized = sized
        assert isinstance(case.model.model, FileModel)
        self.case = case
        self._files = case.model.model
        self._strict = strict

    @cached_property
    def model(self) -> ModelFile:
        """The model, known to keep to its folder."""
        model = open_model(Path(self._files.path))
        self._sized(model.size)
        return model

    @cached_property
    def data_sets(self) -> tuple[DataSet, ...]:
        """All that was recorded."""
        return tuple(read_data_set(Path(folder), self.model) for folder in self._files.data_sets)

    def as_arrays(self, answer: Mapping[str, Value]) -> dict[str, Array]:
        """An answer's tensors, sequences, maps and optionals as named arrays, in the answer's order."""
        optional = {value.name for value in self.model.outputs if value.type.HasField("optional_type")}
        arrays: dict[str, Array] = {}
        for name, value in answer.items():
            arrays |= laid_out(name, value, optional=name in optional)
        return arrays

    def tolerance(self, recorded: Mapping[str, Value]) -> Tolerance:
        """What the arrays of ``recorded`` are held to: what the manifest says, else ONNX's own rule for its tests."""
        asked, by_array = self.case.tolerance, dict[int, Rule]()
        owners = [index for index, (name, value) in enumerate(recorded.items()) for _ in self.as_arrays({name: value})]
        for at, (owner, values) in enumerate(zip(owners, self.as_arrays(recorded).values(), strict=True)):
            if owner in asked.by_output:
                by_array[at] = asked.by_output[owner]
            elif asked.rule is None and values.dtype == ml_dtypes.bfloat16:
                by_array[at] = BFLOAT16_RULE
        whole = Tolerance(asked.rule or BACKEND_RULE, by_array)
        return whole if self._strict is None else strict_ulp(whole, self._strict)


def check_recorded(recording: Recording, target: Target, settings: Settings, clock: Clock) -> Result:
    """Take the recorded model to ``target`` and say what came of it. Raises nothing that a library raised."""
    blank = begun(recording.case, target, clock)
    if blank.status == "skipped":
        return blank
    try:
        return _verified(recording, target, settings, blank, clock)
    except StageStopped as stop:
        return replace(blank, status="error", stage=stop.stage, symptom=stop.symptom, message=stop.message)


def _verified(recording: Recording, target: Target, settings: Settings, blank: Result, clock: Clock) -> Result:
    with clock.stage("build"):
        model, data_sets = recording.model, recording.data_sets
    with clock.stage("load"):
        session: Session = plugins("runtimes")[target.runtime].load(model.artifact, target.options)
    try:
        loaded = replace(blank, checker=model.artifact.checker, artifact=model.artifact.digest)
        with clock.stage("run"):
            answers = [_answer(session, data_set.inputs) for data_set in data_sets]
            placement = session.placement()
        with clock.stage("compare"):
            rounds = [_Round(recording, *each) for each in zip(data_sets, answers, strict=True)]
            result = placed(_told(loaded, [each.comparison for each in rounds]), placement)
            result = pictured(result, (each.sides for each in rounds))
        if result.symptom == "mismatch":
            wrong = next(each for each in rounds if not each.comparison.passed)
            return _blamed(result, wrong, target)
        if settings.latency and result.status == "passed":
            inputs = {name: np.asarray(value) for name, value in data_sets[0].inputs.items()}
            return timed(result, session, inputs, lambda: None, clock, settings)
        return result
    finally:
        session.close()


@dataclass(frozen=True)
class _Round:
    """One data set, and what the target answered to it."""

    recording: Recording
    data_set: DataSet
    answer: Mapping[str, Value]

    @cached_property
    def tolerance(self) -> Tolerance:
        return self.recording.tolerance(self.data_set.outputs)

    @cached_property
    def sides(self) -> Sides:
        at = self.data_set.name if len(self.recording.data_sets) > 1 else None
        given, wanted = (self.recording.as_arrays(side) for side in (self.answer, self.data_set.outputs))
        return Sides(compare(given, wanted, self.tolerance, at=at), given, wanted)

    @property
    def comparison(self) -> Comparison:
        return self.sides.comparison


def _answer(session: Session, inputs: Mapping[str, Value]) -> Mapping[str, Value]:
    if isinstance(session, Structured):
        return session.answer(inputs)
    arrays = {name: value for name, value in inputs.items() if isinstance(value, np.ndarray)}
    if len(arrays) < len(inputs):
        raise Unsupported(f"this runtime takes tensors; {', '.join(inputs.keys() - arrays.keys())} is none")
    return session.run(arrays)


def _told(result: Result, comparisons: list[Comparison]) -> Result:
    """The verdict in words."""
    told = replace(
        result,
        outputs=tuple(output for comparison in comparisons for output in comparison.outputs),
        notes=tuple(dict.fromkeys(note for comparison in comparisons for note in comparison.notes)),
    )
    wrong = [comparison.message for comparison in comparisons if not comparison.passed]
    if not wrong:
        return told
    return replace(told, status="failed", stage="compare", symptom="mismatch", message="; ".join(wrong))


def _blamed(result: Result, wrong: _Round, target: Target) -> Result:
    """``result`` with the hop to blame, where all that is involved are tensors, which the evaluation takes."""
    sides = (wrong.data_set.inputs, wrong.data_set.outputs, wrong.answer)
    if not all(isinstance(value, np.ndarray) for side in sides for value in side.values()):
        return result
    inputs, recorded, answer = ({name: np.asarray(value) for name, value in side.items()} for side in sides)
    artifact = wrong.recording.model.artifact
    blame, evidence = attribute_recorded(
        RecordedDisagreement(target, artifact, inputs, recorded, answer, wrong.tolerance)
    )
    return replace(result, blame=blame, evidence=evidence)
