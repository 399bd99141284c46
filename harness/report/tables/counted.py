"""How often a model calls each of its layers, times how long a call takes, beside the time of the whole model.

The cases of one spec that have a ``count`` are the layers of a model; a case without one is the model itself.
``harness scan`` writes such specs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.report.tables import code, table, targets
from harness.report.wording import CaseName, format_number
from harness.result import Result


@dataclass(frozen=True, slots=True)
class LayerTime:
    """A case with its ``count``; ``us`` is count x median latency by target, in microseconds, where it was timed."""

    case: str
    count: int | None
    us: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ModelTime:
    """The layers of one spec, the slowest first, and the cases of whole models in it."""

    spec: str
    targets: Sequence[str]
    layers: Sequence[LayerTime]
    whole: Sequence[LayerTime]

    def rows(self) -> Iterator[tuple[str, str, list[str]]]:
        """A name, a count and a cell for each target: the layers, their sum, and the whole models."""
        sums = {target: sum(each.us.get(target, 0.0) for each in self.layers) for target in self.targets}
        for each in self.layers:
            cells = [_cell(each.us.get(target), sums[target]) for target in self.targets]
            yield CaseName.parse(each.case).short, f"{each.count:,}", cells
        yield "sum of the layers", "", [self._sum(target, sums[target]) for target in self.targets]
        for each in self.whole:
            cells = [format_number(each.us.get(target)) for target in self.targets]
            yield f"{CaseName.parse(each.case).short} (the model)", "", cells

    def _sum(self, target: str, us: float) -> str:
        missing = sum(target not in each.us for each in self.layers)
        return format_number(us) + (f", without {missing} not timed" if missing else "")


def model_times(results: Sequence[Result]) -> list[ModelTime]:
    """The specs in which at least one layer with a count was timed."""
    by_spec: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        by_spec.setdefault(CaseName.parse(result.case).spec, {}).setdefault(result.case, []).append(result)
    times = []
    for spec, cases in by_spec.items():
        timed = [each for group in cases.values() for each in group if each.count is not None and _median(each)]
        if not timed:
            continue
        rows = [_layer_time(group) for group in cases.values()]
        layers = sorted(
            (each for each in rows if each.count is not None), key=lambda each: -max(each.us.values(), default=0)
        )
        times.append(ModelTime(spec, targets(timed), layers, [each for each in rows if each.count is None and each.us]))
    return times


def model_time_blocks(results: Sequence[Result]) -> Iterator[str]:
    """The same as Markdown tables; nothing if no case has a count."""
    for each in model_times(results):
        yield f"### Layers of {code(each.spec)}: count x latency in microseconds, and the share of their sum"
        yield table(
            ["case", "count", *map(code, each.targets)],
            [[code(name), count or "-", *cells] for name, count, cells in each.rows()],
        )


def _layer_time(group: Sequence[Result]) -> LayerTime:
    count = group[0].count
    us = {each.target: median * (count or 1) for each in group if (median := _median(each))}
    return LayerTime(group[0].case, count, us)


def _median(result: Result) -> float | None:
    median = (result.latency or {}).get("median_us")
    return float(median) if median else None


def _cell(us: float | None, total: float) -> str:
    return "-" if us is None else f"{format_number(us)} ({us / total:.0%})"
