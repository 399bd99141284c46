"""Updates a list of known failures from a report: removes entries that pass now, adds entries for new failures.

Whole entries are removed or appended, line by line, so that comments, reasons and the order of all other entries stay
as they were written. An entry that needs a person's decision is reported and kept.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from harness.errors import SpecError, UsageError, shortened
from harness.result import Report, Result, Status
from harness.spec import KNOWN_FAILURES_FILE
from harness.spec.glob import NameIndex
from harness.spec.known_failures import NO_REASON, KnownFailure, entries_by_check, load_known_failures

REASON_PREFIX = f"{NO_REASON} say why"
"""How the reason of a proposed entry begins."""
MAX_MESSAGE = 200
"""Characters of the message of a check in the reason of a proposed entry."""

PASSING: frozenset[Status] = frozenset({"passed", "fixed"})
FAILING: frozenset[Status] = frozenset({"failed", "error"})
Check = tuple[str, str]
"""A case's id and a target."""

ANCHOR = re.compile(r"(?P<key>[ -]+\w+: +)(?P<value>&(?P<anchor>[\w-]+)[^\n]*)\n")
"""A key whose value has an anchor, by which other entries repeat it."""


@dataclass(frozen=True, slots=True)
class ListUpdate:
    """The changes to make to a list.

    ``remove`` are entries all of whose checks pass. ``flagged`` are entries that need a person's decision, each with
    the reason. ``unlisted`` are the failures that no entry matches, and ``proposed`` has one entry for each kind of
    them.
    """

    remove: tuple[KnownFailure, ...]
    flagged: tuple[tuple[KnownFailure, str], ...]
    unlisted: tuple[Result, ...]
    proposed: tuple[Mapping[str, Any], ...]


def plan_update(known_failures: Sequence[KnownFailure], report: Report, checks: Iterable[Check]) -> ListUpdate:
    """The changes to ``known_failures`` that follow from ``report``; entries without a check in the report stay.

    ``checks`` are all checks that the list may match. An entry is removed only if the report shows that every one of
    its checks passes.
    """
    versions = {str(name): str(version) for name, version in report.environment.get("packages", {}).items()}
    applicable = [entry for entry in known_failures if entry.applies(versions)]
    result_of = {(result.case, result.target): result for result in report.results if result.status != "skipped"}
    targets_of: dict[str, dict[str, None]] = {}
    for case, target in (*checks, *result_of):
        targets_of.setdefault(case, {})[target] = None
    cases = NameIndex(targets_of)
    remove, flagged = [], []
    for entry in applicable:
        candidates = ((case, target) for case in cases.matching(entry.cases) for target in targets_of[case])
        matched = [check for check in candidates if entry.matches(*check)]
        reported = [result_of[check] for check in matched if check in result_of]
        passing = [result for result in reported if result.status in PASSING]
        if passing and len(passing) == len(matched):
            remove.append(entry)
        elif passing:
            not_run = [check for check in matched if check not in result_of]
            flagged.append((entry, _why_not_removed(passing, reported, not_run)))
        if different := [
            result for result in reported if result.status in FAILING and not _is_as_listed(entry, result)
        ]:
            first = different[0]
            example = f"such as {_check_name(first.case, first.target)}: {first.stage}: {first.symptom}"
            advice = "correct it, or split it"
            flagged.append((entry, f"{len(different)} of its checks fail differently, {example}; {advice}"))
    failing = [result for result in report.results if result.status in FAILING and result.stage]
    matching = entries_by_check(applicable, [(result.case, result.target) for result in failing])
    unlisted = tuple(result for result, entries in zip(failing, matching, strict=True) if not entries)
    return ListUpdate(tuple(remove), tuple(flagged), unlisted, tuple(_proposed(unlisted, report.results)))


def _is_as_listed(entry: KnownFailure, result: Result) -> bool:
    return (result.stage, result.symptom) == (entry.stage, entry.symptom)


def _why_not_removed(passing: Sequence[Result], reported: Sequence[Result], not_run: Sequence[Check]) -> str:
    """Why an entry with some passing checks is not removed."""
    example = _check_name(passing[0].case, passing[0].target)
    if len(passing) < len(reported):
        count = f"{len(passing)} of its {len(reported)} checks in this report pass now, such as {example}"
        return f"{count}; narrow its globs to those that do not"
    total = len(passing) + len(not_run)
    rest = f"{len(not_run)} were not run, such as {_check_name(*not_run[0])}"
    return f"{len(passing)} of its {total} checks pass now, and {rest}; run those too, or narrow its globs to them"


