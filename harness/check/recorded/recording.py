"""Check a recorded model: load the file, run it on the recorded inputs, compare, time. Without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from harness.blame.file_runs import STAGES_OF_THE_RUNTIME, attribute_stopped
from harness.blame.recorded import RecordedDisagreement, attribute_recorded
from harness.check.files.matching import MatchedInputs, MatchedOutputs, NamedInput, match_inputs, match_outputs
from harness.check.judging.judge import ComparedAnswer
from harness.check.recorded.own_rounding import is_network, own_rounding, reason_against, smallest_tolerance
from harness.check.recorded.protobufs import (
    DataSet,
    ModelFile,
    named_arrays,
    open_recorded,
    read_data_set,
    signature_of,
)
from harness.check.results import (
    failures,
    initial_result,
    placement_fields,
    with_error,
    with_latency,
    with_mismatch,
    with_numbers,
    with_pictures,
)
from harness.check.settings import Settings
from harness.check.stages import Clock, StageStopped
from harness.compare.rules import strict_ulp
from harness.compare.verdict import compare
from harness.errors import Unsupported
from harness.registry import plugins
from harness.result import Result
from harness.runtimes import Session, Structured, Value
from harness.spec.language.case import Case, FileModel
from harness.spec.language.tolerances import Close, Rule, Tolerance
from harness.spec.recorded import BACKEND_TOLERANCE
from harness.spec.targets import Target

Array = NDArray[Any]

# onnx.backend.test.runner allows bfloat16 two units in the last place.
BFLOAT16_RULE = Close(rtol=2**-6, atol=BACKEND_TOLERANCE.atol)

NOT_EVALUATED = "a file in ONNX Runtime's own format cannot be evaluated, so nobody is blamed"
OTHER_MODEL = "the variant computes something else than the model that the data was recorded with"


class RecordedCase:
    """A recorded model in a worker. What its checks share is read once.

    An exception while reading is raised again for every check that needs the value.
    """

    def __init__(
        self, case: Case, strict_ulp: int | None = None, on_size: Callable[[int], None] = lambda _size: None
    ) -> None:
        """``on_size`` is called with the size of the model's files in bytes, once it is known."""
        assert isinstance(case.model.model, FileModel)
        self.case = case
        self._files = case.model.model
        self._strict_ulp = strict_ulp
        self._on_size = on_size
        self._derived: dict[str, Mapping[str, Close]] = {}
        self.notes: dict[str, None] = {}

    @cached_property
    def model(self) -> ModelFile:
        """The model. Its external data is in its own folder."""
        model = open_recorded(self._files)
        self._on_size(model.size)
        return model

    @cached_property
    def recorded_model(self) -> ModelFile:
        """The model that the data was recorded with: this one, unless it is a variant."""
        return open_recorded(replace(self._files, path=self._files.recorded_with)) if self.is_variant else self.model

    @property
    def is_variant(self) -> bool:
        """True if the data was recorded with another file."""
        return bool(self._files.recorded_with)

    @cached_property
    def data_sets(self) -> tuple[DataSet, ...]:
        """The recorded inputs and outputs, under the names and in the dtypes of this model."""
        sets = [read_data_set(Path(folder), self.recorded_model) for folder in self._files.data_sets]
        return tuple(self._for_variant(each) for each in sets) if self.is_variant else tuple(sets)

    def _for_variant(self, data_set: DataSet) -> DataSet:
        """``data_set`` as the variant takes it. Raises :class:`StageError` where the two do not match."""
        values = {**data_set.inputs, **data_set.outputs}
        if others := [name for name, value in values.items() if not isinstance(value, np.ndarray)]:
            raise Unsupported(f"a variant is compared on tensors only; not tensors: {', '.join(others)}")
        inputs, outputs = self._matched(data_set)
        given, expected = _tensors(data_set.inputs), _tensors(data_set.outputs)
        return DataSet(data_set.name, inputs.applied_to(given), outputs.renamed(expected))

    def _matched(self, data_set: DataSet) -> tuple[MatchedInputs, MatchedOutputs]:
        """How the recorded values are the variant's inputs and outputs; what is not by name is a note."""
        signature, file = signature_of(self.model), Path(self._files.path).name
        given = [NamedInput(name, each.dtype, each.shape) for name, each in _tensors(data_set.inputs).items()]
        inputs = match_inputs(given, signature, file)
        outputs = match_outputs([each.name for each in signature.outputs or ()], list(data_set.outputs), file)
        self.notes |= dict.fromkeys((*inputs.notes, *outputs.notes))
        return inputs, outputs

    def as_arrays(self, answer: Mapping[str, Value]) -> dict[str, Array]:
        """The tensors, sequences, maps and optionals of ``answer`` as named arrays, in the answer's order."""
        optional = {value.name for value in self.model.outputs if value.type.HasField("optional_type")}
        arrays: dict[str, Array] = {}
        for name, value in answer.items():
            arrays |= named_arrays(name, value, optional=name in optional)
        return arrays

    def tolerance(self, data_set: DataSet, derived: Mapping[str, Close] | None = None) -> Tolerance:
        """The tolerance of the arrays of ``data_set``.

        That is the manifest's; else the one in ``derived``, by the name of the array; else that of ONNX's own backend
        tests.
        """
        recorded, derived = data_set.outputs, derived or {}
        requested, by_array = self.case.tolerance, dict[int, Rule]()
        outputs = [index for index, (name, value) in enumerate(recorded.items()) for _ in self.as_arrays({name: value})]
        for at, (output, (name, values)) in enumerate(zip(outputs, self.as_arrays(recorded).items(), strict=True)):
            if output in requested.by_output:
                by_array[at] = requested.by_output[output]
            elif requested.rule is None and name in derived:
                by_array[at] = derived[name]
            elif requested.rule is None and values.dtype == ml_dtypes.bfloat16:
                by_array[at] = BFLOAT16_RULE
        tolerance = Tolerance(requested.rule or BACKEND_TOLERANCE, by_array)
        return tolerance if self._strict_ulp is None else strict_ulp(tolerance, self._strict_ulp)

    @cached_property
    def derives_tolerance(self) -> bool:
        """True for a network without a tolerance of its own, whose rounding says how far its outputs may be.

        :attr:`notes` says why, if the rounding of a network says nothing.
        """
        if self.case.tolerance.rule is not None:
            return False
        if (path := self._evaluated_file) is None:
            self._add_note("a file in ONNX Runtime's own format is not evaluated")
            return False
        if not is_network(path):
            return False
        reason = reason_against(path)
        if reason is not None:
            self._add_note(reason)
        return reason is None

    @property
    def _evaluated_file(self) -> Path | None:
        """The ONNX file whose rounding counts: this one, else the one that it is a variant of."""
        files = (each.artifact for each in (self.model, self.recorded_model))
        return next((artifact.path for artifact in files if artifact.format == "onnx"), None)

    def derived(self, data_set: DataSet) -> Mapping[str, Close]:
        """What the file's own rounding allows each output of ``data_set``, computed once."""
        if data_set.name not in self._derived:
            self._derived[data_set.name] = self._derive(data_set)
        return self._derived[data_set.name]

    def _derive(self, data_set: DataSet) -> Mapping[str, Close]:
        path, inputs = self._evaluated_file, _tensors(data_set.inputs)
        assert path is not None, "asked only where a tolerance is derived"
        if path == self.model.artifact.path:
            derived = own_rounding(path, inputs, is_variant=self.is_variant)
        else:
            derived = self._derived_from_recorded(path, data_set)
        if isinstance(derived, str):
            self._add_note(derived)
            return {}
        return derived

    def _derived_from_recorded(self, path: Path, data_set: DataSet) -> Mapping[str, Close] | str:
        """The rounding of the model that the data was recorded with, under the variant's names."""
        folder = next(folder for folder in self._files.data_sets if Path(folder).name == data_set.name)
        recorded = read_data_set(Path(folder), self.recorded_model)
        derived = own_rounding(path, _tensors(recorded.inputs))
        if isinstance(derived, str):
            return derived
        pairs = self._matched(recorded)[1].reference
        return {name: derived[own] for name, own in pairs.items() if own is not None and own in derived}

    def _add_note(self, reason: str) -> None:
        self.notes[f"compared by {BACKEND_TOLERANCE}, as ONNX's backend tests are: {reason}"] = None


