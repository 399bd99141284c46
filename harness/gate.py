"""The final status of each check, given the known failures, and the exit code of a run.

The final status of a check, by its status after the run and by the applicable known failures that match it:

    after run  | no entry matches | an entry has this stage and symptom | entries have another stage or symptom
    -----------|------------------|-------------------------------------|----------------------------------------
    passed     | passed           | (an entry always names a failure)   | fixed
    failed     | failed           | known                               | failed, with the known failure in the message
    error      | error            | known                               | error, with the known failure in the message
    skipped    | skipped          | skipped                             | skipped

An entry whose reason is still the TODO of ``harness known-failures update --add`` makes no check known. A check that
passed although nothing was compared is an error, whatever the list says. With ``strict``, an inconclusive
pass counts as failed, at compare with a mismatch.

The exit code of a run is that of the first line that applies:

    condition                                                            | exit code
    ---------------------------------------------------------------------|----------
    two known failures contradict each other                             | 2
    there are no checks                                                  | 2
    some check is failed, error or fixed                                 | 1
    harness itself failed on some check (an error at no stage)           | 3
    a required runtime was unavailable, or no check uses it              | 3
    every check was skipped: nothing was compared                        | 3
    layers were asked for, and no layer of any check was compared        | 1
    otherwise: every check is passed, known or skipped, not all skipped  | 0

A failure that was shown (1) comes before checks that could not be done (3), so that a missing runtime never hides a
wrong model. A wrong list (2) comes before both, because every status depends on it.
"""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.errors import SIGNAL_EXIT_BASE, Problem
from harness.result import NO_LAYER_COMPARED, NO_LAYERS, Report, Result
from harness.spec.targets import split_target

if TYPE_CHECKING:
    from harness.spec.known_failures import KnownFailure


@dataclass(frozen=True, slots=True)
class GateOutcome:
    """``results`` with their final statuses, in the given order.

    ``problems`` are the mistakes in the list of known failures. ``complaints`` are one line for each reason why the
    run as a whole cannot be relied on, the problems included; reports show them before all counts.
    """

    results: tuple[Result, ...]
    problems: tuple[Problem, ...]
    complaints: tuple[str, ...]
    exit_code: int


def apply_known_failures(
    results: Sequence[Result],
    known_failures: Sequence[KnownFailure],
    *,
    versions: Mapping[str, str],
    required: Collection[str] = (),
    strict: bool = False,
    layers: bool = False,
) -> GateOutcome:
    """Apply the tables above to ``results``, with the entries of ``known_failures``.

    ``versions`` decide which entries apply. ``required`` names the runtimes that must have been available. ``strict``
    fails inconclusive passes. With ``layers``, some layer must have been compared.
    """
    from harness.spec.known_failures import entries_by_check

    applicable = [entry for entry in known_failures if entry.applies(versions)]
    matching = entries_by_check(applicable, [(result.case, result.target) for result in results])
    pairs = zip(results, matching, strict=True)
    final = tuple(final_result(result, entries, strict=strict) for result, entries in pairs)
    problems = tuple(_contradictions(matching))
    missing = tuple(_missing(final, required))
    code = exit_code(final, problems, missing)
    without_layers = [no_layer_compared(final)] if layers and code == 0 and no_layer_compared(final) else []
    return GateOutcome(
        results=final,
        problems=tuple(sorted(set(problems))),
        complaints=(*map(str, sorted(set(problems))), *missing, *_without_reason(matching), *without_layers),
        exit_code=1 if without_layers else code,
    )


def final_result(result: Result, entries: Sequence[KnownFailure], *, strict: bool = False) -> Result:
    """``result`` with its final status; ``entries`` are the applicable known failures that match it.

    With ``strict``, an inconclusive pass is failed.

    Raises ``ValueError`` if it has a final status already.
    """
    if result.status in {"known", "fixed"}:
        raise ValueError(
            f"{result.case} on {result.target} already has a final status; pass the result as the run left it"
        )
    if result.status == "passed" and not (result.outputs or result.findings):
        return replace(
            result, status="error", stage="compare", symptom="exception", message="passed, but nothing was compared"
        )
    if strict and (reason := result.inconclusive) is not None:
        message = f"the pass is inconclusive, which a strict run does not accept: {reason}"
        result = replace(result, status="failed", stage="compare", symptom="mismatch", message=message)
    if not entries or result.status == "skipped":
        return result
    if result.status == "passed":
        listed = "; ".join(f"{entry.where} lists it to fail at {_failure(entry)}" for entry in entries)
        return _with_reasons(replace(result, status="fixed", message=f"passes, although {listed}"), entries)
    if agreeing := [entry for entry in entries if (entry.stage, entry.symptom) == (result.stage, result.symptom)]:
        if not any(entry.has_reason for entry in agreeing):
            listed = f"{agreeing[0].where} lists it, without a reason"
            return replace(result, message=f"{listed}: {result.message or 'no message'}")
        return _with_reasons(replace(result, status="known"), agreeing)
    listed = "; ".join(f"{_failure(entry)} at {entry.where} ({entry.reason})" for entry in entries)
    return replace(result, message=f"known to fail differently ({listed}), but now: {result.message or 'no message'}")


