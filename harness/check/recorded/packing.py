"""Pack one export of a case into a bundle: its file, and everything its answer is compared with.

The layout of a bundle is described in :mod:`harness.spec.bundle.reader`. The manifest's entries are stored export by
export (:class:`harness.check.recorded.content_store.ContentStore`), and :mod:`harness.packing` reads them at the end.

An ONNX export is also written in the layout of ONNX's own backend tests, which any runner of those can verify.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from harness.check.judging.example_values import NEED_NO_PROOF
from harness.check.judging.judge import Expected
from harness.check.judging.layers import is_whole_model
from harness.check.judging.lower_precision import reference_precision
from harness.check.module.prepared_case import PreparedCase
from harness.check.recorded.content_store import ContentStore, layers_of
from harness.check.recorded.packing_layers import pack_layers
from harness.check.recorded.protobufs import external_data_files
from harness.check.refusal import with_refusal
from harness.check.results import blame_for_build, with_error
from harness.check.stages import Clock, StageStopped
from harness.compare.calibrated import plain_rule, without_calibration
from harness.compare.inconclusive import with_training_mode
from harness.exporters import Artifact
from harness.model.answer import Reference, Sample, Step, reduced_to_sample
from harness.result import Result, to_json
from harness.spec.bundle.entries import (
    CaseEntry,
    ExpectEntry,
    ExportEntry,
    RoundEntry,
    SampleEntry,
    StepEntry,
    ToleranceEntry,
)
from harness.spec.language.case import Case
from harness.spec.language.tolerances import (
    AllOf,
    Calibrated,
    Close,
    Cosine,
    Decisions,
    Exact,
    Rule,
    Scaled,
    Sqnr,
    Tolerance,
    Ulp,
)
from harness.spec.targets import Target

Array = NDArray[Any]

MAX_NAME_LENGTH = 80
MAX_RECORDED_ELEMENTS = 2**16
"""Inputs and outputs at a ``bench`` shape are recorded up to this many elements; of larger ones, a sample."""


def pack_export(
    prepared: PreparedCase, target: Target, folder: Path, clock: Clock, layer_bytes: int | None = None
) -> Result:
    """Write the export of ``target`` to the bundle at ``folder``. The result says why, if there is no file.

    The values of the layers of a whole model may take ``layer_bytes``; None packs no layers.
    """
    store = ContentStore(folder)
    result = Result(prepared.case.id, str(target), "passed", seconds=clock.seconds, where=str(prepared.case.where))
    try:
        if prepared.case.expect.raises is not None:
            return _pack_refusal(prepared, target, store, result, clock)
        with clock.stage("build"):
            references, findings, expected = prepared.references, prepared.eager_findings, prepared.expected
            further, training = list(_further_references(prepared)), prepared.training
        with clock.stage("export"):
            artifact = prepared.artifact(target)
    except StageStopped as stop:
        failed = with_error(result, stop, blame=blame_for_build(stop) if stop.stage == "build" else None)
        words = None if stop.symptom == "out-of-memory" else prepared.training
        return failed if words is None else with_training_mode(failed, words)
    sample = sample_for(prepared.case, references[0])
    if sample is not None:
        expected = _elementwise_part(expected)
    rounds = [_round_entry(store, reference, sample) for reference in references]
    further_rounds = [_round_entry(store, reference, None) for reference in further]
    found = replace(result, findings=tuple(findings))
    _put_case(store, prepared.case, rounds, _expect_entry(store, expected), found, further_rounds, training)
    has_answer = sample is None and not any(reference.stochastic for reference in references)
    _put_export(store, prepared, target, artifact, prepared.references_for(target) if has_answer else ())
    if layer_bytes is not None and prepared.case.bench_of is None and is_whole_model(prepared.case):
        clock.keep(result, before="packing")
        layers = pack_layers(prepared, target, artifact, store, layer_bytes, clock)
        store.put_entry(prepared.case.id, layers_of(target.export), {"layers": layers})
    return result


def _pack_refusal(prepared: PreparedCase, target: Target, store: ContentStore, result: Result, clock: Clock) -> Result:
    """Pack a case that eager torch refuses. Its file must refuse on the board too."""
    refusal = prepared.refusal(result, clock)
    if refusal.inputs is None or refusal.export is None:
        return refusal.result
    try:
        with clock.stage("export"):
            artifact = refusal.export(target)
    except StageStopped as stop:
        return with_refusal(refusal, target, stop, run=False)
    inputs = RoundEntry(inputs=store.put_arrays(refusal.inputs), eager={}, magnitudes=[], undefined=[])
    _put_case(store, prepared.case, [inputs], _expect_entry(store, Expected()), refusal.result)
    _put_export(store, prepared, target, artifact, ())
    return result


def sample_for(case: Case, reference: Reference) -> Sample | None:
    """The sample of the outputs that is recorded at a large ``bench`` shape, so that bundles stay small.

    None in all other cases: a stochastic answer, inputs that cannot be drawn again, and the shapes of the checks.
    """
    can_draw_inputs = not any(spec.is_literal for spec in case.inputs)
    elements = sum(values.size for values in [*reference.inputs.values(), *reference.eager.values()])
    if case.bench_of is None or reference.stochastic or not can_draw_inputs or elements <= MAX_RECORDED_ELEMENTS:
        return None
    every = -(-max((values.size for values in reference.eager.values()), default=0) // MAX_RECORDED_ELEMENTS)
    # Sizes are often powers of two, so an odd step reaches every column.
    return Sample(every | 1, tuple(values.shape for values in reference.eager.values()))


def _further_references(prepared: PreparedCase) -> Iterator[Reference]:
    """The references at further inputs that need no proof, with the module's answers to the first inputs after."""
    if not prepared.case.runs_user_code or prepared.case.draws == 1 or prepared.case.bench_of is not None:
        return
    for other in prepared.further_inputs(NEED_NO_PROOF):
        if (reference := other.reference()) is not None:
            yield replace(reference, after_others=other.first_after)


