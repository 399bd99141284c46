"""Which checks a run consists of: cases by targets, less what was not asked for."""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from harness.errors import UsageError
from harness.spec.glob import matches
from harness.spec.language.case import Case, FileModel, GraphModel, Model, SequentialModel
from harness.spec.targets import FILE, Target

DIGITS = re.compile(r"[0-9]{1,9}")
# Elements of input that take about as long, over all stages, as exporting and checking one small layer.
A_LAYERS_WORTH = 1e6


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``index`` of ``count``, counted from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``I/N`` with 1 <= I <= N. Raises :class:`UsageError` for anything else."""
        index, slash, count = text.partition("/")
        if slash and DIGITS.fullmatch(index) and DIGITS.fullmatch(count) and 1 <= int(index) <= int(count):
            return cls(int(index), int(count))
        raise UsageError(f"--shard {text}: not a part of a whole; write I/N with 1 <= I <= N, such as 1/4")


@dataclass(frozen=True, slots=True)
class Plan:
    """The cases, each with the targets that it is taken to."""

    work: tuple[tuple[Case, tuple[Target, ...]], ...]

    @property
    def checks(self) -> int:
        """How many checks there are."""
        return sum(len(targets) for _, targets in self.work)


def plan(cases: Sequence[Case], targets: Sequence[Target], keywords: Sequence[str], shard: Shard | None) -> Plan:
    """Every case that any of ``keywords`` names, on every target, or this shard's share of them.

    Raises :class:`UsageError` where nothing is left, or no target fits a case: a run that verifies nothing must not
    look like a pass.
    """
    if not targets:
        raise UsageError("no target is named; name one with --targets, or a set in targets.yaml")
    asked = named(cases, keywords)
    if shard is not None:
        asked = _share(asked, shard)
        if not asked:
            raise UsageError(f"--shard {shard.index}/{shard.count}: holds no case; use fewer shards")
    return Plan(tuple((case, _fitting(case, targets)) for case in asked))


def named(cases: Sequence[Case], keywords: Sequence[str]) -> list[Case]:
    """The cases whose id holds a keyword, or is matched whole by it as a glob; ``[`` and ``]`` stand for themselves.

    All of them where there is no keyword. Raises :class:`UsageError` where none is left.
    """
    found = [case for case in cases if not keywords or any(_names(keyword, case.id) for keyword in keywords)]
    if not found:
        raise UsageError(f"-k {' '.join(keywords)}: names none of the cases; harness list shows them")
    return found


def _names(keyword: str, case_id: str) -> bool:
    return keyword in case_id or matches(keyword, case_id)


def _fitting(case: Case, targets: Sequence[Target]) -> tuple[Target, ...]:
    """Those of ``targets`` that can be asked of ``case``: a model file is not exported, and nothing else is a file."""
    is_file = isinstance(case.model.model, FileModel)
    fitting = tuple(target for target in targets if (target.exporter == FILE) == is_file)
    if not fitting:
        asked = ", ".join(map(str, targets))
        kind, right = ("a model file", f"{FILE}/ort-cpu") if is_file else ("a spec's case", "trace/torch-cpu")
        raise UsageError(f"--targets {asked}: none of them takes {case.id}, which is {kind}; add one such as {right}")
    return fitting


def _share(cases: Sequence[Case], shard: Shard) -> list[Case]:
    """This shard's share, by cost: the dearest case first, each to the shard that has the least to do so far."""
    loads = [(0.0, index) for index in range(1, shard.count + 1)]
    mine: set[str] = set()
    for case in sorted(cases, key=lambda case: (-_cost(case), case.id)):
        load, index = heapq.heappop(loads)
        heapq.heappush(loads, (load + _cost(case), index))
        if index == shard.index:
            mine.add(case.id)
    return [case for case in cases if case.id in mine]


def _cost(case: Case) -> float:
    """What a case takes, in units of one small layer: each layer is exported, and each set of inputs is run."""
    elements = sum(prod(spec.shape) for spec in case.inputs)
    return _layers(case.model.model) + (1 + len(case.also)) * elements / A_LAYERS_WORTH


def _layers(model: Model) -> int:
    match model:
        case SequentialModel(steps):
            return len(steps)
        case GraphModel(nodes):
            return len(nodes)
        case _:
            return 1
