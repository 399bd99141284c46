"""Attribute the disagreement of a recorded model, which was not exported here, to one hop.

    recorded answer <- file -> optimized graph -> kernels -> answer

The file is evaluated by itself twice: in float64, and in the dtypes of the file, with every rounding that it asks for.
If both give the recorded answer, the runtime is wrong: by rounding, if its answer is as close to float64 as the
recorded one; by its optimizer, if the file is right without it; else by a kernel. If both give the runtime's answer,
the recorded answer is not what the file computes.

The evaluator has faults of its own, so independent runtimes run the file too (:func:`_attribute_by_other_runtimes`).
One that contradicts the evaluator prevents the blame; two that agree take its place. No hop is blamed for a graph that
no evaluation can decide (:func:`harness.blame.disagreement.undecidable_reason`), and the evaluation is not used for
operators for which it is not believed (:mod:`harness.blame.evaluator`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.blame.declared import declared_difference, has_other_form
from harness.blame.disagreement import (
    MAX_ERROR_RATIO,
    max_error,
    quantizes,
    undecidable_reason,
    with_one_more_rounding,
)
from harness.blame.evaluator import evaluate, evaluate_in_file_dtypes, not_believed_reason
from harness.blame.file_runs import error_summary, independent_answers, run_without_optimizer
from harness.compare.verdict import compare
from harness.exporters import Artifact
from harness.result import Blame
from harness.spec.language.tolerances import Tolerance
from harness.spec.recorded import BACKEND_TOLERANCE
from harness.spec.targets import Target

Array = NDArray[Any]
Answer = Mapping[str, Array]

EVALUATOR_RUNTIME = "reference"
"""The runtime built from the same evaluator. It would only agree with itself, so its answer is no evidence."""

LARGE_ERROR = BACKEND_TOLERANCE.rtol
"""The share of an output's largest value that no rounding of it reaches, unless terms cancel that are larger still."""

MIN_AGREEING = 2
"""Independent runtimes that must give the recorded answer before a kernel is blamed without the evaluator."""


@dataclass(frozen=True, slots=True)
class RecordedDisagreement:
    """A target's answer that disagrees with the recorded one, and what is needed to find the cause."""

    target: Target
    artifact: Artifact
    inputs: Answer
    recorded: Answer
    answer: Answer
    tolerance: Tolerance

    def agree(self, actual: Answer, expected: Answer) -> bool:
        """True if two answers are the same by the tolerance and one more rounding."""
        return _agree(actual, expected, with_one_more_rounding(self.tolerance))

    def differs_from(self, answer: Answer) -> bool:
        """True if the target's answer differs from ``answer`` by more than the tolerance itself."""
        return not _agree(self.answer, answer, self.tolerance)


def _agree(actual: Answer, expected: Answer, tolerance: Tolerance) -> bool:
    dtypes = {name: values.dtype for name, values in expected.items()}
    with np.errstate(all="ignore"):
        cast = {name: np.asarray(values).astype(dtypes.get(name)) for name, values in actual.items()}
    return compare(cast, expected, tolerance).passed


def attribute_recorded(disagreement: RecordedDisagreement) -> tuple[Blame | None, tuple[str, ...]]:
    """The hop to blame, None if the evidence does not decide, and the evidence line by line."""
    path = disagreement.artifact.path
    if has_other_form(disagreement.answer, disagreement.recorded):
        decided = _attribute_form(disagreement)
        if decided is not None:
            return decided
    if reason := undecidable_reason(path) or not_believed_reason(path):
        return None, (reason,)
    evidence: list[str] = []
    evaluations = [
        outputs
        for dtypes, evaluator in (("float64", evaluate), ("the dtypes of the file", evaluate_in_file_dtypes))
        if (outputs := _evaluated(disagreement, dtypes, evaluator, evidence)) is not None
    ]
    gives_recorded = [disagreement.agree(outputs, disagreement.recorded) for outputs in evaluations]
    if gives_recorded == [True, True]:
        blame: Blame | None = _blame_in_runtime(disagreement, evaluations[0], evidence)
        if blame == "kernel" and _another_gives_the_same(disagreement, evidence):
            blame = None
        return blame, tuple(evidence)
    gives_answer = [disagreement.agree(outputs, disagreement.answer) for outputs in evaluations]
    blame = _attribute_by_other_runtimes(
        disagreement, evidence, file_gives_answer=gives_answer == [True, True], file_gives_recorded=any(gives_recorded)
    )
    return blame, tuple(evidence)


