"""The result of a check and the report of a run: plain data, with the field names of ``report.json``.

:func:`to_json` writes non-finite numbers as the strings ``"nan"``, ``"inf"`` and ``"-inf"``;
:func:`result_from_json` turns them into numbers again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

Status = Literal["passed", "failed", "error", "known", "fixed", "skipped"]
Stage = Literal["build", "export", "load", "run", "compare"]
Symptom = Literal[
    "mismatch", "exception", "crash", "timeout", "out-of-memory", "unsupported", "unavailable", "placement"
]
Blame = Literal["exporter", "optimizer", "kernel", "rounding", "torch", "spec"]

STATUSES: tuple[Status, ...] = ("passed", "failed", "error", "known", "fixed", "skipped")


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """One output compared with its reference.

    ``max_abs`` and ``max_rel`` cover the elements where both are finite; ``max_ulp`` counts the representable numbers
    of the output's dtype between the two. ``mismatched`` of ``of`` elements differ by more than ``tolerance``;
    ``worst`` is the index of the one that exceeds it most. ``least_rtol`` (with atol 0) and ``least_atol`` (with
    rtol 0) are the smallest tolerances that would have passed; infinite if none would. ``problem`` is None if the
    output passes. ``blind`` is the reason why a pass is inconclusive: the tolerance could not have detected an error.
    ``at`` names the shape if the artifact is verified at several. ``extra`` holds the values of metrics of other
    packages, by name.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    tolerance: str
    max_abs: float | None = None
    max_rel: float | None = None
    max_ulp: int | None = None
    mismatched: int = 0
    of: int = 0
    worst: tuple[int, ...] | None = None
    actual_at_worst: float | None = None
    expected_at_worst: float | None = None
    least_rtol: float | None = None
    least_atol: float | None = None
    problem: str | None = None
    blind: str | None = None
    at: str | None = None
    rms: float | None = None
    reference_rms: float | None = None
    extra: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def passed(self) -> bool:
        """True if the structure is equal and every element is within the tolerance."""
        return self.problem is None


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one expectation of the spec.

    ``what`` is the key under ``expect`` (``outputs``, ``shape``, ``range``, ``formula``, ``gradient``,
    ``gradient_range``, ``equals``, ``differs_from``, ``raises``), or ``oracle`` for the comparison of eager torch with
    the layer's float64 reference.
    """

    what: str
    passed: bool
    message: str
    comparison: OutputComparison | None = None


@dataclass(frozen=True, slots=True)
class Distance:
    """The distance of eager torch and of the target from the float64 reference, for one output."""

    index: int
    eager_max_abs: float
    target_max_abs: float
    nearer: Literal["eager", "target", "neither"]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check: one case on one target.

    ``stage`` is the stage that did not finish or that found the disagreement; ``seconds`` is wall time by stage.
    ``evidence`` are the observations behind ``blame``, one per line. ``notes`` are remarks for the reader, on a passed
    check too. ``log`` is what libraries printed, warned and logged during the check. ``checker`` is the error of
    ``onnx.checker``. ``pictures`` show where outputs differ (:mod:`harness.compare.pictures`). ``reproduction`` is a
    script that shows the failure without harness; ``harness explain`` runs it.
    """

    case: str
    target: str
    status: Status
    stage: Stage | None = None
    symptom: Symptom | None = None
    message: str | None = None
    blame: Blame | None = None
    evidence: tuple[str, ...] = ()
    outputs: tuple[OutputComparison, ...] = ()
    findings: tuple[Finding, ...] = ()
    distances: tuple[Distance, ...] = ()
    placement: Mapping[str, Any] | None = None
    latency: Mapping[str, Any] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    checker: str | None = None
    artifact: str | None = None
    reason: str | None = None
    issue: str | None = None
    where: str | None = None
    pictures: tuple[Mapping[str, Any], ...] = ()
    reproduction: str | None = None

    @property
    def inconclusive(self) -> str | None:
        """Why a pass is inconclusive: no output could have shown an error. None if it is not, or no pass."""
        reasons = (output.blind for output in self.outputs if output.blind)
        return next(reasons, None) if self.status == "passed" else None


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run: the environment and the result of every check. ``summary`` is computed, never stored."""

    environment: Mapping[str, Any]
    results: tuple[Result, ...]
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> dict[str, int]:
        """The number of results by status, and of all as ``checks``."""
        counts: dict[str, int] = dict.fromkeys(STATUSES, 0)
        for result in self.results:
            counts[result.status] += 1
        return {"checks": len(self.results), **counts}


def to_json(value: object) -> Any:
    """``value`` as JSON data: dataclasses as objects, tuples as lists, non-finite floats as strings."""
    if type(value) in _PLAIN:  # the most frequent case, tested first: a run has hundreds of thousands of such values
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: to_json(getattr(value, name)) for name in _names(type(value))}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, str) or not isinstance(value, Sequence):
        return value
    return [to_json(item) for item in value]


_PLAIN = frozenset({str, int, bool, type(None)})


@cache
def _names(kind: type) -> tuple[str, ...]:
    """The field names of a dataclass; cached, since a report has the same few classes ten thousand times."""
    return tuple(item.name for item in dataclasses.fields(kind))


_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_FLOATS = {"max_abs", "max_rel", "least_rtol", "least_atol", "actual_at_worst", "expected_at_worst"}


def _comparison(raw: Mapping[str, Any]) -> OutputComparison:
    numbers = {key: _NON_FINITE.get(raw[key], raw[key]) for key in _FLOATS & raw.keys()}
    worst = raw.get("worst")
    return OutputComparison(
        **{
            **raw,
            **numbers,
            "shape": tuple(raw["shape"]),
            "worst": None if worst is None else tuple(worst),
            "extra": {key: _NON_FINITE.get(item, item) for key, item in raw.get("extra", {}).items()},
        }
    )


def result_from_json(raw: Mapping[str, Any]) -> Result:
    """The :class:`Result` that :func:`to_json` wrote as ``raw``.

    Raises ``KeyError`` or ``TypeError`` if ``raw`` is not a result; readers report that with its place in the file.
    """
    findings = tuple(
        Finding(**{**item, "comparison": item.get("comparison") and _comparison(item["comparison"])})
        for item in raw.get("findings", ())
    )
    distances = tuple(
        Distance(**{key: _NON_FINITE.get(item, item) for key, item in distance.items()})
        for distance in raw.get("distances", ())
    )
    return Result(
        **{
            **raw,
            "outputs": tuple(_comparison(item) for item in raw.get("outputs", ())),
            "findings": findings,
            "distances": distances,
            **{key: tuple(raw.get(key, ())) for key in ("evidence", "notes", "log", "pictures")},
        }
    )
