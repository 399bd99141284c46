"""All samples of a case together: the table, the worst of them, agreement with its interval, accuracy, the metric.

Rows come one by one and only their numbers are kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.check.samples.sample_rows import Ratio, SampleRow
from harness.compare.decisions import percent, wilson_interval
from harness.compare.metrics.similarity import decibels
from harness.spec.language.case import DataSettings
from harness.spec.language.tolerances import Decisions, Sqnr, Tolerance, rules_of

WORST = 10
COLUMNS = ("sample", "sqnr", "max_abs", "agree", "ties", "of", "margin")


@dataclass
class SampleSummary:
    """The numbers so far. ``tolerance`` holds the rules about all samples together, ``decisions`` the one that counts.

    ``settings`` are those of the spec. ``judged`` is False if the tolerance has no rule about decisions: they are then
    counted, because there are labels, and break nothing.
    """

    tolerance: Tolerance
    settings: DataSettings
    decisions: Decisions | None = None
    judged: bool = True
    count: int = 0
    failing: int = 0
    worst: list[SampleRow] = field(default_factory=list)
    _table: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in COLUMNS})
    _signal: list[float] = field(default_factory=list)
    _noise: list[float] = field(default_factory=list)
    _agree: int = 0
    _ties: int = 0
    _of: int = 0
    _decided: Counter[float] = field(default_factory=Counter)
    _correct: list[tuple[int, int]] = field(default_factory=list)
    _metric: tuple[Ratio, Ratio] = (Ratio(0.0, 0.0), Ratio(0.0, 0.0))

    def add(self, row: SampleRow) -> None:
        """Add one sample."""
        self.count += 1
        self.failing += row.problem is not None
        for name in COLUMNS:
            self._table[name].append(getattr(row, name))
        self._signal, self._noise = _added(self._signal, row.signal), _added(self._noise, row.noise)
        self._agree, self._ties, self._of = self._agree + row.agree, self._ties + row.ties, self._of + row.of
        if row.decision is not None:
            self._decided[row.decision] += 1
        if row.correct is not None:
            self._correct.append(row.correct)
        if row.metric is not None:
            one, other = (_sum(*pair) for pair in zip(self._metric, row.metric, strict=True))
            self._metric = one, other
        self.worst = sorted((*self.worst, row), key=lambda each: each.severity, reverse=True)[:WORST]

    def problems(self) -> Iterator[str]:
        """One sentence for each rule about all samples that is broken."""
        yield from self._ratio_problems()
        share, counted = self._share(self._agree, self._of - self._ties), self._of - self._ties
        if self.decisions is not None and self.judged and counted and share < self.decisions.at_least:
            low, high = wilson_interval(self._agree, counted)
            ties = f", {self._ties:,} further are ties" if self._ties else ""
            yield (
                f"{counted - self._agree:,} of {counted:,} decisions by {self.decisions.by} over all samples "
                f"differ{ties}; agreement {percent(share)} (95 % interval {percent(low)} to {percent(high)}), "
                f"allowed: at least {percent(self.decisions.at_least)}"
            )
        yield from self._drop_problems()

    def _drop_problems(self) -> Iterator[str]:
        drop, allowed, metric = self.drop, self.settings.allowed_drop, self.settings.metric
        if allowed is None:
            return
        if drop is None and metric is not None:
            yield f"metric {metric} was not measured: its denominators sum to 0; leave out `allowed_drop`"
        elif drop is None:
            yield "accuracy was not measured: no floating output decides; give a `metric`, or leave out `allowed_drop`"
        elif drop > allowed:
            name = "accuracy" if metric is None else f"metric {metric}"
            reference, target = self._measured
            yield (
                f"{name} {target:.4g}, the reference's {reference:.4g}: worse by {drop:.4g}; "
                f"allowed: at most {allowed:g}"
            )

    @property
    def inconclusive(self) -> str | None:
        """Why a pass says little: all decisions are ties, or one answer for all would pass; None if it does not."""
        if self.decisions is None or not self.judged or not self._of:
            return None
        if self._of == self._ties:
            return "all decisions are ties, so none was compared"
        (value, frequent), of = (self._decided.most_common(1) or [(0.0, 0)])[0], self._decided.total()
        if of and frequent / of >= self.decisions.at_least:
            share = percent(frequent / of)
            return f"the reference decides {value:g} for {share} of the samples: always {value:g} would pass too"
        return None

    @property
    def drop(self) -> float | None:
        """How much worse the target is than the reference, by the metric or by the accuracy; None without either."""
        reference, target = self._measured
        if math.isnan(reference) or math.isnan(target):
            return None
        lower = self.settings.metric is not None and self.settings.better == "lower"
        return target - reference if lower else reference - target

    def to_json(self) -> dict[str, Any]:
        """The summary as it stands in report.json, with the table of all samples by column."""
        result: dict[str, Any] = {"samples": self.count, "failing": self.failing}
        if self.decisions is not None and self._of:
            result["decisions"] = {
                "by": self.decisions.by,
                **self._counts(self._agree, self._of - self._ties),
                "ties": self._ties,
            }
        if self._correct:
            of = self._of
            sides = zip(("reference", "target"), map(sum, zip(*self._correct, strict=True)), strict=True)
            result["accuracy"] = {name: self._counts(int(correct), of) for name, correct in sides} | {"drop": self.drop}
        if self.settings.metric is not None:
            reference, target = self._measured
            result["metric"] = {
                "name": self.settings.metric,
                "better": self.settings.better,
                "reference": reference,
                "target": target,
                "drop": self.drop,
            }
        result["allowed_drop"] = self.settings.allowed_drop
        result["sqnr"] = [decibels(*sums) for sums in zip(self._signal, self._noise, strict=True)]
        result["worst"] = [_shown(row) for row in self.worst]
        result["table"] = {
            name: values for name, values in self._table.items() if any(each is not None for each in values)
        }
        return result

    def _ratio_problems(self) -> Iterator[str]:
        for index, (signal, noise) in enumerate(zip(self._signal, self._noise, strict=True)):
            for rule in rules_of(self.tolerance.for_output(index)):
                ratio = decibels(signal, noise)
                if isinstance(rule, Sqnr) and (signal or noise) and ratio < rule.decibels:
                    yield f"SQNR {ratio:.4g} dB over all samples; allowed: {rule}"

    @property
    def _measured(self) -> tuple[float, float]:
        """The metric of both sides, or the accuracy; NaN for what was not measured."""
        if self.settings.metric is not None:
            reference, target = (
                ratio.numerator / ratio.denominator if ratio.denominator else math.nan for ratio in self._metric
            )
            return reference, target
        if not self._correct:
            return math.nan, math.nan
        one, other = (sum(side) / self._of for side in zip(*self._correct, strict=True))
        return one, other

    def _counts(self, right: int, of: int) -> dict[str, Any]:
        return {"agree": right, "of": of, "share": self._share(right, of), "interval": list(wilson_interval(right, of))}

    @staticmethod
    def _share(right: int, of: int) -> float:
        return right / of if of else 1.0


def _shown(row: SampleRow) -> dict[str, Any]:
    names = ("sample", "sqnr", "max_abs", "agree", "ties", "of", "problem")
    return {name: getattr(row, name) for name in names}


def _added(sums: Sequence[float], further: Sequence[float]) -> list[float]:
    if not sums:
        return list(further)
    return [one + other for one, other in zip(sums, further, strict=False)]


def _sum(one: Ratio, other: Ratio) -> Ratio:
    return Ratio(one.numerator + other.numerator, one.denominator + other.denominator)
