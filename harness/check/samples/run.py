"""The samples of a case on one target: run one by one, compared, and judged as a whole.

Nothing of a sample is kept but its row, so memory does not grow with their number. Rows are written to a file as they
come, from which an interrupted run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.check.samples.sample_rows import Measuring, SampleLog, SampleRow, decision_rules, user_metric
from harness.check.samples.sample_summary import SampleSummary
from harness.check.settings import Settings
from harness.check.stages import Clock, StageStopped
from harness.data_files import pick, stored_arrays
from harness.model.answer import Reference
from harness.runtimes import Session
from harness.spec.language.case import Case, DataSettings, TensorSpec
from harness.spec.language.tolerances import Tolerance
from harness.spec.targets import Target

Array = NDArray[Any]
ReferenceOf = Callable[[str, tuple[TensorSpec, ...], Target], Reference]
"""Gives the reference at one sample, of which the name and the inputs are given, as a target needs it."""


@dataclass(frozen=True, slots=True)
class SampleOutcome:
    """All samples on one target. ``summary`` is as in report.json, ``problems`` are about all samples together.

    ``worst`` gives the reference of the sample that breaks a rule the most, for a target; None if nothing is broken.
    """

    summary: Mapping[str, Any]
    problems: tuple[str, ...]
    inconclusive: str | None
    worst: Callable[[Target], Reference] | None


def run_samples(
    case: Case,
    target: Target,
    session: Session,
    first: Reference,
    reference_of: ReferenceOf,
    tolerance: Tolerance,
    artifact: str,
    settings: Settings,
    clock: Clock,
) -> SampleOutcome:
    """Run and measure every sample of the case. ``tolerance`` is pooled; ``artifact`` is the digest of the file.

    ``first`` is the reference at the case's own inputs, ``reference_of`` gives that of a sample. Raises
    :class:`StageStopped` for the stage that a sample ends, with its name.
    """
    assert case.data is not None

    def with_flips(name: str, inputs: tuple[TensorSpec, ...], target: Target) -> Reference:
        return replace(reference_of(name, inputs, target), flips=first.flips)

    with clock.stage("compare"):
        metric = None if case.data.metric is None else user_metric(case.data.metric)
        wants_accuracy = case.data.has_labels and metric is None
        rules = decision_rules(tolerance, first.eager, by_default=wants_accuracy)
        measuring = Measuring(tolerance, rules, _own_errors(first), metric)
    judged = bool(decision_rules(tolerance, first.eager, by_default=False))
    summary = SampleSummary(tolerance, case.data, next(iter(rules.values()), None), judged)
    log = SampleLog(settings.samples, case, target, artifact)
    earlier, labels = log.rows(), _Labels(case.data)
    for index, (name, inputs) in enumerate(case.samples):
        row = earlier.get(index)
        if row is None:
            label = labels.of(index, inputs)
            sample_reference = partial(with_flips, name, inputs, target)
            row = _row(sample_reference, session, measuring, clock, index, name, label)
            log.add(row)
        summary.add(row)
    problems = tuple(summary.problems())
    worst = summary.worst[0]
    broken = worst.problem is not None or (problems and (worst.wrong or worst.sqnr is not None))
    of_worst = partial(with_flips, *case.samples[worst.index]) if broken else None
    return SampleOutcome(summary.to_json(), problems, summary.inconclusive, of_worst)


def _row(
    sample_reference: Callable[[], Reference],
    session: Session,
    measuring: Measuring,
    clock: Clock,
    index: int,
    name: str,
    label: Array | None,
) -> SampleRow:
    try:
        with clock.stage("build"):
            reference = sample_reference()
        with clock.stage("run"):
            answer = reference.comparable_part(session.run(reference.inputs))
        with clock.stage("compare"), np.errstate(all="ignore"):
            return measuring.row(index, name, answer, reference, label)
    except StageStopped as stop:
        raise replace(stop, message=f"at sample {name}: {stop.message}") from stop


def _own_errors(reference: Reference) -> dict[str, float]:
    """The reference's own largest errors by output, at the case's own inputs: below them a decision is a tie."""
    errors: dict[str, float] = {}
    for name, values in (reference.float64 or {}).items():
        if name in reference.eager and values.shape == reference.eager[name].shape:
            error = np.abs(reference.eager[name].astype(np.float64) - values)
            errors[name] = float(np.max(error, where=np.isfinite(error), initial=0.0))
    return errors


class _Labels:
    """The labels of the samples, of which only those in a file of their own are in memory."""

    def __init__(self, settings: DataSettings) -> None:
        self._key, self._values = settings.label_key, None
        if settings.labels is not None:
            path = Path(settings.labels.path)
            self._values = pick(stored_arrays(path), settings.labels.key, path).read()

    def of(self, index: int, inputs: tuple[TensorSpec, ...]) -> Array | None:
        """The label of sample number ``index``; None without labels."""
        if self._values is not None:
            return np.asarray(self._values[index])
        if self._key is None or inputs[0].source is None:
            return None
        path = Path(inputs[0].source.path)
        return pick(stored_arrays(path), self._key, path).read()
