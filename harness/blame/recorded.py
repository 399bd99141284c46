"""Attribute the disagreement of a recorded model, which was not exported here, to one hop.

    recorded answer <- file -> optimized graph -> kernels -> answer

The file is evaluated by itself twice: in float64, and in the dtypes of the file, with every rounding that it asks for.
A hop is blamed only if both evaluations agree. If both give the recorded answer, the runtime is wrong: by rounding, if
its answer is as close to float64 as the recorded one; by its optimizer, if the file is right without it; else by a
kernel. If both give the runtime's answer, the recorded answer is not what the file computes. No hop is blamed for a
graph that no evaluation can decide (:func:`harness.blame.disagreement.undecidable_reason`), or that has operators for
which the evaluation is not believed (:mod:`harness.blame.believed`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.blame.believed import not_believed_reason
from harness.blame.disagreement import MAX_ERROR_RATIO, max_error, undecidable_reason, with_one_more_rounding
from harness.blame.evaluator import evaluate, evaluate_in_file_dtypes
from harness.blame.file_evaluation import error_summary, run_without_optimizer
from harness.compare.verdict import compare
from harness.exporters import Artifact
from harness.result import Blame
from harness.spec.language.tolerances import Tolerance
from harness.spec.targets import Target

Array = NDArray[Any]
Answer = Mapping[str, Array]

EVALUATOR_RUNTIME = "reference"
"""The runtime built from the same evaluator. It would only agree with itself, so its answer is no evidence."""


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
    if reason := undecidable_reason(path) or not_believed_reason(path):
        return None, (reason,)
    evidence: list[str] = []
    evaluations = [
        outputs
        for dtypes, evaluator in (("float64", evaluate), ("the dtypes of the file", evaluate_in_file_dtypes))
        if (outputs := _evaluated(disagreement, dtypes, evaluator, evidence)) is not None
    ]
    if len(evaluations) < 2:
        return None, tuple(evidence)
    if all(disagreement.agree(outputs, disagreement.recorded) for outputs in evaluations):
        return _blame_in_runtime(disagreement, evaluations[0], evidence), tuple(evidence)
    if disagreement.target.runtime != EVALUATOR_RUNTIME and all(
        disagreement.agree(outputs, disagreement.answer) for outputs in evaluations
    ):
        return "spec", (*evidence, "the recorded answer is not what the file computes")
    return None, tuple(evidence)


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
    which = ("the recorded" if changed else "the same") if right else "another"
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