def _tensors(values: Mapping[str, Value]) -> dict[str, Array]:
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def check_recorded(recorded: RecordedCase, target: Target, settings: Settings, clock: Clock) -> Result:
    """The result of the recorded model on ``target``. An exception of a library becomes an error of its stage."""
    result = initial_result(recorded.case, target, clock)
    if result.status == "skipped":
        return result
    try:
        return _checked(recorded, target, settings, result, clock)
    except StageStopped as stop:
        clock.keep(with_error(result, stop), before="blame")
        return _with_stop(result, stop, recorded, target)


def _checked(recorded: RecordedCase, target: Target, settings: Settings, result: Result, clock: Clock) -> Result:
    with clock.stage("build"):
        model, data_sets = recorded.model, recorded.data_sets
    with clock.stage("load"):
        session: Session = plugins("runtimes")[target.runtime].load(model.artifact, target.options)
    try:
        result = replace(result, checker=model.artifact.checker, artifact=model.artifact.digest)
        with clock.stage("run"):
            answers = [_answer(session, data_set.inputs) for data_set in data_sets]
            placement = session.placement()
        with clock.stage("compare"):
            compared = [_ComparedDataSet(recorded, *pair) for pair in zip(data_sets, answers, strict=True)]
            comparisons = [data_set.arrays.comparison for data_set in compared]
            result = with_numbers(result, comparisons)
            result = replace(result, notes=(*result.notes, *recorded.notes))
            problems = failures(comparisons)
            result = with_mismatch(result, problems) if problems else result
            result = replace(result, **placement_fields(placement, passed=not problems))
            result = with_pictures(result, (data_set.arrays for data_set in compared))
        if result.symptom == "mismatch":
            clock.keep(result, before="blame")
            failing = next(data_set for data_set in compared if not data_set.arrays.comparison.passed)
            return _with_blame(result, failing, target)
        if settings.latency and result.status == "passed":
            inputs = {name: np.asarray(value) for name, value in data_sets[0].inputs.items()}
            return with_latency(result, session, inputs, lambda: None, clock, settings)
        return result
    finally:
        session.close()


