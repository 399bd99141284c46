"""The gate: what each check came to, held against what was known beforehand; and the exit code.

One check, by what it came to and by the applicable known failures that match it:

    came to    | no entry matches | an entry says this stage and symptom | entries say another stage or symptom
    -----------|------------------|--------------------------------------|-------------------------------------
    passed     | passed           | (an entry always names a failure)    | fixed
    failed     | failed           | known                                | failed, saying what was known
    error      | error            | known                                | error, saying what was known
    skipped    | skipped          | skipped                              | skipped

A check that claims to have passed although nothing was compared is an error, whatever is known of it.

The run, by the first line that holds:

    what happened                                                        | exit code
    ---------------------------------------------------------------------|----------
    two known failures contradict each other                             | 2
    there are no checks                                                  | 2
    some check is failed, error or fixed                                 | 1
    harness itself failed on some check (an error at no stage)           | 3
    a required runtime was unavailable, or no check asked for it         | 3
    every check was skipped: nothing was compared                        | 3
    all else: every check is passed, known or skipped, not all skipped   | 0

What is shown to be wrong (1) stands before what could not be shown (3), so that a missing runtime
never hides a wrong model; a wrong list (2) stands before both, because every status rests on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.errors import Problem
from harness.result import Result

if TYPE_CHECKING:
    from harness.spec.known_failures import KnownFailure


@dataclass(frozen=True, slots=True)
class Judged:
    """``results`` with their final statuses, in the order given.

    ``problems`` are what is wrong in the list of known failures. ``complaints`` say, one line
    each, why the run as a whole cannot be relied on, the problems included; reports put them
    before every count.
    """

    results: tuple[Result, ...]
    problems: tuple[Problem, ...]
    complaints: tuple[str, ...]
    exit_code: int


def judge(
    results: Sequence[Result],
    known: Sequence[KnownFailure],
    *,
    versions: Mapping[str, str],
    required: Collection[str] = (),
) -> Judged:
    """Hold ``results`` against ``known`` by the tables above.

    ``versions`` decide which entries apply here. ``required`` names runtimes that must have been there.
    """
    from harness.spec.known_failures import by_check

    applicable = [entry for entry in known if entry.applies(versions)]
    matching = by_check(applicable, [(one.case, one.target) for one in results])
    final = tuple(expected(one, entries) for one, entries in zip(results, matching, strict=True))
    problems = tuple(_contradictions(matching))
    missing = tuple(_missing(final, required))
    return Judged(
        results=final,
        problems=tuple(sorted(set(problems))),
        complaints=(*map(str, sorted(set(problems))), *missing),
        exit_code=exit_code(final, problems, missing),
    )


def expected(result: Result, entries: Sequence[KnownFailure]) -> Result:
    """One fresh result with its final status; ``entries`` are the applicable ones that match it.

    Raises ``ValueError`` for a result that was judged before.
    """
    if result.status in {"known", "fixed"}:
        raise ValueError(f"{result.case} on {result.target} was judged before; judge what the run left")
    if result.status == "passed" and not (result.outputs or result.findings):
        return replace(
            result, status="error", stage="compare", symptom="exception", message="passed, but nothing was compared"
        )
    if not entries or result.status == "skipped":
        return result
    if result.status == "passed":
        said = "; ".join(f"{entry.where} lists it to fail at {_failure(entry)}" for entry in entries)
        return _with_reasons(replace(result, status="fixed", message=f"passes, although {said}"), entries)
    if agreeing := [entry for entry in entries if (entry.stage, entry.symptom) == (result.stage, result.symptom)]:
        return _with_reasons(replace(result, status="known"), agreeing)
    said = "; ".join(f"{_failure(entry)} at {entry.where} ({entry.reason})" for entry in entries)
    return replace(result, message=f"known to fail otherwise ({said}), but now: {result.message or 'no message'}")


def _failure(entry: KnownFailure) -> str:
    return f"{entry.stage}: {entry.symptom}"


def _with_reasons(result: Result, entries: Sequence[KnownFailure]) -> Result:
    """``result`` with what the list says about it, each reason and each issue once."""
    reasons = "; ".join(dict.fromkeys(entry.reason for entry in entries))
    issues = " ".join(dict.fromkeys(entry.issue for entry in entries if entry.issue))
    return replace(result, reason=reasons, issue=issues or None)


def _contradictions(matching: Sequence[Sequence[KnownFailure]]) -> Iterator[Problem]:
    """Entries that say different things of one check: at most one of them can be right."""
    for entries in matching:
        for other in entries[1:]:
            first = entries[0]
            if (first.stage, first.symptom) != (other.stage, other.symptom):
                wrong = f"{_failure(other)} contradicts {_failure(first)}, which {first.where} says of the same checks"
                yield Problem(other.where, wrong, "narrow the globs so that each check is listed once")


def _missing(results: Sequence[Result], required: Collection[str]) -> Iterator[str]:
    """Required runtimes on which something, or everything, was left undone."""
    for runtime in dict.fromkeys(required):
        here = [one for one in results if _runtime(one.target) == runtime]
        undone = [one for one in here if one.status == "skipped" and one.symptom == "unavailable"]
        if undone:
            yield f"required runtime {runtime} is not here: {undone[0].message or 'see harness doctor'}"
        elif not here:
            yield f"required runtime {runtime} was asked of no check; name a target that runs on it"


def _own_failure(result: Result) -> bool:
    """True where harness itself failed, so that nothing is known of the model."""
    return result.status == "error" and result.stage is None


def _runtime(target: str) -> str:
    return target.partition("/")[2].partition("?")[0]


def exit_code(results: Sequence[Result], problems: Sequence[Problem] = (), missing: Sequence[str] = ()) -> int:
    """The exit code of a run whose ``results`` are judged, by the second table above."""
    statuses = {one.status for one in results}
    wrong = [one for one in results if one.status in {"failed", "error", "fixed"}]
    if problems or not statuses:
        return 2
    if any(not _own_failure(one) for one in wrong):
        return 1
    if wrong:
        return 3
    if missing or statuses == {"skipped"}:
        return 3
    return 0