def _put_case(
    store: ContentStore,
    case: Case,
    rounds: list[RoundEntry],
    expect: ExpectEntry,
    eager_result: Result,
    further: Sequence[RoundEntry] = (),
    training: str | None = None,
) -> None:
    findings = to_json(replace(eager_result, target="", seconds={}))
    fields = {"rounds": rounds, "further": list(further), "expect": expect, "findings": findings, "training": training}
    entry = CaseEntry.of(case).model_copy(update=fields).model_dump()
    # Earlier releases can read a bundle without these keys.
    for each in [*entry["rounds"], *entry["further"]]:
        _without_empty(each, "after_others", "computes_in", "undecidable")
    _without_empty(entry, "further", "training")
    store.put_entry(case.id, "", entry)


def _without_empty(entry: dict[str, Any], *keys: str) -> None:
    for key in keys:
        if not entry[key]:
            del entry[key]


def _tolerance_of(prepared: PreparedCase, target: Target, artifact: Artifact) -> Tolerance:
    """The tolerance of an export. A run in lower precision is not packed; what it allows is packed as a bound."""
    tolerance = prepared.tolerance(artifact.opset, target)
    if reference_precision(target) is None:
        return tolerance
    bounds = [without_calibration(tolerance, reference) for reference in prepared.references_for(target)]
    by_output = {
        index: max((each.for_output(index) for each in bounds), key=lambda rule: getattr(rule, "atol", 0.0))
        for index in bounds[0].by_output
    }
    return Tolerance(bounds[0].rule, by_output)


