"""The report of a sweep, and the table that harness reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from benchmarks.operator_sweep.sweep import Judgement
from harness.environment import installed_version

MARKDOWN = """\
# Operators that the float64 evaluation is believed for

Blame rests on an evaluation of the exported file in float64. For each operator at each of its versions, small models
were evaluated in float64 and run by ONNX Runtime on the CPU with graph optimization off. A pair is believed if a model
agrees and none disagrees. A file with any other operator is not judged by its evaluation. Versions: onnx {onnx},
onnxruntime {onnxruntime}.

{counts}

- **agree**: believed. {float64} of these also agree with ONNX Runtime's float64 kernel to 1e-9.
- **disagree**: a model's outputs differ, so one of the two is wrong. Listed below.
- **not evaluated**: the evaluation has no such operator, or refuses what the definition leaves open.
- **not runnable**: ONNX Runtime has no kernel for the version on the CPU, or there is no model of it.

A model is one node with values drawn from a fixed seed: ONNX's own tests, rewritten for each version that can say the
same, and models made in `benchmarks/operator_sweep/models`.

## Pairs

{table}

## Disagreements

{disagreements}

## Models that were left out

{left_out}

Made by `python -m benchmarks.operator_sweep`, which also writes `harness/blame/believed.json`.
"""


def markdown(judgements: Sequence[Judgement]) -> str:
    """The report."""
    states = Counter(judgement.state for judgement in judgements)
    counts = [(state, states[state]) for state in ("agree", "disagree", "not evaluated", "not runnable")]
    agreeing = [judgement for judgement in judgements if judgement.state == "agree"]
    return MARKDOWN.format(
        onnx=installed_version("onnx"),
        onnxruntime=installed_version("onnxruntime"),
        counts=tabulate([*counts, ("all", len(judgements))], headers=("pairs", "number"), tablefmt="github"),
        float64=sum(any(outcome.float64 for outcome in judgement.outcomes) for judgement in agreeing),
        table=tabulate(_rows(judgements), headers=_HEADERS, tablefmt="github", disable_numparse=True),
        disagreements="\n".join(_disagreements(judgements)) or "None.",
        left_out="\n".join(_left_out(judgements)) or "None.",
    )


_HEADERS = ("domain", "operator", "agree", "disagree", "not evaluated", "not runnable", "models")


def _rows(judgements: Sequence[Judgement]) -> list[tuple[str, ...]]:
    """One row an operator, with its versions by state and the number of models that were compared."""
    operators: dict[tuple[str, str], list[Judgement]] = {}
    for judgement in judgements:
        operators.setdefault((judgement.pair.domain or "ai.onnx", judgement.pair.operator), []).append(judgement)
    return [
        (
            *name,
            *(
                " ".join(str(each.pair.since) for each in versions if each.state == state)
                for state in ("agree", "disagree", "not evaluated", "not runnable")
            ),
            str(sum(len(each.of("agree")) + len(each.of("disagree")) for each in versions)),
        )
        for name, versions in operators.items()
    ]


def _disagreements(judgements: Sequence[Judgement]) -> list[str]:
    return [
        f"- {judgement.pair.operator} {judgement.pair.since}, {outcome.case}: {outcome.reason}"
        for judgement in judgements
        for outcome in judgement.of("disagree")
    ]


def _left_out(judgements: Sequence[Judgement]) -> list[str]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for judgement in judgements:
        for name, reason in judgement.left_out:
            reasons.setdefault((judgement.pair.operator, reason), []).append(f"{name} at {judgement.pair.since}")
    return [f"- {operator}: {reason} ({len(models)} models)" for (operator, reason), models in reasons.items()]


def table(judgements: Sequence[Judgement]) -> str:
    """The believed pairs as JSON, an operator a line: domain, operator, the versions."""
    domains: dict[str, dict[str, list[int]]] = {}
    for judgement in judgements:
        if judgement.state == "agree":
            pair = judgement.pair
            domains.setdefault(pair.domain, {}).setdefault(pair.operator, []).append(pair.since)
    versions = {name: installed_version(name) for name in ("onnx", "onnxruntime")}
    parts = [f'  "compared_with": {json.dumps(versions)}']
    parts += [f"  {json.dumps(domain)}: {{\n{_lines(operators)}\n  }}" for domain, operators in domains.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(operators: Mapping[str, list[int]]) -> str:
    return ",\n".join(f"    {json.dumps(name)}: {json.dumps(since)}" for name, since in operators.items())
