"""The checks of a run: which cases run on which targets."""

from __future__ import annotations

import heapq
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod

from harness.errors import UsageError
from harness.registry import plugins
from harness.spec.glob import matches
from harness.spec.language.case import Case, FileModel, GraphModel, Model, SequentialModel, StoredModel
from harness.spec.language.inputs.draws import input_set_count
from harness.spec.model_files import MODULE_FORMATS
from harness.spec.quoting import join_names
from harness.spec.targets import FILE, FORMATS, Target, runs_format
from harness.spec.targets.sets import TargetSets, targets_of

DIGITS = re.compile(r"[0-9]{1,9}")
ELEMENTS_PER_LAYER = 1e6
"""Input elements that take about as long, over all stages, as exporting and checking one small layer."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard ``index`` of ``count``, counted from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``I/N`` with 1 <= I <= N. Raises :class:`UsageError` for anything else."""
        index, slash, count = text.partition("/")
        if slash and DIGITS.fullmatch(index) and DIGITS.fullmatch(count) and 1 <= int(index) <= int(count):
            return cls(int(index), int(count))
        raise UsageError(f"--shard {text}: not a shard; write I/N with 1 <= I <= N, such as 1/4")


@dataclass(frozen=True, slots=True)
class Plan:
    """The cases of a run, each with the targets that it runs on, and the keywords that match none of the cases."""

    jobs: tuple[tuple[Case, tuple[Target, ...]], ...]
    unmatched: tuple[str, ...] = ()

    @property
    def checks(self) -> int:
        """The number of checks."""
        return sum(len(targets) for _, targets in self.jobs)

    def only(self, checks: Collection[tuple[str, str]]) -> Plan:
        """The part of the plan whose checks, a case's id and a target each, are among ``checks``.

        Raises :class:`UsageError` if there is none.
        """
        kept = (
            (case, tuple(each for each in targets if (case.id, str(each)) in checks)) for case, targets in self.jobs
        )
        jobs = tuple((case, targets) for case, targets in kept if targets)
        if not jobs:
            cases = {case.id for case, _ in self.jobs}
            target = next((target for case, target in sorted(checks) if case in cases), None)
            same = "name the same specs" if target is None else f"give the same --targets, such as {target}"
            message = f"--lf: none of the {len(checks):,} checks that failed is among these"
            raise UsageError(f"{message}; {same}, or run without --lf")
        return Plan(jobs, self.unmatched)


def plan(
    cases: Sequence[Case],
    targets: Sequence[Target],
    keywords: Sequence[str],
    shard: Shard | None,
    *,
    by_default: TargetSets | None = None,
) -> Plan:
    """Every case that matches a keyword, on every target that fits it; with ``shard``, this shard's share of the cases.

    ``by_default`` are the sets of targets if the user named none. A case with files under test is then about these
    alone, on the targets that it names itself: its model is not exported as well.

    Raises :class:`UsageError` if no case is left, or no target fits a case: a run that verifies nothing must not look
    like a pass.
    """
    if not targets:
        raise UsageError("no target is given; name one with --targets, or define a set in targets.yaml")
    selected = select_cases(cases, keywords)
    if shard is not None:
        selected = _in_shard(selected, shard)
        if not selected:
            raise UsageError(f"--shard {shard.index}/{shard.count}: holds no case; use fewer shards")
    jobs = tuple((case, _fitting_targets(case, targets, by_default=by_default)) for case in selected)
    return Plan(jobs, unmatched_keywords(cases, keywords))


def select_cases(cases: Sequence[Case], keywords: Sequence[str]) -> list[Case]:
    """The cases whose id contains a keyword, or matches it as a glob over the whole id; ``[`` and ``]`` are literal.

    All cases if there is no keyword. Raises :class:`UsageError` if none matches.
    """
    selected = [case for case in cases if not keywords or any(_selects(keyword, case.id) for keyword in keywords)]
    if not selected:
        raise UsageError(f"-k {' '.join(keywords)}: matches no case; harness list shows the ids")
    return selected


