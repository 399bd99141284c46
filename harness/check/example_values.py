"""Whether an export keeps values of its example inputs: a branch, a length, a number read with ``item()``.

Such an export is right for the inputs that it was made with, and for all that lead to the same values. Two things show
it. The program exported from other inputs is another one. And torch's tracer warns at the line where the model reads
the value.

Where the tracer warned and all the case's inputs agree, the target is tried with inputs that a model may treat in
another way (:func:`other_inputs`). Some of these are no inputs that the spec describes. So an answer that differs there
fails the check only if the export is to blame for certain: exported from these inputs, the program is another one, and
gives the right answer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.check.case_context import CaseContext
from harness.check.judge import Answer
from harness.check.program_difference import program_differences
from harness.check.stages import is_from_code_under_test
from harness.compare.verdict import compare_with_reference
from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.registry import plugins
from harness.runtimes import Session
from harness.spec.targets import Target

Array = NDArray[Any]
Inputs = Mapping[str, Array]

COMPARED_EXPORTERS = {"trace", "onnx-torchscript", "onnx-dynamo"}
"""Exporters whose programs depend on the example inputs and can be compared."""

MAX_PLACES = 5
AGREES_AT_FIRST = "the export agrees at the inputs that it was made with, and not at others"


@dataclass(frozen=True, slots=True)
class KeptValue:
    """What shows that an export keeps a value of its example inputs.

    ``places`` are the lines at which the tracer warned. ``differences`` are those between the programs exported from
    the first inputs and from others. ``proven`` is True if the program exported from the others gives the right answer
    there.
    """

    places: tuple[str, ...]
    differences: tuple[str, ...]
    proven: bool

    @property
    def cause(self) -> str:
        """The first words of the message."""
        known = self.places or self.differences
        if not known:
            return AGREES_AT_FIRST
        more = f" and {len(self.places) - 1} more" if len(self.places) > 1 else ""
        return f"the export keeps a value of its example inputs ({known[0]}{more}): {AGREES_AT_FIRST}"

    @property
    def evidence(self) -> tuple[str, ...]:
        """The observations, one a line."""
        shown = (f"torch's tracer warned that the trace keeps a value: {place}" for place in self.places[:MAX_PLACES])
        compared = (f"the program exported from the other inputs has {line}" for line in self.differences)
        right = ("and it gives the right answer there",) if self.proven else ()
        return (*shown, *compared, *right)


@dataclass(frozen=True, slots=True)
class FailedAtOthers:
    """Inputs of :func:`other_inputs` at which the target is wrong, with its answer."""

    reference: Reference
    answer: Answer
    kept: KeptValue


def kept_value(prepared: CaseContext, target: Target, artifact: Artifact, reference: Reference) -> KeptValue:
    """What shows that the export keeps a value, after it failed at ``reference`` and not at the first inputs."""
    differences: list[str] = []
    proven = False
    if target.exporter in COMPARED_EXPORTERS:
        with tempfile.TemporaryDirectory(prefix="exported-again-") as folder, _ignored_errors():
            again = prepared.exported_from(target, reference.inputs, Path(folder))
            if again is not None:
                differences = program_differences(artifact, again)
                proven = bool(differences) and _gives_right_answer(prepared, target, again, reference)
    return KeptValue(artifact.tracer_warnings, tuple(differences), proven)


def find_kept_value(
    prepared: CaseContext, target: Target, artifact: Artifact, session: Session
) -> FailedAtOthers | None:
    """Try a target that agrees at all inputs of the case with others, if the tracer warned; None if it agrees there.

    Inputs that eager torch or the target refuse say nothing.
    """
    if not artifact.tracer_warnings or target.exporter not in COMPARED_EXPORTERS:
        return None
    tolerance = prepared.tolerance(artifact.opset)
    for reference in prepared.further_references():
        answer: Answer | None = None
        with _ignored_errors():
            answer = session.run(reference.inputs)
        if answer is None or compare_with_reference(answer, reference, tolerance).passed:
            continue
        kept = kept_value(prepared, target, artifact, reference)
        if kept.proven:
            return FailedAtOthers(reference, answer, kept)
    return None


def _gives_right_answer(prepared: CaseContext, target: Target, artifact: Artifact, reference: Reference) -> bool:
    session: Session = plugins("runtimes")[target.runtime].load(artifact, target.options)
    try:
        answer = session.run(reference.inputs)
    finally:
        session.close()
    return compare_with_reference(answer, reference, prepared.tolerance(artifact.opset)).passed


@contextmanager
def _ignored_errors() -> Iterator[None]:
    """Errors of the code under test inside the block only mean that nothing is shown."""
    try:
        yield
    except BaseException as error:
        if not is_from_code_under_test(error):
            raise


def other_inputs(inputs: Inputs) -> Iterator[tuple[str, Inputs]]:
    """Inputs of the same shapes that a model may treat in another way, each with a name for messages.

    Floating values get the other sign, become 0, or 100 times as large. Integers and booleans stay in the range of
    their own values, since they are mostly indices, lengths or masks; a range of one value is widened by one.
    """
    yield "inputs of the opposite sign", {label: _turned(values) for label, values in inputs.items()}
    yield "inputs of zero", {label: _lowest(values) for label, values in inputs.items()}
    yield "inputs 100 times as large", {label: _highest(values) for label, values in inputs.items()}
    if len(inputs) > 1:
        for label, values in list(inputs.items())[:MAX_PLACES]:
            yield f"{label} of the opposite sign", {**inputs, label: _turned(values)}


def _turned(values: Array) -> Array:
    if values.dtype.kind == "b":
        return ~values
    if values.dtype.kind not in "iu" or not values.size:
        return -values
    low, high = int(values.min()), int(values.max())
    if low == high:
        return np.full_like(values, high - 1 if high > 0 else high + 1)
    return (low - values.astype(np.int64) + high).astype(values.dtype)


def _lowest(values: Array) -> Array:
    if values.dtype.kind in "iu" and values.size:
        return np.full_like(values, values.min())
    return np.zeros_like(values)


def _highest(values: Array) -> Array:
    if values.dtype.kind == "b":
        return np.ones_like(values)
    if values.dtype.kind in "iu" and values.size:
        low, high = int(values.min()), int(values.max())
        return np.full_like(values, high + 1 if low == high and high < np.iinfo(values.dtype).max else high)
    with np.errstate(all="ignore"):
        return (values * values.dtype.type(100)).astype(values.dtype)
