"""What to do next about one check: one sentence for each way in which a check can end badly."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from harness.report.wording import number, telling
from harness.result import Blame, Result, Symptom
from harness.spec.target import FILE

_BY_BLAME: Mapping[Blame | Symptom, str] = {
    "exporter": "The exported file is already wrong: try the exporter's `+fixes` target or another opset, "
    "and get a script for the upstream issue",
    "optimizer": "The runtime's graph optimizer changes the answer: switch graph optimization off, "
    "and get a script for the upstream issue",
    "kernel": "The file is right and the runtime computes something else: find the operator, "
    "and try another opset or runtime",
    "rounding": "The values differ by rounding alone: if {least} is close enough for this model, "
    "say so under `tolerance` in the spec",
    "torch": "Eager torch itself is further from the definition than the target: "
    "try another version of torch before mending the export",
    "spec": "The spec expects what the layer does not do: correct `expect` where the case is written",
}

_BY_SYMPTOM: Mapping[Blame | Symptom, str] = {
    "mismatch": "Find the first node that differs",
    "exception": "Read the message and the log, then repeat this check alone",
    "crash": "The process died: repeat this check alone, and report it upstream with the script",
    "timeout": "Give it longer with `--timeout`, or find out where it stays",
    "out-of-memory": "Make the case's shapes smaller, or run fewer checks at once (`-j 1`)",
    "unsupported": "Take another opset, or the exporter's `+fixes` target; "
    "where neither does it, list it in `known-failures.yaml` with a reason",
    "unavailable": "Install what the message names; `harness doctor` lists what this machine has",
    "placement": "Nodes ran outside the asked provider: take a build or an opset whose provider has these operators",
}

_OF_FILES: Mapping[Blame | Symptom, str] = {
    "spec": "What was recorded is not what the file computes: one of the two has changed since, record the answer anew",
    "unsupported": "Take another runtime, or a model of another opset; "
    "where none does it, list it in `known-failures.yaml` with a reason",
}
"""What is said otherwise where the model is a file that nobody exported here."""

_EXPLAINABLE: frozenset[Symptom] = frozenset({"mismatch", "exception", "crash", "timeout", "placement"})


@dataclass(frozen=True, slots=True)
class Advice:
    """``sentence`` is Markdown without a full stop; ``command``, where there is one, can be pasted into a shell."""

    sentence: str
    command: str | None = None


def next_step(result: Result) -> Advice | None:
    """What to do about ``result``; None where there is nothing to do."""
    match result.status:
        case "passed" | "known":
            return None
        case "fixed":
            return Advice(
                "Take this check out of `known-failures.yaml`: remove the entry, or narrow its globs or its `when`"
            )
        case _:
            return _mend(result)


def _mend(result: Result) -> Advice:
    symptom = result.symptom or ("mismatch" if result.status == "failed" else "exception")
    sentences = {**_BY_SYMPTOM, **_BY_BLAME}
    if result.target.startswith(f"{FILE}/"):
        sentences |= _OF_FILES
    why = result.blame if symptom == "mismatch" and result.blame else symptom
    sentence = sentences[why].format(least=_least(result))
    return Advice(sentence, explain_command(result) if symptom in _EXPLAINABLE else None)


def explain_command(result: Result) -> str:
    """The command that explains this check, with its blame, its first diverging node and a script."""
    return f"harness explain {shlex.quote(result.case)} --target {shlex.quote(result.target)}"


def _least(result: Result) -> str:
    """The tolerance that would have passed, as a spec would say it."""
    comparison = telling(result)
    if comparison is None or comparison.least_atol is None:
        return "the difference shown"
    return f"atol {number(comparison.least_atol)} (or rtol {number(comparison.least_rtol)})"
