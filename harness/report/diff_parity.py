"""What changed in parity: checks that ended otherwise than before, or further from what they should be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from harness.report.wording import WRONG, explanation, numbers, outcome, telling
from harness.result import Result

Kind = Literal["regressed", "mended", "otherwise", "numbers", "new", "gone", "unverified", "verified"]
Checks = Mapping[tuple[str, str], Result]


@dataclass(frozen=True, slots=True)
class ParityChange:
    """One check; ``before`` and ``after`` say what it came to, empty where it was not there.

    ``regressed``: it was as expected and is not any more, or is new and not as expected. ``mended``: the other way
    round. ``otherwise``: it ends in another status, stage or symptom, and neither is worse. ``numbers``: it ends as it
    did, at another distance. ``new``, ``gone``: only one report has it. ``unverified``, ``verified``: it is skipped
    now, or is not any more.
    """

    case: str
    target: str
    kind: Kind
    before: str
    after: str
    detail: str = ""

    @property
    def worse(self) -> bool:
        """True where this is a regression."""
        return self.kind == "regressed"


def parity_changes(old: Checks, new: Checks) -> Iterator[ParityChange]:
    """Every check that changed, in the order of ``new``, then those that are gone."""
    for check, after in new.items():
        before = old.get(check)
        kind = _kind(before, after)
        if kind is not None:
            was = "" if before is None else _told(before, kind)
            yield ParityChange(*check, kind, was, _told(after, kind), explanation(after))
    for check, before in old.items():
        if check not in new:
            yield ParityChange(*check, "gone", outcome(before), "")


def _kind(before: Result | None, after: Result) -> Kind | None:
    """None where nothing changed.

    ``fixed`` is not as expected and yet no regression: the check passes, and the list of known failures is to blame.
    """
    was_wrong, is_wrong = before is not None and _broken(before), _broken(after)
    if is_wrong and not was_wrong:
        return "regressed"
    if before is None:
        return "new"
    if after.status == "skipped" or before.status == "skipped":
        return None if after.status == before.status else "unverified" if after.status == "skipped" else "verified"
    if was_wrong and not is_wrong:
        return "mended"
    if _end(before) != _end(after):
        return "mended" if (before.status, after.status) == ("known", "passed") else "otherwise"
    return "numbers" if _distance(before) != _distance(after) else None


def _broken(result: Result) -> bool:
    return result.status in WRONG and result.status != "fixed"


def _end(result: Result) -> tuple[str | None, ...]:
    return result.status, result.stage, result.symptom


def _distance(result: Result) -> list[tuple[object, ...]]:
    return [(one.at, one.index, str(one.max_abs), one.max_ulp, one.mismatched) for one in result.outputs]


def _told(result: Result, kind: Kind) -> str:
    comparison = telling(result)
    return numbers(comparison) if kind == "numbers" and comparison is not None else outcome(result)