def unmatched_keywords(cases: Sequence[Case], keywords: Sequence[str]) -> tuple[str, ...]:
    """The keywords that match no case. Where others match one, such a keyword is easily overlooked."""
    return tuple(word for word in dict.fromkeys(keywords) if not any(_selects(word, case.id) for case in cases))


def _selects(keyword: str, case_id: str) -> bool:
    return keyword in case_id or matches(keyword, case_id)


def _fitting_targets(case: Case, targets: Sequence[Target], *, by_default: TargetSets | None) -> tuple[Target, ...]:
    """The targets that can run ``case``. Raises :class:`UsageError` if there is none."""
    if by_default is not None and case.targets:
        own = by_default.select(case.targets)
        return tuple(target for each in own for target in _fitting_targets(case, [each], by_default=None))
    fitting = tuple(target for target in targets if fits(case, target))
    if by_default is not None and case.files:
        fitting = tuple(target for target in fitting if target.tested_file is not None)
    if fitting:
        return fitting
    names = ", ".join(map(str, targets))
    for target in targets:
        if target.tested_file in case.files:
            file = case.files[str(target.tested_file)]
            if target.transforms and file.format != "onnx":
                message = f"--targets {target}: {file.path} is {FORMATS[file.format]}, and transforms change ONNX files"
                raise UsageError(f"{message}; remove +{target.transforms[0]}")
            runtimes = join_names(each.runtime for each in targets_of(str(target.tested_file), file))
            message = f"--targets {target}: {file.path} is {FORMATS[file.format]}, which {target.runtime} does not run"
            raise UsageError(f"{message}; use one of {runtimes}")
    model = case.model.model
    if isinstance(model, FileModel):
        kind = "a model file" if model.format == "onnx" else f"a model file in {FORMATS[model.format]}"
        example = f"{FILE}/ort-cpu"
    elif case.files:
        kind, example = "about files", str(targets_of(*next(iter(case.files.items())))[0])
    elif isinstance(model, StoredModel):
        message = f"{case.id} has a file as its model, and nothing to compare with it"
        raise UsageError(f"{message}; add `files: {{deployed: build/model.onnx}}`")
    else:
        kind, example = "a spec's case", "trace/torch-cpu"
    raise UsageError(f"--targets {names}: none of them fits {case.id}, which is {kind}; add one such as {example}")


def fits(case: Case, target: Target) -> bool:
    """True if ``target`` can run ``case``.

    A recorded model runs only on ``file/...`` and a file under test only on its own ``file:NAME/...``, on runtimes of
    its format. Every model that torch can build or load is exported.
    """
    model = case.model.model
    if target.exporter == FILE or isinstance(model, FileModel):
        if target.exporter != FILE or not isinstance(model, FileModel):
            return False
        return runs_format(plugins("runtimes")[target.runtime], model.format)
    if target.tested_file is not None:
        file = case.files.get(target.tested_file)
        if file is None or (target.transforms and file.format != "onnx"):
            return False
        return runs_format(plugins("runtimes")[target.runtime], file.format)
    return not isinstance(model, StoredModel) or model.format in MODULE_FORMATS


def _in_shard(cases: Sequence[Case], shard: Shard) -> list[Case]:
    """The cases of this shard. The most expensive case is assigned first, always to the shard with the least load."""
    loads = [(0.0, index) for index in range(1, shard.count + 1)]
    ids: set[str] = set()
    for case in sorted(cases, key=lambda case: (-_cost(case), case.id)):
        load, index = heapq.heappop(loads)
        heapq.heappush(loads, (load + _cost(case), index))
        if index == shard.index:
            ids.add(case.id)
    return [case for case in cases if case.id in ids]


def _cost(case: Case) -> float:
    """The cost of a case in units of one small layer: each layer is exported, and each set of inputs is run."""
    elements = sum(prod(spec.shape) for spec in case.inputs)
    return _layer_count(case.model.model) + input_set_count(case) * elements / ELEMENTS_PER_LAYER


def _layer_count(model: Model) -> int:
    match model:
        case SequentialModel(steps):
            return len(steps)
        case GraphModel(nodes):
            return len(nodes)
        case _:
            return 1