def _with_stop(result: Result, stop: StageStopped, recorded: RecordedCase, target: Target) -> Result:
    """``result`` as the error of the stage, with graph optimization blamed if the file runs without it."""
    if stop.stage not in STAGES_OF_THE_RUNTIME:
        return with_error(result, stop)

    def gives_recorded(session: Session) -> bool:
        answers = [_ComparedDataSet(recorded, each, _answer(session, each.inputs)) for each in recorded.data_sets]
        return all(answer.arrays.comparison.passed for answer in answers)

    blame, evidence = attribute_stopped(target, recorded.model.artifact, stop.symptom, gives_recorded)
    return replace(with_error(result, stop, blame=blame), evidence=evidence)


@dataclass(frozen=True)
class _ComparedDataSet:
    """One data set, compared with the target's answer to its inputs."""

    recorded: RecordedCase
    data_set: DataSet
    answer: Mapping[str, Value]

    @cached_property
    def tolerance(self) -> Tolerance:
        """The tolerance that decides: the file is evaluated only for an answer that the smallest one does not pass."""
        if not self.recorded.derives_tolerance:
            return self.recorded.tolerance(self.data_set)
        expected = self.recorded.as_arrays(self.data_set.outputs)
        smallest = {name: rule for name, values in expected.items() if (rule := smallest_tolerance(values)) is not None}
        tolerance = self.recorded.tolerance(self.data_set, smallest)
        if compare(self.recorded.as_arrays(self.answer), expected, tolerance).passed:
            return tolerance
        return self.recorded.tolerance(self.data_set, self.recorded.derived(self.data_set))

    @cached_property
    def arrays(self) -> ComparedAnswer:
        at = self.data_set.name if len(self.recorded.data_sets) > 1 else None
        actual, expected = (self.recorded.as_arrays(side) for side in (self.answer, self.data_set.outputs))
        return ComparedAnswer(compare(actual, expected, self.tolerance, at=at), actual, expected)


def _answer(session: Session, inputs: Mapping[str, Value]) -> Mapping[str, Value]:
    if isinstance(session, Structured):
        return session.answer(inputs)
    arrays = {name: value for name, value in inputs.items() if isinstance(value, np.ndarray)}
    if len(arrays) < len(inputs):
        raise Unsupported(f"this runtime takes tensors only; not tensors: {', '.join(inputs.keys() - arrays.keys())}")
    return session.run(arrays)


def _with_blame(result: Result, failing: _ComparedDataSet, target: Target) -> Result:
    """``result`` with the hop to blame, if all values are tensors: the evaluation takes nothing else."""
    sides = (failing.data_set.inputs, failing.data_set.outputs, failing.answer)
    if not all(isinstance(value, np.ndarray) for side in sides for value in side.values()):
        return result
    inputs, expected, answer = ({name: np.asarray(value) for name, value in side.items()} for side in sides)
    artifact = failing.recorded.model.artifact
    if artifact.format != "onnx":
        return replace(result, evidence=(NOT_EVALUATED,))
    disagreement = RecordedDisagreement(target, artifact, inputs, expected, answer, failing.tolerance)
    blame, evidence = attribute_recorded(disagreement)
    if blame == "spec" and failing.recorded.is_variant:
        return replace(result, blame="exporter", evidence=(*evidence[:-1], OTHER_MODEL))
    return replace(result, blame=blame, evidence=evidence)