def _put_export(
    store: ContentStore, prepared: PreparedCase, target: Target, artifact: Artifact, references: Sequence[Reference]
) -> None:
    """Store the exported file and its entry. ``references`` are empty if the answer cannot be recorded."""
    assert artifact.format in {"torchscript", "onnx", "ort"}
    tolerance = _tolerance_of(prepared, target, artifact)
    kind = artifact.format if artifact.format != "onnx" or references else "unanswered"
    folder = f"{kind}/{folder_name(prepared.case.id, target.export)}"
    path = store.put_model(artifact.path, folder)
    for file in external_data_files(artifact.path) if artifact.format == "onnx" else ():
        store.put_model(file, f"{folder}/{file.relative_to(artifact.path.parent).parent}".removesuffix("/."))
    if kind == "onnx":
        write_data_sets(store, folder, references)
        rule = backend_tolerance(tolerance, references)
        store.put_text(f"{folder}/data.json", json.dumps({"rtol": rule.rtol, "atol": rule.atol}))
    weights = prepared.quantized_weights(target)
    entry = ExportEntry(
        format=artifact.format,
        path=path,
        digest=artifact.digest,
        opset=artifact.opset,
        checker=artifact.checker,
        notes=list(artifact.notes),
        tracer_warnings=list(artifact.tracer_warnings),
        tolerance=ToleranceEntry.of(tolerance),
        wrong_weights=next((each.message for each in weights.findings if not each.passed), None),
        in_training=list(prepared.exported_in_training(target)[1]),
    ).model_dump()
    _without_empty(entry, "in_training", "layers")  # the layers come later, if at all
    store.put_entry(prepared.case.id, target.export, entry)


def folder_name(case_id: str, export: str) -> str:
    """A unique folder name for an export that ONNX's test runner accepts and every file system supports."""
    words = re.sub(r"[^A-Za-z0-9]+", "_", f"{export}_{case_id}").strip("_")[:MAX_NAME_LENGTH]
    return f"test_{words}_{sha256(f'{export} {case_id}'.encode()).hexdigest()[:8]}"


def write_data_sets(store: ContentStore, folder: str, references: Sequence[Reference]) -> None:
    """Write ``test_data_set_N`` to ``folder`` for each set of shapes: the inputs, and eager torch's answers."""
    for number, reference in enumerate(references):
        outputs = {name: _in_dtype(values, reference.narrow.get(name)) for name, values in reference.eager.items()}
        for side, arrays in (("input", reference.inputs), ("output", outputs)):
            for index, values in enumerate(arrays.values()):
                store.put_array_at(values, f"{folder}/test_data_set_{number}/{side}_{index}.pb")


def _in_dtype(values: Array, dtype: str | None) -> Array:
    return values if dtype is None else values.astype(getattr(ml_dtypes, dtype, dtype))


def backend_tolerance(tolerance: Tolerance, references: Sequence[Reference]) -> Close:
    """The tightest rtol and atol that pass what ``tolerance`` passes. ONNX's runner has one pair for all outputs."""
    rules = [
        _as_close(tolerance.for_output(index), reference, index)
        for reference in references
        for index in range(len(reference.eager))
    ]
    return Close(max((rule.rtol for rule in rules), default=0.0), max((rule.atol for rule in rules), default=0.0))


def _as_close(rule: Rule, reference: Reference, index: int) -> Close:
    values = list(reference.eager.values())[index]
    dtype = np.dtype(values.dtype)
    finfo: Any = ml_dtypes.finfo
    eps = float(finfo(dtype).eps) if dtype.kind not in "iubO" else 0.0
    match rule:
        case Exact():
            return Close(0.0, 0.0)
        case Ulp(n):
            # Below the smallest normal number a unit in the last place is absolute and not relative to the value.
            return Close(n * eps, n * float(finfo(dtype).smallest_subnormal) if eps else 0.0)
        case Close():
            return rule
        case Scaled(n):
            return Close(0.0, n * eps * max(_largest_magnitude(reference, index), default=0.0))
        case Calibrated():
            return _as_close(without_calibration(Tolerance(rule), reference).for_output(index), reference, index)
        case AllOf(rules):
            return min((_as_close(each, reference, index) for each in rules), key=lambda each: _largest(each, values))
        case Sqnr() | Cosine() | Decisions():  # a rule about the whole output bounds no value
            return Close(0.0, 0.0) if dtype.kind in "iubO" else _plain(dtype.name)


