"""Whether an export keeps values of its example inputs: a branch, a length, a number read with ``item()``.

Such an export is right for the inputs that it was made with, and for all that lead to the same values. Two things show
it. The program exported from other inputs is another one. And torch's tracer warns at the line where the model reads
the value.

Where all the case's inputs agree, a program is tried with inputs that a model may treat in another way: a traced one
with other values (:mod:`harness.check.module.further_inputs`), one with dynamic axes at other sizes. Some of these are
not inputs that the spec describes. So an answer that differs there fails the check only if the export is to blame for
certain: exported from these inputs, the program is another one, and gives the right answer. Inputs that only are
larger, so that a threshold is reached, are inputs like any other; so is a batch of one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.check.judging.judge import Answer
from harness.check.judging.program_difference import program_differences
from harness.check.stages import is_from_code_under_test, message_of, symptom_of
from harness.compare.calibrated import plain_rule
from harness.compare.verdict import compare, compare_with_reference
from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.registry import plugins
from harness.runtimes import Session
from harness.runtimes._validation import read_signature
from harness.spec.language.tolerances import Exact, Tolerance
from harness.spec.targets import Target

Array = NDArray[Any]
Inputs = Mapping[str, Array]
ExportFrom = Callable[[Target, Inputs, Path], Artifact | None]
"""As :meth:`harness.check.case_context.CaseContext.exported_from`."""

TRACING_EXPORTERS = {"trace", "onnx-torchscript"}
"""Exporters that record what one call does. The others refuse a branch on values."""
COMPARED_EXPORTERS = {*TRACING_EXPORTERS, "onnx-dynamo"}
"""Exporters whose programs depend on the example inputs and can be compared."""

OtherKind = Literal["values", "integers", "sizes", "promised sizes", "thresholds", "alike"]
"""How further inputs differ: in values such as signs, in the largest or smallest integer, in the sizes of dynamic axes,
or in the side of a number that the module compares with (:mod:`harness.model.thresholds`). Promised sizes are one along
an open first axis, as a batch has it where a model is deployed, and those of axes that a file under test declares open.
Those that are alike have other values in the same range.
"""
NEED_NO_PROOF: frozenset[OtherKind] = frozenset({"promised sizes", "thresholds"})
"""Kinds of inputs that are inputs like any other."""

UNWARNED = 3
"""How many inputs with other values are tried where the tracer did not warn."""
MAX_PLACES = 5
AGREES_AT_FIRST = "the export agrees at the inputs that it was made with, and not at others"
FILE_AGREES_AT_FIRST = "the file agrees at the first inputs, and not at others"
OPEN_AXES = "the reference takes inputs of these sizes, and the file declares the axes open"


@dataclass(frozen=True, slots=True)
class KeptValue:
    """What shows that an export keeps a value of its example inputs.

    For a file that harness did not export, nothing does.

    ``places`` are the lines at which the tracer warned. ``differences`` are those between the programs exported from
    the first inputs and from others. ``proven`` is True if the program exported from the others gives the right answer
    there. ``stopped`` is the error of a file that gives no answer at other sizes of axes that it declares open.
    """

    places: tuple[str, ...]
    differences: tuple[str, ...]
    proven: bool
    of_file: bool = False
    stopped: str | None = None

    @property
    def is_known(self) -> bool:
        """True if a place or a difference is known."""
        return bool(self.places or self.differences)

    @property
    def cause(self) -> str:
        """The first words of the message."""
        known = self.places or self.differences
        if not known:
            return FILE_AGREES_AT_FIRST if self.of_file else AGREES_AT_FIRST
        more = f" and {len(self.places) - 1} more" if len(self.places) > 1 else ""
        return f"the export keeps a value of its example inputs ({known[0]}{more}): {AGREES_AT_FIRST}"

    @property
    def evidence(self) -> tuple[str, ...]:
        """The observations, one a line."""
        shown = (f"torch's tracer warned that the trace keeps a value: {place}" for place in self.places[:MAX_PLACES])
        compared = (f"the program exported from the other inputs has {line}" for line in self.differences)
        right = ("and it gives the right answer there",) if self.proven else ()
        return (*shown, *compared, *right, *((OPEN_AXES,) if self.stopped else ()))


@dataclass(frozen=True, slots=True)
class FailedAtOthers:
    """Inputs beside those of the case at which the target is wrong, with its answer.

    ``kept`` is the value of the example inputs that the export keeps. It is None for a plain difference at inputs that
    reach a threshold. The answer is empty for a file that stops.
    """

    reference: Reference
    answer: Answer
    kept: KeptValue | None

    @property
    def stopped(self) -> str | None:
        """Why there is no answer; None if there is one."""
        return None if self.kept is None else self.kept.stopped


def kept_value(
    target: Target, artifact: Artifact, reference: Reference, tolerance: Tolerance, export_from: ExportFrom
) -> KeptValue:
    """What shows that the export keeps a value, after it failed at ``reference`` and not at the first inputs.

    ``export_from`` exports the model once more, with other inputs as its example. ``tolerance`` is that of an answer.
    """
    differences: list[str] = []
    proven = False
    if target.exporter in COMPARED_EXPORTERS and not target.transforms:
        with tempfile.TemporaryDirectory(prefix="exported-again-") as folder, _IgnoredErrors():
            again = export_from(target, reference.inputs, Path(folder))
            if again is not None:
                differences = program_differences(artifact, again)
                proven = bool(differences) and _gives_right_answer(target, again, reference, tolerance)
    of_file = not target.exports
    return KeptValue(artifact.tracer_warnings, tuple(differences), proven, of_file)


def stopped_at_others(
    target: Target, artifact: Artifact, references: Sequence[Reference], tolerance: Tolerance, export_from: ExportFrom
) -> tuple[str, KeptValue] | None:
    """What shows that an export keeps a value which runs at the first inputs and stops at others, and at which.

    None if it stops at the first inputs, or if nothing is shown. The arguments are as for :func:`kept_value`.
    """
    first, *others = references
    if target.exporter not in COMPARED_EXPORTERS or not others:
        return None
    session: Session = plugins("runtimes")[target.runtime].load(artifact, target.options)
    try:
        if _answer(session.run, first.inputs) is None:
            return None
        stopped = next((each for each in others if _answer(session.run, each.inputs) is None), None)
    finally:
        session.close()
    if stopped is None or stopped.at is None:
        return None
    kept = kept_value(target, artifact, stopped, tolerance, export_from)
    return (stopped.at, kept) if kept.is_known else None


def find_kept_value(
    target: Target,
    artifact: Artifact,
    session: Session,
    references: Sequence[Reference],
    tolerance: Tolerance,
    further_inputs: Callable[[Collection[OtherKind]], Iterable[OtherInputs]],
    export_from: ExportFrom,
) -> FailedAtOthers | None:
    """Try a target that agrees at all inputs of the case with others; None if it agrees there, or nothing is shown.

    For a module of the user's: no other branches on values. A warning of the tracer is a reason to try all inputs with
    other values. Inputs that eager torch refuses say nothing, nor those that the target refuses, unless it has
    promised to take them. If the ``references`` at the case's own inputs show that
    the module keeps state, each answer is that of a first call. ``tolerance`` and ``export_from`` are as for
    :func:`kept_value`.
    """
    if target.transforms:
        return None
    kinds: set[OtherKind] = {"thresholds", "promised sizes"}
    kinds |= {"sizes"} if target.exporter in COMPARED_EXPORTERS else set()
    kinds |= {"values", "integers"} if target.exporter in TRACING_EXPORTERS else set()
    keeps_state = any(each.keeps_state for each in references)
    run = partial(_answer_of_new_session, target, artifact) if keeps_state else session.run
    unwarned = 0
    for other in further_inputs(kinds):
        unwarned += other.kind == "values" and not artifact.tracer_warnings
        if other.kind == "values" and unwarned > UNWARNED:
            continue
        answer = _answer_or_error(run, other.inputs)
        if isinstance(answer, BaseException):
            failed = _stopped_at(other, answer)
        else:
            failed = _failed_at(target, artifact, other, answer, references[0], tolerance, export_from)
        if failed is not None:
            return failed
    return None


def _stopped_at(other: OtherInputs, error: BaseException) -> FailedAtOthers | None:
    """A file that stops at inputs which it has promised to take; None if it has not."""
    reference = other.reference() if other.must_run and symptom_of(error) == "exception" else None
    if reference is None or not _is_finite(reference):
        return None
    stopped = f"the file stops: {message_of(error)}"
    return FailedAtOthers(reference, {}, KeptValue((), (), proven=False, of_file=True, stopped=stopped))


def _failed_at(
    target: Target,
    artifact: Artifact,
    other: OtherInputs,
    answer: Answer,
    first: Reference,
    tolerance: Tolerance,
    export_from: ExportFrom,
) -> FailedAtOthers | None:
    """A wrong ``answer`` to ``other``, or one to the ``first`` inputs at a call after these; None if nothing is shown.

    The arguments are as for :func:`find_kept_value`.
    """
    reference = None if about_equal(answer, other.eager) else other.reference()
    if reference is not None and not compare_with_reference(answer, reference, tolerance).passed:
        kept = kept_value(target, artifact, reference, tolerance, export_from)
        if kept.proven:
            return FailedAtOthers(reference, answer, kept)
        if other.kind in NEED_NO_PROOF and _is_finite(reference):
            return FailedAtOthers(reference, answer, kept if other.kind == "promised sizes" else None)
    elif other.first_after is not None:
        following = first.at_call_after(other.name, other.first_after)
        later = _answer(partial(_answer_of_new_session, target, artifact, before=[other.inputs]), following.inputs)
        if later is not None and not compare_with_reference(later, following, tolerance).passed:
            return FailedAtOthers(following, later, None)
    return None


def _is_finite(reference: Reference) -> bool:
    """True if neither eager torch nor its run in float64 overflows: then its answer is as good as at usual inputs."""
    if reference.float64 is None:
        return False
    floating = [values for values in reference.eager.values() if values.dtype.kind == "f"]
    return all(np.isfinite(values).all() for values in (*floating, *reference.float64.values()))


def _answer_of_new_session(target: Target, artifact: Artifact, inputs: Inputs, before: Sequence[Inputs] = ()) -> Answer:
    """The answer of ``artifact`` on ``target`` at a first call, or at one that follows calls with ``before``."""
    session: Session = plugins("runtimes")[target.runtime].load(artifact, target.options)
    try:
        for each in before:
            session.run(each)
        return session.run(inputs)
    finally:
        session.close()


def _answer(run: Callable[[Inputs], Answer], inputs: Inputs) -> Answer | None:
    """The answer that ``run`` gives; None if the target refuses the inputs."""
    answer = _answer_or_error(run, inputs)
    return None if isinstance(answer, BaseException) else answer


def _answer_or_error(run: Callable[[Inputs], Answer], inputs: Inputs) -> Answer | BaseException:
    try:
        return run(inputs)
    except BaseException as error:
        if not is_from_code_under_test(error):
            raise
        return error


def about_equal(answer: Answer, eager: Answer) -> bool:
    """True if the answers are certainly of the same computation. This saves computing a whole reference."""
    if list(answer) != list(eager):
        return False
    rules = {index: plain_rule(values.dtype.name) for index, values in enumerate(eager.values())}
    return compare(answer, eager, Tolerance(Exact(), rules)).passed


def _gives_right_answer(target: Target, artifact: Artifact, reference: Reference, tolerance: Tolerance) -> bool:
    inputs = reference.inputs
    if artifact.format == "onnx":  # this program may read fewer of them
        read = read_signature(artifact.path, tensors_only=False).inputs
        inputs = {name: values for name, values in inputs.items() if name in read}
    answer = _answer_of_new_session(target, artifact, inputs)
    return compare_with_reference(answer, reference, tolerance).passed


class _IgnoredErrors:
    """Errors of the code under test inside the block only mean that nothing is shown."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        return error is not None and is_from_code_under_test(error)


@dataclass(frozen=True, slots=True)
class OtherInputs:
    """Further inputs, with eager torch's answer. ``name`` is for messages.

    ``reference`` computes the whole reference there; it gives None if that is stochastic or cannot be computed.
    ``first_after`` is eager torch's answer to the case's first inputs at a call that follows one with these; None if it
    is that of a first call. ``must_run`` is True if the target has promised to take the inputs.
    """

    name: str
    inputs: Inputs
    eager: Answer
    reference: Callable[[], Reference | None]
    kind: OtherKind = "values"
    first_after: Answer | None = None
    must_run: bool = False
