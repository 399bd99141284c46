"""What is recorded of an export in the form of ONNX's own backend tests, which any runner of those can verify.

One export of a case written into a bundle in the making, with all that an answer of it is held against.

The layout is told in :mod:`harness.spec.bundle.reader`. What goes into the manifest is left, export by export, in a folder
of its own, which :mod:`harness.packing` reads when all is done.
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

from harness.check.expectations import Expected
from harness.check.prepared_case import PreparedCase
from harness.check.recorded.content_store import ContentStore
from harness.check.recorded.protobufs import companions
from harness.check.refusal import refused
from harness.check.stages import Clock, StageStopped
from harness.exporters import Artifact
from harness.model.answer import Reference, Sample, sampled
from harness.result import Blame, Result, to_json
from harness.spec.bundle.entries import CaseEntry, ExpectEntry, ExportEntry, RoundEntry, SampleEntry, ToleranceEntry
from harness.spec.language.case import Case
from harness.spec.language.tolerances import Close, Exact, Rule, Scaled, Tolerance, Ulp
from harness.spec.targets import Target


def write_data_sets(store: ContentStore, folder: str, references: Sequence[Reference]) -> None:
    """``test_data_set_N`` in ``folder`` for each set of shapes: the inputs, and eager torch's answers."""
    for number, known in enumerate(references):
        for side, arrays in (("input", known.inputs), ("output", known.eager)):
            for at, values in enumerate(arrays.values()):
                store.array_at(values, f"{folder}/test_data_set_{number}/{side}_{at}.pb")


def backend_rule(tolerance: Tolerance, references: Sequence[Reference]) -> Close:
    """The tightest such rule that passes what ``tolerance`` passes: ONNX's runner has one for all outputs."""
    rules = [_close(tolerance.for_output(at), known, at) for known in references for at in range(len(known.eager))]
    return Close(max((rule.rtol for rule in rules), default=0.0), max((rule.atol for rule in rules), default=0.0))


def _close(rule: Rule, known: Reference, at: int) -> Close:
    values = list(known.eager.values())[at]
    kind = np.dtype(values.dtype)
    finfo: Any = ml_dtypes.finfo
    eps = float(finfo(kind).eps) if kind.kind not in "iubO" else 0.0
    match rule:
        case Exact():
            return Close(0.0, 0.0)
        case Ulp(n):
            # Below the smallest normal number a unit in the last place is no longer relative to the value.
            return Close(n * eps, n * float(finfo(kind).smallest_subnormal) if eps else 0.0)
        case Close():
            return rule
        case Scaled(n):
            return Close(0.0, n * eps * max(_largest(known, at), default=0.0))


def _largest(known: Reference, at: int) -> Iterator[float]:
    """The largest sum of magnitudes of an element of output ``at``."""
    magnitudes = known.magnitudes[at] if at < len(known.magnitudes) else None
    if magnitudes is not None and magnitudes.size:
        finite = np.asarray(magnitudes, np.float64)
        yield float(np.max(finite, where=np.isfinite(finite), initial=0.0))


Array = NDArray[Any]

LONGEST_NAME = 80
LARGE = 2**16
"""So many elements of inputs and outputs are recorded at a ``bench`` shape; of more, a sample."""


def pack_export(prepared: PreparedCase, target: Target, folder: Path, clock: Clock) -> Result:
    """Write the export of ``target`` into the bundle; the result is what the check came to, where there is no file."""
    blank = Result(prepared.case.id, str(target), "passed", seconds=clock.seconds, where=str(prepared.case.where))
    try:
        if prepared.case.expect.raises is not None:
            return _pack_refusal(prepared, target, ContentStore(folder), blank, clock)
        with clock.stage("build"):
            references, findings, expected = prepared.references, prepared.about_eager, prepared.expected
        with clock.stage("export"):
            artifact = prepared.artifact(target)
    except StageStopped as stop:
        blame: Blame | None = "spec" if stop.stage == "build" else None
        return replace(blank, status="error", stage=stop.stage, symptom=stop.symptom, message=stop.message, blame=blame)
    store, told = ContentStore(folder), replace(blank, findings=tuple(findings))
    sample = sample_of(prepared.case, references[0])
    rounds = [_round(store, each, sample) for each in references]
    # What a spec expects of whole outputs is held where they are; of a part, only a range can be.
    _leave(store, _case(prepared.case, rounds, _expect(store, expected if sample is None else _of_any(expected)), told))
    answered = sample is None and not any(each.stochastic for each in references)
    _pack(store, prepared, target, artifact, references if answered else ())
    return blank


def _pack_refusal(prepared: PreparedCase, target: Target, store: ContentStore, blank: Result, clock: Clock) -> Result:
    """A case that eager torch refuses: its file must refuse on the board as well."""
    refusal = prepared.refusal(blank, clock)
    if refusal.inputs is None or refusal.artifact is None:
        return refusal.told
    try:
        with clock.stage("export"):
            artifact = refusal.artifact(target)
    except StageStopped as stop:
        return refused(refusal, target, stop, runs=False)
    asked = RoundEntry(inputs=store.arrays(refusal.inputs), eager={}, magnitudes=[], undefined=[])
    _leave(store, _case(prepared.case, [asked], _expect(store, Expected()), refusal.told))
    _pack(store, prepared, target, artifact, ())
    return blank