def _plain(dtype: str) -> Close:
    rule = plain_rule(dtype)
    return rule if isinstance(rule, Close) else Close(0.0, 0.0)


def _largest(rule: Close, values: NDArray[Any]) -> float:
    """The largest difference that ``rule`` allows at one of ``values``."""
    return rule.atol + rule.rtol * float(np.abs(values.astype(np.float64)).max(initial=0.0))


def _largest_magnitude(reference: Reference, index: int) -> Iterator[float]:
    """The largest sum of magnitudes of terms of an element of output ``index``; nothing if it is not known."""
    magnitudes = reference.magnitudes[index] if index < len(reference.magnitudes) else None
    if magnitudes is not None and magnitudes.size:
        float64 = np.asarray(magnitudes, np.float64)
        yield float(np.max(float64, where=np.isfinite(float64), initial=0.0))


def _round_entry(store: ContentStore, whole: Reference, sample: Sample | None) -> RoundEntry:
    reference = whole if sample is None else reduced_to_sample(whole, sample)
    return RoundEntry(
        inputs=store.put_arrays(reference.inputs),
        eager=store.put_arrays(reference.eager),
        float64_reference=None if reference.float64 is None else store.put_arrays(reference.float64),
        magnitudes=[None if values is None else store.put_array(values) for values in reference.magnitudes],
        undefined=[None if mask is None else store.put_array(mask) for mask in reference.undefined],
        stochastic=reference.stochastic,
        at=reference.at,
        repeats_shapes=reference.repeats_shapes,
        computes_in=reference.computes_in,
        second_call=_put_optional(store, reference.second_call),
        after_others=_put_optional(store, reference.after_others),
        undecidable=reference.undecidable,
        paths=list(reference.paths),
        step=None if reference.step is None or sample is not None else _step_entry(store, reference.step),
        sample=None if sample is None else SampleEntry(every=sample.every, shapes=list(map(list, sample.shapes))),
    )


def _step_entry(store: ContentStore, step: Step) -> StepEntry:
    return StepEntry(number=step.number, of=step.of, loop=dict(step.loop), float64=_put_optional(store, step.float64))


def _expect_entry(store: ContentStore, expected: Expected) -> ExpectEntry:
    """The entry of ``expected``, with those arguments and parameters that its expressions use."""
    used = {*re.findall(r"[A-Za-z_]\w*", " ".join([expected.formula or "", *expected.gradient.values()]))}
    names = {name: value for name, value in expected.names.items() if name in used}
    arrays = {name: value for name, value in names.items() if isinstance(value, np.ndarray)}
    return ExpectEntry(
        outputs=_put_optional(store, expected.outputs),
        shape=None if expected.shape is None else [list(shape) for shape in expected.shape],
        range=None if expected.range is None else list(expected.range),
        formula=expected.formula,
        gradient=dict(expected.gradient),
        gradient_range=None if expected.gradient_range is None else list(expected.gradient_range),
        equals=_put_optional(store, expected.equals),
        differs_from=_put_optional(store, expected.differs_from),
        names={name: value for name, value in names.items() if name not in arrays},
        arrays=store.put_arrays(arrays),
    )


def _put_optional(store: ContentStore, arrays: Mapping[str, Array] | None) -> dict[str, str] | None:
    return None if arrays is None else store.put_arrays(arrays)


def _elementwise_part(expected: Expected) -> Expected:
    """The expectations that hold of each element by itself, and so of a sample: only the range."""
    return Expected(first=expected.first, range=expected.range)
