"""Judge every pair of operator and version by every model that can be had for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from onnx import helper
from onnx.defs import onnx_opset_version

from benchmarks.operator_sweep.argued import argument
from benchmarks.operator_sweep.judge import Outcome, State, judge, run_unoptimized
from benchmarks.operator_sweep.models.case import Case, Pair, case
from benchmarks.operator_sweep.models.classical import classical_cases
from benchmarks.operator_sweep.models.dense import dense_cases
from benchmarks.operator_sweep.models.images import image_cases
from benchmarks.operator_sweep.models.microsoft import microsoft_cases
from benchmarks.operator_sweep.models.onnx_tests import cases_of_onnx
from benchmarks.operator_sweep.models.recurrent import recurrent_cases
from benchmarks.operator_sweep.models.versions import DOMAINS, pairs_of_onnx, rewritten


@dataclass(frozen=True, slots=True)
class Judgement:
    """A pair with what came of each of its models, and the models that were left out, with the reason."""

    pair: Pair
    outcomes: tuple[Outcome, ...]
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def state(self) -> State:
        """``disagree`` if one model disagrees, else ``agree`` if one agrees, else why there is no comparison."""
        states = Counter(outcome.state for outcome in self.outcomes)
        order: tuple[State, ...] = ("disagree", "agree", "not evaluated")
        return next((state for state in order if states[state]), "not runnable")

    def of(self, state: State) -> list[Outcome]:
        """The outcomes in ``state``."""
        return [outcome for outcome in self.outcomes if outcome.state == state]


def sweep(wanted: Callable[[Pair], bool], progress: Callable[[str], None]) -> list[Judgement]:
    """A judgement of each wanted pair, sorted by domain, operator and version."""
    cases: dict[tuple[str, str], list[Case]] = {}
    made = (recurrent_cases(), image_cases(), dense_cases(), classical_cases(), microsoft_cases())
    for each in chain(cases_of_onnx(), *made):
        cases.setdefault((each.node.domain, each.node.op_type), []).append(each)
    newest = newest_opset()
    judgements = []
    for pair in filter(wanted, _pairs(cases)):
        models = [
            model
            for each in cases.get((pair.domain, pair.operator), ())
            if (model := each if _only_version(pair) else rewritten(each, pair, newest)) is not None
        ]
        judgements.append(_judged(pair, models))
        progress(f"{pair.domain or 'ai.onnx'} {pair.operator} {pair.since}: {judgements[-1].state}")
    return judgements


def _judged(pair: Pair, models: Sequence[Case]) -> Judgement:
    arguments = {model.name: argument(pair, model.name) for model in models}
    return Judgement(
        pair,
        tuple(judge(model) for model in models if arguments[model.name] is None),
        tuple((name, reason) for name, reason in arguments.items() if reason is not None),
    )


def _pairs(cases: dict[tuple[str, str], list[Case]]) -> Iterator[Pair]:
    """Those of ONNX, and the operators that ONNX does not have, at version 1."""
    known = pairs_of_onnx()
    yield from known
    names = {(pair.domain, pair.operator) for pair in known}
    yield from (Pair(domain, operator, 1, 1) for domain, operator in sorted(cases) if (domain, operator) not in names)


def _only_version(pair: Pair) -> bool:
    return pair.domain not in DOMAINS or pair.operator == "SimplifiedLayerNormalization"


def newest_opset() -> int:
    """The newest opset of ONNX that both onnx and ONNX Runtime know."""
    for opset in range(onnx_opset_version(), 1, -1):
        model = case("probe", "Identity", [np.zeros(1, np.float32)], opset).model
        try:
            run_unoptimized(model, {"x0": np.zeros(1, np.float32)})
        except Exception:  # noqa: BLE001 - ONNX Runtime refuses an opset with an exception of its own
            continue
        return opset
    raise RuntimeError(f"ONNX Runtime loads no model of opset 2 to {onnx_opset_version()}; IR {helper.VERSION_TABLE}")
