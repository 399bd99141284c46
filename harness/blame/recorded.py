"""Attributes the disagreement of a recorded model, which nobody exported here.

    recorded answer <- file -> optimized graph -> kernels -> answer

The file is evaluated by itself twice: in float64, and as it is written, with every rounding that it asks for. Only
where both say the same is anybody blamed. If both give the recorded answer, the runtime is wrong: by rounding, where
the answer is as near to float64 as the recorded one; its optimizer, where the file is right without it; else a kernel.
If both give the runtime's answer, what was recorded is not what the file computes. What no evaluation can settle (see
:mod:`harness.blame.disagreement`) is nobody's fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.blame.disagreement import AS_NEAR, distance, unsettled, with_room
from harness.blame.file_evaluation import evaluate, evaluate_as_written
from harness.compare.verdict import compare
from harness.exporters import Artifact
from harness.registry import plugins
from harness.result import Blame
from harness.spec.language.tolerances import Tolerance
from harness.spec.targets import Target

Array = NDArray[Any]
Verdict = tuple[Blame | None, tuple[str, ...]]

SAME_EVALUATOR = "reference"
"""The runtime that is built from the evaluator that is asked here: where it is right, it only agrees with itself."""


@dataclass(frozen=True, slots=True)
class RecordedDisagreement:
    """A disagreement: what was asked, what was recorded, what the target answered, by what rule."""

    target: Target
    artifact: Artifact
    inputs: Mapping[str, Array]
    recorded: Mapping[str, Array]
    answer: Mapping[str, Array]
    tolerance: Tolerance

    def agree(self, one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
        """True where the two are the same answer, but for rounding."""
        return _agree(one, other, with_room(self.tolerance))

    def is_other_than(self, answer: Mapping[str, Array]) -> bool:
        """True where the target's answer and ``answer`` are further apart than the rule itself lets two answers be."""
        return not _agree(self.answer, answer, self.tolerance)


def _agree(one: Mapping[str, Array], other: Mapping[str, Array], tolerance: Tolerance) -> bool:
    dtypes = {name: values.dtype for name, values in other.items()}
    with np.errstate(all="ignore"):
        cast = {name: np.asarray(values).astype(dtypes.get(name)) for name, values in one.items()}
    return compare(cast, other, tolerance).passed


def attribute_recorded(disagreement: RecordedDisagreement) -> Verdict:
    """The hop to blame, None where nobody can be blamed with reason, and the evidence line by line."""
    if why := unsettled(disagreement.artifact.path):
        return None, (why,)
    evidence: list[str] = []
    answers = [
        answer
        for how, evaluator in (("in float64", evaluate), ("as it is written", evaluate_as_written))
        if (answer := _evaluated(disagreement, how, evaluator, evidence)) is not None
    ]
    if len(answers) < 2:
        return None, tuple(evidence)
    if all(disagreement.agree(answer, disagreement.recorded) for answer in answers):
        return _of_runtime(disagreement, answers[0], evidence), tuple(evidence)
    if disagreement.target.runtime != SAME_EVALUATOR and all(
        disagreement.agree(answer, disagreement.answer) for answer in answers
    ):
        return "spec", (*evidence, "what was recorded is not what the file computes")
    return None, tuple(evidence)


def _evaluated(
    disagreement: RecordedDisagreement,
    how: str,
    evaluator: Callable[[Path, Mapping[str, Array]], Mapping[str, Array]],
    evidence: list[str],
) -> Mapping[str, Array] | None:
    try:
        outputs = evaluator(disagreement.artifact.path, disagreement.inputs)
        recorded, target = (
            disagreement.agree(outputs, disagreement.recorded),
            disagreement.agree(outputs, disagreement.answer),
        )
    except Exception as error:  # noqa: BLE001 - whatever the evaluator cannot do is told as evidence that is missing
        said = str(error).splitlines()[0] if str(error) else "no message"
        evidence.append(f"the file could not be evaluated {how}: {type(error).__name__}: {said[:200]}")
        return None
    whose = {(True, True): "both answers", (True, False): "the recorded answer", (False, True): "the target's answer"}
    evidence.append(f"evaluated {how}, the file gives {whose.get((recorded, target), 'neither answer')}")
    return outputs


def _of_runtime(disagreement: RecordedDisagreement, truth: Mapping[str, Array], evidence: list[str]) -> Blame:
    if disagreement.agree(disagreement.answer, disagreement.recorded):
        return "rounding"
    mended = _right_without_optimizer(disagreement, evidence)
    if _as_near_as_recorded(disagreement, truth, evidence):
        return "rounding"
    return "optimizer" if mended else "kernel"


def _right_without_optimizer(disagreement: RecordedDisagreement, evidence: list[str]) -> bool:
    runtime = plugins("runtimes")[disagreement.target.runtime]
    if "optimization" not in runtime.options or disagreement.target.options.get("optimization") == "disabled":
        return False
    try:
        session = runtime.load(disagreement.artifact, {**disagreement.target.options, "optimization": "disabled"})
        plain = session.run(disagreement.inputs)
        session.close()
    except Exception as error:  # noqa: BLE001 - a graph that runs only when it is optimized is told as evidence
        evidence.append(f"with graph optimization off the same file does not run: {str(error).splitlines()[0][:200]}")
        return False
    right, other = disagreement.agree(plain, disagreement.recorded), disagreement.is_other_than(plain)
    which = ("the recorded" if other else "the same") if right else "another"
    evidence.append(f"with graph optimization off the same file gives {which} answer")
    return right and other


def _as_near_as_recorded(disagreement: RecordedDisagreement, truth: Mapping[str, Array], evidence: list[str]) -> bool:
    """True where the recorded answer is as far from float64 as the target's is, within a factor of two."""
    floating = [name for name, values in disagreement.recorded.items() if np.asarray(truth[name]).dtype == np.float64]
    if len(floating) < len(disagreement.recorded) or disagreement.answer.keys() != disagreement.recorded.keys():
        return False
    near = True
    for name in floating:
        recorded, target = (
            distance(side[name], np.asarray(truth[name])) for side in (disagreement.recorded, disagreement.answer)
        )
        near = near and target <= AS_NEAR * recorded
        evidence.append(f"{name}: the recorded answer is {recorded:.3g} from float64, the target's {target:.3g}")
    return near