def _pack(
    store: ContentStore, prepared: PreparedCase, target: Target, artifact: Artifact, references: tuple[Reference, ...]
) -> None:
    """The file where it belongs. ``references`` are empty where the answer cannot be said beforehand."""
    assert artifact.format in {"torchscript", "onnx"}
    tolerance = prepared.tolerance(artifact.opset)
    name = folder_name(prepared.case.id, target.export)
    room = "torchscript" if artifact.format == "torchscript" else "onnx" if references else "unanswered"
    path = store.model(artifact.path, f"{room}/{name}")
    for companion in companions(artifact.path) if artifact.format == "onnx" else ():
        store.model(companion, f"{room}/{name}/{companion.relative_to(artifact.path.parent).parent}".removesuffix("/."))
    if room == "onnx":
        write_data_sets(store, f"{room}/{name}", references)
        rule = backend_rule(tolerance, references)
        store.text(f"{room}/{name}/data.json", json.dumps({"rtol": rule.rtol, "atol": rule.atol}))
    entry = ExportEntry(
        format=artifact.format,
        path=path,
        digest=artifact.digest,
        opset=artifact.opset,
        checker=artifact.checker,
        notes=list(artifact.notes),
        tolerance=ToleranceEntry.of(tolerance),
    )
    store.leave(prepared.case.id, target.export, entry.model_dump())


def _leave(store: ContentStore, entry: CaseEntry) -> None:
    store.leave(entry.id, "", entry.model_dump())


def folder_name(case_id: str, export: str) -> str:
    """A name for the folder of an export: one that ONNX's test runner takes, any file system holds, and is unique."""
    words = re.sub(r"[^A-Za-z0-9]+", "_", f"{export}_{case_id}").strip("_")[:LONGEST_NAME]
    return f"test_{words}_{sha256(f'{export} {case_id}'.encode()).hexdigest()[:8]}"


def _case(case: Case, rounds: list[RoundEntry], expect: ExpectEntry, told: Result) -> CaseEntry:
    findings = to_json(replace(told, target="", seconds={}))
    return CaseEntry.of(case).model_copy(update={"rounds": rounds, "expect": expect, "findings": findings})


def sample_of(case: Case, known: Reference) -> Sample | None:
    """What is recorded of the outputs at a ``bench`` shape that is large, so that bundles stay small enough to travel.

    None for all else: an answer that is drawn, inputs that cannot be drawn anew, and the shapes that verify.
    """
    drawn = all(spec.values is None for spec in case.inputs)
    held = [*known.inputs.values(), *known.eager.values()]
    if case.bench_of is None or known.stochastic or not drawn or sum(each.size for each in held) <= LARGE:
        return None
    every = -(-max((each.size for each in known.eager.values()), default=0) // LARGE)
    # Sizes are often powers of two: an odd step meets every column of them.
    return Sample(every | 1, tuple(each.shape for each in known.eager.values()))


def _round(store: ContentStore, whole: Reference, sample: Sample | None) -> RoundEntry:
    known = whole if sample is None else sampled(whole, sample)
    return RoundEntry(
        inputs=store.arrays(known.inputs),
        eager=store.arrays(known.eager),
        oracle=None if known.float64 is None else store.arrays(known.float64),
        magnitudes=[None if each is None else store.array(each) for each in known.magnitudes],
        undefined=[None if each is None else store.array(each) for each in known.undefined],
        stochastic=known.stochastic,
        at=known.at,
        sample=None if sample is None else SampleEntry(every=sample.every, shapes=[list(one) for one in sample.shapes]),
    )


def _expect(store: ContentStore, expected: Expected) -> ExpectEntry:
    """What the spec expects; of the arguments and parameters, those that its expressions speak of."""
    spoken = {*re.findall(r"[A-Za-z_]\w*", " ".join([expected.formula or "", *expected.gradient.values()]))}
    names = {name: value for name, value in expected.names.items() if name in spoken}
    arrays = {name: value for name, value in names.items() if isinstance(value, np.ndarray)}
    return ExpectEntry(
        outputs=_maybe(store, expected.outputs),
        shape=None if expected.shape is None else [list(shape) for shape in expected.shape],
        range=None if expected.range is None else list(expected.range),
        formula=expected.formula,
        gradient=dict(expected.gradient),
        gradient_range=None if expected.gradient_range is None else list(expected.gradient_range),
        equals=_maybe(store, expected.equals),
        differs_from=_maybe(store, expected.differs_from),
        names={name: value for name, value in names.items() if name not in arrays},
        arrays=store.arrays(arrays),
    )


def _of_any(expected: Expected) -> Expected:
    """What holds of each element by itself."""
    return Expected(first=expected.first, range=expected.range)


def _maybe(store: ContentStore, arrays: Mapping[str, Array] | None) -> dict[str, str] | None:
    return None if arrays is None else store.arrays(arrays)