def _attribute_form(disagreement: RecordedDisagreement) -> tuple[Blame | None, tuple[str, ...]] | None:
    """The blame for other names, dtypes or shapes than the recorded ones; None if the values may decide.

    They may where the file declares neither form: its evaluation then shows which shape is right. A dtype is not
    evaluated, because float64 takes the place of all others.
    """
    path, answer, recorded = disagreement.artifact.path, disagreement.answer, disagreement.recorded
    if declared := declared_difference(path, answer, recorded, "the recorded answer"):
        return "spec", (declared,)
    if list(answer) == list(recorded) and all(answer[name].dtype == recorded[name].dtype for name in recorded):
        return None
    if declared := declared_difference(path, recorded, answer, "the target's answer"):
        return "kernel", (declared,)
    return None, ("the file declares neither the target's outputs nor the recorded ones",)


def _another_gives_the_same(disagreement: RecordedDisagreement, evidence: list[str]) -> bool:
    """True if an independent runtime gives the target's answer, and not more of them give the recorded one.

    Then the standard may leave the answer open.
    """
    same, recorded = [], []
    for name, outputs in _independent_answers(disagreement, evidence):
        if disagreement.agree(outputs, disagreement.answer):
            same.append(name)
        elif disagreement.agree(outputs, disagreement.recorded):
            recorded.append(name)
    if not same or len(recorded) > len(same):
        return False
    evidence += [f"{name}, an independent runtime, gives the target's answer for the same file" for name in same]
    return True


def _attribute_by_other_runtimes(
    disagreement: RecordedDisagreement, evidence: list[str], *, file_gives_answer: bool, file_gives_recorded: bool
) -> Blame | None:
    """The hop to blame where the evaluator does not give the recorded answer, or gives it in one of two evaluations.

    ``file_gives_answer`` is True if both evaluations give the target's answer, ``file_gives_recorded`` if one of them
    gives the recorded one. The blame is

    - ``spec`` if the evaluator gives the target's answer, and no independent runtime gives the recorded one;
    - ``optimizer`` if the runtime gives the recorded answer with optimization off, no independent runtime gives the
      target's, and rounding is no explanation: something else gives the recorded answer too, or the error is large;
    - ``kernel`` if two independent runtimes give the recorded answer.
    """
    if disagreement.agree(disagreement.answer, disagreement.recorded):
        return None
    right_without_optimizer = _right_only_without_optimizer(disagreement, evidence)
    agreeing, same = 0, False
    for name, outputs in _independent_answers(disagreement, evidence):
        if disagreement.agree(outputs, disagreement.answer):
            evidence.append(f"{name}, an independent runtime, gives the target's answer for the same file")
            same = True
            continue
        which = "the recorded" if disagreement.agree(outputs, disagreement.recorded) else "a third"
        evidence.append(f"{name}, an independent runtime, gives {which} answer for the same file")
        agreeing += which == "the recorded"
        if agreeing == MIN_AGREEING:
            break
    if right_without_optimizer and not same and (agreeing or file_gives_recorded or _error_is_large(disagreement)):
        return "optimizer"
    if agreeing < MIN_AGREEING:
        return _spec_if(file_gives_answer and not agreeing, disagreement, evidence)
    if quantizes(disagreement.artifact.path):
        evidence.append("the file quantizes: a difference in the last bit before that can become a whole step")
        return None
    return "kernel"