def _failure(entry: KnownFailure) -> str:
    return f"{entry.stage}: {entry.symptom}"


def _with_reasons(result: Result, entries: Sequence[KnownFailure]) -> Result:
    """``result`` with the reasons and issues of ``entries``, each once."""
    reasons = "; ".join(dict.fromkeys(entry.reason for entry in entries))
    issues = " ".join(dict.fromkeys(entry.issue for entry in entries if entry.issue))
    return replace(result, reason=reasons, issue=issues or None)


def _contradictions(matching: Sequence[Sequence[KnownFailure]]) -> Iterator[Problem]:
    """Entries with different stages or symptoms for one check: at most one of them can be right."""
    for entries in matching:
        for later in entries[1:]:
            first = entries[0]
            if (first.stage, first.symptom) != (later.stage, later.symptom):
                message = (
                    f"{_failure(later)} contradicts {_failure(first)}, which {first.where} lists for the same checks"
                )
                yield Problem(later.where, message, "narrow the globs so that each check is listed once")


def _without_reason(matching: Sequence[Sequence[KnownFailure]]) -> Iterator[str]:
    """A line if entries that match a check have no reason yet."""
    places = sorted({entry.where for entries in matching for entry in entries if not entry.has_reason})
    if places:
        entries = "this entry has" if len(places) == 1 else f"this entry and {len(places) - 1:,} more have"
        yield f"{places[0]}: {entries} no reason yet; write one in place of each TODO"


def _missing(results: Sequence[Result], required: Collection[str]) -> Iterator[str]:
    """One line for each required runtime that was unavailable, or that no check uses."""
    for runtime in dict.fromkeys(required):
        on_runtime = [result for result in results if _runtime(result.target) == runtime]
        skipped = [result for result in on_runtime if result.status == "skipped" and result.symptom == "unavailable"]
        if skipped:
            yield f"required runtime {runtime} is not available: {skipped[0].message or 'see harness doctor'}"
        elif not on_runtime:
            yield f"no check uses the required runtime {runtime}; add a target that runs on it"


def no_layer_compared(results: Sequence[Result]) -> str:
    """That no layer of any check was compared, and why not of the first that says so; empty if one was."""
    if not results or any(result.compares_layers for result in results):
        return ""
    reasons = (
        (result, note.removeprefix(NO_LAYERS))
        for result in results
        for note in result.notes
        if note.startswith(NO_LAYERS)
    )
    result, reason = next(reasons, (results[0], results[0].layers_show or "it has no layers that could be compared"))
    return f"{NO_LAYER_COMPARED}{result.case} on {result.target}: {reason}"


def _is_harness_failure(result: Result) -> bool:
    """True if harness itself failed, so that nothing is known about the model."""
    return result.status == "error" and result.stage is None


def _runtime(target: str) -> str:
    return split_target(target)[1].partition("?")[0]


def exit_code(results: Sequence[Result], problems: Sequence[Problem] = (), missing: Sequence[str] = ()) -> int:
    """The exit code of a run with these final ``results``, by the second table above."""
    statuses = {result.status for result in results}
    unexpected = [result for result in results if result.status in {"failed", "error", "fixed"}]
    if problems or not statuses:
        return 2
    if any(not _is_harness_failure(result) for result in unexpected):
        return 1
    if unexpected:
        return 3
    if missing or statuses == {"skipped"}:
        return 3
    return 0


def exit_code_of_merged(report: Report) -> int:
    """The exit code of the run that ``report`` was merged from: never 0 if its complaints say that it has no verdict.

    If a part was interrupted, it is that of an interrupted run; if a shard is missing, 1.
    """
    if report.run.get("interrupted"):
        name = str(report.run.get("interrupted_by"))
        return SIGNAL_EXIT_BASE + signal.Signals[name] if name in signal.Signals.__members__ else 1
    code = exit_code(report.results)
    complaints = report.run.get("complaints", ())
    if code == 0 and (
        report.run.get("missing_shards") or any(line.startswith(NO_LAYER_COMPARED) for line in complaints)
    ):
        return 1
    return 3 if code == 0 and complaints else code