def _check_name(case: str, target: str) -> str:
    return f"{case} on {target}"


def _proposed(unlisted: Sequence[Result], results: Sequence[Result]) -> list[Mapping[str, Any]]:
    """One entry for each matrix case all of whose points fail alike on a target, and one for each other check."""
    entries: dict[Check, Mapping[str, Any]] = {}
    families: dict[Check, list[Result]] = {}
    for result in results:
        if "[" in result.case:
            families.setdefault((_family(result.case), result.target), []).append(result)
    checks = {(result.case, result.target) for result in unlisted}
    fails_as_a_whole = {
        key: len(members) > 1
        and len({(member.stage, member.symptom) for member in members}) == 1
        and checks.issuperset((member.case, member.target) for member in members)
        for key, members in families.items()
    }
    for result in unlisted:
        family = _family(result.case)
        cases = family if "[" in result.case and fails_as_a_whole[family, result.target] else result.case
        reason = f"{REASON_PREFIX}: {shortened(result.message or 'no message', MAX_MESSAGE)}"
        entry = {"cases": cases, "targets": result.target, "stage": result.stage, "symptom": result.symptom}
        entries.setdefault((cases, result.target), {**entry, "reason": " ".join(reason.split())})
    return list(entries.values())


def _family(case: str) -> str:
    """The glob of all matrix points of a case."""
    return case.partition("[")[0] + "[*"


def updated_list(path: Path, remove: Sequence[KnownFailure], add: Sequence[Mapping[str, Any]]) -> str:
    """The text of the list at ``path`` without the entries ``remove`` and with ``add``; the file may be missing.

    Raises :class:`UsageError` if the file is not a block list, each of whose entries begins with ``- `` at the left.
    """
    known_failures = load_known_failures(path) if path.exists() else ()
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    starts = [entry.where.line - 1 for entry in known_failures]
    spans = [_span(lines, start, end) for start, end in zip(starts, [*starts[1:], len(lines)], strict=False)]
    kept: list[str | None] = list(lines)
    removed = {entry.where for entry in remove}
    for entry, span in zip(known_failures, spans, strict=True):
        if entry.where in removed:
            _move_anchors(kept, span)
            kept[span.start : span.stop] = [None] * len(span)
    text = "".join(line for line in kept if line is not None) + "".join(map(_as_yaml, add))
    remaining = [_content(entry) for entry in known_failures if entry.where not in removed]
    if _contents_of(text) != remaining + [_proposed_content(entry) for entry in add]:
        advice = "begin each entry with `- ` at the left of a line of its own, or edit it by hand"
        raise UsageError(f"{path}: written in a form that cannot be edited line by line; {advice}")
    return text


def _span(lines: Sequence[str], start: int, end: int) -> range:
    """The lines of the entry at ``start``; comments and blank lines before the next one, at ``end``, belong to that."""
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return range(start, end)


def _move_anchors(lines: list[str | None], span: range) -> None:
    """Move each anchored value in ``span``, which is about to be removed, to the first alias after it."""
    for at in span:
        if not (anchor := ANCHOR.match(lines[at] or "")):
            continue
        below = (lines[each] or "" for each in range(at + 1, span.stop))
        depth = _indent(anchor["key"])
        value = anchor["value"] + "\n" + "".join(takewhile(lambda line: _indent(line) > depth, below))  # noqa: B023
        alias = re.compile(rf"(?P<key>[ -]+\w+: +)\*{re.escape(anchor['anchor'])}[ \t]*\n")
        for later in range(span.stop, len(lines)):
            if match := alias.fullmatch(lines[later] or ""):
                lines[later] = match["key"] + value
                break


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" -"))


def _as_yaml(entry: Mapping[str, Any]) -> str:
    return yaml.safe_dump([dict(entry)], sort_keys=False, allow_unicode=True, width=10_000)


def _contents_of(text: str) -> list[tuple[Any, ...]]:
    """The content of each entry in ``text``; empty if it cannot be read."""
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        path = Path(folder, KNOWN_FAILURES_FILE)
        path.write_text(text, encoding="utf-8")
        try:
            return [_content(entry) for entry in load_known_failures(path)]
        except SpecError:
            return []


def _content(entry: KnownFailure) -> tuple[Any, ...]:
    return (entry.cases, entry.targets, entry.stage, entry.symptom, entry.when, entry.reason, entry.issue)


def _proposed_content(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*(entry[key] for key in ("cases", "targets", "stage", "symptom")), "", entry["reason"], None)