def _error_is_large(disagreement: RecordedDisagreement) -> bool:
    """True if a floating output is off by more than :data:`LARGE_ERROR` of its largest value."""
    for name, recorded in disagreement.recorded.items():
        if np.issubdtype(recorded.dtype, np.floating) and name in disagreement.answer:
            finite = np.abs(recorded[np.isfinite(recorded)])
            largest = float(finite.max(initial=0.0))
            if max_error(disagreement.answer[name], recorded) > LARGE_ERROR * largest:
                return True
    return False


def _spec_if(wrong: bool, disagreement: RecordedDisagreement, evidence: list[str]) -> Blame | None:
    if not wrong or disagreement.target.runtime == EVALUATOR_RUNTIME:
        return None
    evidence.append("the recorded answer is not what the file computes")
    return "spec"


def _independent_answers(disagreement: RecordedDisagreement, evidence: list[str]) -> Iterator[tuple[str, Answer]]:
    return independent_answers(disagreement.target, disagreement.artifact, disagreement.inputs, evidence)


def _evaluated(
    disagreement: RecordedDisagreement,
    dtypes: str,
    evaluator: Callable[[Path, Answer], Answer],
    evidence: list[str],
) -> Answer | None:
    try:
        outputs = evaluator(disagreement.artifact.path, disagreement.inputs)
        gives_recorded = disagreement.agree(outputs, disagreement.recorded)
        gives_target = disagreement.agree(outputs, disagreement.answer)
    except Exception as error:  # noqa: BLE001 - an evaluation that fails is evidence that is missing
        evidence.append(f"the file could not be evaluated in {dtypes}: {error_summary(error)}")
        return None
    which = {(True, True): "both answers", (True, False): "the recorded answer", (False, True): "the target's answer"}
    evidence.append(
        f"evaluated in {dtypes}, the file gives {which.get((gives_recorded, gives_target), 'neither answer')}"
    )
    return outputs


def _blame_in_runtime(disagreement: RecordedDisagreement, float64: Answer, evidence: list[str]) -> Blame:
    if disagreement.agree(disagreement.answer, disagreement.recorded):
        return "rounding"
    right_without_optimizer = _right_only_without_optimizer(disagreement, evidence)
    if _as_accurate_as_recorded(disagreement, float64, evidence):
        return "rounding"
    return "optimizer" if right_without_optimizer else "kernel"


def _right_only_without_optimizer(disagreement: RecordedDisagreement, evidence: list[str]) -> bool:
    unoptimized = run_without_optimizer(disagreement.target, disagreement.artifact, disagreement.inputs, evidence)
    if unoptimized is None:
        return False
    right = disagreement.agree(unoptimized, disagreement.recorded)
    changed = disagreement.differs_from(unoptimized)
    which = ("the recorded" if right else "a third") if changed else "the same"
    evidence.append(f"with graph optimization off the same file gives {which} answer")
    return right and changed


def _as_accurate_as_recorded(disagreement: RecordedDisagreement, float64: Answer, evidence: list[str]) -> bool:
    """True if the target's error against float64 is at most twice that of the recorded answer."""
    floating = [name for name in disagreement.recorded if np.asarray(float64[name]).dtype == np.float64]
    if len(floating) < len(disagreement.recorded) or disagreement.answer.keys() != disagreement.recorded.keys():
        return False
    as_accurate = True
    for name in floating:
        expected = np.asarray(float64[name])
        recorded = max_error(disagreement.recorded[name], expected)
        target = max_error(disagreement.answer[name], expected)
        as_accurate = as_accurate and target <= MAX_ERROR_RATIO * recorded
        evidence.append(f"{name}: largest error against float64: recorded answer {recorded:.3g}, target {target:.3g}")
    return as_accurate
