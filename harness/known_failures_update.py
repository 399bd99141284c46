"""The list of known failures, amended by what a report says.

Only whole entries are taken out or put at the end, line by line, so that comments, reasons and the order of all others
stay as they were written. What needs a person's judgement is said and left.
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

from harness.errors import SpecError, UsageError
from harness.result import Report, Result, Status
from harness.spec.glob import Names
from harness.spec.known_failures import KnownFailure, by_check, load_known_failures

REASON = "TODO say why"
"""What the reason of a proposed entry begins with."""

PASSING: frozenset[Status] = frozenset({"passed", "fixed"})
WRONG: frozenset[Status] = frozenset({"failed", "error"})
Check = tuple[str, str]

ANCHORED = re.compile(r"(?P<key>[ -]+\w+: +)(?P<value>&(?P<anchor>[\w-]+)[^\n]*)\n")
"""A key whose value gets a name that others repeat it by."""


@dataclass(frozen=True, slots=True)
class ListUpdate:
    """What is to be done to a list.

    ``remove`` are entries whose every check was shown to pass. ``flagged`` are entries that need a person, each with
    what is the matter. ``unlisted`` are the failures that no entry speaks of, and ``proposed`` an entry for each kind
    of them.
    """

    remove: tuple[KnownFailure, ...]
    flagged: tuple[tuple[KnownFailure, str], ...]
    unlisted: tuple[Result, ...]
    proposed: tuple[Mapping[str, Any], ...]


def list_update(known: Sequence[KnownFailure], report: Report, checks: Iterable[Check]) -> ListUpdate:
    """What ``report`` says of ``known``; of an entry that it does not speak of, nothing.

    ``checks`` are those that the list may speak of, each a case's id and a target: an entry is taken out only where
    the report has shown every one of its own to pass.
    """
    versions = {str(name): str(version) for name, version in report.environment.get("packages", {}).items()}
    listed = [entry for entry in known if entry.applies(versions)]
    shown = {(one.case, one.target): one for one in report.results if one.status != "skipped"}
    targets_of: dict[str, dict[str, None]] = {}
    for case, target in (*checks, *shown):
        targets_of.setdefault(case, {})[target] = None
    cases = Names(targets_of)
    remove, flagged = [], []
    for entry in listed:
        of_its_cases = ((case, target) for case in cases.matching(entry.cases) for target in targets_of[case])
        own = [check for check in of_its_cases if entry.matches(*check)]
        spoken_of = [shown[check] for check in own if check in shown]
        passing = [one for one in spoken_of if one.status in PASSING]
        if passing and len(passing) == len(own):
            remove.append(entry)
        elif passing:
            flagged.append((entry, _narrower(passing, spoken_of, [check for check in own if check not in shown])))
        if otherwise := [one for one in spoken_of if one.status in WRONG and not _as_said(entry, one)]:
            first = otherwise[0]
            how = f"such as {_named(first.case, first.target)}: {first.stage}: {first.symptom}"
            flagged.append((entry, f"{len(otherwise)} of its checks fail otherwise, {how}; correct it, or split it"))
    wrong = [one for one in report.results if one.status in WRONG and one.stage]
    speaking = by_check(listed, [(one.case, one.target) for one in wrong])
    unlisted = tuple(one for one, entries in zip(wrong, speaking, strict=True) if not entries)
    return ListUpdate(tuple(remove), tuple(flagged), unlisted, tuple(_proposed(unlisted, report.results)))


def _as_said(entry: KnownFailure, result: Result) -> bool:
    return (result.stage, result.symptom) == (entry.stage, entry.symptom)


def _narrower(passing: Sequence[Result], spoken_of: Sequence[Result], unseen: Sequence[Check]) -> str:
    """Why an entry with some checks that pass is not simply taken out."""
    named = _named(passing[0].case, passing[0].target)
    if len(passing) < len(spoken_of):
        some = f"{len(passing)} of its {len(spoken_of)} checks in this report pass now, such as {named}"
        return f"{some}; narrow its globs to those that do not"
    of = len(passing) + len(unseen)
    rest = f"{len(unseen)} were not run, such as {_named(*unseen[0])}"
    return f"{len(passing)} of its {of} checks pass now, and {rest}; run those too, or narrow its globs to them"


def _named(case: str, target: str) -> str:
    return f"{case} on {target}"


def _proposed(unlisted: Sequence[Result], everything: Sequence[Result]) -> list[Mapping[str, Any]]:
    """An entry for every family of cases that fails as a whole on a target, else one for each check of it."""
    entries: dict[tuple[str, str], Mapping[str, Any]] = {}
    families: dict[Check, list[Result]] = {}
    for one in everything:
        if "[" in one.case:
            families.setdefault((_family(one.case), one.target), []).append(one)
    own = {(one.case, one.target) for one in unlisted}
    alike_throughout = {
        key: len(alike) > 1
        and len({(one.stage, one.symptom) for one in alike}) == 1
        and own.issuperset((one.case, one.target) for one in alike)
        for key, alike in families.items()
    }
    for result in unlisted:
        family = _family(result.case)
        cases = family if "[" in result.case and alike_throughout[family, result.target] else result.case
        reason = f"{REASON}: {result.message or 'no message'}"
        entry = {"cases": cases, "targets": result.target, "stage": result.stage, "symptom": result.symptom}
        entries.setdefault((cases, result.target), {**entry, "reason": " ".join(reason.split())})
    return list(entries.values())


def _family(case: str) -> str:
    """The glob of all matrix points of a case."""
    return case.partition("[")[0] + "[*"


def amended(path: Path, remove: Sequence[KnownFailure], add: Sequence[Mapping[str, Any]]) -> str:
    """The text of the list at ``path``, which need not be there, without the entries ``remove`` and with ``add``.

    Raises :class:`UsageError` where it is not written as one entry after another, each from ``- `` at the left on.
    """
    known = load_known_failures(path) if path.exists() else ()
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    begins = [entry.where.line - 1 for entry in known]
    spans = [_span(lines, at, end) for at, end in zip(begins, [*begins[1:], len(lines)], strict=False)]
    kept: list[str | None] = list(lines)
    gone = {entry.where for entry in remove}
    for entry, span in zip(known, spans, strict=True):
        if entry.where in gone:
            _hand_on_anchors(kept, span)
            kept[span.start : span.stop] = [None] * len(span)
    text = "".join(line for line in kept if line is not None) + "".join(map(_written, add))
    if _meaning(text) != [_said(entry) for entry in known if entry.where not in gone] + [
        _said_of(entry) for entry in add
    ]:
        right = "begin each entry with `- ` at the left of a line of its own, or amend it by hand"
        raise UsageError(f"{path}: written in a form that cannot be amended line by line; {right}")
    return text


def _span(lines: Sequence[str], start: int, end: int) -> range:
    """The lines of the entry at ``start``; comments and blank lines before the next one, at ``end``, belong to that."""
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return range(start, end)


def _hand_on_anchors(lines: list[str | None], span: range) -> None:
    """Put a value that others repeat by its anchor in the place of the first of them, since it goes from ``span``."""
    for at in span:
        if not (found := ANCHORED.match(lines[at] or "")):
            continue
        below = (lines[each] or "" for each in range(at + 1, span.stop))
        depth = _indent(found["key"])
        value = found["value"] + "\n" + "".join(takewhile(lambda line: _indent(line) > depth, below))  # noqa: B023
        alias = re.compile(rf"(?P<key>[ -]+\w+: +)\*{re.escape(found['anchor'])}[ \t]*\n")
        for later in range(span.stop, len(lines)):
            if used := alias.fullmatch(lines[later] or ""):
                lines[later] = used["key"] + value
                break


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" -"))


def _written(entry: Mapping[str, Any]) -> str:
    return yaml.safe_dump([dict(entry)], sort_keys=False, allow_unicode=True, width=10_000)


def _meaning(text: str) -> list[tuple[Any, ...]]:
    """What a reader of ``text`` would take from it; nothing where it cannot be read."""
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        path = Path(folder, "known-failures.yaml")
        path.write_text(text, encoding="utf-8")
        try:
            return [_said(entry) for entry in load_known_failures(path)]
        except SpecError:
            return []


def _said(entry: KnownFailure) -> tuple[Any, ...]:
    return (entry.cases, entry.targets, entry.stage, entry.symptom, entry.when, entry.reason, entry.issue)


def _said_of(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*(entry[key] for key in ("cases", "targets", "stage", "symptom")), "", entry["reason"], None)
